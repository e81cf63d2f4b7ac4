"""Opening files that a job could have replaced: only regular ones, never through a link, never waiting for a FIFO."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = {"rb": os.O_RDONLY, "ab": os.O_WRONLY | os.O_APPEND}


def opened(path: Path, mode: str) -> BinaryIO:
    """An existing file, opened with mode "rb" or "ab". Raises OSError; also where it is no regular file."""
    return os.fdopen(_open(path, _FLAGS[mode])[0], mode)  # type: ignore[return-value]


def read(path: Path, limit: int) -> bytes:
    """The whole of a file. Raises OSError, also where it has more than `limit` bytes.

    Not by `opened`: that asks the kernel thrice what kind of file it is.
    """
    fd, size = _open(path, os.O_RDONLY)
    try:
        data = b""
        wanted = min(size, limit) + 1  # it may grow; of the limit itself Python would take the memory
        while chunk := os.read(fd, wanted - len(data)):
            data += chunk
    finally:
        os.close(fd)
    if len(data) > limit:
        raise OSError(f"{path} has more than {limit} bytes")
    return data


def _open(path: Path, flags: int) -> tuple[int, int]:
    """(descriptor, size)."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        raise OSError(f"{path} is no regular file")
    return fd, about.st_size
