"""Pebble: a pool of processes in the program that submits; no broker, nothing kept."""

from __future__ import annotations

from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from pebble import ProcessPool

from bench.peers import work
from bench.peers.system import WORKERS, System


class Pebble(System):
    """With a process per job, forked ahead."""

    about = f"ProcessPool(max_workers={WORKERS}, max_tasks=1), in the submitting program; cancel: future.cancel()"
    packages = ("pebble",)
    durable = "never"

    def start(self, folder: Path) -> None:  # noqa: ARG002
        self._pool = ProcessPool(max_workers=WORKERS, max_tasks=1)
        self._jobs = work.jobs()

    def submit(self, job: str, where: str, token: str) -> Any:
        return self._pool.schedule(self._jobs[job], args=(where, token))

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:  # noqa: ARG002 - SIGKILL follows after 3 s
        return bool(handle.cancel())

    def outcome(self, handle: Any) -> str:
        try:
            handle.result(timeout=15)
        except CancelledError:
            return "cancelled"
        except NotYet:
            return "unknown"
        return "success"

    def park(self, where: str) -> None:
        """Behind the sleepers that `submits` has put in front."""
        self.submit("empty", where, "parked")

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()
        super().stop()
