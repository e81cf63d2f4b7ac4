"""What daemon, zygotes and the processes they fork say to each other.

Daemon to zygote: a byte for each process that is to be forked, FORK or SPARE. Zygote to daemon: the messages below, in
msgpack, each after 4 bytes of length. Daemon to forked process, once: a `Launch`, and then GO, when that is committed;
by a socket that keeps messages whole.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import msgspec

from annul.runtime.limits import Limits

_LENGTH = struct.Struct("=I")
FORK = b"f"  # a process for a launch that waits
SPARE = b"s"  # one that has time
GO = b"g"
LAUNCH = "launch"  # its name in the run directory, where it is too long for the socket
_IN_ONE = 64 * 1024  # bytes: less than a socket's buffer, so that sending never waits


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a job's process needs to know. Paths are absolute."""

    job_id: str
    attempt: int
    type: str
    target: str  # "module:attribute" of the JobType
    params: bytes  # JSON
    user: str
    title: str
    labels: dict[str, str]
    run_dir: str  # in the runtime directory: board, cancel.json
    attempt_dir: str  # in the state directory: log, outcome, staging, work
    user_dir: str  # where the outputs are published
    notify: str  # datagram socket for nudges
    env: dict[str, str]
    limits: Limits
    grace_s: float  # of its type, for when no daemon is there to say another
    signal_tree: bool
    orphan_grace_s: float  # how long it may run without a daemon; below 0: for ever
    daemon: int  # the pid of the daemon that launches it

    @property
    def name(self) -> str:
        return f"{self.job_id}.{self.attempt}"


_decode_launch = msgspec.msgpack.Decoder(Launch).decode  # made before processes are forked: that takes a millisecond


def hand_over(channel: socket.socket, launch: Launch) -> None:
    """Give the process at the other end what it is to run. Never waits.

    Raises OSError: BrokenPipeError or ConnectionResetError where that process is gone.
    """
    body = msgspec.msgpack.encode(launch)
    if len(body) > _IN_ONE:
        path = Path(launch.run_dir, LAUNCH)
        path.write_bytes(body)
        body = os.fsencode(path)
    channel.send(body, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def give_go(channel: socket.socket) -> None:
    """Let it run that. Never waits; raises OSError as `hand_over` does."""
    channel.send(GO, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def await_go(channel: socket.socket) -> bool:
    """Wait for that. False: the launch is not to be run after all."""
    return channel.recv(1) == GO


def await_launch(channel: socket.socket) -> Launch | None:
    """Wait to be told what to run. None: nothing; the daemon is gone, or needs this process no more."""
    body = channel.recv(_IN_ONE)
    if body.startswith(b"/"):  # a path; of msgpack that would be the number 47
        try:
            path = Path(os.fsdecode(body))
            body = path.read_bytes()
            path.unlink(missing_ok=True)  # it is in memory, and may have all of a job's input
        except FileNotFoundError:
            return None  # given up meanwhile
    return _decode_launch(body) if body else None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The zygote has imported everything and can fork."""

    failed: dict[str, str] = {}  # modules that could not be imported, and why
    strangers: frozenset[tuple[int, int]] = frozenset()  # (pid, start time) of processes that these have started


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """A process is there, and waits for its `Launch`. With this message come its pidfd and a socket to it."""

    pid: int
    start_time: int  # clock ticks since boot


class NotForked(msgspec.Struct, frozen=True, tag="not_forked"):
    """fork failed."""

    why: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A process that this zygote forked has been reaped. `status` as of waitpid."""

    pid: int
    status: int


FromZygote = Ready | Forked | NotForked | Exited


def frame(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unframer:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._data += data
        found = []
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            end = _LENGTH.size + length
            if len(self._data) < end:
                break
            found.append(bytes(self._data[_LENGTH.size : end]))
            del self._data[:end]
        return found
