"""What is measured, by the same code for every system. Milliseconds in what is given back, seconds inside."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path
from typing import Any

from bench.__main__ import N, quantile
from bench.peers.system import WORKERS, System
from bench.peers.witness import Watch, Witness, readable
from bench.peers.work import BRIEF_S

IDLE_S = 0.05
AGE_S = 0.05  # of a job that is cancelled
LIMIT_S = 10.0  # "never" is: not within that
NEVERS = 2  # that end a figure: then all workers are taken
SPAN_S = 15.0  # after which a figure begins no more trials
AROUND_S = 0.005  # the race: cancels from so long before to so long after the job's natural end
AFTER_S = 2.0  # a grandchild that lives so long after the cancel is taken as left over

Figure = dict[str, Any]
_tokens = (f"t{number}" for number in numbers())


class Running:
    """A system that is up, and the witness of its jobs."""

    def __init__(self, system: System, witness: Witness) -> None:
        self.system = system
        self.witness = witness

    def submit(self, job: str) -> tuple[Any, str]:
        """(Its handle, the token that it reports under.)"""
        token = next(_tokens)
        return self.system.submit(job, self.witness.where, token), token

    def wait_ready(self) -> None:
        """Until all workers are up: two jobs ran at the same time."""
        while True:
            both = [self.submit("brief") for _ in range(WORKERS)]
            starts = [self.witness.report(token).at_ns for _, token in both]
            for handle, _ in both:
                self.system.outcome(handle)
            if (max(starts) - min(starts)) / 1e9 < BRIEF_S:
                return

    def gone_fd(self, fds: list[int]) -> int:
        return fds[0 if self.system.gone == "process" else 1]


@contextmanager
def running(system: System) -> Iterator[Running]:
    """Started for one figure, with all workers up; ended with all that came of it."""
    with tempfile.TemporaryDirectory(prefix="annul-b-") as name:
        folder = Path(name)
        witness = Witness(folder)
        try:
            system.start(folder)
            up = Running(system, witness)
            up.wait_ready()
            yield up
        finally:
            system.stop()
            witness.close()


def spread(values_s: list[float]) -> Figure:
    values = sorted(values_s)
    return {"p50_ms": quantile(values, 0.5) * 1e3, "p99_ms": quantile(values, 0.99) * 1e3, "n": len(values)}


def start(up: Running, job: str, count: int, *, idle_s: float) -> Figure:
    """submit -> first line of the job's function: nothing else runs, and nothing was asked for `idle_s` before."""
    handle, _ = up.submit(job)
    up.system.outcome(handle)
    took: list[float] = []
    end = time.monotonic() + SPAN_S
    while len(took) < count and time.monotonic() < end:
        time.sleep(idle_s)
        begin = time.monotonic_ns()
        handle, token = up.submit(job)
        took.append((up.witness.report(token).at_ns - begin) / 1e9)
        up.system.outcome(handle)
    return spread(took)


