"""Injects a wall clock into the daemon that goes wrong by as many seconds as the file ``wrong_by`` says.

A test copies this file into a directory of its own, which it puts on the daemon's PYTHONPATH.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

WRONG_BY = Path(__file__).with_name("wrong_by")


def install() -> None:
    from annul.clock import SystemClock

    def wall(_: SystemClock) -> float:
        return time.time() + (float(WRONG_BY.read_text()) if WRONG_BY.exists() else 0.0)

    SystemClock.wall = wall  # type: ignore[method-assign]


if sys.orig_argv[1:4] == ["-m", "annul", "serve"]:  # the daemon's own process, not its zygotes
    install()
