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
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from annul.tree import find_cgroup
from annul_client import Client, Job, Stage, State
from children import shapes
from harness import PREFIX, DaemonProcess, alive, processes_with, started, wait_until, waits_for_work

SHAPES = {made.__name__: count for made, count in shapes.SHAPES.items()}
# Where many leaders end at once, one that nothing names is killed, but may be counted with another job.
COUNTED = {name: count for name, count in SHAPES.items() if name != "unbranded"} | {"unbranded": 0}
# By SIGTERM alone: those who fork when they hear of an end are one ahead of it, and have until the deadline.
POLITE = [name for name in SHAPES if name not in {"comet", "parting"}]


@pytest.fixture(scope="module", params=["session", "cgroup"])
def daemon(request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    """One for all of these tests: what one of them leaves behind, the next one sees."""
    if request.param == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    with tempfile.TemporaryDirectory(prefix=PREFIX) as base:
        jobs = ("--jobs", "children.trees", "--jobs", "children.jobs")
        made = DaemonProcess(Path(base), *jobs, "--no-warm", "--tree", request.param, "--max-running", "40")
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


def assert_nobody(daemon: DaemonProcess, *folders: Path) -> None:
    """No member lives, the daemon has no descendants but zygotes and spares, and no file grows any more."""
    sizes = {path: path.stat().st_size for folder in folders for path in folder.iterdir()}
    assert {folder.name: living(folder) for folder in folders if living(folder)} == {}
    assert daemon.process is not None
    # Zygotes and daemon are subreapers: whoever is left of a job is below one of them.
    below = psutil.Process(daemon.process.pid).children(recursive=True)
    assert [one for one in below if alive(one.pid) and not waits_for_work(one.pid)] == []
    assert {path: path.stat().st_size for path in sizes} == sizes


class Forest:
    """A tree of each shape, all at once."""

    def __init__(self, client: Client, how: str, names: list[str], base: Path, manner: str, then: str = "wait") -> None:
        self._client = client
        self.folders = {name: base / name for name in names if name != "other_user" or os.geteuid() == 0}
        for folder in self.folders.values():
            folder.mkdir()
        self.jobs = {name: submit(client, how, name, folder, manner, then) for name, folder in self.folders.items()}

    def grow(self) -> None:
        """Wait until all members are there."""
        for name, folder in self.folders.items():
            job_id = self.jobs[name].id
            wait_until(
                lambda at=folder / "grown", job_id=job_id: at.exists() or self._client.get(job_id).state.final,
                f"the tree {name} to grow",
            )
            job = self.jobs[name] = self._client.get(job_id)
            assert job.state is State.RUNNING, (name, job.error)

    def end(self) -> dict[str, Job]:
        self.jobs = {name: self._client.wait(job.id, 30) for name, job in self.jobs.items()}
        return self.jobs


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_deaf_members_are_killed_at_the_deadline(
    daemon: DaemonProcess, client: Client, tmp_path: Path, how: str
) -> None:
    """A leader that ends politely, at once, does not end the ladder: it is the tree that has until the deadline."""
    forest = Forest(client, how, list(SHAPES), tmp_path, "deaf")
    forest.grow()
    for job in forest.jobs.values():
        client.cancel(job.id, grace_s=0.1)
    for name, job in forest.end().items():
        assert job.cancel is not None
        assert (name, job.state, job.cancel.stage) == (name, State.CANCELLED, Stage.SIGKILL)
        assert job.cancel.swept == job.swept >= COUNTED[name], name
    assert_nobody(daemon, *forest.folders.values())


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_polite_members_end_by_sigterm(daemon: DaemonProcess, client: Client, tmp_path: Path, how: str) -> None:
    """All of them get it, stopped ones too, and the whole grace to react."""
    forest = Forest(client, how, POLITE, tmp_path, "polite")
    forest.grow()
    for job in forest.jobs.values():
        client.cancel(job.id, grace_s=60)
    for name, job in forest.end().items():
        assert job.cancel is not None
        assert (name, job.state, job.cancel.stage) == (name, State.CANCELLED, Stage.SIGTERM)
        assert (name, job.cancel.sigkill_s, job.swept) == (name, None, 0)
    assert_nobody(daemon, *forest.folders.values())


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_leftovers_of_a_completed_job_are_swept_and_counted(
    daemon: DaemonProcess, client: Client, tmp_path: Path, how: str
) -> None:
    """A job that ends by itself is `completed` only when what it left behind is gone too."""
    forest = Forest(client, how, list(SHAPES), tmp_path, "deaf", "end")
    for name, job in forest.end().items():
        assert (name, job.state, job.cancel) == (name, State.COMPLETED, None)
        assert job.swept >= COUNTED[name], name
    assert_nobody(daemon, *forest.folders.values())


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_leader_killed_from_outside_takes_its_tree_along(
    daemon: DaemonProcess, client: Client, tmp_path: Path, how: str
) -> None:
    """Nobody has cancelled it: it has crashed, and what it leaves behind is swept."""
    forest = Forest(client, how, list(SHAPES), tmp_path, "deaf")
    forest.grow()
    for job in forest.jobs.values():
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
    for name, job in forest.end().items():
        assert job.error is not None
        assert (name, job.state, job.cancel, job.error.code) == (name, State.FAILED, None, "crashed")
        assert "SIGKILL" in job.error.message
        assert job.swept >= COUNTED[name], name
    assert_nobody(daemon, *forest.folders.values())


def test_commands_of_a_shell_leave_nothing(client: Client, tmp_path: Path) -> None:
    """setsid, nohup and background commands, as people write them, ignoring SIGTERM."""
    mark = tmp_path / "beat"
    loop = f"trap '' TERM; while :; do echo . >> {mark}; sleep 0.01; done"
    script = f'(setsid sh -c \'(sh -c "{loop}" &)\' &); (nohup sh -c "{loop}" &); {loop}'
    job = client.submit("exec", {"argv": ["sh", "-c", script]})
    wait_until(lambda: len(processes_with(str(mark))) >= 3, "three processes")
    client.cancel(job.id, grace_s=0.2)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert not processes_with(str(mark))


def test_a_storm_of_forks_is_ended_and_holds_up_nobody(client: Client, tmp_path: Path) -> None:
    """Of 100 processes that keep forking and ending nothing is left, and others are answered meanwhile."""
    mark = tmp_path / "beat"
    one = f'trap "" TERM; while :; do (echo . >> {mark}); done'
    script = f"for i in $(seq 100); do setsid sh -c '{one}' & done; wait"
    job = client.submit("exec", {"argv": ["sh", "-c", script]})
    wait_until(lambda: len(processes_with(str(mark))) > 50, "the storm to be there")
    client.cancel(job.id, grace_s=0.1)
    assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert not processes_with(str(mark))


def test_survivors_keep_their_grace_whoever_ends_meanwhile(client: Client, tmp_path: Path) -> None:
    """A child that cleans up after its leader is not killed because another job ends."""
    mark = tmp_path / "mark"
    job = started(client, "patient", "working", {"mark": str(mark)})
    wait_until(Path(f"{mark}.ready").exists, "the child")
    client.cancel(job.id)
    wait_until(lambda: job.pid is not None and not alive(job.pid), "the leader to end")
    for _ in range(5):
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert mark.read_text() == "cleaned up\n"


def test_survivors_keep_their_grace_where_two_leaders_end_at_once(
    daemon: DaemonProcess, client: Client, folder: Path
) -> None:
    """Of a leader that has ended, which the daemon is not aware of yet, they are not what another one left behind."""
    other = client.submit("exec", {"argv": ["sh", "-c", f"until [ -e '{folder}/go' ]; do sleep 0.01; done"]})
    job = client.submit("lingering", {"folder": str(folder)})
    wait_until((folder / "ready").exists, "the child")
    client.cancel(job.id)
    wait_until((folder / "cleaning up").exists, "the leader to clean up")
    leaders = [client.get(one.id).pid for one in (other, job)]
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        (folder / "go").touch()
        wait_until(lambda: not any(pid and alive(pid) for pid in leaders), "both leaders to end")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    other = client.wait(other.id, 20)
    assert (other.state, other.swept) == (State.COMPLETED, 0)
    job = client.wait(job.id, 20)
    assert (folder / "cleaned up").exists()
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGTERM


def test_a_stopped_leader_is_made_to_go_on_and_cleans_up(client: Client, tmp_path: Path) -> None:
    """SIGCONT comes with SIGTERM: what is stopped gets its grace like any other."""
    job = started(client, "tidy", "working", {"mark": str(tmp_path / "mark")})
    stop(job)
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGTERM
    assert (tmp_path / "mark").read_text() == "tidied up\n"


@pytest.mark.parametrize("grace_s", [0, 0.1])
def test_a_stopped_leader_that_is_deaf_is_killed(client: Client, tmp_path: Path, grace_s: float) -> None:
    """At the deadline, or at once."""
    job = started(client, "stubborn", "ignoring", {"mark": str(tmp_path / "mark")})
    stop(job)
    client.cancel(job.id, grace_s=grace_s)
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert not processes_with(f"ANNUL_MARK={job.id}.")


def stop(job: Job) -> None:
    assert job.pid is not None
    os.kill(job.pid, signal.SIGSTOP)
    wait_until(lambda: ") T " in Path(f"/proc/{job.pid}/stat").read_text(), "the leader to stop")


def test_what_a_zygote_runs_to_import_a_library_is_left_alone(client: Client) -> None:
    """It is nobody's leftover, though it is a child of a zygote, and no leader; and nobody waits for it."""
    spawned = client.submit("spawned", {})
    wait_until(lambda: processes_with("sleep\0002.75"), "the program to run")
    job = client.wait(client.submit("quick", {}).id, 20)
    assert processes_with("sleep\0002.75")
    assert (job.state, job.swept) == (State.COMPLETED, 0)
    assert client.wait(spawned.id, 20).state is State.COMPLETED
    assert client.result(spawned.id).result == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("manner", ["deaf", "polite"])
def test_a_leader_that_has_become_another_user_is_ended(
    daemon: DaemonProcess, client: Client, folder: Path, manner: str
) -> None:
    """With the tree it made before; it can tell nobody how it ended, and that is not needed."""
    params = {"shape": "double_fork", "folder": str(folder), "manner": manner, "then": "wait"}
    job = client.submit("somebody-else", params)
    wait_until(lambda: owner(client.get(job.id).pid) == shapes.NOBODY, "the leader to be another user")
    client.cancel(job.id, grace_s=0.1 if manner == "deaf" else 60)
    job = client.wait(job.id, 20)
    assert_nobody(daemon, folder)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is (Stage.SIGKILL if manner == "deaf" else Stage.SIGTERM)


def owner(pid: int | None) -> int | None:
    return pid and Path(f"/proc/{pid}").stat().st_uid


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of SYS_exit is another one here")
def test_a_process_whose_main_thread_has_ended_is_alive(client: Client, tmp_path: Path) -> None:
    """A process that shows as a zombie while other threads of it run is ended, too, before `cancelled` shows."""
    mark = tmp_path / "beat"
    job = started(client, "headless", "headless", {"mark": str(mark)})
    wait_until(lambda: mark.exists() and mark.stat().st_size > 3, "the thread to beat")
    client.cancel(job.id)
    assert client.wait(job.id, 20).state is State.CANCELLED
    size = mark.stat().st_size
    wait_until(lambda: not Path(f"/proc/{job.pid}").exists(), "the process to be reaped")
    assert mark.stat().st_size == size


@pytest.mark.parametrize("tree", ["session", "cgroup"])
def test_processes_that_are_no_jobs_are_left_alone(
    make_daemon: Callable[..., DaemonProcess], short_dir: Path, tree: str
) -> None:
    """Children that the daemon had before it was the daemon, and what a preloaded module has started (C8)."""
    if tree == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    daemon = make_daemon("--tree", tree, "--jobs", "children.helped")
    daemon.before = f"sh -c 'trap \"\" TERM; exec sleep 2000.{os.getpid()}' &"
    helper = f"2001.{os.getpid()}"
    daemon.env["LANG"] = helper  # which zygotes get as well
    daemon.start()
    strangers = wait_for(f"2000.{os.getpid()}")
    try:
        with daemon.client() as client:
            assert client.wait(client.submit("helped").id, 20).state is State.COMPLETED
            strangers += wait_for(helper)
            jobs = [started(client, "sleepy", "sleeping"), started(client, "sleepy", "sleeping")]
            for job in jobs:
                client.cancel(job.id, grace_s=30)
            ended = [client.wait(one.id, 20) for one in (*jobs, client.submit("helped"))]
        assert [(job.swept, job.cancel and job.cancel.stage) for job in ended] == [
            (0, Stage.SIGTERM),
            (0, Stage.SIGTERM),
            (0, None),
        ]
        assert all(alive(pid) for pid in strangers)
        daemon.stop()
        assert all(alive(pid) for pid in strangers)
    finally:
        for pid in strangers:
            os.kill(pid, signal.SIGKILL)


def wait_for(argument: str) -> list[int]:
    """The pid of that `sleep`."""
    wait_until(lambda: processes_with(f"sleep\0{argument}"), "it to run")
    return processes_with(f"sleep\0{argument}")


# --- where the daemon has died meanwhile --------------------------------------------------------------------


def orphaned(daemon: DaemonProcess, folder: Path, shape: str, *, leader_ends: bool) -> str:
    """Kill the daemon and its zygotes under such a tree; perhaps its leader; and start the daemon again."""
    with daemon.client() as client:
        job = grown(client, "fork", shape, folder, "deaf")
    assert daemon.process is not None
    zygotes = psutil.Process(daemon.process.pid).children()
    for one in zygotes:
        one.suspend()  # else they would be the guardians of the job
    daemon.kill()
    for one in zygotes:
        one.kill()
    wait_until(lambda: not any(alive(one.pid) for one in zygotes), "the zygotes to end")
    if leader_ends:
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
        wait_until(lambda: job.pid is not None and not alive(job.pid), "the leader to end")
    daemon.start()
    return job.id


@pytest.fixture(params=["session", "cgroup"])
def mortal(request: pytest.FixtureRequest, make_daemon: Callable[..., DaemonProcess]) -> DaemonProcess:
    """A daemon to be killed."""
    if request.param == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    made = make_daemon("--jobs", "children.trees", "--tree", request.param)
    made.start()
    return made


@pytest.mark.parametrize("shape", ["double_fork", "executed", "disguised", "unbranded"])
def test_an_adopted_tree_is_ended(mortal: DaemonProcess, folder: Path, shape: str) -> None:
    """The next daemon is nobody's ancestor; but the leader keeps its tree together."""
    job_id = orphaned(mortal, folder, shape, leader_ends=False)
    with mortal.client() as client:
        client.cancel(job_id, grace_s=0.1)
        assert client.wait(job_id, 20).state is State.CANCELLED
    assert living(folder) == []


@pytest.mark.parametrize("shape", ["double_fork", "executed", "disguised"])
def test_what_a_leader_left_behind_while_no_daemon_ran_is_ended(
    mortal: DaemonProcess, folder: Path, shape: str
) -> None:
    """By the cgroup; or by the brand, the mapped board, the session, the environment."""
    job_id = orphaned(mortal, folder, shape, leader_ends=True)
    with mortal.client() as client:
        job = client.wait(job_id, 20)
    assert living(folder) == []
    assert (job.state, job.swept) == (State.FAILED, 1)


def test_what_the_fallback_cannot_catch(mortal: DaemonProcess, folder: Path) -> None:
    """KNOWN LIMIT, as README says: the daemon died, the leader too, and nothing of the orphan names the job.

    By cgroup it is caught all the same.
    """
    job_id = orphaned(mortal, folder, "unbranded", leader_ends=True)
    with mortal.client() as client:
        assert client.wait(job_id, 20).state is State.FAILED
    missed = living(folder)
    try:
        assert len(missed) == (1 if "session" in mortal.options else 0)
    finally:
        for pid in missed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not living(folder), "the one that was missed to end")
