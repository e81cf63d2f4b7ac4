"""The suite `dom/abort` of web-platform-tests, ported: one test here for each case there, by its title.

    event.any.js                               16 cases
    AbortSignal.any.js                          2
    timeout.any.js                              3
    abort-signal-any.any.js                    14, of resources/abort-signal-any-tests.js, which it runs
    abort-signal-any-crash.html                 1
    crashtests/any-on-abort.html                1
                                               --
                                               37

What reads differently here: `undefined` is "not given" (an explicit `None` is `null`); an event's target is what a
listener is called with; a DOMException named AbortError or TimeoutError is annul's `AbortError` or the built-in
`TimeoutError`; `throwIfAborted` of a primitive raises an AbortError around it, since Python raises exceptions only;
5 ms of a time-out are 0.005.

Not ported, and why:

    event.any.js, "the abort event should have the right properties": ported, but there is no Event object, so its
        `type`, `bubbles` and `isTrusted` have no counterpart
    event.any.js, the brand checks of older versions: `self` of a method cannot be anything else without ado
    abort-signal-timeout.html, reason-constructor.html: about iframes, their detachment and their globals
    crashtests/timeout-close.html: about a page that navigates away during a synchronous XMLHttpRequest
    abort-signal-any.any.js in workers and shadow realms, timeout-shadowrealm.any.js: about where it is exposed
    addEventListenerAbortController.tentative.html: about EventTarget, which is not there
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from annul.abort import AbortController, AbortError, AbortSignal, _marking
from harness import TIMEOUT_S, wait_until

# In a browser no time-out fires before the script that made it is done. Nor in here, however busy the machine is.
ONE_TURN = _marking

Test = Callable[[], None]
CASES: dict[tuple[str, str], Test] = {}


def wpt(file: str, title: str) -> Callable[[Test], Test]:
    """The test is the port of the case with this title in this file."""

    def note(test: Test) -> Test:
        test.__doc__ = f"{file}: {title}"
        CASES[file, title] = test
        return test

    return note


EVENT, SIGNAL, TIMEOUT, ANY = "event.any.js", "AbortSignal.any.js", "timeout.any.js", "abort-signal-any.any.js"


def unreached(_: AbortSignal) -> None:
    pytest.fail("this listener must not be called")


# --- event.any.js -------------------------------------------------------------------------------------------


@wpt(EVENT, "AbortController abort() should fire event synchronously")
def test_abort_fires_synchronously() -> None:
    controller = AbortController()
    signal = controller.signal
    states = ["begin"]
    assert signal.aborted is False
    assert signal.reason is None
    signal.add_listener(lambda _: states.append("aborted"))
    controller.abort()
    assert states == ["begin", "aborted"]
    assert signal.aborted
    assert isinstance(signal.reason, AbortError)
    controller.abort()
    assert states == ["begin", "aborted"]


@wpt(EVENT, "controller.signal should always return the same object")
def test_same_signal() -> None:
    controller = AbortController()
    signal = controller.signal
    assert controller.signal is signal
    controller.abort()
    assert controller.signal is signal


@wpt(EVENT, "controller.abort() should do nothing the second time it is called")
def test_second_abort() -> None:
    controller = AbortController()
    signal = controller.signal
    calls: list[AbortSignal] = []
    signal.on_abort = calls.append
    for _ in range(2):
        controller.abort()
        assert signal.aborted
        assert len(calls) == 1


@wpt(EVENT, "event handler should not be called if added after controller.abort()")
def test_handler_added_late() -> None:
    controller = AbortController()
    controller.abort()
    controller.signal.on_abort = unreached
    controller.abort()


@wpt(EVENT, "the abort event should have the right properties")
def test_right_target() -> None:
    controller = AbortController()
    calls: list[AbortSignal] = []
    controller.signal.on_abort = calls.append
    controller.abort()
    assert calls == [controller.signal]


@wpt(EVENT, "AbortController abort(reason) should set signal.reason")
def test_reason() -> None:
    controller = AbortController()
    assert controller.signal.reason is None
    reason = ValueError("hello")
    controller.abort(reason)
    assert controller.signal.aborted
    assert controller.signal.reason is reason


@wpt(EVENT, 'aborting AbortController without reason creates an "AbortError" DOMException')
def test_no_reason() -> None:
    controller = AbortController()
    assert controller.signal.reason is None
    controller.abort()
    assert controller.signal.aborted
    assert type(controller.signal.reason) is AbortError


@wpt(EVENT, 'AbortController abort(undefined) creates an "AbortError" DOMException')
def test_undefined_reason() -> None:
    controller = AbortController()
    given: dict[str, object] = {}
    controller.abort(**given)
    assert controller.signal.aborted
    assert type(controller.signal.reason) is AbortError


@wpt(EVENT, "AbortController abort(null) should set signal.reason")
def test_null_reason() -> None:
    controller = AbortController()
    controller.abort(None)
    assert controller.signal.aborted
    assert controller.signal.reason is None


@wpt(EVENT, "static aborting signal should have right properties")
def test_static() -> None:
    signal = AbortSignal.abort()
    assert signal.aborted
    assert type(signal.reason) is AbortError


@wpt(EVENT, "static aborting signal with reason should set signal.reason")
def test_static_with_reason() -> None:
    reason = ValueError("hello")
    signal = AbortSignal.abort(reason)
    assert signal.aborted
    assert signal.reason is reason


@wpt(EVENT, "throwIfAborted() should throw abort.reason if signal aborted")
def test_throw_reason() -> None:
    reason = ValueError("boom")
    signal = AbortSignal.abort(reason)
    assert signal.aborted
    with pytest.raises(ValueError, match="boom") as raised:
        signal.throw_if_aborted()
    assert raised.value is reason


@wpt(EVENT, "throwIfAborted() should throw primitive abort.reason if signal aborted")
def test_throw_primitive_reason() -> None:
    signal = AbortSignal.abort("hello")
    assert signal.aborted
    with pytest.raises(AbortError) as raised:
        signal.throw_if_aborted()
    assert raised.value.args == ("hello",)


@wpt(EVENT, "throwIfAborted() should not throw if signal not aborted")
def test_throw_nothing() -> None:
    controller = AbortController()
    assert not controller.signal.aborted
    controller.signal.throw_if_aborted()


@wpt(EVENT, "AbortSignal.reason returns the same DOMException")
def test_static_same_reason() -> None:
    signal = AbortSignal.abort()
    assert isinstance(signal.reason, AbortError)
    assert signal.reason is signal.reason


@wpt(EVENT, "AbortController.signal.reason returns the same DOMException")
def test_same_reason() -> None:
    controller = AbortController()
    controller.abort()
    assert isinstance(controller.signal.reason, AbortError)
    assert controller.signal.reason is controller.signal.reason


# --- AbortSignal.any.js -------------------------------------------------------------------------------------


@wpt(SIGNAL, "the AbortSignal.abort() static returns an already aborted signal")
def test_static_is_aborted() -> None:
    signal = AbortSignal.abort()
    assert isinstance(signal, AbortSignal)
    assert signal.aborted


@wpt(SIGNAL, "signal returned by AbortSignal.abort() should not fire abort event")
def test_static_does_not_fire() -> None:
    signal = AbortSignal.abort()
    signal.add_listener(unreached)
    signal.on_abort = unreached
    # There they wait for two seconds. Here: whatever was about to fire has done so before this time-out does.
    assert AbortSignal.timeout(0.005).wait(TIMEOUT_S)
    assert not signal._listeners


# --- timeout.any.js -----------------------------------------------------------------------------------------


@wpt(TIMEOUT, "AbortSignal.timeout() returns a non-aborted signal")
def test_timeout_is_not_aborted() -> None:
    with ONE_TURN:
        signal = AbortSignal.timeout(0)
        assert isinstance(signal, AbortSignal)
        assert not signal.aborted
    assert signal.wait(TIMEOUT_S)


@wpt(TIMEOUT, "Signal returned by AbortSignal.timeout() times out")
def test_timeout_times_out() -> None:
    seen: list[tuple[bool, type[object]]] = []
    with ONE_TURN:
        signal = AbortSignal.timeout(0.005)
        signal.on_abort = lambda signal: seen.append((signal.aborted, type(signal.reason)))
    wait_until(lambda: seen, "the time-out")
    assert seen == [(True, TimeoutError)]


@wpt(TIMEOUT, "AbortSignal timeouts fire in order")
def test_timeouts_fire_in_order() -> None:
    result: list[str] = []
    with ONE_TURN:
        for value in "1234":
            AbortSignal.timeout(0.005).on_abort = lambda _, value=value: result.append(value)  # type: ignore[misc]
    wait_until(lambda: "4" in result, "the last time-out")
    assert result == ["1", "2", "3", "4"]


# --- abort-signal-any.any.js --------------------------------------------------------------------------------


@wpt(ANY, "AbortSignal.any() works with an empty array of signals")
def test_any_of_none() -> None:
    assert not AbortSignal.any([]).aborted


@wpt(ANY, "AbortSignal.any() follows a single signal (using AbortController)")
def test_any_of_one() -> None:
    controller = AbortController()
    clone = AbortSignal.any([controller.signal])
    assert not clone.aborted
    assert clone.reason is None
    assert clone is not controller.signal
    calls: list[AbortSignal] = []
    clone.on_abort = calls.append
    controller.abort("reason string")
    assert controller.signal.aborted
    assert clone.aborted
    assert calls == [clone]
    assert clone.reason == "reason string"


@wpt(ANY, "AbortSignal.any() follows multiple signals (using AbortController)")
def test_any_of_three() -> None:
    for number in range(3):
        controllers = [AbortController() for _ in range(3)]
        combined = AbortSignal.any([controller.signal for controller in controllers])
        calls: list[AbortSignal] = []
        combined.on_abort = calls.append
        controllers[number].abort()
        assert calls == [combined]
        assert combined.aborted
        assert isinstance(combined.reason, AbortError)


@wpt(ANY, "AbortSignal.any() returns an aborted signal if passed an aborted signal (using AbortController)")
def test_any_of_aborted() -> None:
    controllers = [AbortController() for _ in range(3)]
    controllers[1].abort("reason 1")
    controllers[2].abort("reason 2")
    signal = AbortSignal.any([controller.signal for controller in controllers])
    assert signal.aborted
    assert signal.reason == "reason 1"


@wpt(ANY, "AbortSignal.any() can be passed the same signal more than once (using AbortController)")
def test_any_of_the_same() -> None:
    controller = AbortController()
    signal = AbortSignal.any([controller.signal, controller.signal])
    assert not signal.aborted
    controller.abort("reason")
    assert signal.aborted
    assert signal.reason == "reason"


@wpt(ANY, "AbortSignal.any() uses the first instance of a duplicate signal (using AbortController)")
def test_any_of_duplicates() -> None:
    one, two = AbortController(), AbortController()
    one.abort("reason 1")
    two.abort("reason 2")
    signal = AbortSignal.any([one.signal, two.signal, one.signal])
    assert signal.aborted
    assert signal.reason == "reason 1"


@wpt(ANY, "AbortSignal.any() signals are composable (using AbortController)")
def test_any_of_any() -> None:
    for number in range(3):
        controllers = [AbortController() for _ in range(3)]
        first = AbortSignal.any([controllers[0].signal, controllers[1].signal])
        second = AbortSignal.any([first, controllers[2].signal])
        calls: list[AbortSignal] = []
        second.on_abort = calls.append
        controllers[number].abort()
        assert calls == [second]
        assert second.aborted
        assert isinstance(second.reason, AbortError)


@wpt(ANY, "AbortSignal.any() works with signals returned by AbortSignal.timeout() (using AbortController)")
def test_any_with_timeout() -> None:
    controller = AbortController()
    seen: list[tuple[bool, type[object]]] = []
    with ONE_TURN:
        combined = AbortSignal.any([controller.signal, AbortSignal.timeout(0.005)])
        combined.on_abort = lambda signal: seen.append((signal.aborted, type(signal.reason)))
    wait_until(lambda: seen, "the time-out")
    assert seen == [(True, TimeoutError)]


@wpt(ANY, "AbortSignal.any() works with intermediate signals (using AbortController)")
def test_any_through_intermediates() -> None:
    controller = AbortController()
    combined = AbortSignal.any([controller.signal])
    for _ in range(3):
        combined = AbortSignal.any([combined])
    calls: list[AbortSignal] = []
    combined.on_abort = calls.append
    assert not combined.aborted
    controller.abort("the reason")
    assert calls == [combined]
    assert combined.aborted
    assert combined.reason == "the reason"


@wpt(ANY, "Abort events for AbortSignal.any() signals fire in the right order (using AbortController)")
def test_any_fires_in_order() -> None:
    controller = AbortController()
    signals = [controller.signal]
    # All depend on the controller's signal itself, never on one another: so this is the order.
    for source in (0, 0, 0, 1):
        signals.append(AbortSignal.any([signals[source]]))
    result: list[AbortSignal] = []
    for signal in signals:
        signal.add_listener(result.append)
    controller.abort()
    assert result == signals


@wpt(ANY, "Dependent signals for AbortSignal.any() are marked aborted before abort events fire (using AbortController)")
def test_any_marks_first() -> None:
    controller = AbortController()
    one = AbortSignal.any([controller.signal])
    two = AbortSignal.any([one])
    seen: list[list[bool]] = []

    def look(signal: AbortSignal) -> None:
        seen.append([each.aborted for each in (signal, one, two, AbortSignal.any([two]))])

    controller.signal.add_listener(look)
    controller.abort()
    assert seen == [[True, True, True, True]]


@wpt(ANY, "Dependent signals for AbortSignal.any() are aborted correctly for reentrant aborts (using AbortController)")
def test_any_reentrant() -> None:
    one, two = AbortController(), AbortController()
    signal = AbortSignal.any([one.signal, two.signal])
    calls: list[AbortSignal] = []
    one.signal.add_listener(lambda _: two.abort("reason 2"))
    signal.add_listener(calls.append)
    one.abort("reason 1")
    assert len(calls) == 1
    assert signal.aborted
    assert signal.reason == "reason 1"


@wpt(
    ANY,
    "Dependent signals for AbortSignal.any() should use the same DOMException instance"
    " from the already aborted source signal (using AbortController)",
)
def test_any_same_reason_before() -> None:
    source = AbortSignal.abort()
    dependent = AbortSignal.any([source])
    assert isinstance(source.reason, AbortError)
    assert dependent.reason is source.reason


@wpt(
    ANY,
    "Dependent signals for AbortSignal.any() should use the same DOMException instance"
    " from the source signal being aborted later (using AbortController)",
)
def test_any_same_reason_after() -> None:
    controller = AbortController()
    dependent = AbortSignal.any([controller.signal])
    controller.abort()
    assert isinstance(controller.signal.reason, AbortError)
    assert dependent.reason is controller.signal.reason


# --- the crash tests: that nothing is raised, and nobody is called wrongly ----------------------------------


@wpt("abort-signal-any-crash.html", "AbortSignal::Any when source signal was garbage collected")
def test_source_collected() -> None:
    signal = AbortSignal.any([AbortController().signal])
    gc.collect()
    assert not AbortSignal.any([signal]).aborted


@wpt("crashtests/any-on-abort.html", "any() of a dependent inside a listener of its source")
def test_any_on_abort() -> None:
    controller = AbortController()
    dependent = AbortSignal.any([controller.signal])
    made: list[AbortSignal] = []
    controller.signal.add_listener(lambda _: made.append(AbortSignal.any([dependent])))
    controller.abort()
    assert [one.reason for one in made] == [controller.signal.reason]


def test_all_cases_are_here() -> None:
    """37 cases, as many in each file as the table above says."""
    counts = {file: sum(1 for other, _ in CASES if other == file) for file, _ in CASES}
    assert list(counts.values()) == [16, 2, 3, 14, 1, 1]
    assert sum(counts.values()) == 37
