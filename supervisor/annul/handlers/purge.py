"""`purge`: of one final job, or of all final ones that match. Never of a live one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from annul.access import Role
from annul.errors import Refused, StoreError
from annul.handlers.showing import check_labels, unavailable
from annul.server import Caller
from annul_client import wire

if TYPE_CHECKING:
    from annul.daemon import Daemon

_PIECE = 100  # jobs looked at for one request in one turn
_PIECES = 100  # for one request; its client asks again, long before it would give up


def purge(daemon: Daemon, request: wire.Purge, caller: Caller) -> None:
    if request.id is not None:
        _purge_one(daemon, request.id, caller)
        return
    matches = (request.user, request.type, request.label or None, request.state, request.older_than_s)
    if all(match is None for match in matches):
        raise Refused("invalid_request", "purge needs an id, or a user, type, label, state or age to match", "id")
    if request.state is not None and not request.state.final:
        raise Refused("invalid_request", f"only final jobs are purged, none that is {request.state}", "state")
    if request.older_than_s is not None and not request.older_than_s >= 0:
        raise Refused("invalid_request", f"older_than_s is 0 or more, not {request.older_than_s}", "older_than_s")
    if not 0 <= request.after < 2**63:
        raise Refused("invalid_request", f"after is the `next` of a reply, not {request.after}", "after")
    check_labels(request.label)
    if caller.grant.user is not None:
        if request.user not in (None, caller.grant.user):
            caller.answer(wire.PurgeReply(count=0))
            return
        request = msgspec.structs.replace(request, user=caller.grant.user)
    elif caller.grant.role is not Role.ADMIN:
        raise Refused("forbidden", f"{caller.by} is no admin: it purges its own jobs by their ids", "id")
    daemon.chores.append((_purge_matching(daemon, request, caller), caller))


def _purge_one(daemon: Daemon, job_id: str, caller: Caller) -> None:
    record = daemon.ledger.newest(job_id)
    if record is not None and not caller.grant.sees(record.user):
        record = None
    if record is not None:
        caller.grant.check_owns(job_id, record.user, record.submitted_by)
    if record is not None and not record.state.final:
        raise Refused("not_final", f"job {job_id} is {record.state}: cancel it, or wait for its end", "id")
    if record is not None and not record.published:
        message = f"the outputs of job {job_id} are not in their place yet: see the daemon's log, and restart it"
        raise Refused("not_published", message, "id")

    def done(was_there: bool) -> None:
        caller.answer(wire.PurgeReply(count=int(was_there)))

    if record is None:
        daemon.ledger.afterwards(lambda: done(False))
    else:
        user = record.user
        daemon.retention.purge(job_id, user, then=done, refused=lambda error: caller.refuse(unavailable(error)))


def _purge_matching(daemon: Daemon, request: wire.Purge, caller: Caller) -> Iterator[None]:
    """A piece at each step, so that many jobs hold up nobody."""
    count = under_way = 0
    refusals: list[StoreError] = []

    def done(was_there: bool) -> None:
        nonlocal count, under_way
        count += was_there
        under_way -= 1

    def refused(error: StoreError) -> None:
        nonlocal under_way
        refusals.append(error)
        under_way -= 1

    pieces = daemon.store.finished(
        user=request.user,
        state=request.state,
        type_=request.type,
        label=request.label,
        until=None if request.older_than_s is None else daemon.clock.wall() - request.older_than_s,
        after=request.after,
        rows=_PIECE,
    )
    for number, (last, jobs) in enumerate(pieces, start=1):
        for job_id, user in jobs:
            daemon.retention.purge(job_id, user, then=done, refused=refused)
            under_way += 1
        yield
        # What was purged goes before more is: directories are deleted more slowly than rows.
        while under_way or daemon.sweeper.waiting:
            yield
        if refusals:
            caller.refuse(unavailable(refusals[0]))
            return
        if number == _PIECES:
            caller.answer(wire.PurgeReply(count=count, next=last))
            return
    caller.answer(wire.PurgeReply(count=count))
