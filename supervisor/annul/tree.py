"""The whole process tree of an attempt: who is in it, and signalling all of them.

Two ways, one face:

`CgroupTree`, where a cgroup v2 directory is writable: the job moves itself into a cgroup of its own before any code of
the user's runs, and `cgroup.kill` ends it in the kernel. Whoever may write to another cgroup can leave (container
runtimes and `systemd-run --scope` do): those are looked for as in a `SessionTree`.

`SessionTree`, anywhere: every leader is a child subreaper, so while it lives all its descendants, double-forked and
`setsid`ed too, stay below it; and so are the zygotes and the daemon, so what outlives its leader becomes a *direct
child* of the one it was forked from. There, every direct child that is no leader is left over from a leader that has
ended. That needs no mark on the process: it holds for a cleared environment in a new session too. Whose it is, where
several leaders have ended, its brand says: a resource limit without effect, which holds a number of the attempt's.
Where the chain was broken (zygote and daemon both died) there are only brand, session, environment and mapped board to
go by, and a process that is known by none of the four is not found.

Both are asked by the loop thread, repeatedly: a tree is empty only when one look finds nobody alive. What session trees
need to know of everybody is read once for all of them, as a `Census`.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Protocol

import msgspec

from annul import proc
from annul.blake2 import blake2b
from annul.errors import StartError

_PROBE = "annul-probe-"
_PROBE_S = 5.0  # and older: nobody looks at it any more
_ZOMBIES = 50  # in one look at the most
_DELEGATED = "user.delegate"  # an extended attribute that systemd sets on what it has delegated
CONTROLLERS = ("memory", "pids")  # which limit a job's tree as a whole, where they are delegated
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
    shared: bool = False  # orphans of others come to it too: it is the init of a PID namespace
    strangers: frozenset[tuple[int, int]] = frozenset()  # (pid, start time) of children that it had before any job


class Tree(Protocol):
    """The processes of one attempt. `leader` is the pid of the process that runs the job."""

    name: str  # "cgroup" or "session", for people

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        """Who is alive now."""

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        """SIGKILL everything that is alive now; returns who that was. A tree that is still growing needs more calls."""

    def freeze(self, leader: int | None, *, leader_alive: bool) -> None:
        """Stop all that is alive now where it is. A tree that is still growing needs more calls."""

    def thaw(self, leader: int | None, *, leader_alive: bool, everyone: bool) -> None:
        """Let those go on that were stopped by `freeze`; `everyone`: those that somebody else has stopped, too."""

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has ended any of it for what all of it together took."""

    def remove(self) -> None:
        """Free what the tree itself occupies, once it is empty."""


def send(pid: int, signum: int, start_time: int | None = None) -> bool:
    """Signal one process, by pidfd. False where it is gone; OSError where that cannot be told.

    Race: between reading /proc and opening the pidfd the pid could be reused; so, where it was known before, its start
    time is compared after opening (C8).
    """
    fd = proc.pidfd(pid)
    if fd is None:
        return False
    try:
        if start_time is not None and ((one := proc.stat(pid)) is None or one.start_time != start_time):
            return False
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


