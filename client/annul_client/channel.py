"""One connection for requests: a DEALER socket, and a watch on whether it is connected (see `asking` for why)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from time import monotonic
from typing import Any

import zmq

from .asking import Ask, OtherEnd, asking
from .errors import ClientClosed, NoDaemon
from .keys import KeyFile
from .places import MAX_SOCKET_PATH

_REFUSED = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
WATCHED = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | _REFUSED

_EVENT = struct.Struct("=H")
"""How a monitor's message begins: see zmq_socket_monitor(3). pyzmq's own reader of it imports asyncio: 15 ms."""


class Watch:
    """Says when a socket's connection comes and goes. Owned by the thread that uses the socket."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        # Must be made before connecting, or the first events are missed.
        self._watched = watched
        self.socket = watched.get_monitor_socket(WATCHED)
        self.connected = False
        self.refused = False  # the other side wants a key, or another one
        self.made = 0  # how many connections were made
        self.lost_at = monotonic()  # when the last one broke, or when this began to wait for the first

    def read(self) -> bool:
        """Take the news; True when a connection was made since the last look, though it may be gone again."""
        made = False
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return made
            (event,) = _EVENT.unpack_from(frames[0])
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.connected = made = True
                self.refused = False
                self.made += 1
            elif event & _REFUSED:
                self.refused = True
            elif event == zmq.Event.DISCONNECTED and self.connected:
                self.connected = False
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

    def ask(self, wanted: Ask, timeout_s: float) -> list[Any]:
        """Make these calls and wait for their answers. Raises what `asking` does, and `ClientClosed`."""
        self._watch.read()
        other_end = OtherEnd(self.endpoint, self._key)
        moves = asking(wanted, self._watch, other_end, timeout_s, lambda call: self._socket.send(call.frame))
        try:
            until = next(moves)
            while True:
                ready = dict(self._poller.poll(max(0, int((until - monotonic()) * 1000) + 1)))
                if self._closed_fd in ready:
                    raise ClientClosed("the client was closed before the answer came")
                if self._watch.socket in ready:
                    self._watch.read()
                until = moves.send([self._socket.recv_multipart()[-1]] if self._socket in ready else [])
        except StopIteration as end:
            answers: list[Any] = end.value
            return answers

    def close(self) -> None:
        """Close at once; nothing lingers."""
        self._watch.close()
        self._socket.close(linger=0)


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
