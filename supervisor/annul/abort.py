"""AbortController and AbortSignal, with the semantics of the web's: DOM Standard, "Aborting ongoing activities".

    controller = AbortController()
    controller.signal.add_listener(lambda signal: connection.interrupt())
    controller.abort(reason=ValueError("changed my mind"))

Names are Python's, rules are the standard's: a signal is aborted once and keeps its first reason; listeners run once
each, synchronously, in the order they were added; signals made by `any` are all *marked* before any listener runs.
The one addition is the job's own signal (`annul.runtime.signal.JobSignal`), whose source is shared memory.

Thread-safe. The one lock is re-entrant, since `abort` may be called from a listener.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self

Listener = Callable[["AbortSignal"], object]

_NOT_GIVEN: Any = object()  # `None` is a reason like any other
_marking = threading.RLock()


class AbortError(Exception):
    """The reason of an abort for which none was given, and what wraps a reason that is no exception."""


class AbortSignal:
    """Whether, and why, something is to stop. Made by a controller, `abort`, `timeout` or `any`."""

    def __init__(self) -> None:
        raise TypeError("an AbortSignal is made by AbortController(), AbortSignal.abort(), .timeout() or .any()")

    @classmethod
    def _new(cls) -> Self:
        signal = cls.__new__(cls)
        signal._set_up()
        return signal

    def _set_up(self) -> None:
        self._reason: Any = _NOT_GIVEN
        self._listeners: dict[Listener, None] = {}
        self._on_abort: Listener | None = None
        self._sources: list[AbortSignal] = []
        # Dependents are kept by their users, or by their sources while somebody listens to them.
        self._dependents: dict[int, weakref.ref[AbortSignal]] = {}
        self._listened: set[AbortSignal] = set()

    # --- making -------------------------------------------------------------------------------------------------

    @classmethod
    def abort(cls, reason: Any = _NOT_GIVEN) -> AbortSignal:
        """A signal that is aborted already. No listener will ever be called."""
        signal = AbortSignal._new()
        signal._reason = _given(reason)
        return signal

    @classmethod
    def timeout(cls, seconds: float) -> AbortSignal:
        """A signal that aborts after that many seconds with a TimeoutError; never at once, not even for 0."""
        if not seconds >= 0:
            raise ValueError(f"a time-out is 0 or more seconds, not {seconds!r}")
        signal = AbortSignal._new()
        _timeouts.add(seconds, signal)
        return signal

    @classmethod
    def any(cls, signals: Iterable[AbortSignal]) -> AbortSignal:
        """A signal that aborts with the first of these, with its very reason; of none: never."""
        result = AbortSignal._new()
        with _marking:
            signals = list(signals)
            for signal in signals:
                if signal.aborted:
                    result._reason = signal.reason
                    return result
            # Sources are flattened, so that a chain of intermediates neither costs nor reorders anything.
            sources = dict.fromkeys(s for signal in signals for s in (signal._sources or [signal]))
            result._sources = list(sources)
            for source in sources:
                source._depend(result)
        return result

    def _depend(self, dependent: AbortSignal) -> None:
        key = next(_serial)
        self._dependents[key] = weakref.ref(dependent, lambda _: self._dependents.pop(key, None))

    # --- asking -------------------------------------------------------------------------------------------------

    @property
    def aborted(self) -> bool:
        return self._reason is not _NOT_GIVEN

    @property
    def reason(self) -> Any:
        """The very object given to `abort`; None while not aborted (and where None was given)."""
        return None if self._reason is _NOT_GIVEN else self._reason

    def throw_if_aborted(self) -> None:
        """Raise the reason, if aborted: the very object, or an AbortError around what is no exception."""
        if self.aborted:
            reason = self.reason
            raise reason if isinstance(reason, BaseException) else AbortError(reason)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until aborted, or for that many seconds; returns `aborted`."""
        done = threading.Event()

        def wake(_: AbortSignal) -> None:
            done.set()

        self.add_listener(wake)
        try:
            # Race: aborted between adding the listener and here is seen by the second look.
            if not self.aborted:
                done.wait(timeout)
        finally:
            self.remove_listener(wake)
        return self.aborted

    # --- listening ----------------------------------------------------------------------------------------------

    def add_listener(self, listener: Listener) -> None:
        """Call `listener(signal)` once, when aborted. Added after that, it is not called. Twice counts once."""
        with _marking:
            if not self.aborted:
                self._listeners.setdefault(listener)
                self._keep()

    def remove_listener(self, listener: Listener) -> None:
        with _marking:
            self._listeners.pop(listener, None)
            self._keep()

    @property
    def on_abort(self) -> Listener | None:
        """A single listener, as the web's `onabort`; it has its place in the order from when it is first set."""
        return self._on_abort

    @on_abort.setter
    def on_abort(self, listener: Listener | None) -> None:
        with _marking:
            self._on_abort = listener
            if listener is None:
                self._listeners.pop(self._call_on_abort, None)
            else:
                self.add_listener(self._call_on_abort)
            self._keep()

    def _call_on_abort(self, signal: AbortSignal) -> None:
        if self._on_abort is not None:
            self._on_abort(signal)

    def _keep(self) -> None:
        """A dependent that somebody listens to lives as long as its sources; any other as long as its users."""
        for source in self._sources:
            if self._listeners:
                source._listened.add(self)
            else:
                source._listened.discard(self)

    # --- aborting -----------------------------------------------------------------------------------------------

    def _abort(self, reason: Any) -> None:
        with _marking:
            if self._reason is not _NOT_GIVEN:
                return
            self._reason = reason
            todo = self._mark_dependents(reason)
        for signal in (self, *todo):
            signal._run_listeners()

    def _mark_dependents(self, reason: Any) -> list[AbortSignal]:
        marked = []
        for _, ref in sorted(self._dependents.items()):
            dependent = ref()
            if dependent is not None and not dependent.aborted:
                dependent._reason = reason
                marked.append(dependent)
        self._dependents.clear()
        self._listened.clear()
        return marked

    def _run_listeners(self) -> None:
        while True:
            with _marking:
                listener = next(iter(self._listeners), None)
                if listener is None:
                    return
                del self._listeners[listener]
            try:
                listener(self)
            except Exception as error:  # noqa: BLE001 (one listener's error is not the others')
                hook: Callable[[Any], object] = sys.unraisablehook
                hook(_Unraisable(type(error), error, error.__traceback__, "in an abort listener", listener))