class Census:
    """Who is there, read once for all session trees that ask.

    Guarantee: a tree whose leader's end was noted before the census was taken sees in it all that the leader left
    behind, and nobody can join a tree from outside. So it serves many trees, and none whose leader ended later.
    """

    def __init__(
        self,
        reapers: list[Reaper],
        leaders: Iterable[int],
        *,
        attempts: Iterable[str] = (),
        rivals: Callable[[], list[SessionTree]] = list,
    ) -> None:
        """`reapers`: the zygotes and the daemon. `leaders`: their children that are not left over. `attempts`: the
        names of all that live. `rivals`: finds the trees whose leaders have ended too, and whose survivors still have
        their grace.
        """
        self.reapers = reapers
        self.leaders = frozenset(leaders)
        self.rivals: list[SessionTree] = []
        self._find_rivals = rivals
        self._marks: dict[int, frozenset[bytes]] = {}
        self._attempts = {proc.brand_of(name) for name in attempts}
        self._brands: dict[int, int | None] = {}

    @cached_property
    def orphans(self) -> tuple[list[tuple[proc.Stat, Reaper]], bool]:
        """Children of reapers that are neither leaders nor about to be, nor strangers; zombies too, each with its
        reaper; and whether that is all of them.
        """
        found: list[tuple[proc.Stat, Reaper]] = []
        listed = set(self.leaders)
        whole = True
        for reaper in self.reapers:
            for pid in proc.children(reaper.pid):
                if pid in self.leaders:
                    continue
                listed.add(pid)
                one = proc.stat(pid)
                if one is None:
                    # Race: one that forks and ends between the listing and the look at it was nobody's business, but
                    # its child is not in that list: look again. (While it can be seen, its group is killed as one.)
                    whole = False
                elif (pid, one.start_time) not in reaper.strangers and not self._runs_nothing_yet(pid, reaper):
                    found.append((one, reaper))
        if whole:
            # Race: the kernel's list skips one where the one before it is reaped while it is read; not twice the same.
            whole = all(pid in listed for reaper in self.reapers for pid in proc.children(reaper.pid))
        # Race: after the listing, so that it has all whose orphans may be in there.
        self.rivals = self._find_rivals() if found else []
        return found, whole

    def brand(self, pid: int) -> int | None:
        """The number of the attempt that a process is of, by the mark that nothing it does by accident removes. None
        where that says nothing.
        """
        found = self._branded(pid)
        return found if found in self._attempts else None

    def _runs_nothing_yet(self, pid: int, reaper: Reaper) -> bool:
        """Whether that is certain: a job's process, and all that it starts, has the attempt's mark instead."""
        return self._branded(pid) == proc.brand_of(proc.forked_by(reaper.pid))

    def _branded(self, pid: int) -> int | None:
        if pid not in self._brands:
            self._brands[pid] = proc.branded(pid)
        return self._brands[pid]

    @cached_property
    def everyone(self) -> dict[int, proc.Stat]:
        return proc.everyone()

    def marks(self, pid: int) -> frozenset[bytes]:
        """What a process carries of attempts."""
        if pid not in self._marks:
            self._marks[pid] = proc.marks(pid)
        return self._marks[pid]


