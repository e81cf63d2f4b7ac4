"""What a job's forks do to its SIGTERM.

It is held back in the thread that forks: one sent to the child before it has put its parent's handler away waits there,
and is not lost. (Programs run by `subprocess` need no such thing: exec(2) resets handlers.) And while hooks run, of
`os.register_at_fork`, nothing may be raised in the main thread: Python would swallow it, and leave the locks that other
libraries' hooks hold in disorder.

Nothing here is locked: a job may fork in several threads, and in a signal handler that comes in the middle of a fork.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from annul.runtime.sigaction import set_handler

# Tripped in the main thread after each fork, never sent. A job that handles it itself is called then.
AGAIN_SIGNAL: Any = int(signal.SIGRTMIN) + 3


class Forks:
    """The forks of this process. Made once, in the main thread."""

    def __init__(self, deliver: Callable[[], None]) -> None:
        """`deliver`: called in the main thread after a fork in which `put_off` was. Hooks that are registered before
        run in children before a SIGTERM does.
        """
        self._deliver = deliver
        self._late = False
        self._own = threading.local()  # of each thread: `forking`, and its signal masks `before` its forks
        set_handler(AGAIN_SIGNAL, lambda *_: self._again())
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._release)
        # These are C functions: no handler can run in them. What is registered later comes earlier before a fork.
        over = partial(setattr, self._own, "forking", False)
        os.register_at_fork(
            before=partial(setattr, self._own, "forking", True), after_in_parent=over, after_in_child=over
        )
        os.register_at_fork(after_in_parent=partial(_thread.interrupt_main, AGAIN_SIGNAL))

    def put_off(self) -> bool:
        """Whether this thread, the main one, is forking, after which `deliver` is then called."""
        self._late = getattr(self._own, "forking", False)
        return self._late

    def _again(self) -> None:
        if self._late:
            self._deliver()

    def _hold(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._own.__dict__.setdefault("before", []).append(before)

    def _release(self) -> None:
        before = self._own.__dict__.get("before")
        if before:
            signal.pthread_sigmask(signal.SIG_SETMASK, before.pop())
