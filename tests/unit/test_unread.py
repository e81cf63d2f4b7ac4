"""How much is kept for those who do not read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from annul import unread
from annul.unread import Unread
from harness import wait_until

A, B, C = (True, b"a"), (True, b"b"), (False, b"a")


@pytest.fixture
def sockets() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.bind("inproc://x")
    push.connect("inproc://x")
    yield push, pull
    context.destroy(linger=0)


def test_one_connection_and_all(
    sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its share; beyond the whole, only those who hold nothing get more; what was read is free again."""
    monkeypatch.setattr(unread, "MOST", 100)
    monkeypatch.setattr(unread, "MOST_IN_ALL", 150)
    push, pull = sockets
    kept = Unread()

    def send(peer: tuple[bool, bytes], size: int) -> bool:
        if not kept.has_room(peer, size):
            return False
        frame = zmq.Frame(bytes(size), copy=False, track=True)
        push.send(frame, copy=False)
        kept.note(peer, frame)
        return True

    assert send(A, 60)
    assert not send(A, 60)
    assert send(A, 40)
    assert send(B, 40)
    assert not send(B, 40)  # of its own share it had some left
    assert send(C, 500)  # who holds nothing gets what it asks for
    assert not send(C, 1)
    for _ in range(4):
        pull.recv()
    wait_until(lambda: send(A, 60), "ZeroMQ to tell that it has let go of them")
