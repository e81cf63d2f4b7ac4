"""Refusing sockets, by a seccomp filter: what a thread takes from itself, and from all that it starts, for good.

Landlock knows of TCP only. UDP carries just as much away, and who can connect to the UNIX sockets of this user's
daemons (annul's own, a session bus, Docker's) needs no file of theirs.
"""

from __future__ import annotations

import ctypes
import os
import struct

_PR_GET_SECCOMP, _PR_SET_SECCOMP, _MODE_FILTER = 21, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # EACCES
_NUMBER, _ARCH, _DOMAIN, _TYPE = 0, 4, 16, 24  # offsets in struct seccomp_data; arguments by their lower halves
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_DATAGRAM, _TYPES = 2, 0xF
_IO_URING_SETUP = 425  # opens sockets without the system call
_X32 = 0x40000000
_MACHINES = {  # AUDIT_ARCH_..., the number of socket(2)
    "x86_64": (0xC000003E, 41),
    "aarch64": (0xC00000B7, 198),
}
_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether this kernel filters, and this machine's system calls are known here."""
    return os.uname().machine in _MACHINES and int(_libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0)) >= 0


def refuse_sockets(*, internet: bool) -> None:
    """From now on this thread, and all that it starts, makes no sockets but UNIX ones for datagrams, pairs of UNIX
    ones, and, with `internet`, IPv4, IPv6 and netlink ones. io_uring, and system calls of another architecture
    (32 bits), are refused altogether.

    The thread must have `prctl.set_no_new_privs`. Raises OSError, where there is no such thing too.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise OSError(f"seccomp: the system calls of {machine} are not known here")
    arch, socket = _MACHINES[machine]
    domains = (_INET, _INET6, _NETLINK) if internet else ()
    # Each jumps over the next ones by number: where it is equal, and where it is not.
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        *([(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)] if machine == "x86_64" else []),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _REFUSE),
        (_EQUAL, 1, 0, socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _DOMAIN),
        *(step for domain in domains for step in ((_EQUAL, 0, 1, domain), (_RETURN, 0, 0, _ALLOW))),
        (_EQUAL, 1, 0, _UNIX),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _TYPE),
        (_AND, 0, 0, _TYPES),
        (_EQUAL, 0, 1, _DATAGRAM),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, struct.pack("@HP", len(program), ctypes.addressof(steps)), 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp: {os.strerror(code)}")
