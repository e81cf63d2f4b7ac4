"""Nothing that was started is left: whatever the peers start stays among our descendants, and is ended."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Collection
from typing import NoReturn

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Descendants whose parents end become our children, double-forked ones too."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Be told to end when the process that started this one ends, however it does."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_by_exception() -> None:
    """SIGTERM unwinds the stack, as Ctrl-C does; a second one does not disturb that."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt


def end_descendants(but: Collection[int] = ()) -> None:
    """Kill all of them, and those that they start meanwhile, until none is left but those."""
    while found := [one for one in psutil.Process().children(recursive=True) if one.pid not in but]:
        for one in found:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(found, timeout=1)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
