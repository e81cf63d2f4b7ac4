"""What is alive: the attempts that hold a slot, the queue, and who waits for what.

Owned by the loop thread. Everything here can be lost: after a restart it is made again from the store, the boards and
/proc.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from annul import cancel, proc
from annul.board import Board
from annul.cancel import Ladder
from annul.catalog import Known
from annul.scheduling import Limits, Queue, Running
from annul.store import JobRecord
from annul.tree import Tree

_WATCHED = 16  # survivors of one attempt at once; that the others end is seen in the next look


class Active:
    """One attempt: its facts, and the handles on what is alive of it."""

    def __init__(self, record: JobRecord, known: Known, board: Board, tree: Tree, run_dir: Path, attempt_dir: Path):
        self.record = record
        self.known = known
        self.board = board
        self.tree = tree
        self.run_dir = run_dir
        self.attempt_dir = attempt_dir
        self.pid: int | None = None
        self.pidfd: int | None = None  # None: not launched yet, or the leader has ended
        self.not_launched = ""  # why no process could be made for it
        self.ended = False  # the leader has
        self.status: int | None = None  # as of waitpid
        self.out_of_memory = False  # the kernel had ended some of it for that, when the leader's end was told
        self.launch_error = ""  # why no process of it could be made
        self.over = False  # concluded; nothing of it may be used any more
        self.unseen = False  # it ended while no daemon watched
        self.adopted = False  # it was begun under a daemon that is gone
        self.ladder: Ladder | None = None
        self.intent_noted = True  # False: the ladder waits for this turn's commit of why it is there
        self.told: set[int] = set()  # pids other than the leader's that got their SIGTERM
        self.swept: set[int] = set()  # pids other than the leader's that had to be killed
        self.members: dict[int, int] = {}  # pid -> pidfd of survivors of the leader, watched
        self.progress_seen = 0
        self.stuck_told = False
        # Deadlines, monotonic seconds; None: not set.
        self.timeout_at: float | None = None
        self.start_by: float | None = None
        self.register_by: float | None = None
        self.rest_until = 0.0  # nothing is due before: something failed just now
        self.status_by: float | None = None
        self.look_at: float | None = None
        self.log_at: float | None = None
        self.looks = 0
        self.pause_noted = True  # False: `record.paused` waits for this turn's commit
        self.maybe_frozen = False  # its processes may be stopped for a pause
        self.freeze_at: float | None = None
        self.freezes = 0  # in a row
        self.progress_at: float | None = None
        self.progress_told = 0.0

    @property
    def name(self) -> str:
        return f"{self.record.id}.{self.record.attempt}"

    @property
    def leader_alive(self) -> bool:
        return not self.ended

    def seen(self) -> cancel.Seen:
        return cancel.Seen(
            leader_alive=self.leader_alive,
            unwound=self.board.unwound_at != 0,
            can_dump=not self.known.type.signal_tree and self.board.running_at != 0,
            repeat_term=not self.known.type.signal_tree,
        )

    def next_due(self) -> float | None:
        times = [
            self.timeout_at,
            self.start_by,
            self.register_by,
            self.status_by,
            self.look_at,
            self.log_at,
            self.progress_at,
            self.freeze_at,
        ]
        if self.ladder is not None and self.intent_noted:
            times.append(cancel.due(self.ladder, self.seen()))
        due = min((at for at in times if at is not None), default=None)
        return None if due is None else max(due, self.rest_until)

    def close(self) -> None:
        for fd in (self.pidfd, *self.members.values()):
            if fd is not None:
                os.close(fd)
        self.pidfd = None
        self.members.clear()
        self.board.close()

    def watch(self, pids: list[int]) -> None:
        """Hold a pidfd on a few of these, so that the poll tells when one ends: descriptors are for everybody."""
        for pid in set(self.members) - set(pids):
            os.close(self.members.pop(pid))
        for pid in pids:
            if len(self.members) >= _WATCHED:
                return
            if pid in self.members or pid == self.pid:
                continue
            if (one := proc.stat(pid)) is not None and (fd := proc.open_pidfd(pid, one.start_time)) is not None:
                self.members[pid] = fd


ANY = ""  # in place of a job's id: any news at all


class Waiter:
    """Somebody who asked to be told when a job is final, or of any news."""

    def __init__(self, who: str, job_id: str, tell: Callable[[bool], None], until: float):
        self.who = who
        self.job_id = job_id
        self.tell = tell  # with whether it has come to that
        self.until = until
        self.done = False


class Registry:
    """Everything alive."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.queue = Queue()
        self.running = Running()
        self.active: dict[str, Active] = {}  # by job id
        self._failed_launches: dict[str, int] = {}  # by job id, until it runs or is over
        self.admit_at: float | None = None  # nobody is admitted before: there was no room for it
        self.admit_failures = 0  # in a row
        self._later: list[tuple[float, str]] = []  # heap of (when a job is to be lined up, its id)
        self._waiting: dict[str, list[Waiter]] = {}
        self._waits: list[tuple[float, int, Waiter]] = []
        self._waiting_of: Counter[str] = Counter()  # how many by whom
        self._serial = itertools.count()

    def count_failed_launch(self, job_id: str) -> int:
        """How many of a job's launches have failed in a row, this one included."""
        self._failed_launches[job_id] = self._failed_launches.get(job_id, 0) + 1
        return self._failed_launches[job_id]

    def forget_failed_launches(self, job_id: str) -> None:
        self._failed_launches.pop(job_id, None)

    def by_name(self, name: str) -> Active | None:
        """The attempt called "job.attempt", if it is the one alive."""
        job_id, _, attempt = name.rpartition(".")
        found = self.active.get(job_id)
        return found if found is not None and str(found.record.attempt) == attempt else None

    def by_pid(self, pid: int) -> Active | None:
        return next((one for one in self.active.values() if one.pid == pid), None)

    def hold(self, active: Active) -> None:
        """Take a slot."""
        self.active[active.record.id] = active
        self.running.add(active.record.user, active.record.type)

    def free(self, active: Active) -> None:
        """Give the slot back: nothing of the attempt is alive."""
        del self.active[active.record.id]
        active.over = True
        self.running.remove(active.record.user, active.record.type)
        active.close()

    def leaders(self) -> list[int]:
        """Pids of all job leaders: the children of zygotes that are not left over."""
        return [one.pid for one in self.active.values() if one.pid is not None]

    # --- retries ------------------------------------------------------------------------------------------------

    def line_up_later(self, job_id: str, at: float) -> None:
        heapq.heappush(self._later, (at, job_id))

    def next_later(self) -> float | None:
        return self._later[0][0] if self._later else None

    def due(self, now: float) -> list[str]:
        """Take out the jobs whose delay is over."""
        found = []
        while self._later and self._later[0][0] <= now:
            found.append(heapq.heappop(self._later)[1])
        return found

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait(self, who: str, job_id: str, tell: Callable[[bool], None], until: float) -> None:
        waiter = Waiter(who, job_id, tell, until)
        self._waiting.setdefault(job_id, []).append(waiter)
        self._waiting_of[who] += 1
        heapq.heappush(self._waits, (until, next(self._serial), waiter))

    def waiting_of(self, who: str) -> int:
        """How many requests of somebody's wait for news."""
        return self._waiting_of[who]

    def _over(self, waiter: Waiter) -> None:
        waiter.done = True
        self._waiting_of[waiter.who] -= 1
        if not self._waiting_of[waiter.who]:
            del self._waiting_of[waiter.who]

    def next_wait(self) -> float | None:
        while self._waits and self._waits[0][2].done:
            heapq.heappop(self._waits)
        return self._waits[0][0] if self._waits else None

    def told_final(self, job_id: str) -> None:
        for waiter in self._waiting.pop(job_id, ()):
            self._over(waiter)
            waiter.tell(True)

    def told_news(self) -> None:
        """Events were told, of whichever jobs."""
        self.told_final(ANY)

    def expire_waits(self, now: float) -> None:
        expired: dict[str, None] = {}
        late: list[Waiter] = []
        while (at := self.next_wait()) is not None and at <= now:
            _, _, waiter = heapq.heappop(self._waits)
            self._over(waiter)
            late.append(waiter)
            expired[waiter.job_id] = None
        for job_id in expired:  # each job's list once, however many of its waiters are late
            others = [one for one in self._waiting[job_id] if not one.done]
            if others:
                self._waiting[job_id] = others
            else:
                del self._waiting[job_id]
        for waiter in late:
            waiter.tell(False)
