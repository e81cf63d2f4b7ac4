"""Everything that only looks. These run after the turn's commit, so that they tell what is durable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from annul import regular
from annul._version import __version__
from annul.errors import Refused, StoreError
from annul.handlers.showing import MAX_ROWS, check_labels, unavailable
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon

_OVER = object()
_MAX_WAIT_S = 60.0  # of one `wait` request; clients ask again


def ping(daemon: Daemon, request: wire.Ping, caller: Caller) -> None:  # noqa: ARG001
    caller.answer(
        wire.Pong(
            version=__version__,
            pid=os.getpid(),
            requests=daemon.server.requests_endpoint,
            events=daemon.server.events_endpoint,
            state_dir=str(daemon.config.state_dir),
            tree=daemon.tree,
            running=daemon.registry.running.total,
            queued=len(daemon.registry.queue),
            max_running=daemon.registry.limits.total,
            uptime_s=daemon.clock.monotonic() - daemon.started,
        )
    )


def get(daemon: Daemon, request: wire.Get, caller: Caller) -> None:
    caller.answer(wire.JobReply(job=daemon.view(_job(daemon, request.id), result=True), created=False))


def list_(daemon: Daemon, request: wire.List, caller: Caller) -> None:
    if not 1 <= request.limit <= MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {MAX_ROWS}, not {request.limit}", "limit")
    check_labels(request.label)
    search = _search(daemon, request, caller)
    if next(search, _OVER) is not _OVER:  # most are over at once
        daemon.chores.append((search, caller))


def _search(daemon: Daemon, request: wire.List, caller: Caller) -> Iterator[None]:
    """A piece at each step, so that rare ones among very many jobs hold up nobody."""
    found: list[wire.Job] = []
    for records in daemon.store.jobs(
        user=request.user, state=request.state, type_=request.type, label=request.label, limit=request.limit
    ):
        found += [daemon.view(record) for record in records]
        if len(found) < request.limit:
            yield
    caller.answer(wire.ListReply(jobs=found))


def wait(daemon: Daemon, request: wire.Wait, caller: Caller) -> None:
    if not request.timeout_s >= 0:
        raise Refused("invalid_request", f"timeout_s must be 0 or more, not {request.timeout_s}", "timeout_s")
    record = _job(daemon, request.id)
    if record.state.final:
        caller.answer(wire.WaitReply(job=daemon.view(record, result=True), done=True))
        return

    def tell(done: bool) -> None:
        try:
            caller.answer(wire.WaitReply(job=daemon.view(_job(daemon, request.id), result=True), done=done))
        except (Refused, StoreError) as error:
            caller.refuse(error if isinstance(error, Refused) else unavailable(error))

    until = daemon.clock.monotonic() + min(request.timeout_s, _MAX_WAIT_S)
    daemon.registry.wait(request.id, tell, until)


def events(daemon: Daemon, request: wire.Events, caller: Caller) -> None:
    if not 1 <= request.limit <= MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {MAX_ROWS}, not {request.limit}", "limit")
    if request.since is not None and not 0 <= request.since < 2**63:
        raise Refused("invalid_request", f"since is a sequence number, not {request.since}", "since")
    ledger = daemon.ledger
    found: list[wire.Event] = []
    if request.since is not None:
        bodies = daemon.store.events_since(request.since, request.job_id, request.limit)
        found = [msgspec.msgpack.decode(body, type=wire.Event) for body in bodies]
    caller.answer(wire.EventsReply(events=found, last=ledger.last_event, oldest=ledger.oldest_event))


def logs(daemon: Daemon, request: wire.Logs, caller: Caller) -> None:
    record = _job(daemon, request.id)
    attempt = record.attempt if request.attempt is None else request.attempt
    if not 0 <= attempt <= record.attempt:
        raise Refused("invalid_request", f"job {record.id} had {record.attempt} attempts, not {attempt}", "attempt")
    path = daemon.supervision.job_dir(record.id) / str(attempt) / "log"
    limit = min(max(request.limit, 0), wire.MAX_MESSAGE // 2)
    try:
        with regular.opened(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset = min(size, request.offset) if request.offset >= 0 else max(0, size + request.offset)
            file.seek(offset)
            data = file.read(limit)
    except FileNotFoundError:
        size, offset, data = 0, 0, b""
    except OSError as error:
        raise Refused("unreadable_log", f"reading the log of job {record.id}: {error}") from error
    caller.answer(wire.LogsReply(data=data, offset=offset, size=size, done=record.state.final))


def result(daemon: Daemon, request: wire.Result, caller: Caller) -> None:
    record = _job(daemon, request.id)
    if record.state is not State.COMPLETED:
        raise Refused("not_completed", f"job {record.id} has no result: it is {record.state}", "id")
    job = daemon.view(record, result=True)
    caller.answer(wire.ResultReply(result=job.result, files=job.files))


def types(daemon: Daemon, request: wire.Types, caller: Caller) -> None:  # noqa: ARG001
    caller.answer(wire.TypesReply(types=daemon.catalog.infos(), broken=daemon.catalog.broken))


def _job(daemon: Daemon, job_id: str) -> JobRecord:
    record = daemon.store.job(job_id)
    if record is None:
        raise Refused("not_found", f"there is no job {job_id!r}", "id")
    return record
