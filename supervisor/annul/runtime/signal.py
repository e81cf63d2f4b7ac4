"""The job's own AbortSignal: its source is the board, and SIGTERM delivers it.

How a cancel reaches the job's code (`interrupt` of the job type):

``raise``  the SIGTERM handler raises `Cancelled` in the main thread, so that blocking calls end at once
``task``   the job's asyncio task is cancelled (`annul.runtime.task`)
``flag``   nothing; the job looks at the signal, or listens to it

Once raised it is not raised again while the job cleans up: that is so while a `Cancelled` is being handled, at any
depth, or the one that was raised still lives. It is dead where something swallowed it (a destructor, a callback from
C), and then the next SIGTERM raises again; the daemon repeats it until the job's function has ended.

Listeners run on a watcher thread, woken through `signal.set_wakeup_fd`, which the C-level handler writes to also while
the main thread is inside a call that does not return; never in the handler, where any lock could be held.

Non-guarantees: code that catches `Cancelled` and keeps it (an asyncio task that nobody awaits does) is taken to be
cleaning up until SIGKILL; so is what goes on working inside its ``except`` block. A job that replaces the SIGTERM
handler, or blocks the signal, is told by the flag only.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Self

from annul.abort import AbortSignal, _fire, _fire_in_thread, _marking
from annul.board import FLAG, Board
from annul.errors import Cancelled
from annul.jobtype import Interrupt
from annul.runtime.forking import AGAIN_SIGNAL, Forks
from annul.runtime.sigaction import SIG_DFL, set_handler
from annul_client.wire import Stage

_OUTSIDE = "SIGTERM from outside annul"
_OUTSIDE_MEMORY = bytes([1]) * (FLAG + 1)  # read in place of the board, which is the daemon's to write
_LOOK_AGAIN_MS = 200  # where nothing wakes the watcher: in a forked child, or if the job took the wake-up descriptor


class JobSignal(AbortSignal):
    """`ctx.signal`. Beyond the web's AbortSignal it knows when SIGKILL comes, and who asked.

    Handler and `shield` belong to the main thread; everything else may be used from any, and also in processes that
    the job forks, where nothing is ever raised and no listener of the parent's is called.
    """

    _remote: ClassVar[bool] = True

    @classmethod
    def install(cls, board: Board, interrupt: Interrupt) -> JobSignal:
        """Make it and put the SIGTERM handler in place. Called once, in the main thread, before any user code."""
        self = cls.prepare()
        self.connect(board, interrupt)
        return self

    @classmethod
    def prepare(cls) -> JobSignal:
        """Make one whose board is not known yet. SIGTERM is as it was."""
        self = cls._new()
        self._prepare()
        return self

    def _prepare(self) -> None:
        self._pid = os.getpid()
        self._armed = False  # the job's own code runs
        self._shields = 0
        self._raised: weakref.ref[BaseException] | None = None
        self._reason_ref: weakref.ref[Cancelled] | None = None
        self._cancel_task: Callable[[], object] | None = None
        self._settled = False  # the dependents are marked
        self._to_fire: list[AbortSignal] = []
        self._watcher: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=self._forget)
        self._forks = Forks(self._deliver)

    def connect(self, board: Board, interrupt: Interrupt) -> None:
        """From here on SIGTERM delivers what that board says."""
        self._board = board
        self._memory: mmap.mmap | bytes = board.memory
        self._interrupt = interrupt
        self.stage: Stage | None = None  # how it was delivered first
        self.entered = False  # the job's function was, and has returned
        set_handler(signal.SIGTERM, self._on_sigterm)

    def close(self) -> None:
        """Give up its descriptors and handlers."""
        set_handler(signal.SIGTERM, SIG_DFL)
        set_handler(AGAIN_SIGNAL, SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _forget(self) -> None:
        """In a child that the job forks: SIGTERM ends it, as any process, unless the job has its own handler."""
        self._armed = False
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            set_handler(signal.SIGTERM, SIG_DFL)
        for one in (self, *self._listened):
            one._listeners.clear()
        self._listened.clear()
        self._watcher = None

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
        """ "cancel", "timeout" or "shutdown"; None while not aborted, or where the SIGTERM was not annul's."""
        found = self._board.cancel()
        return found[0].kind if found else None

    @property
    def requested_by(self) -> str | None:
        """Who asked; None as for `kind`."""
        found = self._board.cancel()
        return found[0].by if found else None

    @property
    def deadline(self) -> float | None:
        """When SIGKILL comes, on `time.monotonic()`; None as for `kind`. It may still come nearer."""
        found = self._board.cancel()
        return found[1] / 1e9 if found else None

    def time_left(self) -> float | None:
        """Seconds until SIGKILL, 0 at the least; None as for `kind`."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def throw_if_aborted(self) -> None:
        """Raise `Cancelled` if the job is to stop; not inside `shield`."""
        if self._memory[FLAG] == 0 or (self._shields and self._in_main()):
            return
        self._noticed(Stage.FLAG)
        reason = self.reason
        if self._in_main():
            self._raised = weakref.ref(reason)  # from here on the job cleans up
        try:
            raise reason
        finally:
            del reason  # the traceback holds this frame: without this the exception would hold itself alive

    def _noticed(self, stage: Stage) -> None:
        if os.getpid() == self._pid:  # a child that the job forked speaks for itself only
            self._board.stamp_noticed(time.monotonic_ns())
            self.stage = self.stage or stage

    # --- delivery -----------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """From here on the job's own code runs and may be interrupted. Raises `Cancelled` if it is to stop already."""
        self._armed = True
        self._deliver()

    def interrupt_by(self, interrupt: Interrupt) -> None:
        """Set how cancels are delivered, where the job type was imported only now."""
        self._interrupt = interrupt

    def cancel_by(self, cancel: Callable[[], object] | None) -> None:
        """For ``task``: what a SIGTERM is to call; None: nothing any more. Called also for what has come before."""
        self._cancel_task = cancel
        self._deliver()

    def disarm(self) -> None:
        """From here on it is annul's code again, which is not interrupted."""
        self._armed = False

    def shield(self) -> Shield:
        """``with ctx.signal.shield():`` no cancel is raised in here (main thread); it is on the way out. Nests.

        In an async job it holds for all its tasks, and the way out is the next ``await``. A generator that is
        suspended inside holds it until it is closed.

        Non-guarantee: SIGKILL at the deadline comes through; see `time_left`.
        """
        return Shield(self)

    @property
    def shielded(self) -> bool:
        """Whether a cancel is held back now."""
        return self._shields > 0

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if os.getpid() != self._pid:
            return
        if not self.aborted:
            # Not the daemon's, which sets the flag first, or its board is not this one any more.
            self._memory = _OUTSIDE_MEMORY
        self._noticed(Stage.SIGTERM)
        # Asyncio may have taken the wake-up descriptor for itself: this write reaches the watcher all the same.
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass  # full: it is awake
        self._deliver()

    def _deliver(self) -> None:
        if not self._armed or self._shields or not self.aborted or self._forks.put_off():
            return
        if self._interrupt == "task" and self._cancel_task is not None:
            self._cancel_task()
        elif self._interrupt == "raise" and not (self.cleaning_up or _handling()):
            cancelled = Cancelled(self._words())
            self._raised = weakref.ref(cancelled)
            try:
                raise cancelled
            finally:
                del cancelled  # as in throw_if_aborted

    @property
    def cleaning_up(self) -> bool:
        """Whether a `Cancelled` that this signal raised in the main thread still lives."""
        return self._raised is not None and self._raised() is not None

    @staticmethod
    def _in_main() -> bool:
        return threading.get_ident() == threading.main_thread().ident

    # --- listeners ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._wait_and_fire, name="annul-watcher", daemon=True)
            self._watcher.start()

    def _wait_and_fire(self) -> None:
        poller = select.poll()
        if os.getpid() == self._pid:  # a child has no pipe of its own: it looks now and then
            poller.register(self._wake_read, select.POLLIN)
        while not self.aborted:
            if poller.poll(_LOOK_AGAIN_MS):
                os.read(self._wake_read, 64)
        self._settle()
        todo, self._to_fire = self._to_fire, []
        _fire_in_thread(lambda: _fire(todo))

    def _settle(self) -> None:
        if self._settled or not self.aborted:
            return
        with _marking:
            if not self._settled:
                self._settled = True
                self._to_fire = [self, *self._mark_dependents(self.reason)]


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


def _handling() -> bool:
    """Whether a `Cancelled` is being handled now, at any depth: in a finally, an except, a with block's exit."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, Cancelled):
            return True
        error = error.__context__
    return False
