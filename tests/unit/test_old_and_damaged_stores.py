"""Stores of every released schema are taken up as they are; damaged ones are refused and stay as they are."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annul.errors import StartError
from annul.store import Store, migrations
from annul.store.log import damage
from annul_client.wire import State
from records import record

DATA = Path(__file__).parents[1] / "data"
OLD = sorted(DATA.glob("schema-*.db"))
PAGE = 4096
FRAME = 24 + PAGE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "annul.db"


def files(path: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if not one.name.endswith("-shm")}


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = {
        table: [dict(row) for row in db.execute(f"SELECT * FROM {table}")] for table in ("job", "attempt", "event")
    }
    db.close()
    return found


# --- released schemas ---------------------------------------------------------------------------------------


def test_there_is_a_store_of_each_released_schema() -> None:
    """Whoever adds a migration adds one."""
    assert [one.stem for one in OLD] == [f"schema-{number}" for number in range(1, len(migrations()) + 1)]


@pytest.mark.parametrize("old", OLD, ids=lambda one: one.stem)
def test_an_old_store_is_migrated_and_holds_the_same(path: Path, old: Path) -> None:
    """Every job, attempt and event, column by column; what is new has its default."""
    shutil.copy(old, path)
    before = rows(path)
    assert {row["state"] for row in before["job"]} == set(State)
    store = Store(path)
    for row in before["job"]:
        found = store.job(row["id"])
        assert found is not None
        assert found.title == f"The one that is {found.state}"
        assert store.attempt(found.id, found.attempt) == (("an earlier boot", 77, 4711) if found.attempt else None)
    assert store.event_bounds() == (1, len(before["event"]))
    store.close()
    after = rows(path)
    for table, old_rows in before.items():
        kept = [{name: row[name] for name in old_row} for row, old_row in zip(after[table], old_rows, strict=True)]
        assert kept == old_rows
    fresh = path.with_name("fresh.db")
    Store(fresh).close()
    schemas = []
    for one in (path, fresh):
        db = sqlite3.connect(one)
        columns = [db.execute(f"PRAGMA table_info({table})").fetchall() for table in before]
        indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
        schemas.append((columns, indexes, db.execute("PRAGMA user_version").fetchone()))
        db.close()
    assert schemas[0] == schemas[1]
    assert schemas[0][2] == (len(migrations()),)


# --- damage -------------------------------------------------------------------------------------------------


def refused(path: Path, match: str = "") -> None:
    """It is, with what to do, and every byte stays."""
    before = files(path)
    with pytest.raises(StartError, match=rf"cannot open the store .*{match}.*It was not changed.*restore a backup"):
        Store(path)
    assert files(path) == before


def test_any_page_that_was_overwritten_is_found(path: Path) -> None:
    """Whatever was in it: a table, an index, the schema."""
    store = Store(path)
    for seq in range(1, 200):
        store.insert(record(seq, title="x" * 500))
        store.insert_events([(seq, f"j{seq}", b"body" * 50)])
    store.commit()
    store.close()
    whole = path.read_bytes()
    for page in range(1, len(whole) // PAGE):
        path.write_bytes(whole[: page * PAGE] + b"\xa5" * PAGE + whole[(page + 1) * PAGE :])
        refused(path)
    path.write_bytes(b"\xa5" * 100 + whole[100:])
    refused(path)
    for pages in (1, 2, len(whole) // PAGE - 1):
        path.write_bytes(whole[: pages * PAGE])
        refused(path)
    path.write_bytes(whole)
    Store(path).close()


@pytest.fixture
def crashed(path: Path, tmp_path: Path) -> Path:
    """A store with its log, as a daemon that was killed leaves them: 20 transactions, none of them in the file."""
    live = tmp_path / "live.db"
    store = Store(live)
    for seq in range(1, 21):
        store.insert(record(seq, title="x" * 500))
        store.commit()
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
    store.close()
    return path


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def commits(data: bytes) -> list[int]:
    """Where the frames are with which a transaction ends."""
    return [at for at in range(32, len(data), FRAME) if struct.unpack_from(">I", data, at + 4)[0]]


def with_byte_changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]


def test_the_log_of_a_crash_is_taken_up(crashed: Path) -> None:
    """All that was committed is there."""
    store = Store(crashed)
    assert store.last_job() == 20
    store.close()


@pytest.mark.parametrize("offset", [0, 9, 17, 25], ids=["magic", "page-size", "salt", "checksum"])
def test_a_log_with_a_damaged_header_is_refused(crashed: Path, offset: int) -> None:
    """SQLite would drop it all, and begin a new one."""
    log = log_of(crashed)
    log.write_bytes(with_byte_changed(log.read_bytes(), offset))
    refused(crashed, "header of its log")


@pytest.mark.parametrize("where", [4, 8, 12, 20, 24, 2000])
def test_a_log_that_is_damaged_in_the_middle_is_refused(crashed: Path, where: int) -> None:
    """In a frame's header or its page: SQLite would drop the transactions behind it, which were durable."""
    log = log_of(crashed)
    data = log.read_bytes()
    log.write_bytes(with_byte_changed(data, commits(data)[-6] + where))
    refused(crashed, "transactions behind")


def _cut_short(data: bytes) -> bytes:
    return data[: commits(data)[-1] + 100]


def _torn(data: bytes) -> bytes:
    return with_byte_changed(data, commits(data)[-1] + 2000)


def _stale_behind(data: bytes) -> bytes:
    """The file was longer in an earlier use: frames with other salts follow."""
    old = bytearray(data[32 : 32 + 6 * FRAME])
    for at in range(0, len(old), FRAME):
        old[at + 8] ^= 1
    return data + bytes(old)


@pytest.mark.parametrize(("torn", "kept"), [(_cut_short, 19), (_torn, 19), (_stale_behind, 20)])
def test_a_log_that_a_power_cut_left_unfinished_is_no_damage(
    crashed: Path, torn: Callable[[bytes], bytes], kept: int
) -> None:
    """Its last transaction was never acknowledged; all before it are there."""
    log = log_of(crashed)
    log.write_bytes(torn(log.read_bytes()))
    assert damage(log) == ""
    store = Store(crashed)
    assert store.last_job() == kept
    store.close()
