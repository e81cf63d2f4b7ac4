"""The cancel contract under random interleavings: a small world, in which the daemon is the pure core.

The world is what outlives a daemon: store, boards, outcome files, published outputs, processes, the clock; and the
clients' memory of what they were answered. The daemon decides by `lifecycle`, `cancel` and `scheduling`; what it does
in between is done in the order in which `supervision`, `ledger` and `recovery` do it, and it can die before each of its
effects. Each invariant is named by its clause of the contract.

`ANNUL_TORTURE=20000 pytest tests/unit/test_state_machine.py` tries so many examples, others each time, and longer ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from annul import cancel, lifecycle
from annul.cancel import Ladder, Seen, Step
from annul.lifecycle import Action, Event, Leader, StopKind, TakeUp, Verdict
from annul.scheduling import Entry, Limits, Queue, Running
from annul_client.wire import CancelOutcome, State

TORTURE = int(os.environ.get("ANNUL_TORTURE", "0"))
TYPE_GRACE_S = 5.0
HAIR = 1e-6
LIMITS = Limits(total=2, per_user=2, per_type={"slow": 1})

Name = tuple[str, int]  # of an attempt: job and number


class Crash(Exception):
    """The daemon gets SIGKILL, here and now."""


@dataclass(frozen=True)
class Record:
    """A job in the store."""

    entry: Entry
    on_shutdown: str
    timeout_s: float | None
    state: State = State.QUEUED
    attempt: int = 0
    grace_s: float | None = None  # of the cancel
    leader: tuple[int, int] | None = None  # (boot, pid)
    code: str = ""
    unpublished: bool = False

    @property
    def name(self) -> Name:
        return self.entry.id, self.attempt


@dataclass
class Board:
    told: tuple[StopKind, float, float] | None = None  # (kind, grace, deadline)
    ever: set[StopKind] = field(default_factory=set)
    given_up: bool = False
    leader: int | None = None
    running: bool = False
    unwound: bool = False


@dataclass
class Process:
    pid: int
    name: Name
    leads: bool = True
    phase: int = 0  # 0 forked, 1 registered, 2 has looked at the flag, 3 in the user's code
    doomed: bool = False  # has got SIGKILL
    stuck: bool = False  # the kernel does not end it


class World:
    """What outlives a daemon, and what was promised to clients."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.boot = 1
        self.fuse: int | None = None  # effects until the daemon dies
        self.takes = True  # the store takes commits
        self.store: dict[str, Record] = {}
        self.boards: dict[Name, Board] = {}
        self.outcomes: dict[Name, Verdict] = {}
        self.outputs: dict[str, Name] = {}
        self.processes: dict[int, Process] = {}
        self.pids = 0
        self.began: set[Name] = set()  # attempts of which user code has run
        # The clients' memory.
        self.submitted: set[str] = set()
        self.accepted: set[str] = set()  # their cancel was answered `cancelling` or `cancelled_before_start`
        self.promised: dict[Name, float] = {}  # the earliest deadline anybody has asked for
        self.due: dict[Name, float] = {}  # the earliest deadline of a cancel that was answered

    def effect(self) -> None:
        if self.fuse is not None:
            if self.fuse == 0:
                raise Crash
            self.fuse -= 1

    def process(self, name: Name) -> int:
        self.pids += 1
        self.processes[self.pids] = Process(self.pids, name)
        return self.pids

    def tree(self, name: Name) -> list[Process]:
        return [one for one in self.processes.values() if one.name == name]

    def in_user_code(self) -> list[Process]:
        return [one for one in self.processes.values() if one.phase == 3]

    # --- what a daemon does to it ---------------------------------------------------------------------------------

    def commit(self, records: list[Record]) -> bool:
        self.effect()
        if not self.takes:
            return False
        for new in records:
            job = new.entry.id
            old = self.store.get(job)
            self.store[job] = new
            if old is None:
                continue
            if old.state.final:
                assert (new.state, new.code) == (old.state, old.code), "C2: a final state is never left"
            ended = new.state is State.QUEUED or new.state.final
            if ended and old.state is not State.QUEUED and not old.state.final:
                self._check_conclusion(old, new)
        return True

    def _check_conclusion(self, old: Record, new: Record) -> None:
        assert not [one for one in self.tree(old.name) if one.phase == 3], "C3: it ended with a process alive"
        board = self.boards.get(old.name)
        ever = board.ever if board else set()
        if old.state is State.CANCELLING or StopKind.CANCEL in ever:
            assert new.state is State.CANCELLED, "C2: a user's cancel is above everything"
        elif StopKind.TIMEOUT in ever:
            assert (new.state, new.code) == (State.FAILED, "timeout"), "C2: a time-out is above all but a cancel"
        elif StopKind.SHUTDOWN not in ever:
            assert new.state is not State.CANCELLED, "nobody asked for that"
            if new.state is State.FAILED and old.name not in self.began:
                assert new.code == "crashed", "C6: nothing of it ran, and it was not tried again"

    def tell(self, name: Name, ladder: Ladder) -> None:
        """The notice and the flag."""
        self.effect()
        board = self.boards[name]
        if board.told is not None:
            before = max(board.told[2], self.now)  # one that has passed means "now"
            assert ladder.deadline <= before + HAIR, "C5: the grace was lengthened"
        board.told = (ladder.kind, ladder.grace_s, ladder.deadline)
        board.ever.add(ladder.kind)

    def sigterm(self, name: Name) -> None:
        self.effect()
        assert self.boards[name].told is not None, "C7: a signal before the reason"

    def sigkill(self, process: Process) -> None:
        self.effect()
        promised = self.promised.get(process.name)
        assert promised is None or self.now >= promised - HAIR or process.phase < 3, "C4: SIGKILL before the deadline"
        process.doomed = True
        self.reap()

    def reap(self) -> None:
        for one in list(self.processes.values()):
            if one.doomed and not one.stuck:
                del self.processes[one.pid]

    def publish(self, record: Record) -> None:
        self.effect()
        assert self.store[record.entry.id].state is State.COMPLETED, "C9: published before the commit"
        self.outputs[record.entry.id] = record.name

    def drop_board(self, name: Name) -> None:
        self.effect()
        self.boards.pop(name, None)

    def answer(self, record: Record, outcome: CancelOutcome, deadline: float) -> None:
        self.effect()
        job = record.entry.id
        if outcome is CancelOutcome.ALREADY_FINAL:
            assert job not in self.accepted or record.state is State.CANCELLED, "C5: accepted, and final otherwise"
            return
        self.accepted.add(job)
        if outcome is CancelOutcome.CANCELLING:
            self.due[record.name] = min(deadline, self.due.get(record.name, deadline))


