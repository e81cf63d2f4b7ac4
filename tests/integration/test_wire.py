"""The wire as others see it: the frames that are kept, sent by bare sockets to a real daemon, in both encodings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zmq

import protocol
from annul_client import wire
from harness import TIMEOUT_S, DaemonProcess

Ask = Callable[[bytes], bytes]

SLEEPER, ECHO = "k3v9x2m4q8tz", "h5w1c7r9d2ea"  # the ids in the examples

# What differs from one daemon, or one moment, to the next.
OWN = {"pid", "version", "requests", "events", "message", "asked_at", "created_at", "started_at", "at", "gone_s"}


@pytest.fixture(params=["DEALER", "REQ"])
def ask(request: pytest.FixtureRequest, daemon: DaemonProcess) -> Iterator[Ask]:
    """Sends one frame and gives the one that comes back."""
    context = zmq.Context()
    asker = context.socket(getattr(zmq, request.param))
    asker.linger = 0
    asker.connect(daemon.endpoint)

    def ask(frame: bytes) -> bytes:
        asker.send(frame)
        assert asker.poll(TIMEOUT_S * 1000), "no answer"
        (answer,) = asker.recv_multipart()
        return answer

    yield ask
    context.destroy(linger=0)


def matches(written: Any, got: Any, name: str = "") -> bool:
    """Whether an answer is as written, but for what no page can know, and for what "…" stands for."""
    if isinstance(written, dict) and isinstance(got, dict):
        keys = written.keys() - {"…"}
        names_fit = keys <= got.keys() if "…" in written else keys == got.keys()
        return names_fit and all(matches(written[key], got[key], key) for key in keys)
    if isinstance(written, list) and isinstance(got, list) and name != "types":
        return len(written) == len(got) and all(map(matches, written, got))
    if name == "types":
        return any(matches(written[0], one) for one in got)
    if name in OWN and written is not None:
        return type(written) is type(got) and bool(got)
    return bool(written == got)


def as_msgpack(written: Any, name: str = "") -> Any:
    """The answer as it is in msgpack: bytes are bytes, times are times."""
    if isinstance(written, dict):
        return {key: as_msgpack(value, key) for key, value in written.items()}
    if isinstance(written, list):
        return [as_msgpack(one) for one in written]
    if name == "data":
        return base64.b64decode(written)
    if name == "at" or name.endswith("_at"):
        return msgspec.convert(written, wire.datetime | None)
    return written


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_the_examples_are_answered_as_written(ask: Ask, encoding: str) -> None:
    """The story of the page, from the first ping to the last refusal, one after the other."""
    ids: dict[str, str] = {}

    def now(text: str) -> str:
        for written, real in ids.items():
            text = text.replace(written, real).replace(written.encode().hex(" "), real.encode().hex(" "))
        return text

    def state(job_id: str, *, timeout_s: float) -> str:
        request = {"verb": "wait", "id": job_id, "timeout_s": timeout_s}
        return json.loads(ask(json.dumps(request).encode()))["ok"]["job"]["state"]

    for example in protocol.golden():
        if encoding == "json":
            got = json.loads(ask(now(example.json).encode()))
        else:
            got = msgspec.msgpack.decode(ask(bytes.fromhex(now(example.hex))))
        ok = got.get("ok", {})
        verb = json.loads(example.json)["verb"]
        if verb == "submit":
            ids[SLEEPER] = ok["job"]["id"]
            while state(ids[SLEEPER], timeout_s=0.01) != "running":
                pass
        elif verb == "submit_many":
            ids[ECHO] = ok["jobs"][0]["job"]["id"]
            assert state(ids[ECHO], timeout_s=TIMEOUT_S) == "completed"
        written = json.loads(now(json.dumps(example.answer)))
        assert matches(as_msgpack(written) if encoding == "msgpack" else written, got), (example.json, got)


def both(message: dict[str, Any]) -> list[bytes]:
    return [json.dumps(message).encode(), msgspec.msgpack.encode(message)]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"verb": "teleport", "rid": "a"}, "unknown_verb", "verb"),
    ({"rid": "a"}, "unknown_verb", "verb"),
    ({"verb": "ping", "rid": "a", "v": 2}, "unsupported_version", "v"),
    ({"verb": "teleport", "rid": "a", "v": 99, "new": {"shape": []}}, "unsupported_version", "v"),
    ({"verb": "get", "rid": "a"}, "invalid_request", "id"),
    ({"verb": "get", "rid": "a", "id": 7}, "invalid_request", "id"),
    ({"verb": "get", "rid": "a", "id": "x", "colour": "red"}, "invalid_request", "colour"),
    (
        {"verb": "submit", "rid": "a", "type": "exec", "not_before": "2026-01-01T00:00:00"},
        "invalid_request",
        "not_before",
    ),
]


def test_what_is_newer_or_misspelt_is_refused_by_name(ask: Ask) -> None:
    """In the request's encoding, with its id; and the same connection goes on."""
    for message, code, field in REFUSED:
        for frame, decode in zip(both(message), (json.loads, msgspec.msgpack.decode), strict=True):
            answer = decode(ask(frame))
            assert set(answer) == {"rid", "error"}
            assert (answer["rid"], answer["error"]["code"], answer["error"]["field"]) == ("a", code, field)
            assert answer["error"]["message"]
    assert "ok" in json.loads(ask(b'{"verb":"ping"}'))


