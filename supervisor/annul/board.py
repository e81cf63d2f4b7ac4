"""The board: a small file per attempt in shared memory, through which daemon and job see each other.

The daemon writes the cancel (reason, asker, deadline, then the flag); the job writes its pid, when it reached its
first line, its progress, and when it noticed the cancel. The file lies in the runtime directory and outlives the
daemon, so a restarted daemon reads on where the dead one stopped, and it is the durable record of a cancel that the
store refused (contract C1).

A plain mmap of a preallocated file: on a full tmpfs a sparse one would be SIGBUS, and
`multiprocessing.shared_memory` has a tracker that unlinks it. Each field has one writer. What is longer than a
machine word is behind a sequence counter that is odd while it is being written (a seqlock): a reader tries again.

Non-guarantee: a process killed in the middle of a write leaves the counter odd; readers then give the last words
as they are after a few tries.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from pathlib import Path

import msgspec

SIZE = 4096
_MAGIC = b"ANNUL\x00\x00\x01"

# Written by the daemon.
FLAG = 8  # u8: 1 once the job is to stop
_CANCEL_SEQ = 16  # u64
_DEADLINE = 24  # i64, monotonic ns: when SIGKILL comes
_CANCEL = 32  # u16 length, then the JSON of a Notice
_CANCEL_MAX = 1900

# Written by the job.
_PID = 2048  # u64
_START_TIME = 2056  # u64, clock ticks since boot: /proc/PID/stat field 22
_RUNNING_AT = 2064  # i64, monotonic ns; 0: not yet
_NOTICED_AT = 2072  # i64, monotonic ns; 0: not yet
_UNWOUND_AT = 2080  # i64, monotonic ns: the cancel came out of the job's function; no SIGTERM is needed any more
_PROGRESS_SEQ = 2088  # u64
_FRACTION = 2096  # f64; NaN: the job cannot tell
_STAGE = 2104  # u16 length, then UTF-8
_STAGE_MAX = 400

_U16 = struct.Struct("=H")
_U64 = struct.Struct("=Q")
_I64 = struct.Struct("=q")
_F64 = struct.Struct("=d")


class Notice(msgspec.Struct, frozen=True):
    """What the job can know about its cancel."""

    kind: str  # "cancel", "timeout" or "shutdown"
    reason: str
    by: str
    grace_s: float
    asked_at: float  # unix seconds


class Board:
    """One attempt's shared memory. Owned by the daemon's loop thread and by the job's process, a field each."""

    __slots__ = ("_map", "path")

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self.path = path
        self._map = memory

    @classmethod
    def create(cls, path: Path) -> Board:
        """Make the file, with its memory reserved. Raises OSError (also where the file system is full)."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)
            memory = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        memory[0:8] = _MAGIC
        return cls(path, memory)

    @classmethod
    def open(cls, path: Path) -> Board:
        """Map an existing one. Raises OSError where it is gone, ValueError where it is no board."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != SIZE:
                raise ValueError(f"{path} is not a board of this version: it has not {SIZE} bytes")
            memory = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        if memory[0:8] != _MAGIC:
            memory.close()
            raise ValueError(f"{path} is not a board of this version: wrong magic number")
        return cls(path, memory)

    def close(self) -> None:
        self._map.close()

    @property
    def memory(self) -> mmap.mmap:
        """The mapping itself, for the one hot path: reading the flag."""
        return self._map

    # --- the cancel: daemon writes, job reads -------------------------------------------------------------------

    def set_cancel(self, notice: Notice, deadline_ns: int) -> None:
        """Write reason and deadline, then the flag: whoever sees the flag finds the reason (C7)."""
        body = msgspec.json.encode(notice)
        if len(body) > _CANCEL_MAX:  # the reason is data of the asker; the deadline must get through regardless
            body = msgspec.json.encode(msgspec.structs.replace(notice, reason=notice.reason[:200], by=notice.by[:60]))
        seq = self._begin(_CANCEL_SEQ)
        _I64.pack_into(self._map, _DEADLINE, deadline_ns)
        self._put_bytes(_CANCEL, body[:_CANCEL_MAX])
        self._end(_CANCEL_SEQ, seq)
        self._map[FLAG] = 1

    @property
    def flag(self) -> bool:
        return self._map[FLAG] != 0

    def cancel(self) -> tuple[Notice, int] | None:
        """The cancel and its deadline (monotonic ns), or None while there is none."""
        if not self._map[FLAG]:
            return None
        for _ in range(1000):
            before = _U64.unpack_from(self._map, _CANCEL_SEQ)[0]
            deadline = _I64.unpack_from(self._map, _DEADLINE)[0]
            body = self._get_bytes(_CANCEL)
            if before % 2 == 0 and before == _U64.unpack_from(self._map, _CANCEL_SEQ)[0]:
                break
        return msgspec.json.decode(body, type=Notice), deadline

    # --- the job's own stamps -----------------------------------------------------------------------------------

    def set_process(self, pid: int, start_time: int) -> None:
        _U64.pack_into(self._map, _START_TIME, start_time)
        _U64.pack_into(self._map, _PID, pid)

    def process(self) -> tuple[int, int] | None:
        """(pid, start time) of the leader, or None before it wrote them."""
        pid = _U64.unpack_from(self._map, _PID)[0]
        return (pid, _U64.unpack_from(self._map, _START_TIME)[0]) if pid else None

    def stamp_running(self, now_ns: int) -> None:
        _I64.pack_into(self._map, _RUNNING_AT, now_ns)

    def stamp_noticed(self, now_ns: int) -> None:
        """The first time counts."""
        if not self.noticed_at:
            _I64.pack_into(self._map, _NOTICED_AT, now_ns)

    def stamp_unwound(self, now_ns: int) -> None:
        _I64.pack_into(self._map, _UNWOUND_AT, now_ns)

    @property
    def running_at(self) -> int:
        return int(_I64.unpack_from(self._map, _RUNNING_AT)[0])

    @property
    def noticed_at(self) -> int:
        return int(_I64.unpack_from(self._map, _NOTICED_AT)[0])

    @property
    def unwound_at(self) -> int:
        return int(_I64.unpack_from(self._map, _UNWOUND_AT)[0])

    # --- progress: job writes, daemon reads ---------------------------------------------------------------------

    def set_progress(self, fraction: float | None, stage: str) -> None:
        seq = self._begin(_PROGRESS_SEQ)
        _F64.pack_into(self._map, _FRACTION, float("nan") if fraction is None else fraction)
        # Cut on a character's edge, so that the daemon can decode it.
        self._put_bytes(_STAGE, stage.encode("utf-8", "replace")[:_STAGE_MAX].decode("utf-8", "ignore").encode())
        self._end(_PROGRESS_SEQ, seq)

    def progress(self) -> tuple[int, float | None, str]:
        """(sequence number, fraction, stage). The number changes with each report; 0: none yet."""
        for _ in range(1000):
            before = _U64.unpack_from(self._map, _PROGRESS_SEQ)[0]
            fraction = _F64.unpack_from(self._map, _FRACTION)[0]
            stage = self._get_bytes(_STAGE)
            if before % 2 == 0 and before == _U64.unpack_from(self._map, _PROGRESS_SEQ)[0]:
                break
        return before, None if math.isnan(fraction) else fraction, stage.decode("utf-8", "replace")

    # --- encoding -----------------------------------------------------------------------------------------------

    def _begin(self, where: int) -> int:
        seq = int(_U64.unpack_from(self._map, where)[0]) | 1  # also after a writer that died in the middle
        _U64.pack_into(self._map, where, seq)
        return seq

    def _end(self, where: int, seq: int) -> None:
        _U64.pack_into(self._map, where, seq + 1)

    def _put_bytes(self, where: int, data: bytes) -> None:
        _U16.pack_into(self._map, where, len(data))
        self._map[where + 2 : where + 2 + len(data)] = data

    def _get_bytes(self, where: int) -> bytes:
        return self._map[where + 2 : where + 2 + _U16.unpack_from(self._map, where)[0]]
