"""What is kept: each user's newest, and what ended not too long ago; found in small steps, and no sooner than due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import records
from annul.ledger import Ledger
from annul.leftovers import Leftovers
from annul.retention import _STEP, Retention
from annul.store import JobRecord, Store
from annul.sweeper import Sweeper
from annul_client.wire import State

DAY_S = 86_400.0


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1e9


def record(seq: int, **values: Any) -> JobRecord:
    """A job that has completed."""
    return records.record(seq, **{"state": State.COMPLETED, "created_at": 1.0, "finished_at": 1e9 + seq} | values)


class Desk:
    """A retention over a real store and ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.store = Store(path)
        self.deleted: list[str] = []
        self.made(keep_jobs=0, keep_days=0)

    def made(self, *, keep_jobs: int, keep_days: float) -> None:
        self.ledger = Ledger(
            self.store, outputs_dir="/", keep_events=1000, tell=lambda e, _: self.finished(e.job.state, e.job.user)
        )
        self.retention = Retention(
            self.store,
            self.ledger,
            self.clock,
            keep_jobs=keep_jobs,
            keep_days=keep_days,
            deleted=self.deleted.append,
        )

    def finished(self, state: State, user: str) -> None:
        if state.final:
            self.retention.note_finished(user)

    def have(self, *records: JobRecord) -> None:
        """Jobs that are in the store before the daemon starts."""
        for one in records:
            self.store.insert(one)
        self.store.commit()

    def end(self, one: JobRecord) -> None:
        """A job that becomes final now."""
        self.ledger.change(one, str(one.state), insert=True)
        self.ledger.commit(self.clock.now)

    def turn(self) -> None:
        self.retention.step()
        self.ledger.commit(self.clock.now)

    def tidy(self) -> None:
        """Turns, for as long as something is due."""
        for _ in range(1000):
            due = self.retention.next_due()
            if due is None or due > self.clock.now:
                return
            self.turn()
        pytest.fail("it never comes to rest")

    def kept(self) -> list[str]:
        return [one.id for piece in self.store.jobs(user=None, state=None, type_=None, label={}, limit=10**6)
                for one in reversed(piece)]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "annul.db")
    yield made
    made.store.close()


def test_without_limits_everything_is_kept_and_nothing_is_ever_due(desk: Desk) -> None:
    """0 is no limit, and costs no wake-up."""
    desk.have(*(record(n) for n in range(1, 10)))
    assert desk.retention.next_due() is None
    desk.end(record(10))
    assert desk.retention.next_due() is None
    desk.turn()
    assert len(desk.kept()) == 10


def test_each_user_keeps_the_newest_that_have_ended(desk: Desk) -> None:
    """By when they ended, not by when they were submitted; what is live does not count and is not touched."""
    desk.have(
        record(1, finished_at=1e9 + 50),
        *(record(n) for n in range(2, 6)),
        record(6, user="bob"),
        record(7, state=State.RUNNING, finished_at=None),
        record(8, state=State.QUEUED, finished_at=None),
    )
    desk.made(keep_jobs=2, keep_days=0)
    desk.tidy()
    assert sorted(desk.kept()) == ["j1", "j5", "j6", "j7", "j8"]
    assert sorted(desk.deleted) == ["j2", "j3", "j4"]
    assert desk.retention.next_due() is None


def test_a_job_that_ends_pushes_the_oldest_out(desk: Desk) -> None:
    """Of its user only; and until there are too many nothing is due."""
    desk.made(keep_jobs=3, keep_days=0)
    desk.tidy()
    for seq in range(1, 4):
        desk.end(record(seq))
        desk.tidy()
        desk.end(record(100 + seq, user="bob"))
        desk.tidy()
    assert desk.retention.next_due() is None
    assert desk.deleted == []
    desk.end(record(4))
    assert desk.retention.next_due() is not None
    desk.tidy()
    assert desk.deleted == ["j1"]
    desk.end(record(5, state=State.RUNNING, finished_at=None))
    assert desk.retention.next_due() is None


def test_many_are_purged_a_few_at_a_time(desk: Desk) -> None:
    """No step takes more than its share, whatever a lowered limit leaves to do."""
    desk.have(*(record(n) for n in range(1, 4 * _STEP)))
    desk.made(keep_jobs=1, keep_days=0)
    before = len(desk.kept())
    while desk.retention.next_due() is not None:
        desk.turn()
        now = len(desk.kept())
        assert before - now <= _STEP
        before = now
    assert before == 1


