"""Following events over a SUB socket: moves the bytes of an `EventFeed`, and decides when to ask the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import msgspec
import zmq

from . import wire
from .channel import Watch, connecting
from .core import WAIT_PIECE_S, read_event, topic
from .errors import ClientClosed
from .feed import EventFeed

CHECKS_S = (0.02, 0.1, 0.5, 2.0)
"""Seconds after a connection was made at which the log is asked: a subscription takes effect a little later
than the connection, and nobody says when. What was published in between shows up here."""

IDLE_S = 5.0
"""Seconds of silence after which the log is asked, since the last of a stream can be lost without a trace."""

UNREAD = 10_000
"""Publications kept by the socket while this thread does something else; the log has what comes after them."""

BURST = 256
"""Publications read in one go, so that closing the client is noticed under any load."""


class Subscription:
    """A SUB socket with the feed it fills. Owned by the thread that iterates over it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        feed: EventFeed,
        ask: Callable[[wire.Events], wire.EventsReply],
        closed_fd: int,
    ) -> None:
        self._feed = feed
        self._ask = ask
        self._closed_fd = closed_fd
        self._socket = connecting(context, zmq.SUB)
        self._socket.rcvhwm = UNREAD
        self._watch = Watch(self._socket)
        self._socket.subscribe(topic(feed.job_id))
        self._socket.connect(endpoint)
        self._poller = zmq.Poller()
        for one in (self._socket, self._watch.socket, closed_fd):
            self._poller.register(one, zmq.POLLIN)
        self._checks: list[float] = []  # moments at which to ask, the next one last
        self._heard_at = monotonic()

    def catch_up(self) -> Iterator[wire.Event]:
        """The events that the log has now, to its end."""
        while (request := self._feed.request()) is not None:
            yield from self._feed.replied(self._ask(request))
            self._heard_at = monotonic()

    def __iter__(self) -> Iterator[wire.Event]:
        """Events for ever. Raises what asking the daemon raises, `EventsLost` and `ClientClosed`."""
        while True:
            yield from self.catch_up()
            yield from self._listen()

    def close(self) -> None:
        """Close at once; nothing lingers."""
        self._watch.close()
        self._socket.close(linger=0)

    def _listen(self) -> Iterator[wire.Event]:
        """Wait for something, and take it; returns where the log may have to be asked."""
        idle_at = self._heard_at + IDLE_S
        until = min(idle_at, self._checks[-1]) if self._checks else idle_at
        ready = dict(self._poller.poll(int(max(0.0, until - monotonic()) * 1000) + 1))
        if self._closed_fd in ready:
            raise ClientClosed("events: the client was closed")
        now = monotonic()
        if self._watch.socket in ready and self._watch.read():
            self._checks = [now + after_s for after_s in reversed(CHECKS_S)]
            self._feed.check()
        if self._socket in ready:
            self._heard_at = now
            for _ in range(BURST):
                try:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                event = read_event(frames)
                if event is None:
                    self._feed.check()
                else:
                    yield from self._feed.published(event)
        if self._checks and now >= self._checks[-1]:
            self._checks.pop()
            self._feed.check()
        elif now >= idle_at:
            self._feed.check()


class Polling:
    """The same for callers that the daemon lets subscribe to nothing: it is asked for events and holds its answer."""

    def __init__(self, feed: EventFeed, ask: Callable[[wire.Events], wire.EventsReply]) -> None:
        self._feed = feed
        self._ask = ask

    def catch_up(self) -> Iterator[wire.Event]:
        """The events that the log has now, to its end."""
        while (request := self._feed.request()) is not None:
            yield from self._feed.replied(self._ask(request))

    def __iter__(self) -> Iterator[wire.Event]:
        """Events for ever. Raises what asking the daemon raises, and `EventsLost`."""
        while True:
            self._feed.check()
            request = self._feed.request()
            assert request is not None
            yield from self._feed.replied(self._ask(msgspec.structs.replace(request, wait_s=WAIT_PIECE_S)))

    def close(self) -> None:
        """It holds nothing."""
