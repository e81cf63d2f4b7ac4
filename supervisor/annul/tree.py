"""The whole process tree of an attempt: who is in it, and signalling all of them.

Two ways, one face:

`CgroupTree`, where a cgroup v2 directory is writable: the job moves itself into a cgroup of its own before any code of
the user's runs, nothing ever leaves it, and `cgroup.kill` ends it in the kernel.

`SessionTree`, anywhere: every leader is a child subreaper, so while it lives all its descendants, double-forked and
`setsid`ed too, stay below it; and so are the zygotes and the daemon, so what outlives its leader becomes a *direct
child* of the one it was forked from. There, every direct child that is no leader is left over from a leader that has
ended. That needs no mark on the process: it holds for a cleared environment in a new session too. Whose it is, where
several leaders have ended, its brand says: a resource limit without effect, which holds the leader's pid. Only where
the chain was broken (zygote and daemon both died) does it fall back on the session, the environment mark and the mapped
board, and then a process that has none of the three is not found: it was exec'ed with another environment in another
session, and orphaned while no supervisor lived.

Both are asked by the loop thread, repeatedly: a tree is empty only when one look finds nobody alive.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from annul import proc

_ZOMBIES = 50  # in one look at the most
_LEADER_KILLS = 6  # rounds after which a leader is killed though others are left below it


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
        rivals: Callable[[], Iterable[SessionTree]] = tuple,
        chain_intact: bool = True,
    ) -> None:
        """`reapers`: the zygotes and the daemon. `leaders`: their children that are not left over. `rivals`: trees
        whose leaders have ended too, and whose survivors still have their grace.
        """
        self._mark = mark
        self._board = os.fsencode(board)
        self._reapers = reapers
        self._leaders = leaders
        self._rivals = rivals
        self.chain_intact = chain_intact  # False once a zygote or daemon died during the attempt
        self._known: dict[int, int] = {}  # pid -> start time of members seen so far
        self._sessions: set[int] = set()  # of members seen so far
        self._groups: set[int] = set()  # of members seen in the last look, ended ones too
        self._kills = 0
        self._leader: int | None = None

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        if leader is None:
            return Look([])
        self._leader = leader
        self._sessions.add(leader)
        self._groups = set()
        sure = True
        if leader_alive:
            roots = [leader]
        else:
            roots, sure = self._orphans()
        found = _alive(_below(roots)) if self.chain_intact else self._search(leader, roots)
        for pid in found:
            self._remember(proc.stat(pid))
        # Race: who was alive a moment ago and has ended since may have left another.
        return Look(found, sure and bool(found or not roots))

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        """By process group as well: the kernel kills a group as one, with what is just being forked into it."""
        found = self.look(leader, leader_alive=leader_alive)
        self._kills += 1
        others = [pid for pid in found.pids if pid != leader]
        kept = None
        if leader_alive and leader is not None and not self.chain_intact and others and self._kills < _LEADER_KILLS:
            # The leader is the reaper that keeps this tree together, and there is no other: it goes last. A stopped
            # one forks no more.
            send(leader, signal.SIGSTOP)
            kept = proc.stat(leader)
        # A group holds nobody else: a leader begins with a session of its own, and a group is within one session.
        for group in self._groups - {0, 1, os.getpgrp()} - ({kept.group} if kept else set()):
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                pass  # all of it is gone
        for pid in others if kept else found.pids:
            send(pid, signal.SIGKILL)
        return found

    def remove(self) -> None:
        """Nothing to free."""

    def _remember(self, one: proc.Stat | None) -> None:
        """Note a process of this tree, alive or just ended: to know it again, and what is of its session and group."""
        if one is not None:
            self._known[one.pid] = one.start_time
            self._sessions.add(one.session)
            self._groups.add(one.group)

    def _orphans(self) -> tuple[list[int], bool]:
        """What the leader has left behind, and whether that is certain.

        Invariant: a child of a reaper that is no leader is an orphan of some leader that has ended. It is this one's
        where that can be seen (nearly always, by its brand), or where no other can claim it; and it may be the next
        leader, as long as a fork is under way.
        """
        leaders, rivals = set(self._leaders()), [rival for rival in self._rivals() if rival is not self]
        found: list[int] = []
        listed = set(leaders)
        ended_groups: set[int] = set()
        zombies = 0
        sure = True
        for reaper in self._reapers():
            for pid in _children(reaper.pid):
                if pid in leaders:
                    continue
                listed.add(pid)
                one = proc.stat(pid)
                if one is None:
                    # Race: one that forks and ends between the listing and the look at it was nobody's business, but
                    # its child is not in that list: look again. (While it can be seen, its group is killed as one.)
                    sure = False
                elif (ours := self.owns(one)) or (reaper.settled and not rivals and self._brand(pid) is None):
                    if ours:
                        self._remember(one)
                    else:
                        # Race: it may be of a leader whose end was not noticed yet; that one must not take it for ours.
                        self._groups.add(one.group)
                    if one.alive:
                        found.append(pid)
                    else:
                        ended_groups.add(one.group)
                        zombies += 1
                elif self._brand(pid) is None and not any(rival.owns(one) for rival in rivals):
                    sure = False
        if found:
            return found, sure
        # With many zombies there is a storm of them: it is looked at again when they have been reaped.
        sure = sure and zombies < _ZOMBIES and not (ended_groups and _groups_live(ended_groups))
        if sure:
            # Race: the kernel's list skips one where the one before it is reaped while it is read; not twice the same.
            sure = all(pid in listed for reaper in self._reapers() for pid in _children(reaper.pid))
        return found, sure

    def owns(self, one: proc.Stat) -> bool:
        """Whether it can be seen that this process is of this tree."""
        if self._known.get(one.pid) == one.start_time or one.session in self._sessions:
            return True
        of = self._brand(one.pid)
        if of is not None:
            return of == self._leader
        return one.alive and proc.reads_as_marked(one.pid, self._mark, self._board)

    def _brand(self, pid: int) -> int | None:
        """Whose a process is, by the mark that nothing it does by accident removes; None where that says nothing."""
        of = proc.branded(pid)
        return of if of == self._leader or of in set(self._leaders()) else None

    def _search(self, leader: int, roots: list[int]) -> list[int]:
        """Look at every process there is: by descent, session, mark."""
        everyone = proc.everyone()
        ours = {reaper.pid for reaper in self._reapers()} | set(self._leaders()) | {os.getpid()}
        started = everyone[leader].start_time if leader in everyone else 0
        found = {pid for pid in roots if pid in everyone}
        # What escapes every mark later was seen below the leader before; and a process that is just ending has no maps
        # and no environment any more, and is no zombie yet.
        found |= {pid for pid, start in self._known.items() if pid in everyone and everyone[pid].start_time == start}
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
        # `populated` in cgroup.events lags behind; the list itself is what counts, and as it is: zombies are not in it,
        # and of a chain that forks and ends, every link may be dead by the time it is asked for.
        found = self._processes()
        if leader is not None and leader_alive and leader not in found:
            found.append(leader)  # it has not moved itself in yet; no code of the user's has run
        return Look(found)

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        found = self.look(leader, leader_alive=leader_alive)
        if found.pids:
            try:
                _write(self.path / "cgroup.kill", b"1")
            except OSError:
                pass  # the job has removed its own cgroup: it is empty
            # One by one too: cgroup.kill does not end a process whose main thread has ended before the others.
            for pid in found.pids:
                send(pid, signal.SIGKILL)
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


def daemons_group(state_dir: Path) -> str:
    """The name of a daemon's own cgroup: several daemons may share a parent."""
    return f"annul-{hashlib.blake2b(os.fsencode(state_dir), digest_size=6).hexdigest()}"


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


def _groups_live(groups: set[int]) -> bool:
    """Whether process groups, of which zombies were seen, have members that are none. Two looks must agree."""
    looks = []
    for _ in range(2):
        members = [one for one in proc.everyone().values() if one.group in groups]
        if any(one.alive for one in members):
            return True
        looks.append({one.pid for one in members})
    return looks[0] != looks[1]


def _alive(pids: Iterable[int]) -> list[int]:
    return [one.pid for pid in pids if (one := proc.stat(pid)) is not None and one.alive]


def _write(path: Path, data: bytes) -> None:
    # One write(2): cgroup files take a buffered write apart.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
