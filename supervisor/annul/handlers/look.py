"""Everything that only looks. These run after the turn's commit, so that they tell what is durable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from annul import beneath, regular
from annul._version import __version__
from annul.errors import Refused, StoreError
from annul.handlers.showing import MAX_ROWS, check_labels, unavailable
from annul.registry import ANY
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon

_SHOWN = 100  # jobs in one turn
_OVER = object()
_MAX_WAIT_S = 60.0  # of one `wait` request; clients ask again


def ping(daemon: Daemon, request: wire.Ping, caller: Caller) -> None:  # noqa: ARG001
    local = caller.grant.local
    caller.answer(
        wire.Pong(
            version=__version__,
            pid=os.getpid(),
            requests=daemon.server.requests_endpoint if local else daemon.server.listening,
            events=daemon.server.events_endpoint if local else "",
            state_dir=str(daemon.config.state_dir),
            tree=daemon.tree,
            running=daemon.registry.running.total,
            queued=len(daemon.registry.queue),
            max_running=daemon.registry.limits.total,
            uptime_s=daemon.clock.monotonic() - daemon.started,
            you=caller.by,
            role=caller.grant.role,
            draining=daemon.draining,
        )
    )


def get(daemon: Daemon, request: wire.Get, caller: Caller) -> None:
    caller.answer(wire.JobReply(job=daemon.view(_job(daemon, request.id, caller), result=True), created=False))


def list_(daemon: Daemon, request: wire.List, caller: Caller) -> None:
    if not 1 <= request.limit <= MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {MAX_ROWS}, not {request.limit}", "limit")
    check_labels(request.label)
    if caller.grant.user is not None:
        if request.user not in (None, caller.grant.user):
            caller.answer(wire.ListReply(jobs=[]))
            return
        request = msgspec.structs.replace(request, user=caller.grant.user)
    search = _search(daemon, request, caller)
    if next(search, _OVER) is not _OVER:  # most are over at once
        daemon.chores.append((search, caller))


def _search(daemon: Daemon, request: wire.List, caller: Caller) -> Iterator[None]:
    """A piece at each step, so that rare ones among very many jobs hold up nobody."""
    found: list[wire.Job] = []
    for records in daemon.store.jobs(
        user=request.user, state=request.state, type_=request.type, label=request.label, limit=request.limit
    ):
        for start in range(0, len(records), _SHOWN):
            found += [daemon.view(record) for record in records[start : start + _SHOWN]]
            if len(found) < request.limit:
                yield
        if not records:
            yield
    caller.answer(wire.ListReply(jobs=found))


def wait(daemon: Daemon, request: wire.Wait, caller: Caller) -> None:
    if not request.timeout_s >= 0:
        raise Refused("invalid_request", f"timeout_s must be 0 or more, not {request.timeout_s}", "timeout_s")
    record = _job(daemon, request.id, caller)
    if record.state.final:
        caller.answer(wire.WaitReply(job=daemon.view(record, result=True), done=True))
        return

    def tell(done: bool) -> None:
        try:
            caller.answer(wire.WaitReply(job=daemon.view(_job(daemon, request.id, caller), result=True), done=done))
        except (Refused, StoreError) as error:
            caller.refuse(error if isinstance(error, Refused) else unavailable(error))

    _wait(daemon, caller, request.id, tell, request.timeout_s)


def _wait(daemon: Daemon, caller: Caller, job_id: str, tell: Callable[[bool], None], wait_s: float) -> None:
    most = daemon.config.max_waiting
    if not caller.grant.is_local_admin and daemon.registry.waiting_of(caller.by) >= most:
        raise Refused(
            "too_many_waiting", f"{most} requests of {caller.by} wait for news already: wait for some of those"
        )
    daemon.registry.wait(caller.by, job_id, tell, daemon.clock.monotonic() + min(wait_s, _MAX_WAIT_S))


def events(daemon: Daemon, request: wire.Events, caller: Caller) -> None:
    if not 1 <= request.limit <= MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {MAX_ROWS}, not {request.limit}", "limit")
    if request.since is not None and not 0 <= request.since < 2**63:
        raise Refused("invalid_request", f"since is a sequence number, not {request.since}", "since")
    if not request.wait_s >= 0:
        raise Refused("invalid_request", f"wait_s must be 0 or more, not {request.wait_s}", "wait_s")
    if caller.grant.user is not None and request.job_id is not None:
        _job(daemon, request.job_id, caller)
    search = _events(daemon, request, caller)
    if next(search, _OVER) is not _OVER:
        daemon.chores.append((search, caller))


def _events(daemon: Daemon, request: wire.Events, caller: Caller) -> Iterator[None]:
    """A piece at each step: of many users' events, few may be those that the caller may see."""
    ledger, grant = daemon.ledger, caller.grant
    found: list[wire.Event] = []
    at, last = request.since, ledger.last_event
    while at is not None and len(found) < request.limit:
        last = ledger.last_event
        bodies = daemon.store.events_since(at, request.job_id, request.limit)
        if not bodies:
            break
        events = [msgspec.msgpack.decode(body, type=wire.Event) for body in bodies]
        found += [event for event in events if grant.sees(event.job.user)]
        at = events[-1].seq
        if grant.user is None:
            break
        yield
    del found[request.limit :]
    if found or at is None or not request.wait_s:
        caller.answer(wire.EventsReply(events=found, last=last, oldest=ledger.oldest_event))
        return
    until = daemon.clock.monotonic() + min(request.wait_s, _MAX_WAIT_S)

    def tell(come: bool) -> None:
        left_s = max(0.0, until - daemon.clock.monotonic()) if come else 0.0
        daemon.chores.append((_events(daemon, msgspec.structs.replace(request, wait_s=left_s), caller), caller))

    _wait(daemon, caller, ANY, tell, request.wait_s)


