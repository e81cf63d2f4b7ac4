"""A zygote's memory, in huge pages and without what only importing needed: as it was, and cheaper to fork."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import os, re
from pathlib import Path
from annul.runtime import memory

def huge_kib():
    return int(re.search(r"AnonHugePages: +(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

def code_kib():  # of libraries, resident
    text = Path("/proc/self/smaps").read_text()
    areas = re.findall(r"^\\S+ r-xp \\S+ \\S+ [1-9].*\\n(?:.*\\n)*?Rss: +(\\d+)", text, re.M)
    return sum(map(int, areas))

import decimal, ssl, unicodedata
mapped = code_kib()
data = [bytes([number % 251]) * 4096 for number in range(16384)]  # 64 MiB, page by page
before = huge_kib()
found = memory.settle()
assert huge_kib() - before <= found * 2048
assert code_kib() < mapped * 0.7, (code_kib(), mapped)
assert all(one == bytes([number % 251]) * 4096 for number, one in enumerate(data))
pid = os.fork()
if pid == 0:
    data[0] = None
    os._exit(0 if all(one == bytes([number % 251]) * 4096 for number, one in enumerate(data) if number) else 1)
assert os.waitpid(pid, 0)[1] == 0
assert data[0] == bytes(4096)
print(found, huge_kib() - before)
"""


def test_memory_is_as_it_was_and_in_huge_pages() -> None:
    """Every byte is as it was, here and in a forked child, and the kernel counts the pages as huge."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, stdout=subprocess.PIPE, text=True)
    found, grown_kib = map(int, done.stdout.split())
    if not found:
        pytest.skip("this kernel collapses no memory (MADV_COLLAPSE is of Linux 6.1), or has no huge page left")
    assert found >= 20
    assert grown_kib >= 20 * 2048


_PLACES = """
import ctypes, re, sys
from pathlib import Path
from annul.runtime import memory

MIB = 2**20

def areas():
    found = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \\S+ \\S+ 0 *(\\S*)$", Path("/proc/self/maps").read_text(), re.M)
    return [(int(start, 16), int(end, 16)) for start, end, name in found if name in ("", "[heap]")]

def within(one, areas):
    return any(start <= one < end for start, end in areas)

def together(objects):  # how many of them lie in the area that has most of them
    return max(sum(start <= id(one) < end for one in objects) for start, end in areas())

before = sum(end - start for start, end in areas())
reserved = memory.reserve(32)
assert sum(end - start for start, end in areas()) - before > 30 * MIB

# As when modules are imported: many small things, and now and then a library.
kept = []
for number in range(16):
    kept += [bytes(100 + number) for _ in range(MIB // 160)]
    memory._map(MIB // 4)
reserved.clear()
assert together(kept) > 0.5 * len(kept), (together(kept), len(kept))
assert sum(end - start for start, end in areas()) - before < 24 * MIB  # what was not used is given back
assert all(one == bytes(len(one)) for one in kept)

del kept[::10]
old = areas()
memory.close_gaps()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_size_t
pieces = [malloc(size) for size in (24, 200, 600, 1000)]
assert not any(within(one, old) for one in pieces), "malloc(3) gave out a gap"
memory.fill_gaps()
new = [bytes(size) for size in range(8, 450, 8) for _ in range(50)] + [object() for _ in range(50)]
inside = [sys.getsizeof(one) for one in new if within(id(one), old)]
assert len(inside) < len(new) / 100, ("Python gave out gaps", inside)
"""


def test_what_is_imported_lies_together_and_new_things_elsewhere() -> None:
    """In one piece although libraries are mapped meanwhile; what is made after that lies in none of its gaps."""
    subprocess.run([sys.executable, "-c", _PLACES], check=True)
