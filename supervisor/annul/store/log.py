"""Whether SQLite's write-ahead log has lost what was committed.

SQLite takes the first frame that does not fit its checksum for the end of the log, and drops what follows: right after
a power cut, where it was being written. But the daemon's commits are synced (FULL): no frame is written before all of
the transactions before it are on disk. So where a transaction ends behind a bad frame, and more follows, what is
dropped was durable once.

The format: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, salts (2), checksum (2)
_FRAME = struct.Struct(">6I")  # page, size of the database after a commit (else 0), salts (2), checksum (2)
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # byte order of the checksums
_MOST_BYTES = 64 * 2**20  # of a bigger one only the header is looked at: this takes seconds

_Sum = tuple[int, int]


def damage(path: Path) -> str:
    """What is wrong with a log that nobody writes to; "" where nothing is, or where there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size if size <= _MOST_BYTES else _HEADER.size)
    except FileNotFoundError:
        return ""
    if size <= _HEADER.size + _FRAME.size:
        return ""  # no transaction was in it yet
    magic, _, page_size, _, *rest = _HEADER.unpack_from(data)
    order = _MAGIC.get(magic)
    if order is None or _sum(order, data[:24], (0, 0)) != tuple(rest[2:]):
        return f"the header of its log {path.name} is damaged"
    if size <= _MOST_BYTES and _lost(data, order, page_size, (rest[0], rest[1]), (rest[2], rest[3])):
        return f"its log {path.name} is damaged, and holds transactions behind that place"
    return ""


def _lost(data: bytes, order: str, page_size: int, salts: _Sum, last: _Sum) -> bool:
    whole = True  # up to here
    commit_behind = False  # a transaction ends at, or behind, the first bad frame
    for at in range(_HEADER.size, len(data) - _FRAME.size - page_size + 1, _FRAME.size + page_size):
        _, commit, *own = _FRAME.unpack_from(data, at)
        if tuple(own[:2]) != salts:
            whole = False  # an earlier use of the file, or damage
            continue
        if whole:
            page = at + _FRAME.size
            last = _sum(order, data[page : page + page_size], _sum(order, data[at : at + 8], last))
            whole = last == tuple(own[2:])
        if not whole:
            if commit_behind:
                return True
            commit_behind = commit != 0
    return False


def _sum(order: str, data: bytes, start: _Sum) -> _Sum:
    one, two = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
