"""The daemon's end of one zygote: the socket to it, its spare processes, and the launches that wait for one.

Nothing here ever waits. Owned by the loop thread.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

import msgspec

from annul import proc
from annul.runtime.launch import FORK, SPARE, Launch, Unframer

_log = logging.getLogger(__name__)
Profile = tuple[str, ...]
_READS = 256  # of one zygote in one turn
_ROOM_MIB, _LIGHT_ROOM_MIB = 32, 8  # for what it imports: what is not used of it is given back, but takes a while
_IMPORT_WAIT_S = 120.0  # for a zygote to import its profile
_ANSWER_WAIT_S = 10.0  # for a ready one to say something, while it has something to do
_STOPPED_WAIT_S = 0.5  # the same for one that is stopped
_SETTLE_S = 0.005  # after a start, before its spare is replaced: the processor is the job's

# The zygote's environment is what /proc/PID/environ shows of every job: no secret may be in it.
_ZYGOTE_ENV = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)


class Terms(msgspec.Struct, frozen=True):
    """What zygotes are told, and where their pids are kept."""

    notify: str  # the daemon's socket: as long as that can be connected to, it lives
    orphan_grace_s: float
    zygotes_dir: Path  # one file for each that lives, named by its pid: the next daemon finds them by that
    rehearsal: Path  # where processes rehearse
    rooms: Path  # and where they make room for a job, in the jobs' file system
    spares: int = 0  # of each profile
    cgroup: Path | None = None  # where each process makes a cgroup for itself


class Note(msgspec.Struct, frozen=True):
    """What the next daemon is to know of a zygote."""

    start_time: int
    strangers: frozenset[tuple[int, int]]  # see `Reaper`


class Process(msgspec.Struct, frozen=True):
    """A process that a zygote forked: in a session of its own, and waiting to be told what to run."""

    pid: int
    start_time: int
    pidfd: int
    channel: socket.socket
    since: float  # monotonic

    def close(self) -> None:
        """A spare one ends by itself then."""
        self.channel.close()
        os.close(self.pidfd)


class Zygote:
    """One zygote process, the socket to it, its spare processes, and the launches that wait for one."""

    def __init__(self, profile: Profile, targets: list[str], terms: Terms) -> None:
        self.profile = profile
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.setblocking(False)
        arguments = {
            "fd": theirs.fileno(),
            "targets": targets,
            "preload": list(profile),
            "notify": terms.notify,
            "orphan_grace_s": terms.orphan_grace_s,
            "cgroup": str(terms.cgroup) if terms.cgroup else None,
            "rehearsal": str(terms.rehearsal),
            "rooms": str(terms.rooms),
        }
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "annul.runtime.zygote", msgspec.json.encode(arguments).decode()),
                    str(_ROOM_MIB if profile else _LIGHT_ROOM_MIB),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ZYGOTE_ENV if name in os.environ},
                start_new_session=True,
            )
        except OSError:
            self.socket.close()
            raise
        finally:
            theirs.close()
        self._note = terms.zygotes_dir / str(self.process.pid)
        self.strangers: frozenset[tuple[int, int]] = frozenset()
        try:
            self._write_note()
        except OSError:  # the next daemon would not find it
            self.socket.close()
            self.process.kill()
            self.process.wait()
            raise
        self.ready = False
        self.waiting: deque[Launch] = deque()
        self.spares: deque[Process] = deque()
        self.children: set[int] = set()  # pids of what it has forked and not reaped
        self.asked = 0  # forks that it has not answered yet
        self.silent_since = 0.0  # while it is asked for something, monotonic
        self.looked = False  # whether it is stopped, since then
        self.ready_at = 0.0
        self.taken_at: float | None = None  # when the first spare was taken that is not replaced yet
        self.rest_until = 0.0  # no spares before: a fork has failed
        self._out = b""  # requests that the socket has not taken yet
        self._in = Unframer()
        self._fds: deque[list[int]] = deque()  # of each message that has some; empty: there was no room for them

    def _write_note(self) -> None:
        one = proc.stat(self.process.pid)
        part = self._note.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(Note(one.start_time if one else 0, self.strangers)))
            part.replace(self._note)
        finally:
            part.unlink(missing_ok=True)

    def has_become_ready(self, strangers: frozenset[tuple[int, int]], now: float) -> None:
        self.ready, self.ready_at = True, now
        self.strangers = strangers
        if strangers:
            try:
                self._write_note()
            except OSError as error:  # the note that there is serves this daemon's jobs as well
                _log.warning(
                    "noting what zygote %d has started: %s", self.process.pid, error, extra={"action": "zygote"}
                )

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def ask(self, forks: int, spares: int, now: float) -> None:
        """Ask for so many processes: for launches, and to wait for one."""
        if not self.asked:
            self.silent_since, self.looked = now, False
        self.asked += forks + spares
        self._out += FORK * forks + SPARE * spares
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes. A dead zygote is noticed by reading."""
        try:
            self._out = self._out[self.socket.send(self._out) :]
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass

    def read(self) -> tuple[list[bytes], bool]:
        """(messages, whether it has gone). Descriptors that came with them wait in order for `take_fds`."""
        messages: list[bytes] = []
        for _ in range(_READS):  # the kernel gives out what came with descriptors by itself
            try:
                data, fds, flags, _ = socket.recv_fds(self.socket, 65536, 16)
            except BlockingIOError:
                return messages, False
            except ConnectionResetError:
                return messages, True
            if flags & socket.MSG_CTRUNC:  # some are missing
                for fd in fds:
                    os.close(fd)
                self._fds.append([])
            elif fds:
                self._fds.append(fds)
            messages += self._in.feed(data)
            if not data:
                return messages, True
        return messages, False

    def take_fds(self) -> list[int]:
        return self._fds.popleft()

    def lost_at(self) -> float | None:
        """When it is given up, or looked at, unless it says something before; None: nothing is asked of it."""
        if not self.asked:
            return None
        wait_s = _ANSWER_WAIT_S if self.ready else _IMPORT_WAIT_S
        return self.silent_since + (wait_s if self.looked else _STOPPED_WAIT_S)

    def is_lost(self, now: float) -> bool:
        """Whether it is not going to answer: it is stopped, or stuck, or still importing after all that time."""
        lost_at = self.lost_at()
        if lost_at is None or now < lost_at:
            return False
        if self.looked:
            return True
        self.looked = True
        one = proc.stat(self.process.pid)
        return one is not None and one.state in "Tt"

    def refill_at(self, wanted: int, *, hurry: bool) -> float | None:
        """When it is to be asked for spares; None: there are enough. `hurry`: more jobs wait."""
        if not self.ready or self.short(wanted) <= 0:
            return None
        settled_at = 0.0 if hurry or self.taken_at is None else self.taken_at + _SETTLE_S
        return max(self.rest_until, settled_at)

    def short(self, wanted: int = 0) -> int:
        """How many processes are missing: for launches, and so many spares."""
        return len(self.waiting) + wanted - len(self.spares) - self.asked

    def close(self) -> None:
        """Let it go: it ends on its own, as its spares do; a stopped one has to be killed."""
        self.socket.close()
        for spare in self.spares:
            spare.close()
        self.spares.clear()
        for fds in self._fds:
            for fd in fds:
                os.close(fd)
        self._fds.clear()

    def forget(self) -> None:
        """It has ended, and no daemon is to look for it any more."""
        self._note.unlink(missing_ok=True)
