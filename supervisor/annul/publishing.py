"""Renaming a completed job's staged outputs to where their user finds them (C9).

What is staged, and what of it is named, is the job's word: it may be a lie, and the daemon may do more than a confined
job. So no link is followed on the way to a staged file, and nothing else is ever moved.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path

from annul import beneath
from annul.runtime.outcome import fsync_dir

STAGING = "staging"  # in the attempt's directory
_UNKNOWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})  # what could not be looked at


def unfit(attempt_dir: Path, user_dir: Path, names: list[str], *, perhaps_moved: bool = False) -> list[str]:
    """Those of these that are no regular files below the staging directory, or would land outside the user's, also
    through a link. Raises OSError where that cannot be told.

    `perhaps_moved`: a file of that name which lies there already will do, too. So it is with a store from a backup that
    was taken before the job's end: its files are of later.
    """
    root = os.path.realpath(user_dir) + os.sep
    return [
        name
        for name in names
        if not os.path.realpath(user_dir / name).startswith(root)
        or not (_is_file(attempt_dir, f"{STAGING}/{name}") or (perhaps_moved and _is_file(user_dir, name)))
    ]


def _is_file(root: Path, name: str) -> bool:
    try:
        with beneath.folder_of(root, name) as (folder, last):
            return stat.S_ISREG(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise
        return False


def publish(attempt_dir: Path, user_dir: Path, names: list[str]) -> None:
    """Move each file, made readable by its owner only. A file that is no longer staged has been moved before.

    Durable when it returns. Raises OSError, also for what is no regular file; then some may have been moved, and doing
    it again does the rest. Nothing of the job is alive, so what was looked at is what is moved.
    """
    touched = set()
    for name in names:
        target = user_dir / name
        with ExitStack() as held:
            try:
                folder, last = held.enter_context(beneath.folder_of(attempt_dir, f"{STAGING}/{name}"))
                found = os.stat(last, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{name!r} is no regular file")
            touched |= _make(target.parent, user_dir)
            os.chmod(last, 0o600, dir_fd=folder)
            os.rename(last, target, src_dir_fd=folder)
    for changed in touched:
        fsync_dir(changed)


def _make(folder: Path, user_dir: Path) -> set[Path]:
    """Make a directory below the user's, and the user's; the directories whose entries may have changed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {folder, *(one for one in folder.parents if one.is_relative_to(user_dir.parent))}
