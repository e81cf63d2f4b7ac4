"""While no daemon runs: jobs go on, but not for ever without anybody who could cancel them.

A zygote whose daemon is gone becomes the guardian of its jobs: it stays as long as a process of theirs lives, and with
it the reaper that keeps their trees together, so that the next daemon finds them whole. Where no daemon has run for
`orphan_grace_s`, it climbs the same ladder that the daemon climbs, for the reason `orphaned`.

Where the zygote died as well, each job's own process does that for itself, in a thread that is started by the kernel's
word of the parent's end (PR_SET_PDEATHSIG; the zygote has one thread only). Non-guarantee: a job that is inside C code
which neither returns nor looks for signals then does not hear of it.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from annul import cancel, prctl, proc
from annul.board import BOARD, Board, Notice
from annul.cancel import Ladder, Seen, Step
from annul.lifecycle import StopKind
from annul.runtime.launch import Launch
from annul.runtime.sigaction import SIG_DFL, set_handler
from annul.tree import Census, CgroupTree, Look, Reaper, SessionTree, below, children_of, own_group, send

ORPHAN_SIGNAL = int(signal.SIGRTMIN) + 1
HANDED_OVER = "handed-over"  # in the runtime directory, once a daemon has left for another, until that is there
_HAND_OVER_S = 30.0  # that it may take, also where orphan_grace_s is less
_LOOK_S = 0.5


def supervised(notify: str) -> bool:
    """Whether a daemon runs, be it stopped: its socket can be connected to. What cannot be told counts as yes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            asking.connect(notify)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


class Absence:
    """How long no daemon has run."""

    def __init__(self, notify: str, grace_s: float) -> None:
        self._notify = notify
        self.runtime_dir = Path(notify).parent
        self._handed_over = self.runtime_dir / HANDED_OVER
        self.grace_s = grace_s
        self._since: float | None = None

    def too_long(self) -> bool:
        """Looks now. A grace below 0 never ends."""
        if self.grace_s < 0 or supervised(self._notify):
            self._since = None
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        grace_s = max(self.grace_s, _HAND_OVER_S) if self._handed_over.exists() else self.grace_s
        return now - self._since >= grace_s

    @property
    def begun(self) -> bool:
        """Whether there was none at the last look."""
        return self._since is not None


class Ward(msgspec.Struct, frozen=True):
    """A job that runs without a daemon."""

    name: str  # "job.attempt"
    board: Path
    pid: int  # of its leader
    grace_s: float  # of its type
    signal_tree: bool
    group: Path | None = None  # its own cgroup


class Charge:
    """A job that has to be ended by somebody else than a daemon, and how far its ladder has come."""

    def __init__(self, ward: Ward, absent_s: float) -> None:
        self._ward = ward
        self.pid = ward.pid
        try:
            self._board: Board | None = Board.open(ward.board)
        except (OSError, ValueError):
            self._board = None  # there is nobody to tell: signals are left
        now = time.monotonic()
        begun = self._board.ladder(now) if self._board is not None else None  # by a daemon
        self._ladder = begun or Ladder(
            kind=StopKind.ORPHANED,
            reason=f"no daemon ran for {absent_s:g} s",
            by="annul",
            grace_s=ward.grace_s,
            asked=now,
            asked_at=time.time(),
        )

    def climb(self, look: Callable[[], Look], kill: Callable[[], Look], *, leader_alive: bool) -> float:
        """Do what is due; when to come again, monotonic seconds."""
        seen = Seen(
            leader_alive=leader_alive,
            unwound=self._board is not None and self._board.unwound_at != 0,
            repeat_term=not self._ward.signal_tree,
        )
        while True:
            self._ladder, step = cancel.climb(self._ladder, seen, time.monotonic())
            if step is None:
                return cancel.due(self._ladder, seen)
            if step is Step.BEGIN:
                self._tell()
            if step is Step.KILL:
                kill()
            elif self._ladder.terms or not leader_alive:
                everyone = step is Step.TERM_SURVIVORS or self._ward.signal_tree
                for pid in look().pids if everyone else [self.pid]:
                    send(pid, signal.SIGTERM)
                    send(pid, signal.SIGCONT)
                if step is Step.BEGIN:
                    self._thaw(look)

    def _thaw(self, look: Callable[[], Look]) -> None:
        """It may have been paused."""
        if self._ward.group is not None:
            CgroupTree(self._ward.group).thaw(None, leader_alive=False, everyone=True)
        for pid in look().pids:
            send(pid, signal.SIGCONT)

    def _tell(self) -> None:
        ladder = self._ladder
        if self._board is not None:
            notice = Notice(ladder.kind, ladder.reason, ladder.by, ladder.grace_s, ladder.asked_at)
            self._board.tell(notice, ladder.deadline)


# --- in a zygote ------------------------------------------------------------------------------------------------


