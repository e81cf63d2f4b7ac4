"""Watching jobs: the loop of the main thread, and those that ask the daemon for it.

The main thread sleeps until a key is pressed, or something is in the inbox: an event, an answer, a signal. While jobs
live it looks at their processes once a second; it draws at most a few times a second. It never waits for the daemon:
what is asked is asked in other threads, so that `q` works whatever the daemon does.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic

from annul_client import wire
from annul_client.cli.options import whoami
from annul_client.cli.out import printable
from annul_client.cli.words import ending
from annul_client.errors import AnnulClientError, ClientClosed, EventsLost
from annul_client.sync import Client

from .jobs import Watched, snapshot
from .screen import Screen
from .terminal import QUIT, keys_of, read_keys, signals_to
from .usage import Usage, Used

DRAW_EVERY_S = 0.25
LOOK_EVERY_S = 1.0
"""Seconds between two looks at the processes of jobs that live."""
AGAIN_S = 1.0
"""Seconds before a daemon that is away is tried again."""
LOG_BYTES = 64 * 1024
"""Of a log, from its end, that can be read here."""

Note = Callable[[], None]
"""What somebody puts into the inbox: what the main thread is to do about it."""


class Watch:
    """One run of ``annul watch``. Owned by the main thread, but for the inbox."""

    def __init__(self, client: Client, screen: Screen, user: str | None, type_name: str | None, keys_fd: int) -> None:
        self._client = client
        self._screen = screen
        self._filter = (user, type_name)
        self._keys_fd = keys_fd
        self._watched = Watched(user, type_name)
        self._usage = Usage(client.endpoint)
        self._used: dict[str, Used] = {}
        self._inbox: SimpleQueue[Note] = SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._over = threading.Event()
        self._said = ""
        self._away = ""
        self._confirm: wire.Job | None = None  # the job of which "cancel?" is asked
        self._log: Log | None = None  # what is read, if anything is
        self._dirty = True

    def run(self) -> None:
        """Until somebody quits. Raises what the client raises where it cannot begin; the terminal is as it was then."""
        since, jobs = snapshot(self._client, *self._filter)
        self._watched.replace(jobs)
        threading.Thread(target=self._listen, args=(since,), daemon=True).start()
        try:
            with signals_to(lambda key: self._put(lambda: self._press(key))) as signals, keys_of(self._keys_fd):
                self._screen.start()
                try:
                    self._loop(signals)
                finally:
                    self._screen.stop()
        finally:
            self._over.set()

    def _loop(self, signals: int) -> None:
        draw_at = look_at = 0.0
        while not self._over.is_set():
            now = monotonic()
            if now >= look_at and self._lives:
                self._look()
                look_at = now + LOOK_EVERY_S
            if self._dirty and now >= draw_at:
                self._draw()
                draw_at = now + DRAW_EVERY_S
            # With something to be drawn that was drawn just now, events pile up until it is time again.
            until = draw_at if self._dirty else look_at if self._lives else None
            timeout = None if until is None else max(0.0, until - now)
            wakes = [] if self._dirty else [self._wake]
            ready, _, _ = select.select([self._keys_fd, signals, *wakes], [], [], timeout)
            if signals in ready:
                os.read(signals, 100)
            if self._keys_fd in ready:
                for key in read_keys(self._keys_fd):
                    self._press(key)
                draw_at = 0.0
            self._take_notes()

    @property
    def _lives(self) -> bool:
        return any(not job.state.final for job in self._watched.all()[:1])

    def _look(self) -> None:
        """At the processes, and at the log that is being read; and the ages are others now."""
        self._used = self._usage.look(self._watched.all())
        if self._log is not None and not self._log.done:
            self._read_log(self._log)
        self._dirty = True

    def _draw(self) -> None:
        self._dirty = False
        said = self._away or self._said
        if self._log is not None:
            log = self._log
            log.back = max(0, min(log.back, len(log.lines) - self._screen.height))
            self._screen.draw_log(f"log of {log.job_id}", log.lines, log.back, said, "↑ ↓ scroll   q back")
        elif self._confirm is not None:
            job, asked = self._confirm, f"{self._confirm.id} {self._confirm.type} {printable(self._confirm.title)}"
            what = "kill at once" if job.state is wire.State.CANCELLING else "cancel"
            self._screen.draw_jobs(self._watched, self._used, f"{what}: {asked.rstrip()}?", "y yes   n no")
        else:
            keys = "↑ ↓ select   c cancel   l log   q quit"
            self._screen.draw_jobs(self._watched, self._used, said, keys)

    # --- keys -----------------------------------------------------------------------------------------------

    def _press(self, key: str) -> None:
        self._dirty = True
        if key == "resize":
            return
        if key == QUIT:
            self._over.set()
        elif self._log is not None:
            self._press_in_log(self._log, key)
        elif self._confirm is not None:
            job, self._confirm = self._confirm, None
            if key in ("y", "Y"):
                self._cancel(job)
        else:
            self._press_in_table(key)

    def _press_in_table(self, key: str) -> None:
        page = self._screen.height
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -page, "page-down": page}
        self._said = ""
        selected = self._watched.selected()
        if key in moves:
            self._watched.move(moves[key])
        elif key == "q":
            self._over.set()
        elif key == "c" and selected is not None:
            if selected.state.final:
                self._said = f"{selected.id} is over: {printable(ending(selected))}"
            else:
                self._confirm = selected
        elif key in ("l", "enter") and selected is not None:
            self._log = Log(selected.id)
            self._read_log(self._log)

    def _press_in_log(self, log: Log, key: str) -> None:
        page = self._screen.height
        moves = {"up": 1, "k": 1, "down": -1, "j": -1, "page-up": page, "page-down": -page}
        if key in moves:
            log.back += moves[key]
        elif key in ("q", "l", "escape", "enter"):
            self._log = None

    # --- asking the daemon, in threads of their own --------------------------------------------------------

    def _cancel(self, job: wire.Job) -> None:
        at_once = job.state is wire.State.CANCELLING
        self._said = f"cancelling {job.id} …"

        def ask() -> Note:
            try:
                reply = self._client.cancel(job.id, grace_s=0 if at_once else None, reason="annul watch", by=whoami())
            except (AnnulClientError, OSError) as error:
                said = f"NOT cancelled: {error}"
            else:
                said = f"{job.id}: {reply.outcome.replace('_', ' ')}"
            return lambda: self._say(said)

        self._ask(ask)

    def _read_log(self, log: Log) -> None:
        if log.asked:
            return
        log.asked = True

        def ask() -> Note:
            try:
                piece = self._client.read_log(log.job_id, -LOG_BYTES, LOG_BYTES)
            except (AnnulClientError, OSError) as error:
                said = f"reading the log: {error}"
                return lambda: self._not_read(log, said)
            return lambda: self._have_read(log, piece)

        self._ask(ask)

    def _have_read(self, log: Log, piece: wire.LogsReply) -> None:
        log.asked, log.done = False, piece.done
        log.lines = piece.data.decode(errors="replace").splitlines() or ["(it has written nothing)"]

    def _not_read(self, log: Log, said: str) -> None:
        log.asked, log.done = False, True
        self._say(said)

    def _say(self, said: str) -> None:
        self._said = printable(said)

    def _ask(self, ask: Callable[[], Note]) -> None:
        threading.Thread(target=lambda: self._put(ask()), daemon=True).start()

    def _listen(self, since: int) -> None:
        """In a thread of its own: events, over restarts of the daemon, for as long as it takes."""
        known: int | None = since
        failed = False
        while not self._over.is_set():
            try:
                if failed:
                    self._client.ping()
                    failed = False
                    self._put(lambda: self._set_away(""))
                if known is None:
                    known, jobs = snapshot(self._client, *self._filter)
                    self._put(lambda jobs=jobs: self._watched.replace(jobs))  # type: ignore[misc]
                for event in self._client.events(since=known):
                    known = event.seq
                    self._put(lambda event=event: self._watched.put(event.job))  # type: ignore[misc]
            except ClientClosed:
                return
            except EventsLost:
                known = None
            except (AnnulClientError, OSError) as error:
                failed, said = True, printable(f"{error}; trying again")
                self._put(lambda said=said: self._set_away(said))  # type: ignore[misc]
                self._over.wait(AGAIN_S)

    def _set_away(self, said: str) -> None:
        self._away = said

    # --- the inbox ------------------------------------------------------------------------------------------

    def _put(self, note: Note) -> None:
        """For any thread, and for signal handlers: a SimpleQueue can be put into while it is being put into."""
        self._inbox.put(note)
        os.eventfd_write(self._wake, 1)

    def _take_notes(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        while True:
            try:
                note = self._inbox.get_nowait()
            except Empty:
                return
            note()
            self._dirty = True


class Log:
    """A log that is being read. Owned by the main thread."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.lines: list[str] = ["…"]
        self.back = 0  # lines from the end
        self.asked = False  # for more, and not answered yet
        self.done = False  # there will be no more
