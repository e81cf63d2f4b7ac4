"""`stats`: what a dashboard needs, at a cost that grows with what runs, not with what waits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from annul.server import Caller
from annul_client import wire
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.daemon import Daemon


def stats(daemon: Daemon, request: wire.Stats, caller: Caller) -> None:  # noqa: ARG001
    registry, tally = daemon.registry, daemon.supervision.tally
    active = list(registry.active.values())
    by_type = {name: Counter({str(State.QUEUED): count}) for name, count in registry.queue.by_type.items()}
    states: Counter[State] = Counter()
    for one in active:
        states[one.record.state] += 1
        by_type.setdefault(one.record.type, Counter())[str(one.record.state)] += 1
    oldest = daemon.store.oldest_queued()
    caller.answer(
        wire.StatsReply(
            uptime_s=daemon.clock.monotonic() - daemon.started,
            draining=daemon.draining,
            max_running=registry.limits.total,
            queued=len(registry.queue),
            starting=states[State.STARTING],
            running=states[State.RUNNING],
            cancelling=states[State.CANCELLING],
            paused=registry.queue.paused + sum(one.record.paused for one in active),
            stuck=sum(one.stuck_told for one in active),
            adopted=sum(one.adopted for one in active),
            by_type={name: dict(counts) for name, counts in sorted(by_type.items())},
            oldest_queued_s=None if oldest is None else max(0.0, daemon.clock.wall() - oldest),
            submitted=tally.submitted,
            ended=tally.ended_by_state(),
            stages=tally.ended_by_stage(),
            start=tally.start.timing(),
            cancel=tally.cancel.timing(),
        )
    )
