"""`cancel`: of one job, or of all live ones that match. Never an exception, always an outcome (C5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from annul import lifecycle, pausing, stopping
from annul.errors import Refused, StoreError
from annul.handlers.showing import MAX_DURATION_S, MAX_ROWS, MAX_TEXT, check_labels, unavailable
from annul.lifecycle import Event
from annul.server import Caller
from annul.store import JobRecord
from annul.store.record import utc
from annul_client import wire
from annul_client.wire import CancelOutcome, CancelRecord, Stage

if TYPE_CHECKING:
    from annul.daemon import Daemon

_log = logging.getLogger(__name__)
_PIECE = 200  # jobs of one request in one turn


def cancel(daemon: Daemon, request: wire.Cancel, caller: Caller) -> None:
    if request.grace_s is not None and not 0 <= request.grace_s <= MAX_DURATION_S:
        raise Refused("invalid_request", f"grace_s is 0 to a year, not {request.grace_s}", "grace_s")
    if len(request.reason) > MAX_TEXT or len(request.by) > MAX_TEXT:
        raise Refused("invalid_request", f"reason and by are {MAX_TEXT} characters at most", "reason")
    if request.id is None:
        if request.user is None and request.type is None and not request.label:
            raise Refused("invalid_request", "cancel needs an id, or a user, type or label to match", "id")
        check_labels(request.label)
        if caller.grant.user is not None:
            if request.user not in (None, caller.grant.user):
                caller.answer(wire.CancelReply(outcome=CancelOutcome.NOT_FOUND))
                return
            request = msgspec.structs.replace(request, user=caller.grant.user)
        daemon.bulk.append((_cancel_matching(daemon, request, caller), caller))
        return

    def answer(outcome: CancelOutcome, record: JobRecord | None) -> None:
        caller.answer(wire.CancelReply(outcome=outcome, job=daemon.view(record) if record else None))

    _cancel_one(daemon, request.id, request, caller, answer, caller.refuse)


def _cancel_matching(daemon: Daemon, request: wire.Cancel, caller: Caller) -> Iterator[None]:
    """A piece at each step, so that many jobs hold up nobody."""
    jobs: list[wire.Job] = []
    count, running = 0, False

    def answer(outcome: CancelOutcome, record: JobRecord | None) -> None:
        nonlocal count, running
        if record is None or outcome not in (CancelOutcome.CANCELLING, CancelOutcome.CANCELLED_BEFORE_START):
            return
        count += 1
        running = running or outcome is CancelOutcome.CANCELLING
        if len(jobs) < MAX_ROWS:
            jobs.append(daemon.view(record))

    refusals: list[Refused] = []
    for live in daemon.store.live(user=request.user, type_=request.type, label=request.label, rows=_PIECE):
        for job_id in live:
            try:
                if _is_its_own(daemon, job_id, caller):
                    _cancel_one(daemon, job_id, request, caller, answer, refusals.append)
            except StoreError as error:
                refusals.append(unavailable(error))
        yield

    def tell() -> None:
        if refusals:
            error = refusals[0]
            if count:
                error = Refused(error.code, f"of {count + len(refusals)} jobs, {count} are cancelled; {error.message}")
            caller.refuse(error)
            return
        outcome = CancelOutcome.CANCELLING if running else CancelOutcome.CANCELLED_BEFORE_START
        caller.answer(wire.CancelReply(outcome=outcome if count else CancelOutcome.NOT_FOUND, jobs=jobs, count=count))

    daemon.ledger.afterwards(tell)


def _is_its_own(daemon: Daemon, job_id: str, caller: Caller) -> bool:
    """Whether a cancel of many is for this one."""
    record = daemon.ledger.newest(job_id)
    return record is not None and caller.grant.owns(record.user, record.submitted_by)


def _asker(said: str, caller: Caller) -> str:
    """Whom a cancel is recorded as: a local admin may speak for anyone, others may say for whom they speak."""
    if not said or caller.grant.is_local_admin:
        return said or caller.by
    return f"{said} ({caller.by})"


def _cancel_one(
    daemon: Daemon,
    job_id: str,
    request: wire.Cancel,
    caller: Caller,
    answer: Callable[[CancelOutcome, JobRecord | None], None],
    refuse: Callable[[Refused], None],
) -> None:
    by = _asker(request.by, caller)
    active = daemon.registry.active.get(job_id)
    if active is not None and caller.grant.sees(active.record.user):
        caller.grant.check_owns(job_id, active.record.user, active.record.submitted_by)
        stopping.begin(
            daemon.supervision,
            active,
            Event.CANCEL,
            lifecycle.StopKind.CANCEL,
            reason=request.reason,
            by=by,
            grace_s=request.grace_s,
        )
        record = active.record
        daemon.ledger.afterwards(lambda: answer(CancelOutcome.CANCELLING, record))
        return
    found = daemon.ledger.newest(job_id)
    if found is None or not caller.grant.sees(found.user):
        daemon.ledger.afterwards(lambda: answer(CancelOutcome.NOT_FOUND, None))
        return
    caller.grant.check_owns(job_id, found.user, found.submitted_by)
    outcome = lifecycle.answer_to_cancel(found.state)
    if outcome is not CancelOutcome.CANCELLED_BEFORE_START:
        daemon.ledger.afterwards(lambda: answer(outcome, found))
        return
    entry = daemon.registry.queue.remove(job_id)
    now = daemon.clock.wall()
    state, _ = lifecycle.step(found.state, Event.CANCEL)
    asked_at = utc(now)
    assert asked_at is not None
    cancelled = pausing.after(found, state).with_(
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
        refuse(unavailable(error))

    def stored(written: JobRecord) -> None:
        _log.info(
            "job %s cancelled before it started, by %s%s",
            job_id,
            by or "somebody",
            f": {request.reason}" if request.reason else "",
            extra={"action": "cancelled", "job_id": job_id},
        )
        daemon.sweeper.add(daemon.supervision.job_dir(job_id) / "input")
        answer(CancelOutcome.CANCELLED_BEFORE_START, written)

    daemon.ledger.change(cancelled, state, then=stored, refused=not_stored)