class _Unraisable:
    """What `sys.unraisablehook` wants (sys.UnraisableHookArgs cannot be made from Python)."""

    def __init__(self, exc_type: Any, exc_value: Any, exc_traceback: Any, err_msg: str, object: Any) -> None:  # noqa: A002
        self.exc_type = exc_type
        self.exc_value = exc_value
        self.exc_traceback = exc_traceback
        self.err_msg = err_msg
        self.object = object


class AbortController:
    """Makes a signal and can abort it."""

    def __init__(self) -> None:
        self._signal = AbortSignal._new()

    @property
    def signal(self) -> AbortSignal:
        return self._signal

    def abort(self, reason: Any = _NOT_GIVEN) -> None:
        """Abort the signal; a second call does nothing and keeps the first reason."""
        self._signal._abort(_given(reason))


def _given(reason: Any) -> Any:
    return AbortError("the operation was aborted") if reason is _NOT_GIVEN else reason


_serial = itertools.count()


class _Timeouts:
    """One thread for all time-outs, so that equal ones fire in the order they were made. Started when first needed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, AbortSignal]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, signal: AbortSignal) -> None:
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(_serial), signal))
            if self._thread is None or not self._thread.is_alive():  # a forked child has none
                self._thread = threading.Thread(target=self._run, name="annul-timeouts", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                _, _, signal = heapq.heappop(self._heap)
            signal._abort(TimeoutError("the time-out of this signal has passed"))


_timeouts = _Timeouts()
