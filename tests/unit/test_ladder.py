"""The ladder: whatever happens in whatever order, it comes to SIGKILL at its deadline, not before, and never spins."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annul.cancel import Ladder, Seen, Step, climb, due, restored, stage, take_over
from annul.lifecycle import StopKind
from annul_client.wire import Stage

HAIR = 1e-9  # what adding and subtracting seconds may be off by

ALIVE = Seen(leader_alive=True, unwound=False)
UNWOUND = Seen(leader_alive=True, unwound=True)
LEADER_GONE = Seen(leader_alive=False, unwound=False)
COMMAND = Seen(leader_alive=True, unwound=False, repeat_term=False)


def ladder(grace_s: float, *, asked: float = 100.0, kind: StopKind = StopKind.CANCEL, reason: str = "") -> Ladder:
    return Ladder(kind=kind, reason=reason, by="", grace_s=grace_s, asked=asked, asked_at=0.0)


class Climber:
    """A ladder, a clock that only the test moves, and what was done at what time."""

    def __init__(self, start: Ladder, seen: Seen = ALIVE) -> None:
        self.ladder = start
        self.seen = seen
        self.now = start.asked
        self.deadline = start.deadline  # as the test understands it: the earliest that was ever promised
        self.did: list[tuple[float, Step]] = []
        self.climb()

    def climb(self) -> None:
        """As the loop does: until nothing more is due."""
        for _ in range(4):
            self.ladder, step = climb(self.ladder, self.seen, self.now)
            if step is None:
                return
            self.did.append((self.now, step))
        raise AssertionError(f"it does not come to rest: {self.did[-4:]}")

    def wait(self, seconds: float) -> None:
        """Time passes; the loop wakes up in between whenever something is due, and only then."""
        end = self.now + seconds
        while (at := due(self.ladder, self.seen)) <= end:
            assert at > self.now, "something was due, but was not done"
            self.now = at
            before = len(self.did)
            self.climb()
            assert len(self.did) > before, "woken up for nothing"
        self.now = end

    def oversleep(self, seconds: float) -> None:
        """The loop was busy: time has passed, and only now does it look."""
        self.now += seconds
        self.climb()

    def see(self, seen: Seen) -> None:
        self.seen = seen
        self.climb()

    def ask(self, kind: StopKind, grace_s: float) -> None:
        asked = ladder(grace_s, asked=self.now, kind=kind)
        self.deadline = min(self.deadline, asked.deadline)
        self.ladder = take_over(self.ladder, asked)
        self.climb()

    def times(self, step: Step) -> list[float]:
        return [at for at, one in self.did if one is step]


moves = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 4)),
    st.tuples(st.just("oversleep"), st.floats(0, 4)),
    st.tuples(st.just("unwound")),
    st.tuples(st.just("leader ends")),
    st.tuples(st.just("ask"), st.sampled_from(StopKind), st.sampled_from([0.0, 0.25, 1.0, 3.0, 60.0])),
)


@settings(max_examples=300, deadline=None)
@given(
    grace_s=st.sampled_from([0.0, 0.01, 0.5, 2.0, 5.0]),
    kind=st.sampled_from(StopKind),
    repeat=st.booleans(),
    script=st.lists(moves, max_size=12),
)
def test_any_order_of_events_ends_in_sigkill_at_the_deadline(
    grace_s: float, kind: StopKind, repeat: bool, script: list[tuple[object, ...]]
) -> None:
    """SIGKILL never comes before the deadline and always when the loop first looks after it; nothing delays it."""
    seen = Seen(leader_alive=True, unwound=False, repeat_term=repeat)
    climber = Climber(ladder(grace_s, kind=kind), seen)
    kinds = [kind]
    for name, *values in script:
        before, deadline = len(climber.did), climber.ladder.deadline
        match name, values:
            case "wait", [float(seconds)]:
                climber.wait(seconds)
            case "oversleep", [float(seconds)]:
                climber.oversleep(seconds)
            case "unwound", []:
                climber.see(msgspec.structs.replace(climber.seen, unwound=True))
            case "leader ends", []:
                climber.see(msgspec.structs.replace(climber.seen, leader_alive=False))
            case "ask", [StopKind() as asked, float(grace)]:
                climber.ask(asked, grace)
                kinds.append(asked)
                assert climber.ladder.deadline <= max(deadline, climber.now) + HAIR
        new = {step for _, step in climber.did[before:]}
        if Step.TERM_LEADER in new:
            assert climber.seen.leader_alive
            assert repeat
            assert name == "wait" or not climber.seen.unwound
        assert due(climber.ladder, climber.seen) > climber.now, "the loop would spin"
        kills = climber.times(Step.KILL)
        assert all(at >= climber.deadline - HAIR for at in kills[:1])
        assert kills or climber.now < climber.deadline + HAIR
    assert climber.did[0][1] is Step.BEGIN
    assert len(climber.times(Step.BEGIN)) == 1
    assert len(climber.times(Step.TERM_SURVIVORS)) <= 1
    assert climber.ladder.kind is min(kinds, key=list(StopKind).index)
    first_kill = next((n for n, (_, step) in enumerate(climber.did) if step is Step.KILL), len(climber.did))
    assert {step for _, step in climber.did[first_kill:]} <= {Step.KILL}
    # Left alone, it gets there by itself.
    climber.wait(max(0.0, climber.deadline + 1.0 - climber.now))
    assert climber.times(Step.KILL)


def test_nothing_is_climbed_before_it_is_asked_for_and_the_first_rung_is_due_at_once() -> None:
    """A ladder begins when it is asked for."""
    fresh = ladder(5.0)
    assert due(fresh, ALIVE) == fresh.asked
    climbed, step = climb(fresh, ALIVE, fresh.asked)
    assert step is Step.BEGIN
    assert (climbed.flag, climbed.terms) == (fresh.asked, 1)


def test_a_grace_of_0_sets_the_flag_for_the_record_and_kills_in_the_same_breath() -> None:
    """No SIGTERM is sent where no time is given to react to it."""
    climber = Climber(ladder(0.0))
    assert climber.did == [(100.0, Step.BEGIN), (100.0, Step.KILL)]
    assert climber.ladder.flag == 100.0
    assert climber.ladder.terms == 0


RUNNING = Seen(leader_alive=True, unwound=False, can_dump=True)


@pytest.mark.parametrize(("grace_s", "before_s"), [(5.0, 0.1), (0.4, 0.1), (0.2, 0.05), (0.004, 0.001)])
def test_the_stacks_are_asked_for_once_shortly_before_the_deadline(grace_s: float, before_s: float) -> None:
    """So that SIGKILL comes on time, however long the answer takes."""
    climber = Climber(ladder(grace_s), RUNNING)
    climber.wait(grace_s + 0.001)
    assert climber.times(Step.DUMP) == pytest.approx([climber.deadline - before_s])
    assert climber.times(Step.KILL)[0] == pytest.approx(climber.deadline)


@pytest.mark.parametrize("seen", [ALIVE, UNWOUND, LEADER_GONE, COMMAND])
def test_who_runs_no_python_is_not_asked_for_its_stacks(seen: Seen) -> None:
    """Neither is a leader that has ended."""
    climber = Climber(ladder(1.0), seen)
    climber.wait(2.0)
    assert climber.times(Step.DUMP) == []


def test_sigterm_is_repeated_on_time_also_where_the_stacks_are_asked_for() -> None:
    """That is no rung of the ladder: everything else stays where it was."""
    with_dump, without = Climber(ladder(3.0), RUNNING), Climber(ladder(3.0))
    with_dump.wait(3.5)
    without.wait(3.5)
    assert [one for one in with_dump.did if one[1] is not Step.DUMP] == without.did


def test_a_grace_that_is_cut_short_is_not_spent_on_the_stacks() -> None:
    """Where the deadline has come, they are not asked for any more."""
    climber = Climber(ladder(5.0), RUNNING)
    climber.wait(1.0)
    climber.ladder = take_over(climber.ladder, ladder(0.0))
    climber.climb()
    assert (climber.times(Step.DUMP), climber.times(Step.KILL)) == ([], [climber.now])


@pytest.mark.parametrize("seen", [ALIVE, UNWOUND, LEADER_GONE, COMMAND])
def test_a_grace_of_0_kills_whatever_is_seen_of_the_job(seen: Seen) -> None:
    """Straight to SIGKILL also for commands, and for what a leader left behind."""
    assert Climber(ladder(0.0), seen).did[-1] == (100.0, Step.KILL)


def test_sigterm_is_repeated_ever_less_often_until_the_deadline() -> None:
    """A SIGTERM can be lost, so a leader that does not unwind gets it again."""
    climber = Climber(ladder(3.0))
    climber.wait(2.9)
    again = [at - 100.0 for at in climber.times(Step.TERM_LEADER)]
    assert again[:5] == pytest.approx([0.02, 0.07, 0.17, 0.37, 0.87])
    gaps = [b - a for a, b in itertools.pairwise(again)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(0.5)
    assert climber.ladder.terms == 1 + len(again)


@pytest.mark.parametrize("seen", [UNWOUND, COMMAND])
def test_no_second_sigterm_where_it_was_noticed_or_would_be_misunderstood(seen: Seen) -> None:
    """A job that unwinds, and a command (to which a second one may mean "at once"), are left to finish."""
    climber = Climber(ladder(3.0), seen)
    assert due(climber.ladder, seen) == 103.0
    climber.wait(2.9)
    assert climber.did == [(100.0, Step.BEGIN)]


def test_a_job_that_unwinds_gets_no_further_sigterm() -> None:
    """From the moment the cancel has come out of the job's function it is only waited for."""
    climber = Climber(ladder(3.0))
    climber.wait(0.3)
    sent = len(climber.did)
    climber.see(UNWOUND)
    climber.wait(2.6)
    assert len(climber.did) == sent


