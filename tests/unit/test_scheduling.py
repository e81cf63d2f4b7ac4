"""Who starts next: against a model that is too simple to be wrong, and at a size where walking the queue would show."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from annul import scheduling
from annul.scheduling import Entry, Limits, Queue, Running

FREE = Limits(total=1_000_000)


def entry(seq: int, user: str = "ann", type_: str = "t", priority: int = 0, not_before: float | None = None) -> Entry:
    return Entry(seq, f"j{seq}", user, type_, priority, not_before)


def filled(*entries: Entry, wall: float = 0.0) -> Queue:
    queue = Queue()
    for one in entries:
        queue.add(one, wall)
    return queue


def drain(queue: Queue, running: Running | None = None, limits: Limits = FREE, wall: float = 0.0) -> list[str]:
    """Admit, as the daemon does, until nothing more may start."""
    running = running or Running()
    found = []
    while (one := queue.admit(running, limits, wall)) is not None:
        running.add(one.user, one.type)
        found.append(one.id)
    return found


def test_the_higher_priority_goes_first() -> None:
    """Priority is above everything else, also below zero."""
    assert drain(filled(entry(1, priority=-5), entry(2), entry(3, priority=7))) == ["j3", "j2", "j1"]


def test_users_take_turns() -> None:
    """Who submits a hundred jobs does not keep another waiting for all of them."""
    queue = filled(*(entry(n, "ann") for n in range(1, 4)), *(entry(n, "bob") for n in range(4, 7)), entry(7, "cy"))
    assert drain(queue) == ["j1", "j4", "j7", "j2", "j5", "j3", "j6"]


def test_a_user_goes_to_the_end_after_each_turn() -> None:
    """Somebody new is served before somebody who was just served."""
    queue = filled(entry(1, "ann"), entry(2, "ann"))
    running = Running()
    assert queue.admit(running, FREE, 0.0) == entry(1, "ann")
    queue.add(entry(3, "bob"), 0.0)
    assert drain(queue) == ["j2", "j3"]
    queue = filled(entry(1, "ann"), entry(2, "ann"), entry(3, "bob"), entry(4, "bob"))
    assert queue.admit(running, FREE, 0.0) == entry(1, "ann")
    queue.add(entry(5, "cy"), 0.0)
    assert drain(queue) == ["j3", "j2", "j5", "j4"]


def test_of_one_user_and_priority_it_is_first_in_first_out_whatever_the_types() -> None:
    """Keeping a line for each type does not change the order of submission."""
    queue = filled(*(entry(n, type_="abc"[n % 3]) for n in range(1, 10)))
    assert drain(queue) == [f"j{n}" for n in range(1, 10)]


def test_a_type_at_its_limit_blocks_its_own_line_only() -> None:
    """Blocked heads are skipped, and keep their place."""
    queue = filled(entry(1, type_="slow"), entry(2, type_="slow"), entry(3, type_="quick"))
    running = Running()
    limits = Limits(total=10, per_type={"slow": 1})
    assert drain(queue, running, limits) == ["j1", "j3"]
    running.remove("ann", "slow")
    queue.add(entry(4, type_="slow"), 0.0)
    assert drain(queue, running, limits) == ["j2"]


def test_a_user_at_the_limit_blocks_nobody_else_also_of_a_lower_priority() -> None:
    """A slot that one user may not have goes to the next."""
    queue = filled(entry(1, "ann", priority=5), entry(2, "ann", priority=5), entry(3, "bob"))
    assert drain(queue, limits=Limits(total=10, per_user=1)) == ["j1", "j3"]


def test_a_delayed_job_waits_for_its_time_and_then_has_its_place_by_submission() -> None:
    """`not_before` is when it lines up; it is served as if it had stood there from the start."""
    queue = filled(entry(1, not_before=50.0), entry(2), entry(3))
    assert queue.next_due() == 50.0
    assert queue.admit(Running(), FREE, 49.9) == entry(2)
    assert drain(queue, wall=50.0) == ["j1", "j3"]
    assert queue.next_due() is None


def test_a_delay_that_has_passed_is_none() -> None:
    """Exactly at its time a job may start."""
    queue = filled(entry(1, not_before=50.0), wall=50.0)
    assert queue.next_due() is None
    assert drain(queue, wall=50.0) == ["j1"]


def test_a_job_that_comes_back_has_its_old_place() -> None:
    """A new attempt does not queue behind what was submitted after it."""
    queue = filled(entry(1), entry(2), entry(3), entry(4))
    assert drain(queue, limits=Limits(total=2)) == ["j1", "j2"]
    queue.add(entry(2), 0.0)
    queue.add(entry(1), 0.0)
    assert drain(queue) == ["j1", "j2", "j3", "j4"]


def test_a_removed_job_is_gone_wherever_it_stood() -> None:
    """Waiting, delayed or absent: removing tells which, and nothing of it is admitted later."""
    queue = filled(entry(1), entry(2, not_before=5.0))
    assert queue.remove("j1") == entry(1)
    assert queue.remove("j2") == entry(2, not_before=5.0)
    assert queue.remove("j2") is None
    assert queue.remove("never") is None
    assert queue.next_due() is None
    assert len(queue) == 0
    assert drain(queue, wall=10.0) == []


def test_a_delayed_job_taken_out_and_put_back_is_there_once() -> None:
    """A cancel that the store refused leaves the queue as it was."""
    queue = filled(entry(1, not_before=5.0))
    back = queue.remove("j1")
    assert back is not None
    queue.add(back, 0.0)
    assert drain(queue, wall=10.0) == ["j1"]
    assert drain(queue, wall=20.0) == []


def test_a_paused_job_is_passed_by_and_then_has_its_old_place() -> None:
    """Also one whose time comes meanwhile: nothing is due for it."""
    queue = filled(entry(1), entry(2, not_before=5.0), entry(3))
    queue.replace("j1", 0.0, paused=True)
    queue.replace("j2", 0.0, paused=True)
    queue.replace("gone", 0.0, paused=True)
    assert (len(queue), queue.paused, queue.next_due()) == (3, 2, None)
    assert drain(queue, wall=10.0) == ["j3"]
    queue.add(entry(4), 10.0)
    queue.replace("j1", 10.0, paused=False)
    queue.replace("j2", 10.0, paused=False, priority=-1)
    assert drain(queue, wall=10.0) == ["j1", "j4", "j2"]


def test_running_counts_down_to_nothing() -> None:
    """What ended leaves no trace in the counters, however many users there have been."""
    running = Running()
    for number in range(100):
        running.add(f"u{number}", "t")
    for number in range(100):
        running.remove(f"u{number}", "t")
    assert (running.total, dict(running.by_user), dict(running.by_type)) == (0, {}, {})


# --- the model ----------------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """The queue beside a plain list, sorted anew each time."""

    USERS = st.sampled_from(["ann", "bob", "cy"])
    TYPES = st.sampled_from(["slow", "quick"])

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.running = Running()
        self.wall = 1000.0
        self.seq = 0
        self.waiting: dict[str, Entry] = {}
        self.lined_up: set[str] = set()
        self.turns: dict[int, list[str]] = {}  # of each priority: users, whose turn is first
        self.slots: list[Entry] = []
        self.limits = Limits(total=3, per_user=2, per_type={"slow": 1})

    def _line_up(self, one: Entry) -> None:
        self.lined_up.add(one.id)
        turns = self.turns.setdefault(one.priority, [])
        if one.user not in turns:
            turns.append(one.user)

    def _forget(self, one: Entry) -> None:
        del self.waiting[one.id]
        self.lined_up.discard(one.id)
        left = {(e.priority, e.user) for e in self.waiting.values() if e.id in self.lined_up}
        for priority, turns in self.turns.items():
            turns[:] = [user for user in turns if (priority, user) in left]

    def _add(self, one: Entry) -> None:
        self.queue.add(one, self.wall)
        self.waiting[one.id] = one
        if one.paused:
            return
        if one.not_before is None or one.not_before <= self.wall:
            self._line_up(one)

    def _delayed(self) -> list[Any]:
        return [e for e in self.waiting.values() if e.id not in self.lined_up and not e.paused]

    def _expected(self) -> Entry | None:
        due = (e for e in self._delayed() if e.not_before <= self.wall)
        for one in sorted(due, key=lambda e: (e.not_before, e.seq)):
            self._line_up(one)
        users, types = Counter(e.user for e in self.slots), Counter(e.type for e in self.slots)
        if len(self.slots) >= self.limits.total:
            return None
        may = [
            e
            for e in self.waiting.values()
            if e.id in self.lined_up
            and (self.limits.per_user is None or users[e.user] < self.limits.per_user)
            and types[e.type] < self.limits.per_type.get(e.type, 1000)
        ]
        return min(may, key=lambda e: (-e.priority, self.turns[e.priority].index(e.user), e.seq), default=None)

    @rule(user=USERS, type_=TYPES, priority=st.integers(-1, 1), delay=st.sampled_from([None, None, -5.0, 5.0, 20.0]))
    def submit(self, user: str, type_: str, priority: int, delay: float | None) -> None:
        self.seq += 1
        self._add(entry(self.seq, user, type_, priority, None if delay is None else self.wall + delay))

    @rule(total=st.integers(0, 4), per_user=st.sampled_from([None, 1, 2]), slow=st.sampled_from([{}, {"slow": 1}]))
    def reload(self, total: int, per_user: int | None, slow: dict[str, int]) -> None:
        self.limits = Limits(total=total, per_user=per_user, per_type=slow)

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.wall += seconds

    @rule()
    def admit(self) -> None:
        expected = self._expected()
        found = self.queue.admit(self.running, self.limits, self.wall)
        assert found == expected
        if found is not None:
            self._forget(found)
            turns = self.turns[found.priority]
            if found.user in turns:
                turns.remove(found.user)
                turns.append(found.user)
            self.running.add(found.user, found.type)
            self.slots.append(found)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
        assert self.queue.remove(one.id) == one
        self._forget(one)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), paused=st.sampled_from([None, True, False]), priority=st.sampled_from([None, -1, 0, 1]))
    def replace(self, data: st.DataObject, paused: bool | None, priority: int | None) -> None:
        one = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
        self.queue.replace(one.id, self.wall, paused=paused, priority=priority)
        self._forget(one)
        paused = one.paused if paused is None else paused
        priority = one.priority if priority is None else priority
        new = Entry(one.seq, one.id, one.user, one.type, priority, one.not_before, paused=paused)
        self.waiting[new.id] = new
        if not paused and (new.not_before is None or new.not_before <= self.wall):
            self._line_up(new)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data: st.DataObject, again: bool) -> None:
        one = self.slots.pop(data.draw(st.integers(0, len(self.slots) - 1)))
        self.running.remove(one.user, one.type)
        if again:  # a new attempt, as after a shutdown
            self._add(one)

    @invariant()
    def knows_what_waits(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert {one.id for one in self.queue} == set(self.waiting)
        assert all(one in self.queue for one in self.waiting)
        assert self.queue.by_type == Counter(e.type for e in self.waiting.values())
        assert self.queue.by_user == Counter(e.user for e in self.waiting.values())
        assert self.queue.paused == sum(e.paused for e in self.waiting.values())
        delayed = [e.not_before for e in self._delayed()]
        assert self.queue.next_due() == min(delayed, default=None)
        assert self.running.total == len(self.slots)


TestModel = Model.TestCase


# --- the cost -----------------------------------------------------------------------------------------------


@contextmanager
def lines_executed() -> Iterator[Callable[[], int]]:
    """How many lines of the module under test are run: the work done, whatever the machine is busy with."""
    count = 0

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename == scheduling.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: count
    finally:
        sys.settrace(before)


def work(act: Callable[[], object]) -> int:
    with lines_executed() as count:
        act()
    return count()


def crowd(size: int) -> Queue:
    """Three users, two types, two priorities, and `size` jobs."""
    return filled(*(entry(n, "abc"[n % 3], "xy"[n % 2], n % 7 == 0) for n in range(1, size + 1)))


def test_adding_choosing_and_removing_do_not_walk_the_queue() -> None:
    """With a thousand times as many waiting, the same steps are taken."""
    limits = Limits(total=10, per_user=5, per_type={"x": 2})

    def steps(size: int) -> list[int]:
        queue = crowd(size)
        running = Running()
        for _ in range(2):
            running.add("z", "x")  # type x is at its limit
        middle, last = f"j{size // 2}", entry(size + 1, "a", "x")
        return [
            work(lambda: queue.admit(running, limits, 0.0)),
            work(lambda: queue.add(last, 0.0)),
            work(lambda: queue.remove(middle)),
            work(lambda: queue.admit(running, Limits(total=0), 0.0)),
        ]

    assert steps(60) == steps(60_000)


def test_an_old_job_comes_back_in_front_of_a_long_line_without_sorting_it() -> None:
    """What was delayed until now, or starts anew, costs no more with many waiting than with few."""

    def steps(size: int) -> int:
        queue = filled(*(entry(n) for n in range(2, size)))
        found = work(lambda: queue.add(entry(1), 0.0))
        assert queue.admit(Running(), FREE, 0.0) == entry(1)
        return found

    assert steps(20) == steps(20_000)


def test_delayed_jobs_that_were_cancelled_take_no_memory() -> None:
    """A client that submits for next year and cancels, again and again, does not fill the daemon's memory."""
    queue = filled(entry(1, not_before=50.0))
    for number in range(2, 2001):
        queue.add(entry(number, not_before=1e9), 0.0)
        queue.remove(f"j{number}")
    assert len(queue._delayed) < 200
    assert queue.next_due() == 50.0
    assert drain(queue, wall=2e9) == ["j1"]


def test_jobs_cancelled_behind_one_that_waits_take_no_memory() -> None:
    """A line that stands (its type is at its limit) does not grow by what comes and goes behind its head."""
    queue = filled(entry(1))
    for number in range(2, 2001):
        queue.add(entry(number), 0.0)
        queue.remove(f"j{number}")
    (line,) = queue._levels[0]["ann"].values()
    assert len(line.heap) < 200
    assert drain(queue) == ["j1"]


def test_a_full_house_is_seen_without_looking_at_anybody() -> None:
    """Where no slot is free, nothing is compared."""
    queue = crowd(10_000)
    running = Running()
    running.add("z", "x")
    assert work(lambda: queue.admit(running, Limits(total=1), 0.0)) <= 5
