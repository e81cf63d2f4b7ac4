"""The life of a job: states x events, as one total table. Pure.

`step` decides the next state; `conclude` decides how an attempt ended once no process of it is left. Nothing here
knows of processes, sockets or files: what has to be done is named as an `Action`, and the registry's owner does it.
`take_up`, `untold`, `lost` and `starts_anew` are for what a daemon that died, or a launch that failed, has left.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from annul_client.wire import FINAL_STATES, CancelOutcome, State


class Event(StrEnum):
    """What can happen to a job."""

    ADMITTED = "admitted"  # the scheduler gave it a slot
    RUNNING = "running"  # its process reached the job's first line
    CANCEL = "cancel"  # somebody asked for it to be cancelled
    TIMEOUT = "timeout"  # its time is up
    SHUTDOWN = "shutdown"  # the daemon stops
    GONE = "gone"  # no process of the attempt is left


class Action(StrEnum):
    """What has to be done, once the new state is durable."""

    NOTHING = "nothing"
    LAUNCH = "launch"  # make the process of the next attempt
    STOP = "stop"  # begin the ladder, or let a stronger reason or a shorter grace take over one that runs
    CONCLUDE = "conclude"  # the attempt is over: `conclude` tells the state


class StopKind(StrEnum):
    """Why a job is being stopped; the first is the strongest."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    ORPHANED = "orphaned"  # no daemon has come back for it

    def outranks(self, other: StopKind) -> bool:
        order = list(StopKind)
        return order.index(self) < order.index(other)


