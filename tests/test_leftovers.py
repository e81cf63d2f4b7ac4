"""The last test: all the others have left nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from annul.tree import daemons_group, find_cgroup
from harness import PREFIX, STATE_DIRS, processes_with, wait_until

SHM_BEFORE = set(Path("/dev/shm").iterdir())


def test_nothing_is_left_behind() -> None:
    """No process, directory, socket, cgroup or shared memory of this run's is there any more."""
    wait_until(lambda: not processes_with(PREFIX), "every process of the tests to be gone")
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    assert PREFIX not in Path("/proc/net/unix").read_text()
    assert set(Path("/dev/shm").iterdir()) <= SHM_BEFORE
    parent = find_cgroup()
    if parent is not None:
        assert not [path for path in STATE_DIRS if (parent / daemons_group(path)).exists()]
