"""The life of a job: every state, every event, every way to end."""

from __future__ import annotations

import itertools

import pytest

from annul.lifecycle import (
    LAUNCHES,
    RETRYABLE,
    Action,
    Event,
    Leader,
    StopKind,
    TakeUp,
    Verdict,
    answer_to_cancel,
    conclude,
    lost,
    retried,
    retry_delay_s,
    starts_anew,
    step,
    take_up,
    untold,
)
from annul_client.wire import FINAL_STATES, CancelOutcome, State

PAIRS = list(itertools.product(State, Event))
LIVE = [state for state in State if state not in FINAL_STATES]
WITH_A_SLOT = [State.STARTING, State.RUNNING, State.CANCELLING]
ENDINGS = list(itertools.product([None, *StopKind], Verdict, [True, False]))


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_event_is_decided_in_every_state(state: State, event: Event) -> None:
    """There is no pair for which the next state and the action are not known."""
    after, action = step(state, event)
    assert after in State
    assert action in Action


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair[0] in FINAL_STATES])
def test_a_final_state_is_never_left(state: State, event: Event) -> None:
    """What is final stays as it is, and nothing is done about it."""
    assert step(state, event) == (state, Action.NOTHING)


def test_cancelling_is_entered_by_a_cancel_only() -> None:
    """A time-out or a shutdown never looks like a user's cancel (C2)."""
    entered = {
        event for state, event in PAIRS if state is not State.CANCELLING and step(state, event)[0] == "cancelling"
    }
    assert entered == {Event.CANCEL}


def test_cancelling_is_left_only_when_the_last_process_is_gone() -> None:
    """Of all that can happen to a job being cancelled, only GONE concludes it (C3)."""
    assert {event for event in Event if step(State.CANCELLING, event)[1] is Action.CONCLUDE} == {Event.GONE}
    assert {step(State.CANCELLING, event)[0] for event in Event} == {State.CANCELLING}


@pytest.mark.parametrize("state", LIVE)
def test_a_cancel_is_never_ignored(state: State) -> None:
    """A live job that is cancelled is cancelled at once or is being stopped."""
    after, action = step(state, Event.CANCEL)
    assert (after, action) in {(State.CANCELLED, Action.NOTHING), (State.CANCELLING, Action.STOP)}
    assert (after is State.CANCELLED) == (state is State.QUEUED)


@pytest.mark.parametrize("event", Event)
def test_a_queued_job_is_left_alone_by_all_but_a_slot_and_a_cancel(event: Event) -> None:
    """Without a process there is nothing to time out, shut down or be gone."""
    changed = {Event.ADMITTED: (State.STARTING, Action.LAUNCH), Event.CANCEL: (State.CANCELLED, Action.NOTHING)}
    assert step(State.QUEUED, event) == changed.get(event, (State.QUEUED, Action.NOTHING))


@pytest.mark.parametrize("state", WITH_A_SLOT)
def test_the_end_of_the_last_process_is_concluded_in_every_state_that_holds_a_slot(state: State) -> None:
    """A slot is never lost to a job that has ended."""
    assert step(state, Event.GONE)[1] is Action.CONCLUDE


@pytest.mark.parametrize("event", [Event.TIMEOUT, Event.SHUTDOWN])
def test_annuls_own_stops_keep_the_state_and_never_weaken_a_cancel(event: Event) -> None:
    """A time-out and a shutdown run the ladder in the state as it is; a job being cancelled is stopping already."""
    assert step(State.STARTING, event) == (State.STARTING, Action.STOP)
    assert step(State.RUNNING, event) == (State.RUNNING, Action.STOP)
    assert step(State.CANCELLING, event) == (State.CANCELLING, Action.NOTHING)


def test_only_a_first_line_makes_a_job_running() -> None:
    """`running` is entered from `starting`, by the job's own word."""
    assert [pair for pair in PAIRS if pair[0] != "running" and step(*pair)[0] == "running"] == [
        (State.STARTING, Event.RUNNING)
    ]


@pytest.mark.parametrize("state", State)
def test_the_answer_to_a_cancel_tells_what_it_found(state: State) -> None:
    """`cancelled_before_start`, `cancelling` or `already_final`, by the state before it (C5)."""
    expected = {State.QUEUED: CancelOutcome.CANCELLED_BEFORE_START} | dict.fromkeys(
        FINAL_STATES, CancelOutcome.ALREADY_FINAL
    )
    assert answer_to_cancel(state) is expected.get(state, CancelOutcome.CANCELLING)


def test_a_users_cancel_outranks_a_time_out_outranks_a_shutdown() -> None:
    """The order of reasons is total and strict."""
    pairs = [(a, b) for a, b in itertools.product(StopKind, StopKind) if a.outranks(b)]
    assert pairs == list(
        itertools.combinations([StopKind.CANCEL, StopKind.TIMEOUT, StopKind.SHUTDOWN, StopKind.ORPHANED], 2)
    )


# What `conclude` says: (state, code) for each verdict, by why the attempt was stopped. Q: queued again, or cancelled.
_Q = "queued or cancelled"
TABLE = {
    None: {
        Verdict.COMPLETED: ("completed", ""),
        Verdict.FAILED: ("failed", ""),
        Verdict.CANCELLED: ("failed", "terminated"),
        Verdict.NONE: ("failed", "crashed"),
    },
    StopKind.CANCEL: dict.fromkeys(Verdict, ("cancelled", "")),
    StopKind.TIMEOUT: dict.fromkeys(Verdict, ("failed", "timeout")),
    StopKind.SHUTDOWN: {
        Verdict.COMPLETED: ("completed", ""),
        Verdict.FAILED: ("failed", ""),
        Verdict.CANCELLED: (_Q, ""),
        Verdict.NONE: (_Q, ""),
    },
    StopKind.ORPHANED: {
        Verdict.COMPLETED: ("completed", ""),
        Verdict.FAILED: ("failed", ""),
        Verdict.CANCELLED: ("failed", "orphaned"),
        Verdict.NONE: ("failed", "orphaned"),
    },
}