class Verdict(StrEnum):
    """How the job itself ended, by the outcome it wrote."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the cancel came out of its function
    NONE = "none"  # it wrote none: crashed, killed, or never began


Q, S, R, X = State.QUEUED, State.STARTING, State.RUNNING, State.CANCELLING
E, A = Event, Action

# Invariant: `cancelling` is entered by a user's cancel only and left for `cancelled` only (C2, C3). A time-out and a
# shutdown run the same ladder with the state as it was; their kind is in the cancel record.
_LIVE: dict[tuple[State, Event], tuple[State, Action]] = {
    (Q, E.ADMITTED): (S, A.LAUNCH),
    (Q, E.RUNNING): (Q, A.NOTHING),
    (Q, E.CANCEL): (State.CANCELLED, A.NOTHING),
    (Q, E.TIMEOUT): (Q, A.NOTHING),
    (Q, E.SHUTDOWN): (Q, A.NOTHING),
    (Q, E.GONE): (Q, A.NOTHING),
    (S, E.ADMITTED): (S, A.NOTHING),
    (S, E.RUNNING): (R, A.NOTHING),
    (S, E.CANCEL): (X, A.STOP),
    (S, E.TIMEOUT): (S, A.STOP),
    (S, E.SHUTDOWN): (S, A.STOP),
    (S, E.GONE): (S, A.CONCLUDE),
    (R, E.ADMITTED): (R, A.NOTHING),
    (R, E.RUNNING): (R, A.NOTHING),
    (R, E.CANCEL): (X, A.STOP),
    (R, E.TIMEOUT): (R, A.STOP),
    (R, E.SHUTDOWN): (R, A.STOP),
    (R, E.GONE): (R, A.CONCLUDE),
    (X, E.ADMITTED): (X, A.NOTHING),
    (X, E.RUNNING): (X, A.NOTHING),
    (X, E.CANCEL): (X, A.STOP),
    (X, E.TIMEOUT): (X, A.NOTHING),
    (X, E.SHUTDOWN): (X, A.NOTHING),
    (X, E.GONE): (X, A.CONCLUDE),
}

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    **_LIVE,
    # What is final stays as it is, whatever still arrives.
    **{(state, event): (state, A.NOTHING) for state in FINAL_STATES for event in Event},
}


def step(state: State, event: Event) -> tuple[State, Action]:
    """The next state and what to do. Total: every pair is decided."""
    return TABLE[state, event]


def answer_to_cancel(before: State) -> CancelOutcome:
    """What a cancel is answered, by the state it found (C5)."""
    if before is State.QUEUED:
        return CancelOutcome.CANCELLED_BEFORE_START
    return CancelOutcome.ALREADY_FINAL if before in FINAL_STATES else CancelOutcome.CANCELLING


class Conclusion(msgspec.Struct, frozen=True):
    """How an attempt ended."""

    state: State  # QUEUED: another attempt follows
    publish: bool = False  # its staged outputs become the user's
    retry: bool = False  # after a while
    code: str = ""  # of the error, where annul and not the job gives it
    late_result: bool = False  # it had a result, which does not count any more


def conclude(stop: StopKind | None, verdict: Verdict, *, queue_again: bool, unseen: bool = False) -> Conclusion:
    """How an attempt ended whose last process is gone.

    `stop`: the strongest reason it was being stopped for, None where it ended by itself. `queue_again`: what the
    type says of a shutdown. `unseen`: no daemon ran when it ended.
    """
    late = verdict is Verdict.COMPLETED
    if stop is StopKind.CANCEL:
        return Conclusion(State.CANCELLED, late_result=late)
    if stop is StopKind.TIMEOUT:
        return Conclusion(State.FAILED, code="timeout", late_result=late)
    if verdict is Verdict.COMPLETED:
        return Conclusion(State.COMPLETED, publish=True)
    if verdict is Verdict.FAILED:
        return Conclusion(State.FAILED)
    if stop is StopKind.SHUTDOWN:
        return Conclusion(State.QUEUED if queue_again else State.CANCELLED)
    if stop is StopKind.ORPHANED:
        return Conclusion(State.FAILED, code="orphaned")
    if verdict is Verdict.CANCELLED:
        return Conclusion(State.FAILED, code="terminated")  # a SIGTERM that annul did not send
    return Conclusion(State.FAILED, code="lost" if unseen else "crashed")


RETRYABLE = frozenset({"lost", "orphaned", "launch_failed"})  # failures of annul's that may pass
RETRY_MAX_S = 3600.0


def retried(ended: Conclusion, *, retryable: bool, failures: int, retries: int) -> Conclusion:
    """That conclusion, or another attempt. `retryable`: the failure may pass. `failures`: those before this one."""
    if ended.state is State.FAILED and retryable and failures < retries:
        return Conclusion(State.QUEUED, retry=True, code=ended.code)
    return ended


def retry_delay_s(failures: int, first_s: float, chance: float) -> float:
    """Before the next attempt: doubled each time, an hour at most, less up to half by chance (0 to 1), so that what
    failed together is not tried again together. `failures`: how many there were, this one included.
    """
    whole = min(RETRY_MAX_S, first_s * 2.0 ** min(failures - 1, 60))
    return float(whole * (1.0 - chance / 2.0))


# --- after a daemon that died, or a launch that failed --------------------------------------------------------------

LAUNCHES = 3  # tries at making its process, before a job fails


class Leader(StrEnum):
    """What is known of the process that runs an attempt."""

    ALIVE = "alive"
    ENDED = "ended"  # it registered in this boot, and is gone; others of its tree may live
    NONE = "none"  # none has registered in this boot


class TakeUp(StrEnum):
    """What a new daemon does about an attempt that an older one began."""

    ADOPT = "adopt"  # it runs on: watch it
    LOOK = "look"  # look at the tree, and conclude once nobody is left
    GIVE_UP = "give_up"  # it was being launched: see to it that no code of the user's ever runs, then start it anew


def take_up(leader: Leader, *, given_up: bool) -> TakeUp:
    """What to do about an unfinished attempt that has a board. `given_up`: says that."""
    if given_up or leader is Leader.NONE:
        return TakeUp.GIVE_UP
    return TakeUp.ADOPT if leader is Leader.ALIVE else TakeUp.LOOK


def untold(state: State, told: StopKind | None) -> bool:
    """Whether a cancel was committed that the job was never told of. `told`: why it is to stop, by its board."""
    return state is State.CANCELLING and told is not StopKind.CANCEL


def lost(state: State) -> Conclusion:
    """How an attempt without a board ended: after a reboot, or where its board was deleted before it registered.

    Its outcome does not count, though there may be one: the board may have held a cancel that the store had refused.
    """
    if state is State.CANCELLING:
        return Conclusion(State.CANCELLED)
    if state is State.STARTING:
        return Conclusion(State.QUEUED)
    return Conclusion(State.FAILED, code="lost")


def starts_anew(stop: StopKind | None, failed_launches: int) -> bool:
    """Whether a job whose launch was given up is queued again, and not concluded."""
    return stop is None and failed_launches < LAUNCHES
