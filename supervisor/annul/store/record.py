"""A job as it is persisted, and its two other shapes: a row of the store, and what clients see."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import msgspec

from annul_client.wire import CancelRecord, ErrorInfo, Job, Progress, State

_json = msgspec.json.Encoder()


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a job. Times are unix seconds."""

    seq: int
    id: str
    request: str | None
    type: str
    user: str
    key: str | None
    digest: bytes
    title: str
    labels: dict[str, str]
    priority: int
    params: msgspec.Raw  # a JSON object, already checked against the type's Struct
    timeout_s: float | None
    not_before: float | None
    submitted_by: str
    state: State = State.QUEUED
    attempt: int = 0
    events: int = 0
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    progress: Progress = Progress()
    result: msgspec.Raw | None = None  # JSON
    files: list[str] = []  # relative to the user's directory
    published: bool = True
    error: ErrorInfo | None = None
    cancel: CancelRecord | None = None
    swept: int = 0
    failures: int = 0
    paused: bool = False  # written by `Store.set_paused` only, and cleared with the end of what can be paused
    retry_of: str | None = None

    def with_(self, **changes: Any) -> JobRecord:
        return msgspec.structs.replace(self, **changes)


def to_row(record: JobRecord) -> dict[str, Any]:
    """By the names of the columns, in the order of the record's fields."""
    row = msgspec.structs.asdict(record)
    row["state"] = record.state.value
    row["published"] = int(record.published)
    row["paused"] = int(record.paused)
    row["params"] = bytes(record.params).decode()
    row["result"] = None if record.result is None else bytes(record.result).decode()
    row["labels"] = _json.encode(record.labels).decode()
    row["progress"] = _json.encode(record.progress).decode()
    row["files"] = _json.encode(record.files).decode()
    row["error"] = None if record.error is None else _json.encode(record.error).decode()
    row["cancel"] = None if record.cancel is None else _json.encode(record.cancel).decode()
    return row


def from_row(row: sqlite3.Row) -> JobRecord:
    values: dict[str, Any] = dict(row)
    decode = msgspec.json.decode
    values["state"] = State(values["state"])
    values["published"] = bool(values["published"])
    values["paused"] = bool(values["paused"])
    values["params"] = msgspec.Raw(values["params"])
    values["result"] = None if values["result"] is None else msgspec.Raw(values["result"])
    values["labels"] = decode(values["labels"])
    values["progress"] = decode(values["progress"], type=Progress)
    values["files"] = decode(values["files"])
    values["error"] = None if values["error"] is None else decode(values["error"], type=ErrorInfo)
    values["cancel"] = None if values["cancel"] is None else decode(values["cancel"], type=CancelRecord)
    return JobRecord(**values)


def utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def view(record: JobRecord, *, outputs: str, pid: int | None = None, result: bool = True) -> Job:
    """The job as clients see it. `outputs`: the directory that the record's files are relative to."""
    return Job(
        id=record.id,
        type=record.type,
        state=record.state,
        user=record.user,
        title=record.title,
        labels=record.labels,
        key=record.key,
        priority=record.priority,
        attempt=record.attempt,
        pid=pid,
        progress=record.progress,
        timeout_s=record.timeout_s,
        not_before=utc(record.not_before),
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        started_at=utc(record.started_at),
        finished_at=utc(record.finished_at),
        result=msgspec.json.decode(record.result) if result and record.result is not None else None,
        files=[f"{outputs}/{record.user}/{name}" for name in record.files],
        error=record.error,
        cancel=record.cancel,
        swept=record.swept,
        paused=record.paused,
        retry_of=record.retry_of,
    )