@dataclass
class Active:
    record: Record
    board: Board
    ladder: Ladder | None = None
    intent_noted: bool = True
    pid: int | None = None
    ended: bool = False
    over: bool = False
    timeout_at: float | None = None

    def seen(self) -> Seen:
        return Seen(leader_alive=not self.ended, unwound=self.board.unwound, can_dump=self.board.running)


@dataclass
class Change:
    record: Record
    then: Callable[[], None] = lambda: None
    refused: Callable[[], None] | None = None


class Daemon:
    """One life of a daemon: the glue around the pure core."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue = Queue()
        self.running = Running()
        self.active: dict[str, Active] = {}
        self.stopping = False
        self.inbox: list[Callable[[], None]] = []
        self.changes: list[Change] = []
        self.afterwards: list[Callable[[], None]] = []
        self.overlay: dict[str, Record] = {}
        self.launches: dict[str, int] = {}  # failed ones
        self.waiting: set[Name] = set()  # launches for which there is no process yet
        self.refused = False  # the last commit was

    # --- the turn ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        inbox, self.inbox = self.inbox, []
        for event in inbox:
            event()
        for active in list(self.active.values()):
            if not active.ended and active.pid is not None and active.pid not in self.world.processes:
                active.ended = True
            if active.ended:
                self.look(active)
        for active in list(self.active.values()):
            if active.timeout_at is not None and active.timeout_at <= self.world.now:
                active.timeout_at = None
                self.begin(active, Event.TIMEOUT, StopKind.TIMEOUT, TYPE_GRACE_S)
            self.climb(active)
        if not self.stopping:
            self.admit()
        self.commit()
        self.check_deadlines()

    def next_due(self) -> float | None:
        times = [one.timeout_at for one in self.active.values()]
        times += [cancel.due(a.ladder, a.seen()) for a in self.active.values() if a.ladder and a.intent_noted]
        return min((at for at in times if at is not None), default=None)

    def check_deadlines(self) -> None:
        for name, deadline in self.world.due.items():
            active = self.active.get(name[0])
            if active is None or active.record.name != name or self.world.now < deadline:
                continue
            left = [one for one in self.world.tree(name) if one.phase == 3 and not one.doomed]
            assert not left, "C4: no SIGKILL at the deadline"

    # --- as in the ledger ----------------------------------------------------------------------------------------

    def newest(self, job: str) -> Record | None:
        return self.overlay.get(job) or self.world.store.get(job)

    def change(
        self, record: Record, then: Callable[[], None] = lambda: None, refused: Callable[[], None] | None = None
    ):
        self.changes.append(Change(record, then, refused))
        self.overlay[record.entry.id] = record

    def commit(self) -> None:
        changes, self.changes = self.changes, []
        if changes:
            self.refused = not self.world.commit([one.record for one in changes])
            facts = [one for one in changes if one.refused is None] if self.refused else []
            self.overlay = {one.record.entry.id: one.record for one in facts}
            for one in changes:
                if not self.refused:
                    one.then()
                elif one.refused is not None:
                    one.refused()
            self.changes = facts + self.changes
        acts, self.afterwards = self.afterwards, []
        for act in acts:
            act()

    # --- as in starting ------------------------------------------------------------------------------------------

    def submit(self, record: Record) -> None:
        def stored() -> None:
            self.enqueue(record)
            self.world.effect()
            self.world.submitted.add(record.entry.id)

        self.change(record, stored, refused=lambda: None)

    def enqueue(self, record: Record) -> None:
        self.queue.add(record.entry, self.world.now)

    def hold(self, active: Active) -> None:
        self.active[active.record.entry.id] = active
        self.running.add(active.record.entry.user, active.record.entry.type)

    def free(self, active: Active) -> None:
        del self.active[active.record.entry.id]
        self.running.remove(active.record.entry.user, active.record.entry.type)
        active.over = True

    def admit(self) -> None:
        last: Entry | None = None
        while (entry := self.queue.admit(self.running, LIMITS, self.world.now)) is not None:
            self.check_order(entry, last)
            last = entry
            record = self.newest(entry.id)
            assert record is not None
            state, action = lifecycle.step(record.state, Event.ADMITTED)
            assert action is Action.LAUNCH, "only what is queued is in the queue"
            self.admit_one(replace(record, state=state, attempt=record.attempt + 1, grace_s=None, leader=None))

    def admit_one(self, record: Record) -> None:
        self.world.effect()
        self.world.boards[record.name] = Board()
        active = Active(record, self.world.boards[record.name])
        self.hold(active)

        def launch() -> None:
            self.world.effect()
            self.waiting.add(record.name)
            active.timeout_at = None if record.timeout_s is None else self.world.now + record.timeout_s

        def undo() -> None:
            self.free(active)
            self.world.drop_board(record.name)
            self.enqueue(record)

        self.change(record, launch, refused=undo)

    def check_order(self, entry: Entry, last: Entry | None) -> None:
        for one in self.queue:
            users, types = self.running.by_user[one.user], self.running.by_type[one.type]
            if users >= (LIMITS.per_user or 0) or types >= LIMITS.per_type.get(one.type, 1000):
                continue  # a blocked head is skipped
            assert one.priority <= entry.priority, "queue: priority first"
            if one.priority == entry.priority and one.user == entry.user:
                assert one.seq > entry.seq, "queue: first in, first out"
            if last is not None and one.priority == entry.priority == last.priority and entry.user == last.user:
                assert one.user == entry.user, "queue: users in turn"

    def hand_over(self, name: Name) -> None:
        if name not in self.waiting:
            return
        self.waiting.discard(name)
        self.world.effect()
        pid = self.world.process(name)
        self.world.effect()
        self.active[name[0]].pid = pid

    def not_launched(self, name: Name) -> None:
        if name in self.waiting:
            self.waiting.discard(name)
            self.give_up(self.active[name[0]])

    def find_leader(self, active: Active) -> Leader:
        if active.board.leader is None:
            return Leader.NONE
        active.pid = active.board.leader
        active.ended = active.pid not in self.world.processes
        return Leader.ENDED if active.ended else Leader.ALIVE

    def give_up(self, active: Active) -> None:
        name = active.record.name
        if active.ladder is None:
            self.world.effect()
            active.board.given_up = True
            self.world.drop_board(name)
        else:
            self.world.tell(name, active.ladder)
        late = self.world.processes.get(active.board.leader or 0)
        if late is not None:
            self.world.sigkill(late)
        active.ended = True
        failures = self.launches[name[0]] = self.launches.get(name[0], 0) + 1
        if lifecycle.starts_anew(active.ladder.kind if active.ladder else None, failures):
            self.free(active)
            self.world.drop_board(name)
            record = replace(active.record, state=State.QUEUED)
            self.change(record)
            self.enqueue(record)
        else:
            self.look(active)

    # --- as in stopping ------------------------------------------------------------------------------------------

    def cancel(self, job: str, grace_s: float) -> None:
        active = self.active.get(job)
        if active is not None:
            deadline = self.world.now + grace_s
            self.begin(active, Event.CANCEL, StopKind.CANCEL, grace_s)
            record = active.record
            self.afterwards.append(lambda: self.world.answer(record, CancelOutcome.CANCELLING, deadline))
            return
        found = self.newest(job)
        if found is None:
            return  # `not_found`
        outcome = lifecycle.answer_to_cancel(found.state)
        if outcome is not CancelOutcome.CANCELLED_BEFORE_START:
            self.afterwards.append(lambda: self.world.answer(found, outcome, 0.0))
            return
        entry = self.queue.remove(job)
        state, _ = lifecycle.step(found.state, Event.CANCEL)
        self.change(
            replace(found, state=state),
            then=lambda: self.world.answer(found, outcome, 0.0),
            refused=lambda: self.enqueue(found) if entry else None,
        )

    def stop(self) -> None:
        self.stopping = True
        for active in list(self.active.values()):
            self.begin(active, Event.SHUTDOWN, StopKind.SHUTDOWN, TYPE_GRACE_S)

    def begin(self, active: Active, event: Event, kind: StopKind, grace_s: float) -> None:
        state, action = lifecycle.step(active.record.state, event)
        if action is Action.STOP:
            self.stop_one(active, kind, grace_s)
        self.enter(active, state, grace_s)

    def stop_one(self, active: Active, kind: StopKind, grace_s: float) -> None:
        now = self.world.now
        name = active.record.name
        self.world.promised[name] = min(now + grace_s, self.world.promised.get(name, now + grace_s))
        asked = Ladder(kind=kind, reason="", by="", grace_s=grace_s, asked=now, asked_at=0.0)
        active.ladder = cancel.take_over(active.ladder, asked) if active.ladder else asked
        active.intent_noted = False

        def stop_now() -> None:
            if active.over or active.ladder is None:
                return
            active.intent_noted = True
            if active.ladder.flag is not None:
                self.world.tell(name, active.ladder)
            self.climb(active)

        self.afterwards.append(stop_now)

    def enter(self, active: Active, state: State, grace_s: float | None = None) -> None:
        if state is active.record.state:
            return
        leader = active.record.leader
        if active.board.leader is not None:
            leader = (self.world.boot, active.board.leader)
        active.record = replace(active.record, state=state, leader=leader, grace_s=grace_s)
        self.change(active.record)

    def climb(self, active: Active) -> None:
        name = active.record.name
        while active.ladder is not None and active.intent_noted and not active.over:
            active.ladder, step = cancel.climb(active.ladder, active.seen(), self.world.now)
            match step:
                case None:
                    return
                case Step.BEGIN:
                    assert active.board.told is None, "C5: a second escalation"
                    if active.ladder.kind is StopKind.CANCEL:
                        durable = self.world.store[name[0]].state is State.CANCELLING
                        assert durable or self.refused, "C1: the flag before the commit"
                    self.world.tell(name, active.ladder)
                    if name in self.waiting:
                        self.waiting.discard(name)
                        active.ended = True
                        self.look(active)
                        return
                    self.world.sigterm(name)
                case Step.TERM_LEADER | Step.TERM_SURVIVORS:
                    self.world.sigterm(name)
                case Step.KILL:
                    for one in self.world.tree(name):
                        self.world.sigkill(one)
                    if active.ended:
                        self.look(active)

    # --- as in ending --------------------------------------------------------------------------------------------

    def news(self, name: Name) -> None:
        active = self.active.get(name[0])
        if active is not None and active.record.name == name and active.board.running:
            self.launches.pop(name[0], None)
            state, _ = lifecycle.step(active.record.state, Event.RUNNING)
            self.enter(active, state, active.record.grace_s)

    def look(self, active: Active) -> None:
        name = active.record.name
        # One that has not begun is not found yet; it never will begin.
        left = [one for one in self.world.tree(name) if one.phase == 3]
        if not left:
            self.conclude(active)
        elif active.ladder is None:
            for one in left:
                self.world.sigkill(one)

    def conclude(self, active: Active) -> None:
        if active.over:
            return
        record, world = active.record, self.world
        _, action = lifecycle.step(record.state, Event.GONE)
        assert action is Action.CONCLUDE
        if active.ladder is not None and not active.intent_noted:
            world.tell(record.name, active.ladder)
        stop = active.ladder.kind if active.ladder else None
        conclusion = lifecycle.conclude(
            StopKind.CANCEL if record.state is State.CANCELLING else stop,
            world.outcomes.get(record.name, Verdict.NONE),
            queue_again=record.on_shutdown == "queue",
        )
        self.free(active)
        ended = replace(record, state=conclusion.state, code=conclusion.code, unpublished=conclusion.publish)

        def settle() -> None:
            if conclusion.publish:
                self.publish(ended)
            world.drop_board(record.name)
            if ended.state is State.QUEUED:
                self.enqueue(ended)

        self.change(ended, settle)

    def publish(self, record: Record) -> None:
        self.world.publish(record)
        self.change(replace(record, unpublished=False))

    # --- as in recovery ------------------------------------------------------------------------------------------

    def recover(self) -> None:
        for record in self.world.store.values():
            if record.unpublished:
                self.publish(record)
        for record in sorted(self.world.store.values(), key=lambda one: one.entry.seq):
            if record.state is State.QUEUED:
                self.enqueue(record)
            elif not record.state.final:
                self.take_up(record)
        for name in list(self.world.boards):
            held = name in {one.record.name for one in self.active.values()}
            if not held and name[0] not in self.overlay:  # else its conclusion is about to be written
                self.world.drop_board(name)
        self.commit()

    def take_up(self, record: Record) -> None:
        board = self.world.boards.get(record.name)
        if board is None and record.leader is not None and record.leader[0] == self.world.boot:
            board = self.world.boards[record.name] = Board(leader=record.leader[1])
        if board is None:
            conclusion = lifecycle.lost(record.state)
            changed = replace(record, state=conclusion.state, code=conclusion.code)
            self.change(changed)
            if changed.state is State.QUEUED:
                self.enqueue(changed)
            return
        active = Active(record, board)
        self.hold(active)
        told = None
        if board.told is not None:
            told, grace_s, deadline = board.told
            active.ladder = cancel.restored(
                kind=told, reason="", by="", grace_s=grace_s, asked_at=0.0, deadline=deadline, now=self.world.now
            )
        if told is StopKind.CANCEL and record.state is not State.CANCELLING:
            state, _ = lifecycle.step(record.state, Event.CANCEL)
            self.enter(active, state)
        elif lifecycle.untold(record.state, told):
            self.stop_one(active, StopKind.CANCEL, TYPE_GRACE_S if record.grace_s is None else record.grace_s)
        active.timeout_at = None if record.timeout_s is None else self.world.now + record.timeout_s
        match lifecycle.take_up(self.find_leader(active), given_up=board.given_up):
            case TakeUp.GIVE_UP:
                self.give_up(active)
            case TakeUp.LOOK:
                self.look(active)
            case TakeUp.ADOPT:
                self.news(record.name)


# --- what can happen ------------------------------------------------------------------------------------------------

JOBS = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["ann", "bob"]),
        "type": st.sampled_from(["quick", "slow"]),
        "priority": st.integers(0, 1),
        "on_shutdown": st.sampled_from(["queue", "cancel"]),
        "timeout_s": st.sampled_from([None, None, 10.0]),
    }
)
GRACES = st.sampled_from([0.0, 1.0, 5.0, 60.0])
SECONDS = st.sampled_from([None, None, 0.001, 0.5, 0.5, 5.0, 30.0])  # None: to the next deadline
soon = st.booleans()  # whether the daemon's loop turns before anything else happens


class Contract(RuleBasedStateMachine):
    """Everything that can happen to jobs, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.daemon: Daemon | None = None
        self.seq = 0
        self.start()

    # --- the daemon ----------------------------------------------------------------------------------------------

    def alive(self, act: Callable[[Daemon], None]) -> None:
        """Have the daemon do something, and perhaps die of it."""
        if self.daemon is not None:
            try:
                act(self.daemon)
            except Crash:
                self.die()

    def turn(self, now: bool = True) -> None:
        """The daemon's loop turns; a dead one is started again."""
        if now and self.daemon is None:
            self.start()
        elif now:
            self.alive(Daemon.turn)
        if self.daemon is not None and self.daemon.stopping and not self.daemon.active and not self.daemon.changes:
            self.die()

    def ask(self, what: Callable[[Daemon], None], now: bool) -> None:
        """A request, or news, for the daemon that lives; and perhaps it is handled at once."""
        daemon = self.daemon
        if daemon is not None:
            daemon.inbox.append(lambda: what(daemon))
        self.turn(now)

    def die(self) -> None:
        """What it was asked for and had not written anywhere is forgotten; it was not answered either."""
        self.daemon = None
        world = self.world
        world.fuse = None
        for name in list(world.promised):
            board = world.boards.get(name)
            if world.store[name[0]].state is not State.CANCELLING and (board is None or board.told is None):
                del world.promised[name]

    def start(self) -> None:
        self.daemon = Daemon(self.world)
        self.alive(Daemon.recover)

    @precondition(lambda self: self.daemon is not None)
    @rule(effects=st.integers(0, 12), now=soon)
    def crash(self, effects: int, now: bool) -> None:
        """kill -9 of the daemon, before one of the next things that it does."""
        self.world.fuse = effects
        self.turn(now)

    @precondition(lambda self: self.seq > 3)
    @rule(how=st.sampled_from(["shutdown", "shutdown", "reboot"]), now=soon)
    def end_of_day(self, how: str, now: bool) -> None:
        if how == "reboot":
            self.reboot()
        else:
            self.ask(Daemon.stop, now)

    def reboot(self) -> None:
        """Boards and processes are gone. A cancel that the store had refused is, too: nothing durable held it."""
        self.die()
        world = self.world
        world.boot += 1
        for one in (world.boards, world.processes):
            one.clear()
        world.accepted = {
            job for job in world.accepted if world.store[job].state in (State.CANCELLING, State.CANCELLED)
        }

    @rule(now=soon)
    def fill_or_empty_the_disk(self, now: bool) -> None:
        self.world.takes = not self.world.takes
        self.turn(now)

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float | None) -> None:
        """To the next deadline, or past some."""
        due = self.daemon.next_due() if self.daemon is not None else None
        self.world.now = max(self.world.now, due or 0.0) if seconds is None else self.world.now + seconds
        self.turn()

    # --- clients -------------------------------------------------------------------------------------------------

    @initialize(
        jobs=st.lists(JOBS, min_size=1, max_size=4),
        run=st.booleans(),
        graces=st.lists(GRACES, max_size=2),
        seconds=SECONDS,
    )
    def begin(self, jobs: list[dict[str, Any]], run: bool, graces: list[float], seconds: float | None) -> None:
        """Something to start with: hypothesis leaves out some of the rules in each example."""
        for job in jobs:
            self.submit(job, now=False)
        self.turn()
        if run:
            self.run(now=True)
        for number, grace_s in enumerate(graces, start=1):
            self.ask(lambda daemon, job=f"j{number}", grace_s=grace_s: daemon.cancel(job, grace_s), now=False)
        self.pass_time(seconds)

    @precondition(lambda self: self.seq < 10)
    @rule(job=JOBS, now=soon)
    def submit(self, job: dict[str, Any], now: bool) -> None:
        self.seq += 1
        entry = Entry(self.seq, f"j{self.seq}", job["user"], job["type"], job["priority"], None)
        record = Record(entry, job["on_shutdown"], job["timeout_s"])
        self.ask(lambda daemon: daemon.submit(record), now)

    @precondition(lambda self: self.world.submitted)
    @rule(data=st.data(), grace_s=GRACES, now=soon)
    def cancel(self, data: st.DataObject, grace_s: float, now: bool) -> None:
        jobs = sorted(self.world.submitted)
        live = [job for job in jobs if not self.world.store[job].state.final]
        job = data.draw(st.sampled_from(live * 3 + jobs))
        self.ask(lambda daemon: daemon.cancel(job, grace_s), now)

    # --- zygotes -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), works=st.booleans(), now=soon)
    def zygote(self, data: st.DataObject, works: bool, now: bool) -> None:
        """It has forked a process for the next launch, or cannot, or has died."""
        name = data.draw(st.sampled_from(self.waiting))
        self.ask(lambda daemon: daemon.hand_over(name) if works else daemon.not_launched(name), now)

    @precondition(lambda self: self.waiting)
    @rule(now=soon)
    def run(self, now: bool) -> None:
        """All goes well with all that is being launched."""
        self.hand_all_over()
        for one in list(self.world.processes.values()):
            for _ in range(3):
                if one.pid in self.world.processes and not one.doomed:
                    self.advance(one)
        self.turn(now)

    @property
    def waiting(self) -> list[Name]:
        return sorted(self.daemon.waiting) if self.daemon is not None else []

    def hand_all_over(self) -> None:
        for name in self.waiting:
            self.ask(lambda daemon, name=name: daemon.hand_over(name), True)  # type: ignore[misc]

    # --- processes -----------------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject, wanted: Callable[[Process], bool]) -> Process | None:
        found = [one for one in self.world.processes.values() if not one.doomed and wanted(one)]
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: any(one.phase < 3 for one in self.world.processes.values()))
    @rule(data=st.data(), now=soon)
    def come_up(self, data: st.DataObject, now: bool) -> None:
        """It registers on its board; then it looks at the flag; then it runs code of the user's."""
        one = self.pick(data, lambda one: one.phase < 3)
        if one is not None:
            self.advance(one)
            self.turn(now)

    def advance(self, one: Process) -> None:
        board = self.world.boards.get(one.name)
        if one.phase == 0 and board is not None:
            board.leader, one.phase = one.pid, 1
        elif one.phase == 0:
            del self.world.processes[one.pid]
        elif one.phase == 1:
            if board is None or board.told is not None or board.given_up:
                self.world.outcomes[one.name] = Verdict.CANCELLED
                del self.world.processes[one.pid]
            else:
                one.phase = 2
        elif one.phase == 2:
            record = self.world.store[one.name[0]]
            assert record.name == one.name, "C6: user code of an attempt that is over"
            assert record.state in (State.STARTING, State.CANCELLING), "C6: user code without a slot"
            one.phase = 3
            self.world.began.add(one.name)
            if board is not None:
                board.running = True
            self.ask(lambda daemon: daemon.news(one.name), now=False)

    @precondition(lambda self: self.world.in_user_code())
    @rule(data=st.data(), now=soon)
    def fork(self, data: st.DataObject, now: bool) -> None:
        one = self.pick(data, lambda one: one.phase == 3)
        if one is not None and len(self.world.processes) < 12:
            self.world.pids += 1
            self.world.processes[self.world.pids] = Process(self.world.pids, one.name, leads=False, phase=3)
            self.turn(now)

    @precondition(lambda self: self.world.in_user_code())
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), now=soon)
    def exit(self, data: st.DataObject, verdict: Verdict, now: bool) -> None:
        """A leader ends, by itself or by SIGTERM, with an outcome or without; or another does."""
        one = self.pick(data, lambda one: one.phase == 3)
        if one is not None:
            self.end(one, verdict)
            self.turn(now)

    def end(self, one: Process, verdict: Verdict) -> None:
        del self.world.processes[one.pid]
        if one.leads and verdict is not Verdict.NONE:
            self.world.outcomes[one.name] = verdict

    @precondition(lambda self: self.world.in_user_code())
    @rule(data=st.data(), now=soon)
    def write_outcome(self, data: st.DataObject, now: bool) -> None:
        """It says that it has completed, and lives on."""
        one = self.pick(data, lambda one: one.phase == 3 and one.leads)
        if one is not None:
            self.world.outcomes[one.name] = Verdict.COMPLETED
            board = self.world.boards.get(one.name)
            if board is not None:
                board.unwound = True
            self.turn(now)

    @precondition(lambda self: self.world.processes)
    @rule(data=st.data(), stuck=st.booleans(), now=soon)
    def hang(self, data: st.DataObject, stuck: bool, now: bool) -> None:
        """It enters a call that not even SIGKILL ends, or comes back from one."""
        one = data.draw(st.sampled_from(sorted(self.world.processes.values(), key=lambda one: one.pid)))
        one.stuck = stuck
        self.world.reap()
        self.turn(now)

    # --- the clauses ---------------------------------------------------------------------------------------------

    @invariant()
    def c1_an_accepted_cancel_is_durable(self) -> None:
        for job in self.world.accepted:
            record = self.world.store[job]
            board = self.world.boards.get(record.name)
            on_board = board is not None and board.told is not None and board.told[0] is StopKind.CANCEL
            assert record.state in (State.CANCELLING, State.CANCELLED) or on_board

    @invariant()
    def c2_an_accepted_cancel_wins(self) -> None:
        for job in self.world.accepted:
            assert self.world.store[job].state not in (State.COMPLETED, State.FAILED)

    @invariant()
    def c3_what_is_over_has_no_process(self) -> None:
        for one in self.world.in_user_code():
            record = self.world.store[one.name[0]]
            assert not record.state.final
            assert record.state is not State.QUEUED

    @invariant()
    def c3_whoever_lives_holds_a_slot(self) -> None:
        if self.daemon is None:
            return
        for one in self.world.in_user_code():
            active = self.daemon.active.get(one.name[0])
            assert active is not None
            assert active.record.name == one.name
        assert self.daemon.running.total == len(self.daemon.active) <= LIMITS.total

    @invariant()
    def c6_one_attempt_lives(self) -> None:
        names = {one.name for one in self.world.in_user_code()}
        assert len({job for job, _ in names}) == len(names)

    @invariant()
    def c9_outputs_come_with_completed(self) -> None:
        for job, name in self.world.outputs.items():
            assert self.world.store[job].state is State.COMPLETED
            assert self.world.store[job].name == name

    def teardown(self) -> None:
        """C6: nothing is ever lost. Left to run, with everything in order, the world comes to its end."""
        world = self.world
        world.fuse, world.takes = None, True
        for _ in range(100):
            for one in list(world.processes.values()):
                one.stuck = False
                if one.doomed:
                    continue
                if one.phase < 3:
                    self.advance(one)
                else:
                    self.end(one, Verdict.COMPLETED)
            world.reap()
            self.hand_all_over()
            self.turn()
            world.now += 0.1
            self.check_invariants_now()
        assert {record.state.final for record in world.store.values()} <= {True}, "C6: a job was lost"
        completed = {job for job, record in world.store.items() if record.state is State.COMPLETED}
        assert set(world.outputs) == completed, "C9: outputs were not published"
        assert {world.store[job].state for job in world.accepted} <= {State.CANCELLED}

    def check_invariants_now(self) -> None:
        self.c1_an_accepted_cancel_is_durable()
        self.c2_an_accepted_cancel_wins()
        self.c3_what_is_over_has_no_process()
        self.c3_whoever_lives_holds_a_slot()
        self.c6_one_attempt_lives()
        self.c9_outputs_come_with_completed()


TestContract = Contract.TestCase
TestContract.settings = settings(
    max_examples=TORTURE or 300,
    stateful_step_count=120 if TORTURE else 50,
    derandomize=not TORTURE,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.timeout(0 if TORTURE else 300)