def test_limits_that_change_while_it_runs(desk: Desk) -> None:
    """A lower one takes effect on all users; none at all keeps what was about to go."""
    desk.made(keep_jobs=3, keep_days=0)
    desk.tidy()
    for seq in range(1, 4):
        desk.end(record(seq))
        desk.end(record(100 + seq, user="bob"))
    desk.tidy()
    assert desk.deleted == []
    desk.retention.keep(2, 0)
    desk.tidy()
    assert sorted(desk.deleted) == ["j1", "j101"]
    desk.end(record(4))
    assert desk.retention.next_due() is not None
    desk.retention.keep(0, 0)
    assert desk.retention.next_due() is None
    desk.turn()
    assert len(desk.deleted) == 2


def test_what_ended_too_long_ago_goes_when_it_is_due(desk: Desk) -> None:
    """Of all users; the next time to wake up is when the oldest that is left gets too old."""
    desk.have(*(record(n, user=f"u{n}", finished_at=1e9 + 100 * n) for n in range(1, 4)))
    desk.made(keep_jobs=0, keep_days=1)
    desk.tidy()
    assert desk.deleted == []
    assert desk.retention.next_due() == 100 + DAY_S
    desk.clock.now = 200 + DAY_S
    desk.tidy()
    assert desk.deleted == ["j1", "j2"]
    assert desk.retention.next_due() == 300 + DAY_S
    desk.clock.now = 300 + DAY_S
    desk.tidy()
    assert desk.kept() == []
    assert desk.retention.next_due() is None
    desk.end(record(9, finished_at=desk.clock.wall()))
    assert desk.retention.next_due() == desk.clock.now + DAY_S


def test_outputs_that_are_still_to_be_published_keep_their_job(desk: Desk) -> None:
    """What is staged is all there is of them; the search does not stop at such a job, nor begin anew for ever."""
    desk.have(*(record(n, published=n > 2) for n in range(1, 6)))
    desk.made(keep_jobs=1, keep_days=0.001)
    desk.clock.now += DAY_S
    desk.tidy()
    assert sorted(desk.kept()) == ["j1", "j2"]


def test_a_store_that_refuses_is_asked_again_later(desk: Desk) -> None:
    """Nothing is lost by it: what was to go goes once the store takes writes again."""
    desk.have(*(record(n) for n in range(1, 4)))
    desk.made(keep_jobs=1, keep_days=0)
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    while (due := desk.retention.next_due()) is not None and due <= desk.clock.now:
        desk.turn()
    assert due is not None
    assert desk.deleted == []
    other.execute("ROLLBACK")
    other.close()
    desk.clock.now = due
    desk.tidy()
    assert desk.kept() == ["j3"]


def test_what_somebody_else_purges_is_counted(desk: Desk) -> None:
    """Two of three are purged by hand: two more may end before anything goes by itself."""
    desk.made(keep_jobs=3, keep_days=0)
    for seq in range(1, 4):
        desk.end(record(seq))
    desk.tidy()
    answers: list[bool] = []
    for job_id in ("j1", "j2", "j2", "nosuch"):
        desk.retention.purge(job_id, "ann", then=answers.append, refused=lambda error: pytest.fail(str(error)))
    desk.ledger.commit(0.0)
    assert answers == [True, True, False, False]
    for seq in range(4, 6):
        desk.end(record(seq))
        desk.tidy()
    assert desk.deleted == ["j1", "j2"]


@pytest.mark.parametrize(
    "query", ["oldest_finished", "oldest_finished_of_user", "next_user", "count_finished", "queued", "unfinished"]
)
def test_what_is_looked_for_at_every_turn_or_start_is_found_by_an_index(desk: Desk, query: str) -> None:
    """No history is gone through, and nothing is sorted."""
    values = {"user": "u", "limit": 5, "after": "", "most": 5, "retry_by": 0.0}
    plan = [row[3] for row in desk.store._db.execute(f"EXPLAIN QUERY PLAN {desk.store._queries[query]}", values)]
    about = [step for step in plan if "job" in step]
    assert about
    assert all("INDEX" in step for step in about), plan
    assert not [step for step in plan if "TEMP B-TREE" in step and query != "unfinished"], plan


def test_directories_of_unknown_jobs_are_swept_a_few_at_a_time(desk: Desk, tmp_path: Path) -> None:
    """Left by a crash between a row and its directory; those of known jobs stay."""
    jobs = tmp_path / "jobs"
    for number in range(1, 301):
        (jobs / f"j{number}" / "1").mkdir(parents=True)
    desk.have(*(record(n) for n in range(1, 11)))
    sweeper = Sweeper()
    leftovers = Leftovers(jobs, desk.store, sweeper)
    steps = 0
    while leftovers.waiting:
        leftovers.step()
        steps += 1
    while sweeper.waiting:
        sweeper.step()
    assert steps > 3
    assert sorted(path.name for path in jobs.iterdir()) == sorted(f"j{n}" for n in range(1, 11))
