"""The client of asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from . import places, wire
from .asking import Answer, Ask, OtherEnd
from .channel import probe
from .errors import ClientClosed
from .feed import EventFeed
from .following import following
from .keys import KeyFile, key_of
from .line import Line, Listener
from .verbs import Verbs

T = TypeVar("T")


class AsyncClient(Verbs):
    """A client of the daemon at one endpoint, for asyncio: the methods of `Client`, to be awaited.

        async with AsyncClient() as client:
            job = await client.submit("import-pdf", {"pdf": "/path/cv.pdf"}, user="u1")
            async for event in client.events(since=0, job_id=job.id):
                print(event.kind)

    Any number of tasks may use one client at once: their calls share one connection, and each reader of `events` has
    one of its own. A client belongs to the event loop that its first call runs in, and raises RuntimeError in another.
    It is not thread-safe: other threads go through `asyncio.run_coroutine_threadsafe`, and a process that is forked
    makes a client of its own.

    A task may be cancelled, or time out by `asyncio.timeout`, at any await; the client stays usable. A request whose
    task was cancelled may or may not be carried out: cancelling who awaits `wait` cancels no job.

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
        """Connects to nothing yet, and needs no running loop.

        `key`: the key file for a daemon that listens by TCP, or its content; None for ``$ANNUL_KEY``, where that is
        set. Without an `endpoint` it is the one in there. Raises OSError and ValueError for what is no key file.

        `endpoint`: None for ``$ANNUL_ENDPOINT``, else the default place; see `places.endpoint`, also for the
        PermissionError that it may raise. `timeout_s`: seconds for the answer to every request except `wait`, and for
        a daemon that is away.
        """
        self._key = key_of(key)
        self.endpoint = endpoint or places.endpoint(key=self._key)
        self.timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._line: Line | None = None
        self._listeners: set[Listener] = set()
        self._was_there = False
        self._closed = False

    def events(self, since: int | None = None, job_id: str | None = None) -> AsyncGenerator[wire.Event, None]:
        """Events as they happen: each exactly once, in order, without gaps, over restarts of the daemon too.

        `since`: begin after that event number; None: with the first one after this iterator began to run,
        which is at its first step. With a `job_id` only that job's, and the iterator ends with its final
        state; it never ends otherwise. To go on later, pass the `seq` of the last event as `since`. Of one task at a
        time; who leaves it early and cannot wait for the loop to close it does so by `contextlib.aclosing`.

        Guarantees nothing about how soon: a lost publication is made up for within seconds. The daemon keeps the
        newest `keep_events` entries (100,000): who asks for older ones, or was away for longer than that, gets
        `EventsLost`, and never a gap. Raises also `NotFound`, and `NoDaemon` for a daemon that is away for more than
        `timeout_s`.
        """
        return self._follow(EventFeed(since, job_id))

    # --- the connections ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close all connections, at once. Calls and iterators under way in other tasks raise `ClientClosed`.

        Repeatable. Waits for nothing.
        """
        if self._closed:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._bind()
        self._closed = True
        if self._line is not None:
            self._line.close()
        for listener in self._listeners:
            listener.close()
        if self._context is not None:
            self._context.term()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, asks: Answer[T]) -> T:
        try:
            wanted = next(asks)
            while True:
                try:
                    answers = await self._answers(wanted)
                except Exception as error:  # noqa: BLE001 - whoever asks may know what to do
                    wanted = asks.throw(error)
                else:
                    wanted = asks.send(answers)
        except StopIteration as end:
            found: T = end.value
            return found

    async def _answers(self, wanted: Ask) -> list[Any]:
        context = self._bind()
        if not self._was_there:
            probe(self.endpoint)
        line = self._line
        if line is None:
            line = self._line = Line(context, OtherEnd(self.endpoint, self._key))
        try:
            return await line.answers(wanted, self.timeout_s)
        finally:
            self._was_there = line.was_there

    def _bind(self) -> zmq.Context[zmq.Socket[bytes]]:
        """The context of this client's sockets, which belong to one loop."""
        if self._closed:
            raise ClientClosed("the client is closed")
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise RuntimeError("this AsyncClient is bound to another event loop: make one in each loop that uses one")
        if self._context is None:
            self._context = zmq.Context()
        return self._context

    async def _follow(self, feed: EventFeed) -> AsyncGenerator[wire.Event, None]:
        endpoint = (await self.ping()).events
        listener = Listener(self._bind(), endpoint, feed.job_id, self._key) if endpoint else None
        if listener is not None:
            self._listeners.add(listener)
        try:
            sent: Any = None
            steps = following(feed, polled_s=None if listener else self.timeout_s)
            while True:
                try:
                    step = steps.send(sent)
                except StopIteration:
                    return
                if isinstance(step, wire.Event):
                    sent = None
                    yield step
                elif isinstance(step, Ask):
                    sent = await self._answers(step)
                else:
                    assert listener is not None
                    sent = await listener.heard(step)
        finally:
            if listener is not None:
                self._listeners.discard(listener)
                listener.close()