def logs(daemon: Daemon, request: wire.Logs, caller: Caller) -> None:
    record = _job(daemon, request.id, caller)
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
    done = record.state.final or attempt < record.attempt
    caller.answer(wire.LogsReply(data=data, offset=offset, size=size, done=done, attempts=record.attempt))


def result(daemon: Daemon, request: wire.Result, caller: Caller) -> None:
    record = _job(daemon, request.id, caller)
    if record.state is not State.COMPLETED:
        raise Refused("not_completed", f"job {record.id} has no result: it is {record.state}", "id")
    job = daemon.view(record, result=True)
    caller.answer(wire.ResultReply(result=job.result, files=job.files))


def output(daemon: Daemon, request: wire.Output, caller: Caller) -> None:
    record = _job(daemon, request.id, caller)
    wanted = request.name.removeprefix(f"{daemon.config.outputs_dir}/{record.user}/")  # as `files` of a job has it
    names = [name for name in record.files if f"/{name}".endswith(f"/{wanted}")] if wanted else []
    if wanted in names:  # not also one of that name in a folder
        names = [wanted]
    if len(names) != 1 or not record.published:
        there = ", ".join(record.files) or f"none, it is {record.state}"
        which = "more than one output" if len(names) > 1 else "no output"
        raise Refused(
            "no_output", f"job {record.id} has {which} called {request.name[:200]!r}; it has: {there}", "name"
        )
    if request.offset < 0:
        raise Refused("invalid_request", f"offset is 0 or more, not {request.offset}", "offset")
    path = daemon.config.outputs_dir / record.user / names[0]
    limit = min(max(request.limit, 0), wire.MAX_MESSAGE // 2)
    try:
        with beneath.opened(daemon.config.outputs_dir / record.user, names[0]) as file:
            size = os.fstat(file.fileno()).st_size
            offset = min(size, request.offset)
            file.seek(offset)
            data = file.read(limit)
    except OSError as error:
        raise Refused(
            "unreadable_output", f"reading {path} of job {record.id}: {error.strerror or error}; was it moved?"
        ) from error
    caller.answer(wire.OutputReply(data=data, offset=offset, size=size))


def types(daemon: Daemon, request: wire.Types, caller: Caller) -> None:  # noqa: ARG001
    caller.answer(wire.TypesReply(types=daemon.catalog.infos(), broken=daemon.catalog.broken))


def _job(daemon: Daemon, job_id: str, caller: Caller) -> JobRecord:
    record = daemon.store.job(job_id)
    if record is None or not caller.grant.sees(record.user):
        raise Refused("not_found", f"there is no job {job_id!r}", "id")
    return record
