"""Following events: when to ask the log and when to listen, over a stream that loses some. No I/O but the clock.

What is given out, in which order and when something is missing, is `feed.EventFeed`'s to know.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from . import wire
from .asking import Ask, ask
from .core import WAIT_PIECE_S, Call, read_event
from .feed import EventFeed

CHECKS_S = (0.02, 0.1, 0.5, 2.0)
"""Seconds after a connection was made at which the log is asked: a subscription takes effect a little later
than the connection, and nobody says when. What was published in between shows up here."""

IDLE_S = 5.0
"""Seconds of silence after which the log is asked, since the last of a stream can be lost without a trace."""


@dataclass(frozen=True)
class Listen:
    """Wait for a publication, at most until this moment of the monotonic clock."""

    until: float


@dataclass(frozen=True)
class Heard:
    """What came of it: whether a connection was made meanwhile, and publications, each as its frames."""

    connected: bool
    publications: list[list[bytes]]


Steps = Generator[Ask | Listen | wire.Event, Any, None]
"""What a reader of events does next: ask (is sent the answers), listen (is sent what was `Heard`), give one out."""


def following(feed: EventFeed, *, polled_s: float | None = None) -> Steps:
    """The steps of one reader: for ever, or to the final state of the feed's job.

    To be begun once the subscription is under way. `polled_s`: there is none, since the daemon lets this caller
    subscribe to nothing: it is asked for events and holds its answer, with so many seconds more than that for it.

    Raises `EventsLost`.
    """
    if feed.job_id is not None:
        if feed.position is None:
            # Only finds the log's end. Race: looking at the job before would miss a job that ends between.
            yield from _catch_up(feed)
        job = (yield from ask(wire.Get(id=feed.job_id), wire.JobReply)).job
        feed.check()
        if (yield from _catch_up(feed)) or job.state.final:
            return
    if polled_s is not None:
        yield from _poll(feed, polled_s)
        return
    checks: list[float] = []  # moments at which to ask, the next one last
    heard_at = monotonic()
    while True:
        if feed.request() is not None:
            if (yield from _catch_up(feed)):
                return
            heard_at = monotonic()
        idle_at = heard_at + IDLE_S
        heard: Heard = yield Listen(min(idle_at, checks[-1]) if checks else idle_at)
        now = monotonic()
        if heard.connected:
            checks = [now + after_s for after_s in reversed(CHECKS_S)]
            feed.check()
        if heard.publications:
            heard_at = now
        for frames in heard.publications:
            event = read_event(frames)
            if event is None:
                feed.check()
            elif (yield from _give(feed, feed.published(event))):
                return
        if checks and now >= checks[-1]:
            checks.pop()
            feed.check()
        elif now >= idle_at:
            feed.check()


def _poll(feed: EventFeed, timeout_s: float) -> Steps:
    """Ask again and again; the daemon answers when there is something."""
    if (yield from _catch_up(feed)):
        return
    while True:
        feed.check()
        request = feed.request()
        assert request is not None
        held = Call(msgspec.structs.replace(request, wait_s=WAIT_PIECE_S), wire.EventsReply)
        (reply,) = yield Ask([held], answer_s=WAIT_PIECE_S + timeout_s)
        if (yield from _give(feed, feed.replied(reply))):
            return


def _catch_up(feed: EventFeed) -> Generator[Ask | wire.Event, Any, bool]:
    """The events that the log has now, to its end. Whether the feed's is among them."""
    while (request := feed.request()) is not None:
        if (yield from _give(feed, feed.replied((yield from ask(request, wire.EventsReply))))):
            return True
    return False


def _give(feed: EventFeed, events: list[wire.Event]) -> Generator[wire.Event, None, bool]:
    """Give these out. Whether the last one of the feed is among them: its job's final state."""
    for event in events:
        yield event
        if feed.job_id is not None and event.job.state.final:
            return True
    return False
