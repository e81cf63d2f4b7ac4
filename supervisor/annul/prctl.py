"""prctl(2) and capset(2), of which Python has no binding."""

from __future__ import annotations

import ctypes
import os
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAP_DAC_OVERRIDE = 1 << 1
_CAPABILITIES_3 = struct.pack("=Ii", 0x20080522, 0)  # version, of this thread
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


def set_no_new_privs() -> None:
    """From now on no program that this thread runs gains anything by its set-user-id bit or its capabilities: sudo
    fails. For good; inherited by fork and exec.
    """
    _set(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up all that makes root more than another user, but access to everybody's files. For good, with
    `set_no_new_privs`: an exec would bring it back.
    """
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; and those of the upper 32
    if _libc.capget(_CAPABILITIES_3, data) == 0:
        if not any(data.raw):
            return  # there are none; a system call filter, as systemd's, may refuse to say so again
        kept = struct.unpack_from("=I", data, 4)[0] & _CAP_DAC_OVERRIDE
        if _libc.capset(_CAPABILITIES_3, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, f"giving up capabilities: {os.strerror(number)}")


def _set(option: int, value: int | ctypes.c_char_p) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
