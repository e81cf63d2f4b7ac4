"""What the kernel does not kill, for real: a process frozen by a version 1 freezer cgroup stays through SIGKILL.

It is in an uninterruptible sleep (state D) and dies when it is thawed, not before; so does one that waits for a dead
disk or network file system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul_client import CancelOutcome, Client, Job, Stage, State
from harness import DaemonProcess, alive, processes_with, wait_until

MakeDaemon = Callable[..., DaemonProcess]


def find_freezer() -> Path | None:
    """Where the version 1 freezer is mounted, see cgroups(7); None where it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind == "cgroup" and "freezer" in options.split(","):
            return Path(before.split()[4])
    return None


class Freezer:
    """A freezer group of the test's own."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.path = mount / f"annul-t{os.getpid()}"
        self.path.mkdir()

    def freeze(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))
        (self.path / "freezer.state").write_text("FROZEN")
        wait_until(lambda: (self.path / "freezer.state").read_text() == "FROZEN\n", "the freezer to freeze")

    def thaw(self) -> None:
        (self.path / "freezer.state").write_text("THAWED")

    def close(self) -> None:
        self.thaw()
        for pid in (self.path / "cgroup.procs").read_text().split():  # where a test failed, it lives
            try:
                (self.mount / "cgroup.procs").write_text(pid)
            except OSError:
                pass  # it has ended
        wait_until(self._removed, "the freezer's group to be empty")

    def _removed(self) -> bool:
        try:
            self.path.rmdir()
        except OSError:
            return False
        return True


@pytest.fixture
def freezer(make_daemon: MakeDaemon) -> Iterator[Freezer]:
    """Thawed before the daemons are stopped, which wait for their jobs."""
    mount = find_freezer()
    if mount is None:
        pytest.skip("there is no freezer cgroup of version 1")
    try:
        made = Freezer(mount)
    except OSError as error:
        pytest.skip(f"the freezer cgroup is not ours to write: {error}")
    yield made
    made.close()


@pytest.fixture(params=["session", "cgroup"])
def daemon(request: pytest.FixtureRequest, make_daemon: MakeDaemon) -> DaemonProcess:
    """A daemon with one slot, which finds process trees this way."""
    if request.param == "cgroup":
        from annul.tree import find_cgroup

        if find_cgroup() is None:
            pytest.skip("there is no writable cgroup v2 directory for this process")
    found = make_daemon("--tree", request.param, "--max-running", "1")
    found.start()
    return found


def leader(client: Client) -> tuple[Job, int]:
    """A running job, and its only process."""
    job = client.submit("sleepy", {})
    wait_until(lambda: client.get(job.id).progress.stage == "sleeping", "it to sleep")
    job = client.get(job.id)
    assert job.pid is not None
    return job, job.pid


def member(client: Client) -> tuple[Job, int]:
    """A running command, and a process of it that is not its leader."""
    job = client.submit("exec", {"argv": ["sleep", "3600"]})
    wait_until(lambda: client.get(job.id).state is State.RUNNING, "it to run")

    def commands() -> list[int]:
        pids = processes_with(f"ANNUL_MARK={job.id}.")
        return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"]

    wait_until(commands, "the command")
    return client.get(job.id), commands()[0]


def warnings_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if "does not end after SIGKILL" in line]


def is_stuck(client: Client, job: Job) -> bool:
    found = client.get(job.id)
    assert found.state is State.CANCELLING
    return found.cancel is not None and found.cancel.stuck


@pytest.mark.parametrize("victim", [leader, member])
def test_what_the_kernel_does_not_kill_is_cancelling_until_it_is_gone(
    daemon: DaemonProcess, freezer: Freezer, victim: Callable[[Client], tuple[Job, int]]
) -> None:
    """It is called stuck, loudly, its slot is held, also by the next daemon, and it ends as `cancelled` (C3, C4)."""
    with daemon.client() as client:
        job, pid = victim(client)
        freezer.freeze(pid)
        assert client.cancel(job.id, grace_s=0.1).outcome is CancelOutcome.CANCELLING
        wait_until(lambda: is_stuck(client, job), "it to be called stuck")

        record = client.get(job.id).cancel
        assert record is not None
        assert (record.stage, record.gone_s) == (None, None)
        assert f"pid {pid} (" in record.stuck_at
        assert "state D) in " in record.stuck_at
        event = next(one for one in client.events(since=0, job_id=job.id) if one.kind == "stuck")
        assert event.job.cancel == record
        (warning,) = warnings_in(daemon.said())
        assert f"pid {pid} (" in warning
        assert alive(pid)

        # Its slot is held, and everybody is served.
        waiting = client.submit("quick", {})
        dropped = client.submit("quick", {})
        assert client.cancel(dropped.id).outcome is CancelOutcome.CANCELLED_BEFORE_START
        assert client.cancel(job.id).outcome is CancelOutcome.CANCELLING
        assert (client.ping().running, client.ping().queued) == (1, 1)
        assert client.get(waiting.id).state is State.QUEUED

    daemon.kill()
    assert alive(pid)
    daemon.start()
    with daemon.client() as client:
        assert is_stuck(client, job)  # by what the dead daemon had written
        wait_until(lambda: len(warnings_in(daemon.said())) == 2, "the new daemon to say so, too")
        assert is_stuck(client, job)
        assert (client.ping().running, client.ping().queued) == (1, 1)
        assert client.get(waiting.id).state is State.QUEUED
        assert alive(pid)

        freezer.thaw()
        job = client.wait(job.id, 60)
        assert not alive(pid)
        assert not processes_with(f"ANNUL_MARK={job.id}.")
        assert job.state is State.CANCELLED
        assert job.cancel is not None
        assert (job.cancel.stage, job.cancel.stuck) == (Stage.SIGKILL, True)
        assert f"pid {pid} (" in job.cancel.stuck_at
        assert [one.kind for one in client.events(since=0, job_id=job.id)].count("stuck") == 2  # one of each daemon
        assert client.wait(waiting.id, 60).state is State.COMPLETED
