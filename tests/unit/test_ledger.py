"""The ledger, over a real store that another connection locks: requests are refused, facts wait and stay in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul.errors import StoreError
from annul.ledger import Ledger
from annul.store import JobRecord, Store
from annul_client.wire import Event, State
from records import record


class Desk:
    """A ledger, what it told, and a second connection that can lock its store."""

    def __init__(self, path: Path, keep_events: int = 100_000) -> None:
        self.path = path
        self.store = Store(path)
        self.told: list[Event] = []
        self.log: list[str] = []
        self.ledger = Ledger(self.store, outputs_dir="/out", keep_events=keep_events, tell=self._tell)
        self.now = 0.0

    def _tell(self, event: Event, body: bytes) -> None:
        assert msgspec.msgpack.decode(body, type=Event) == event
        assert self.store.events_since(event.seq - 1, None, 1) == [body], "told before it was durable"
        self.told.append(event)
        self.log.append(f"told {event.job.id} {event.kind}")

    def note(self, text: str) -> Callable[..., None]:
        return lambda *_: self.log.append(text)

    def submit(self, seq: int, **values: Any) -> JobRecord:
        one = record(seq, **values)
        return self.ledger.change(
            one, "queued", insert=True, then=self.note(f"then {one.id}"), refused=self.note(f"refused {one.id}")
        )

    def fact(self, one: JobRecord, state: State) -> JobRecord:
        return self.ledger.change(one.with_(state=state), str(state))

    def commit(self) -> None:
        self.now += 1.0
        self.ledger.commit(self.now)

    def restart(self) -> None:
        """As a new daemon would."""
        self.store.close()
        self.store = Store(self.path)
        self.ledger = Ledger(self.store, outputs_dir="/out", keep_events=100_000, tell=self._tell)

    @contextmanager
    def locked(self) -> Iterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    def stored(self, one: JobRecord) -> JobRecord:
        """What a new daemon knows of it."""
        found = self.store.job(one.id)
        assert found is not None
        return found

    def state(self, job_id: str) -> State | None:
        found = self.store.job(job_id)
        return found.state if found else None


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "annul.db")
    yield made
    made.store.close()


# --- a store that takes writes ------------------------------------------------------------------------------


def test_nothing_is_told_before_the_commit(desk: Desk) -> None:
    """First it is durable, then who asked is answered, then everybody hears of it."""
    desk.submit(1)
    assert desk.ledger.waiting
    assert (desk.state("j1"), desk.log) == (None, [])
    desk.commit()
    assert desk.state("j1") is State.QUEUED
    assert desk.log == ["then j1", "told j1 queued"]
    assert not desk.ledger.waiting


def test_facts_are_seen_at_once_by_who_asks_the_ledger(desk: Desk) -> None:
    """Also by key and by request, before anything is committed."""
    one = desk.submit(1, key="k", request="r")
    assert desk.ledger.newest("j1") is one
    assert desk.ledger.by_key("ann", "k") is one
    assert desk.ledger.by_request("r") is one
    assert desk.ledger.by_key("bob", "k") is None
    running = desk.fact(one, State.RUNNING)
    assert desk.ledger.newest("j1") is running
    assert desk.ledger.by_key("ann", "k") is running
    desk.commit()
    found = desk.ledger.by_key("ann", "k")
    assert found is not None
    assert (found.state, found.events) == (State.RUNNING, 2)


def test_events_have_numbers_without_gaps_over_all_jobs_and_in_each(desk: Desk) -> None:
    """Across turns, and across a restart."""
    one, two = desk.submit(1), desk.submit(2)
    desk.commit()
    one = desk.fact(one, State.STARTING)
    two = desk.fact(two, State.STARTING)
    one = desk.fact(one, State.RUNNING)
    desk.commit()
    desk.restart()
    desk.fact(desk.stored(two), State.RUNNING)
    desk.fact(desk.stored(one), State.FAILED)
    desk.commit()
    assert [event.seq for event in desk.told] == list(range(1, 8))
    assert [event.job_seq for event in desk.told if event.job.id == "j1"] == [1, 2, 3, 4]
    assert [event.job_seq for event in desk.told if event.job.id == "j2"] == [1, 2, 3]
    assert (desk.ledger.oldest_event, desk.ledger.last_event) == (1, 7)
    assert desk.ledger.next_seq() == 3


def test_a_change_without_an_event_tells_nobody_and_takes_no_number(desk: Desk) -> None:
    """Its further writes belong to the same transaction."""
    one = desk.submit(1)
    desk.commit()
    desk.ledger.change(one, None, extra=lambda store: store.insert_attempt("j1", 1, "boot", 2, 3))
    desk.commit()
    assert desk.store.attempt("j1", 1) == ("boot", 2, 3)
    assert desk.ledger.last_event == 1
    assert len(desk.told) == 1


def test_what_is_noted_while_it_is_told_is_the_next_turns(desk: Desk) -> None:
    """And is seen at once."""
    one = record(1)
    desk.ledger.change(one, "queued", insert=True, then=lambda _: desk.fact(one, State.STARTING))
    desk.commit()
    newest = desk.ledger.newest("j1")
    assert newest is not None
    assert (desk.state("j1"), newest.state) == (State.QUEUED, State.STARTING)
    assert desk.ledger.waiting
    desk.commit()
    assert desk.state("j1") is State.STARTING


def test_an_events_job_is_as_it_was_then_without_its_result(desk: Desk) -> None:
    """Later facts of the same turn do not show in earlier events."""
    one = desk.submit(1)
    desk.fact(one.with_(result=msgspec.Raw(b"1")), State.COMPLETED)
    desk.commit()
    assert [(event.kind, event.job.state, event.job.result) for event in desk.told] == [
        ("queued", State.QUEUED, None),
        ("completed", State.COMPLETED, None),
    ]


@pytest.fixture
def full(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """With 999 events: the next one makes it forget all but ten, or as many as the test says."""
    made = Desk(tmp_path / "annul.db", keep_events=getattr(request, "param", 10))
    one = made.submit(1)
    for _ in range(998):
        made.ledger.change(one, "progress")
    made.commit()
    assert (made.ledger.oldest_event, made.ledger.last_event) == (1, 999)
    yield made
    made.store.close()


@pytest.mark.parametrize(("full", "oldest"), [(1, 1000), (10, 991), (999, 2), (1000, 1), (5000, 1)], indirect=["full"])
def test_old_events_are_forgotten_every_thousand(full: Desk, oldest: int) -> None:
    """As many as are to be kept stay, the newest always; the oldest number says where they begin."""
    full.ledger.change(full.stored(record(1)), "progress")
    full.commit()
    assert (full.ledger.oldest_event, full.ledger.last_event) == (oldest, 1000)
    assert full.store.event_bounds() == (oldest, 1000)


# --- a store that does not ----------------------------------------------------------------------------------


def test_a_request_is_refused_and_never_happened(desk: Desk) -> None:
    """Nothing of it is left to be written later, or found by id, key or request."""
    with desk.locked():
        desk.submit(1, key="k", request="r")
        desk.commit()
        assert desk.log == ["refused j1"]
        assert desk.ledger.newest("j1") is None
        assert desk.ledger.by_key("ann", "k") is None
        assert desk.ledger.by_request("r") is None
        assert not desk.ledger.waiting
    desk.commit()
    assert desk.log == ["refused j1"]
    assert desk.ledger.last_event == 0
    desk.submit(1, key="k", request="r")
    desk.commit()
    assert desk.log == ["refused j1", "then j1", "told j1 queued"]


def test_refused_is_told_why(desk: Desk) -> None:
    """With the store's own error."""
    errors: list[StoreError] = []
    with desk.locked():
        desk.ledger.change(record(1), "queued", insert=True, refused=errors.append)
        desk.commit()
    assert "locked" in str(errors[0])


