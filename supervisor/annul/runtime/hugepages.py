"""Fewer page tables to copy with each fork: what a zygote has in memory of its own, in huge pages.

See madvise(2), MADV_COLLAPSE (Linux 6.1). It does not need transparent huge pages to be switched on. Nearly no memory
more is taken: what is collapsed is in use already, but for gaps. Of what a child writes to still one small page is
copied at a time. Measured with pypdf and openai imported (45 MiB, of which 27 are collapsed): fork, exit and wait take
half of the processor time that they take without.
"""

from __future__ import annotations

import ctypes

_COLLAPSE = 25
_SIZE = 2 * 2**20
_libc = ctypes.CDLL(None)


def collapse() -> int:
    """Have the kernel put this process's anonymous memory into huge pages, wherever 2 MiB of it lie side by side.
    Returns how many there are now; where the kernel cannot, nothing has changed.
    """
    done = 0
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123 (as elsewhere in /proc)
        areas = [line.split() for line in maps]
    for place, access, _, _, inode, *name in areas:
        if not access.startswith(b"rw-p") or inode != b"0" or name not in ([], [b"[heap]"]):
            continue
        start, end = (int(one, 16) for one in place.split(b"-"))
        for at in range(-(-start // _SIZE) * _SIZE, end - _SIZE + 1, _SIZE):
            done += _libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(_SIZE), _COLLAPSE) == 0
    return done
