"""Zygotes: starting them, asking them for processes, hearing of exits. Nothing here ever waits.

One zygote a preload profile. Requests are written to a non-blocking socket with a buffer, answers arrive in the poll:
a zygote that is slow, stopped or dead costs its own jobs time and nobody else any.

Owned by the loop thread.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from annul import proc
from annul.runtime.launch import Exited, FromZygote, Launch, Launched, NotLaunched, Ready, Unframer, frame
from annul.tree import Reaper

_log = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(FromZygote).decode
Profile = tuple[str, ...]
_IMPORT_WAIT_S = 120.0  # for a zygote to import its profile
_READS = 256  # of one zygote in one turn
ANSWER_WAIT_S = 10.0  # for a ready one to say something, while it has something to do

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


class Listener(msgspec.Struct, frozen=True):
    """What the launcher tells, in the loop thread."""

    launched: Callable[[str, int, int | None], None]  # name, pid, pidfd (now the callee's; None: it got lost)
    not_launched: Callable[[str, str], None]  # name, why; whether a process exists is unknown
    exited: Callable[[int, int], None]  # pid, status as of waitpid
    guardian_ended: Callable[[], None]  # what it kept together is so no longer


class Terms(msgspec.Struct, frozen=True):
    """What zygotes are told, and where their pids are kept."""

    notify: str  # the daemon's socket: as long as that can be connected to, it lives
    orphan_grace_s: float
    zygotes_dir: Path  # one file for each that lives, named by its pid: the next daemon finds them by that


class _Note(msgspec.Struct, frozen=True):
    """What the next daemon is to know of a zygote."""

    start_time: int
    strangers: frozenset[tuple[int, int]]  # see `Reaper`


class Zygote:
    """One zygote process and the socket to it."""

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
        }
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "annul.runtime.zygote", msgspec.json.encode(arguments).decode()],
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
        self.pending: dict[str, float] = {}  # launches not answered yet -> when asked
        self.heard = 0.0  # when it last said something, monotonic
        self.children: set[int] = set()  # pids of leaders it has forked and not reaped
        self._out = bytearray()
        self._in = Unframer()
        self._fds: deque[int | None] = deque()  # None: there was no descriptor left to receive it with

    def _write_note(self) -> None:
        one = proc.stat(self.process.pid)
        part = self._note.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(_Note(one.start_time if one else 0, self.strangers)))
            part.replace(self._note)
        finally:
            part.unlink(missing_ok=True)

    def has_become_ready(self, strangers: frozenset[tuple[int, int]]) -> None:
        self.ready = True
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

    def ask(self, launch: Launch, now: float) -> None:
        self.pending[launch.name] = now
        self._out += frame(launch)
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes. A dead zygote is noticed by reading."""
        try:
            sent = self.socket.send(self._out)
            del self._out[:sent]
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass

    def read(self) -> tuple[list[bytes], bool]:
        """(messages, whether it has gone). Descriptors that came with them wait in order for `take_fd`."""
        messages: list[bytes] = []
        for _ in range(_READS):  # the kernel gives out what came with one descriptor by itself
            try:
                data, fds, flags, _ = socket.recv_fds(self.socket, 65536, 16)
            except BlockingIOError:
                return messages, False
            except ConnectionResetError:
                return messages, True
            self._fds += fds or ([None] if flags & socket.MSG_CTRUNC else [])
            messages += self._in.feed(data)
            if not data:
                return messages, True
        return messages, False

    def take_fd(self) -> int | None:
        return self._fds.popleft()

    def close(self) -> None:
        """Let it go: it ends on its own; a stopped one has to be killed."""
        self.socket.close()
        for fd in self._fds:
            if fd is not None:
                os.close(fd)
        self._fds.clear()

    def forget(self) -> None:
        """It has ended, and no daemon is to look for it any more."""
        self._note.unlink(missing_ok=True)


