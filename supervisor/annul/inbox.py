"""Requests that have been received and are not handled yet: whose turn it is.

A cancel of a named job goes before everything (C10). No job's id can be known before its submit was answered, so no
such cancel can mean a job that still waits here. What only looks, and may have much to say, goes after everything: it
takes a thousand times as long as a ping. All else keeps its order within one peer, and peers take turns: one that sends
thousands at once holds up itself only.

Owned by the loop thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from annul.server import Caller
from annul_client.wire import MAX_MESSAGE, Cancel, Events, List, Logs, Output, Request, Result

MAX_REQUESTS = 32_768
MAX_BYTES = 4 * MAX_MESSAGE

Received = tuple[Caller, Request]


class _Line:
    """In the order in which they came within one peer, whose turn it is among all."""

    def __init__(self) -> None:
        self._of_peer: OrderedDict[tuple[bool, bytes], deque[Received]] = OrderedDict()  # in the order of their turn

    def __contains__(self, peer: tuple[bool, bytes]) -> bool:
        return peer in self._of_peer

    def add(self, one: Received) -> None:
        self._of_peer.setdefault(one[0].peer, deque()).append(one)

    def next(self, but: _Line | None = None) -> Received | None:
        """`but`: not of peers that wait there, too."""
        peer = next((one for one in self._of_peer if but is None or one not in but), None)
        if peer is None:
            return None
        waiting = self._of_peer.pop(peer)
        taken = waiting.popleft()
        if waiting:
            self._of_peer[peer] = waiting  # behind the other peers
        return taken


class Inbox:
    """Bounded: when it is full nothing more is received, and peers wait in their sockets."""

    def __init__(self) -> None:
        self._urgent: deque[Received] = deque()
        self._others = _Line()
        self._long = _Line()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= MAX_REQUESTS or self._bytes >= MAX_BYTES

    @property
    def urgent(self) -> int:
        """How many cancels of named jobs wait."""
        return len(self._urgent)

    def add(self, received: Iterable[Received]) -> None:
        for caller, request in received:
            if isinstance(request, Cancel) and request.id is not None:
                self._urgent.append((caller, request))
            elif isinstance(request, List | Events | Logs | Output | Result):
                self._long.add((caller, request))
            else:
                self._others.add((caller, request))
            self._count += 1
            self._bytes += caller.size

    def next(self) -> Received | None:
        """Take out the one whose turn it is, of all but those with long answers."""
        return self._taken(self._urgent.popleft() if self._urgent else self._others.next())

    def next_long(self) -> Received | None:
        """The same of those; none of a peer that has asked for something else, perhaps before."""
        return self._taken(self._long.next(but=self._others))

    def _taken(self, one: Received | None) -> Received | None:
        if one is not None:
            self._count -= 1
            self._bytes -= one[0].size
        return one
