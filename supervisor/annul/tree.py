"""The whole process tree of an attempt: who is in it, and signalling all of them.

Two ways, one face:

`CgroupTree`, where a cgroup v2 directory is writable: the job moves itself into a cgroup of its own before any code of
the user's runs, nothing ever leaves it, and `cgroup.kill` ends it in the kernel.

`SessionTree`, anywhere: every leader is a child subreaper, so while it lives all its descendants, double-forked and
`setsid`ed too, stay below it; and so are the zygotes and the daemon, so what outlives its leader becomes a *direct
child* of the one it was forked from. There, every direct child that is no leader is left over from a leader that has
ended. That needs no mark on the process: it holds for a cleared environment in a new session too. Only where that
chain was broken (zygote and daemon both died) does it fall back on the session, the environment mark and the mapped
board, and then a process that has none of the three is not found: it was exec'ed with another environment in another
session, and orphaned while no supervisor lived.

Both are asked by the loop thread, repeatedly: a tree is empty only when one look finds nobody alive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from annul import proc


class Look(msgspec.Struct, frozen=True):
    """What one look at a tree found."""

    pids: list[int]  # alive now, the leader included
    sure: bool = True  # False: there are processes of which it cannot be told yet whose they are; look again

    @property
    def empty(self) -> bool:
        return self.sure and not self.pids


class Reaper(msgspec.Struct, frozen=True):
    """A process that orphans are handed to: a zygote, or the daemon itself."""

    pid: int
    settled: bool  # False while it was asked for a fork and has not said the pid yet


class Tree(Protocol):
    """The processes of one attempt. `leader` is the pid of the process that runs the job."""

    name: str  # "cgroup" or "session", for people

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        """Who is alive now."""

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        """SIGKILL everything that is alive now; returns who that was. A tree that is still growing needs more calls."""

    def remove(self) -> None:
        """Free what the tree itself occupies, once it is empty."""


def send(pid: int, signum: int) -> bool:
    """Signal one process, by pidfd where the kernel lets us. False where it is gone.

    Race: between reading /proc and opening the pidfd the pid could be reused; a member's start time is compared
    after opening by the callers that hold one. Members found by `members` are children of processes we hold, whose
    zombies keep their pid until they are reaped.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return send_by(fd, signum)
    finally:
        os.close(fd)


