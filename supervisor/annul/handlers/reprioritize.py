"""`reprioritize`: another place in the queue, for a job that has none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annul.errors import Refused, StoreError
from annul.handlers.showing import check_priority, found, unavailable
from annul.server import Caller
from annul.store import JobRecord
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon


def reprioritize(daemon: Daemon, request: wire.Reprioritize, caller: Caller) -> None:
    check_priority(request.priority)
    record = found(daemon, request.id, caller)
    if record.state is not State.QUEUED:
        raise Refused("not_queued", f"job {record.id} is {record.state}: only a queued one has a place to change", "id")

    def answer(written: JobRecord) -> None:
        caller.answer(wire.JobReply(job=daemon.view(written), created=False))

    if record.priority == request.priority:
        daemon.ledger.afterwards(lambda: answer(record))
        return
    daemon.registry.queue.replace(record.id, daemon.clock.wall(), priority=request.priority)

    def not_stored(error: StoreError) -> None:
        daemon.registry.queue.replace(record.id, daemon.clock.wall(), priority=record.priority)
        caller.refuse(unavailable(error))

    daemon.ledger.change(
        record.with_(priority=request.priority),
        "reprioritized",
        extra=lambda store: store.set_priority(record.id, request.priority),
        then=answer,
        refused=not_stored,
    )
