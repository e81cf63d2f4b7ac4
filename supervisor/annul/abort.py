"""AbortController and AbortSignal, with the semantics of the web's: DOM Standard, "Aborting ongoing activities".

    controller = AbortController()
    controller.signal.add_listener(lambda signal: connection.interrupt())
    controller.abort(reason=ValueError("changed my mind"))

Names are Python's, rules are the standard's: a signal is aborted once and keeps its first reason; listeners run once
each, synchronously, in the order they were added; signals made by `any` are all *marked* before any listener runs.
The one addition is the job's own signal (`annul.runtime.signal.JobSignal`), whose source is shared memory.

Thread-safe. The one lock is re-entrant, since `abort` may be called from a listener or a signal handler; it is never
held while a listener runs, and a fork waits for it, so that a child does not find it taken by a thread it has not.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import asyncio

Listener = Callable[["AbortSignal"], object]

_NOT_GIVEN: Any = object()  # `None` is a reason like any other
_marking = threading.RLock()
os.register_at_fork(before=_marking.acquire, after_in_parent=_marking.release, after_in_child=_marking.release)


class AbortError(Exception):
    """The reason of an abort for which none was given, and what wraps a reason that is no exception."""


class AbortSignal:
    """Whether, and why, something is to stop. Made by a controller, `abort`, `timeout` or `any`."""

    _remote: ClassVar[bool] = False  # aborted from elsewhere, without a call in this process: see JobSignal

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
        self._remotes: list[AbortSignal] = []  # those of the sources that have to be looked at
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
            result._remotes = [source for source in sources if source._remote]
            for source in sources:
                source._depend(result)
        return result

    def _depend(self, dependent: AbortSignal) -> None:
        key, dependents = next(_serial), self._dependents
        dependents[key] = weakref.ref(dependent, lambda _: dependents.pop(key, None))

    # --- asking -------------------------------------------------------------------------------------------------

    @property
    def aborted(self) -> bool:
        if self._remotes:
            for source in self._remotes:
                source._settle()
        return self._reason is not _NOT_GIVEN

    @property
    def reason(self) -> Any:
        """The very object given to `abort`; None while not aborted (and where None was given)."""
        return self._reason if self.aborted else None

    def throw_if_aborted(self) -> None:
        """Raise the reason, if aborted: the very object, or an AbortError around what is no exception."""
        if self.aborted:
            reason = self.reason
            raise reason if isinstance(reason, BaseException) else AbortError(reason)

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Block until aborted, or for that many seconds; returns `aborted`."""
        done = threading.Event()

        def wake(_: AbortSignal) -> None:
            done.set()

        try:
            if self._listen(wake):
                done.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            self.remove_listener(wake)
        return self.aborted

    async def wait_async(self) -> None:
        """Wait in an asyncio loop until aborted. Takes no thread; cancelled, it leaves nothing behind."""
        import asyncio  # here: 7 MiB that jobs which do not use it need not have

        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake(_: AbortSignal) -> None:
            _call_in(loop, done.set)

        try:
            if self._listen(wake):
                await done.wait()
        finally:
            self.remove_listener(wake)

    def cancel_task(self, task: asyncio.Task[Any]) -> None:
        """Cancel an asyncio task, once, when aborted; soon, where that has happened already."""
        loop = task.get_loop()

        def cancel(_: AbortSignal) -> None:
            _call_in(loop, task.cancel)

        if self._listen(cancel):
            task.add_done_callback(lambda _: self.remove_listener(cancel))
        else:
            cancel(self)

    # --- listening ----------------------------------------------------------------------------------------------

    def add_listener(self, listener: Listener) -> None:
        """Call `listener(signal)` once, when aborted. Added after that, it is not called. Twice counts once.

        It runs in the thread that aborts: that of `abort`'s caller, of the time-outs, or the job's watcher. What it
        raises goes to `sys.unraisablehook`; what is no Exception (a KeyboardInterrupt) comes out of `abort`, once
        all others have been called.
        """
        self._listen(listener)

    def _listen(self, listener: Listener) -> bool:
        """Whether it is going to be called: not where the signal is aborted already."""
        with _marking:
            if self.aborted:
                return False
            self._listeners.setdefault(listener)
            self._keep()
            for source in self._sources or [self]:
                source._watch()
            return True

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
                self.remove_listener(self._call_on_abort)
            else:
                self.add_listener(self._call_on_abort)

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
            todo = [self, *self._mark_dependents(reason)]
        _fire(todo)

    def _mark_dependents(self, reason: Any) -> list[AbortSignal]:
        marked = []
        # A list of the values, which makes no other objects: no collection can change the dict under it.
        for ref in list(self._dependents.values()):
            dependent = ref()
            if dependent is not None and not dependent.aborted:
                dependent._reason = reason
                marked.append(dependent)
                for source in dependent._sources:  # the others need neither keep it nor be looked at any more
                    source._listened.discard(dependent)
                dependent._sources, dependent._remotes = [], []
        self._dependents.clear()
        return marked

    def _settle(self) -> None:
        """Mark the dependents, if aborted from elsewhere."""

    def _watch(self) -> None:
        """See to it that an abort from elsewhere is heard of: there are listeners now."""


