"""The wall clock is set, forth and back, under a real daemon: no deadline changes by that, in its life or across it.

Time-outs and graces are either too long to be over within a test, or so short that a test sees their end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annul_client import CancelOutcome, Client, Job, Stage, State
from harness import TESTS, DaemonProcess, alive, started, wait_until

DAY_S = 86_400.0


class Clockwork:
    """A daemon, and the wall clock that it looks at. See jumping/sitecustomize.py."""

    def __init__(self, make_daemon: Callable[..., DaemonProcess], folder: Path) -> None:
        self._hook = folder / "hook"
        self._hook.mkdir()
        shutil.copy(TESTS / "jumping" / "sitecustomize.py", self._hook)
        path = os.pathsep.join(filter(None, [str(self._hook), str(TESTS), os.environ.get("PYTHONPATH")]))
        self.daemon = make_daemon("--max-running", "8", env={"PYTHONPATH": path})
        self.daemon.start()

    def jump(self, seconds: float) -> None:
        """Set the wall clock to that much after, or before, the real time."""
        part = self._hook / "part"
        part.write_text(str(seconds))
        part.rename(self._hook / "wrong_by")

    def crash(self, jump: float) -> None:
        """The clock is set while no daemon runs."""
        self.daemon.kill()
        self.jump(jump)
        self.daemon.start()


@pytest.fixture
def clockwork(make_daemon: Callable[..., DaemonProcess], short_dir: Path) -> Clockwork:
    return Clockwork(make_daemon, short_dir)


def assert_on_time(client: Client, later: Job, soon: Job) -> None:
    """The one with a short time-out is over, by that; the one with a long one runs on."""
    ended = client.wait(soon.id, 20)
    assert (ended.state, ended.error and ended.error.code) == (State.FAILED, "timeout")
    assert client.get(later.id).state is State.RUNNING
    assert later.pid is not None
    assert alive(later.pid)


@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_a_time_out_does_not_change(clockwork: Clockwork, jump: float) -> None:
    """Neither in the daemon that started the job, nor in the next one."""
    with clockwork.daemon.client() as client:
        later = started(client, "sleepy", "sleeping", timeout_s=3600)
        soon = started(client, "sleepy", "sleeping", timeout_s=0.5)
        clockwork.jump(jump)
        assert_on_time(client, later, soon)
        soon = started(client, "sleepy", "sleeping", timeout_s=1.5)
    clockwork.crash(0)  # for the next daemon, it jumps back
    with clockwork.daemon.client() as client:
        assert_on_time(client, later, soon)


@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_what_is_left_of_a_time_out_is_what_was_left(clockwork: Clockwork, jump: float) -> None:
    """Across a restart: a job that is older than its time-out is over at once, however young it looks."""
    with clockwork.daemon.client() as client:
        client.wait(client.submit("quick").id, 20)  # the zygote is there: its start counts as the job's
        job = started(client, "sleepy", "sleeping", timeout_s=1.0)
        assert job.started_at is not None
        clockwork.daemon.kill()
        wait_until(lambda: datetime.now(UTC) - job.started_at > timedelta(seconds=1.2), "its time to be over")  # type: ignore[operator]
        clockwork.jump(jump)
        clockwork.daemon.start()
        ended = client.wait(job.id, 20)
    assert ended.error is not None
    assert ended.error.code == "timeout"
    assert ended.cancel is not None
    assert ended.started_at == job.started_at


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_a_grace_does_not_change(clockwork: Clockwork, tmp_path: Path, jump: float, crash: bool) -> None:
    """A long one is not cut short, and a short one ends."""
    with clockwork.daemon.client() as client:
        jobs = [
            started(client, "stubborn", "ignoring", {"mark": str(tmp_path / name)}) for name in ("patient", "short")
        ]
        for job, grace_s in zip(jobs, (3600, 0.5), strict=True):
            assert client.cancel(job.id, grace_s=grace_s).outcome is CancelOutcome.CANCELLING
        if crash:
            clockwork.crash(jump)
        else:
            clockwork.jump(jump)
        patient, short = jobs[0], client.wait(jobs[1].id, 20)
        assert short.cancel is not None
        assert (short.state, short.cancel.stage) == (State.CANCELLED, Stage.SIGKILL)
        assert client.get(patient.id).state is State.CANCELLING
        assert patient.pid is not None
        assert alive(patient.pid)
        client.cancel(patient.id, grace_s=0)
        assert client.wait(patient.id, 20).state is State.CANCELLED


@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_a_retry_does_not_come_earlier_or_later(clockwork: Clockwork, jump: float) -> None:
    """Its back-off is a duration."""
    with clockwork.daemon.client() as client:
        later = client.submit("retried-later")
        soon = client.submit("shaky")
        wait_until(lambda: client.get(later.id).error is not None, "the first attempt to fail")
        clockwork.jump(jump)
        assert client.wait(soon.id, 20).state is State.COMPLETED
        assert client.wait(client.submit("shaky").id, 20).state is State.COMPLETED
        assert (client.get(later.id).state, client.get(later.id).attempt) == (State.QUEUED, 1)


def test_a_retry_is_not_put_off_for_a_day_by_a_restart(clockwork: Clockwork) -> None:
    """Across daemons its time is kept by the wall clock, and is then no longer away than the longest back-off."""
    clockwork.jump(DAY_S)
    with clockwork.daemon.client() as client:
        job = client.submit("retried-later")
        wait_until(lambda: client.get(job.id).error is not None, "the first attempt to fail")
        clockwork.crash(0)
        clockwork.jump(3700)  # an hour later
        assert client.ping().queued == 1 or client.get(job.id).attempt == 2
        assert client.wait(job.id, 20).attempt == 2


def test_a_time_of_day_is_one_by_the_wall_clock(clockwork: Clockwork) -> None:
    """`not_before` is the exception: it is an appointment, not a duration."""
    with clockwork.daemon.client() as client:
        job = client.submit("quick", not_before=datetime.now(UTC) + timedelta(days=1))
        clockwork.jump(-DAY_S)
        soon = client.submit("quick", not_before=datetime.now(UTC) - timedelta(seconds=1))
        assert client.wait(client.submit("quick").id, 20).state is State.COMPLETED
        assert [client.get(one.id).state for one in (job, soon)] == [State.QUEUED, State.QUEUED]
        clockwork.jump(2 * DAY_S)
        assert client.wait(client.submit("quick").id, 20).state is State.COMPLETED  # and the daemon has looked
        assert [client.wait(one.id, 20).state for one in (job, soon)] == [State.COMPLETED, State.COMPLETED]


@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_whoever_waits_is_told_in_time(clockwork: Clockwork, jump: float) -> None:
    """Of a `wait`, and by it."""
    with clockwork.daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        clockwork.jump(jump)
        with pytest.raises(TimeoutError):
            client.wait(job.id, 0.2)
        assert client.cancel(job.id).outcome is CancelOutcome.CANCELLING
        ended = client.wait(job.id, 20)
    assert ended.cancel is not None
    assert ended.cancel.gone_s is not None
    assert 0 <= ended.cancel.gone_s < 20
