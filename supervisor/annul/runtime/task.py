"""An async job as an asyncio task, and how a cancel reaches it.

The task is cancelled as by `asyncio.Task.cancel`. Once cancelled it is not cancelled again while it cleans up, that is
while the CancelledError that was thrown into it lives. It is dead where the job swallowed it; then the next SIGTERM
cancels again.

Non-guarantee: what a *child* task swallows is not seen while the job's own task waits for it (`asyncio.gather`):
that ends at the deadline.
"""

from __future__ import annotations

import asyncio
import types
import weakref
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from annul.runtime.signal import JobSignal


def run(coroutine: Coroutine[Any, Any, Any], signals: JobSignal) -> Any:
    """As `asyncio.run`, in the main thread, with the coroutine cancelled when SIGTERM comes."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Threads(signals))
        return runner.run(_main(coroutine, signals))


async def _main(coroutine: Coroutine[Any, Any, Any], signals: JobSignal) -> Any:
    canceller = _Canceller(signals)
    signals.cancel_by(canceller)
    try:
        return await _noting(coroutine, canceller)
    finally:
        signals.cancel_by(None)


class _Canceller:
    """Cancels the current task when called, from the signal handler, unless that is being done already."""

    def __init__(self, signals: JobSignal) -> None:
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._asked = False  # cancelled, but the error is still on its way (children clean up first)
        self._thrown: weakref.ref[BaseException] | None = None

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        cleaning_up = self._signals.cleaning_up or (self._thrown is not None and self._thrown() is not None)
        if self._asked or cleaning_up or self._signals.shielded or self._task is None:
            return
        self._asked = self._task.cancel()

    def thrown(self, error: BaseException) -> None:
        """What was thrown into the job's coroutine."""
        if self._asked and isinstance(error, asyncio.CancelledError):
            self._asked = False
            self._thrown = weakref.ref(error)


@types.coroutine
def _noting(coroutine: Coroutine[Any, Any, Any], canceller: _Canceller) -> Generator[Any, Any, Any]:
    """Await a coroutine and note what is thrown into it: ``await`` does not say."""
    value: Any = None
    errors: list[BaseException] = []  # a list, so that nothing here keeps the error once it is passed on
    while True:
        try:
            wanted = coroutine.throw(errors.pop()) if errors else coroutine.send(value)
        except StopIteration as done:
            return done.value
        try:
            value = yield wanted
        except BaseException as error:  # noqa: BLE001 (passed on)
            canceller.thrown(error)
            errors.append(error)


class _Threads(ThreadPoolExecutor):
    """For `asyncio.to_thread`. A cancelled job does not wait for its threads: they end with the process."""

    def __init__(self, signals: JobSignal) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self._signals = signals

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait and not self._signals.aborted, cancel_futures=cancel_futures)
