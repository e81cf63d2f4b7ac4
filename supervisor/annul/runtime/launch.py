"""The messages between the daemon and its zygotes, and their framing: 4 bytes of length, then msgpack."""

from __future__ import annotations

import struct

import msgspec

_LENGTH = struct.Struct("=I")


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
    attempt_dir: str  # in the state directory: log, outcome, staging, work, tmp
    user_dir: str  # where the outputs are published
    notify: str  # datagram socket for nudges
    cgroup: str | None  # directory to move into
    env: dict[str, str]
    memory_bytes: int | None
    grace_s: float  # of its type, for when no daemon is there to say another
    signal_tree: bool
    orphan_grace_s: float  # how long it may run without a daemon; below 0: for ever
    daemon: int  # the pid of the daemon that launches it

    @property
    def name(self) -> str:
        return f"{self.job_id}.{self.attempt}"


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The zygote has imported everything and can fork."""

    failed: dict[str, str] = {}  # modules that could not be imported, and why
    strangers: frozenset[tuple[int, int]] = frozenset()  # (pid, start time) of processes that these have started


class Launched(msgspec.Struct, frozen=True, tag="launched"):
    """A job's process is there; its pidfd comes with this message (SCM_RIGHTS)."""

    name: str
    pid: int


class NotLaunched(msgspec.Struct, frozen=True, tag="not_launched"):
    """fork failed."""

    name: str
    why: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A process that this zygote forked has been reaped. `status` as of waitpid."""

    pid: int
    status: int


FromZygote = Ready | Launched | NotLaunched | Exited


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
