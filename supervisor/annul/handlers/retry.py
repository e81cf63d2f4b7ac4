"""`retry`: a failed or cancelled job again, as a new one. What is final stays as it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from annul.errors import Refused
from annul.handlers import submit
from annul.handlers.showing import found, unavailable
from annul.runtime.outcome import fsync_dir
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon


def retry(daemon: Daemon, request: wire.Retry, caller: Caller) -> None:
    def done(job: wire.Job, created: bool) -> None:
        caller.answer(wire.JobReply(job=job, created=created))

    submit.check_not_stopping(daemon)
    old = found(daemon, request.id, caller)
    unique = submit.unique_name(caller, request.rid)
    before = daemon.ledger.by_request(unique) if unique else None
    if before is not None:
        if before.retry_of != old.id:
            raise Refused("key_conflict", "this request id stands for another job already; make a new one", "rid")
        daemon.ledger.afterwards(lambda: done(daemon.view(before), False))
        return
    if old.state not in (State.FAILED, State.CANCELLED):
        raise Refused("not_retryable", f"job {old.id} is {old.state}: only a failed or cancelled one is retried", "id")
    known = daemon.catalog.get(old.type)
    caller.grant.check_type(known.type.name, privileged=known.type.privileged)
    submit.check_room(daemon, old.user)
    seq = daemon.ledger.next_seq()
    job_id = submit.new_id(seq)
    params: dict[str, Any] = msgspec.json.decode(old.params)
    kept = daemon.supervision.job_dir(old.id) / "input"
    folder = daemon.supervision.job_dir(job_id) / "input"
    linked: list[str] = []
    read: dict[str, bytes] = {}
    for name in known.inputs:
        path = params.get(name)
        if not isinstance(path, str) or not path:
            continue
        if path == str(kept / name):
            linked.append(name)
        elif caller.grant.is_local_admin:
            continue
        else:  # as in a submit: who may not name that file may not have it read
            read[name] = submit.read_allowed(daemon, path, old.user, f"params.{name}")
        params[name] = str(folder / name)
    checked = daemon.catalog.check(known, params)
    if linked or read:
        try:
            submit.keep_inputs(read, folder)
            _link_inputs(kept, folder, linked)
        except FileNotFoundError as error:
            daemon.sweeper.add(folder.parent)
            raise Refused(
                "inputs_gone", f"the input files of job {old.id} are not kept any more: submit it anew", "id"
            ) from error
        except OSError as error:
            daemon.sweeper.add(folder.parent)
            raise unavailable(error) from error
    record = JobRecord(
        seq=seq,
        id=job_id,
        request=unique,
        type=old.type,
        user=old.user,
        key=None,  # it stays with the job that it was given to
        digest=old.digest,
        title=old.title,
        labels=old.labels,
        priority=old.priority,
        params=checked,
        timeout_s=old.timeout_s,
        not_before=None,
        submitted_by=caller.by,
        created_at=daemon.clock.wall(),
        retry_of=old.id,
    )
    submit.insert(daemon, record, done, caller.refuse)


def _link_inputs(source: Path, folder: Path, names: list[str]) -> None:
    """The same files in the new job's directory, durable before the job is. A purge of the old one leaves them."""
    for name in names:
        os.link(source / name, folder / name, follow_symlinks=False)
    fsync_dir(folder)
