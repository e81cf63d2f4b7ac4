"""The ladder: flag and SIGTERM, SIGTERM again until it is noticed, SIGKILL at the deadline, until nothing is left.

Pure: `climb` is given the time and what is seen of the job, and says what to do now; `due` says when to ask again.
Times are seconds on the monotonic clock. A signal sent is not a death: only `gone`, the empty tree, ends a ladder.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from annul.lifecycle import StopKind
from annul_client.wire import Stage

# A first SIGTERM can be lost (the exception is swallowed by a destructor or a C callback), so it is repeated.
_TERM_AGAIN_S = (0.02, 0.05, 0.1, 0.2, 0.5)
# SIGKILL is repeated for what was forked meanwhile; from then on the kernel is asked ever less often.
_KILL_AGAIN_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
# The stacks are asked for so long before the deadline (or in the last quarter of a short grace): a job that gets the
# processor late can still answer, and SIGKILL is not late for that.
_DUMP_S = 0.1
_STUCK_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Step(StrEnum):
    """What is to be done to the job now."""

    BEGIN = "begin"  # set the flag, send SIGTERM: to the leader or, for commands, to the tree
    TERM_LEADER = "term_leader"  # SIGTERM again: it may have been lost
    TERM_SURVIVORS = "term_survivors"  # the leader left others behind: they get theirs at once
    DUMP = "dump"  # ask for the Python stacks: where is it stuck?
    KILL = "kill"  # SIGKILL, the whole tree


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """How far the stopping of one attempt has come."""

    kind: StopKind
    reason: str
    by: str
    grace_s: float
    asked: float  # monotonic
    asked_at: float  # unix seconds, for display
    flag: float | None = None
    sigterm: float | None = None  # noted by who sends it: while there is no process yet, none can be
    dumped: float | None = None  # when the stacks were asked for
    sigkill: float | None = None  # the first one
    terms: int = 0
    kills: int = 0
    last: float = 0.0  # when the last signal was sent
    survivors_told: bool = False
    stuck: bool = False

    @property
    def deadline(self) -> float:
        return self.asked + self.grace_s

    @property
    def dump_at(self) -> float:
        """When the stacks are asked for."""
        return self.deadline - min(_DUMP_S, self.grace_s / 4)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the job at this moment."""

    leader_alive: bool
    unwound: bool  # the cancel has come out of the job's function: no further SIGTERM is needed
    can_dump: bool = False  # its leader runs Python code of the job's
    repeat_term: bool = True  # False for commands: a second SIGTERM means "at once" to many programs


def climb(ladder: Ladder, seen: Seen, now: float) -> tuple[Ladder, Step | None]:
    """The next rung, if one is due. A grace of 0 goes straight to SIGKILL, with the flag set for the record."""
    if ladder.flag is None:
        ladder = msgspec.structs.replace(ladder, flag=now)
        if ladder.grace_s > 0:
            return msgspec.structs.replace(ladder, terms=1, last=now), Step.BEGIN
        return msgspec.structs.replace(ladder, last=now), Step.BEGIN
    if now < _next(ladder, seen):
        return ladder, None
    if now >= ladder.deadline:
        return (
            msgspec.structs.replace(
                ladder,
                sigkill=now if ladder.sigkill is None else ladder.sigkill,
                kills=ladder.kills + 1,
                last=now,
                stuck=is_stuck(ladder.kills),
            ),
            Step.KILL,
        )
    if not seen.leader_alive:
        return msgspec.structs.replace(ladder, survivors_told=True, last=now), Step.TERM_SURVIVORS
    if now >= _dump_due(ladder, seen):
        return msgspec.structs.replace(ladder, dumped=now), Step.DUMP
    return msgspec.structs.replace(ladder, terms=ladder.terms + 1, last=now), Step.TERM_LEADER


def due(ladder: Ladder, seen: Seen) -> float:
    """When `climb` has something to do next."""
    return ladder.asked if ladder.flag is None else _next(ladder, seen)


def _next(ladder: Ladder, seen: Seen) -> float:
    if ladder.kills:
        return ladder.last + kill_again_s(ladder.kills)
    if not seen.leader_alive:
        return ladder.deadline if ladder.survivors_told else ladder.last
    again = ladder.last + _TERM_AGAIN_S[min(ladder.terms, len(_TERM_AGAIN_S)) - 1]
    if seen.unwound or not seen.repeat_term:
        again = ladder.deadline
    return min(again, _dump_due(ladder, seen), ladder.deadline)


def kill_again_s(kills: int) -> float:
    """How long to wait after that many SIGKILLs before the next one."""
    waits = _KILL_AGAIN_S + _STUCK_AGAIN_S
    return waits[min(kills, len(waits)) - 1]


def is_stuck(kills: int) -> bool:
    """Whether what is alive after that many SIGKILLs is stuck in the kernel."""
    return kills >= len(_KILL_AGAIN_S)


def _dump_due(ladder: Ladder, seen: Seen) -> float:
    return ladder.dump_at if seen.can_dump and ladder.dumped is None else ladder.deadline


def take_over(running: Ladder, asked: Ladder) -> Ladder:
    """A ladder that runs, after one more request: the stronger reason counts, the grace never gets longer (C2, C5)."""
    deadline = min(running.deadline, asked.deadline)
    if asked.kind.outranks(running.kind):
        running = msgspec.structs.replace(
            running,
            kind=asked.kind,
            reason=asked.reason,
            by=asked.by,
            asked=asked.asked,
            asked_at=asked.asked_at,
        )
    return msgspec.structs.replace(running, grace_s=max(0.0, deadline - running.asked))


def restored(
    *, kind: StopKind, reason: str, by: str, grace_s: float, asked_at: float, deadline: float, now: float
) -> Ladder:
    """The ladder that an older daemon had begun, by what the job was told: what is left of its grace counts."""
    asked = deadline - grace_s
    return Ladder(
        kind=kind,
        reason=reason,
        by=by,
        grace_s=grace_s,
        asked=asked,
        asked_at=asked_at,
        flag=asked,
        sigterm=asked if grace_s > 0 else None,
        terms=1,
        last=now,
    )


def stage(ladder: Ladder, told: Stage | None) -> Stage:
    """What ended the job. `told`: what the job itself said of it in its outcome, None where it could not."""
    if ladder.sigkill is not None:
        return Stage.SIGKILL
    return told or Stage.SIGTERM
