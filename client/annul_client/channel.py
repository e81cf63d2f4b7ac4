"""One connection for requests: a DEALER socket, and a watch on whether it is connected.

A DEALER reconnects by itself but does not say so, and a request that the old daemon took with it into its
grave would wait for ever. So the socket is monitored, and when a new connection stands, the request under way
is sent again (its id makes that safe, see `core.Call`).
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Iterable
from time import monotonic
from typing import TypeVar, cast

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from .core import Call
from .errors import ClientClosed, Forbidden, NoDaemon
from .keys import KeyFile
from .places import MAX_SOCKET_PATH

R = TypeVar("R", bound=msgspec.Struct)

AHEAD = 4
"""Calls that are under way at once, where many are made: enough for the daemon to find the next one when it looks."""

_REFUSED = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
WATCHED = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | _REFUSED


class Reconnected(Exception):
    """The connection broke and came back while a call that must not simply be repeated was under way."""


class Watch:
    """Says when a socket's connection comes and goes. Owned by the thread that uses the socket."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        # Must be made before connecting, or the first events are missed.
        self._watched = watched
        self.socket = watched.get_monitor_socket(WATCHED)
        self.connected = False
        self.refused = False  # the other side wants a key, or another one
        self.breaks = 0  # how many connections broke
        self.lost_at = monotonic()  # when the last one broke, or when this began to wait for the first

    def read(self) -> bool:
        """Take the news; True when a connection was made since the last look, though it may be gone again."""
        made = False
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return made
            event = parse_monitor_message(frames)["event"]
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.connected = made = True
                self.refused = False
            elif event & _REFUSED:
                self.refused = True
            elif event == zmq.Event.DISCONNECTED and self.connected:
                self.connected = False
                self.breaks += 1
                self.lost_at = monotonic()

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)


class Channel:
    """A DEALER connection for the calls of one caller at a time. Not thread-safe; `Client` gives it to one thread."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, closed_fd: int, key: KeyFile | None = None
    ) -> None:
        """Begin to connect; whether anything is there shows with the first call. See `probe` for a quick answer.

        `closed_fd` becomes readable, and stays so, when calls are to be abandoned.
        """
        self.endpoint = endpoint
        self._closed_fd = closed_fd
        self._key = key
        self._socket = connecting(context, zmq.DEALER, key)
        self._watch = Watch(self._socket)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._watch.socket, zmq.POLLIN)
        self._poller.register(closed_fd, zmq.POLLIN)
        self._socket.connect(endpoint)

    def ask(self, call: Call[R], answer_s: float, absence_s: float, *, repeat: bool = True) -> R:
        """Send a call and wait for its answer; see `ask_all`."""
        (answer,) = self.ask_all([call], answer_s, absence_s, repeat=repeat)
        return answer

    def ask_all(self, calls: Iterable[Call[R]], answer_s: float, absence_s: float, *, repeat: bool = True) -> list[R]:
        """Send calls and wait for their answers, which are returned in the order of the calls.

        The next ones are made and sent before the last is answered, so that both sides have something to do. Where
        one raises, those sent before it were or will be carried out, and a few after it may be.

        `answer_s`: seconds for the next answer, from when something was last sent or answered; `absence_s`: seconds
        that the daemon may be away in one piece. With `repeat` False a broken connection raises `Reconnected` once it
        stands again.

        Raises `NoDaemon` when either time is over, `ClientClosed`, and what `Call.answer` raises.
        """
        self._watch.read()
        if not self._watch.connected:
            # An old break counts from now: the daemon gets its full time for this call.
            self._watch.lost_at = monotonic()
        breaks = self._watch.breaks
        rest = iter(calls)
        waiting: list[Call[R]] = []
        answers: dict[str, R | None] = {}  # by request id, in the order of the calls
        answer_by = 0.0
        while True:
            for call in itertools.islice(rest, AHEAD - len(waiting)):
                waiting.append(call)
                answers[call.rid] = None
                # Without a connection the frame waits in the socket's queue and leaves with the first one.
                self._socket.send(call.frame)
                answer_by = monotonic() + answer_s
            if not waiting:
                return cast("list[R]", list(answers.values()))
            until = answer_by
            if not self._watch.connected:
                until = min(until, self._watch.lost_at + absence_s)
            left_s = until - monotonic()
            if left_s <= 0:
                raise NoDaemon(self.endpoint, self._silence(waiting[0], answer_s, absence_s))
            ready = dict(self._poller.poll(int(left_s * 1000) + 1))
            if self._closed_fd in ready:
                raise ClientClosed(f"{waiting[0].verb}: the client was closed before the answer came")
            if self._watch.socket in ready:
                self._watch.read()
                if self._watch.refused:
                    raise self._not_let_in()
                if self._watch.connected and self._watch.breaks != breaks:
                    if not repeat:
                        raise Reconnected
                    breaks = self._watch.breaks
                    for call in waiting:
                        self._socket.send(call.frame)
                    answer_by = monotonic() + answer_s
            if self._socket in ready:
                frame = self._socket.recv_multipart()[-1]
                for call in waiting:
                    found = call.answer(frame)
                    if found is not None:
                        answers[call.rid] = found
                        waiting.remove(call)
                        answer_by = monotonic() + answer_s
                        break

    def close(self) -> None:
        """Close at once; nothing lingers."""
        self._watch.close()
        self._socket.close(linger=0)

    def _not_let_in(self) -> Forbidden:
        if self._key is None:
            return Forbidden("forbidden", f"{self.endpoint} serves holders of a key only: name its file with --key")
        return Forbidden(
            "forbidden",
            f"{self.endpoint} refuses the key {self._key.name!r}: it was revoked, or is another daemon's. Have a new "
            "one made with `annul keys new`",
        )

    def _silence(self, call: Call[R], answer_s: float, absence_s: float) -> str:
        if self._watch.connected:
            return f"it is connected but did not answer `{call.verb}` within {answer_s:g} s"
        return f"nothing there for {min(answer_s, absence_s):g} s, asked for `{call.verb}`"


def connecting(context: zmq.Context[zmq.Socket[bytes]], kind: int, key: KeyFile | None = None) -> zmq.Socket[bytes]:
    """A socket with what all of the client's sockets have in common: no lingering, quick reconnects, the key."""
    made = context.socket(kind)
    if key is not None:
        made.curve_serverkey = key.server_key.encode()
        made.curve_publickey = key.public_key.encode()
        made.curve_secretkey = key.secret_key.encode()
    made.linger = 0
    made.reconnect_ivl = 20
    made.reconnect_ivl_max = 500
    # Half-open TCP connections: a peer that lost its power says nothing. Harmless on ipc.
    made.heartbeat_ivl = 10_000
    made.heartbeat_timeout = 30_000
    return made


def probe(endpoint: str) -> None:
    """Raise `NoDaemon` at once where nobody listens on a UNIX socket; other transports show it by their silence.

    libzmq itself retries for ever and does not say why.
    """
    scheme, _, path = endpoint.partition("://")
    if scheme != "ipc" or not path:
        return
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise NoDaemon(endpoint, f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as found:
        try:
            found.connect(address)
        except BlockingIOError:
            return  # its queue of connections is full: somebody is there, and busy
        except OSError as error:
            why = {
                errno.ENOENT: "there is no socket",
                errno.ENOTDIR: "there is no socket",
                errno.ECONNREFUSED: "nobody listens on the socket, its daemon is gone",
                errno.EACCES: "you are not allowed to connect to it",
            }.get(error.errno or 0, os.strerror(error.errno or 0))
            raise NoDaemon(endpoint, why) from error
