"""A terminal for programs that draw on one: a pseudo-terminal, and what stands on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from typing import Any

from harness import TIMEOUT_S

_CODES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """One program on a terminal of 30 lines of 160 characters, which is its controlling one."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(30, 160)
        self.before = termios.tcgetattr(theirs)
        self.drawn = ""  # all that was ever written, codes included
        self._theirs = theirs  # kept open, so that it can be asked for its settings when the program is gone
        self.process = subprocess.Popen(
            command,
            env={**env, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def shows(self) -> str:
        """What stands there now, without colours. Programs that draw all of it anew begin with "home"."""
        return _CODES.sub("", self.drawn.rpartition("\x1b[H")[2])

    def read(self, timeout_s: float) -> bool:
        """Take what has been written, once something is. Whether something was."""
        found = bool(select.select([self.ours], [], [], timeout_s)[0])
        if found:
            self.drawn += os.read(self.ours, 65536).decode(errors="replace")
        return found

    def wait_until(self, condition: Callable[[str], object], what: str) -> None:
        """Until what stands there is so."""
        end = time.monotonic() + TIMEOUT_S
        while not condition(self.shows()):
            assert time.monotonic() < end, f"waited {TIMEOUT_S} s for {what}, and there stands:\n{self.shows()}"
            assert self.process.poll() is None, f"it has ended before {what}:\n{self.drawn}"
            self.read(0.05)

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda shown: text in shown, repr(text))

    def wait(self) -> int:
        """Until the program has ended; its exit code."""
        end = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end:\n{self.shows()}"
            self.read(0.02)
        self.read(0)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)
