"""AbortController and AbortSignal: the rules of the web's standard, under Python's names."""

from __future__ import annotations

import gc
import itertools
import math
import threading
import time
import weakref
from signal import SIGUSR1, raise_signal
from signal import signal as handle_signal
from typing import Any

import pytest

from annul.abort import AbortController, AbortError, AbortSignal, _marking
from harness import TIMEOUT_S, wait_until


class Odd(BaseException):
    """No `Exception`, as annul's `Cancelled`."""


def called_by(signal: AbortSignal) -> list[AbortSignal]:
    """A list that grows by the signal whenever it fires."""
    calls: list[AbortSignal] = []
    signal.add_listener(calls.append)
    return calls


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was handed to `sys.unraisablehook`."""
    found: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", found.append)
    return found


# --- controller and signal ----------------------------------------------------------------------------------


def test_a_controller_has_one_signal() -> None:
    """It is always the same object, and not aborted at first."""
    controller = AbortController()
    assert controller.signal is controller.signal
    assert controller.signal.aborted is False
    assert controller.signal.reason is None
    controller.signal.throw_if_aborted()


def test_a_signal_is_not_made_by_hand() -> None:
    """The constructor is a TypeError; a signal nobody can abort would be a mistake."""
    with pytest.raises(TypeError):
        AbortSignal()


REASONS = [ValueError("x"), Odd(), "text", 0, False, (), None, ValueError, object()]


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_the_reason_is_the_very_object_given(reason: object) -> None:
    """Also where it is false, None, or no exception."""
    for signal in (AbortSignal.abort(reason), AbortSignal.abort(reason=reason)):
        assert signal.aborted
        assert signal.reason is reason
    controller = AbortController()
    controller.abort(reason)
    assert controller.signal.reason is reason
    other = AbortController()
    other.abort(reason=reason)
    assert other.signal.reason is reason


def test_a_reason_not_given_is_an_abort_error() -> None:
    """One object, the same whenever it is asked for."""
    controller = AbortController()
    controller.abort()
    assert type(controller.signal.reason) is AbortError
    assert controller.signal.reason is controller.signal.reason
    assert type(AbortSignal.abort().reason) is AbortError


@pytest.mark.parametrize("reason", [ValueError("x"), Odd()], ids=repr)
def test_throw_if_aborted_raises_the_very_reason(reason: BaseException) -> None:
    """An exception given as the reason is raised as it is."""
    with pytest.raises(type(reason)) as raised:
        AbortSignal.abort(reason).throw_if_aborted()
    assert raised.value is reason


@pytest.mark.parametrize("reason", ["text", None, 0, ValueError], ids=repr)
def test_a_reason_that_is_no_exception_is_raised_inside_one(reason: object) -> None:
    """It is wrapped in an AbortError, whose argument it is."""
    with pytest.raises(AbortError) as raised:
        AbortSignal.abort(reason).throw_if_aborted()
    assert raised.value.args == (reason,)


def test_a_second_abort_does_nothing() -> None:
    """The first reason stays, and nobody is called again."""
    controller = AbortController()
    calls = called_by(controller.signal)
    controller.abort("first")
    controller.abort("second")
    assert controller.signal.reason == "first"
    assert calls == [controller.signal]


# --- listeners ----------------------------------------------------------------------------------------------


def test_listeners_are_called_once_each_with_the_signal_in_the_order_they_were_added() -> None:
    """Synchronously, with `aborted` and `reason` set already."""
    controller = AbortController()
    seen: list[tuple[str, bool, object]] = []
    for name in "abc":
        controller.signal.add_listener(lambda signal, name=name: seen.append((name, signal.aborted, signal.reason)))
    controller.abort("why")
    assert seen == [("a", True, "why"), ("b", True, "why"), ("c", True, "why")]


def test_a_listener_added_twice_counts_once_and_keeps_its_place() -> None:
    """As `addEventListener`."""
    controller = AbortController()
    calls: list[str] = []

    def one(_: AbortSignal) -> None:
        calls.append("one")

    controller.signal.add_listener(one)
    controller.signal.add_listener(lambda _: calls.append("two"))
    controller.signal.add_listener(one)
    controller.abort()
    assert calls == ["one", "two"]


def test_a_listener_removed_is_not_called() -> None:
    """Removing one that is not there is no error."""
    controller = AbortController()
    calls = called_by(controller.signal)
    controller.signal.remove_listener(calls.append)
    controller.signal.remove_listener(calls.append)
    controller.abort()
    assert calls == []


def test_a_listener_added_after_the_abort_is_never_called() -> None:
    """Too late is too late: look at `aborted` after adding."""
    controller = AbortController()
    controller.abort()
    calls = called_by(controller.signal)
    controller.abort()
    assert calls == []
    assert called_by(AbortSignal.abort()) == []


def test_a_listener_may_add_and_remove_listeners() -> None:
    """One removed by an earlier one is not called; one added during the abort is not either."""
    controller = AbortController()
    calls: list[str] = []

    def late(_: AbortSignal) -> None:
        calls.append("late")

    def removed(_: AbortSignal) -> None:
        calls.append("removed")

    def first(signal: AbortSignal) -> None:
        calls.append("first")
        signal.remove_listener(removed)
        signal.add_listener(late)

    for one in (first, removed):
        controller.signal.add_listener(one)
    controller.abort()
    assert calls == ["first"]


def test_on_abort_is_one_listener_with_the_place_it_had_first() -> None:
    """Set again it is replaced where it stands; unset it is not called."""
    controller = AbortController()
    signal = controller.signal
    calls: list[str] = []
    signal.add_listener(lambda _: calls.append("before"))
    signal.on_abort = lambda _: calls.append("old")
    signal.add_listener(lambda _: calls.append("after"))
    signal.on_abort = new = lambda _: calls.append("new")
    assert signal.on_abort is new
    controller.abort()
    assert calls == ["before", "new", "after"]


def test_on_abort_unset_loses_its_place() -> None:
    """Set to None it is not called; set again it is at the end."""
    controller = AbortController()
    signal = controller.signal
    calls: list[str] = []
    signal.on_abort = lambda _: calls.append("on_abort")
    signal.add_listener(lambda _: calls.append("listener"))
    signal.on_abort = None
    assert signal.on_abort is None
    signal.on_abort = lambda _: calls.append("on_abort again")
    controller.abort()
    assert calls == ["listener", "on_abort again"]


def test_a_listener_that_raises_does_not_stop_the_others(unraisable: list[Any]) -> None:
    """Its error goes to `sys.unraisablehook`, with the listener; `abort` itself does not raise."""
    controller = AbortController()
    error = ValueError("in a listener")

    def bad(_: AbortSignal) -> None:
        raise error

    controller.signal.add_listener(bad)
    calls = called_by(controller.signal)
    dependent = AbortSignal.any([controller.signal])
    dependents_calls = called_by(dependent)
    controller.abort()
    assert calls == [controller.signal]
    assert dependents_calls == [dependent]
    assert [(one.exc_type, one.exc_value, one.object) for one in unraisable] == [(ValueError, error, bad)]
    assert unraisable[0].exc_traceback is not None


def test_an_abort_inside_a_listener_does_nothing() -> None:
    """Re-entrance fires nobody twice and keeps the first reason."""
    controller = AbortController()
    seen: list[object] = []

    def again(signal: AbortSignal) -> None:
        controller.abort("second")
        seen.append(signal.reason)

    controller.signal.add_listener(again)
    calls = called_by(controller.signal)
    controller.abort("first")
    assert seen == ["first"]
    assert calls == [controller.signal]


def test_an_abort_of_another_inside_a_listener_is_carried_out_at_once() -> None:
    """Its listeners run before the abort that they are nested in goes on."""
    outer, inner = AbortController(), AbortController()
    seen: list[str] = []
    outer.signal.add_listener(lambda _: inner.abort())
    outer.signal.add_listener(lambda _: seen.append("outer"))
    inner.signal.add_listener(lambda _: seen.append("inner"))
    outer.abort()
    assert seen == ["inner", "outer"]


# --- any ----------------------------------------------------------------------------------------------------


def test_any_of_none_never_aborts() -> None:
    """Also as an input of others."""
    empty = AbortSignal.any([])
    assert not empty.aborted
    controller = AbortController()
    both = AbortSignal.any([empty, controller.signal])
    controller.abort("x")
    assert (both.reason, empty.aborted) == ("x", False)


def test_any_takes_any_iterable_and_duplicates() -> None:
    """A generator will do, and the same signal twice aborts once."""
    controller = AbortController()
    dependent = AbortSignal.any(controller.signal for _ in range(3))
    calls = called_by(dependent)
    controller.abort("x")
    assert calls == [dependent]
    assert dependent.reason == "x"


def test_any_is_a_new_signal() -> None:
    """Of one input too; nothing that is done to it is seen at its source."""
    controller = AbortController()
    dependent = AbortSignal.any([controller.signal])
    assert dependent is not controller.signal
    assert AbortSignal.any([controller.signal]) is not dependent


def test_any_of_aborted_inputs_has_the_reason_of_the_first() -> None:
    """First in the order given, and the very same object; nothing fires."""
    first, second, alive = ValueError(1), ValueError(2), AbortController()
    signal = AbortSignal.any([alive.signal, AbortSignal.abort(first), AbortSignal.abort(second)])
    assert signal.reason is first
    assert AbortSignal.any([AbortSignal.abort(second), signal]).reason is second
    alive.abort(3)
    assert signal.reason is first


def test_any_aborts_with_the_first_of_its_inputs_to_do_so() -> None:
    """Later ones change nothing; `None` is a reason like any other."""
    one, two = AbortController(), AbortController()
    signal = AbortSignal.any([one.signal, two.signal])
    calls = called_by(signal)
    two.abort(None)
    one.abort("late")
    assert (signal.aborted, signal.reason, calls) == (True, None, [signal])


@pytest.mark.parametrize("hold", [True, False])
def test_any_works_through_intermediates(hold: bool) -> None:
    """Also where nobody keeps the intermediate signals."""
    controller, other = AbortController(), AbortController()
    middle = AbortSignal.any([AbortSignal.any([controller.signal]), other.signal])
    last = AbortSignal.any([AbortSignal.any([middle])])
    if not hold:
        del middle
        gc.collect()
    reason = ValueError()
    controller.abort(reason)
    assert last.reason is reason


def test_any_of_itself_and_its_source_fires_once() -> None:
    """Reached by two ways it is still one signal."""
    controller = AbortController()
    middle = AbortSignal.any([controller.signal])
    last = AbortSignal.any([middle, controller.signal, middle])
    calls = called_by(last)
    controller.abort()
    assert calls == [last]


def test_the_sources_listeners_run_first_then_dependents_in_the_order_of_their_making() -> None:
    """Whatever the order in which the listeners were added, and however deep the dependents."""
    controller = AbortController()
    one = AbortSignal.any([controller.signal])
    two = AbortSignal.any([one])
    three = AbortSignal.any([controller.signal])
    order: list[AbortSignal] = []
    for signal in (three, two, one, controller.signal):
        signal.add_listener(order.append)
    controller.abort()
    assert order == [controller.signal, one, two, three]


def test_all_dependents_are_marked_before_any_listener_runs() -> None:
    """A listener sees one consistent world, with one reason in it."""
    controller = AbortController()
    dependents = [AbortSignal.any([controller.signal]) for _ in range(3)]
    dependents.append(AbortSignal.any([dependents[0]]))
    seen: list[list[object]] = []
    for signal in (controller.signal, *dependents):
        signal.add_listener(lambda _: seen.append([one.reason for one in dependents]))
    reason = ValueError()
    controller.abort(reason)
    assert len(seen) == 5
    assert all(one is reason for reasons in seen for one in reasons)


def test_any_made_inside_a_listener_is_aborted_from_the_start() -> None:
    """Of the source, and of a dependent whose own listeners have not run yet."""
    controller = AbortController()
    dependent = AbortSignal.any([controller.signal])
    made: list[AbortSignal] = []
    controller.signal.add_listener(lambda signal: made.append(AbortSignal.any([signal])))
    controller.signal.add_listener(lambda _: made.append(AbortSignal.any([dependent])))
    calls: list[object] = []
    controller.signal.add_listener(lambda _: [one.add_listener(calls.append) for one in made])
    controller.abort("why")
    assert [(one.aborted, one.reason) for one in made] == [(True, "why")] * 2
    assert calls == []


def test_an_input_that_aborts_inside_a_listener_comes_too_late() -> None:
    """The reason of the first wins everywhere, also re-entrantly."""
    one, two = AbortController(), AbortController()
    both = AbortSignal.any([one.signal, two.signal])
    calls = called_by(both)
    one.signal.add_listener(lambda _: two.abort("two"))
    one.abort("one")
    assert (both.reason, two.signal.reason, calls) == ("one", "two", [both])


def test_the_default_reason_is_one_object_everywhere() -> None:
    """The same instance reaches every dependent and every `raise`."""
    controller = AbortController()
    dependents = [AbortSignal.any([controller.signal]), AbortSignal.any([AbortSignal.any([controller.signal])])]
    controller.abort()
    assert all(one.reason is controller.signal.reason for one in dependents)


# --- time-outs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.0, 0.01])
def test_a_time_out_is_never_aborted_at_once_and_ends_in_a_timeout_error(seconds: float) -> None:
    """Not even 0 seconds: whoever made it has the time to add a listener."""
    before = threading.get_ident()
    signal = AbortSignal.timeout(seconds)
    where: list[int] = []
    signal.add_listener(lambda _: where.append(threading.get_ident()))
    wait_until(lambda: where or signal.aborted, "the time-out")
    assert signal.wait(TIMEOUT_S)
    assert type(signal.reason) is TimeoutError
    assert before not in where


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_a_time_out_in_the_past_is_refused(seconds: float) -> None:
    """It is a mistake, said at once."""
    with pytest.raises(ValueError, match="0 or more"):
        AbortSignal.timeout(seconds)


def test_a_time_out_waits_for_its_time() -> None:
    """Not aborted before as many seconds have passed."""
    begun = time.monotonic()
    signal = AbortSignal.timeout(0.05)
    assert signal.wait(TIMEOUT_S)
    assert time.monotonic() - begun >= 0.05


def test_a_shorter_time_out_made_later_fires_first() -> None:
    """The thread that waits for the long one is woken."""
    long, short = AbortSignal.timeout(60.0), AbortSignal.timeout(0.001)
    assert short.wait(TIMEOUT_S)
    assert not long.aborted


def test_equal_time_outs_fire_in_the_order_of_their_making() -> None:
    """As with timers in a browser."""
    order: list[int] = []
    for number in range(50):
        AbortSignal.timeout(0.01).add_listener(lambda _, number=number: order.append(number))
    wait_until(lambda: len(order) == 50, "all time-outs")
    assert order == list(range(50))


def test_any_works_with_time_outs() -> None:
    """Whichever comes first; the reason is the time-out's own."""
    controller = AbortController()
    source = AbortSignal.timeout(0.001)
    both = AbortSignal.any([controller.signal, source])
    assert both.wait(TIMEOUT_S)
    assert both.reason is source.reason


