"""Renaming a completed job's staged outputs to where their user finds them (C9)."""

from __future__ import annotations

import os
from pathlib import Path

from annul.runtime.outcome import fsync_dir


def publish(staging: Path, user_dir: Path, names: list[str]) -> None:
    """Move each file, made readable by its owner only. Done twice it does nothing more: a file that is no longer
    staged has been moved. Raises OSError; then some may have been moved.
    """
    touched = set()
    for name in names:
        source, target = staging / name, user_dir / name
        if not source.exists() and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.chmod(0o600)
        source.rename(target)
        touched.add(target.parent)
    for folder in touched:
        fsync_dir(folder)


def escapes(user_dir: Path, names: list[str]) -> bool:
    """Whether any of these would land outside the user's directory, also through a link in it."""
    root = os.path.realpath(user_dir)
    return any(not os.path.realpath(user_dir / name).startswith(root + os.sep) for name in names)
