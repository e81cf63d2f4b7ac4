"""How many connections there are, and an end to those that are too many.

libzmq sets no limit, and aborts the process where it cannot accept a connection for want of descriptors: whoever may
connect could end the daemon. It tells of each connection by its descriptor, though, and one that is shut down ends as
if its peer had gone.

libzmq's thread waits where 1,000 of its notes are not read, so no more connections than that come unseen: with 4,096
descriptors or more it never runs out of them.
"""

from __future__ import annotations

import array
import fcntl
import logging
import resource
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable

import zmq

from annul.access import Grant

_log = logging.getLogger(__name__)
_MOST = 10_000  # connections in all, where there are descriptors enough
_PART = 4  # of all, one of so many parts for each who is no local admin
_SAY_S = 10.0  # between two lines in the log
_NOTE = struct.Struct("=Hi")  # event and value: see zmq_socket_monitor(3); pyzmq's own reader imports asyncio
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Doorman:
    """Owned by the loop thread."""

    def __init__(self, grant_of: Callable[[int, int], Grant | None], most: int | None = None) -> None:
        """`grant_of`: of a uid and a gid. `most`: connections; None: half of the descriptors there may be, which leaves
        the other half to the jobs.
        """
        self._grant_of = grant_of
        self._most = most or min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._watched: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]] = []  # who serves, and what tells of it
        self._whose: dict[int, str] = {}  # by descriptor
        self._count: Counter[str] = Counter()
        self._unread: dict[int, int] = {}  # by descriptor, what it had not read at the last look
        self._said_at = 0.0

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What the loop is to wait for."""
        return [notes for _, notes in self._watched]

    def watch(self, served: zmq.Socket[bytes]) -> None:
        """Count its connections. It is bound already."""
        name = f"inproc://doorman-{len(self._watched)}"
        served.monitor(name, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        notes = served.context.socket(zmq.PAIR)
        notes.rcvhwm = 1  # of notes that are not read, libzmq has its own thousand beside
        notes.connect(name)
        self._watched.append((served, notes))

    def look(self) -> None:
        """Take note of who has come and gone, and end what is too many."""
        for _, notes in self._watched:
            come: dict[int, None] = {}
            while True:
                try:
                    event, fd = _NOTE.unpack(notes.recv_multipart(zmq.NOBLOCK)[0])
                except zmq.Again:
                    break
                come.pop(fd, None)
                self._unread.pop(fd, None)
                if (whose := self._whose.pop(fd, None)) is not None:
                    self._count[whose] -= 1
                if event == zmq.EVENT_ACCEPTED:
                    come[fd] = None
            for fd in come:
                self._let_in(fd)

    def _let_in(self, fd: int) -> None:
        try:
            connection = socket.socket(fileno=fd)  # libzmq's own, borrowed: a copy would need a descriptor
        except OSError:
            return  # gone already
        try:
            whose, share = self._who(connection)
            if self._count[whose] < share and len(self._whose) < self._most:
                self._whose[fd] = whose
                self._count[whose] += 1
            else:
                _end(connection)
                self._say_too_many(whose)
        except OSError:
            pass  # gone meanwhile
        finally:
            connection.detach()

    def end_those_who_do_not_read(self, *, slow: bool) -> None:
        """Those whose peer has read nothing since the last call, though there was something; `slow`: all with something
        to read, who may read a little now and then.
        """
        self.look()
        before, self._unread = self._unread, {}
        for fd in self._whose:
            try:
                connection = socket.socket(fileno=fd)
            except OSError:
                continue
            try:
                waits = array.array("i", [0])
                fcntl.ioctl(connection, termios.TIOCOUTQ, waits)  # SIOCOUTQ: see unix(7), tcp(7)
                if not waits[0]:
                    continue
                self._unread[fd] = waits[0]
                if slow or before.get(fd) == waits[0]:
                    _end(connection)
                    self._say("a connection of %s is closed: it does not read, and memory is short", self._whose[fd])
            except OSError:
                pass  # gone meanwhile
            finally:
                connection.detach()

    def _who(self, connection: socket.socket) -> tuple[str, int]:
        """Whose a connection is, and how many that one may have."""
        if connection.family != socket.AF_UNIX:
            return "tcp", self._most // _PART
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, gid = _CREDENTIALS.unpack(data)
        grant = self._grant_of(uid, gid)
        return f"uid:{uid}", self._most if grant is not None and grant.is_local_admin else self._most // _PART

    def _say_too_many(self, whose: str) -> None:
        self._say(
            "connections are closed: %s has %d, and there are %d in all, of at most %d",
            *(whose, self._count[whose], len(self._whose), self._most),
        )

    def _say(self, text: str, *about: str | int) -> None:
        now = time.monotonic()
        if now >= self._said_at:
            self._said_at = now + _SAY_S
            _log.warning(text, *about, extra={"action": "connections"})

    def close(self) -> None:
        """Before the sockets that are watched are closed."""
        self.look()  # with notes that nobody reads, the end would wait for libzmq's thread, and that for us
        for served, notes in self._watched:
            served.disable_monitor()
            notes.close(linger=0)


def _end(connection: socket.socket) -> None:
    # Race: it may be gone, and the descriptor that of another; none but these has the address of a server.
    if connection.getsockname():
        connection.shutdown(socket.SHUT_RDWR)
