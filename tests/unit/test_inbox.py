"""Whose request is handled next."""

from __future__ import annotations

import pytest

from annul import inbox
from annul.access import Grant, Role
from annul.inbox import Inbox, Received
from annul.server import Caller
from annul_client import wire

SOMEBODY = Grant(name="uid:1000", role=Role.SUBMIT, local=True)


def request(peer: str, rid: str, *, size: int = 1) -> Received:
    caller = Caller(lambda *_: None, [peer.encode()], SOMEBODY, rid, json=False, size=size)
    return caller, wire.Ping(rid=rid)


def cancel(peer: str, rid: str, **what: str) -> Received:
    caller, _ = request(peer, rid)
    return caller, wire.Cancel(rid=rid, **what)  # type: ignore[arg-type]


def order(box: Inbox) -> list[str]:
    found = []
    while (one := box.next() or box.next_long()) is not None:
        found.append(one[1].rid)
    assert len(box) == 0
    return found


def test_one_peer_keeps_its_order() -> None:
    box = Inbox()
    box.add([request("a", str(n)) for n in range(5)])
    assert order(box) == ["0", "1", "2", "3", "4"]


def test_peers_take_turns() -> None:
    """One that sends much holds up itself only."""
    box = Inbox()
    box.add([request("a", f"a{n}") for n in range(4)])
    box.add([request("b", "b0"), request("c", "c0"), request("b", "b1")])
    assert order(box) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_cancels_of_named_jobs_come_first() -> None:
    """Also of a peer that has sent much before; a cancel by label keeps its place: it may mean jobs before it."""
    box = Inbox()
    box.add([request("a", "a0"), cancel("a", "by-user", user="u"), cancel("a", "by-id", id="x"), request("b", "b0")])
    assert box.urgent == 1
    assert order(box) == ["by-id", "a0", "b0", "by-user"]


def test_long_answers_come_last() -> None:
    """Peers take turns there as well; and what a peer has asked for beside them, perhaps before, is not overtaken."""
    box = Inbox()
    box.add([(request("a", "")[0], wire.List(rid=f"a-list{n}")) for n in range(3)])
    box.add([request("b", "b0"), (request("b", "")[0], wire.Logs(rid="b-logs", id="x")), request("a", "a0")])
    assert box.next_long() is None
    assert order(box) == ["b0", "a0", "a-list0", "b-logs", "a-list1", "a-list2"]
    box.add([request("b", "b0"), (request("a", "")[0], wire.List(rid="a-list"))])
    one = box.next_long()
    assert one is not None
    assert one[1].rid == "a-list"  # b's request is no reason to wait
    assert order(box) == ["b0"]


def test_it_is_bounded_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_REQUESTS", 3)
    monkeypatch.setattr(inbox, "MAX_BYTES", 100)
    box = Inbox()
    box.add([request("a", "0"), request("a", "1")])
    assert not box.full
    box.add([request("a", "2")])
    assert box.full
    box.next()
    assert not box.full
    box.add([cancel("a", "3", id="x")])
    assert box.full
    order(box)
    assert (box.full, len(box), box.urgent) == (False, 0, 0)
    box.add([request("a", "big", size=100)])
    assert box.full
    order(box)
    assert not box.full


def test_there_is_nothing_in_an_empty_one() -> None:
    assert Inbox().next() is None
    assert Inbox().next_long() is None
