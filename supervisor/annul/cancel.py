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
# Between the deadline and SIGKILL: the stacks are looked for this often, until they grow no more, but not for longer.
_DUMP_LOOK_S = 0.002
_DUMP_MAX_S = 0.1
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
    stacks: int = 0  # bytes of them at the last look
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
    def dumped_by(self) -> float:
        """When the stacks are waited for no longer."""
        return self.deadline if self.dumped is None else self.dumped + _DUMP_MAX_S


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the job at this moment."""

    leader_alive: bool
    unwound: bool  # the cancel has come out of the job's function: no further SIGTERM is needed
    can_dump: bool = False  # its leader runs Python code of the job's
    stacks: int = 0  # bytes of its stacks that are written, once they were asked for
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
        if seen.can_dump and seen.leader_alive and ladder.dumped is None and ladder.grace_s > 0 and not ladder.kills:
            return msgspec.structs.replace(ladder, dumped=now, last=now), Step.DUMP
        if _being_dumped(ladder, seen) and now < ladder.dumped_by:
            return msgspec.structs.replace(ladder, stacks=seen.stacks, last=now), None
        return (
            msgspec.structs.replace(
                ladder,
                sigkill=now if ladder.sigkill is None else ladder.sigkill,
                kills=ladder.kills + 1,
                last=now,
                stuck=ladder.kills >= len(_KILL_AGAIN_S),
            ),
            Step.KILL,
        )
    if not seen.leader_alive:
        return msgspec.structs.replace(ladder, survivors_told=True, last=now), Step.TERM_SURVIVORS
    return msgspec.structs.replace(ladder, terms=ladder.terms + 1, last=now), Step.TERM_LEADER


def due(ladder: Ladder, seen: Seen) -> float:
    """When `climb` has something to do next."""
    return ladder.asked if ladder.flag is None else _next(ladder, seen)


def _next(ladder: Ladder, seen: Seen) -> float:
    if ladder.kills:
        waits = _KILL_AGAIN_S + _STUCK_AGAIN_S
        return ladder.last + waits[min(ladder.kills, len(waits)) - 1]
    if ladder.dumped is not None:
        return min(ladder.last + _DUMP_LOOK_S, ladder.dumped_by) if seen.leader_alive else ladder.last
    if not seen.leader_alive:
        return ladder.deadline if ladder.survivors_told else ladder.last
    if seen.unwound or not seen.repeat_term:
        return ladder.deadline
    return min(ladder.deadline, ladder.last + _TERM_AGAIN_S[min(ladder.terms, len(_TERM_AGAIN_S)) - 1])


def _being_dumped(ladder: Ladder, seen: Seen) -> bool:
    """Whether the stacks were asked for, and are not all there yet. A job may be given the processor late."""
    waiting = ladder.dumped is not None and not ladder.kills and seen.leader_alive
    return waiting and (seen.stacks == 0 or seen.stacks != ladder.stacks)


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


def stage(ladder: Ladder, told: Stage | None) -> Stage:
    """What ended the job. `told`: what the job itself said of it in its outcome, None where it could not."""
    if ladder.sigkill is not None:
        return Stage.SIGKILL
    return told or Stage.SIGTERM
