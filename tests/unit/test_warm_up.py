"""A zygote's rehearsals: nothing of them is left, and what it forks then copies fewer pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
from annul.runtime import at_fork
import gc, json, os, resource, signal
from pathlib import Path
from annul.runtime import entry

folder, times = Path(sys.argv[1]), int(sys.argv[2])

def state():
    gc.collect()
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # by which it was listed
    status = Path("/proc/self/status").read_text()
    return {
        "descriptors": descriptors,
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "mark": resource.getrlimit(resource.RLIMIT_RTTIME),
        "signals": [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn"))],
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "wake-up": signal.set_wakeup_fd(-1),
        "name": Path("/proc/self/comm").read_text(),
        "made": os.listdir(folder),
        "put off": len(at_fork._put_off),
    }

def faults():  # of a forked process that runs an empty job
    pid = os.fork()
    if pid == 0:
        place = folder / "child"
        place.mkdir()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        entry._Process(origin).run_here(entry._rehearsal(str(place), str(place / "1" / "1")))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        Path(folder, "faults").write_text(str(used))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return int(Path(folder, "faults").read_text())

origin = entry.Origin(types={}, zygote=os.getpid(), cgroup=None, rehearsal=str(folder), rooms=str(folder))
before = state()
for _ in range(times):
    entry.warm_up(origin)
after = state()
gc.freeze()
print(json.dumps([before, after, faults()]))
"""


def _run(folder: Path, times: int) -> tuple[dict[str, object], dict[str, object], int]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), str(times)], check=True, capture_output=True, text=True
    )
    assert not done.stderr
    before, after, faults = json.loads(done.stdout)
    return before, after, faults


def test_all_is_as_it_was(short_dir: Path) -> None:
    """Descriptors, directory, environment, limits, signals, and what is registered for forks."""
    before, after, _ = _run(short_dir / "a", 1)
    assert after == before
    assert after["put off"] == 2


def test_forked_processes_copy_fewer_pages(short_dir: Path) -> None:
    """Counted by the kernel; nothing else differs."""
    _, _, without = _run(short_dir / "a", 0)
    _, _, warm = _run(short_dir / "b", 1)
    assert warm < without


def test_where_it_cannot_it_says_so_and_goes_on(short_dir: Path) -> None:
    """There is something in the way: all is as it was, too."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.replace("origin = ", "(folder / str(os.getpid())).touch()\norigin = "),
         str(short_dir), "1"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    before, after, _ = json.loads(done.stdout)
    assert "FileExistsError" in done.stderr
    assert after == before