def test_a_listener_that_raises_does_not_stop_other_time_outs(unraisable: list[Any]) -> None:
    """All time-outs share a thread, which outlives them."""
    bad = AbortSignal.timeout(0.001)
    bad.add_listener(lambda _: 1 / 0)
    good = [AbortSignal.timeout(0.002), AbortSignal.timeout(0.01)]
    assert all(signal.wait(TIMEOUT_S) for signal in good)
    assert [one.exc_type for one in unraisable] == [ZeroDivisionError]


# --- waiting and threads ------------------------------------------------------------------------------------


def test_wait_tells_whether_it_is_aborted() -> None:
    """At once where it is already; after the time-out where it is not; and it leaves no listener behind."""
    assert AbortSignal.abort().wait() is True
    controller = AbortController()
    assert controller.signal.wait(0) is False
    assert controller.signal.wait(0.001) is False
    assert not controller.signal._listeners


def test_a_signal_handler_may_do_everything_wherever_it_interrupts() -> None:
    """Also code that holds the lock: it is re-entrant."""
    controller, timed = AbortController(), AbortSignal.timeout(0)
    calls = called_by(controller.signal)

    def handle(*_: object) -> None:
        either = AbortSignal.any([controller.signal, AbortSignal.timeout(3600)])
        others = called_by(either)
        controller.signal.add_listener(print)
        controller.signal.remove_listener(print)
        assert not either.wait(0)
        controller.abort("in the handler")
        assert others == [either]

    before = handle_signal(SIGUSR1, handle)
    try:
        with _marking:
            raise_signal(SIGUSR1)
            assert calls == [controller.signal]
    finally:
        handle_signal(SIGUSR1, before)
    assert timed.wait(TIMEOUT_S)


