"""The sockets: requests in and replies out on a ROUTER, events out on a PUB. Frames <-> messages.

Who comes by the UNIX socket is told by the kernel; who comes by TCP, by the CURVE key that ZeroMQ has made sure of: a
second ROUTER, which serves no other. Both get their `Grant` here; what it allows is up to `access`.

Owned by the loop thread. Nothing here blocks: a client that does not read loses its replies, a subscriber that does not
read loses events, and both can ask again.
"""

from __future__ import annotations

import functools
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
import zmq.utils.z85

from annul import proc
from annul.access import Grant, Role
from annul.doorman import Doorman
from annul.errors import Refused, StartError
from annul.keys import ServerKey
from annul.rates import Rates
from annul_client.places import events_endpoint, requests_endpoint
from annul_client.wire import (
    ANY_REQUEST,
    MAX_MESSAGE,
    MAX_RID,
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
TURN_MESSAGES = 32  # received in one go
_TURN_BYTES = 2 * MAX_MESSAGE
_UNRECEIVED = 64  # requests of one TCP peer, of any size, that are taken before their turn; the others stay with it
_UNREAD = 10_000  # answers kept for one peer that does not read; then its newest are dropped
_LOOK_BYTES = 16 * 1024 * 1024  # of answers, between two looks at what they have come to in memory
_UNREAD_EVENTS = 1_000  # events kept for a subscriber that does not read: it finds the others in the log

_MORE = zmq.NOBLOCK | zmq.SNDMORE
_ZAP = "inproc://zeromq.zap.01"  # https://rfc.zeromq.org/spec/27/
_HANDSHAKE_MS = 5_000  # for a TCP peer to show its key
_SAY_S = 10.0  # between two lines in the log about keys that are refused

_unpack = msgspec.msgpack.Decoder(ANY_REQUEST).decode
_unjson = msgspec.json.Decoder(ANY_REQUEST).decode
_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode


class Admission(msgspec.Struct, frozen=True):
    """Whom to serve."""

    by_peer: Callable[[int, int], Grant | None]  # uid, gid
    by_key: Callable[[str], Grant | None]  # public key, Z85
    rates: Rates
    listen: str | None = None  # a TCP endpoint; None: none
    server_key: ServerKey | None = None  # for that


def _always() -> bool:
    return True


class Caller:
    """Who sent a request, and how to answer it."""

    __slots__ = ("_envelope", "_json", "_send_by", "_still", "grant", "rid", "size")

    def __init__(
        self,
        send_by: Callable[[list[bytes], bytes], None],
        envelope: list[bytes],
        grant: Grant,
        rid: str,
        *,
        json: bool,
        size: int = 0,
        still: Callable[[], bool] = _always,
    ) -> None:
        """`still`: whether it is served."""
        self._send_by = send_by
        self._envelope = envelope
        self._json = json
        self._still = still
        self.grant = grant
        self.rid = rid
        self.size = size  # of the request, bytes

    @property
    def by(self) -> str:
        """Whom this is recorded as: "uid:1000", as the kernel says, or "key:web"."""
        return self.grant.name

    @property
    def peer(self) -> tuple[bool, bytes]:
        """Which connection it is: which socket's, and its routing id there."""
        return self.grant.local, self._envelope[0]

    def answer(self, reply: Model) -> None:
        if not self._still():
            self.refuse(_not_served())
            return
        encode = _json if self._json else _pack
        self._send(Reply(rid=self.rid, ok=msgspec.Raw(encode(reply))))

    def refuse(self, error: Refused) -> None:
        if not self._still():  # what it asked for came after it was shut out
            error = _not_served()
        self._send(Reply(rid=self.rid, error=error.info))

    def _send(self, reply: Reply) -> None:
        self._send_by(self._envelope, (_json if self._json else _pack)(reply))


class Server:
    """The ROUTERs and the PUB socket."""

    def __init__(self, runtime_dir: Path, admission: Admission) -> None:
        """Bind all, in a private directory that is locked already: a second ipc bind silently steals the socket.

        Raises StartError where the TCP endpoint cannot be had.
        """
        self.requests_endpoint = requests_endpoint(runtime_dir)
        self.events_endpoint = events_endpoint(runtime_dir)
        self._admission = admission
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 8192)
        self._answered = 0  # bytes, since the last look at the memory
        self._refused_keys = 0
        self._say_refused_at = 0.0
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(_ZAP)
        self._router = self._new_router()
        self._router.bind(self.requests_endpoint)
        self._remote = self._listen(admission.listen, admission.server_key) if admission.listen else None
        self._events = self._context.socket(zmq.PUB)
        self._events.setsockopt(zmq.SNDHWM, _UNREAD_EVENTS)
        self._events.setsockopt(zmq.LINGER, 1000)
        self._events.bind(self.events_endpoint)
        for name in ("annul.sock", "events.sock"):
            # Who may connect is decided by the directory: nobody else by default, or the group of it too.
            (runtime_dir / name).chmod(0o660)
            try:
                os.chown(runtime_dir / name, -1, runtime_dir.stat().st_gid)
            except PermissionError:
                pass  # a group that is not ours to give: they stay outside
        self._doorman = Doorman(admission.by_peer)
        for served in (self._router, self._events, *filter(None, [self._remote])):
            self._doorman.watch(served)

    def _new_router(self) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        router.setsockopt(zmq.SNDHWM, _UNREAD)
        router.setsockopt(zmq.LINGER, 1000)
        return router

    def _listen(self, endpoint: str, key: ServerKey | None) -> zmq.Socket[bytes]:
        assert key is not None
        router = self._new_router()
        router.setsockopt(zmq.RCVHWM, _UNRECEIVED)  # on this machine libzmq's 1,000: a cancel may be behind them
        router.curve_server = True
        router.curve_secretkey = key.secret_key.encode()
        router.curve_publickey = key.public_key.encode()
        router.zap_domain = b"annul"
        router.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        router.setsockopt(zmq.HEARTBEAT_IVL, 30_000)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 60_000)
        try:
            router.bind(endpoint)
        except zmq.ZMQError as error:
            self._router.close()
            router.close()
            self._zap.close()
            self._context.term()
            raise StartError(f"listening at {endpoint}: {error}. Name another address or port (listen)") from error
        return router

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What the loop is to wait for."""
        return [self._router, self._zap, *filter(None, [self._remote]), *self._doorman.sockets]

    @property
    def listening(self) -> str:
        """The TCP endpoint, with its real port; "" where there is none."""
        if self._remote is None:
            return ""
        endpoint = self._remote.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.decode().rstrip("\0")

    def close(self) -> None:
        """Say what is still to be said (for a second at most), and unbind."""
        self._doorman.close()
        self._router.close()
        if self._remote is not None:
            self._remote.close()
        self._events.close()
        self._zap.close(linger=0)
        self._context.term()

    # --- requests -----------------------------------------------------------------------------------------------

    def receive(self) -> tuple[list[tuple[Caller, Request]], bool]:
        """The requests that have arrived, a turn's worth at most, and whether there may be more. What cannot be read,
        or is nobody's, is answered and left out.
        """
        self._doorman.look()
        self._authenticate()
        found: list[tuple[Caller, Request]] = []
        more = self._receive(self._router, found, self._local)
        if self._remote is not None:
            more |= self._receive(self._remote, found, self._by_key)
        return found, more

    def _receive(
        self,
        router: zmq.Socket[bytes],
        found: list[tuple[Caller, Request]],
        grant_of: Callable[[zmq.Frame], Grant | None],
    ) -> bool:
        size = 0
        now = time.monotonic()

        def send(envelope: list[bytes], body: bytes) -> None:
            self._answered += len(body)
            try:
                router.send_multipart([*envelope, body], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # Gone, or it does not read: its loss.
                _log.debug("a reply was not taken: %s", error, extra={"action": "reply"})

        for _ in range(TURN_MESSAGES):
            if size > _TURN_BYTES:
                return True
            try:
                envelope, last = _frames(router)
            except zmq.Again:
                return False
            size += len(last)
            grant = grant_of(last)
            limited = grant is None or not grant.is_local_admin
            name = grant.name if grant is not None else ""
            if limited and self._admission.rates.deaf_to(name, now):
                continue
            body = last.bytes
            try:
                if grant is None:
                    raise _not_served()
                header, request = _read(envelope, body)
                caller = Caller(
                    send,
                    envelope,
                    grant,
                    header.rid,
                    json=is_json(body),
                    size=len(body),
                    still=self._still_by(last, grant),
                )
                found.append((caller, request))
            except Refused as error:
                rates = self._admission.rates
                if not limited or rates.take(name, now) or rates.tell(name, now):
                    nobody = Grant(name="", role=Role.READ)
                    Caller(send, envelope, nobody, _rid(body), json=is_json(body)).refuse(error)
        return True

    def _local(self, frame: zmq.Frame) -> Grant | None:
        """Of a peer on this machine."""
        try:
            peer = _uid_and_gid(str(frame.get("Peer-Address")))
        except zmq.ZMQError:
            return None
        return self._admission.by_peer(*peer) if peer is not None else None

    def _by_key(self, frame: zmq.Frame) -> Grant | None:
        """Of a TCP peer: its key, as `_authenticate` has noted it with the connection."""
        try:
            return self._admission.by_key(str(frame.get("User-Id")))
        except zmq.ZMQError:
            return None

    def _still_by(self, frame: zmq.Frame, grant: Grant) -> Callable[[], bool]:
        """Looks whether the holder of a key may still do what it might when it asked. Keeps nothing of the frame."""
        if grant.local:
            return _always
        key = str(frame.get("User-Id"))
        return lambda: self._admission.by_key(key) == grant

    def _authenticate(self) -> None:
        """Answer libzmq's questions whether the holder of a key may connect (ZAP). What it may do is asked anew with
        each request.
        """
        while True:
            try:
                frames = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            key = zmq.utils.z85.encode(frames[6]) if len(frames) == 7 and frames[5] == b"CURVE" else b""
            known = bool(key) and self._admission.by_key(key.decode()) is not None
            if not known:
                self._refused_keys += 1
                if time.monotonic() >= self._say_refused_at:  # whoever reaches the port could fill the disk with it
                    self._say_refused_at = time.monotonic() + _SAY_S
                    _log.warning(
                        "refused an unknown key, the last at %s (%d times until now)",
                        frames[3].decode(errors="replace"),
                        self._refused_keys,
                        extra={"action": "zap"},
                    )
            status = (b"200", b"OK", key, b"") if known else (b"400", b"unknown key", b"", b"")
            self._zap.send_multipart([b"1.0", frames[1], *status])

    def shed(self, most: int) -> None:
        """Close connections that do not read, where this process has more than so many bytes of memory; 0: never.

        Answers that a peer does not read stay with libzmq, which bounds their number, not their size.
        """
        if not most or self._answered < _LOOK_BYTES:
            return
        self._answered = 0
        memory = proc.resident()
        if memory > most:
            self._doorman.end_those_who_do_not_read(slow=memory > 2 * most)

    # --- events -------------------------------------------------------------------------------------------------

    def publish(self, event: Event, body: bytes) -> None:
        """To whom it may concern: topic ``job.<id>``, then the event in msgpack."""
        self._events.send(b"job." + event.job.id.encode(), _MORE)
        self._events.send(body, zmq.NOBLOCK)


def _frames(router: zmq.Socket[bytes]) -> tuple[list[bytes], zmq.Frame]:
    """One message: its envelope, and its last frame. Raises zmq.Again where there is none.

    In half the time of `recv_multipart`: what a flood of messages costs the others is this.
    """
    envelope = [router.recv(zmq.NOBLOCK)]
    last = router.recv(zmq.NOBLOCK, copy=False)
    while last.more:
        envelope.append(last.bytes)
        last = router.recv(zmq.NOBLOCK, copy=False)
    return envelope, last


@functools.lru_cache(maxsize=1024)
def _uid_and_gid(address: str) -> tuple[int, int] | None:
    """Of what libzmq says of a peer: "localhost:UID:GID:PID". None: it does not come by the UNIX socket."""
    host, _, rest = address.partition(":")
    numbers = rest.split(":")
    if host != "localhost" or len(numbers) != 3:
        return None
    return int(numbers[0]), int(numbers[1])


def _not_served() -> Refused:
    return Refused(
        "forbidden",
        "this daemon does not serve you: on its machine, be in the group of its runtime directory or named in its "
        "configuration; by TCP, have a key that is not revoked",
    )


def _read(envelope: list[bytes], body: bytes) -> tuple[Header, Request]:
    if len(envelope) > 2 or (len(envelope) == 2 and envelope[1]):
        raise Refused("bad_request", "a request is one frame (REQ clients: one after an empty delimiter)")
    header = _header(body)
    if header.v > VERSION:
        raise Refused(
            "unsupported_version", f"this daemon speaks version {VERSION} of the protocol, not {header.v}", "v"
        )
    if header.verb not in VERBS:
        raise Refused(
            "unknown_verb", f"there is no verb {header.verb!r}; known: {', '.join(sorted(map(str, VERBS)))}", "verb"
        )
    try:
        return header, (_unjson if is_json(body) else _unpack)(body)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".") or (message.split("`")[1] if "`" in message else None)
        raise Refused("invalid_request", f"{header.verb}: {error}", field) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("bad_request", f"the message cannot be decoded: {error}") from error


def internal(error: Exception) -> Refused:
    """An unexpected error, logged with its traceback under the number that the client is told."""
    number = uuid.uuid4().hex[:12]
    _log.error("internal error %s", number, exc_info=error, extra={"action": "internal"})
    return Refused("internal", f"an error inside the daemon; its log has the details under {number}")


def _header(body: bytes) -> Header:
    """Raises Refused where not even that can be read."""
    try:
        header = (msgspec.json.decode if is_json(body) else msgspec.msgpack.decode)(body, type=Header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("bad_request", f"a request is a map with v, rid and verb, in msgpack or JSON: {error}") from error
    if len(header.rid) > MAX_RID:  # it would be kept with the job, and sent back
        raise Refused("bad_request", f"a rid is {MAX_RID} characters at most, not {len(header.rid)}")
    return header


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


def new_pair() -> tuple[str, str]:
    """A CURVE key pair: public, secret, Z85-encoded."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()
