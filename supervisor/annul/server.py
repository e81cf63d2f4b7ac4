"""The sockets: requests in and replies out on a ROUTER, events out on a PUB. Frames <-> messages.

Owned by the loop thread. Nothing here blocks: a client that does not read loses its replies, a subscriber that does not
read loses events, and both can ask again.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import msgspec
import zmq

from annul.errors import Refused
from annul_client.places import events_endpoint, requests_endpoint
from annul_client.wire import (
    ANY_REQUEST,
    MAX_MESSAGE,
    VERBS,
    VERSION,
    Event,
    Header,
    Model,
    Ping,
    Pong,
    Reply,
    Request,
    is_json,
)

_log = logging.getLogger(__name__)
TURN_MESSAGES = 256  # received in one go
_TURN_BYTES = 2 * MAX_MESSAGE
_UNREAD = 10_000  # answers kept for one peer that does not read; then its newest are dropped
_UNREAD_EVENTS = 1_000  # events kept for a subscriber that does not read: it finds the others in the log

_MORE = zmq.NOBLOCK | zmq.SNDMORE

_unpack = msgspec.msgpack.Decoder(ANY_REQUEST).decode
_unjson = msgspec.json.Decoder(ANY_REQUEST).decode
_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode


class Caller:
    """Who sent a request, and how to answer it."""

    __slots__ = ("_envelope", "_json", "_server", "by", "rid", "size")

    def __init__(self, server: Server, envelope: list[bytes], by: str, rid: str, *, json: bool, size: int = 0) -> None:
        self._server = server
        self._envelope = envelope
        self._json = json
        self.by = by  # "uid:1000" as the kernel says, or the address
        self.rid = rid
        self.size = size  # of the request, bytes

    @property
    def peer(self) -> bytes:
        """Which connection it is: its routing id."""
        return self._envelope[0]

    def answer(self, reply: Model) -> None:
        encode = _json if self._json else _pack
        self._send(Reply(rid=self.rid, ok=msgspec.Raw(encode(reply))))

    def refuse(self, error: Refused) -> None:
        self._send(Reply(rid=self.rid, error=error.info))

    def _send(self, reply: Reply) -> None:
        self._server.send(self._envelope, (_json if self._json else _pack)(reply))


class Server:
    """The ROUTER and the PUB socket."""

    def __init__(self, runtime_dir: Path) -> None:
        """Bind both, in a private directory that is locked already: a second ipc bind silently steals the socket."""
        self.requests_endpoint = requests_endpoint(runtime_dir)
        self.events_endpoint = events_endpoint(runtime_dir)
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 8192)
        self.router = self._context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self.router.setsockopt(zmq.SNDHWM, _UNREAD)
        self.router.setsockopt(zmq.LINGER, 1000)
        self.router.bind(self.requests_endpoint)
        self._events = self._context.socket(zmq.PUB)
        self._events.setsockopt(zmq.SNDHWM, _UNREAD_EVENTS)
        self._events.setsockopt(zmq.LINGER, 1000)
        self._events.bind(self.events_endpoint)
        for name in ("annul.sock", "events.sock"):
            # Who may connect is decided by the directory: nobody else by default, under systemd the group of it too.
            (runtime_dir / name).chmod(0o660)

    def close(self) -> None:
        """Say what is still to be said (for a second at most), and unbind."""
        self.router.close()
        self._events.close()
        self._context.term()

    # --- requests -----------------------------------------------------------------------------------------------

    def receive(self) -> list[tuple[Caller, Request]]:
        """The requests that have arrived, a turn's worth at most. What cannot be read is answered and left out."""
        found: list[tuple[Caller, Request]] = []
        size = 0
        for _ in range(TURN_MESSAGES):
            if size > _TURN_BYTES:
                break
            try:
                frames = self.router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            body = frames[-1].bytes
            size += len(body)
            envelope = [frame.bytes for frame in frames[:-1]]
            try:
                found.append(self._read(envelope, body, _peer(frames[-1])))
            except Refused as error:
                Caller(self, envelope, "", _rid(body), json=is_json(body)).refuse(error)
        return found

    def _read(self, envelope: list[bytes], body: bytes, by: str) -> tuple[Caller, Request]:
        if len(envelope) > 2 or (len(envelope) == 2 and envelope[1]):
            raise Refused("bad_request", "a request is one frame (REQ clients: one after an empty delimiter)")
        header = _header(body)
        if header.v > VERSION:
            raise Refused(
                "unsupported_version",
                f"this daemon speaks version {VERSION} of the protocol, not {header.v}",
                "v",
            )
        if header.verb not in VERBS:
            raise Refused(
                "unknown_verb", f"there is no verb {header.verb!r}; known: {', '.join(sorted(map(str, VERBS)))}", "verb"
            )
        json = is_json(body)
        try:
            request: Request = (_unjson if json else _unpack)(body)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `$")
            field = where.rstrip("`").lstrip(".") or (message.split("`")[1] if "`" in message else None)
            raise Refused("invalid_request", f"{header.verb}: {error}", field) from error
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise Refused("bad_request", f"the message cannot be decoded: {error}") from error
        return Caller(self, envelope, by, request.rid, json=json, size=len(body)), request

    def send(self, envelope: list[bytes], body: bytes) -> None:
        try:
            self.router.send_multipart([*envelope, body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # Gone, or it does not read: its loss.
            _log.debug("a reply was not taken: %s", error, extra={"action": "reply"})

    # --- events -------------------------------------------------------------------------------------------------

    def publish(self, event: Event, body: bytes) -> None:
        """To whom it may concern: topic ``job.<id>``, then the event in msgpack."""
        self._events.send(b"job." + event.job.id.encode(), _MORE)
        self._events.send(body, zmq.NOBLOCK)


def internal(error: Exception) -> Refused:
    """An unexpected error, logged with its traceback under the number that the client is told."""
    number = uuid.uuid4().hex[:12]
    _log.error("internal error %s", number, exc_info=error, extra={"action": "internal"})
    return Refused("internal", f"an error inside the daemon; its log has the details under {number}")


def _header(body: bytes) -> Header:
    """Raises Refused where not even that can be read."""
    try:
        return (msgspec.json.decode if is_json(body) else msgspec.msgpack.decode)(body, type=Header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("bad_request", f"a request is a map with v, rid and verb, in msgpack or JSON: {error}") from error


def _rid(body: bytes) -> str:
    try:
        return _header(body).rid
    except Refused:
        return ""


def ping(runtime_dir: Path, wait_s: float = 2.0) -> Pong | None:
    """What the daemon with this runtime directory says of itself; None where nobody answers."""
    if not (runtime_dir / "annul.sock").exists():
        return None
    context = zmq.Context()
    asker = context.socket(zmq.DEALER)
    try:
        asker.setsockopt(zmq.LINGER, 0)
        asker.connect(requests_endpoint(runtime_dir))
        asker.send(_pack(Ping()))
        if not asker.poll(int(wait_s * 1000)):
            return None
        return msgspec.msgpack.decode(msgspec.msgpack.decode(asker.recv(), type=Reply).ok, type=Pong)
    except (zmq.ZMQError, msgspec.MsgspecError):
        return None  # whatever listens there, it is no daemon that can be talked to
    finally:
        asker.close()
        context.term()


def _peer(frame: zmq.Frame) -> str:
    """Who is at the other end: ``uid:1000`` on ipc, where the kernel vouches for it."""
    try:
        address = frame.get("Peer-Address")
    except zmq.ZMQError:
        return ""
    parts = str(address).split(":")
    return f"uid:{parts[1]}" if parts[0] == "localhost" and len(parts) == 4 else str(address)
