"""The store: what is written is read, final states are written once, and what is not ours is not touched."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annul.errors import Refused, StartError, StoreConflictError, StoreError
from annul.handlers.submit import _check_submit, new_id
from annul.scheduling import Entry
from annul.store import JobRecord, Store
from annul.store.record import view
from annul.store.store import migrations
from annul_client.wire import FINAL_STATES, CancelRecord, ErrorInfo, Progress, Stage, State, Submit
from records import record


def plain(one: JobRecord | None) -> Any:
    """Comparable: raw JSON as its bytes."""
    assert one is not None
    return msgspec.to_builtins(one.with_(params=b"", result=None)), bytes(one.params), one.result and bytes(one.result)


FULL = record(
    7,
    request="cli/0123456789abcdef",
    key="k\"'",
    title='Zoë\'s "CV" 😀',
    labels={"a.b": "c", '"': "'"},
    priority=-(2**31),
    params=msgspec.Raw('{"pdf":"/in/é.pdf"}'.encode()),
    timeout_s=0.1,
    not_before=1_800_000_000.123456,
    state=State.COMPLETED,
    attempt=3,
    events=9,
    started_at=1.25,
    finished_at=2.5,
    progress=Progress(fraction=0.1, stage="half, or so"),
    result=msgspec.Raw(b'{"x":[1,null]}'),
    files=["a/b c.json", "ü"],
    published=False,
    error=ErrorInfo(code="c", message="m", field="params.x"),
    cancel=CancelRecord(
        reason="r",
        kind="cancel",
        by="ann",
        grace_s=1.5,
        asked_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        stage=Stage.SIGKILL,
        swept=2,
        late_result=True,
    ),
    swept=2,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "annul.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()


def saved(store: Store, *records: JobRecord) -> None:
    for one in records:
        store.insert(one)
    store.commit()


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name").fetchall()


# --- opening ------------------------------------------------------------------------------------------------


def test_a_new_store_has_the_schema_that_the_migrations_add_up_to(path: Path, store: Store) -> None:
    """Nothing is made beside them; the version is how many there are, and the file says whose it is."""
    by_hand = sqlite3.connect(":memory:")
    for sql in migrations():
        by_hand.executescript(sql)
    found = sqlite3.connect(path)
    assert schema(found) == schema(by_hand)
    assert found.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    assert found.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"annu"),)
    by_hand.close()
    found.close()


def test_a_store_opened_again_is_the_same(path: Path, store: Store) -> None:
    """Migrations that were applied are not applied again."""
    saved(store, record())
    store.close()
    again = Store(path)
    assert plain(again.job("j1")) == plain(record())
    again.close()


def test_an_older_store_is_brought_up_to_date(path: Path) -> None:
    """What it holds is kept, and what it could not hold yet has its default."""
    with sqlite3.connect(path) as old:
        old.executescript(
            f"{migrations()[0]}; PRAGMA user_version = 1; PRAGMA application_id = {int.from_bytes(b'annu')}"
        )
        old.execute(
            "INSERT INTO job (seq, id, type, user, digest, title, labels, priority, params, submitted_by, state,"
            " attempt, events, created_at, progress, files, published)"
            " VALUES (1, 'j1', 't', 'ann', x'00ff', '', '{}', 0, '{}', 'cli', 'queued', 0, 0, 1700000000.5, '{}',"
            " '[]', 1)"
        )
    old.close()
    made = Store(path)
    assert plain(made.job("j1")) == plain(record())
    assert made._db.execute("PRAGMA user_version").fetchone()[0] == len(migrations())
    made.close()


def test_a_commit_is_on_disk_when_it_returns(store: Store) -> None:
    """Write-ahead log, synchronous FULL, no waiting for locks, foreign keys checked."""
    found = [
        store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "busy_timeout")
    ]
    assert found == ["wal", 2, 0]


def files(path: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


def test_a_newer_store_is_refused_and_not_touched(path: Path) -> None:
    """It is left byte by byte as it was, and the message says what to do (never a clean one instead)."""
    made = Store(path)
    saved(made, record())
    made._db.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    made.close()
    before = files(path)
    with pytest.raises(StartError, match=r"newer annul.*Install that version"):
        Store(path)
    assert files(path) == before


def test_a_newer_store_left_by_a_crash_is_not_touched_either(path: Path, tmp_path: Path) -> None:
    """Its write-ahead log is not folded into it."""
    made = Store(path)
    saved(made, record())
    made._db.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    crashed = tmp_path / "crashed" / path.name
    crashed.parent.mkdir()
    for one in (path, path.with_name(f"{path.name}-wal")):
        shutil.copy(one, crashed.parent)
    made.close()
    before = files(crashed)
    assert before[f"{path.name}-wal"]
    with pytest.raises(StartError, match="newer annul"):
        Store(crashed)
    after = files(crashed)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("sql", ["CREATE TABLE job (x)", "PRAGMA application_id = 77"])
def test_another_programs_database_is_refused_and_not_touched(path: Path, sql: str) -> None:
    """Annul adds its tables to nobody else's; where there is no table yet, its header says whose it is."""
    other = sqlite3.connect(path)
    other.execute(sql)
    other.commit()
    other.close()
    before = files(path)
    with pytest.raises(StartError, match=r"another program's database.*not touched"):
        Store(path)
    assert files(path) == before


