"""The floors: what the kernel, SQLite and ZeroMQ take for the least that a supervisor must do. Seconds."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def repeat(count: int, once: Callable[[], float]) -> list[float]:
    return sorted(once() for _ in range(count))


def fork_exec() -> float:
    """fork + exec of /bin/true, until it is reaped."""
    start = time.perf_counter()
    subprocess.run(["/bin/true"], check=True)
    return time.perf_counter() - start


def python_start() -> float:
    """A bare Python, until it is reaped: what a process per job costs without a zygote."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-E", "-c", ""], check=True)
    return time.perf_counter() - start


def fork_wait() -> float:
    """fork + exit + wait of this image."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - start


def signal_to_reap(argv: list[str], signum: int, ready: bool) -> float:
    """pidfd signal to reaped, of a child that sleeps."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    fd = os.pidfd_open(child.pid)
    assert child.stdout is not None
    if ready:
        child.stdout.readline()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    start = time.perf_counter()
    signal.pidfd_send_signal(fd, signum)
    poll.poll()
    child.wait()
    took = time.perf_counter() - start
    os.close(fd)
    child.stdout.close()
    return took


def sigkill_to_reap() -> float:
    """pidfd SIGKILL to reaped, of /bin/sleep."""
    return signal_to_reap(["/bin/sleep", "3600"], signal.SIGKILL, ready=False)


_SLEEPER = (
    "import signal, sys, time\n"
    "def stop(*_): raise KeyboardInterrupt\n"
    "signal.signal(signal.SIGTERM, stop)\n"
    "try:\n"
    "    print('ready', flush=True)\n"
    "    time.sleep(3600)\n"
    "except KeyboardInterrupt: pass\n"
)


def sigterm_to_reap() -> float:
    """pidfd SIGTERM to reaped, of a bare Python child whose handler raises out of a sleep."""
    return signal_to_reap([sys.executable, "-S", "-E", "-c", _SLEEPER], signal.SIGTERM, ready=True)


@contextmanager
def store(folder: Path) -> Iterator[Callable[[], float]]:
    """Commits one row, durably (WAL, synchronous=FULL), each time it is called; how long that took."""
    db = sqlite3.connect(folder / "floor.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (a)")

    def once() -> float:
        start = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (1)")
        db.execute("COMMIT")
        return time.perf_counter() - start

    yield once
    db.close()