def throughput(up: Running, job: str, count: int) -> Figure:
    """Jobs a second: of so many, or of a tenth where those would take too long."""
    few = max(2 * WORKERS, count // 10)
    rate = _rate(up, job, few)
    if count / rate > SPAN_S:
        return {"per_second": rate, "n": few}
    return {"per_second": _rate(up, job, count), "n": count}


def _rate(up: Running, job: str, count: int) -> float:
    """From the first submit to the first line of the last one that started."""
    begin = time.monotonic_ns()
    tokens = [up.submit(job)[1] for _ in range(count)]
    last = max(up.witness.report(token).at_ns for token in tokens)
    return count / ((last - begin) / 1e9)


def cancel(up: Running, job: str, count: int, *, hard: bool = False) -> Figure:
    """Cancel asked -> what ran the job is gone, seen by a descriptor of it."""
    took: list[float] = []
    never = 0
    end = time.monotonic() + SPAN_S
    while len(took) < count and never < NEVERS and time.monotonic() < end:
        handle, token = up.submit(job)
        fd = up.gone_fd(up.witness.report(token).fds)
        time.sleep(AGE_S)
        watch = Watch(fd, LIMIT_S)
        asked = time.monotonic()
        accepted = up.system.cancel(handle, hard=hard)
        at = watch.wait()
        if at is None or not accepted:
            never += 1
        else:
            took.append(at - asked)
    return {**(spread(took) if took else {"n": 0}), "never": never}


def grandchildren(up: Running, count: int) -> Figure:
    """Which part of them lives on after their jobs were cancelled and are gone."""
    left: list[tuple[int, float]] = []  # (pidfd, when its job was gone)
    end = time.monotonic() + SPAN_S
    try:
        while len(left) < count and time.monotonic() < end:
            handle, token = up.submit("parent")
            grandchild = up.witness.report(token, "grandchild").fds[0]
            fd = up.gone_fd(up.witness.report(token).fds)
            time.sleep(AGE_S)
            watch = Watch(fd, LIMIT_S)
            up.system.cancel(handle)
            at = watch.wait()
            if at is None:
                _kill(grandchild)
                return {"never": 1, "n": len(left)}
            left.append((grandchild, at))
        alive = sum(not readable(fd, at + AFTER_S - time.monotonic()) for fd, at in left)
    finally:
        for fd, _ in left:
            _kill(fd)
    return {"alive_percent": 100 * alive / len(left), "n": len(left)}


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass


def race(up: Running, count: int) -> Figure:
    """Cancels around the natural end: which part of the accepted ones end as a success nevertheless.

    Also, judged by the witness alone: of those that were asked before the job's last line ran.
    """
    accepted, running_then = [], []
    for number in range(count):
        offset_s = AROUND_S * (2 * number / max(1, count - 1) - 1)
        handle, token = up.submit("brief")
        first = up.witness.report(token)
        at = first.at_ns / 1e9 + BRIEF_S + offset_s
        time.sleep(max(0.0, at - time.monotonic() - 0.001))
        while time.monotonic() < at:
            pass
        asked_ns = time.monotonic_ns()
        ok = up.system.cancel_told(handle)
        success = up.system.outcome(handle) == "success"
        last = up.witness.report_if_any(token, "last", 0.02)
        if ok:
            accepted.append(success)
        if last is None or asked_ns < last.at_ns:
            running_then.append(success)
    return {
        **_part("success_of_accepted", accepted),
        **_part("success_of_running", running_then),
        "n": count,
    }


def _part(name: str, wins: list[bool]) -> Figure:
    return {f"{name}_percent": 100 * sum(wins) / len(wins) if wins else None, f"{name}_n": len(wins)}


def submits(up: Running, count: int) -> Figure:
    """Submits a second, all workers taken by other jobs: as it comes, and durable where that is another thing."""
    for _ in range(WORKERS):
        _, token = up.submit("sleep")
        up.witness.report(token)
    found = {"always": "durable", "never": "volatile", "redis": "volatile"}[up.system.durable]
    figure = {found: _rates(up, count)}
    if up.system.durable == "redis":
        up.system.set_durable()
        figure["durable"] = _rates(up, count)
    return figure


def _rates(up: Running, count: int) -> Figure:
    where = up.witness.where
    found: Figure = {}

    def one_by_one() -> bool:
        for _ in range(count):
            up.system.park(where)
        return True

    ways: dict[str, tuple[int, Callable[[], bool]]] = {
        "one_by_one": (count, one_by_one),
        "pipelined": (3 * count, lambda: up.system.park_pipelined(where, 3 * count)),
        "bulk": (3 * count, lambda: up.system.park_bulk(where, 3 * count)),
    }
    for name, (amount, way) in ways.items():
        begin = time.monotonic()
        if way():
            found[name] = amount / (time.monotonic() - begin)
    return found


FIGURES: dict[str, Callable[[Running], Figure]] = {
    "start": lambda up: start(up, "empty", N // 2, idle_s=IDLE_S),
    "start_next": lambda up: start(up, "empty", N // 2, idle_s=0),
    "throughput": lambda up: throughput(up, "empty", N),
    "cancel": lambda up: cancel(up, "sleep", N // 3),
    "cancel_tick": lambda up: cancel(up, "tick", N // 3),
    "stubborn": lambda up: cancel(up, "stubborn", N // 6),
    "stubborn_hard": lambda up: cancel(up, "stubborn", N // 6, hard=True),
    "grandchildren": lambda up: grandchildren(up, N // 10),
    "race": lambda up: race(up, N // 2),
    "submits": lambda up: submits(up, 3 * N),
}
HEAVY: dict[str, Callable[[Running], Figure]] = {
    "start": lambda up: start(up, "heavy", N // 6, idle_s=IDLE_S),
    "start_next": lambda up: start(up, "heavy", N // 6, idle_s=0),
    "throughput": lambda up: throughput(up, "heavy", N // 6),
}


def measure(system: System, tell: Callable[[str], None]) -> dict[str, Figure]:
    """All figures of one system, by name; one that fails says how, and the others go on."""
    heavy = bool(os.environ.get("BENCH_HEAVY"))
    found: dict[str, Figure] = {}
    for name, figure in (HEAVY if heavy else FIGURES).items():
        if system.figures is not None and name not in system.figures:
            continue
        if name == "stubborn_hard" and not system.harder:
            continue
        key = f"{name}_heavy" if heavy else name
        begin = time.monotonic()
        try:
            with running(system) as up:
                found[key] = figure(up)
        except Exception as error:  # noqa: BLE001 - the others are still measured
            found[key] = {"error": f"{type(error).__name__}: {error}"}
        tell(f"{key}: {found[key]} ({time.monotonic() - begin:.1f} s)")
    return found
