"""One function a request. Each looks, notes what is to change, and answers after the turn's commit.

`HANDLERS` maps the request's type to its function, called with the daemon, the request and the caller. What cannot be
done is raised as `Refused`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from annul import lifecycle
from annul._version import __version__
from annul.errors import Refused, StoreError
from annul.lifecycle import Event
from annul.server import Caller, internal
from annul.store import JobRecord
from annul.store.record import utc, view
from annul.supervision import entry_of
from annul_client import wire
from annul_client.wire import CancelOutcome, CancelRecord, Stage, State

if TYPE_CHECKING:
    from annul.daemon import Daemon

_log = logging.getLogger(__name__)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}")
_DEFAULT_USER = "default"
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no letter that is taken for another
_MAX_TEXT = 500  # characters of a title, a reason, a key, a label
_MAX_LABELS = 32
_MAX_WAIT_S = 60.0  # of one `wait` request; clients ask again
_MAX_ROWS = 10_000


# --- submit -----------------------------------------------------------------------------------------------------


def submit(daemon: Daemon, request: wire.Submit, caller: Caller) -> None:
    def done(record: JobRecord, created: bool) -> None:
        caller.answer(wire.JobReply(job=daemon.view(record), created=created))

    _submit(daemon, request, caller, request.rid, done, caller.refuse)


def submit_many(daemon: Daemon, request: wire.SubmitMany, caller: Caller) -> None:
    if len(request.jobs) > wire.MAX_SUBMIT_MANY:
        raise Refused(
            "too_many",
            f"submit_many takes {wire.MAX_SUBMIT_MANY} jobs at most, not {len(request.jobs)}",
            "jobs",
        )
    answers = [wire.Submitted()] * len(request.jobs)
    for number, one in enumerate(request.jobs):

        def done(record: JobRecord, created: bool, number: int = number) -> None:
            answers[number] = wire.Submitted(job=daemon.view(record), created=created)

        def refuse(error: Refused, number: int = number) -> None:
            answers[number] = wire.Submitted(error=error.info)

        try:
            _submit(
                daemon,
                one,
                caller,
                one.rid or f"{request.rid}/{number}",
                done,
                refuse,
            )
        except Refused as error:
            refuse(error)
    daemon.ledger.afterwards(lambda: caller.answer(wire.SubmitManyReply(jobs=answers)))


def _submit(
    daemon: Daemon,
    request: wire.Submit,
    caller: Caller,
    rid: str,
    done: Callable[[JobRecord, bool], None],
    refuse: Callable[[Refused], None],
) -> None:
    if daemon.stopping:
        raise Refused("stopping", "the daemon is stopping and takes no new jobs; try again when it is back")
    user = _user(request.user)
    known = daemon.catalog.get(request.type)
    _check_submit(request)
    digest = _digest(request)
    # Short ones ("1", "r7") are counters that start anew with each client: only a long one can be meant as unique.
    unique = f"{caller.by}/{rid}" if len(rid.partition("/")[0]) >= wire.UNIQUE_RID else None
    before = daemon.ledger.by_request(unique) if unique else None
    if before is None and request.key is not None:
        before = daemon.ledger.by_key(user, request.key)
    if before is not None:
        if before.digest != digest:
            raise Refused(
                "key_conflict",
                f"key {request.key!r} of user {user!r} stands for job {before.id} already, which was submitted with "
                "other parameters; choose another key",
                "key",
            )
        found = before
        daemon.ledger.afterwards(lambda: done(found, False))
        return
    if len(daemon.registry.queue) >= daemon.config.max_queued:
        raise Refused("queue_full", f"{daemon.config.max_queued} jobs are queued already; try again later")

    job_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    inputs = daemon.supervision.job_dir(job_id) / "input"
    params = _with_inputs(request, known.inputs, inputs)
    checked = daemon.catalog.check(known, params)
    try:
        _keep_inputs(request.inputs, inputs)
    except OSError as error:
        daemon.sweeper.add(inputs.parent)
        raise Refused("store_unavailable", f"keeping the job's input files: {error}") from error
    record = JobRecord(
        seq=daemon.ledger.next_seq(),
        id=job_id,
        request=unique,
        type=request.type,
        user=user,
        key=request.key,
        digest=digest,
        title=request.title,
        labels=request.labels,
        priority=request.priority,
        params=checked,
        timeout_s=request.timeout_s,
        not_before=request.not_before.timestamp() if request.not_before else None,
        submitted_by=caller.by,
        created_at=daemon.clock.wall(),
    )

    def not_stored(error: StoreError) -> None:
        daemon.registry.queue.remove(job_id)
        daemon.sweeper.add(inputs.parent)
        refuse(_unavailable(error))

    record = daemon.ledger.change(
        record, State.QUEUED, insert=True, then=lambda: done(record, True), refused=not_stored
    )
    daemon.registry.queue.add(entry_of(record), daemon.clock.wall())


def _user(name: str) -> str:
    if not name:
        return _DEFAULT_USER
    if not _USER.fullmatch(name):
        raise Refused(
            "invalid_user",
            f"a user's name is 1 to 64 letters, digits and ._@+-, not starting with a dot; {name[:80]!r} is not",
            "user",
        )
    return name


def _check_submit(request: wire.Submit) -> None:
    if request.timeout_s is not None and not 0 < request.timeout_s < math.inf:
        raise Refused("invalid_request", f"timeout_s must be above 0, not {request.timeout_s}", "timeout_s")
    if request.not_before is not None and request.not_before.tzinfo is None:
        raise Refused("invalid_request", "not_before needs a time zone: 2026-11-23T15:00:00Z", "not_before")
    if not -(2**31) <= request.priority < 2**31:
        raise Refused("invalid_request", "priority is a 32-bit integer", "priority")
    if len(request.labels) > _MAX_LABELS:
        raise Refused("invalid_request", f"a job has {_MAX_LABELS} labels at most", "labels")
    texts = {"title": request.title, "key": request.key or ""}
    for field, text in (*texts.items(), *((f"labels.{k[:40]}", k + v) for k, v in request.labels.items())):
        if len(text) > _MAX_TEXT:
            raise Refused("invalid_request", f"{field} is {_MAX_TEXT} characters at most, not {len(text)}", field)
    if request.key == "":
        raise Refused("invalid_request", "a key may not be empty", "key")


def _digest(request: wire.Submit) -> bytes:
    """Of what makes two submits the same job: type, parameters, input files."""
    inputs = {name: hashlib.blake2b(data, digest_size=16).hexdigest() for name, data in request.inputs.items()}
    what = msgspec.json.encode((request.type, request.params, inputs), order="deterministic")
    return hashlib.blake2b(what, digest_size=16).digest()


def _with_inputs(request: wire.Submit, known: list[str], folder: Path) -> dict[str, Any]:
    params = dict(request.params)
    for name in request.inputs:
        if name not in known:
            names = ", ".join(known) or "none"
            raise Refused(
                "invalid_params",
                f"{request.type} has no input file {name!r} (it has: {names})",
                f"inputs.{name}",
            )
        if name in params:
            raise Refused("invalid_params", f"{name} is given as a path and as bytes", f"params.{name}")
        params[name] = str(folder / name)
    return params


def _keep_inputs(inputs: dict[str, bytes], folder: Path) -> None:
    """Durable before the job is: an input file must not be missing of a job that was accepted."""
    if not inputs:
        return
    folder.mkdir(parents=True, mode=0o700)
    for name, data in inputs.items():
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


# --- cancel -----------------------------------------------------------------------------------------------------


def cancel(daemon: Daemon, request: wire.Cancel, caller: Caller) -> None:
    if request.grace_s is not None and not 0 <= request.grace_s < math.inf:
        raise Refused("invalid_request", f"grace_s must be 0 or more, not {request.grace_s}", "grace_s")
    if len(request.reason) > _MAX_TEXT or len(request.by) > _MAX_TEXT:
        raise Refused("invalid_request", f"reason and by are {_MAX_TEXT} characters at most", "reason")
    if request.id is None:
        _cancel_matching(daemon, request, caller)
        return

    def answer(outcome: CancelOutcome, record: JobRecord | None) -> None:
        caller.answer(wire.CancelReply(outcome=outcome, job=daemon.view(record) if record else None))

    _cancel_one(daemon, request.id, request, caller, answer, caller.refuse)


def _cancel_matching(daemon: Daemon, request: wire.Cancel, caller: Caller) -> None:
    if request.user is None and request.type is None and not request.label:
        raise Refused("invalid_request", "cancel needs an id, or a user, type or label to match", "id")
    live: list[str] = []
    for state in (s for s in State if not s.final):
        live += [
            record.id
            for record in daemon.store.jobs(
                user=request.user, state=state, type_=request.type, label=request.label, limit=_MAX_ROWS
            )
        ]
    accepted: list[wire.Job] = []

    def answer(outcome: CancelOutcome, record: JobRecord | None) -> None:
        if record is not None and outcome in (CancelOutcome.CANCELLING, CancelOutcome.CANCELLED_BEFORE_START):
            accepted.append(daemon.view(record))

    for job_id in live:
        _cancel_one(daemon, job_id, request, caller, answer, lambda _: None)

    def tell() -> None:
        states = {job.state for job in accepted}
        outcome = CancelOutcome.CANCELLING if states - {State.CANCELLED} else CancelOutcome.CANCELLED_BEFORE_START
        caller.answer(wire.CancelReply(outcome=outcome if accepted else CancelOutcome.NOT_FOUND, jobs=accepted))

    daemon.ledger.afterwards(tell)


def _cancel_one(
    daemon: Daemon,
    job_id: str,
    request: wire.Cancel,
    caller: Caller,
    answer: Callable[[CancelOutcome, JobRecord | None], None],
    refuse: Callable[[Refused], None],
) -> None:
    by = request.by or caller.by
    active = daemon.registry.active.get(job_id)
    if active is not None:
        daemon.supervision.begin_stop(
            active, Event.CANCEL, lifecycle.StopKind.CANCEL, reason=request.reason, by=by, grace_s=request.grace_s
        )
        record = active.record
        daemon.ledger.afterwards(lambda: answer(CancelOutcome.CANCELLING, record))
        return
    found = daemon.ledger.newest(job_id)
    if found is None:
        daemon.ledger.afterwards(lambda: answer(CancelOutcome.NOT_FOUND, None))
        return
    outcome = lifecycle.answer_to_cancel(found.state)
    if outcome is not CancelOutcome.CANCELLED_BEFORE_START:
        daemon.ledger.afterwards(lambda: answer(outcome, found))
        return
    entry = daemon.registry.queue.remove(job_id)
    now = daemon.clock.wall()
    state, _ = lifecycle.step(found.state, Event.CANCEL)
    asked_at = utc(now)
    assert asked_at is not None
    cancelled = found.with_(
        state=state,
        finished_at=now,
        cancel=CancelRecord(
            reason=request.reason,
            kind=lifecycle.StopKind.CANCEL,
            by=by,
            grace_s=request.grace_s or 0.0,
            asked_at=asked_at,
            gone_s=0.0,
            stage=Stage.BEFORE_START,
        ),
    )

    def not_stored(error: StoreError) -> None:
        if entry is not None:
            daemon.registry.queue.add(entry, daemon.clock.wall())
        refuse(_unavailable(error))

    daemon.ledger.change(
        cancelled,
        state,
        then=lambda: answer(CancelOutcome.CANCELLED_BEFORE_START, cancelled),
        refused=not_stored,
    )
    daemon.sweeper.add(daemon.supervision.job_dir(job_id) / "input")


# --- looking ----------------------------------------------------------------------------------------------------
# These run after the turn's commit, so that they tell what is durable.


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
    if not 1 <= request.limit <= _MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {_MAX_ROWS}, not {request.limit}", "limit")
    records = daemon.store.jobs(
        user=request.user, state=request.state, type_=request.type, label=request.label, limit=request.limit
    )
    caller.answer(wire.ListReply(jobs=[daemon.view(record) for record in records]))


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
            caller.refuse(error if isinstance(error, Refused) else _unavailable(error))

    until = daemon.clock.monotonic() + min(request.timeout_s, _MAX_WAIT_S)
    daemon.registry.wait(request.id, tell, until)


def events(daemon: Daemon, request: wire.Events, caller: Caller) -> None:
    if not 1 <= request.limit <= _MAX_ROWS:
        raise Refused("invalid_request", f"limit is 1 to {_MAX_ROWS}, not {request.limit}", "limit")
    ledger = daemon.ledger
    found: list[wire.Event] = []
    if request.since is not None:
        bodies = daemon.store.events_since(request.since, request.job_id, request.limit)
        found = [msgspec.msgpack.decode(body, type=wire.Event) for body in bodies]
    caller.answer(wire.EventsReply(events=found, last=ledger.last_event, oldest=ledger.oldest_event))


def logs(daemon: Daemon, request: wire.Logs, caller: Caller) -> None:
    record = _job(daemon, request.id)
    attempt = record.attempt if request.attempt is None else request.attempt
    path = daemon.supervision.job_dir(record.id) / str(attempt) / "log"
    limit = min(max(request.limit, 0), wire.MAX_MESSAGE // 2)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset = request.offset if request.offset >= 0 else max(0, size + request.offset)
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


def _unavailable(error: StoreError) -> Refused:
    return Refused("store_unavailable", f"{error}; nothing was changed, try again")


# --- dispatch ---------------------------------------------------------------------------------------------------

_Handler = Callable[[Any, Any, Caller], None]

WRITING: dict[type[wire.Request], _Handler] = {
    wire.Submit: submit,
    wire.SubmitMany: submit_many,
    wire.Cancel: cancel,
}
READING: dict[type[wire.Request], _Handler] = {
    wire.Ping: ping,
    wire.Get: get,
    wire.List: list_,
    wire.Wait: wait,
    wire.Events: events,
    wire.Logs: logs,
    wire.Result: result,
    wire.Types: types,
}


def handle(daemon: Daemon, request: wire.Request, caller: Caller) -> None:
    """Carry out one request. Whatever goes wrong is answered, and hits nobody else."""
    if type(request) in WRITING:
        _guarded(WRITING[type(request)], daemon, request, caller)
    else:
        handler = READING[type(request)]
        daemon.ledger.afterwards(lambda: _guarded(handler, daemon, request, caller))


def _guarded(handler: _Handler, daemon: Daemon, request: wire.Request, caller: Caller) -> None:
    try:
        handler(daemon, request, caller)
    except Refused as error:
        caller.refuse(error)
    except StoreError as error:
        caller.refuse(_unavailable(error))
    except Exception as error:  # noqa: BLE001 (a bug shown by one request must not take the jobs' supervisor down)
        caller.refuse(internal(error))


def view_of(daemon: Daemon, record: JobRecord, *, with_result: bool) -> wire.Job:
    """A job as clients see it, with what is known of it right now."""
    active = daemon.registry.active.get(record.id)
    pid = active.pid if active is not None and active.leader_alive else None
    if active is not None and active.record.attempt == record.attempt:
        seq, fraction, stage = active.board.progress()
        if seq:
            record = record.with_(progress=wire.Progress(fraction=fraction, stage=stage))
        record = record.with_(cancel=daemon.supervision.cancel_so_far(active))
    return view(record, outputs=str(daemon.config.outputs_dir), pid=pid, result=with_result)
