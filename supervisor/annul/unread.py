"""What is kept in memory for peers that do not read their answers: bounded, in bytes.

ZeroMQ bounds the number of messages only. It tells when it has let go of one, which is when the kernel has taken it.
"""

from __future__ import annotations

from collections import deque

import zmq

SMALL = 1024  # bytes; smaller answers are not counted here: their number is bounded
MOST = 64 * 1024 * 1024  # for one connection
MOST_IN_ALL = 256 * 1024 * 1024  # beyond this, only those who have read everything get more

Peer = tuple[bool, bytes]


class Unread:
    """Owned by the loop thread."""

    def __init__(self) -> None:
        self._sent: dict[Peer, deque[tuple[int, zmq.MessageTracker]]] = {}
        self._bytes: dict[Peer, int] = {}
        self._in_all = 0

    def has_room(self, peer: Peer, size: int) -> bool:
        """Whether an answer of so many bytes may be sent to a connection."""
        self._forget_read(peer)
        held = self._bytes.get(peer, 0)
        if not held:
            return True
        if self._in_all + size > MOST_IN_ALL:
            for other in list(self._sent):
                self._forget_read(other)
        return held + size <= MOST and self._in_all + size <= MOST_IN_ALL

    def note(self, peer: Peer, frame: zmq.Frame) -> None:
        """It has been sent, with `track`."""
        assert isinstance(frame.tracker, zmq.MessageTracker)
        self._sent.setdefault(peer, deque()).append((len(frame), frame.tracker))
        self._bytes[peer] = self._bytes.get(peer, 0) + len(frame)
        self._in_all += len(frame)

    def _forget_read(self, peer: Peer) -> None:
        sent = self._sent.get(peer)
        if sent is None:
            return
        while sent and sent[0][1].done:
            size, _ = sent.popleft()
            self._bytes[peer] -= size
            self._in_all -= size
        if not sent:
            del self._sent[peer], self._bytes[peer]