def send_by(pidfd: int, signum: int) -> bool:
    """Signal the process that a pidfd stands for. False where it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except OSError:
        return False
    return True


class SessionTree:
    """The fallback: subreapers, and marks where their chain is broken."""

    name = "session"

    def __init__(
        self,
        *,
        mark: bytes,
        board: Path,
        reapers: Callable[[], Iterable[Reaper]],
        leaders: Callable[[], Iterable[int]],
        chain_intact: bool = True,
    ) -> None:
        """`reapers`: the zygotes and the daemon. `leaders`: their children that are not left over."""
        self._mark = mark
        self._board = os.fsencode(board)
        self._reapers = reapers
        self._leaders = leaders
        self.chain_intact = chain_intact  # False once a zygote or daemon died during the attempt
        self._found: dict[int, int] = {}  # pid -> start time of members once found by their marks

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        if leader is None:
            return Look([])
        if leader_alive:
            roots, sure = [leader], True
        else:
            roots, sure = self._orphans(leader)
        return Look(_alive(_below(roots)) if self.chain_intact else self._search(leader, roots), sure)

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        found = self.look(leader, leader_alive=leader_alive)
        others = [pid for pid in found.pids if pid != leader]
        if leader_alive and leader is not None:
            # Race: while the leader lives it is the reaper that keeps the tree together, and a stopped one forks no
            # more. So it goes last, once nobody is left below it.
            send(leader, signal.SIGSTOP if others else signal.SIGKILL)
        for pid in others:
            send(pid, signal.SIGKILL)
        return found

    def remove(self) -> None:
        """Nothing to free."""

    def _orphans(self, leader: int) -> tuple[list[int], bool]:
        """What ended leaders have left behind, and whether that is certain.

        Invariant: an orphan belongs to some leader that has ended, so whoever asks for it may end it. But a child of
        a reaper that is just forking may be the next leader: that one is nobody's orphan.
        """
        known = set(self._leaders())
        found: list[int] = []
        sure = True
        for reaper in self._reapers():
            for pid in _alive(_children(reaper.pid)):
                if pid in known:
                    continue
                if reaper.settled or self._is_ours(pid, leader):
                    found.append(pid)
                else:
                    sure = False
        return found, sure

    def _is_ours(self, pid: int, leader: int) -> bool:
        one = proc.stat(pid)
        return one is not None and (one.session == leader or proc.reads_as_marked(pid, self._mark, self._board))

    def _search(self, leader: int, roots: list[int]) -> list[int]:
        """Look at every process there is: by descent, session, mark."""
        everyone = proc.everyone()
        ours = {reaper.pid for reaper in self._reapers()} | set(self._leaders()) | {os.getpid()}
        started = everyone[leader].start_time if leader in everyone else 0
        found = {pid for pid in roots if pid in everyone}
        # A process that is just ending has no maps and no environment any more, and is no zombie yet.
        found |= {pid for pid, start in self._found.items() if pid in everyone and everyone[pid].start_time == start}
        for one in everyone.values():
            if one.pid in ours and one.pid not in roots:
                continue
            if one.session == leader or (
                one.start_time >= started and proc.reads_as_marked(one.pid, self._mark, self._board)
            ):
                found.add(one.pid)
        grown = True
        while grown:
            more = {one.pid for one in everyone.values() if one.ppid in found and one.pid not in found} - ours
            found |= more
            grown = bool(more)
        self._found = {pid: everyone[pid].start_time for pid in found}
        return [pid for pid in found if everyone[pid].alive]


class CgroupTree:
    """A cgroup v2 directory of the attempt's own."""

    name = "cgroup"

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> CgroupTree:
        path.mkdir(exist_ok=True)
        return cls(path)

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        # `populated` in cgroup.events lags behind: the list of processes, without zombies, is what counts.
        found = self._processes()
        if leader is not None and leader_alive and leader not in found:
            found.append(leader)  # it has not moved itself in yet; no code of the user's has run
        return Look(_alive(found))

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        found = self.look(leader, leader_alive=leader_alive)
        if found.pids:
            _write(self.path / "cgroup.kill", b"1")
            if leader is not None and leader_alive:
                send(leader, signal.SIGKILL)  # in case it has not moved itself in yet
        return found

    def remove(self) -> None:
        """Remove the directory, and those that the job made below it. A busy one is left for the next start."""
        for path in self._folders():
            try:
                path.rmdir()
            except OSError:
                pass  # a zombie that is not reaped yet keeps it busy: `sweep` comes back for it

    def _folders(self) -> list[Path]:
        """This and those that the job made below it, the deepest first. One that vanishes meanwhile is left out."""
        return [Path(folder) for folder, _, _ in os.walk(self.path, topdown=False)]

    def _processes(self) -> list[int]:
        found: list[int] = []
        for path in self._folders():
            try:
                found += [int(one) for one in (path / "cgroup.procs").read_bytes().split()]
            except OSError:
                continue  # removed meanwhile
        return found


def find_cgroup() -> Path | None:
    """The cgroup v2 directory of this process, where job cgroups can be made in it; None where they cannot."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        own = next(
            (
                line[4:-1]
                for line in Path("/proc/self/cgroup").read_text().splitlines(keepends=True)
                if line[:3] == "0::"
            ),
            None,
        )
    except OSError:
        return None
    for line in mounts:
        before, _, after = line.partition(" - ")
        if own is None or not after.startswith("cgroup2 "):
            continue
        path = Path(before.split()[4] + own)
        probe = path / f"annul-probe-{os.getpid()}"
        try:
            probe.mkdir()
            usable = (probe / "cgroup.kill").exists() and os.access(path / "cgroup.procs", os.W_OK)
            probe.rmdir()
        except OSError:
            continue
        if usable:
            return path
    return None


def _below(roots: Iterable[int]) -> list[int]:
    """The roots and all their descendants. Children of threads other than the main one are found by `stat`."""
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    """Direct children of all of a process's threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return []
    if len(threads) == 1:
        return proc.children(pid)
    found: list[int] = []
    for thread in threads:
        try:
            found += [int(one) for one in Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split()]
        except OSError:
            continue
    return found


def _alive(pids: Iterable[int]) -> list[int]:
    return [one.pid for pid in pids if (one := proc.stat(pid)) is not None and one.alive]


def _write(path: Path, data: bytes) -> None:
    # One write(2): cgroup files take a buffered write apart.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
