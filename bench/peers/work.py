"""The jobs, as plain functions: each peer runs these very ones. They tell the witness what it needs over a socket.

`where` is the witness's socket, `token` the trial's name. Nothing heavy is imported here: who imports this in every
job pays for it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BRIEF_S = 0.05  # what the brief job takes
PIECE_S = 0.002  # what a job that looks up now and then sleeps at a time

Job = Callable[[str, str], bool]


def tell(where: str, token: str, kind: str, at_ns: int, fds: tuple[int, ...] = ()) -> None:
    """One datagram: `at_ns` is CLOCK_MONOTONIC, the same clock in every process; descriptors travel along."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect(where)
        socket.send_fds(to, [f"{token} {kind} {os.getpid()} {at_ns}".encode()], fds)


@contextmanager
def watched(where: str, token: str) -> Iterator[None]:
    """Give the witness this process's pidfd, and the end of a pipe that hangs up when this code is left."""
    at_ns = time.monotonic_ns()
    process = os.pidfd_open(os.getpid())  # passed, not looked up by its number: no other process is ever meant
    code, inside = os.pipe()
    try:
        tell(where, token, "first", at_ns, (process, code))
        os.close(process)
        os.close(code)
        yield
    finally:
        os.close(inside)


def empty(where: str, token: str) -> bool:
    """Tell when the first line ran."""
    tell(where, token, "first", time.monotonic_ns())
    return True


def sleep(where: str, token: str) -> bool:
    """Sleep, in one system call."""
    with watched(where, token):
        time.sleep(3600)
    return True


def tick(where: str, token: str) -> bool:
    """Sleep in small pieces: Python code runs in between."""
    with watched(where, token):
        while True:
            time.sleep(PIECE_S)


def stubborn(where: str, token: str) -> bool:
    """Ignore SIGTERM, and whatever is raised in here."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with watched(where, token):
        while True:
            try:
                while True:
                    time.sleep(PIECE_S)
            except BaseException:  # noqa: BLE001 - that is what it is for
                pass


def parent(where: str, token: str) -> bool:
    """Leave a grandchild in a session of its own, no child of anything here, and go on like `tick`."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            tell(where, token, "grandchild", time.monotonic_ns(), (os.pidfd_open(os.getpid()),))
            os.execvp("sleep", ["sleep", "3600"])
        os._exit(0)
    os.waitpid(child, 0)
    return tick(where, token)


def brief(where: str, token: str) -> bool:
    """Take BRIEF_S, and tell of the first and of the last line."""
    start = time.monotonic_ns()
    tell(where, token, "first", start)
    time.sleep(max(0.0, BRIEF_S - (time.monotonic_ns() - start) / 1e9))
    tell(where, token, "last", time.monotonic_ns())
    return True


def jobs() -> dict[str, Job]:
    """By name. The heavy one only where asked for: workers that import it before they fork are bigger."""
    found: dict[str, Job] = {job.__name__: job for job in (empty, sleep, tick, stubborn, parent, brief)}
    if os.environ.get("BENCH_HEAVY"):
        from bench.peers.heavy import heavy

        found["heavy"] = heavy
    return found


def path(name: str) -> str:
    """Of the function, for whom imports it by its name."""
    return "bench.peers.heavy.heavy" if name == "heavy" else f"bench.peers.work.{name}"
