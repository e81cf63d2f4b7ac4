"""The terminal's keys, one by one and unseen, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import re
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

QUIT = "quit"
"""The key that stands for SIGTERM, SIGHUP and a terminal that is gone."""

_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page-up",
    b"\x1b[6~": "page-down",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x03": "q",  # Ctrl-C, where the terminal is in raw mode
}
_KEY = re.compile(rb"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])?|[^\x1b]", re.DOTALL)


@contextmanager
def keys_of(fd: int) -> Iterator[None]:
    """Keys come as they are pressed. Not Ctrl-Z: a shell would show its prompt in the middle of the table."""
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    ours = termios.tcgetattr(fd)
    ours[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(fd, termios.TCSANOW, ours)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


@contextmanager
def signals_to(note: Callable[[str], None]) -> Iterator[int]:
    """SIGTERM, SIGHUP and Ctrl-C as the key that quits; SIGWINCH as "resize", which draws again. Yields a descriptor
    that is readable once one has come: one that comes just before a select(2) does not interrupt that.
    """

    def caught(number: int, _frame: FrameType | None) -> None:
        note("resize" if number == signal.SIGWINCH else QUIT)

    come, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    woken_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGWINCH)
    before = {number: signal.signal(number, caught) for number in numbers}
    try:
        yield come
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        os.close(come)
        os.close(wake)


def read_keys(fd: int) -> list[str]:
    """The keys that were pressed; `fd` is readable. Letters stand for themselves."""
    try:
        data = os.read(fd, 1024)
    except OSError:
        return [QUIT]
    if not data:
        return [QUIT]
    return [_NAMES.get(key) or key.decode(errors="replace") for key in _KEY.findall(data)]
