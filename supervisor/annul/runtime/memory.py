"""A zygote's memory, before it forks: fewer page tables to copy with each fork, and nothing kept of what only importing
needed.

What it imports lies side by side, so that more of it fills whole huge pages; Python takes a MiB at a time for its
objects, and libraries would come to lie in between.

What it has of its own goes into huge pages: see madvise(2), MADV_COLLAPSE (Linux 6.1). That does not need transparent
huge pages to be switched on, and takes nearly no memory more: what is collapsed is in use already, but for gaps. Of
what a child writes to still one small page is copied at a time. Measured with pypdf and openai imported (45 MiB, of
which 27 are collapsed): fork, exit and wait take half of the processor time that they take without.

And the gaps are filled, so that new things lie in few pages, which a forked process copies when it makes them.

Of the libraries that are mapped it lets go: what is needed again is in the page cache, and comes back at its first use.
A fork copies nothing of these. With pypdf and openai that is 13 MiB.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DONTNEED, _COLLAPSE = 4, 25
_SIZE = 2 * 2**20
_MIB = 2**20
_SMALL = 400  # bytes: of what is larger Python leaves the place to malloc(3)
_TOGETHER = 16 * _MIB
# Of Python's allocator (Objects/obmalloc.c); where they are others, nothing is lost but time.
_ALIGNED, _LARGEST, _POOL, _HEADER = 16, 512, 16384, 48
_ENOUGH = 20_000  # of one size
_LARGE = 100_000  # bytes: more than lies free in one piece, less than malloc(3) maps for itself
_gaps: list[object] = []
_AREA = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)\n(?:[A-Z][A-Za-z_]+:.*\n)*?Anonymous: +(\d+) kB"
)
_libc = ctypes.CDLL(None)


@contextmanager
def side_by_side() -> Iterator[None]:
    """What is made in here, as far as there is room in `_TOGETHER`; what is not used of that is given back."""
    objects = [bytes(_SMALL) for _ in range(_TOGETHER // _SMALL)]
    kept = objects[:: _MIB // _SMALL // 2]  # two in each of Python's arenas, so that it keeps them
    del objects
    yield
    del kept


def fill_gaps() -> None:
    """Take what is free between things that stay: what is made from now on lies in pages of its own, and few of them.

    Python gives out the gaps in its pools (pages of things of one size) first. So each size is asked for until a pool
    is begun. That is some 2,000 objects, 0.3 MiB of what was there already, and a millisecond.
    """
    for size in range(_ALIGNED, _LARGEST + 1, _ALIGNED):
        for number in range(_ENOUGH):
            one = _of_size(size, number)
            _gaps.append(one)
            if id(one) % _POOL == _HEADER:
                break


def _of_size(size: int, number: int) -> object:
    if size == 16:
        return object()
    if size == 32:
        return (number + 1) << 30  # an int of two digits
    return bytes(size - sys.getsizeof(b""))


def settle() -> int:
    """Do both, where the kernel can. Nothing that is in memory changes. Returns how many huge pages there are now.

    And have malloc(3) put in order what has been freed, which it does when it is asked for much: else each child would
    at its first larger piece, 170 us.
    """
    done = 0
    for start, end, access, inode, name, own_kib in _areas():
        if access == b"rw-p" and inode == 0 and name in (b"", b"[heap]"):
            for at in range(-(-start // _SIZE) * _SIZE, end - _SIZE + 1, _SIZE):
                done += _advise(at, _SIZE, _COLLAPSE)
        elif access == b"r-xp" and inode and own_kib == 0:  # not where something was written over what the file has
            _advise(start, end - start, _DONTNEED)
    bytes(_LARGE)
    return done


def _areas() -> Iterator[tuple[int, int, bytes, int, bytes, int]]:
    """(start, end, access, inode, name, KiB that are this process's own) of each mapping: see proc_pid_smaps(5)."""
    for found in _AREA.finditer(Path("/proc/self/smaps").read_bytes()):
        start, end, access, inode, name, own_kib = found.groups()
        yield int(start, 16), int(end, 16), access, int(inode), name, int(own_kib)


def _advise(at: int, size: int, advice: int) -> bool:
    return int(_libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), advice)) == 0
