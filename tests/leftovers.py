"""What a run of the tests has left behind, in whichever of its processes: nothing, it must be."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from annul.tree import daemons_group, find_cgroup
from harness import NOTES, PREFIX, processes_with, wait_until

_SHARED_MEMORY = ("annul*", "psm_*", "sem.*")  # in /dev/shm: ours, and what Python and libc make there


class Leftovers:
    """Begins with the run, looks at its end."""

    def __init__(self) -> None:
        self._shm = _shared_memory()
        self._notes = Path(tempfile.gettempdir(), f"{PREFIX}notes")
        os.environ[NOTES] = str(self._notes)

    def found(self) -> list[str]:
        """Processes, directories, sockets, cgroups and shared memory. Processes get a while to end."""
        state_dirs = self._notes.read_text().splitlines() if self._notes.exists() else []
        self._notes.unlink(missing_ok=True)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not processes_with(PREFIX), "every process of the tests to end")
        left = [f"process {pid}" for pid in processes_with(PREFIX)]
        left += map(str, Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
        left += [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if PREFIX in line]
        left += map(str, _shared_memory() - self._shm)
        parent = find_cgroup()
        if parent is not None:
            groups = {parent / daemons_group(Path(line)) for line in state_dirs}
            left += [str(group) for group in groups if group.exists()]
        return left


def _shared_memory() -> set[Path]:
    return {path for name in _SHARED_MEMORY for path in Path("/dev/shm").glob(name)}
