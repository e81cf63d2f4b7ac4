"""Ends a daemon, or the guardian of its jobs, with SIGKILL (or stops it) at the N-th thing it does that outlives it, or
that others can see.

A bench copies this file into a directory of its own, which it puts on the daemon's PYTHONPATH. Each daemon is told its
name in the environment (`CRASHING`); guardians are all called "guardian", since zygotes get none of that. Counting
begins when ``at-<name>`` is there; it holds the signal's number and N, 0 for never. Each step is a line in
``steps-<name>``. What is done counts twice, before and after.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Killer:
    """Counts the steps of this process, not of those that are forked from it, and kills."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = os.getpid()
        self.kill = os.kill
        self.at: int | None = None
        self.signum = signal.SIGKILL.value
        self.count = 0
        self.log = -1

    def step(self, name: str) -> None:
        if os.getpid() != self.pid:
            return
        if self.at is None:
            try:
                self.signum, self.at = map(int, (HERE / f"at-{self.name}").read_text().split())
            except FileNotFoundError:
                return
            path = HERE / f"steps-{self.name}"
            self.log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.count += 1
        os.write(self.log, f"{name}\n".encode())
        if self.count == self.at:
            self.kill(self.pid, self.signum)

    def wrap(self, owner: Any, *names: str) -> None:
        """Make functions, or a class's methods, things that count."""
        for name in names:
            setattr(owner, name, self._counted(getattr(owner, name), f"{owner.__name__.rpartition('.')[2]}.{name}"))

    def _counted(self, done: Callable[..., Any], title: str) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            self.step(f"before {title}")
            try:
                return done(*args, **named)
            finally:
                self.step(f"after {title}")

        return counted


def daemon() -> None:
    import shutil

    from annul import launcher, places, server, tree
    from annul.board import Board
    from annul.runtime import outcome
    from annul.store import Store

    assert shutil.rmtree  # it decides by what `os` is when it is imported
    killer = Killer(os.environ["CRASHING"])
    killer.wrap(os, "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "killpg")
    killer.wrap(signal, "pidfd_send_signal")
    killer.wrap(places, "lock")
    killer.wrap(Store, "__init__", "commit", "close")
    killer.wrap(Board, "set_cancel")
    killer.wrap(outcome, "read")
    killer.wrap(launcher.Zygote, "__init__", "ask", "close")
    killer.wrap(launcher, "hand_over", "give_go")
    killer.wrap(tree.CgroupTree, "kill")
    killer.wrap(server.Server, "__init__", "send", "publish", "close")


def guardian() -> None:
    from annul.board import Board
    from annul.runtime import guardian

    killer = Killer("guardian")

    def guard(*args: Any) -> None:
        killer.wrap(os, "rename", "killpg", "waitpid")
        killer.wrap(signal, "pidfd_send_signal")
        killer.wrap(Board, "set_cancel")
        killer.step("before guardian.guard")
        found(*args)
        killer.step("after guardian.guard")

    found, guardian.guard = guardian.guard, guard


if sys.orig_argv[1:4] == ["-m", "annul", "serve"] and "CRASHING" in os.environ:  # the daemon's own process
    daemon()
elif sys.orig_argv[1:3] == ["-m", "annul.runtime.zygote"]:
    guardian()
