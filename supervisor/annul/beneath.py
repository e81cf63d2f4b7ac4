"""Opening files below a directory and nowhere else, whatever links somebody puts there meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(root: Path, name: str) -> BinaryIO:
    """A regular file, to be read; `name` is relative to `root`, which may be reached by links itself.

    Each part is opened in the one before, and no link is followed: what was checked is what is opened. Raises OSError,
    also for a name that leaves `root`, and for what is no regular file.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise OSError(f"{name!r} leaves {root}")
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        fd = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name!r} is no regular file")
    return os.fdopen(fd, "rb")
