"""Make the database of a released schema: `python tests/data/make.py VERSION`, once, when the schema is released.

It is what that release's migrations and none after them make, with a job in every state, events and attempts. One that
is there is never made anew: an old database as today's code would write it proves nothing.
"""

from __future__ import annotations

import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from annul.store import JobRecord, migrations
from annul.store.record import to_row, utc, view
from annul_client.wire import CancelRecord, ErrorInfo, Event, Progress, Stage, State

HERE = Path(__file__).parent
THEN = 1_767_225_600.0  # 2026-01-01, when all this happened
LATER = 4_102_444_800.0  # 2100-01-01: none of the queued jobs starts while somebody looks


def jobs() -> list[JobRecord]:
    """One in every state, and what else there is to keep of a job."""
    asked = CancelRecord(
        reason="wrong file", kind="cancel", by="ann", grace_s=5.0, asked_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    over = msgspec.structs.replace(asked, stage=Stage.SIGKILL, gone_s=5.01, sigkill_s=5.0, swept=2)
    facts: dict[State, dict[str, Any]] = {
        State.QUEUED: {"key": "k\"'", "labels": {"a.b": "c", "ü": "😀"}, "priority": -5, "attempt": 0, "paused": True},
        State.STARTING: {"started_at": None},
        State.RUNNING: {"progress": Progress(fraction=0.5, stage="half")},
        State.CANCELLING: {"cancel": asked},
        State.COMPLETED: {
            "result": msgspec.Raw('{"cv": "Zoë", "pages": [1, null]}'.encode()),
            "files": ["cvs/a b.json", "cvs/ü.json"],
            "request": "uid:1000/0123456789abcdef",
            "attempt": 3,
        },
        State.FAILED: {
            "error": ErrorInfo(code="no_text", message="there is no text in it", field="params.pdf"),
            "attempt": 3,
            "failures": 2,
        },
        State.CANCELLED: {"cancel": over, "retry_of": "failed000000"},
    }
    return [_job(number, state, **more) for number, (state, more) in enumerate(facts.items(), start=1)]


def _job(number: int, state: State, **more: Any) -> JobRecord:
    given: dict[str, Any] = {
        "seq": number,
        "id": f"{state:0<12}"[:12],
        "request": None,
        "type": "quick",
        "user": "ann",
        "key": f"key-{number}",
        "digest": bytes(range(16)),
        "title": f"The one that is {state}",
        "labels": {},
        "priority": 0,
        "params": msgspec.Raw(b'{"seconds":0.0}'),
        "timeout_s": 60.0,
        "not_before": LATER if state is State.QUEUED else None,
        "submitted_by": "uid:1000",
        "state": state,
        "attempt": 1,
        "events": 2,
        "created_at": THEN + number,
        "started_at": None if state is State.QUEUED else THEN + number + 1,
        "finished_at": THEN + number + 2.5 if state.final else None,
    }
    return JobRecord(**given | more)


def make(path: Path, version: int) -> None:
    """Raises FileExistsError where it is there."""
    path.open("xb").close()
    db = sqlite3.connect(path, isolation_level=None)
    for sql in migrations()[:version]:
        db.executescript(sql)
    db.execute(f"PRAGMA application_id = {int.from_bytes(b'annu')}")
    db.execute(f"PRAGMA user_version = {version}")
    columns = [row[1] for row in db.execute("PRAGMA table_info(job)")]
    seq = 0
    for one in jobs():
        row = {name: value for name, value in to_row(one).items() if name in columns}
        db.execute(f"INSERT INTO job ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", row)
        if one.attempt:
            db.execute("INSERT INTO attempt VALUES (?, ?, ?, ?, ?)", (one.id, one.attempt, "an earlier boot", 77, 4711))
        for number, state in enumerate((State.QUEUED, one.state), start=1):
            seq += 1
            at = utc(THEN + seq)
            assert at is not None
            told = view(one.with_(state=state), outputs="/out", result=False)
            body = msgspec.msgpack.encode(Event(seq=seq, job_seq=number, at=at, kind=state, job=told))
            db.execute("INSERT INTO event VALUES (?, ?, ?)", (seq, one.id, body))
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


if __name__ == "__main__":
    made = HERE / f"schema-{int(sys.argv[1])}.db"
    make(made, int(sys.argv[1]))
    print(f"{made.name}: {made.stat().st_size:,} bytes")