def test_wait_is_ended_by_an_abort_in_another_thread() -> None:
    """However many wait."""
    controller = AbortController()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(controller.signal.wait(TIMEOUT_S))) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(controller.signal._listeners) == 4, "all to wait")
    controller.abort()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert found == [True] * 4


def test_of_many_threads_that_abort_one_wins() -> None:
    """One reason, and every listener is called exactly once."""
    for _ in range(50):
        controller = AbortController()
        dependent = AbortSignal.any([controller.signal])
        calls = [called_by(signal) for signal in (controller.signal, controller.signal, dependent)]
        barrier = threading.Barrier(4)

        def abort(number: int, barrier: threading.Barrier = barrier, c: AbortController = controller) -> None:
            barrier.wait(TIMEOUT_S)
            c.abort(number)

        threads = [threading.Thread(target=abort, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert controller.signal.reason in range(4)
        assert dependent.reason == controller.signal.reason
        assert [len(one) for one in calls] == [1, 1, 1]


# --- memory -------------------------------------------------------------------------------------------------


def gone(make: Any) -> bool:
    """Whether what `make` returns is collected once nobody holds it."""
    ref = weakref.ref(make())
    gc.collect()
    return ref() is None


def test_a_dependent_that_nobody_uses_is_collected() -> None:
    """A long-lived source does not keep what was made of it, nor a trace of it."""
    controller = AbortController()
    assert gone(lambda: AbortSignal.any([controller.signal]))
    assert gone(lambda: AbortSignal.any([AbortSignal.any([controller.signal])]))
    assert not controller.signal._dependents


def test_a_dependent_that_somebody_listens_to_lives_as_long_as_its_source() -> None:
    """A listener is called although nobody holds the signal it was added to."""
    controller = AbortController()
    calls: list[object] = []
    AbortSignal.any([AbortSignal.any([controller.signal])]).add_listener(lambda signal: calls.append(signal.reason))
    AbortSignal.any([controller.signal]).on_abort = lambda signal: calls.append(signal.reason)
    gc.collect()
    controller.abort("x")
    assert calls == ["x", "x"]


def test_a_dependent_that_nobody_listens_to_any_more_is_collected() -> None:
    """Removing the last listener lets it go."""
    controller = AbortController()

    def make() -> AbortSignal:
        signal = AbortSignal.any([controller.signal])
        signal.add_listener(print)
        signal.on_abort = print
        signal.remove_listener(print)
        signal.on_abort = None
        return signal

    assert gone(make)


def test_source_and_listened_dependent_go_together() -> None:
    """They hold each other, and nobody else holds them."""

    def make() -> AbortController:
        controller = AbortController()
        AbortSignal.any([controller.signal]).add_listener(print)
        return controller

    assert gone(make)


def test_a_dependent_outlives_the_name_of_its_source() -> None:
    """A controller kept only by its `abort` still aborts what was made of its signal."""
    dependents = []

    def make() -> Any:
        controller = AbortController()
        dependents.append(AbortSignal.any([controller.signal]))
        return controller.abort

    abort = make()
    gc.collect()
    abort("x")
    assert dependents[0].reason == "x"


def test_many_dependents_come_and_go_while_it_aborts() -> None:
    """Dependents dropped in one thread do not disturb an abort in another."""
    stop = threading.Event()
    controllers = [AbortController() for _ in range(200)]

    def churn() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            AbortSignal.any(controllers[(number + n) % 200].signal for n in range(3))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for controller in controllers:
            kept = [AbortSignal.any([controller.signal]) for _ in range(20)]
            del kept[::2]
            controller.abort("x")
            assert all(one.reason == "x" for one in kept)
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