def test_a_fact_stays_true_and_is_written_when_the_lock_is_gone(desk: Desk) -> None:
    """It is told only then, once, with the numbers that follow."""
    one = desk.submit(1)
    desk.commit()
    with desk.locked():
        one = desk.fact(one, State.RUNNING)
        desk.commit()
        one = desk.fact(one, State.CANCELLING)
        desk.commit()
        assert desk.ledger.newest("j1") is one
        assert desk.state("j1") is State.QUEUED
        assert len(desk.told) == 1
    desk.fact(one, State.CANCELLED)
    desk.commit()
    assert [event.kind for event in desk.told] == ["queued", "running", "cancelling", "cancelled"]
    assert [event.seq for event in desk.told] == [1, 2, 3, 4]
    assert [event.job_seq for event in desk.told] == [1, 2, 3, 4]
    assert desk.state("j1") is State.CANCELLED
    assert not desk.ledger.waiting


def test_facts_of_many_jobs_keep_their_order_and_outlast_requests(desk: Desk) -> None:
    """Requests that came with them are refused; the facts go first when writing works again."""
    first, second = desk.submit(1), desk.submit(2)
    desk.commit()
    desk.log.clear()
    with desk.locked():
        first = desk.fact(first, State.STARTING)
        desk.submit(3)
        second = desk.fact(second, State.STARTING)
        desk.commit()
        desk.submit(4)
        desk.fact(first, State.RUNNING)
        desk.commit()
        assert desk.log == ["refused j3", "refused j4"]
    desk.submit(5)
    desk.commit()
    assert desk.log[2:] == [
        "then j5" if "then" in line else line
        for line in ("told j1 starting", "told j2 starting", "told j1 running", "then j5", "told j5 queued")
    ]
    assert [event.seq for event in desk.told] == list(range(1, 7))


