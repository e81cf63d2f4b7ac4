"""A supervision as the daemon has it, over a fake tree and a clock that only the test moves; all the rest is real."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from annul_client.wire import State
from harness import wait_until
from records import record


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
        self.other = self.submit(2, State.QUEUED)
        starting.enqueue(self.supervision, self.other)
        self.commit()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now

    def submit(self, seq: int, state: State) -> JobRecord:
        return self.ledger.change(self.record(seq, state), state, insert=True)

    def record(self, seq: int, state: State) -> JobRecord:
        return record(seq, state=state, attempt=int(state is State.RUNNING), created_at=self.wall())

    def _hold(self, base: Path) -> Active:
        running = self.submit(1, State.RUNNING)
        run_dir = base / "jobs" / "j1.1"
        run_dir.mkdir(parents=True)
        board = Board.create(run_dir / "board")
        board.stamp_running(1)
        tree = Kernel(self, [self.process.pid])
        active = Active(running, stand_in("t"), board, tree, run_dir, self.supervision.attempt_dir(running))
        active.pid = self.process.pid
        active.pidfd = os.pidfd_open(active.pid)
        self.registry.hold(active)
        return active

    def commit(self) -> None:
        self.supervision.commit()

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
        self.end()
        ending.look(self.supervision, self.active)
        self.commit()

    def end(self) -> None:
        """It has ended, which is noted and not looked at yet."""
        self.process.kill()
        self.process.wait()
        self.kernel.pids.clear()
        ending.note_end(self.supervision, self.active)

    def job(self, job_id: str = "j1") -> JobRecord:
        found = self.store.job(job_id)
        assert found is not None
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The store takes no writes."""
        other = sqlite3.connect(self.store.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.told if event.job.id == "j1"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for active in list(self.registry.active.values()):
            self.registry.free(active)
        self.store.close()