def test_a_store_that_was_made_but_never_written_to_is_filled(path: Path) -> None:
    """An empty file, as from a crash before the first migration."""
    path.touch()
    made = Store(path)
    saved(made, record())
    made.close()


def test_refusing_a_store_leaves_no_descriptor(path: Path) -> None:
    """Also while the error is still being looked at."""
    made = Store(path)
    made._db.execute("PRAGMA user_version = 99")
    made.close()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError) as raised:
        Store(path)
    assert raised.value
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [1, 15, 16, 100, 511, 512, 4095])
def test_a_store_cut_short_is_refused_and_not_touched(path: Path, size: int) -> None:
    """SQLite takes anything below 512 bytes for an empty database; a clean one in its place would be silent loss."""
    Store(path).close()
    os.truncate(path, size)
    before = files(path)
    with pytest.raises(StartError, match=r"cannot open the store .*It was not changed"):
        Store(path)
    assert files(path) == before


@pytest.mark.parametrize("content", [b"x", b"no database" * 500, b"SQLite format 3\0" + b"\xff" * 5000], ids=len)
def test_a_file_that_is_no_database_is_refused_and_not_touched(path: Path, content: bytes) -> None:
    """The message says how to go on."""
    path.write_bytes(content)
    with pytest.raises(StartError, match=r"cannot open the store .*It was not changed"):
        Store(path)
    assert files(path) == {path.name: content}


def test_a_directory_in_the_stores_place_is_refused(path: Path) -> None:
    """As anything else that cannot be opened."""
    path.mkdir()
    with pytest.raises(StartError, match="cannot open the store"):
        Store(path)


