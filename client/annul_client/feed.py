"""Events, exactly once and in order, out of a stream that loses some. No I/O, no clock.

The daemon publishes each event once and keeps it in a durable log. A publication can be lost (a slow reader,
a broken connection, a subscription that came a moment late), so the numbers decide: `seq` has no gaps over
all jobs and `job_seq` none within one job. Where a number is missing the log is asked for what came after the
last event that was given out.
"""

from __future__ import annotations

from . import wire
from .errors import EventsLost

MAX_HELD = 4096
"""Publications kept while a gap is filled. More are dropped: the log has them, and they are asked for again."""


class EventFeed:
    """One reader's place in the event log. Owned by one thread.

    Whoever moves the bytes asks `request()`; while that is not None, it sends it and gives the reply to
    `replied()`. Publications go to `published()` at any time. Both return the events that are due, in order.

    # Invariant: every event after the starting point is returned exactly once, and in the order of `seq`.
    # Invariant: `position` is the highest number up to which every event of this feed has been returned.
    """

    def __init__(self, since: int | None = None, job_id: str | None = None) -> None:
        """Start after event number `since`, or where the log ends at the first reply."""
        self.position = since
        self.job_id = job_id
        self._asking = True
        self._next_job_seq: int | None = None  # of a single job: known once one of its events was seen
        self._held: dict[int, wire.Event] = {}

    def request(self) -> wire.Events | None:
        """What to ask the log now; None when nothing is known to be missing."""
        if not self._asking:
            return None
        return wire.Events(since=self.position, job_id=self.job_id)

    def check(self) -> None:
        """Ask the log at the next turn, missing or not: after a silence, or after a connection came back.

        The last events of a stream leave no gap behind when they are lost, so only asking shows them.
        """
        self._asking = True

    def published(self, event: wire.Event) -> list[wire.Event]:
        """Take an event from the stream; any order, any number of times."""
        if self.job_id is not None and event.job.id != self.job_id:
            return []  # the topic of an id that begins with this one
        if self.position is not None and event.seq <= self.position:
            return []
        if not self._asking and self._is_next(event):
            return [self._give(event)]
        self._asking = True
        if len(self._held) < MAX_HELD:
            self._held[event.seq] = event
        return []

    def replied(self, reply: wire.EventsReply) -> list[wire.Event]:
        """Take the log's answer to `request()`.

        Raises `EventsLost` when the log has no longer, or has never had, what comes after `position`.
        """
        if self.position is None:
            self.position = reply.last
            self._asking = False
            return self._release()
        new = sorted((e for e in reply.events if e.seq > self.position), key=lambda event: event.seq)
        if self._is_lost(reply, new):
            raise EventsLost(self.position, reply.oldest, reply.last)
        due = [self._give(event) for event in new]
        # The daemon cuts a long answer, by number or by size. An answer with nothing new, or one that reaches
        # the log's end, says that everything up to there is known.
        if not due or self.position >= reply.last:
            self.position = max(self.position, reply.last)
            self._asking = False
            due += self._release()
        return due

    def _is_next(self, event: wire.Event) -> bool:
        if self.job_id is None:
            return event.seq == (self.position or 0) + 1
        return event.job_seq == self._next_job_seq

    def _is_lost(self, reply: wire.EventsReply, new: list[wire.Event]) -> bool:
        """Whether the log cannot be followed from here: it starts later (purged), or is another, shorter one."""
        at = self.position or 0
        if reply.last < at:
            return True
        if reply.oldest <= at + 1:
            return False
        if self.job_id is None:
            return True
        # Of a single job only its own entries count: that older ones of other jobs were purged loses nothing.
        return bool(new) and new[0].job_seq != (self._next_job_seq or 1)

    def _give(self, event: wire.Event) -> wire.Event:
        self.position = event.seq
        self._next_job_seq = event.job_seq + 1
        self._held.pop(event.seq, None)
        return event

    def _release(self) -> list[wire.Event]:
        """Give out what was held and is due now; whatever still leaves a gap is asked for."""
        held = [self._held[seq] for seq in sorted(self._held)]
        self._held.clear()
        due = []
        for event in held:
            due += self.published(event)
        return due
