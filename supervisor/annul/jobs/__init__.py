"""The built-in jobs. They come in by the same door as anyone's: entry points ``annul.jobs``."""
