"""What the kernel does not kill, by a fake tree and a clock that only the test moves; all the rest is real."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul import ending, proc, starting, stopping
from annul.board import Board
from annul.catalog import Catalog, stand_in
from annul.config import Config
from annul.ledger import Ledger
from annul.lifecycle import Event, StopKind
from annul.registry import Active, Registry
from annul.runtime.entry import DUMP_SIGNAL
from annul.scheduling import Limits
from annul.store import JobRecord, Store
from annul.supervision import Supervision
from annul.sweeper import Sweeper
from annul.tree import Look
from annul_client import wire
from annul_client.wire import Stage, State
from harness import wait_until

TEN_MINUTES = 600.0


class Kernel:
    """Stands for the kernel, as a tree of processes: SIGKILL ends nobody until it gives in."""

    name = "fake"

    def __init__(self, desk: Desk, pids: list[int]) -> None:
        self.desk = desk
        self.pids = pids
        self.killed: list[float] = []

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        return Look(list(self.pids))

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        self.killed.append(self.desk.now)
        return Look(list(self.pids))

    def remove(self) -> None:
        """Nothing to free."""


class Desk:
    """A supervision with one slot, in which a job runs that will not die, and the clock."""

    def __init__(self, base: Path) -> None:
        self.now = 1000.0
        self.told: list[wire.Event] = []
        self.config = Config(state_dir=base, runtime_dir=base, outputs_dir=base / "users")
        self.store = Store(base / "annul.db")
        self.ledger = Ledger(self.store, outputs_dir="/out", keep_events=1000, tell=lambda e, _: self.told.append(e))
        self.registry = Registry(Limits(total=1))
        self.supervision = Supervision(
            config=self.config,
            clock=self,
            catalog=Catalog([]),
            registry=self.registry,
            ledger=self.ledger,
            sweeper=Sweeper(),
            cgroup=None,
        )
        # It ignores what is sent to it for real, as one in an uninterruptible call does.
        self.process = subprocess.Popen(["sh", "-c", f"trap '' TERM {DUMP_SIGNAL:d}; exec sleep 1000"])
        wait_until(lambda: Path(f"/proc/{self.process.pid}/comm").read_text() == "sleep\n", "it to be exec'ed")
        wait_until(lambda: (one := proc.stat(self.process.pid)) is not None and one.state == "S", "it to sleep")
        self.active = self._hold(base)
        self.kernel = self.active.tree
        self.other = self._submit(2, State.QUEUED)
        starting.enqueue(self.supervision, self.other)
        self.commit()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now

    def _submit(self, seq: int, state: State) -> JobRecord:
        given: dict[str, Any] = {"request": None, "key": None, "timeout_s": None, "not_before": None}
        record = JobRecord(
            seq=seq,
            id=f"j{seq}",
            type="t",
            user="ann",
            digest=b"",
            title="",
            labels={},
            priority=0,
            params=msgspec.Raw(b"{}"),
            submitted_by="cli",
            state=state,
            attempt=int(state is State.RUNNING),
            created_at=self.wall(),
            **given,
        )
        return self.ledger.change(record, state, insert=True)

    def _hold(self, base: Path) -> Active:
        record = self._submit(1, State.RUNNING)
        run_dir = base / "jobs" / "j1.1"
        run_dir.mkdir(parents=True)
        board = Board.create(run_dir / "board")
        board.stamp_running(1)
        tree = Kernel(self, [self.process.pid])
        active = Active(record, stand_in("t"), board, tree, run_dir, self.supervision.attempt_dir(record))
        active.pid = self.process.pid
        active.pidfd = os.pidfd_open(active.pid)
        self.registry.hold(active)
        return active

    def commit(self) -> None:
        self.ledger.commit(self.now)

    def cancel(self, kind: StopKind = StopKind.CANCEL, grace_s: float = 5.0) -> None:
        event = Event.CANCEL if kind is StopKind.CANCEL else Event.TIMEOUT
        stopping.begin(self.supervision, self.active, event, kind, reason="why", by="me", grace_s=grace_s)
        self.commit()

    def wait(self, seconds: float) -> None:
        """As the loop does, wake up at each deadline, and only then."""
        end = self.now + seconds
        while (due := self.supervision.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.supervision.act_on_deadlines()
            self.commit()
        self.now = end

    def give_in(self) -> None:
        """The kernel ends it at last, and the poll says so."""
        self.process.kill()
        self.process.wait()
        self.kernel.pids.clear()
        ending.leader_ended(self.supervision, self.active)
        self.commit()

    def job(self, job_id: str = "j1") -> JobRecord:
        found = self.store.job(job_id)
        assert found is not None
        return found

    def kinds(self) -> list[str]:
        return [event.kind for event in self.told if event.job.id == "j1"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for active in list(self.registry.active.values()):
            self.registry.free(active)
        self.store.close()


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
    assert 0 <= first < 0.01  # in which its Python stacks are asked for
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