class SessionTree:
    """The fallback: subreapers, and marks where their chain is broken."""

    name = "session"

    def __init__(self, *, attempt: str, board: Path, census: Callable[[], Census], chain_intact: bool = True) -> None:
        """`attempt`: its name. `census`: one that was taken after the last noted end of a leader."""
        self._brand = proc.brand_of(attempt)
        self._marks = {f"ANNUL_MARK={attempt}".encode(), os.fsencode(board)}
        self._census = census
        self.chain_intact = chain_intact  # False once a zygote or daemon died during the attempt
        self._known: dict[int, int] = {}  # pid -> start time of members seen so far
        self._sessions: set[int] = set()  # of members seen so far
        self._groups: dict[int, list[proc.Stat]] = {}  # of members seen in the last look, ended ones too, with those
        self._kills = 0
        self._stopped: dict[int, int] = {}  # pid -> start time of those that `freeze` has stopped

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        if leader is None:
            return Look([])
        if leader_alive or not _alive([leader]):
            self._sessions.add(leader)
        else:  # its pid is a stranger's by now, who may have a session of that number (C8)
            self._sessions.discard(leader)
        self._groups = {}
        sure = True
        if leader_alive:
            roots = [leader]
        else:
            roots, sure = self._orphans()
        found = _alive(below(roots)) if self.chain_intact else self._search(leader, roots)
        for pid in found:
            self._remember(proc.stat(pid), leader)
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
        for group in self._groups.keys() - {0, 1, os.getpgrp()} - ({kept.group} if kept else set()):
            if not any(_still_in(group, one) for one in self._groups[group]):
                continue  # all of them were reaped: the number may be another's by now (C8)
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                pass  # all of it is gone
        for pid in others if kept else found.pids:
            send(pid, signal.SIGKILL, self._known.get(pid))
        return found

    def freeze(self, leader: int | None, *, leader_alive: bool) -> None:
        self.stop(self.look(leader, leader_alive=leader_alive).pids)

    def stop(self, pids: Iterable[int]) -> None:
        """SIGSTOP, to those that have not stopped for another reason: that is not ours to end later."""
        for pid in pids:
            one = proc.stat(pid)
            if one is not None and one.state != "T" and send(pid, signal.SIGSTOP, one.start_time):
                self._stopped[pid] = one.start_time

    def thaw(self, leader: int | None, *, leader_alive: bool, everyone: bool) -> None:
        if everyone:
            for pid in self.look(leader, leader_alive=leader_alive).pids:
                send(pid, signal.SIGCONT, self._known.get(pid))
        for pid, start_time in self._stopped.items():
            send(pid, signal.SIGCONT, start_time)
        self._stopped.clear()

    def ran_out_of_memory(self) -> bool:
        """Nobody counts that."""
        return False

    def remove(self) -> None:
        """Nothing to free."""

    def _remember(self, one: proc.Stat | None, leader: int | None = None) -> None:
        """Note a process of this tree, alive or just ended: to know it again, and what is of its session and group."""
        if one is None:
            return
        self._known[one.pid] = one.start_time
        # Race: a leader that was only just forked is still in its zygote's session, and alone in its tree.
        if one.pid != leader or one.session == leader:
            self._sessions.add(one.session)
            self._groups.setdefault(one.group, []).append(one)

    def _orphans(self) -> tuple[list[int], bool]:
        """What the leader has left behind, and whether that is certain.

        Invariant: a child of a reaper that is no leader, and was not there before all jobs, is an orphan of some leader
        that has ended. It is this one's where that can be seen (nearly always, by its brand), or where no other can
        claim it; and it may be the next leader, as long as a fork is under way.
        """
        census = self._census()
        orphans, sure = census.orphans
        rivals = [rival for rival in census.rivals if rival is not self]
        found: list[int] = []
        ended_groups: set[int] = set()
        zombies = 0
        for one, reaper in orphans:
            ours = self.owns(one, census)
            branded = census.brand(one.pid) is not None
            if ours or (reaper.settled and not reaper.shared and not rivals and not branded):
                if ours:
                    self._remember(one)
                else:
                    # Race: it may be of a leader whose end was not noted yet; that one must not take it for ours.
                    self._groups.setdefault(one.group, []).append(one)
                if one.alive:
                    found.append(one.pid)
                else:
                    ended_groups.add(one.group)
                    zombies += 1
            elif not branded and not reaper.shared and not any(rival.owns(one, census) for rival in rivals):
                sure = False
        if not found:
            # With many zombies there is a storm of them: it is looked at again when they have been reaped.
            sure = sure and zombies < _ZOMBIES and not (ended_groups and _groups_live(ended_groups))
        return found, sure

    def owns(self, one: proc.Stat, census: Census) -> bool:
        """Whether it can be seen that this process is of this tree."""
        brand = census.brand(one.pid)
        if brand is not None:  # the surest: numbers of ended sessions are given out again
            return brand == self._brand
        if self._known.get(one.pid) == one.start_time or one.session in self._sessions:
            return True
        return one.alive and not self._marks.isdisjoint(census.marks(one.pid))

    def _search(self, leader: int, roots: list[int]) -> list[int]:
        """Look at every process there is: by descent, session, mark."""
        census = self._census()
        everyone = census.everyone
        ours = {reaper.pid for reaper in census.reapers} | census.leaders | {os.getpid()}
        own = leader in self._sessions
        started = everyone[leader].start_time if own and leader in everyone else 0
        found = {pid for pid in roots if pid in everyone}
        # What escapes every mark later was seen below the leader before; and a process that is just ending has no maps
        # and no environment any more, and is no zombie yet.
        found |= {pid for pid, start in self._known.items() if pid in everyone and everyone[pid].start_time == start}
        for one in everyone.values():
            if one.pid in ours and one.pid not in roots:
                continue
            if (own and one.session == leader) or (
                one.start_time >= started
                and (census.brand(one.pid) == self._brand or not self._marks.isdisjoint(census.marks(one.pid)))
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

    def __init__(self, path: Path, outside: SessionTree | None = None) -> None:
        """`outside`: finds those who have left it; None for one that nobody can be known of but by the cgroup."""
        self.path = path
        self.outside = outside

    @classmethod
    def create(cls, path: Path, outside: SessionTree | None = None) -> CgroupTree:
        path.mkdir(exist_ok=True)
        return cls(path, outside)

    def look(self, leader: int | None, *, leader_alive: bool) -> Look:
        outside = self.outside.look(leader, leader_alive=leader_alive) if self.outside else Look([])
        return self._with(outside, leader, leader_alive=leader_alive)

    def kill(self, leader: int | None, *, leader_alive: bool) -> Look:
        found = self._with(Look([]), leader, leader_alive=leader_alive)
        if found.pids:
            try:
                _write(self.path / "cgroup.kill", b"1")
            except OSError:
                pass  # the job has removed its own cgroup: it is empty
            # One by one too: cgroup.kill does not end a process whose main thread has ended before the others.
            for pid in found.pids:
                send(pid, signal.SIGKILL)
        outside = self.outside.kill(leader, leader_alive=leader_alive) if self.outside else Look([])
        return Look(list({*found.pids, *outside.pids}), outside.sure)

    def freeze(self, leader: int | None, *, leader_alive: bool) -> None:
        frozen = self._freezer(b"1")
        if self.outside:
            found = self.outside.look(leader, leader_alive=leader_alive).pids
            self.outside.stop(set(found) - set(self.members()) if frozen else found)

    def thaw(self, leader: int | None, *, leader_alive: bool, everyone: bool) -> None:
        self._freezer(b"0")
        if self.outside:
            self.outside.thaw(leader, leader_alive=leader_alive, everyone=everyone)

    def _freezer(self, data: bytes) -> bool:
        """In the kernel, with what is just being forked: see cgroup.freeze in the kernel's cgroup-v2.rst. False: there
        is none, as where the job has removed its own cgroup. Raises OSError.
        """
        try:
            _write(self.path / "cgroup.freeze", data)
        except OSError as error:
            proc.expect_gone(error)
            return False
        return True

    def _with(self, outside: Look, leader: int | None, *, leader_alive: bool) -> Look:
        # `populated` in cgroup.events lags behind; the list itself is what counts, and as it is: zombies are not in it,
        # and of a chain that forks and ends, every link may be dead by the time it is asked for.
        found = {*self.members(), *outside.pids}
        if leader is not None and leader_alive:
            found.add(leader)  # also where it has not moved itself in yet; no code of the user's has run
        return Look(list(found), outside.sure)

    def ran_out_of_memory(self) -> bool:
        """By `memory.max`, where that controller is delegated; those below count here too."""
        try:
            events = (self.path / "memory.events").read_text()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in events.splitlines())

    def remove(self) -> None:
        """Remove the directory, and those that the job made below it. A busy one is left for the next start."""
        try:
            self.path.rmdir()  # nearly always, and without a descriptor, of which there may be none
        except FileNotFoundError:
            return
        except OSError:
            pass
        for path in self._folders(lambda _: None):
            try:
                path.rmdir()
            except OSError:
                pass  # a zombie that is not reaped yet keeps it busy: `sweep` comes back for it

    def _folders(self, failed: Callable[[OSError], None]) -> list[Path]:
        """This and those that the job made below it, the deepest first. One that cannot be listed is left out, once
        `failed` was told of it.
        """
        return [Path(folder) for folder, _, _ in os.walk(self.path, topdown=False, onerror=failed)]

    def members(self) -> list[int]:
        """Pids of those in it, and in those below it."""
        # Race: a job may make one below it and move there, or move back and remove that, while it is listed: so it is
        # a leaf before and after. Else the deepest are listed first, and it last.
        leaf = self._is_leaf()
        found = _listed(self.path)
        if leaf and self._is_leaf():
            return found
        for path in self._folders(proc.expect_gone):
            found += _listed(path)
        return found

    def _is_leaf(self) -> bool:
        """By its links: one from above, one from itself, and one from each below it. Much faster than to list it."""
        try:
            return os.stat(self.path).st_nlink == 2  # noqa: PTH116 (thrice as fast)
        except OSError as error:
            proc.expect_gone(error)
            return False