def _fire(signals: Iterable[AbortSignal]) -> None:
    """Call the listeners of signals that are marked. Whatever one raises, all the others are called."""
    fatal: BaseException | None = None
    for signal in signals:
        while True:
            with _marking:
                listener = next(iter(signal._listeners), None)
                if listener is None:
                    break
                del signal._listeners[listener]
            try:
                listener(signal)
            except Exception as error:  # noqa: BLE001 (one listener's error is not the others')
                _tell(error, listener)
            except BaseException as error:  # noqa: BLE001 (raised below)
                fatal = fatal or error
    try:
        if fatal is not None:
            raise fatal
    finally:
        del fatal  # its traceback holds this frame


def _fire_in_thread(fire: Callable[[], object]) -> None:
    """In a thread of annul's own nobody is there to raise to."""
    try:
        fire()
    except BaseException as error:  # noqa: BLE001 (told)
        _tell(error, fire)


def _tell(error: BaseException, where: object) -> None:
    """Hand to `sys.unraisablehook` what cannot be raised.

    The interpreter's own hook takes nothing but its own UnraisableHookArgs, which cannot be made from Python.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.stderr.write(f"Exception ignored in an abort listener: {where!r}\n")
        traceback.print_exception(error)
        return
    hook: Callable[[Any], object] = sys.unraisablehook
    hook(_Unraisable(type(error), error, error.__traceback__, "Exception ignored in an abort listener", where))


class _Unraisable:
    """What `sys.unraisablehook` wants."""

    def __init__(self, exc_type: Any, exc_value: Any, exc_traceback: Any, err_msg: str, object: Any) -> None:  # noqa: A002
        self.exc_type = exc_type
        self.exc_value = exc_value
        self.exc_traceback = exc_traceback
        self.err_msg = err_msg
        self.object = object


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass  # Race: the loop was closed, so nobody waits in it


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
        self._changed = threading.Condition(_marking)
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, signal: AbortSignal) -> None:
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(_serial), signal))
            if self._thread is None or not self._thread.is_alive():  # a forked child has none
                self._thread = threading.Thread(target=self._run, name="annul-timeouts", daemon=True)
                self._thread.start()
            self._changed.notify_all()  # in a forked child also the parent's thread counts as waiting

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    left = self._heap[0][0] - time.monotonic() if self._heap else threading.TIMEOUT_MAX
                    self._changed.wait(max(0.0, min(left, threading.TIMEOUT_MAX)))
                _, _, signal = heapq.heappop(self._heap)
            _fire_in_thread(partial(signal._abort, TimeoutError("the time-out of this signal has passed")))
            del signal  # not kept until the next one


_timeouts = _Timeouts()
