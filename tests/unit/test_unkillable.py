"""What the kernel does not kill, by a fake tree and a clock that only the test moves; all the rest is real."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from annul import ending, starting
from annul.lifecycle import StopKind
from annul_client.wire import Stage, State
from desk import Desk

TEN_MINUTES = 600.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if getattr(one, "action", "") == "stuck"]


def test_sigkill_is_repeated_ever_less_often_and_never_given_up(desk: Desk) -> None:
    """From the deadline on the kernel is asked again, in the end every 32 seconds (C4)."""
    desk.cancel(grace_s=5.0)
    desk.wait(4.99)
    assert desk.kernel.killed == []
    desk.wait(TEN_MINUTES)
    first = desk.kernel.killed[0] - 1005.0
    assert 0 <= first < 1e-6
    gaps = [b - a for a, b in itertools.pairwise(desk.kernel.killed)]
    assert gaps == sorted(gaps)
    backed_off = [round(gap) for gap in gaps if gap > 0.9]
    assert backed_off[:6] == [1, 2, 4, 8, 16, 32]
    assert set(backed_off[5:]) == {32}
    assert desk.job().state is State.CANCELLING


def test_it_is_told_once_where_it_is_stuck(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """One event, one warning, and in the record the process, its kernel wait channel and stack (C4)."""
    with caplog.at_level(logging.WARNING):
        desk.cancel()
        desk.wait(TEN_MINUTES)
    assert desk.kinds() == ["running", "cancelling", "stuck"]
    (warning,) = warnings_of(caplog)
    record = desk.job().cancel
    assert record is not None
    assert record.stuck
    assert (record.gone_s, record.stage) == (None, None)
    pid = desk.process.pid
    channel = Path(f"/proc/{pid}/wchan").read_text()
    for said in (warning, record.stuck_at):
        assert f"pid {pid} (sleep, state S) in {channel}" in said
        if os.geteuid() == 0:  # else the kernel does not tell
            assert "nanosleep+0x" in said


def test_its_slot_is_held_and_nobody_is_admitted_in_its_place(desk: Desk) -> None:
    """Slots in use are jobs alive, however long that takes (C3)."""
    desk.cancel()
    for _ in range(20):
        desk.wait(30.0)
        starting.admit(desk.supervision)
        assert desk.registry.running.total == 1
        assert "j2" in desk.registry.queue
    desk.give_in()
    assert desk.registry.running.total == 0
    first = desk.registry.queue.admit(desk.registry.running, desk.registry.limits, desk.wall())
    assert first is not None
    assert first.id == "j2"


def test_it_becomes_cancelled_when_the_kernel_gives_in_and_the_record_keeps_that_it_was_stuck(desk: Desk) -> None:
    """The end is by SIGKILL, the first of which is the one that counts, and what was seen meanwhile stays."""
    desk.cancel(grace_s=5.0)
    desk.wait(TEN_MINUTES)
    seen = desk.job().cancel
    desk.give_in()
    job = desk.job()
    assert job.state is State.CANCELLED
    record = job.cancel
    assert seen is not None
    assert record is not None
    assert (record.stage, record.stuck, record.stuck_at) == (Stage.SIGKILL, True, seen.stuck_at)
    assert record.sigkill_s == pytest.approx(5.0, abs=0.01)
    assert record.gone_s == pytest.approx(TEN_MINUTES)
    assert desk.kinds() == ["running", "cancelling", "stuck", "cancelled"]


def test_a_cancel_of_one_that_is_stuck_after_its_time_out_keeps_that(desk: Desk) -> None:
    """The stronger reason takes over; what is known of where it is stuck is not lost with the weaker one."""
    desk.cancel(StopKind.TIMEOUT, grace_s=1.0)
    desk.wait(TEN_MINUTES)
    assert desk.job().state is State.RUNNING
    before = len(desk.kernel.killed)
    desk.cancel(grace_s=60.0)
    record = desk.job().cancel
    assert desk.job().state is State.CANCELLING
    assert record is not None
    assert (record.kind, record.stuck) == ("cancel", True)
    assert f"pid {desk.process.pid} " in record.stuck_at
    desk.wait(TEN_MINUTES)
    assert TEN_MINUTES / 32 - 1 < len(desk.kernel.killed) - before < TEN_MINUTES / 32 + 1  # no second escalation
    desk.give_in()
    assert desk.job().state is State.CANCELLED
    assert desk.kinds().count("stuck") == 1


def test_a_thousand_that_are_stuck_make_no_endless_record(desk: Desk) -> None:
    """Ten are described, the others counted."""
    desk.kernel.pids += range(2**22, 2**22 + 999)  # no process has these pids
    desk.cancel(grace_s=0)
    desk.wait(10.0)
    record = desk.job().cancel
    assert record is not None
    assert len(record.stuck_at.splitlines()) == 11
    assert record.stuck_at.endswith("and 990 more")
    assert "(gone meanwhile)" in record.stuck_at


def test_what_a_completed_job_left_behind_and_the_kernel_does_not_end_is_told_too(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The same back-off, one event, one warning; the slot is held. A cancel that comes then has it in its record."""
    ending.note_end(desk.supervision, desk.active)
    desk.active.ended = True
    with caplog.at_level(logging.WARNING):
        ending.look(desk.supervision, desk.active)
        desk.commit()
        desk.wait(TEN_MINUTES)
    gaps = [round(b - a) for a, b in itertools.pairwise(desk.kernel.killed) if b - a > 0.9]
    assert gaps[:6] == [1, 2, 4, 8, 16, 32]
    assert set(gaps[5:]) == {32}
    (warning,) = warnings_of(caplog)
    assert f"pid {desk.process.pid} (sleep, state S)" in warning
    assert desk.kinds() == ["running", "stuck"]
    assert desk.registry.running.total == 1
    desk.cancel(grace_s=1.0)
    desk.wait(TEN_MINUTES)
    record = desk.job().cancel
    assert record is not None
    assert record.stuck
    assert desk.kinds() == ["running", "stuck", "cancelling", "stuck"]
    desk.give_in()
    assert desk.job().state is State.CANCELLED
