"""The blocking client."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import msgspec
import zmq

from . import places, wire
from .asking import Answer, Ask, ask
from .channel import Channel, probe
from .errors import ClientClosed, NoDaemon
from .feed import EventFeed
from .following import Heard, Listen, following
from .keys import KeyFile, key_of
from .subscription import Subscription
from .verbs import Verbs

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

CLOSE_S = 1.0
"""Seconds that `close` gives other threads to notice. One that is busy with what `events` gave it closes later."""


class Client(Verbs):
    """A client of the daemon at one endpoint.

    Thread-safe: any number of threads may use one client at once. Each call under way has a connection of its
    own for as long as it lasts; idle connections are kept for the next call. An iterator from `events`
    belongs to the thread that iterates. A process forked from one that uses a client may use it too: it
    connects anew.

    Connects with the first call. Every call may raise `NoDaemon` (at once, where the endpoint is a UNIX
    socket on which nobody listens and this client never had a connection; else after `timeout_s`),
    `BadReply`, `ClientClosed`, and `RequestRefused` or one of its kinds. A daemon that restarts in the middle
    of a call is waited for up to `timeout_s`, and the call is sent again: no job is submitted twice by that.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        timeout_s: float = 10.0,
        *,
        key: str | os.PathLike[str] | KeyFile | None = None,
    ) -> None:
        """Connects to nothing yet.

        `key`: the key file for a daemon that listens by TCP, or its content; None for ``$ANNUL_KEY``, where that is
        set. Without an `endpoint` it is the one in there. Raises OSError and ValueError for what is no key file.

        `endpoint`: None for ``$ANNUL_ENDPOINT``, else the default place; see `places.endpoint`, also for the
        PermissionError that it may raise. `timeout_s`: seconds for the answer to every request except `wait`, and for
        a daemon that is away.
        """
        self._key = key_of(key)
        self.endpoint = endpoint or places.endpoint(key=self._key)
        self.timeout_s = timeout_s
        self._lock = threading.Lock()  # guards everything below
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._idle: list[Channel] = []
        self._streams: WeakSet[Generator[wire.Event, None, None]] = WeakSet()
        self._in_use = 0
        self._all_back = threading.Condition(self._lock)
        self._was_there = False  # the daemon answered once: from then on an absence is a restart
        self._closed = False
        self._closed_fd = os.eventfd(0, os.EFD_CLOEXEC)  # readable once the client is closed

    def events(self, since: int | None = None, job_id: str | None = None) -> Generator[wire.Event, None, None]:
        """Events as they happen: each exactly once, in order, without gaps, over restarts of the daemon too.

        `since`: begin after that event number; None: with the first one after this iterator began to run,
        which is at its first `next`. With a `job_id` only that job's, and the iterator ends with its final
        state; it never ends otherwise. To go on later, pass the `seq` of the last event as `since`.

        Guarantees nothing about how soon: a lost publication is made up for within seconds. The daemon keeps the
        newest `keep_events` entries (100,000): who asks for older ones, or was away for longer than that, gets
        `EventsLost`, and never a gap. Raises also `NotFound`, and `NoDaemon` for a daemon that is away for more than
        `timeout_s`.
        """
        stream = self._follow(EventFeed(since, job_id))
        with self._lock:
            self._streams.add(stream)
        return stream

    # --- the connections ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections, at once. Calls and iterators under way in other threads raise `ClientClosed`.

        Repeatable, and callable from any thread.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._pid != os.getpid():
                return  # the sockets are those of the process that this one was forked from
            os.eventfd_write(self._closed_fd, 1)
            idle, self._idle = self._idle, []
            streams = list(self._streams)
        for channel in idle:
            channel.close()
        for stream in streams:
            try:
                stream.close()
            except ValueError:
                pass  # it runs in another thread, which finds out by `_closed_fd`
        with self._all_back:
            if self._all_back.wait_for(lambda: self._in_use == 0, timeout=CLOSE_S):
                if self._context is not None:
                    self._context.term()
                os.close(self._closed_fd)

    def __del__(self) -> None:
        # One that nobody closed: its context, where that is collected before its sockets, would wait for them for ever.
        if not sys.is_finalizing() and hasattr(self, "_closed_fd"):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, asks: Answer[T]) -> T:
        try:
            wanted = next(asks)
            while True:
                try:
                    answers = self._answers(wanted)
                except Exception as error:  # noqa: BLE001 - whoever asks may know what to do
                    wanted = asks.throw(error)
                else:
                    wanted = asks.send(answers)
        except StopIteration as end:
            found: T = end.value
            return found

    def _ask(self, request: wire.Request, reply: type[R]) -> R:
        return self._run(ask(request, reply))

    def _answers(self, wanted: Ask) -> list[Any]:
        with self._channel() as channel:
            return channel.ask(wanted, self.timeout_s)

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        """A connection for one call: an idle one, else a new one."""
        with self._borrowed() as context:
            with self._lock:
                channel = self._idle.pop() if self._idle else None
            if channel is None:
                if not self._was_there:
                    probe(self.endpoint)
                channel = Channel(context, self.endpoint, self._closed_fd, self._key)
            good = False
            try:
                yield channel
                good = True
            except NoDaemon:
                raise
            except Exception:
                good = True  # a refusal or an unreadable answer: the connection itself is in order
                raise
            finally:
                # Anything else, such as KeyboardInterrupt, may have struck in the middle of a socket call.
                with self._lock:
                    self._was_there = self._was_there or good
                    keep = good and not self._closed
                    if keep:
                        self._idle.append(channel)
                if not keep:
                    channel.close()

    @contextmanager
    def _borrowed(self) -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
        """The context, for the time that a socket of it is in use, so that `close` can wait for that."""
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._pid != os.getpid():
                # Forked: the parent's sockets and threads are not this process's. pyzmq leaves them alone
                # when they are collected here.
                self._pid, self._context, self._idle, self._in_use = os.getpid(), None, [], 0
                self._streams = WeakSet()
                self._closed_fd = os.eventfd(0, os.EFD_CLOEXEC)
            if self._context is None:
                self._context = zmq.Context()
            context = self._context
            self._in_use += 1
        try:
            yield context
        finally:
            with self._all_back:
                self._in_use -= 1
                self._all_back.notify_all()

    def _follow(self, feed: EventFeed) -> Generator[wire.Event, None, None]:
        endpoint = self._ask(wire.Ping(), wire.Pong).events
        with self._borrowed() as context:
            subscription = Subscription(context, endpoint, feed.job_id, self._key) if endpoint else None
            try:
                poller = zmq.Poller()
                for one in (*(subscription.sockets if subscription else ()), self._closed_fd):
                    poller.register(one, zmq.POLLIN)
                sent: Any = None
                steps = following(feed, polled_s=None if subscription else self.timeout_s)
                while True:
                    try:
                        step = steps.send(sent)
                    except StopIteration:
                        return
                    if isinstance(step, wire.Event):
                        sent = None
                        yield step
                    elif isinstance(step, Ask):
                        sent = self._answers(step)
                    else:
                        assert subscription is not None
                        sent = self._listen(step, poller, subscription)
            finally:
                if subscription is not None:
                    subscription.close()

    def _listen(self, step: Listen, poller: zmq.Poller, subscription: Subscription) -> Heard:
        ready = dict(poller.poll(max(0, int((step.until - monotonic()) * 1000) + 1)))
        if self._closed_fd in ready:
            raise ClientClosed("events: the client was closed")
        return subscription.take()