def test_a_store_that_another_program_has_locked_is_refused_at_once(path: Path) -> None:
    """A new one cannot be made while somebody else writes to it; nobody waits."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StartError, match="locked"):
        Store(path)
    other.close()


# --- jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [record(), FULL], ids=["least", "most"])
def test_what_is_inserted_is_what_is_read(store: Store, one: JobRecord) -> None:
    """Every field, by each of the ways to find it."""
    saved(store, one)
    assert plain(store.job(one.id)) == plain(one)
    if one.key is not None and one.request is not None:
        assert plain(store.job_by_key(one.user, one.key)) == plain(one)
        assert plain(store.job_by_request(one.request)) == plain(one)
    assert store.knows(one.id)


def test_what_is_not_there_is_none(store: Store) -> None:
    """An unknown id is no error."""
    saved(store, record())
    assert store.job("x") is None
    assert store.job_by_key("ann", "x") is None
    assert store.job_by_request("x") is None
    assert store.attempt("j1", 1) is None
    assert not store.knows("x")


def test_an_update_writes_all_that_may_change(store: Store) -> None:
    """The rest of a job is what was submitted, and stays."""
    saved(store, record(7))
    store.update(FULL)
    store.commit()
    fixed = {name: getattr(record(7), name) for name in ("request", "key", "title", "labels", "priority", "params")}
    expected = FULL.with_(**fixed, timeout_s=None)
    assert plain(store.job("j7")) == plain(expected)


@pytest.mark.parametrize("final", sorted(FINAL_STATES))
@pytest.mark.parametrize("then", State)
def test_a_final_state_is_written_once(store: Store, final: State, then: State) -> None:
    """Whatever comes later is refused and changes nothing: a cancelled job never completes."""
    saved(store, record())
    store.update(record(state=final, finished_at=1.0))
    store.commit()
    with pytest.raises(StoreConflictError, match=f"final already.*{then}"):
        store.update(record(state=then, finished_at=2.0))
    store.rollback()
    assert plain(store.job("j1")) == plain(record(state=final, finished_at=1.0))


def test_a_job_that_is_not_there_cannot_be_updated(store: Store) -> None:
    """It is an error, not a silence."""
    with pytest.raises(StoreConflictError, match="gone"):
        store.update(record())
    store.rollback()


def test_publishing_is_noted_after_the_final_state(store: Store) -> None:
    """Until then the job is among those whose outputs may have to be renamed."""
    saved(store, record(state=State.COMPLETED, published=False, files=["x"]), record(2))
    assert [one.id for one in store.unpublished()] == ["j1"]
    store.set_published("j1")
    store.commit()
    assert store.unpublished() == []
    assert plain(store.job("j1")) == plain(record(state=State.COMPLETED, files=["x"]))


def test_a_key_is_unique_for_its_user(store: Store) -> None:
    """Another user may have the same one, and none is no key."""
    saved(store, record(1, key="k"), record(2, key="k", user="bob"), record(3), record(4))
    found = store.job_by_key("bob", "k")
    assert found is not None
    assert found.id == "j2"
    with pytest.raises(StoreConflictError, match="UNIQUE"):
        store.insert(record(5, key="k"))
    store.rollback()


@pytest.mark.parametrize("twin", [record(1, id="x"), record(2, id="j1"), record(2, request="r")])
def test_number_id_and_request_are_unique(store: Store, twin: JobRecord) -> None:
    """A request sent twice cannot make two jobs."""
    saved(store, record(1, request="r"))
    with pytest.raises(StoreConflictError, match="UNIQUE"):
        store.insert(twin)
    store.rollback()


def test_nothing_is_there_until_the_commit_and_nothing_after_a_rollback(path: Path, store: Store) -> None:
    """One transaction for all that a turn writes."""
    other = Store(path)
    store.insert(record(1))
    store.insert_events([(1, "j1", b"e")])
    assert other.job("j1") is None
    store.rollback()
    store.rollback()
    assert store.job("j1") is None
    assert store.event_bounds() == (0, 0)
    store.commit()
    saved(store, record(2))
    assert other.knows("j2")
    other.close()


def test_a_locked_store_is_an_error_at_once_and_reading_goes_on(path: Path, store: Store) -> None:
    """Nobody waits for a lock; what was written before can still be read."""
    saved(store, record())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"writing to the store .*locked") as raised:
        store.insert(record(2))
    assert not isinstance(raised.value, StoreConflictError)  # trying again helps
    store.rollback()
    assert store.knows("j1")
    other.execute("ROLLBACK")
    other.close()
    saved(store, record(2))


# --- lists --------------------------------------------------------------------------------------------------


def ids(store: Store, limit: int = 100, label: dict[str, str] | None = None, **match: Any) -> list[str]:
    match = {"user": None, "state": None, "type_": None} | match
    return [one.id for piece in store.jobs(label=label or {}, limit=limit, **match) for one in piece]


def test_jobs_are_listed_newest_first_up_to_a_limit(store: Store) -> None:
    """The newest are those that were submitted last."""
    saved(store, record(2), record(1), record(30), record(4))
    assert ids(store) == ["j30", "j4", "j2", "j1"]
    assert ids(store, limit=2) == ["j30", "j4"]


def test_a_list_holds_what_matches_all_that_is_asked_for(store: Store) -> None:
    """User, state, type and every label."""
    saved(
        store,
        record(1, user="ann", type="a", state=State.FAILED, labels={"x": "1", "y": "2"}),
        record(2, user="bob", type="a", labels={"x": "1"}),
        record(3, user="ann", type="b", labels={"x": "2", "y": "2"}),
    )
    assert ids(store, user="ann") == ["j3", "j1"]
    assert ids(store, state=State.QUEUED) == ["j3", "j2"]
    assert ids(store, type_="a") == ["j2", "j1"]
    assert ids(store, label={"x": "1"}) == ["j2", "j1"]
    assert ids(store, label={"y": "2", "x": "1"}) == ["j1"]
    assert ids(store, user="ann", type_="a", state=State.FAILED, label={"y": "2"}) == ["j1"]
    assert ids(store, user="ann", type_="a", state=State.QUEUED) == []


def test_a_list_is_whole_however_many_pieces_its_search_takes(store: Store) -> None:
    """Thousands that do not match stand between those that do; each comes once, newest first."""
    rows = [
        record(n, user=("ann", "bob")[n % 2], state=State.QUEUED if n % 7 else State.FAILED, labels={"m": str(n % 500)})
        for n in range(1, 6001)
    ]
    saved(store, *rows)

    def expected(fits: Callable[[JobRecord], bool]) -> list[str]:
        return [one.id for one in reversed(rows) if fits(one)]

    assert ids(store, limit=9999) == expected(lambda _: True)
    assert ids(store, limit=9999, label={"m": "3"}) == expected(lambda one: one.labels["m"] == "3")
    assert ids(store, limit=9999, user="bob", state=State.QUEUED) == expected(
        lambda one: (one.user, one.state) == ("bob", "queued")
    )
    assert ids(store, limit=9999, state=State.QUEUED) == expected(lambda one: one.state == "queued")
    assert ids(store, limit=5, label={"m": "3"}) == expected(lambda one: one.labels["m"] == "3")[:5]
    assert ids(store, type_="none") == []
    pieces = store.jobs(user=None, state=State.FAILED, type_="none", label={}, limit=10)
    assert [len(piece) for piece in pieces] == [0, 0, 0]


def test_live_jobs_are_found_in_pieces_whatever_becomes_of_them_meanwhile(store: Store) -> None:
    """One that changes its state between two pieces is neither missed nor found twice; final and new ones are not."""
    states = list(State)
    rows = [record(n, state=states[n % len(states)], user=("ann", "bob")[n % 2]) for n in range(1, 201)]
    saved(store, *rows)
    live = [one.id for one in rows if one.state not in FINAL_STATES]
    pieces = store.live(user=None, type_=None, label={}, rows=10)
    found = next(pieces)
    for one in rows:
        if one.state is State.QUEUED:
            store.update(one.with_(state=State.RUNNING))
        elif one.state is State.RUNNING:
            store.update(one.with_(state=State.QUEUED))
    saved(store, record(500))
    for piece in pieces:
        assert len(piece) <= 10
        found += piece
    assert found == live
    (all_of_bob,) = store.live(user="bob", type_="t", label={}, rows=500)
    assert all_of_bob == [one.id for one in rows if one.user == "bob" and one.state not in FINAL_STATES]


def test_a_list_leaves_the_results_where_they_are(store: Store) -> None:
    """They may be big, and a list does not show them."""
    saved(store, FULL)
    ((found,),) = store.jobs(user=None, state=None, type_=None, label={}, limit=10)
    assert found.result is None
    assert plain(found.with_(result=FULL.result)) == plain(FULL)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8) | st.sampled_from(
    ['"', "'", "\\", "a.b", "$.a", "a[0]", "%", "_", "", "1", "é", "😀", '\\"', "\n", "--", ":key0", "?"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(labels=st.dictionaries(NAMES, NAMES, min_size=1, max_size=3), other=NAMES)
def test_labels_are_data_whatever_they_are_made_of(store: Store, labels: dict[str, str], other: str) -> None:
    """Quotes, dots, wild cards and other scripts match themselves and nothing else."""
    store.insert(record(1, labels=labels))
    try:
        name, value = next(iter(labels.items()))
        assert ids(store, label=labels) == ["j1"]
        assert ids(store, label={name: value}) == ["j1"]
        assert ids(store, label={name: value + "x"}) == []
        assert (ids(store, label={other: value}) == ["j1"]) == (labels.get(other) == value)
    finally:
        store.rollback()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"labels": {"a\0b": "x"}}, "labels.a\0b"),
        ({"labels": {"a": "\0"}}, "labels.a"),
        ({"title": "\0"}, "title"),
        ({"key": "k\0"}, "key"),
    ],
)
def test_text_with_a_nul_in_it_never_comes_to_the_store(values: dict[str, Any], field: str) -> None:
    """SQLite would end it there, and a label would not be found again."""
    with pytest.raises(Refused, match=r"U\+0000") as raised:
        _check_submit(Submit(rid="1", type="t", **values))
    assert raised.value.field == field


def test_what_waits_and_what_holds_a_slot_are_found_in_the_order_of_submission(store: Store) -> None:
    """So that a restarted daemon takes them up as they were."""
    states = [State.RUNNING, State.QUEUED, State.COMPLETED, State.CANCELLING, State.STARTING, State.CANCELLED]
    saved(store, *(record(n, state=state) for n, state in enumerate(states, start=1)))
    saved(store, record(9, priority=3, not_before=5.0, user="bob", type="u"), record(8, state=State.FAILED))
    assert [one.id for one in store.unfinished()] == ["j1", "j4", "j5"]
    assert store.queued(6.0) == [Entry(2, "j2", "ann", "t", 0, None), Entry(9, "j9", "bob", "u", 3, 5.0)]
    assert store.last_job() == 9


def test_an_empty_store_counts_from_zero(store: Store) -> None:
    """The first job and the first event are number 1."""
    assert (store.last_job(), store.event_bounds()) == (0, (0, 0))
    assert store.queued(0.0) == store.unfinished() == store.unpublished() == []


# --- attempts and events ------------------------------------------------------------------------------------


def test_an_attempts_process_is_kept_by_number(store: Store) -> None:
    """Written again, the last word counts."""
    store.insert_attempt("j1", 1, "boot", 10, 20)
    store.insert_attempt("j1", 2, "boot", 30, 2**62)
    store.insert_attempt("j1", 1, "boot", 11, 21)
    store.commit()
    assert store.attempt("j1", 1) == ("boot", 11, 21)
    assert store.attempt("j1", 2) == ("boot", 30, 2**62)


def test_events_are_read_in_order_since_a_number(store: Store) -> None:
    """Of all jobs or of one, a few at a time."""
    for seq in range(1, 7):
        store.insert_events([(seq, f"j{seq % 2}", b"%d" % seq)])
    store.commit()
    assert store.event_bounds() == (1, 6)
    assert store.events_since(0, None, 3) == [b"1", b"2", b"3"]
    assert store.events_since(3, None, 100) == [b"4", b"5", b"6"]
    assert store.events_since(2, "j1", 100) == [b"3", b"5"]
    assert store.events_since(6, None, 100) == []


@pytest.mark.parametrize(("upto", "kept"), [(0, 1), (3, 4), (4, 5), (5, 5), (99, 5)])
def test_trimming_never_takes_the_newest_event(store: Store, upto: int, kept: int) -> None:
    """The next number is counted from it, also after a restart."""
    for seq in range(1, 6):
        store.insert_events([(seq, "j", b"")])
    store.trim_events(upto)
    store.commit()
    assert store.event_bounds() == (kept, 5)


# --- what clients see ---------------------------------------------------------------------------------------


def test_a_view_has_times_in_utc_absolute_paths_and_the_result_where_it_is_asked_for() -> None:
    """The record's shape is the store's; the view's is the protocol's."""
    seen = view(FULL, outputs="/out", pid=5)
    assert seen.files == ["/out/ann/a/b c.json", "/out/ann/ü"]
    assert seen.result == {"x": [1, None]}
    assert seen.pid == 5
    assert seen.not_before == datetime(2027, 1, 15, 8, 0, 0, 123456, tzinfo=UTC)
    assert seen.created_at.tzinfo is UTC
    assert view(FULL, outputs="/out", result=False).result is None
    assert view(record(), outputs="/out").started_at is None


def test_ids_are_in_the_order_of_submission_and_none_is_there_twice() -> None:
    """So that neighbours in time are neighbours in the indexes; what no number says is chance."""
    ids = [new_id(seq) for seq in (1, 2, 31, 32, 1023, 1024, 2**25 - 1)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {12}
    assert len({new_id(7) for _ in range(1000)}) == 1000
    assert new_id(2**25 + 5)[:5] == new_id(5)[:5]  # after 33 million they begin anew
