"""Following a job to its end, while a Ctrl-C cancels it.

The signal handler only puts a note into the inbox; so does the thread that reads the events. The main thread
takes them out one by one and does all the rest, so that no cancel is ever sent from inside a handler.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

from annul_client import wire
from annul_client.errors import RequestRefused
from annul_client.sync import Client

from .display import Display
from .options import whoami
from .words import cancel_steps

PUMP_S = (0.1, 0.5)
"""Seconds between two looks at a job's output: while it writes, and at most, while it is silent."""

IMPATIENT = 2
"""Signals that may wait to be read. One more means that the daemon does not answer, and somebody wants out."""

Note = wire.Event | signal.Signals | Exception | None
"""What the inbox holds: an event, a signal to this process, why the events ended, or None at their proper end."""


class Inbox:
    """Takes signals from their handlers while it is open. Owned by the main thread; `put` is for any thread.

    Open it before the job is submitted: a Ctrl-C in between must cancel the job, not lose it.
    """

    CAUGHT = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        # A SimpleQueue, since its `put` may interrupt its own `get`, as a signal handler does.
        self._notes: SimpleQueue[Note] = SimpleQueue()
        self._before: dict[signal.Signals, Any] = {}
        self._unread = 0  # signals in the inbox; changed by the handler, which runs in the main thread too

    def __enter__(self) -> Self:
        for number in self.CAUGHT:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def put(self, note: Note) -> None:
        self._notes.put(note)

    def get(self, timeout_s: float | None) -> Note:
        """The next note; raises queue.Empty when there is none in time."""
        note = self._notes.get(timeout=timeout_s)
        if isinstance(note, signal.Signals):
            self._unread -= 1
        return note

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self._unread += 1
        if self._unread > IMPATIENT:
            raise KeyboardInterrupt
        self._notes.put(signal.Signals(number))


def follow(
    client: Client,
    job: wire.Job,
    inbox: Inbox,
    display: Display,
    pump: Callable[[], bool] | None = None,
) -> wire.Job:
    """The job with its result, once it is in a final state. Signals in the inbox cancel it, the second at once.

    `pump` is called every so often, and once at the end, to pass the job's output on; it says whether there
    was any. Raises what the client raises; the job then goes on without being followed.
    """
    threading.Thread(target=_listen, args=(client, job.id, inbox), daemon=True).start()
    display.show(job)
    cancels = 0
    pause_s = PUMP_S[0]
    while True:
        try:
            note = inbox.get(pause_s if pump else None)
        except Empty:
            pause_s = PUMP_S[0] if pump and pump() else min(pause_s * 2, PUMP_S[1])
            continue
        match note:
            case wire.Event():
                display.show(note.job)
            case signal.Signals():
                cancels += 1
                _cancel(client, job.id, note, display, again=cancels > 1)
            case None:
                break
            case Exception():
                display.note(f"cannot follow job {job.id} any longer; if it goes on, `annul cancel` stops it")
                raise note
    if pump:
        pump()
    return client.get(job.id)


def _listen(client: Client, job_id: str, inbox: Inbox) -> None:
    """Runs in a thread of its own until the job's last event, or until the client is closed."""
    try:
        for event in client.events(job_id=job_id):
            inbox.put(event)
        inbox.put(None)
    except Exception as error:  # noqa: BLE001 - whatever it is, the main thread must not wait for ever
        inbox.put(error)


def _cancel(client: Client, job_id: str, number: signal.Signals, display: Display, *, again: bool) -> None:
    asked = "Ctrl-C" if number is signal.SIGINT else number.name
    try:
        reply = client.cancel(job_id, grace_s=0 if again else None, reason=asked, by=whoami())
    except RequestRefused as error:
        # Going away now would leave the job running behind the back of somebody who wanted it stopped.
        display.note(f"NOT cancelled: {error}. Ctrl-C tries again")
        return
    job = reply.job
    match reply.outcome:
        case wire.CancelOutcome.CANCELLING if again:
            display.note("killing it now")
        case wire.CancelOutcome.CANCELLING:
            grace = f", up to {job.cancel.grace_s:g} s" if job and job.cancel else ""
            display.note(f"cancelling, and waiting until all of it is gone{grace}; Ctrl-C again kills it at once")
        case wire.CancelOutcome.CANCELLED_BEFORE_START:
            display.note("cancelled before it started")
        case wire.CancelOutcome.ALREADY_FINAL if job and job.state is not wire.State.CANCELLED:
            display.note(f"too late to cancel: it has {job.state} already")
        case wire.CancelOutcome.ALREADY_FINAL:
            display.note(f"gone: {cancel_steps(job.cancel)}" if job and job.cancel else "gone")
        case wire.CancelOutcome.NOT_FOUND:
            display.note("the daemon does not know this job any more")
