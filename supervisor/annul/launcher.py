"""Zygotes, and the processes they fork: a few spare ones, each of which is handed one job when that starts, and more on
request. Nothing here ever waits.

One zygote a preload profile. It is asked by a non-blocking socket and answers in the poll: one that is slow, stopped or
dead costs its own jobs time and nobody else any, and no job before its spares are used up.

Owned by the loop thread.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from annul import proc
from annul.runtime.launch import (
    Exited,
    Forked,
    FromZygote,
    Launch,
    NotForked,
    Ready,
    give_go,
    hand_over,
)
from annul.tree import CgroupTree, Reaper, own_group, send, send_by
from annul.zygote import Note, Process, Profile, Terms, Zygote

_log = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(FromZygote).decode
_FORK_AGAIN_S = 1.0  # after a fork that failed, before spares are asked for again
_STABLE_S = 10.0  # a zygote that has served so long is replaced as soon as it is lost; others when they are needed
SPARE_AGE_S = 3600.0  # then it is replaced: what it shares with its zygote becomes less, and its clocks are old


class Listener(msgspec.Struct, frozen=True):
    """What the launcher tells, in the loop thread."""

    launched: Callable[[str, Process], None]  # by name; the process has its launch, and is the callee's now
    not_launched: Callable[[str, str], None]  # name, why: no process of it will ever be
    no_room: Callable[[str, str], None]  # the same, for want of something that there may be again in a moment
    exited: Callable[[int, int], None]  # pid, status as of waitpid
    guardian_ended: Callable[[], None]  # what it kept together is so no longer


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
        self._started: dict[int, int] = {}  # pid -> start time of what zygotes have forked, until it is reaped
        self._dropped: set[int] = set()  # pids of those of them that run nothing, and end
        self._prepared: dict[str, Process] = {}  # by name of the launch, until that is committed
        self._hurry = False

    def warm(self) -> None:
        """Start every zygote."""
        for profile in self._targets:
            try:
                self._zygote(profile)
            except OSError as error:
                _log.warning("starting a zygote: %s", error, extra={"action": "zygote"})

    def prepare(self, launch: Launch, profile: Profile, now: float) -> None:
        """What is to be launched in a moment, or withdrawn: a spare process, if there is one, makes room for it."""
        zygote = self._zygotes.get(profile)
        while zygote is not None and not zygote.waiting and zygote.spares:
            spare = zygote.spares.popleft()
            zygote.taken_at = zygote.taken_at or now
            try:
                hand_over(spare.channel, launch)
            except (
                OSError
            ):  # it was killed while it waited; or there is no room for a long launch, as `launch` will say
                self._drop(spare)
                continue
            self._prepared[launch.name] = spare
            return

    def launch(self, launch: Launch, profile: Profile, now: float) -> None:
        """Run it, now that it is committed: in the process that is prepared, or the next that there is; see `step`."""
        process = self._prepared.pop(launch.name, None)
        if process is not None and self._go(launch, process):
            return
        try:
            zygote = self._zygote(profile)
        except OSError as error:  # no process or no descriptor to be had for a zygote
            self._listener.not_launched(launch.name, f"starting its zygote: {error}")
            return
        zygote.waiting.append(launch)
        self._hand_over(zygote, now)

    def _go(self, launch: Launch, process: Process) -> bool:
        """False: it has ended meanwhile."""
        try:
            give_go(process.channel)
        except OSError:
            self._drop(process)
            return False
        process.channel.close()
        self._listener.launched(launch.name, process)
        return True

    def withdraw(self, name: str) -> bool:
        """Take a launch back. False: it runs."""
        process = self._prepared.pop(name, None)
        if process is not None:
            self._drop(process)
            return True
        for zygote in self._zygotes.values():
            for launch in zygote.waiting:
                if launch.name == name:
                    zygote.waiting.remove(launch)
                    return True
        return False

    def _hand_over(self, zygote: Zygote, now: float) -> None:
        while zygote.waiting and zygote.spares:
            process = zygote.spares.popleft()
            launch = zygote.waiting[0]
            try:
                hand_over(process.channel, launch)
                give_go(process.channel)
            except (BrokenPipeError, ConnectionResetError):
                self._died(zygote, process, now)
                continue
            except OSError as error:  # the launch is too long for the socket, and there is no room for a file
                self._drop(process)
                zygote.waiting.popleft()
                self._listener.not_launched(launch.name, f"telling its process what to run: {error}")
                continue
            process.channel.close()
            zygote.waiting.popleft()
            zygote.taken_at = zygote.taken_at or now
            self._listener.launched(launch.name, process)

    def _died(self, zygote: Zygote, spare: Process, now: float) -> None:
        """A process has ended while it waited for a launch. They may all do that: a launch is not tried for ever."""
        self._drop(spare)
        zygote.rest_until = now + _FORK_AGAIN_S
        if zygote.waiting and not zygote.spares:
            name = zygote.waiting.popleft().name
            self._listener.not_launched(name, "its process ended before it was told what to run")

    def _drop(self, spare: Process) -> None:
        """End a spare; see `_exited`."""
        send_by(spare.pidfd, signal.SIGKILL)
        spare.close()
        self._dropped.add(spare.pid)

    def step(self, now: float, *, hurry: bool) -> None:
        """At the end of a turn: ask for the processes that are missing. Those for launches at once, spares when the job
        that took the last one has got going, or with `hurry`: there are more to come.
        """
        self._hurry = hurry
        for zygote in self._zygotes.values():
            refill_at = zygote.refill_at(self._terms.spares, hurry=hurry)
            due = refill_at is not None and now >= refill_at
            forks = max(0, zygote.short())
            spares = max(0, zygote.short(self._terms.spares) - forks) if due else 0
            if hurry:  # there is no time to rehearse
                forks, spares = forks + spares, 0
            if forks or spares:
                zygote.ask(forks, spares, now)
            if due:
                zygote.taken_at = None
            while len(zygote.spares) > self._terms.spares:  # what they were forked for was cancelled
                self._drop(zygote.spares.pop())

    def next_due(self) -> float | None:
        zygotes = self._zygotes.values()
        times = [zygote.lost_at() for zygote in zygotes]
        times += [zygote.refill_at(self._terms.spares, hurry=self._hurry) for zygote in zygotes]
        times += [zygote.spares[0].since + SPARE_AGE_S for zygote in zygotes if zygote.spares]
        return min((at for at in times if at is not None), default=None)

    def act_on_deadlines(self, now: float) -> None:
        """Replace zygotes that do not answer, and spares that are old."""
        for zygote in list(self._zygotes.values()):
            if zygote.is_lost(now):
                self._lost(zygote, "it did not answer", now)
            while zygote.spares and now >= zygote.spares[0].since + SPARE_AGE_S:
                self._drop(zygote.spares.popleft())

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
            zygote.silent_since, zygote.looked = now, False
            for body in messages:
                self._heard(zygote, _decode(body), now)
            if gone:
                self._lost(zygote, "its zygote died", now)
        return True

    def _heard(self, zygote: Zygote, message: FromZygote, now: float) -> None:
        match message:
            case Ready(failed, strangers):
                zygote.has_become_ready(strangers, now)
                for name, why in failed.items():
                    _log.warning("preloading %s: %s", name, why, extra={"action": "zygote"})
            case Forked(pid, start_time):
                zygote.asked -= 1
                zygote.children.add(pid)
                self._started[pid] = start_time
                if fds := zygote.take_fds():
                    pidfd, channel = fds
                    zygote.spares.append(Process(pid, start_time, pidfd, _channel(channel), now))
                    self._hand_over(zygote, now)
                else:  # it finds nobody at the other end, and ends
                    self._dropped.add(pid)
                    zygote.rest_until = now + _FORK_AGAIN_S
                    if zygote.waiting:  # one less holds descriptors: so there will be some for the next
                        self._listener.no_room(zygote.waiting.popleft().name, os.strerror(errno.EMFILE))
            case NotForked(why):
                zygote.asked -= 1
                zygote.rest_until = now + _FORK_AGAIN_S
                if zygote.waiting:
                    self._listener.not_launched(zygote.waiting.popleft().name, why)
            case Exited(pid, status):
                if pid in zygote.children:
                    zygote.children.discard(pid)
                    for spare in [one for one in zygote.spares if one.pid == pid]:
                        zygote.spares.remove(spare)
                        self._died(zygote, spare, now)
                    self._exited(pid, status)

    def _exited(self, pid: int, status: int) -> None:
        if pid in self._dropped:
            self._dropped.discard(pid)
        else:
            self._listener.exited(pid, status)
        self._clear(pid)

    def _clear(self, pid: int) -> None:
        """Remove what it made before it was told what to run; of a job that was concluded before this, too."""
        start_time = self._started.pop(pid, None)
        if start_time is None:
            return
        for made in (f"{self._terms.rehearsal}/{pid}", f"{self._terms.rooms}/{pid}"):
            if os.path.lexists(made):
                shutil.rmtree(made, ignore_errors=True)
        if self._terms.cgroup is not None:
            CgroupTree(Path(own_group(self._terms.cgroup, pid, start_time))).remove()

    def _lost(self, zygote: Zygote, why: str, now: float) -> None:
        """A zygote is gone, or given up. Its jobs live on; what it was still to launch is handed back."""
        _log.warning("zygote %d: %s", zygote.process.pid, why, extra={"action": "zygote"})
        del self._zygotes[zygote.profile]
        self._end(zygote)
        for launch in zygote.waiting:
            self._listener.not_launched(launch.name, why)
        if zygote.ready and now >= zygote.ready_at + _STABLE_S:
            try:
                self._zygote(zygote.profile)
            except OSError as error:  # it is started when it is needed
                _log.warning("replacing a zygote: %s", error, extra={"action": "zygote"})

    def _end(self, zygote: Zygote) -> None:
        while zygote.spares:
            self._drop(zygote.spares.popleft())
        zygote.close()
        zygote.process.kill()  # also where it is only stopped
        # Race: one that died by itself may have been reaped already, and its pid may be that of any process.
        if zygote.process.poll() is None:
            self._ending.append(zygote)
        else:
            zygote.forget()

    def reap(self) -> None:
        """SIGCHLD arrived: collect zygotes that ended, and orphans that this process, a subreaper, was handed."""
        while (ended := _next_ended()) is not None:
            zygote = next((z for z in self._everyone() if z.process.pid == ended), None)
            if zygote is not None:
                zygote.process.poll()
                zygote.forget()
                for pid in zygote.children & self._started.keys():  # those that it reaped, and told nobody of
                    if (one := proc.stat(pid)) is None or one.start_time != self._started[pid]:
                        self._clear(pid)
                if zygote in self._ending:
                    self._ending.remove(zygote)
                # One that was not told to end is noticed by its socket; its messages are read first.
                continue
            one = proc.stat(ended)  # a zygote that has died may not have told of it
            if one is not None:
                self._started.setdefault(ended, one.start_time)
            _, status = os.waitpid(ended, os.WNOHANG)
            self._exited(ended, status)

    def _everyone(self) -> Iterator[Zygote]:
        yield from self._zygotes.values()
        yield from self._ending

    def stop(self) -> None:
        """End all zygotes and wait for that: they are ours and get SIGKILL, so it takes no time."""
        for zygote in self._zygotes.values():
            self._end(zygote)
        self._zygotes.clear()
        for zygote in self._ending:
            zygote.process.wait()
            zygote.forget()
        self._ending.clear()
        for pid in list(self._dropped):
            try:
                send(pid, signal.SIGKILL, self._started.get(pid))
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # its zygote has done that
            self._exited(pid, 0)
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
                pid, note = int(path.name), msgspec.json.decode(path.read_bytes(), type=Note)
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
            Reaper(zygote.process.pid, settled=not zygote.asked, strangers=zygote.strangers)
            for zygote in self._zygotes.values()
            if zygote.ready
        ]
        return own + [Reaper(pid, settled=True, strangers=self._guardians_strangers[pid]) for pid in self._guardians]

    def pids(self) -> set[int]:
        """The zygotes themselves, and the leaders that they have not reaped yet."""
        return {pid for zygote in self._everyone() for pid in (zygote.process.pid, *zygote.children)} | set(
            self._guardians
        )


def _channel(fd: int) -> socket.socket:
    """To a process that was forked. With all that Python would ask the kernel for."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)


def _next_ended() -> int | None:
    """The pid of a child that can be reaped, left as it is."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None
