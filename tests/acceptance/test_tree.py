"""The whole tree: whatever shape it has, nothing of a job is left when it is over.

Every shape of `children.shapes`, made by a Python job that forks without exec and by a command, found by session and
by cgroup. The witnesses are the members themselves, who write as long as they live, and /proc.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from annul.tree import find_cgroup
from annul_client import Client, Job, Stage, State
from children import shapes
from harness import PREFIX, DaemonProcess, alive, processes_with, wait_until

SHAPES = {made.__name__: count for made, count in shapes.SHAPES.items()}
# By SIGTERM alone: those who fork when they hear of an end are one ahead of it, and have until the deadline.
POLITE = [name for name in SHAPES if name not in {"comet", "parting"}]


@pytest.fixture(scope="module", params=["session", "cgroup"])
def daemon(request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    """One for all of these tests: what one of them leaves behind, the next one sees."""
    if request.param == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    with tempfile.TemporaryDirectory(prefix=PREFIX) as base:
        jobs = ("--jobs", "children.trees", "--jobs", "children.jobs")
        made = DaemonProcess(Path(base), *jobs, "--tree", request.param, "--max-running", "4")
        made.start()
        yield made
        made.stop()
        print(made.said())


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with daemon.client() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the members of a tree write."""
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def submit(client: Client, how: str, shape: str, folder: Path, manner: str, then: str = "wait") -> Job:
    if shape == "other_user" and os.geteuid() != 0:
        pytest.skip("only root may become another user")
    if how == "exec":
        return client.submit(
            "exec", {"argv": [sys.executable, "-S", shapes.__file__, shape, str(folder), manner, then]}
        )
    return client.submit("tree", {"shape": shape, "folder": str(folder), "manner": manner, "then": then})


def grown(client: Client, how: str, shape: str, folder: Path, manner: str) -> Job:
    """Such a tree, with all its members there."""
    job = submit(client, how, shape, folder, manner)
    wait_until(lambda: (folder / "grown").exists() or client.get(job.id).state.final, f"the tree {shape} to grow")
    job = client.get(job.id)
    assert job.state is State.RUNNING, job.error
    return job


def living(folder: Path) -> list[int]:
    """Pids of the members that live."""
    found = []
    for pid, start in shapes.members(folder):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[19]) == start and fields[0] not in "ZX":
            found.append(pid)
    return found


def assert_nobody(daemon: DaemonProcess, folder: Path) -> None:
    """No member lives, the daemon has no descendants but its zygotes, and no file grows any more."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert living(folder) == []
    assert daemon.process is not None
    # Zygotes and daemon are subreapers: whoever is left of a job is below one of them.
    below = psutil.Process(daemon.process.pid).children(recursive=True)
    assert [one for one in below if alive(one.pid) and one.ppid() != daemon.process.pid] == []
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == sizes


@pytest.mark.parametrize("how", ["fork", "exec"])
@pytest.mark.parametrize("shape", SHAPES)
def test_deaf_members_are_killed_at_the_deadline(
    daemon: DaemonProcess, client: Client, folder: Path, shape: str, how: str
) -> None:
    """A leader that ends politely, at once, does not end the ladder: it is the tree that has until the deadline."""
    job = grown(client, how, shape, folder, "deaf")
    client.cancel(job.id, grace_s=0.1)
    job = client.wait(job.id, 20)
    assert_nobody(daemon, folder)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert job.cancel.swept == job.swept >= SHAPES[shape]


@pytest.mark.parametrize("how", ["fork", "exec"])
@pytest.mark.parametrize("shape", POLITE)
def test_polite_members_end_by_sigterm(
    daemon: DaemonProcess, client: Client, folder: Path, shape: str, how: str
) -> None:
    """All of them get it, stopped ones too, and the whole grace to react."""
    job = grown(client, how, shape, folder, "polite")
    client.cancel(job.id, grace_s=60)
    job = client.wait(job.id, 20)
    assert_nobody(daemon, folder)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert (job.cancel.stage, job.cancel.sigkill_s, job.swept) == (Stage.SIGTERM, None, 0)


@pytest.mark.parametrize("how", ["fork", "exec"])
@pytest.mark.parametrize("shape", SHAPES)
def test_leftovers_of_a_completed_job_are_swept_and_counted(
    daemon: DaemonProcess, client: Client, folder: Path, shape: str, how: str
) -> None:
    """A job that ends by itself is `completed` only when what it left behind is gone too."""
    job = client.wait(submit(client, how, shape, folder, "deaf", "end").id, 20)
    assert_nobody(daemon, folder)
    assert (job.state, job.cancel) == (State.COMPLETED, None)
    assert client.get(job.id).swept >= max(1, SHAPES[shape])


@pytest.mark.parametrize("how", ["fork", "exec"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_leader_killed_from_outside_takes_its_tree_along(
    daemon: DaemonProcess, client: Client, folder: Path, shape: str, how: str
) -> None:
    """Nobody has cancelled it: it has crashed, and what it leaves behind is swept."""
    job = grown(client, how, shape, folder, "deaf")
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    job = client.wait(job.id, 20)
    assert_nobody(daemon, folder)
    assert (job.state, job.cancel) == (State.FAILED, None)
    assert job.error is not None
    assert (job.error.code, "SIGKILL" in job.error.message) == ("crashed", True)
    assert job.swept >= SHAPES[shape]