def _listed(group: Path) -> list[int]:
    """Pids of those in that very cgroup."""
    try:
        return [int(one) for one in proc.whole(f"{group}/cgroup.procs").split()]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # made threaded: the one above lists those in it
            proc.expect_gone(error)
        return []


def remove_soon(groups: list[CgroupTree], wait_s: float = 1.0) -> None:
    """Remove those whose last processes are just ending: these are not listed any more before they are quite gone."""
    until = time.monotonic() + wait_s
    while groups and time.monotonic() < until:
        for one in groups:
            one.remove()
        groups = [one for one in groups if one.path.exists()]
        time.sleep(0.001 if groups else 0.0)


def choose_cgroup(how: str) -> Path | None:
    """The directory to make job cgroups in; None: trees are found by session. `how`: auto, cgroup or session.

    Raises StartError where cgroups are insisted on and there is none.
    """
    if how == SessionTree.name:
        return None
    try:
        return usable_cgroup()
    except StartError as error:
        if how == CgroupTree.name:
            raise StartError(
                f"--tree cgroup: {error}; run under systemd with Delegate=yes, or use --tree session"
            ) from error
        return None


def find_cgroup() -> Path | None:
    """As `usable_cgroup`; None where there is none."""
    try:
        return usable_cgroup()
    except StartError:
        return None


