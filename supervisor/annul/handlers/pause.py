"""`pause` and `unpause`: an attribute of a queued or running job, written before anything is frozen (see `pausing`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from annul import pausing
from annul.errors import Refused, StoreError
from annul.handlers.showing import found, unavailable
from annul.registry import Active
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire

if TYPE_CHECKING:
    from annul.daemon import Daemon

_log = logging.getLogger(__name__)


def pause(daemon: Daemon, request: wire.Pause, caller: Caller) -> None:
    _set(daemon, request.id, caller, True)


def unpause(daemon: Daemon, request: wire.Unpause, caller: Caller) -> None:
    _set(daemon, request.id, caller, False)


def _set(daemon: Daemon, job_id: str, caller: Caller, paused: bool) -> None:
    record = found(daemon, job_id, caller)
    active = daemon.registry.active.get(job_id)
    if record.state not in pausing.PAUSABLE or (active is not None and active.ladder is not None):
        stops = "being stopped" if active is not None else str(record.state)
        raise Refused("not_pausable", f"job {job_id} is {stops}: only what is queued or runs is paused", "id")

    def answer(written: JobRecord) -> None:
        caller.answer(wire.JobReply(job=daemon.view(written), created=False))

    if record.paused is paused:
        daemon.ledger.afterwards(lambda: answer(record))
        return
    if active is not None:
        _set_active(daemon, active, paused, answer, caller.refuse)
        return
    daemon.registry.queue.replace(job_id, daemon.clock.wall(), paused=paused)

    def not_stored(error: StoreError) -> None:
        daemon.registry.queue.replace(job_id, daemon.clock.wall(), paused=not paused)
        caller.refuse(unavailable(error))

    _note(daemon, record.with_(paused=paused), None, answer, not_stored)


def _set_active(
    daemon: Daemon,
    active: Active,
    paused: bool,
    answer: Callable[[JobRecord], None],
    refuse: Callable[[Refused], None],
) -> None:
    sup = daemon.supervision
    if not paused:
        pausing.thaw(active)
    # Invariant: nothing is frozen from now on until that is committed, whatever else happens in this turn.
    active.pause_noted = False

    def settle(now: bool) -> None:
        """It is paused, or is not, and the store says so."""
        active.record = active.record.with_(paused=now and active.record.state in pausing.PAUSABLE)
        active.pause_noted = True
        if not now and not active.over:
            pausing.thaw(active)
        sup.guarded(active, lambda one: pausing.freeze(sup, one))

    def stored(written: JobRecord) -> None:
        settle(active.record.paused)
        answer(written)

    def not_stored(error: StoreError) -> None:
        settle(not paused)
        refuse(unavailable(error))

    active.record = _note(daemon, active.record.with_(paused=paused), active.pid, stored, not_stored)


def _note(
    daemon: Daemon,
    record: JobRecord,
    pid: int | None,
    stored: Callable[[JobRecord], None],
    not_stored: Callable[[StoreError], None],
) -> JobRecord:
    kind = "paused" if record.paused else "unpaused"
    _log.info("job %s %s", record.id, kind, extra={"action": kind, "job_id": record.id})
    return daemon.ledger.change(
        record,
        kind,
        pid=pid,
        extra=lambda store: store.set_paused(record.id, record.paused),
        then=stored,
        refused=not_stored,
    )
