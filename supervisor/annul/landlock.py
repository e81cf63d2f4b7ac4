"""Landlock: what a thread takes from itself, and from all that it starts, for good. Python has no binding of it.

It is for files by their place (since Linux 5.13, ABI 1), for TCP (ABI 4), for signals and abstract UNIX sockets
(ABI 6): https://docs.kernel.org/userspace-api/landlock.html. What is not allowed is refused with EACCES or EPERM; what
is open stays open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from enum import IntEnum

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
_VERSION = 1  # a flag of the first: only say the ABI
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # to rename and link to another folder; to cut files
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # what there is to allow of one that is no folder
_KNOWN = ((1, (1 << 13) - 1), (2, _REFER), (3, _TRUNCATE), (5, 1 << 15))  # since which ABI
_TCP = 0b11  # bind, connect
_SCOPED = 0b11  # abstract UNIX sockets, signals
TRUNCATE_ABI, SCOPED_ABI = 3, 6  # Linux 6.2 and 6.12
_TCP_ABI = 4
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Access(IntEnum):
    """What may be done with a file, or with all below a folder."""

    READ = _READ_FILE | _READ_DIR
    RUN = READ | _EXECUTE
    USE = _READ_FILE | _WRITE_FILE  # for devices: read and write, no more
    CHANGE = (
        READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _MAKE_FIFO | _MAKE_SYM
    ) | (_REFER | _TRUNCATE)  # everything but running programs and making devices


def abi() -> int:
    """What the kernel has of it; 0: nothing (too old, built or booted without it, or refused in this container)."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def restrict(rules: Iterable[tuple[str | os.PathLike[str], Access]], *, tcp: bool) -> None:
    """From now on this thread, and all that it starts, has these files only; without `tcp` it makes no connections by
    TCP. It signals nobody but those who are restricted with it, or by it.

    The thread must have `prctl.set_no_new_privs`. Paths that are not there are left out. Can be called again: each
    time takes more away. How much of it holds depends on `abi`. Raises OSError, where there is none, and after 16
    times.
    """
    version = abi()
    handled = 0
    for since, rights in _KNOWN:
        handled |= rights if version >= since else 0
    ruleset = _call(
        _CREATE_RULESET,
        struct.pack(
            "=QQQ",
            handled,
            _TCP if version >= _TCP_ABI and not tcp else 0,
            _SCOPED if version >= SCOPED_ABI else 0,
        ),
        ctypes.c_size_t(24),  # zeros at the end that an older kernel does not know of are fine
        0,
    )
    try:
        for path, access in rules:
            _allow(ruleset, path, access & handled)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | os.PathLike[str], access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except ValueError:
        return  # a NUL in it: nobody can open that
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        return  # who opens it later is told why it cannot be
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, fd), 0)
    finally:
        os.close(fd)


def _call(number: int, *arguments: int | bytes | ctypes.c_size_t) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