def guard(
    children: set[int],
    reaper: Reaper,
    absence: Absence,
    wake: int,
    reap: Callable[[], bool],
    cgroup: Path | None = None,
) -> None:
    """Be the guardian of all jobs whose processes this zygote has forked, until none of theirs lives.

    `children`: the leaders that live. `reaper`: this process. `wake` is readable when one has ended; `reap` takes such
    ends out of `children` and says whether there still is any child. `cgroup`: where each of them has its own.
    """
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    wards: dict[str, Ward] = {}  # also of leaders that end before it is time, and leave something behind
    charges: dict[str, tuple[Charge, SessionTree]] = {}
    ending = False

    def census() -> Census:
        return Census([reaper], children, attempts=wards)

    while reap() and children_of(reaper.pid) - reaper.strangers:
        wait_s = _LOOK_S
        ending = ending or absence.too_long()
        if ending or absence.begun:
            wards |= _wards(absence.runtime_dir, children, cgroup)
        if ending:
            for name in wards.keys() - charges.keys():
                tree = SessionTree(attempt=name, board=wards[name].board, census=census)
                charges[name] = Charge(wards[name], absence.grace_s), tree
            now = time.monotonic()
            due = [now + _LOOK_S]
            for charge, tree in charges.values():
                try:
                    alive = charge.pid in children
                    if not alive and tree.look(charge.pid, leader_alive=False).empty:
                        continue
                    due.append(
                        charge.climb(
                            lambda tree=tree, pid=charge.pid, alive=alive: tree.look(pid, leader_alive=alive),  # type: ignore[misc]
                            lambda tree=tree, pid=charge.pid, alive=alive: tree.kill(pid, leader_alive=alive),  # type: ignore[misc]
                            leader_alive=alive,
                        )
                    )
                except OSError:
                    continue  # it could not look, which says nothing: again in a moment
            wait_s = max(0.001, min(due) - now)
        if poller.poll(wait_s * 1000):
            os.read(wake, 4096)


def _wards(runtime_dir: Path, leaders: set[int], cgroup: Path | None) -> dict[str, Ward]:
    """The jobs whose processes these are, by name: their boards tell. One that has not registered yet comes later."""
    found = {}
    for path in (runtime_dir / "jobs").glob(f"*/{BOARD}"):
        try:
            board = Board.open(path)
        except (OSError, ValueError):
            continue  # it is being made, or removed
        registered = board.process()
        if registered is not None and registered[0] in leaders:
            name = path.parent.name
            group = Path(own_group(cgroup, *registered)) if cgroup is not None else None
            found[name] = Ward(name, path, registered[0], board.grace_s, board.signal_tree, group)
        board.close()
    return found


# --- in a job whose zygote has died -----------------------------------------------------------------------------


class Alone:
    """A job's own process, which hears of its parent's end."""

    @classmethod
    def watch(cls, launch: Launch, parent: int) -> Alone:
        """From now on. `parent`: the zygote's pid. Called once, in the main thread."""
        self = cls(launch)
        set_handler(ORPHAN_SIGNAL, self._orphaned)
        prctl.set_parent_death_signal(ORPHAN_SIGNAL)
        if os.getppid() != parent:  # Race: it died before that
            self._orphaned(ORPHAN_SIGNAL, None)
        return self

    @staticmethod
    def unwatch() -> None:
        set_handler(ORPHAN_SIGNAL, SIG_DFL)
        prctl.set_parent_death_signal(0)

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._pid = os.getpid()
        self._running = False
        self._ending = False

    def sweep(self, board: Board) -> None:
        """At the end of the job, where no daemon runs: end what it leaves behind, with what is left of a grace.

        Not left to the guardian, whose end nobody would hear of then.
        """
        told = False
        while (due := self._kill_at(board)) is not None and (left := self._others()):
            over = time.monotonic() >= due
            for pid in left if over or not told else ():
                for signum in (signal.SIGKILL,) if over else (signal.SIGTERM, signal.SIGCONT):
                    send(pid, signum)
            told = True
            time.sleep(0.002)

    def _kill_at(self, board: Board) -> float | None:
        """When what it leaves behind is to be killed, monotonic seconds; None: a daemon sees to that."""
        if not self._ending and supervised(self._launch.notify):
            return None
        found = board.cancel()
        return 0.0 if self._ending or found is None else found[1] / 1e9

    def _others(self) -> list[int]:
        return [pid for pid in self._below() if pid != self._pid]

    def _below(self) -> list[int]:
        """Who lives of this process and those below it. Only itself where the job has used up its descriptors: this
        process, which would have to look, is the one that has to end then.
        """
        try:
            return [one.pid for one in map(proc.stat, below([self._pid])) if one and one.alive]
        except OSError:
            return [self._pid]

    def _orphaned(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self._running and os.getpid() == self._pid:
            self._running = True
            _thread.start_new_thread(self._run, ())  # threading's own has locks, and this is a signal handler

    def _run(self) -> None:
        launch = self._launch
        absence = Absence(launch.notify, launch.orphan_grace_s)
        while not absence.too_long():
            if os.getppid() == launch.daemon and supervised(launch.notify):
                self._running = False  # only the zygote died: of the daemon's end the kernel will tell as well
                return
            time.sleep(_LOOK_S if absence.grace_s else 0.01)
        self._ending = True
        board = Path(launch.run_dir, BOARD)
        charge = Charge(Ward(launch.name, board, self._pid, launch.grace_s, launch.signal_tree), absence.grace_s)
        while True:
            due = charge.climb(lambda: Look(self._below()), self._kill, leader_alive=True)
            time.sleep(max(0.001, due - time.monotonic()))

    def _kill(self) -> Look:
        """Everything below, and when nothing is left this process itself."""
        others = self._others()
        for pid in others:
            send(pid, signal.SIGKILL)
        if not others:
            os.kill(self._pid, signal.SIGKILL)
        return Look(others)
