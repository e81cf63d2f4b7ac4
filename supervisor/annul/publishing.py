"""Renaming a completed job's staged outputs to where their user finds them (C9)."""

from __future__ import annotations

import os
from pathlib import Path

from annul.runtime.outcome import fsync_dir


def escaping(user_dir: Path, names: list[str]) -> list[str]:
    """Those of these that would land outside the user's directory, also through a link in it."""
    root = os.path.realpath(user_dir) + os.sep
    return [name for name in names if not os.path.realpath(user_dir / name).startswith(root)]


def publish(staging: Path, user_dir: Path, names: list[str]) -> None:
    """Move each file, made readable by its owner only. A file that is no longer staged has been moved before.

    Durable when it returns. Raises OSError; then some may have been moved, and doing it again does the rest.
    """
    touched = set()
    for name in names:
        source, target = staging / name, user_dir / name
        if not source.exists():
            continue
        touched |= _make(target.parent, user_dir)
        source.chmod(0o600)
        source.rename(target)
    for folder in touched:
        fsync_dir(folder)


def _make(folder: Path, user_dir: Path) -> set[Path]:
    """Make a directory below the user's, and the user's; the directories whose entries may have changed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {folder, *(one for one in folder.parents if one.is_relative_to(user_dir.parent))}
