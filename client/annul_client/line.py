"""ZeroMQ's sockets in an event loop of asyncio: the one connection that all tasks ask over, and one reader of events.

Their sockets are those of the blocking client; only the waiting is the loop's, by the descriptor that each socket has.
`zmq.asyncio` is not used: it would be a second kind of socket, whose reads are lost with the tasks that await them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec
import zmq

from . import wire
from .asking import Ask, OtherEnd, asking
from .channel import Watch, connecting
from .core import Call
from .errors import ClientClosed
from .following import Heard, Listen
from .keys import KeyFile
from .subscription import Subscription

Context = zmq.Context[zmq.Socket[bytes]]


class Line:
    """A DEALER connection for the calls of many tasks at once. Owned by the event loop it was made in."""

    def __init__(self, context: Context, to: OtherEnd) -> None:
        """Begin to connect."""
        self._to = to
        self._socket = connecting(context, zmq.DEALER, to.key)
        self._socket.sndhwm = 0  # bounded by the tasks that ask: none may block the loop in `send`
        self._watch = Watch(self._socket)
        self._socket.connect(to.endpoint)
        self._callers: dict[_Caller, None] = {}  # in the order of their coming
        self._by_rid: dict[str, _Caller] = {}
        self._closed = False
        self._readers = _Readers((self._socket, self._watch.socket), self._look)

    @property
    def was_there(self) -> bool:
        """Whether a connection stood once."""
        return self._watch.made > 0

    async def answers(self, wanted: Ask, timeout_s: float) -> list[Any]:
        """Make these calls and await their answers. Raises what `asking` does, and `ClientClosed`.

        A task that is cancelled here leaves nothing behind: the answer that still comes is nobody's, and passed over.
        """
        caller = _Caller()
        moves = asking(wanted, self._watch, self._to, timeout_s, lambda call: self._send(call, caller))
        self._callers[caller] = None
        try:
            until = next(moves)
            while True:
                frames = await caller.news(until)
                if self._closed:
                    raise ClientClosed("the client was closed before the answer came")
                until = moves.send(frames)
        except StopIteration as end:
            found: list[Any] = end.value
            return found
        finally:
            del self._callers[caller]
            for rid in caller.rids:
                self._by_rid.pop(rid, None)

    def close(self) -> None:
        """Close at once; whoever awaits an answer finds out. Repeatable."""
        if self._closed:
            return
        self._closed = True
        self._readers.close()
        self._watch.close()
        self._socket.close(linger=0)
        for caller in self._callers:
            caller.tell()

    def _send(self, call: Call[Any], caller: _Caller) -> None:
        self._by_rid[call.rid] = caller
        caller.rids.append(call.rid)
        self._socket.send(call.frame, zmq.NOBLOCK)
        self._readers.look_soon()

    def _look(self) -> None:
        """Take all that is there."""
        if self._closed:
            return
        before = (self._watch.made, self._watch.connected, self._watch.refused)
        self._watch.read()
        if (self._watch.made, self._watch.connected, self._watch.refused) != before:
            for caller in self._callers:
                caller.tell()
        while True:
            try:
                frame = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                return
            self._deliver(frame)

    def _deliver(self, frame: bytes) -> None:
        try:
            rid = _HEADER.decode(frame).rid
        except msgspec.DecodeError:
            rid = ""
        # Without an id it is about a request that could not be read, and nobody knows whose: it stands for the oldest.
        caller = self._by_rid.get(rid) if rid else next(iter(self._callers), None)
        if caller is not None:
            caller.tell(frame)


class Listener:
    """A subscription whose publications are awaited. Owned by the event loop it was made in; of one reader."""

    def __init__(self, context: Context, endpoint: str, job_id: str | None, key: KeyFile | None = None) -> None:
        """Begin to connect."""
        self._subscription = Subscription(context, endpoint, job_id, key)
        self._news = asyncio.Event()
        self._closed = False
        self._readers = _Readers(self._subscription.sockets, self._look)

    async def heard(self, step: Listen) -> Heard:
        """What has come, once something has, or when the time is over. Raises `ClientClosed`."""
        self._look()  # there may be more than was taken the last time
        await _within(step.until, self._news)
        if self._closed:
            raise ClientClosed("events: the client was closed")
        self._news.clear()
        return self._subscription.take()

    def close(self) -> None:
        """Close at once; the reader finds out. Repeatable."""
        if self._closed:
            return
        self._closed = True
        self._readers.close()
        self._subscription.close()
        self._news.set()

    def _look(self) -> None:
        """Only whether there is something: the reader takes it, when it has time."""
        if not self._closed and any(one.poll(0) for one in self._subscription.sockets):
            self._news.set()


class _Caller:
    """One task that awaits answers."""

    def __init__(self) -> None:
        self.rids: list[str] = []
        self._frames: list[bytes] = []
        self._news = asyncio.Event()

    def tell(self, *frames: bytes) -> None:
        """Wake it, with these frames or to look at the connection."""
        self._frames += frames
        self._news.set()

    async def news(self, until: float) -> list[bytes]:
        """What it was told, or nothing when the time is over."""
        await _within(until, self._news)
        self._news.clear()
        frames, self._frames = self._frames, []
        return frames


class _Readers:
    """Calls `look` whenever one of these sockets may have something to read. Owned by the running event loop.

    A socket's descriptor does not say that there is something to read, but that it should be looked at; and once
    only: `look` must read all of it, or ask for EVENTS. A send may take that hint away, so it asks for a look too.
    """

    def __init__(self, sockets: tuple[zmq.Socket[bytes], ...], look: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._look = look
        self._descriptors = [one.fileno() for one in sockets]
        self._soon: asyncio.Handle | None = None
        for descriptor in self._descriptors:
            self._loop.add_reader(descriptor, look)
        self.look_soon()

    def look_soon(self) -> None:
        if self._soon is None:
            self._soon = self._loop.call_soon(self._now)

    def close(self) -> None:
        """To be called before the sockets are closed, as their descriptors' numbers are used again."""
        if self._soon is not None:
            self._soon.cancel()
        if not self._loop.is_closed():
            for descriptor in self._descriptors:
                self._loop.remove_reader(descriptor)

    def _now(self) -> None:
        self._soon = None
        self._look()


async def _within(until: float, news: asyncio.Event) -> None:
    """Wait for news, at most until this moment of the monotonic clock."""
    try:
        async with asyncio.timeout(max(0.0, until - monotonic())):
            await news.wait()
    except TimeoutError:
        pass  # whoever waits looks at the clock


_HEADER = msgspec.msgpack.Decoder(wire.Header)
