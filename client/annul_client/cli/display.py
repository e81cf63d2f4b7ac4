"""Showing a job as it goes: a bar on a terminal, an occasional line elsewhere, or nothing. All of it on stderr."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from annul_client import wire

from .out import hint, printable
from .words import progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 5.0
"""Seconds between lines that tell nothing but progress."""


class Display(Protocol):
    """Owned by the main thread. `stop` may be called more than once."""

    def show(self, job: wire.Job) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Quiet:
    """Says only what must be said."""

    def show(self, job: wire.Job) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        hint(text)

    def stop(self) -> None:
        """Nothing to stop."""


class Lines(Quiet):
    """A line for each state and stage; for progress alone, one every few seconds."""

    def __init__(self) -> None:
        self._said: tuple[str, str] | None = None
        self._said_at = 0.0

    def show(self, job: wire.Job) -> None:
        now = monotonic()
        at = (job.state, job.progress.stage)
        same_state = self._said is not None and self._said[0] == at[0]
        if at == self._said and now - self._said_at < LINE_EVERY_S:
            return
        # Stages may follow each other quickly (one a page): states are all told, of those only some.
        if same_state and now - self._said_at < LINE_EVERY_S / 5:
            return
        if job.state.final:
            return  # the command's last line says it, and more
        self._said, self._said_at = at, now
        hint(f"{job.id} {job.state} {progress(job)}".rstrip())


class Bar(Quiet):
    """A progress bar. Gone when it stops, so that only the result stays on the screen."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, job: wire.Job) -> None:
        said = printable(job.progress.stage) if job.state is wire.State.RUNNING else str(job.state)
        if self._progress is None:
            self._start()
        if self._progress is not None and self._task is not None:
            fraction = job.progress.fraction
            self._progress.update(
                self._task,
                description=printable(job.title) or job.type,
                said=said,
                # Without a total the bar moves to and fro: alive, and it does not know how far it is.
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
            )

    def note(self, text: str) -> None:
        if self._progress is None:
            hint(text)
        else:
            self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, said="")
        self._progress.start()


def display_for(*, as_json: bool) -> Display:
    """The one that fits where stderr goes."""
    if sys.stderr.isatty():
        return Bar()
    return Quiet() if as_json else Lines()
