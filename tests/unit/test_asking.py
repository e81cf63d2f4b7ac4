"""Calls under way, without sockets: what is sent over which connection, and when an answer is overdue."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
import pytest

from annul_client import asking, core, errors, wire


class Link:
    """A connection that the test makes and breaks."""

    def __init__(self) -> None:
        self.connected = self.refused = False
        self.made = 0
        self.lost_at = 0.0


class Desk:
    """One `Ask` under way, at a time that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.link = Link()
        self.sent: list[str] = []  # request ids
        monkeypatch.setattr(asking, "monotonic", lambda: self.now)

    def ask(self, count: int, **terms: Any) -> Generator[float, list[bytes], list[Any]]:
        calls = (core.Call(wire.Get(id="a", rid=f"r{number}"), wire.PurgeReply) for number in range(count))
        return asking.asking(
            asking.Ask(calls, **terms),
            self.link,
            asking.OtherEnd("ipc://x"),
            10.0,
            lambda call: self.sent.append(call.rid),
        )

    def connect(self) -> None:
        self.link.connected = True
        self.link.made += 1

    def lose(self) -> None:
        self.link.connected = False
        self.link.lost_at = self.now


def answer(number: int) -> bytes:
    ok = msgspec.Raw(msgspec.msgpack.encode(wire.PurgeReply(count=number)))
    return msgspec.msgpack.encode(wire.Reply(rid=f"r{number}", ok=ok))


def result(moves: Generator[float, list[bytes], list[Any]], *frames: bytes) -> list[int]:
    """The answers, which these frames complete."""
    with pytest.raises(StopIteration) as end:
        moves.send(list(frames))
    return [one.count for one in end.value.value]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_nothing_is_sent_before_there_is_a_connection(desk: Desk) -> None:
    """So that what is given up meanwhile never reaches a daemon."""
    moves = desk.ask(1)
    assert next(moves) == 1010.0
    assert desk.sent == []
    desk.now = 1010.0
    with pytest.raises(errors.NoDaemon, match="nothing there for 10 s"):
        moves.send([])
    assert desk.sent == []


def test_answers_come_in_the_order_of_the_calls(desk: Desk) -> None:
    """However they arrive; those to others are passed over, and a few calls are under way at once."""
    desk.connect()
    moves = desk.ask(6)
    next(moves)
    assert desk.sent == ["r0", "r1", "r2", "r3"]
    moves.send([answer(9), answer(2), answer(1)])
    assert desk.sent == ["r0", "r1", "r2", "r3", "r4", "r5"]
    assert result(moves, answer(5), answer(4), answer(3), answer(0)) == [0, 1, 2, 3, 4, 5]


def test_a_new_connection_has_what_is_not_answered_sent_again(desk: Desk) -> None:
    """Only that, and once for each connection; the time for the answer begins anew."""
    desk.connect()
    moves = desk.ask(2)
    next(moves)
    moves.send([answer(0)])
    desk.now = 1005.0
    desk.lose()
    assert moves.send([]) == 1010.0
    desk.now = 1009.0
    desk.connect()
    assert moves.send([]) == 1019.0
    assert moves.send([]) == 1019.0
    assert desk.sent == ["r0", "r1", "r1"]
    assert result(moves, answer(1)) == [0, 1]


def test_what_must_not_be_repeated_is_told_of_the_break(desk: Desk) -> None:
    """Not of the first connection, and not before there is a new one."""
    moves = desk.ask(1, repeat=False)
    next(moves)
    desk.connect()
    moves.send([])
    desk.lose()
    moves.send([])
    desk.connect()
    with pytest.raises(asking.Reconnected):
        moves.send([])
    assert desk.sent == ["r0"]


def test_an_absence_is_bounded_apart_from_the_answer(desk: Desk) -> None:
    """An old break counts from when the call was made; one that happens later, from then on."""
    desk.link.lost_at = 1.0
    moves = desk.ask(1, answer_s=40.0, absence_s=3.0)
    assert next(moves) == 1003.0
    desk.now = 1002.0
    desk.connect()
    assert moves.send([]) == 1042.0
    desk.now = 1030.0
    desk.lose()
    assert moves.send([]) == 1033.0
    desk.now = 1033.0
    with pytest.raises(errors.NoDaemon):
        moves.send([])


def test_a_daemon_that_is_there_and_silent_is_overdue(desk: Desk) -> None:
    """And an answer to another of the calls is no silence."""
    desk.connect()
    moves = desk.ask(2)
    next(moves)
    desk.now = 1009.0
    assert moves.send([answer(0)]) == 1019.0
    desk.now = 1019.0
    with pytest.raises(errors.NoDaemon, match="connected but did not answer `get`"):
        moves.send([])


def test_no_calls_need_no_connection(desk: Desk) -> None:
    """Nothing asked for is answered at once."""
    with pytest.raises(StopIteration) as end:
        next(desk.ask(0))
    assert end.value.value == []