def test_what_is_no_request_is_refused_without_an_id(ask: Ask) -> None:
    """Whatever the bytes are there is an answer, and the next request is answered too."""
    for frame in (b"", b"hello", b"[1]", b"\xc1", b"\x93\x01", b"{", b"{}]", b' {"verb":3}', b"\x80\x80"):
        answer = ask(frame)
        decoded = json.loads(answer) if wire.is_json(frame) else msgspec.msgpack.decode(answer)
        assert decoded["error"]["code"] == "bad_request"
        assert "rid" not in decoded
    assert "ok" in json.loads(ask(b'{"verb":"ping"}'))


def test_frames_of_another_number_are_refused(daemon: DaemonProcess) -> None:
    """A request in two frames, or of a REQ socket with ZMQ_REQ_CORRELATE, is no request; it gets its envelope back."""
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.connect(daemon.endpoint)
        dealer.send_multipart([b"a", b'{"verb":"ping","rid":"r1"}'])
        assert dealer.poll(TIMEOUT_S * 1000)
        *envelope, answer = dealer.recv_multipart()
        assert envelope == [b"a"]
        assert json.loads(answer)["error"]["code"] == "bad_request"
        req = context.socket(zmq.REQ)
        req.req_correlate = 1
        req.connect(daemon.endpoint)
        req.send(b'{"verb":"ping"}')
        assert req.poll(TIMEOUT_S * 1000)
        assert json.loads(req.recv())["error"]["code"] == "bad_request"
    finally:
        context.destroy(linger=0)


def test_events_are_published_as_the_page_says(daemon: DaemonProcess) -> None:
    """A bare SUB socket gets the topic and the event, and the numbers have no gap to those of the log."""
    context = zmq.Context()
    try:
        asker = context.socket(zmq.REQ)
        asker.connect(daemon.endpoint)
        subscriber = context.socket(zmq.SUB)

        def ask(**message: Any) -> Any:
            asker.send_json(message)
            assert asker.poll(TIMEOUT_S * 1000)
            return asker.recv_json()["ok"]

        subscriber.subscribe(b"job.")
        subscriber.connect(ask(verb="ping")["events"])
        submitted = []
        while not subscriber.poll(10):  # when the subscription has taken effect, nobody says
            submitted.append(ask(verb="submit", type="exec", params={"argv": ["true"]})["job"]["id"])
        topic, frame = subscriber.recv_multipart()
        event = msgspec.msgpack.decode(frame)
        assert topic == b"job." + event["job"]["id"].encode()
        assert event["job"]["id"] in submitted
        (logged,) = ask(verb="events", since=event["seq"] - 1, limit=1)["events"]
        assert logged["seq"] == event["seq"]
        assert logged["kind"] == event["kind"]
        assert msgspec.convert(logged["at"], wire.datetime) == event["at"]
    finally:
        context.destroy(linger=0)
