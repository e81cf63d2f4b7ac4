"""The board: a small file per attempt in shared memory, through which daemon and job see each other.

The daemon writes when it launched the job, and the cancel (reason, asker, deadline, then the flag); the job writes its
pid, when it reached its first line, its progress, and when it noticed the cancel. The file lies in the runtime
directory and outlives the daemon, so a restarted daemon reads on where the dead one stopped, and it is the durable
record of a cancel that the store refused (contract C1). Its times are on the monotonic clock, which all processes of a
boot share.

A plain mmap of a preallocated file: on a full tmpfs a sparse one would be SIGBUS, and
`multiprocessing.shared_memory` has a tracker that unlinks it. Each field has one writer. What is longer than a
machine word has two slots: the writer fills the one that is not in use and then switches over with one store. So a
writer that is stopped or killed in the middle leaves the last whole value in place, and a reader tries again only
where it was overtaken twice.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from pathlib import Path

import msgspec

from annul.cancel import Ladder, restored
from annul.lifecycle import StopKind

SIZE = 8192
_MAGIC = b"ANNUL\x00\x00\x01"  # the last byte is the layout's version

# Written by the daemon.
FLAG = 8  # u8: 0, or once the job is to stop 1 + the slot of the notice that counts
_SIGNAL_TREE = 9  # u8: whether SIGTERM is for the whole tree, not for the leader only
_LAUNCHED_AT = 16  # i64, monotonic ns: when a process was asked for; 0: not yet
_GRACE_S = 24  # f64: of its type
_NOTICES = (32, 2048)  # i64 deadline (monotonic ns: when SIGKILL comes), u16 length, the JSON of a Notice
_NOTICE_MAX = 1900

# Written by the job.
_PID = 4096  # u64
_START_TIME = 4104  # u64, clock ticks since boot: /proc/PID/stat field 22
_RUNNING_AT = 4112  # i64, monotonic ns; 0: not yet
_NOTICED_AT = 4120  # i64, monotonic ns; 0: not yet
_UNWOUND_AT = 4128  # i64, monotonic ns: the cancel came out of the job's function; no SIGTERM is needed any more
_REPORTS = 4136  # u64: how many progress reports there were; the last one is in slot (number modulo 2)
_PROGRESS = (4144, 4672)  # f64 fraction (NaN: the job cannot tell), u16 length, UTF-8
_STAGE_MAX = 400

# Native and aligned: each is written by one store.
_U16 = struct.Struct("H")
_U64 = struct.Struct("Q")
_I64 = struct.Struct("q")
_F64 = struct.Struct("d")
_TRIES = 1000


BOARD = "board"  # its name in the run directory
GIVEN_UP = "given_up"  # kind of the notice on the board of a launch that no process may follow any more


class Notice(msgspec.Struct, frozen=True):
    """What the job can know about its cancel."""

    kind: str  # "cancel", "timeout", "shutdown" or "orphaned"
    reason: str
    by: str
    grace_s: float
    asked_at: float  # unix seconds


class Board:
    """One attempt's shared memory. Owned by the daemon's loop thread and by the job's process, a field each."""

    __slots__ = ("_map", "_path", "_reports")

    def __init__(self, path: str | Path, memory: mmap.mmap) -> None:
        self._path = path
        self._map = memory
        # Not by struct, which clears its target before it writes: this is one store.
        self._reports = memoryview(memory)[_REPORTS : _REPORTS + 8].cast("Q")

    @classmethod
    def create(cls, path: str | Path) -> Board:
        """Make the file, with its memory reserved. Raises OSError (also where the file system is full)."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)
            memory = mmap.mmap(fd, SIZE)
        except OSError:
            Path(path).unlink()
            raise
        finally:
            os.close(fd)
        memory[0:8] = _MAGIC
        return cls(path, memory)

    @classmethod
    def open(cls, path: str | Path) -> Board:
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
        self._reports.release()
        self._map.close()

    @property
    def path(self) -> Path:
        return Path(self._path)

    @property
    def memory(self) -> mmap.mmap:
        """The mapping itself, for the one hot path: reading the flag."""
        return self._map

    # --- the cancel: daemon writes, job reads -------------------------------------------------------------------

    def tell(self, notice: Notice, deadline: float) -> None:
        """Say why and until when (monotonic seconds) the job has to stop: to commands in ``cancel.json`` beside the
        board, and then on the board, also where the former raises OSError.
        """
        part = self.path.with_name("cancel.json.part")
        try:
            part.write_bytes(msgspec.json.encode({**msgspec.to_builtins(notice), "deadline": deadline}))
            part.rename(part.with_name("cancel.json"))
        finally:
            self.set_cancel(notice, int(deadline * 1e9))

    def set_cancel(self, notice: Notice, deadline_ns: int) -> None:
        """Write reason and deadline, then the flag: whoever sees the flag finds the reason (C7)."""
        body = _encode(notice)
        if len(body) > _NOTICE_MAX:  # the reason is data of the asker; the deadline must get through regardless
            body = _encode(msgspec.structs.replace(notice, reason=notice.reason[:200], by=notice.by[:60]))
        if len(body) > _NOTICE_MAX:
            body = _encode(msgspec.structs.replace(notice, reason="", by=""))
        slot = 1 if self._map[FLAG] == 1 else 0
        _I64.pack_into(self._map, _NOTICES[slot], deadline_ns)
        self._put_bytes(_NOTICES[slot] + 8, body)
        self._map[FLAG] = slot + 1

    @property
    def flag(self) -> bool:
        return self._map[FLAG] != 0

    def cancel(self) -> tuple[Notice, int] | None:
        """The cancel and its deadline (monotonic ns), or None while there is none."""
        for _ in range(_TRIES):
            flag = self._map[FLAG]
            if not flag:
                return None
            at = _NOTICES[(flag - 1) % 2]
            deadline = int(_I64.unpack_from(self._map, at)[0])
            body = self._get_bytes(at + 8)
            if flag == self._map[FLAG]:
                break
        try:
            return msgspec.json.decode(body, type=Notice), deadline
        except msgspec.MsgspecError:  # overtaken again and again, or not written by us: that it is to stop still counts
            return Notice("cancel", "", "", 0.0, 0.0), deadline

    def ladder(self, now: float) -> Ladder | None:
        """The ladder that it tells of, begun by whoever wrote that, with what is left of its grace; None: none. `now`:
        monotonic seconds.
        """
        found = self.cancel()
        if found is None or found[0].kind == GIVEN_UP:
            return None
        notice, deadline_ns = found
        return restored(
            kind=StopKind(notice.kind),
            reason=notice.reason,
            by=notice.by,
            grace_s=notice.grace_s,
            asked_at=notice.asked_at,
            deadline=deadline_ns / 1e9,
            now=now,
        )

    # --- its launch: daemon writes; the next daemon, or the guardian while there is none, reads --------------------

    def stamp_launched(self, now_ns: int, *, grace_s: float = 0.0, signal_tree: bool = False) -> None:
        """When that was, and the terms of its type by which it is to be stopped where no daemon does that."""
        _F64.pack_into(self._map, _GRACE_S, grace_s)
        self._map[_SIGNAL_TREE] = signal_tree
        _I64.pack_into(self._map, _LAUNCHED_AT, now_ns)

    @property
    def grace_s(self) -> float:
        return float(_F64.unpack_from(self._map, _GRACE_S)[0])

    @property
    def signal_tree(self) -> bool:
        return self._map[_SIGNAL_TREE] != 0

    @property
    def launched_at(self) -> int:
        return int(_I64.unpack_from(self._map, _LAUNCHED_AT)[0])

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
    def start_s(self) -> float | None:
        """From its launch to the job's first line; None before that."""
        began, runs = self.launched_at, self.running_at
        return max(0, runs - began) / 1e9 if began and runs else None

    @property
    def noticed_at(self) -> int:
        return int(_I64.unpack_from(self._map, _NOTICED_AT)[0])

    @property
    def unwound_at(self) -> int:
        return int(_I64.unpack_from(self._map, _UNWOUND_AT)[0])

    # --- progress: job writes, daemon reads ---------------------------------------------------------------------

    def set_progress(self, fraction: float | None, stage: str) -> None:
        """Not to be called by two threads at once."""
        # Cut on a character's edge, so that the daemon can decode it.
        body = stage.encode("utf-8", "replace")[:_STAGE_MAX].decode("utf-8", "ignore").encode()
        while True:
            number = self._reports[0] + 1
            at = _PROGRESS[number % 2]
            _F64.pack_into(self._map, at, float("nan") if fraction is None else fraction)
            self._put_bytes(at + 8, body)
            if self._reports[0] == number - 1:  # else a signal handler of the job's has reported in the middle of this
                break
        self._reports[0] = number

    def progress(self) -> tuple[int, float | None, str]:
        """(number of reports so far, fraction, stage) of the last report; 0: none yet."""
        for _ in range(_TRIES):
            number = self._reports[0]
            at = _PROGRESS[number % 2]
            fraction = float(_F64.unpack_from(self._map, at)[0])
            stage = self._get_bytes(at + 8)
            if number == self._reports[0]:
                break
        return number, None if math.isnan(fraction) else fraction, stage.decode("utf-8", "replace")

    # --- encoding -----------------------------------------------------------------------------------------------

    def _put_bytes(self, where: int, data: bytes) -> None:
        _U16.pack_into(self._map, where, len(data))
        self._map[where + 2 : where + 2 + len(data)] = data

    def _get_bytes(self, where: int) -> bytes:
        return self._map[where + 2 : where + 2 + _U16.unpack_from(self._map, where)[0]]


def _encode(notice: Notice) -> bytes:
    """JSON; what is no Unicode text (a lone surrogate) becomes a question mark."""
    clean = {"reason": notice.reason, "by": notice.by}
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in clean.items()}
    return msgspec.json.encode(msgspec.structs.replace(notice, **clean))
