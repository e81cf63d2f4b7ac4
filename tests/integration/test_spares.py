"""Spare processes: each serves one job, they are replaced, and nothing depends on their health."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from annul import proc
from annul.tree import daemons_group, find_cgroup
from annul_client import Client, State
from harness import DaemonProcess, alive, processes_with, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]


@pytest.fixture(params=["session", "cgroup"])
def daemon(request: pytest.FixtureRequest, make_daemon: MakeDaemon) -> DaemonProcess:
    """One that has its light spares."""
    if request.param == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    found = make_daemon("--jobs", "children.spared", "--tree", request.param, "--max-running", "8")
    found.start()
    with found.client() as client:
        assert client.wait(client.submit("who").id, 20).state is State.COMPLETED
    wait_until(lambda: len(spares(found)) == 2, "the spares to be there")
    return found


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with daemon.client() as found:
        yield found


def zygotes(daemon: DaemonProcess) -> list[psutil.Process]:
    assert daemon.process is not None
    return [one for one in psutil.Process(daemon.process.pid).children() if alive(one.pid)]


def spares(daemon: DaemonProcess) -> list[int]:
    """Pids of those that have rehearsed and wait."""
    below = [one.pid for zygote in zygotes(daemon) for one in zygote.children()]
    return sorted(pid for pid in below if alive(pid) and _said(pid, "comm") == "annul-spare" and _waits(pid))


def _waits(pid: int) -> bool:
    """In recvfrom(2), for its launch."""
    return _said(pid, "syscall").split(" ")[0] in ("45", "207")  # x86-64, aarch64


def _said(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text().strip()
    except OSError:
        return ""


def test_each_job_has_a_process_of_its_own(daemon: DaemonProcess, client: Client) -> None:
    """One that was there before it, in its own session and cgroup, and in which nothing of another job or of the
    rehearsal is left.
    """
    seen = set()
    for _ in range(5):
        wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
        before = spares(daemon)
        job = client.wait(client.submit("who").id, 20)
        assert job.result is not None
        found = msgspec.convert(job.result, dict)
        assert found["pid"] in before
        assert (found["served"], found["session"], found["cwd"], found["heavy"]) == ([job.id], True, True, False)
        assert found["marked"] is (resource.getrlimit(resource.RLIMIT_RTTIME)[0] == resource.RLIM_INFINITY)
        assert {"ANNUL_JOB_ID", "TMPDIR"} <= set(found["environ"])
        if client.ping().tree == "cgroup":
            assert found["cgroup"].rpartition("/")[2].startswith(f"{found['pid']}.")
        seen.add(found["pid"])
    assert len(seen) == 5


def test_what_python_does_at_a_fork_it_does_in_jobs(client: Client) -> None:
    """The zygote, which has one thread, does without."""
    job = client.wait(client.submit("forks").id, 60)
    assert job.result == {"main thread": True, "child": True}


@pytest.mark.parametrize("job_type", ["who", "wordy"])
def test_the_room_made_beforehand_becomes_the_jobs(daemon: DaemonProcess, client: Client, job_type: str) -> None:
    """Where the job has no directory yet, and where its input file is there already; nothing of it stays behind."""
    wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
    rooms = daemon.state_dir / "rooms"
    work = {(room / "1" / "work").stat().st_ino for room in rooms.iterdir()}
    log = {(room / "1" / "log").stat().st_ino for room in rooms.iterdir()}
    files = {"file": b"x"} if job_type == "wordy" else None
    job = client.wait(client.submit(job_type, {}, inputs=files).id, 20)
    assert job.state is State.COMPLETED
    found = msgspec.convert(job.result, dict)
    assert found["cwd"]
    assert found["tmp"]
    assert found["inode"] in work
    attempt = daemon.state_dir / "jobs" / job.id / "1"
    assert (attempt / "log").stat().st_ino in log
    assert client.logs(job.id) == f"{job_type} was here\n".encode()
    assert sorted(path.name for path in attempt.iterdir()) == ["log", "outcome.json", "work"]
    assert not list((attempt / "work").iterdir())
    wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there again")
    wait_until(lambda: {path.name for path in rooms.iterdir()} == {str(pid) for pid in spares(daemon)}, "no other room")


def test_a_room_that_was_taken_away_is_made_anew(daemon: DaemonProcess, client: Client) -> None:
    """Somebody tidies the state directory: jobs go on."""
    wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
    for room in (daemon.state_dir / "rooms").iterdir():
        shutil.rmtree(room)
    job = client.wait(client.submit("who").id, 20)
    found = msgspec.convert(job.result, dict)
    assert found["cwd"]
    assert found["tmp"]
    assert client.logs(job.id) == b"who was here\n"


def test_there_are_never_more_than_were_asked_for(daemon: DaemonProcess, client: Client) -> None:
    """Also after a burst of which most was cancelled; and none of a profile that nothing was run of."""
    jobs = [one.job for one in client.submit_many([{"type": "sleepy"}] * 40) if one.job]
    for job in jobs:
        client.cancel(job.id, grace_s=0)
    for job in jobs:
        assert client.wait(job.id, 20).state is State.CANCELLED
    wait_until(lambda: len(spares(daemon)) == 2, "the spares to be two again")
    (zygote,) = zygotes(daemon)
    wait_until(lambda: len(zygote.children()) == 2, "all others to be gone")


def test_light_jobs_do_not_pay_for_heavy_profiles(daemon: DaemonProcess, client: Client) -> None:
    """Each has its own zygote, and spares of its own."""
    heavy = client.wait(client.submit("heavy-who").id, 20)
    found = msgspec.convert(heavy.result, dict)
    assert found["heavy"]
    assert found["tmp"]  # though its module has asked where that is, before
    wait_until(lambda: len(spares(daemon)) == 4, "spares of both")
    assert len(zygotes(daemon)) == 2
    light = client.wait(client.submit("who").id, 20)
    assert not msgspec.convert(light.result, dict)["heavy"]


def test_spares_die_with_their_daemon(daemon: DaemonProcess, client: Client) -> None:
    """However it ends; and their zygotes, where no job needs them as guardians."""
    before = [*spares(daemon), *(one.pid for one in zygotes(daemon))]
    daemon.kill()
    wait_until(lambda: not any(map(alive, before)), "spares and zygotes to be gone")
    daemon.start()  # it removes their cgroups


def test_a_spare_that_was_killed_is_replaced(daemon: DaemonProcess, client: Client) -> None:
    """And a job that comes in that very moment gets another."""
    for signum in (signal.SIGKILL, signal.SIGTERM):
        before = spares(daemon)
        for pid in before:
            os.kill(pid, signum)
        assert client.wait(client.submit("who").id, 20).state is State.COMPLETED
        wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
        assert not set(before) & set(spares(daemon))
    assert client.ping().queued == 0


def test_a_cancel_between_hand_over_and_first_line(daemon: DaemonProcess, client: Client) -> None:
    """Its process is stopped: it has its job, and has not begun. The cancel does not wait, and nothing ever runs."""
    for grace_s in (0.0, 5.0):
        before = spares(daemon)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        job = client.submit("quick")
        assert client.get(job.id).state is State.STARTING
        assert client.cancel(job.id, grace_s=grace_s).outcome == "cancelling"
        final = client.wait(job.id, 3)
        assert final.state is State.CANCELLED
        assert final.cancel is not None
        assert final.cancel.stage in ("before_start", "sigkill")
        assert not processes_with(f"ANNUL_MARK={job.id}.")
        for pid in before:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")


def test_jobs_start_with_a_stopped_zygote(daemon: DaemonProcess, client: Client) -> None:
    """As long as there are spares; for the next it is found to be stopped, and replaced."""
    (zygote,) = zygotes(daemon)
    zygote.suspend()
    running = [started(client, "sleepy", "sleeping") for _ in range(2)]
    third = client.wait(client.submit("who").id, 20)
    assert third.state is State.COMPLETED
    wait_until(lambda: not alive(zygote.pid), "the stopped zygote to be gone")
    for job in running:
        client.cancel(job.id)
        assert client.wait(job.id, 20).state is State.CANCELLED
    wait_until(lambda: len(spares(daemon)) == 2, "the spares of its successor")


def test_requests_do_not_wait_for_a_stopped_zygote(daemon: DaemonProcess, client: Client) -> None:
    """A burst beyond the spares waits; whoever asks or cancels is answered, and what waited never runs."""
    (zygote,) = zygotes(daemon)
    zygote.suspend()
    jobs = [one.job for one in client.submit_many([{"type": "sleepy"}] * 6) if one.job]
    assert {client.get(job.id).state for job in jobs} <= {State.STARTING, State.RUNNING}
    for job in jobs:
        assert client.cancel(job.id, grace_s=0).outcome == "cancelling"
    assert alive(zygote.pid)  # all that in less than it takes to give it up
    stages = []
    for job in jobs:
        final = client.wait(job.id, 20)
        assert final.state is State.CANCELLED
        assert final.cancel is not None
        stages.append(final.cancel.stage)
    assert stages.count("before_start") >= 4


def test_a_long_launch_reaches_its_process(daemon: DaemonProcess, client: Client) -> None:
    """Parameters may be longer than what a socket takes at once."""
    for count in (10, 100_000, 3_000_000):
        job = client.wait(client.submit("length", {"text": "x" * count}).id, 20)
        assert (job.state, job.result) == (State.COMPLETED, count)


def test_without_spares_all_is_as_ever(make_daemon: MakeDaemon) -> None:
    """Each process is forked when it is needed."""
    daemon = make_daemon("--jobs", "children.spared", "--spares", "0")
    daemon.start()
    with daemon.client() as client:
        jobs = [client.wait(client.submit("who").id, 20) for _ in range(3)]
        assert len({msgspec.convert(job.result, dict)["pid"] for job in jobs}) == 3
        (zygote,) = zygotes(daemon)
        wait_until(lambda: not zygote.children(), "no process to be left")


def test_one_that_is_killed_leaves_nothing(daemon: DaemonProcess, client: Client) -> None:
    """Also in the middle of its rehearsal, and together with its zygote."""
    rehearsals = daemon.runtime_dir / "rehearsal"
    for number in range(4):
        for pid in spares(daemon):
            os.kill(pid, signal.SIGKILL)
        client.wait(client.submit("who").id, 20)
        wait_until(lambda: any(rehearsals.iterdir()) or len(spares(daemon)) == 2, "one to rehearse")
        for pid in [*(int(path.name) for path in rehearsals.iterdir()), *([zygotes(daemon)[0].pid] * (number % 2))]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        for _ in range(2):  # the first may still get a spare of the zygote that has died
            client.wait(client.submit("who").id, 20)
        wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
    wait_until(lambda: not any(rehearsals.iterdir()), "nothing to be left of rehearsals")
    _wait_for_groups(daemon, client)


def _wait_for_groups(daemon: DaemonProcess, client: Client) -> None:
    """Until only spares have cgroups."""
    parent = find_cgroup()
    if client.ping().tree != "cgroup" or parent is None:
        return
    groups = parent / daemons_group(daemon.state_dir)

    def left() -> list[int]:
        return sorted(int(path.name.partition(".")[0]) for path in groups.iterdir() if path.is_dir())

    wait_until(lambda: left() == spares(daemon), "no cgroups to be left but those of spares")


def test_jobs_wait_where_there_are_no_descriptors(daemon: DaemonProcess, client: Client) -> None:
    """Those that have been admitted hold some. None fails for that, none waits for ever; and of
    processes that nobody could get hold of no cgroup is left.
    """
    pid = client.ping().pid
    few = len(list(Path(f"/proc/{pid}/fd").iterdir())) + 5
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
    jobs = [one.job for one in client.submit_many([{"type": "who"}] * 30) if one.job]
    for job in jobs:
        assert client.wait(job.id, 30).state is State.COMPLETED
    wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
    _wait_for_groups(daemon, client)


def test_local_time_is_the_daemons(make_daemon: MakeDaemon) -> None:
    """TZ is one of the variables that jobs are given, and zygotes are not."""
    daemon = make_daemon("--jobs", "children.spared", env={"TZ": "JST-9"})
    daemon.start()
    with daemon.client() as client:
        for _ in range(2):
            assert msgspec.convert(client.wait(client.submit("who").id, 20).result, dict)["offset"] == "+0900"


def test_an_idle_daemon_does_not_wake_up(daemon: DaemonProcess, client: Client) -> None:
    """Neither it nor what it keeps ready: their voluntary context switches stand still."""
    client.ping()
    everyone = [client.ping().pid, *(one.pid for one in zygotes(daemon)), *spares(daemon)]

    def switches() -> dict[str, str]:
        return {
            f"{pid}/{thread.name}": _switched(thread)
            for pid in everyone
            for thread in Path(f"/proc/{pid}/task").iterdir()
        }

    before = switches()
    with pytest.raises(AssertionError, match="to wake up"):
        wait_until(lambda: switches() != before, "anybody to wake up", timeout_s=2.0)


def _switched(thread: Path) -> str:
    return next(line for line in (thread / "status").read_text().splitlines() if line.startswith("voluntary"))


def test_spares_of_a_daemon_that_died_leave_no_cgroup(daemon: DaemonProcess, client: Client) -> None:
    """The next one removes what they had, and what was rehearsed."""
    daemon.kill()
    daemon.start()
    with daemon.client() as again:
        assert again.wait(again.submit("who").id, 20).state is State.COMPLETED
        wait_until(lambda: len(spares(daemon)) == 2, "the spares to be there")
        assert list((daemon.runtime_dir / "rehearsal").iterdir()) == []
        for pid in spares(daemon):
            one = proc.stat(pid)
            assert one is not None
            assert one.session == pid
