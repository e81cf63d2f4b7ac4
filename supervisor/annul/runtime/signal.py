"""The job's own AbortSignal: its source is the board, and SIGTERM delivers it.

How a cancel reaches the job's code (`interrupt` of the job type):

``raise``  the SIGTERM handler raises `Cancelled` in the main thread, so that blocking calls end at once
``task``   the job's asyncio task is cancelled
``flag``   nothing; the job looks at the signal, or listens to it

Listeners run on a watcher thread, woken through `signal.set_wakeup_fd`, which the C-level handler writes to also while
the main thread is inside a call that does not return; never in the handler, where any lock could be held.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any, Self

from annul.abort import AbortSignal, Listener, _marking
from annul.board import FLAG, Board
from annul.errors import Cancelled
from annul.jobtype import Interrupt
from annul_client.wire import Stage

_OUTSIDE = "SIGTERM from outside annul"


class JobSignal(AbortSignal):
    """`ctx.signal`. Beyond the web's AbortSignal it knows when SIGKILL comes, and who asked.

    Handler and `shield` belong to the main thread; everything else may be used from any.
    """

    @classmethod
    def install(cls, board: Board, interrupt: Interrupt) -> JobSignal:
        """Make it and put the SIGTERM handler in place. Called once, in the main thread, before any user code."""
        self = cls._new()
        self._connect(board, interrupt)
        return self

    def _connect(self, board: Board, interrupt: Interrupt) -> None:
        self._board = board
        self._memory = board.memory
        self._interrupt = interrupt
        self._pid = os.getpid()
        self._armed = False  # the job's own code runs
        self._shields = 0
        self._raised: weakref.ref[Cancelled] | None = None  # by the handler
        self._reason_ref: weakref.ref[Cancelled] | None = None
        self._outside = False  # a SIGTERM without a cancel on the board
        self.stage: Stage | None = None  # how it was delivered first
        self._fired = False
        self._watcher: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._wake_read, True)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a child that the job forks: SIGTERM ends it, as any process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._armed = False

    # --- asking -------------------------------------------------------------------------------------------------

    @property
    def aborted(self) -> bool:
        return self._memory[FLAG] != 0

    @property
    def reason(self) -> Any:
        """A `Cancelled` with the asker's words; None while not aborted.

        Held weakly, so that an exception swallowed by accident is seen to be gone and is raised again.
        """
        if not self.aborted:
            return None
        with _marking:
            reason = self._reason_ref() if self._reason_ref else None
            if reason is None:
                reason = Cancelled(self._words())
                self._reason_ref = weakref.ref(reason)
            return reason

    def _words(self) -> str:
        found = self._board.cancel()
        return _OUTSIDE if found is None else found[0].reason or found[0].kind

    @property
    def kind(self) -> str | None:
        """ "cancel", "timeout" or "shutdown"; None while not aborted."""
        found = self._board.cancel()
        return found[0].kind if found else None

    @property
    def requested_by(self) -> str | None:
        """Who asked; None while not aborted."""
        found = self._board.cancel()
        return found[0].by if found else None

    @property
    def deadline(self) -> float | None:
        """When SIGKILL comes, on `time.monotonic()`; None while not aborted. It may still come nearer."""
        found = self._board.cancel()
        return found[1] / 1e9 if found else None

    def time_left(self) -> float | None:
        """Seconds until SIGKILL, 0 at the least; None while not aborted."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def throw_if_aborted(self) -> None:
        """Raise `Cancelled` if the job is to stop; not inside `shield`."""
        if self._memory[FLAG] != 0 and not (self._shields and self._in_main()):
            self._board.stamp_noticed(time.monotonic_ns())
            self.stage = self.stage or Stage.FLAG
            raise self.reason

    # --- delivery -----------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """From here on the job's own code runs and may be interrupted. Raises `Cancelled` if it is to stop already."""
        self._armed = True
        self._deliver()

    def interrupt_by(self, interrupt: Interrupt) -> None:
        """Set how cancels are delivered, where the job type was imported only now."""
        self._interrupt = interrupt

    def disarm(self) -> None:
        """From here on it is annul's code again, which is not interrupted."""
        self._armed = False

    def shield(self) -> Shield:
        """``with ctx.signal.shield():`` no cancel is raised in here (main thread); it is on the way out. Nests.

        Non-guarantee: SIGKILL at the deadline comes through; see `time_left`.
        """
        return Shield(self)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if os.getpid() != self._pid:
            return
        if not self.aborted:
            self._outside = True
        self._board.stamp_noticed(time.monotonic_ns())
        # Asyncio may have taken the wake-up descriptor for itself: this write reaches the watcher all the same.
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass  # full: it is awake
        self.stage = self.stage or Stage.SIGTERM
        self._deliver()

    def _deliver(self) -> None:
        if not (self.aborted or self._outside) or self._interrupt != "raise" or not self._armed or self._shields:
            return
        # Not while the job cleans up after the last one: that is so as long as its exception lives. It is dead where
        # something swallowed it (a destructor, a callback from C), and then it is raised again.
        if (self._raised is not None and self._raised() is not None) or _unwinding():
            return
        cancelled = Cancelled(self._words())
        self._raised = weakref.ref(cancelled)
        try:
            raise cancelled
        finally:
            del cancelled  # the traceback holds this frame: without this the exception would hold itself alive

    @staticmethod
    def _in_main() -> bool:
        return threading.get_ident() == threading.main_thread().ident

    # --- listeners ----------------------------------------------------------------------------------------------

    def add_listener(self, listener: Listener) -> None:
        super().add_listener(listener)
        self._watch()

    def _depend(self, dependent: AbortSignal) -> None:
        super()._depend(dependent)
        self._watch()

    def _watch(self) -> None:
        with _marking:
            if self._watcher is None and os.getpid() == self._pid:
                self._watcher = threading.Thread(target=self._wait_and_fire, name="annul-watcher", daemon=True)
                self._watcher.start()

    def _wait_and_fire(self) -> None:
        while not self.aborted:
            os.read(self._wake_read, 64)
        with _marking:
            if self._fired:
                return
            self._fired = True
            todo = self._mark_dependents(self.reason)
        for one in (self, *todo):
            one._run_listeners()


class Shield:
    """The context manager of `JobSignal.shield`. No generator: a signal may arrive between any two steps."""

    __slots__ = ("_counts", "_signal")

    def __init__(self, signal_: JobSignal) -> None:
        self._signal = signal_
        self._counts = JobSignal._in_main()  # in other threads nothing is ever raised

    def __enter__(self) -> Self:
        if self._counts:
            self._signal._shields += 1
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts:
            self._signal._shields -= 1
            self._signal._deliver()


def _unwinding() -> bool:
    """Whether a `Cancelled` is being handled now, at any depth: in a finally, an except, a with block's exit."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, Cancelled):
            return True
        error = error.__context__
    return False
