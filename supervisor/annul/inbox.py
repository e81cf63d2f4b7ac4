"""Requests that have been received and are not handled yet: whose turn it is.

A cancel of a named job goes before everything (C10). No job's id can be known before its submit was answered, so no
such cancel can mean a job that still waits here. All else keeps its order within one peer, and peers take turns: one
that sends thousands at once holds up itself only.

Owned by the loop thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from annul.server import Caller
from annul_client.wire import MAX_MESSAGE, Cancel, Request

MAX_REQUESTS = 32_768
MAX_BYTES = 4 * MAX_MESSAGE

Received = tuple[Caller, Request]


class Inbox:
    """Bounded: when it is full nothing more is received, and peers wait in their sockets."""

    def __init__(self) -> None:
        self._urgent: deque[Received] = deque()
        self._lines: OrderedDict[tuple[bool, bytes], deque[Received]] = (
            OrderedDict()
        )  # by peer, in the order of their turn
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
            else:
                self._lines.setdefault(caller.peer, deque()).append((caller, request))
            self._count += 1
            self._bytes += caller.size

    def next(self) -> Received:
        """Take out the one whose turn it is. Raises KeyError where it is empty."""
        if self._urgent:
            taken = self._urgent.popleft()
        else:
            peer, line = self._lines.popitem(last=False)
            taken = line.popleft()
            if line:
                self._lines[peer] = line  # behind the other peers
        self._count -= 1
        self._bytes -= taken[0].size
        return taken