@pytest.mark.parametrize(("stop", "verdict", "queue_again"), ENDINGS)
def test_how_an_attempt_ends(stop: StopKind | None, verdict: Verdict, queue_again: bool) -> None:
    """Each pair of a reason to stop and the job's own word has its one conclusion."""
    state, code = TABLE[stop][verdict]
    found = conclude(stop, verdict, queue_again=queue_again)
    assert found.state == (("queued" if queue_again else "cancelled") if state == _Q else state)
    assert found.code == code


@pytest.mark.parametrize(("stop", "verdict", "queue_again"), ENDINGS)
def test_outputs_are_published_with_completed_and_with_nothing_else(
    stop: StopKind | None, verdict: Verdict, queue_again: bool
) -> None:
    """A cancelled or failed job leaves no file (C9)."""
    found = conclude(stop, verdict, queue_again=queue_again)
    assert found.publish == (found.state is State.COMPLETED)


@pytest.mark.parametrize(("stop", "verdict", "queue_again"), ENDINGS)
def test_a_result_that_does_not_count_is_noted_as_late(
    stop: StopKind | None, verdict: Verdict, queue_again: bool
) -> None:
    """A result after a cancel or a time-out is evidence, never the state (C2)."""
    found = conclude(stop, verdict, queue_again=queue_again)
    assert found.late_result == (verdict is Verdict.COMPLETED and found.state is not State.COMPLETED)


@pytest.mark.parametrize(("stop", "verdict", "queue_again"), ENDINGS)
def test_an_attempt_ends_final_or_queued_again(stop: StopKind | None, verdict: Verdict, queue_again: bool) -> None:
    """Nothing is concluded into a state that needs a process; only a shutdown queues again, where the type says so."""
    found = conclude(stop, verdict, queue_again=queue_again)
    assert found.state.final or (found.state is State.QUEUED and stop is StopKind.SHUTDOWN and queue_again)


# --- after a daemon that died, or a launch that failed --------------------------------------------------------------


@pytest.mark.parametrize("leader", Leader)
def test_what_was_given_up_stays_given_up(leader: Leader) -> None:
    """A process that came up meanwhile has seen the flag, or will: its job starts anew (C6)."""
    assert take_up(leader, given_up=True) is TakeUp.GIVE_UP


def test_an_attempt_is_taken_up_by_what_is_known_of_its_leader() -> None:
    """Adopted alive; looked at where it has ended, as others may live; given up where none has registered."""
    found = {leader: take_up(leader, given_up=False) for leader in Leader}
    assert found == {Leader.ALIVE: TakeUp.ADOPT, Leader.ENDED: TakeUp.LOOK, Leader.NONE: TakeUp.GIVE_UP}


@pytest.mark.parametrize("told", [None, *StopKind])
@pytest.mark.parametrize("state", WITH_A_SLOT)
def test_a_committed_cancel_is_told_unless_it_was(state: State, told: StopKind | None) -> None:
    """A board that tells of a time-out does not tell of the cancel that took over (C2)."""
    assert untold(state, told) == (state is State.CANCELLING and told is not StopKind.CANCEL)


def test_what_only_the_store_knows_of_is_never_completed_and_a_cancel_stands() -> None:
    """What was about to start starts; what ran is said to be lost (C2, C6)."""
    found = {state: (lost(state).state, lost(state).publish) for state in WITH_A_SLOT}
    assert found == {
        State.STARTING: (State.QUEUED, False),
        State.RUNNING: (State.FAILED, False),
        State.CANCELLING: (State.CANCELLED, False),
    }
    assert lost(State.RUNNING).code == "lost"


@pytest.mark.parametrize("stop", [None, *StopKind])
def test_a_launch_that_failed_is_tried_again_a_few_times_unless_the_job_is_to_stop(stop: StopKind | None) -> None:
    """A job that is being stopped is concluded, not started again."""
    assert [starts_anew(stop, tries) for tries in (1, LAUNCHES - 1, LAUNCHES)] == [stop is None, stop is None, False]


@pytest.mark.parametrize(("stop", "verdict", "queue_again"), ENDINGS)
def test_only_failures_that_may_pass_are_tried_again(
    stop: StopKind | None, verdict: Verdict, queue_again: bool
) -> None:
    """As often as the type says; neither what is cancelled nor what is complete."""
    ended = conclude(stop, verdict, queue_again=queue_again)
    again = retried(ended, retryable=True, failures=1, retries=2)
    assert again.retry is (ended.state is State.FAILED)
    assert again.state is (State.QUEUED if again.retry else ended.state)
    assert retried(ended, retryable=False, failures=0, retries=2) == ended
    assert retried(ended, retryable=True, failures=2, retries=2) == ended


def test_an_end_without_a_word_that_nobody_saw_is_a_loss() -> None:
    """Such a job may be tried again: perhaps it has done nothing wrong."""
    assert conclude(None, Verdict.NONE, queue_again=True, unseen=True).code == "lost"
    assert {"lost", "orphaned", "launch_failed"} == RETRYABLE


def test_the_delay_doubles_up_to_an_hour_less_up_to_half_by_chance() -> None:
    """So that what failed together is not tried again together."""
    assert [retry_delay_s(n, 1.0, 0.0) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert [retry_delay_s(n, 1.0, 1.0) for n in (1, 2)] == [0.5, 1.0]
    assert retry_delay_s(50, 1.0, 0.0) == retry_delay_s(10_000, 1.0, 0.0) == 3600.0