def test_a_time_to_try_again_is_named_while_facts_wait(desk: Desk) -> None:
    """Ever later, up to a second; none once all is written."""
    one = desk.submit(1)
    desk.commit()
    assert desk.ledger.retry_at is None
    waits = []
    with desk.locked():
        desk.fact(one, State.RUNNING)
        for _ in range(8):
            desk.commit()
            assert desk.ledger.retry_at is not None
            waits.append(round(desk.ledger.retry_at - desk.now, 6))
    assert waits[0] < 0.1
    assert waits == sorted(waits)
    assert waits[-1] == 1.0
    desk.commit()
    assert desk.ledger.retry_at is None
    assert desk.state("j1") is State.RUNNING


def test_what_is_refused_may_note_facts_of_its_own(desk: Desk) -> None:
    """They wait behind those that waited already."""
    one = desk.submit(1)
    desk.commit()

    def undo(_: StoreError) -> None:
        desk.fact(one, State.FAILED)

    with desk.locked():
        desk.fact(one, State.RUNNING)
        desk.ledger.change(record(2), "queued", insert=True, refused=undo)
        desk.commit()
    desk.commit()
    assert [event.kind for event in desk.told] == ["queued", "running", "failed"]


def test_what_comes_afterwards_is_done_whether_it_was_written_or_not(desk: Desk) -> None:
    """A cancel's flag does not wait for a disk (C1); it comes after the answers."""
    with desk.locked():
        desk.submit(1)
        desk.ledger.afterwards(desk.note("afterwards"))
        assert desk.ledger.waiting
        desk.commit()
    desk.submit(2)
    desk.ledger.afterwards(desk.note("afterwards"))
    desk.commit()
    desk.commit()
    assert desk.log == ["refused j1", "afterwards", "then j2", "told j2 queued", "afterwards"]


def test_one_write_that_fails_takes_the_whole_turn_back(desk: Desk) -> None:
    """Half a turn is never durable: here the disk is full before the second job is on it."""
    desk.submit(1)
    desk.commit()
    desk.log.clear()
    one = desk.stored(record(1))
    (pages,) = desk.store._db.execute("PRAGMA page_count").fetchone()
    desk.store._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    desk.fact(one, State.STARTING)
    desk.submit(2, title="x" * 100_000)
    desk.commit()
    assert desk.log == ["refused j2"]
    assert (desk.state("j1"), desk.state("j2")) == (State.QUEUED, None)
    assert desk.ledger.last_event == 1
    desk.commit()
    assert desk.log == ["refused j2", "told j1 starting"]


# --- a write that contradicts what is stored -----------------------------------------------------------------


