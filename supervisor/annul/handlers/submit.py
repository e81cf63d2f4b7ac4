"""`submit` and `submit_many`: check, keep the input files, queue; answered once it is durable."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from annul import access, beneath, starting
from annul.blake2 import blake2b
from annul.catalog import Known
from annul.errors import Refused, StoreError
from annul.handlers.showing import MAX_DURATION_S, MAX_TEXT, check_labels, check_priority, unavailable
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon

_DEFAULT_USER = "default"
_TO_ID = b"0123456789abcdefghjkmnpqrstvwxyz" * 8  # of a byte; Crockford's: no letter that is taken for another


def submit(daemon: Daemon, request: wire.Submit, caller: Caller) -> None:
    def done(job: wire.Job, created: bool) -> None:
        caller.answer(wire.JobReply(job=job, created=created))

    _submit(daemon, request, caller, request.rid, done, caller.refuse)


def submit_many(daemon: Daemon, request: wire.SubmitMany, caller: Caller) -> None:
    if len(request.jobs) > wire.MAX_SUBMIT_MANY:
        raise Refused(
            "too_many",
            f"submit_many takes {wire.MAX_SUBMIT_MANY} jobs at most, not {len(request.jobs)}",
            "jobs",
        )
    answers = [wire.Submitted()] * len(request.jobs)
    of_list = unique_name(caller, request.rid)
    stored = daemon.ledger.requests_below(of_list) if of_list else None
    for number, one in enumerate(request.jobs):

        def done(job: wire.Job, created: bool, number: int = number) -> None:
            answers[number] = wire.Submitted(job=job, created=created)

        def refuse(error: Refused, number: int = number) -> None:
            answers[number] = wire.Submitted(error=error.info)

        try:
            if one.rid:
                _submit(daemon, one, caller, one.rid, done, refuse)
            else:
                _submit(daemon, one, caller, f"{request.rid}/{number}", done, refuse, stored)
        except Refused as error:
            refuse(error)
    daemon.ledger.afterwards(lambda: caller.answer(wire.SubmitManyReply(jobs=answers)))


def _submit(
    daemon: Daemon,
    request: wire.Submit,
    caller: Caller,
    rid: str,
    done: Callable[[wire.Job, bool], None],
    refuse: Callable[[Refused], None],
    stored: Container[str] | None = None,
) -> None:
    check_not_stopping(daemon)
    user = _user(caller.grant.user_for(request.user))
    known = daemon.catalog.get(request.type)
    caller.grant.check_type(known.type.name, privileged=known.type.privileged)
    _check_submit(request)
    if not caller.grant.is_local_admin:
        request = _with_files(daemon, request, known, user)
    digest = _digest(request)
    unique = unique_name(caller, rid)
    before = daemon.ledger.by_request(unique, stored) if unique else None
    again = before is not None
    if before is None and request.key is not None:
        before = daemon.ledger.by_key(user, request.key)
    if before is not None:
        if before.user != user:  # by a request id: of a key that was bound to another user, maybe
            raise Refused(
                "key_conflict", "this request id stands for a job of another user already; make a new one", "rid"
            )
        if before.digest != digest and again:
            raise Refused(
                "key_conflict",
                f"this request id stands for job {before.id} already, which was submitted with other parameters; make "
                "a new one",
                "rid",
            )
        if before.digest != digest:
            raise Refused(
                "key_conflict",
                f"key {request.key!r} of user {user!r} stands for job {before.id} already, which was submitted with "
                "other parameters; choose another key",
                "key",
            )
        found = before
        daemon.ledger.afterwards(lambda: done(daemon.view(found), False))
        return
    check_room(daemon, user)
    seq = daemon.ledger.next_seq()
    job_id = new_id(seq)
    inputs = daemon.supervision.job_dir(job_id) / "input" if request.inputs else None
    checked = daemon.catalog.check(known, _with_inputs(request, known.inputs, inputs) if inputs else request.params)
    if inputs:
        try:
            keep_inputs(request.inputs, inputs)
        except OSError as error:
            daemon.sweeper.add(inputs.parent)
            raise unavailable(error) from error
    record = JobRecord(
        seq=seq,
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
    insert(daemon, record, done, refuse)


def insert(
    daemon: Daemon, record: JobRecord, done: Callable[[wire.Job, bool], None], refuse: Callable[[Refused], None]
) -> None:
    """Queue a new job, whose input files are kept already."""

    def not_stored(error: StoreError) -> None:
        daemon.registry.queue.remove(record.id)
        daemon.sweeper.add(daemon.supervision.job_dir(record.id))
        refuse(unavailable(error))

    daemon.ledger.change(record, State.QUEUED, insert=True, told=lambda job: done(job, True), refused=not_stored)
    starting.enqueue(daemon.supervision, record)


def check_not_stopping(daemon: Daemon) -> None:
    """Raises Refused(stopping)."""
    if daemon.stopping:
        raise Refused("stopping", "the daemon is stopping and takes no new jobs; try again when it is back")


def check_room(daemon: Daemon, user: str) -> None:
    """Raises Refused(queue_full)."""
    queue, config = daemon.registry.queue, daemon.config
    if len(queue) >= config.max_queued:
        raise Refused("queue_full", f"{config.max_queued} jobs are queued already; try again later")
    if 0 < config.max_queued_per_user <= queue.by_user[user]:
        raise Refused(
            "queue_full", f"{config.max_queued_per_user} jobs of user {user} are queued already: wait a little"
        )


def unique_name(caller: Caller, rid: str) -> str | None:
    """What a request is kept under, so that it makes no second job when it is sent again; None: it is not.

    Short ids ("1", "r7") are counters that start anew with each client: only a long one can be meant as unique.
    """
    return f"{caller.by}/{rid}" if len(rid.partition("/")[0]) >= wire.UNIQUE_RID else None


def new_id(seq: int) -> str:
    """For the job with this number: five characters that grow with it, and seven by chance, which nobody can guess.

    So neighbours in time are neighbours in the store's indexes: with a long history, 500 jobs in places all over them
    are 500 pages of each to be written, twice, which took three times as long as all else in a commit.
    """
    place = (seq >> 20 & 31, seq >> 15 & 31, seq >> 10 & 31, seq >> 5 & 31, seq & 31)
    return (bytes(place) + next(_chance)).translate(_TO_ID).decode()


def _sevens() -> Iterator[bytes]:
    """Random bytes for one id each; the kernel is asked for many at once."""
    while True:
        many = os.urandom(7 * 256)
        yield from (many[start : start + 7] for start in range(0, len(many), 7))


_chance = _sevens()


def _user(name: str) -> str:
    if not name:
        return _DEFAULT_USER
    if not access.USER.fullmatch(name):
        raise Refused("invalid_user", f"a user's name is {access.USER_RULE}; {name[:80]!r} is not", "user")
    return name


def _check_submit(request: wire.Submit) -> None:
    if request.timeout_s is not None and not 0 < request.timeout_s <= MAX_DURATION_S:
        raise Refused(
            "invalid_request", f"timeout_s is above 0 and at most a year, not {request.timeout_s}", "timeout_s"
        )
    if request.not_before is not None:
        if request.not_before.tzinfo is None:
            raise Refused("invalid_request", "not_before needs a time zone: 2026-11-23T15:00:00Z", "not_before")
        if not 1970 < request.not_before.year < 9000:
            raise Refused("invalid_request", f"not_before is no sensible time: {request.not_before}", "not_before")
    check_priority(request.priority)
    check_labels(request.labels)
    labels = [(f"labels.{name[:40]}", name + value) for name, value in request.labels.items()]
    for field, text in (("title", request.title), ("key", request.key or ""), *labels):
        if len(text) > MAX_TEXT:
            raise Refused("invalid_request", f"{field} is {MAX_TEXT} characters at most, not {len(text)}", field)
        if "\0" in text:
            raise Refused("invalid_request", f"{field} may not hold U+0000", field)
    if len(request.rid) > wire.MAX_RID:
        raise Refused("invalid_request", f"a rid is {wire.MAX_RID} characters at most, not {len(request.rid)}", "rid")
    if request.key == "":
        raise Refused("invalid_request", "a key may not be empty", "key")


def _digest(request: wire.Submit) -> bytes:
    """Of what makes two submits the same job: type, parameters, input files."""
    inputs = {name: blake2b(data, digest_size=16).hexdigest() for name, data in request.inputs.items()}
    try:
        what = msgspec.json.encode((request.type, request.params, inputs), order="deterministic")
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            "invalid_params", f"{request.type}: params cannot be written as JSON: {error}", "params"
        ) from error
    return blake2b(what, digest_size=16).digest()


def _with_files(daemon: Daemon, request: wire.Submit, known: Known, user: str) -> wire.Submit:
    """With the bytes of the input files that it names, which lie in the directories open to everyone.

    Read here and now: what the caller puts in their place later is not what the job reads.
    """
    params, inputs = dict(request.params), dict(request.inputs)
    for name in known.inputs:
        path = params.get(name)
        if isinstance(path, str) and path and name not in inputs:
            inputs[name] = read_allowed(daemon, path, user, f"params.{name}")
            del params[name]
    return msgspec.structs.replace(request, params=params, inputs=inputs)


def read_allowed(daemon: Daemon, path: str, user: str, field: str) -> bytes:
    for root in (daemon.config.outputs_dir / user, *daemon.config.allowed_roots):
        if path.startswith(f"{root}/"):
            try:
                with beneath.opened(root, path[len(str(root)) + 1 :]) as file:
                    data = file.read(wire.MAX_MESSAGE + 1)
            except OSError as error:
                raise Refused("invalid_params", f"reading {path}: {error.strerror or error}", field) from error
            if len(data) > wire.MAX_MESSAGE:
                raise Refused("invalid_params", f"{path} has more than {wire.MAX_MESSAGE} bytes", field)
            return data
    raise Refused(
        "forbidden",
        f"{path[:200]} is in none of the directories that callers may name files in: send the file's bytes (inputs), "
        "or have the operator open its directory (allowed_roots)",
        field,
    )


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


def keep_inputs(inputs: dict[str, bytes], folder: Path) -> None:
    """Durable before the job is: an input file must not be missing of a job that was accepted."""
    folder.mkdir(parents=True, mode=0o700)
    for name, data in inputs.items():
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