class Launcher:
    """All zygotes: this daemon's, and those of daemons before it that are the guardians of their jobs."""

    def __init__(self, targets: dict[Profile, list[str]], listener: Listener, terms: Terms) -> None:
        """`targets`: what job types, as "module:attribute", each profile is for."""
        self._targets = targets
        self._listener = listener
        self._terms = terms
        self._guardians: dict[int, int] = {}  # pid -> pidfd
        self._guardians_strangers: dict[int, frozenset[tuple[int, int]]] = {}
        self._zygotes: dict[Profile, Zygote] = {}
        self._ending: list[Zygote] = []  # closed, not reaped yet

    def warm(self) -> None:
        """Start every zygote."""
        for profile in self._targets:
            try:
                self._zygote(profile)
            except OSError as error:
                _log.warning("starting a zygote: %s", error, extra={"action": "zygote"})

    def launch(self, launch: Launch, profile: Profile, now: float) -> None:
        try:
            self._zygote(profile).ask(launch, now)
        except OSError as error:  # no process or no descriptor to be had for a zygote
            self._listener.not_launched(launch.name, f"starting its zygote: {error}")

    def _zygote(self, profile: Profile) -> Zygote:
        zygote = self._zygotes.get(profile)
        if zygote is None:
            zygote = self._zygotes[profile] = Zygote(profile, self._targets.get(profile, []), self._terms)
            _log.info(
                "started a zygote (pid %d) for %s",
                zygote.process.pid,
                ", ".join(profile) or "light jobs",
                extra={"action": "zygote"},
            )
        return zygote

    # --- the poll -----------------------------------------------------------------------------------------------

    def fds(self) -> Iterator[tuple[int, int]]:
        """(descriptor, events) to poll for."""
        for zygote in self._zygotes.values():
            yield zygote.socket.fileno(), select.POLLIN | (select.POLLOUT if zygote.wants_to_write else 0)
        for fd in self._guardians.values():
            yield fd, select.POLLIN

    def handle(self, fd: int, events: int, now: float) -> bool:
        """Something happened on a descriptor; False where it is none of these."""
        guardian = next((pid for pid, pidfd in self._guardians.items() if pidfd == fd), None)
        if guardian is not None:
            os.close(self._guardians.pop(guardian))
            (self._terms.zygotes_dir / str(guardian)).unlink(missing_ok=True)
            self._listener.guardian_ended()
            return True
        zygote = next((z for z in self._zygotes.values() if z.socket.fileno() == fd), None)
        if zygote is None:
            return False
        if events & select.POLLOUT:
            zygote.flush()
        if events & ~select.POLLOUT:
            messages, gone = zygote.read()
            zygote.heard = now
            for body in messages:
                self._heard(zygote, _decode(body))
            if gone:
                self._lost(zygote, "its zygote died")
        return True

    def _heard(self, zygote: Zygote, message: FromZygote) -> None:
        match message:
            case Ready(failed, strangers):
                zygote.has_become_ready(strangers)
                for name, why in failed.items():
                    _log.warning("preloading %s: %s", name, why, extra={"action": "zygote"})
            case Launched(name, pid):
                pidfd = zygote.take_fd()
                zygote.pending.pop(name, None)
                zygote.children.add(pid)
                self._listener.launched(name, pid, pidfd)
            case NotLaunched(name, why):
                zygote.pending.pop(name, None)
                self._listener.not_launched(name, why)
            case Exited(pid, status):
                if pid in zygote.children:
                    zygote.children.discard(pid)
                    self._listener.exited(pid, status)

    def _lost(self, zygote: Zygote, why: str) -> None:
        """A zygote is gone, or given up. Its jobs live on; what it was still to launch is handed back."""
        _log.warning("zygote %d: %s", zygote.process.pid, why, extra={"action": "zygote"})
        del self._zygotes[zygote.profile]
        self._end(zygote)
        for name in zygote.pending:
            self._listener.not_launched(name, why)

    def _end(self, zygote: Zygote) -> None:
        zygote.close()
        zygote.process.kill()  # also where it is only stopped
        # Race: one that died by itself may have been reaped already, and its pid may be that of any process.
        if zygote.process.poll() is None:
            self._ending.append(zygote)

    def give_up(self, name: str) -> None:
        """A launch was not answered for too long: its zygote is replaced."""
        for zygote in list(self._zygotes.values()):
            if name in zygote.pending:
                self._lost(zygote, "it did not answer")

    def reap(self) -> None:
        """SIGCHLD arrived: collect zygotes that ended, and orphans that this process, a subreaper, was handed."""
        while (ended := _next_ended()) is not None:
            zygote = next((z for z in self._everyone() if z.process.pid == ended), None)
            if zygote is not None:
                zygote.process.poll()
                zygote.forget()
                if zygote in self._ending:
                    self._ending.remove(zygote)
                # One that was not told to end is noticed by its socket; its messages are read first.
                continue
            _, status = os.waitpid(ended, os.WNOHANG)
            self._listener.exited(ended, status)

    def _everyone(self) -> Iterator[Zygote]:
        yield from self._zygotes.values()
        yield from self._ending

    def patience_over(self, name: str, now: float) -> bool:
        """Whether a launch is not going to be answered: its zygote has been silent for too long, be it that it is
        stopped or stuck, or that it is still importing.
        """
        return any(
            name in zygote.pending
            and now >= max(zygote.pending[name], zygote.heard) + (ANSWER_WAIT_S if zygote.ready else _IMPORT_WAIT_S)
            for zygote in self._zygotes.values()
        )

    def stop(self) -> None:
        """End all zygotes and wait for that: they are ours and get SIGKILL, so it takes no time."""
        for zygote in self._zygotes.values():
            self._end(zygote)
        self._zygotes.clear()
        for zygote in self._ending:
            zygote.process.wait()
            zygote.forget()
        self._ending.clear()
        self._let_guardians_go()

    def leave(self) -> None:
        """Let all go, to be the guardians of their jobs until the next daemon comes."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()
        self._let_guardians_go()

    def _let_guardians_go(self) -> None:
        for fd in self._guardians.values():
            os.close(fd)
        self._guardians.clear()

    def find_guardians(self) -> None:
        """Zygotes of daemons before this one that still live."""
        for path in self._terms.zygotes_dir.iterdir():
            try:
                pid, note = int(path.name), msgspec.json.decode(path.read_bytes(), type=_Note)
            except ValueError:
                path.unlink()
                continue
            fd = proc.open_pidfd(pid, note.start_time)
            if fd is None:
                path.unlink()
            else:
                self._guardians[pid], self._guardians_strangers[pid] = fd, note.strangers

    def guards(self, pid: int | None) -> bool:
        """Whether the parent of a process is a guardian: its tree has been kept together all the time."""
        one = proc.stat(pid) if pid is not None else None
        return one is not None and one.ppid in self._guardians

    # --- for the tree -------------------------------------------------------------------------------------------

    def reapers(self) -> list[Reaper]:
        """Where orphans of jobs turn up. Not in a zygote that still imports: what it runs for that is its own."""
        own = [
            Reaper(zygote.process.pid, settled=not zygote.pending, strangers=zygote.strangers)
            for zygote in self._zygotes.values()
            if zygote.ready
        ]
        return own + [Reaper(pid, settled=True, strangers=self._guardians_strangers[pid]) for pid in self._guardians]

    def pids(self) -> set[int]:
        """The zygotes themselves, and the leaders that they have not reaped yet."""
        return {pid for zygote in self._everyone() for pid in (zygote.process.pid, *zygote.children)} | set(
            self._guardians
        )


def _next_ended() -> int | None:
    """The pid of a child that can be reaped, left as it is."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None
