"""A zygote's memory in huge pages, without what only importing needed: as it was, and cheaper to fork."""

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