def test_a_request_that_contradicts_the_store_is_refused_and_the_others_are_not(desk: Desk) -> None:
    """It takes no number, and none of its own turn waits for it."""
    desk.submit(1, key="k")
    desk.commit()
    desk.log.clear()
    desk.submit(2)
    desk.submit(3, key="k")  # the key is taken: the store says so
    desk.submit(4)
    desk.commit()
    assert sorted(desk.log) == ["refused j3", "then j2", "then j4", "told j2 queued", "told j4 queued"]
    assert (desk.state("j2"), desk.state("j3"), desk.state("j4")) == (State.QUEUED, None, State.QUEUED)
    assert desk.ledger.newest("j3") is None
    assert [event.seq for event in desk.told] == [1, 2, 3]
    assert desk.ledger.retry_at is None
    assert not desk.ledger.waiting


def test_a_fact_that_the_store_can_never_take_holds_up_no_other(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What contradicts a final state is dropped and logged; only a store that takes no writes makes facts wait."""
    one, two = desk.submit(1), desk.submit(2)
    desk.commit()
    one = desk.fact(one, State.CANCELLED)
    desk.commit()
    desk.fact(one, State.COMPLETED)
    desk.fact(two, State.STARTING)
    desk.commit()
    assert (desk.state("j1"), desk.state("j2")) == (State.CANCELLED, State.STARTING)
    assert "a fact of job j1 was not written" in caplog.text
    assert desk.ledger.newest("j1") == desk.stored(one)
    assert not desk.ledger.waiting
    desk.submit(3)
    desk.commit()
    assert desk.state("j3") is State.QUEUED
    assert [event.seq for event in desk.told] == [1, 2, 3, 4, 5]


def test_a_change_is_written_whole_or_not_at_all(desk: Desk) -> None:
    """Where its further writes contradict the store, its own fact is not there either."""
    one = desk.submit(1, key="k")
    desk.commit()
    desk.log.clear()
    desk.ledger.change(
        one.with_(state=State.STARTING),
        "starting",
        extra=lambda store: store.insert(record(2, key="k")),  # the key is taken
        refused=desk.note("refused start"),
    )
    desk.submit(3)
    desk.commit()
    assert desk.log == ["refused start", "then j3", "told j3 queued"]
    assert (desk.state("j1"), desk.state("j2"), desk.state("j3")) == (State.QUEUED, None, State.QUEUED)
    assert desk.stored(one).events == 1


def test_what_waits_for_a_fact_that_is_dropped_is_done_without_files(desk: Desk) -> None:
    """What the job holds is freed all the same, and nothing of it is published; nobody is told."""
    one = desk.submit(1)
    desk.commit()
    cancelled = desk.fact(one, State.CANCELLED)
    desk.commit()
    desk.log.clear()
    settled: list[JobRecord] = []
    desk.ledger.change(one.with_(state=State.COMPLETED, files=["a"], published=False), "completed", then=settled.append)
    desk.commit()
    assert [(found.id, found.files, found.published) for found in settled] == [("j1", [], True)]
    assert desk.log == []
    assert desk.stored(one).state is cancelled.state
    assert not desk.ledger.waiting


def test_a_result_that_the_store_cannot_take_fails_its_job(desk: Desk) -> None:
    """At least how it ended is written, and what waits for that is done once, with what was written."""
    one = desk.submit(1)
    desk.commit()
    desk.log.clear()
    desk.store._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    settled: list[JobRecord] = []
    desk.ledger.change(
        one.with_(state=State.COMPLETED, result=msgspec.Raw(b'"' + b"x" * 20_000 + b'"'), files=["a"], published=False),
        "completed",
        then=settled.append,
    )
    desk.commit()
    assert (settled, desk.log) == ([], [])
    assert desk.ledger.waiting
    desk.commit()
    (found,) = settled
    assert (found.state, found.result, found.files, found.published) == (State.FAILED, None, [], True)
    assert found.error is not None
    assert found.error.code == "result"
    assert "too big" in found.error.message
    assert desk.log == ["told j1 failed"]
    stored = desk.stored(one)
    assert (stored.state, stored.result, stored.error) == (State.FAILED, None, found.error)
    assert not desk.ledger.waiting


# --- numbers and times where writing fails -------------------------------------------------------------------


def test_a_fact_after_a_refused_request_on_the_same_job_leaves_no_gap(desk: Desk) -> None:
    """Admitted and cancelled in one turn that the store refused: the job's own numbers go on by one (C1)."""
    one = desk.submit(1)
    desk.commit()
    with desk.locked():
        begun = desk.ledger.change(one.with_(state=State.STARTING), "starting", refused=desk.note("refused start"))
        desk.fact(begun, State.CANCELLING)
        desk.commit()
    desk.commit()
    assert [event.kind for event in desk.told] == ["queued", "cancelling"]
    assert [event.job_seq for event in desk.told] == [1, 2]
    assert desk.stored(one).events == 2


def test_events_are_not_called_forgotten_before_they_are(full: Desk) -> None:
    """Where the commit that trims them fails, they are all still there."""
    full.store._db.executescript(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
    )
    full.ledger.change(  # the commit, and nothing before it, fails
        full.stored(record(1)),
        "progress",
        extra=lambda store: store._db.execute("INSERT INTO child VALUES (1)"),
        refused=full.note("refused"),
    )
    full.commit()
    assert full.log[-1] == "refused"
    assert full.store.event_bounds() == (1, 999)
    assert (full.ledger.oldest_event, full.ledger.last_event) == (1, 999)


def test_an_admission_that_was_refused_names_a_time_to_try_again(desk: Desk) -> None:
    """A job that could have started starts when the store takes writes again, without anybody asking."""
    one = desk.submit(1)
    desk.commit()
    with desk.locked():
        desk.ledger.change(one.with_(state=State.STARTING), "starting", refused=desk.note("undo"))
        desk.commit()
        assert not desk.ledger.waiting
        due = desk.ledger.retry_at
        assert due is not None
        assert due > desk.now
        desk.ledger.commit(due - 0.001)
        assert desk.ledger.retry_at == due
    desk.ledger.commit(due)  # whoever was refused has had its turn by now
    assert desk.ledger.retry_at is None


# --- purging ------------------------------------------------------------------------------------------------


def test_jobs_with_big_results_are_purged_a_few_a_turn(desk: Desk) -> None:
    """Deleting takes a bounded time of each turn; each is told when it is gone, in order, and none is forgotten."""
    big = msgspec.Raw(b'"' + b"x" * 8_000_000 + b'"')
    for seq in range(1, 13):
        desk.store.insert(record(seq, state=State.COMPLETED, finished_at=1.0, result=big))
    desk.store.commit()
    for seq in range(1, 13):
        desk.ledger.purge(f"j{seq}", then=desk.note(f"gone {seq}"), refused=lambda error: pytest.fail(str(error)))
    turns = 0
    while desk.ledger.waiting:
        desk.ledger.commit(0.0)
        turns += 1
    assert turns > 1
    assert desk.log == [f"gone {seq}" for seq in range(1, 13)]
    assert not any(desk.store.knows(f"j{seq}") for seq in range(1, 13))


def test_a_purge_in_the_turn_in_which_a_job_ends_comes_after_that(desk: Desk) -> None:
    """And one of a live job, or of none, deletes nothing and says so."""
    told: list[bool] = []

    def purge(job_id: str) -> None:
        desk.ledger.purge(job_id, then=told.append, refused=lambda error: pytest.fail(str(error)))

    desk.ledger.change(record(1), "queued", insert=True)
    desk.ledger.commit(0.0)
    for job_id in ("j1", "none"):
        purge(job_id)
    desk.ledger.commit(0.0)
    desk.ledger.change(record(1, state=State.FAILED, finished_at=1.0), "failed")
    purge("j1")
    while desk.ledger.waiting:
        desk.ledger.commit(0.0)
    assert told == [False, False, True]
    assert desk.ledger.newest("j1") is None


def test_a_purge_that_the_store_refuses_is_told_so(desk: Desk) -> None:
    """It is a request: it never happened, and is not tried again."""
    desk.store.insert(record(1, state=State.FAILED, finished_at=1.0))
    desk.store.commit()
    refusals: list[StoreError] = []
    desk.ledger.purge("j1", then=lambda _: pytest.fail("it is locked"), refused=refusals.append)
    with desk.locked():
        desk.ledger.commit(0.0)
    assert len(refusals) == 1
    desk.ledger.commit(10.0)
    assert desk.ledger.newest("j1") is not None
