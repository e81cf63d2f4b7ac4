"""What every system that is measured is asked for."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers import processes

WORKERS = 2


class System(ABC):
    """One system in one configuration. Owned by the thread that measures.

    `open` once, then `start` and `stop` for every figure, `close` at the end.
    """

    about: str  # the configuration, for the footnote
    packages: tuple[str, ...]  # whose versions are told
    gone = "process"  # what ends with a cancelled job: its "process", or only its "code"
    durable = "redis"  # whether a submit is durable when it returns: "always", "never", or as its "redis" is
    harder = ""  # the API's harder cancel, where it has one
    figures: frozenset[str] | None = None  # those that tell something; None: all

    def open(self, folder: Path) -> None:  # noqa: B027 - most have nothing to do
        """Make what outlives the single figures."""

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Start the workers, in a folder of this figure's own; they need not be ready yet."""

    @abstractmethod
    def submit(self, job: str, where: str, token: str) -> Any:
        """Queue a job; its handle."""

    @abstractmethod
    def cancel(self, handle: Any, *, hard: bool = False) -> bool:
        """Cancel a job, also one that runs, in the fastest way. False where the system refused it."""

    def cancel_told(self, handle: Any) -> bool:
        """The same, in the way that best tells whether it was accepted. Where nothing tells that: True."""
        return self.cancel(handle)

    @abstractmethod
    def outcome(self, handle: Any) -> str:
        """How the job ended, once it has: "success", or something else. "unknown" if that is not told in time."""

    @abstractmethod
    def park(self, where: str) -> None:
        """Queue a job that nobody runs during the figure."""

    def park_pipelined(self, where: str, count: int) -> bool:  # noqa: ARG002
        """Many, without waiting for an answer to one before the next is sent. False: there is no such way."""
        return False

    def park_bulk(self, where: str, count: int) -> bool:  # noqa: ARG002
        """Many in one call. False: there is no such way."""
        return False

    def set_durable(self) -> None:  # noqa: B027 - most always are, or never
        """From now on a submit is on the disk when it returns, where `durable` says that this depends on Redis."""

    def stop(self) -> None:
        """End what `start` started, and all that came of it."""
        processes.end_descendants()

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """End what `open` made."""


def spawn(argv: Sequence[str], folder: Path) -> None:
    """Start a worker; what it says goes to a log in the folder. It is ended with all other descendants."""
    with open(folder / "workers.log", "ab") as log:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
