"""Ends the daemon with SIGKILL at the N-th thing it does that outlives it, or that others can see.

A bench copies this file into a directory of its own, which it puts on the daemon's PYTHONPATH. Counting begins when
``at`` is there; it holds N, 0 for never. Each step is a line in ``steps``. What is done counts twice, before and after.
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
    """Counts the steps, and kills."""

    def __init__(self) -> None:
        self.kill = os.kill
        self.at: int | None = None
        self.count = 0
        self.log = -1

    def step(self, name: str) -> None:
        if self.at is None:
            try:
                self.at = int((HERE / "at").read_text())
            except FileNotFoundError:
                return
            self.log = os.open(HERE / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.count += 1
        os.write(self.log, f"{name}\n".encode())
        if self.count == self.at:
            self.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str) -> None:
        """Make a function, or a class's method, a thing that counts."""
        done: Callable[..., Any] = getattr(owner, name)
        title = f"{owner.__name__.rpartition('.')[2]}.{name}"

        def counted(*args: Any, **named: Any) -> Any:
            self.step(f"before {title}")
            try:
                return done(*args, **named)
            finally:
                self.step(f"after {title}")

        setattr(owner, name, counted)


def install() -> None:
    import shutil

    from annul import launcher, server, tree
    from annul.board import Board
    from annul.runtime import outcome
    from annul.store import Store

    assert shutil.rmtree  # it decides by what `os` is when it is imported
    killer = Killer()
    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "killpg"):
        killer.wrap(os, name)
    killer.wrap(signal, "pidfd_send_signal")
    killer.wrap(Store, "commit")
    killer.wrap(Board, "set_cancel")
    killer.wrap(outcome, "read")
    for name in ("__init__", "ask"):
        killer.wrap(launcher.Zygote, name)
    killer.wrap(tree.CgroupTree, "kill")
    for name in ("send", "publish"):
        killer.wrap(server.Server, name)


if sys.orig_argv[1:4] == ["-m", "annul", "serve"]:  # the daemon's own process, not its zygotes
    install()
