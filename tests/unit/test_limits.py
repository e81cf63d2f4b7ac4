"""What is written where a cgroup has controllers, and read from it. The files of a folder stand for those."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from annul.runtime.limits import Limits
from annul.tree import CgroupTree

FILES = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max")
LIMITS = Limits(memory_bytes=2**30, cpu_s=7, max_open_files=77, max_processes=5, no_new_privs=True)


_TELL = """
import sys, msgspec
from pathlib import Path
from annul.runtime.limits import Limits, impose
limits, group = msgspec.json.decode(sys.argv[1], type=tuple[Limits, str | None])
impose(limits, group or None)
print(Path("/proc/self/limits").read_text() + Path("/proc/self/status").read_text())
"""


def imposed(limits: Limits, group: Path | None) -> list[str]:
    """On a process of its own, which tells what of that /proc shows."""
    asked = msgspec.json.encode((limits, str(group) if group else None)).decode()
    said = subprocess.run([sys.executable, "-c", _TELL, asked], capture_output=True, text=True, check=True).stdout
    shown = []
    for line in said.splitlines():
        if line.startswith(("Max cpu time", "Max open files", "Max data size")):
            shown.append(" ".join(line.split()[-3:-1]))
        elif line.startswith("NoNewPrivs"):
            shown.append(" ".join(line.split()))
    return shown


@pytest.mark.parametrize("group", [None, "empty"], ids=["no cgroup", "no controller"])
def test_each_process_is_limited_anywhere(tmp_path: Path, group: str | None) -> None:
    """Where no controller is delegated there are no files, and none are made."""
    found = imposed(LIMITS, tmp_path if group else None)
    assert found == ["7 8", "1073741824 1073741824", "77 77", "NoNewPrivs: 1"]
    assert not list(tmp_path.iterdir())


def test_all_of_a_job_is_limited_where_controllers_are_delegated(tmp_path: Path) -> None:
    """Without swap, and ended as one."""
    for name in FILES:
        (tmp_path / name).touch()
    imposed(LIMITS, tmp_path)
    assert [(tmp_path / name).read_text() for name in FILES] == ["1073741824", "0", "1", "5"]


def test_without_limits_nothing_is_limited(tmp_path: Path) -> None:
    """As for `exec`."""
    for name in FILES:
        (tmp_path / name).touch()
    assert imposed(Limits(), tmp_path) == imposed(Limits(), None)
    assert [(tmp_path / name).read_text() for name in FILES] == [""] * 4


def test_the_kernel_says_that_memory_ran_out(tmp_path: Path) -> None:
    """By a count of those that it ended; there is no such file without the controller."""
    group = CgroupTree(tmp_path)
    assert not group.ran_out_of_memory()
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not group.ran_out_of_memory()
    events.write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n")
    assert group.ran_out_of_memory()
