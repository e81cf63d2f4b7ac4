"""A zygote's memory, before it forks: fewer page tables to copy with each fork, and nothing kept of what only importing
needed.

What it has of its own goes into huge pages: see madvise(2), MADV_COLLAPSE (Linux 6.1). That does not need transparent
huge pages to be switched on, and takes nearly no memory more: what is collapsed is in use already, but for gaps. A
fork copies one entry for such a page, instead of 512, for as long as neither side writes to it: a write splits it for
the side that wrote, of which one small page is copied then. So three things are done for these pages to stay whole:

- `reserve`, before all else is imported: what is imported lies side by side, so that more of it fills huge pages.
  Python takes a MiB at a time for its objects, and libraries would come to lie in between.
- `close_gaps`, after that, and `fill_gaps` in the end: what zygote and children make anew does not lie in gaps among
  what stays as it is, but in few pages at the end.
- And what both would otherwise write to in passing is made to be somewhere else, or done before: see `entry.warm_up`.

Measured with pypdf and openai imported (48 MiB, of which 34 are collapsed): fork, exit and wait take half of the
processor time that they take without huge pages, and an empty job a tenth less than without these three.

Of the libraries that are mapped it lets go: what is needed again is in the page cache, and comes back at its first use.
A fork copies nothing of these. With pypdf and openai that is 13 MiB.
"""

from __future__ import annotations

import ctypes
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

_DONTNEED, _COLLAPSE = 4, 25
_NONE, _PRIVATE_ANONYMOUS = 0, 0x22  # protection, flags
_SIZE = 2 * 2**20
_MIB = 2**20
_GAPS = 256  # of a MiB, between what is mapped: more are not looked for
# Of Python's allocator (Objects/obmalloc.c); where they are others, nothing is lost but time.
_ALIGNED, _LARGEST, _POOL = 16, 512, 16384
_CONTENT = _LARGEST - sys.getsizeof(b"")
_ENOUGH = 50_000  # of one size
# Of malloc(3), bytes: more than lies free in one piece, less than it maps for itself; and the sizes it keeps lists of.
_LARGE = 100_000
_SIZES = (65528, 16376, 4088, *range(1032, 23, -16))
_gaps: list[object] = []
_AREA = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)\n(?:[A-Z][A-Za-z_]+:.*\n)*?Anonymous: +(\d+) kB"
)
_libc = ctypes.CDLL(None)
_libc.malloc.restype = _libc.sbrk.restype = _libc.mmap.restype = ctypes.c_size_t
_libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_size_t]
_libc.munmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t]


def reserve(mib: int) -> list[bytes]:
    """Have Python take so much memory in one piece, and use that first. To be cleared when all is imported: what
    has not been used by then is given back.
    """
    between = _take_gaps(mib * _MIB)
    arenas = [[bytes(_CONTENT) for _ in range(_MIB // _LARGEST)] for _ in range(mib)]
    for at in between:
        _libc.munmap(at, _MIB)
    # One of each arena, so that it is kept; and as many of each, since Python uses first what has least room, and of
    # those that have the same what was freed last. That is the first, then the next one to that, and so on.
    kept, before = [], 0
    for arena in arenas:
        for one in arena[::8]:
            pool = id(one) // _POOL
            if not 0 <= pool - before <= 1:
                kept.append(one)
            before = pool
    return kept


def _take_gaps(size: int) -> list[int]:
    """Map what is free, MiB by MiB, between what is mapped: what is mapped next comes to lie below all of it."""
    free = _map(size)
    _libc.munmap(free, size)
    taken: list[int] = []
    while len(taken) < _GAPS:
        at = _map(_MIB)
        taken.append(at)
        if at < free + size + _SIZE:
            break
    _libc.munmap(taken.pop(), _MIB)
    return taken


def _map(size: int) -> int:
    return int(_libc.mmap(0, size, _NONE, _PRIVATE_ANONYMOUS, -1, 0))


def close_gaps() -> None:
    """Take what malloc(3) has free between things that stay: what it gives out from now on lies at its end. That is
    some 800 pieces, and 0.2 MiB more.
    """
    end = _libc.sbrk(0)
    for size in _SIZES:
        while 0 < _libc.malloc(size) < end:
            pass


def fill_gaps() -> None:
    """The same with Python's memory: what it makes from now on lies outside of all that is mapped now.

    Python gives out the gaps in its pools (pages of things of one size) first, and then pools that are free. So it is
    asked for things until it has taken more memory, and then for each size until that comes from there: some 6,000
    objects, most of a few MiB that were there already. To be called last: what is freed afterwards is a gap again.
    """
    mapped = [edge for start, end, *_ in _areas() for edge in (start, end)]
    _gaps.append(mapped)
    for size in (_LARGEST, *range(_ALIGNED, _LARGEST, _ALIGNED)):
        for number in range(_ENOUGH):
            one = _of_size(size, number)
            _gaps.append(one)
            if bisect_right(mapped, id(one)) % 2 == 0:  # it does not lie behind a start and before that area's end
                break


def _of_size(size: int, number: int) -> object:
    if size == 16:
        return object()
    if size == 32:
        return (number + 1) << 30  # an int of two digits
    return bytes(size - sys.getsizeof(b""))


def settle() -> int:
    """Put it into huge pages, and let go of the libraries, where the kernel can. Nothing that is in memory changes.
    Returns how many huge pages there are now.

    And have malloc(3) put in order what has been freed, which it does when it is asked for much: else each child would.
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
