"""Opening files that a job could have replaced: only regular ones, never through a link, never waiting for a FIFO."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = {"rb": os.O_RDONLY, "ab": os.O_WRONLY | os.O_APPEND}


def opened(path: Path, mode: str) -> BinaryIO:
    """An existing file, opened with mode "rb" or "ab". Raises OSError; also where it is no regular file."""
    fd = os.open(path, _FLAGS[mode] | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is no regular file")
    return os.fdopen(fd, mode)  # type: ignore[return-value]


def read(path: Path, limit: int) -> bytes:
    """The whole of a file. Raises OSError, also where it has more than `limit` bytes."""
    with opened(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, limit) + 1)  # it may grow; of the limit itself Python would take the memory
    if len(data) > limit:
        raise OSError(f"{path} has more than {limit} bytes")
    return data