@pytest.mark.parametrize("repeat_term", [True, False])
def test_what_the_leader_leaves_behind_is_told_once_and_at_once(repeat_term: bool) -> None:
    """Survivors of a leader get their SIGTERM when it ends; the deadline stays."""
    climber = Climber(ladder(3.0), Seen(leader_alive=True, unwound=False, repeat_term=repeat_term))
    climber.wait(1.001)
    climber.see(Seen(leader_alive=False, unwound=False, repeat_term=repeat_term))
    assert climber.did[-1] == (101.001, Step.TERM_SURVIVORS)
    climber.wait(1.9)
    assert len(climber.times(Step.TERM_SURVIVORS)) == 1
    assert due(climber.ladder, climber.seen) == 103.0


def test_sigkill_backs_off_to_32_seconds_and_calls_the_job_stuck_on_the_way() -> None:
    """What the kernel does not end is asked ever less often, for ever, and is said to be stuck (C4)."""
    climber = Climber(ladder(0.0))
    stuck_after = 0
    while len(climber.times(Step.KILL)) < 20:
        climber.wait(due(climber.ladder, climber.seen) - climber.now)
        stuck_after = stuck_after or (len(climber.times(Step.KILL)) if climber.ladder.stuck else 0)
    kills = climber.times(Step.KILL)
    gaps = [b - a for a, b in itertools.pairwise(kills)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(32.0)
    assert gaps[-2] == pytest.approx(32.0)
    assert 1 < stuck_after < 20
    assert 0.5 < kills[stuck_after - 1] - kills[0] < 2.0
    assert climber.ladder.sigkill == kills[0]


def test_a_repeated_cancel_may_shorten_the_grace_and_never_lengthens_it() -> None:
    """The earliest deadline ever given counts (C5)."""
    climber = Climber(ladder(10.0))
    climber.wait(1.0)
    climber.ask(StopKind.CANCEL, 60.0)
    assert climber.ladder.deadline == 110.0
    climber.ask(StopKind.CANCEL, 2.0)
    assert climber.ladder.deadline == pytest.approx(103.0)
    climber.ask(StopKind.CANCEL, 5.0)
    assert climber.ladder.deadline == pytest.approx(103.0)
    assert len(climber.times(Step.BEGIN)) == 1


def test_a_repeated_cancel_with_a_grace_of_0_kills_now() -> None:
    """The impatient get what they ask for."""
    climber = Climber(ladder(10.0), UNWOUND)
    climber.wait(1.0)
    climber.ask(StopKind.CANCEL, 0.0)
    assert climber.did[-1] == (101.0, Step.KILL)


def test_a_cancel_takes_over_a_ladder_that_runs_for_another_reason() -> None:
    """The stronger reason and its words count from then on; what was done already is not done again (C2)."""
    climber = Climber(ladder(10.0, kind=StopKind.SHUTDOWN))
    climber.wait(1.0)
    asked = ladder(60.0, asked=climber.now, reason="changed my mind")
    taken = take_over(climber.ladder, asked)
    assert (taken.kind, taken.reason, taken.asked) == (StopKind.CANCEL, "changed my mind", climber.now)
    assert taken.deadline == pytest.approx(110.0)
    assert (taken.flag, taken.terms) == (climber.ladder.flag, climber.ladder.terms)


@pytest.mark.parametrize("kind", [StopKind.TIMEOUT, StopKind.SHUTDOWN])
def test_a_weaker_reason_never_replaces_a_users_cancel(kind: StopKind) -> None:
    """A job being cancelled stays cancelled by the user who did it, whatever else happens to it."""
    running = Climber(ladder(10.0, reason="mine")).ladder
    taken = take_over(running, ladder(1.0, asked=105.0, kind=kind, reason="annul's"))
    assert (taken.kind, taken.reason, taken.asked) == (StopKind.CANCEL, "mine", 100.0)


def test_a_cancel_after_sigkill_does_not_stop_the_killing() -> None:
    """The kernel is asked again as before, for the stronger reason."""
    climber = Climber(ladder(0.0, kind=StopKind.TIMEOUT))
    climber.wait(0.5)
    before = len(climber.times(Step.KILL))
    climber.ask(StopKind.CANCEL, 60.0)
    climber.wait(1.0)
    assert len(climber.times(Step.KILL)) > before
    assert {step for _, step in climber.did} == {Step.BEGIN, Step.KILL}


@pytest.mark.parametrize("seen", [ALIVE, UNWOUND, LEADER_GONE, COMMAND])
def test_a_ladder_goes_on_under_the_next_daemon_with_its_deadline(seen: Seen) -> None:
    """It does not begin again, and SIGKILL comes when the job was told it would (C6)."""
    start = restored(kind=StopKind.CANCEL, reason="mine", by="me", grace_s=5.0, asked_at=1e9, deadline=105.0, now=103.0)
    assert (start.asked, start.deadline, start.reason, start.by, start.asked_at) == (100.0, 105.0, "mine", "me", 1e9)
    climber = Climber(start, seen)
    climber.wait(5.1)
    assert Step.BEGIN not in {step for _, step in climber.did}
    assert climber.times(Step.KILL)[0] == 105.0


def test_the_stage_is_sigkill_where_it_came_to_that_else_the_jobs_own_word() -> None:
    """A job that was killed can have said anything before; one that could not say was ended by SIGTERM."""
    gentle = Climber(ladder(10.0)).ladder
    killed = Climber(ladder(0.0)).ladder
    assert stage(gentle, Stage.FLAG) is Stage.FLAG
    assert stage(gentle, None) is Stage.SIGTERM
    assert {stage(killed, told) for told in (None, *Stage)} == {Stage.SIGKILL}