def usable_cgroup() -> Path:
    """The cgroup v2 directory of this process, where job cgroups can be made in it. Raises StartError: why not."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise StartError(f"the cgroup of this process cannot be read: {error}") from error
    own = next((line[3:] for line in groups if line.startswith("0::")), None)
    why = "no cgroup v2 file system is mounted here"
    for line in mounts:
        before, _, after = line.partition(" - ")
        if own is None or not after.startswith("cgroup2 "):
            continue
        root, mount = before.split()[3:5]  # what of the hierarchy is mounted (a container may see a part), and where
        path = Path(mount, os.path.relpath(own, root))
        # With systemd's DelegateSubgroup= the daemon is in a leaf of what was delegated. Jobs get theirs beside it:
        # controllers can be passed on only by a cgroup without processes.
        path = path.parent if _is_delegated(path.parent) else path
        probe = path / f"{_PROBE}{os.getpid()}"
        try:
            probe.mkdir()
            can_kill = (probe / "cgroup.kill").exists()
            kind = (probe / "cgroup.type").read_text().strip()
            probe.rmdir()
        except OSError as error:
            why = f"no cgroup can be made in {path}: {error.strerror}"
            continue
        if not can_kill:
            why = "this kernel has no cgroup.kill (it came with Linux 5.14)"
        elif kind != "domain":
            why = f"no process can enter a cgroup made in {path} ({kind}): it passes controllers on, and has processes"
        elif not os.access(path / "cgroup.procs", os.W_OK):
            why = f"no process may be moved out of {path}: its cgroup.procs is not writable"
        else:
            return path
    raise StartError(why)


def _is_delegated(path: Path) -> bool:
    try:
        return os.getxattr(path, _DELEGATED) == b"1"
    except OSError:
        return False


def pass_on_controllers(parent: Path, own: Path) -> None:
    """Have the cgroups of jobs, which are made in `own`, counted and limited by what controllers there are.

    What was not delegated to this daemon is left as it is; and what has processes. The kernel refuses memory there, but
    not pids, by which such a cgroup comes to be threaded: no process can enter those below it any more.
    """
    for group in (parent, own) if _can_pass_on(parent) else (own,):
        for name in CONTROLLERS:
            try:
                _write(group / "cgroup.subtree_control", b"+" + name.encode())
            except OSError:
                pass  # there is none here


def _can_pass_on(parent: Path) -> bool:
    try:
        return _is_delegated(parent) and not (parent / "cgroup.procs").read_text()
    except OSError:
        return False


def controllers(parent: Path) -> list[str]:
    """Those that jobs whose cgroups are made below this one can be limited by: that are passed on, or would be."""
    try:
        found = (parent / "cgroup.subtree_control").read_text().split()
        if _can_pass_on(parent):
            found += (parent / "cgroup.controllers").read_text().split()
    except OSError:
        return []
    return [name for name in CONTROLLERS if name in found]


def remove_old_probes(parent: Path) -> None:
    """Remove what processes have left that were killed in the middle of `usable_cgroup`."""
    for probe in parent.glob(f"{_PROBE}*"):
        try:
            if time.time() - probe.stat().st_mtime > _PROBE_S:
                probe.rmdir()
        except OSError:
            pass  # somebody else has been faster


def own_group(parent: Path | str, pid: int, start_time: int) -> str:
    """The cgroup that a process makes for itself, before it is told what to run."""
    return f"{parent}/{pid}.{start_time}"


def daemons_group(state_dir: Path) -> str:
    """The name of a daemon's own cgroup: several daemons may share a parent."""
    return f"annul-{blake2b(os.fsencode(state_dir), digest_size=6).hexdigest()}"


def children_of(pid: int) -> frozenset[tuple[int, int]]:
    """(pid, start time) of each."""
    found = (proc.stat(child) for child in proc.children(pid))
    return frozenset((one.pid, one.start_time) for one in found if one is not None)


def below(roots: Iterable[int]) -> list[int]:
    """Pids of the roots and all their descendants. Children of threads other than the main one are found by `stat`."""
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += proc.children(pid)
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


def _still_in(group: int, one: proc.Stat) -> bool:
    """Whether a process that was seen in a group still is, as a zombie at least: then the group's number is no other's.

    Race: it may be reaped right after, and the number given out to another group before the signal is sent; a pid is
    given out again only when all others have been, so not within that moment.
    """
    again = proc.stat(one.pid)
    return again is not None and again.start_time == one.start_time and again.group == group


def _alive(pids: Iterable[int]) -> list[int]:
    return [one.pid for pid in pids if (one := proc.stat(pid)) is not None and one.alive]


def _write(path: Path, data: bytes) -> None:
    # One write(2): cgroup files take a buffered write apart.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
