"""`python -m bench.abort_cost`: what a look at a job's signal costs, beside other flags. Fails above LIMIT.

Each figure is the least of many short runs, less an empty loop's: what the machine does besides does not count.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
import threading
import timeit
from pathlib import Path
from typing import Any

from annul.abort import AbortController, AbortSignal
from annul.board import Board
from annul.runtime.signal import JobSignal

LIMIT = 3.0  # times `threading.Event.is_set()`
LOOKS = 20_000
RUNS = 200


def nanoseconds(statement: str, **names: Any) -> float:
    """Of one execution."""
    empty = min(timeit.repeat("pass", number=LOOKS, repeat=RUNS // 4))
    return (min(timeit.repeat(statement, globals=names, number=LOOKS, repeat=RUNS)) - empty) / LOOKS * 1e9


def measure() -> dict[str, float]:
    """Nanoseconds by what was asked. Puts the handler of SIGTERM back afterwards."""
    handler = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory() as folder:
        board = Board.create(Path(folder, "board"))
        job_signal = JobSignal.install(board, "raise")
        try:
            return {
                "threading.Event.is_set()": nanoseconds("event.is_set()", event=threading.Event()),
                "multiprocessing.Event.is_set()": nanoseconds("event.is_set()", event=multiprocessing.Event()),
                "job signal .aborted": nanoseconds("signal.aborted", signal=job_signal),
                "job signal .throw_if_aborted()": nanoseconds("signal.throw_if_aborted()", signal=job_signal),
                "controller's signal .aborted": nanoseconds("signal.aborted", signal=AbortController().signal),
                "any([job signal]) .aborted": nanoseconds("signal.aborted", signal=AbortSignal.any([job_signal])),
            }
        finally:
            signal.signal(signal.SIGTERM, handler)
            signal.set_wakeup_fd(-1)


def main() -> int:
    found = measure()
    floor = found["threading.Event.is_set()"]
    print(f"Python {sys.version.split()[0]}")
    for name, cost in found.items():
        print(f"{name:32} {cost:8.1f} ns {cost / floor:6.2f} x")
    ratio = found["job signal .aborted"] / floor
    print(f"job signal / Event: {ratio:.2f} (at most {LIMIT:g})")
    return ratio > LIMIT


if __name__ == "__main__":
    sys.exit(main())
