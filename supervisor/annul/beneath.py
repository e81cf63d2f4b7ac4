"""Opening files below a directory and nowhere else, whatever links somebody puts there meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(root: Path, name: str) -> BinaryIO:
    """A regular file, to be read; `name` is relative to `root`, which may be reached by links itself.

    Each part is opened in the one before, and no link is followed: what was checked is what is opened. Raises OSError,
    also for a name that leaves `root`, and for what is no regular file.
    """
    with folder_of(root, name) as (folder, last):
        fd = os.open(last, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name!r} is no regular file")
    return os.fdopen(fd, "rb")


@contextmanager
def folder_of(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder in which that file is to be, or is, and its last part. Raises OSError as `opened`."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise OSError(f"{name!r} leaves {root}")
    if "\0" in name:
        raise OSError(f"{name!r} is no file's name")
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, parts[-1]
    finally:
        os.close(folder)
