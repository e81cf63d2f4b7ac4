"""prctl(2), of which Python has no binding."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def set_child_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's. Not inherited by fork."""
    _set(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signum: int) -> None:
    """Get this signal when the thread that forked this process ends, and again for each later parent. Not inherited by
    fork; cleared by exec of a set-user-id program.
    """
    _set(_PR_SET_PDEATHSIG, signum)


def set_name(name: str) -> None:
    """What ps and top call this process: its first 15 bytes. Inherited by fork."""
    _set(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _set(option: int, value: int | ctypes.c_char_p) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
