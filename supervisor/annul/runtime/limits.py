"""What a job may take of the machine, by its type. Set in its process before any code of the user's runs there."""

from __future__ import annotations

import os
import resource

import msgspec

from annul import prctl

_LAST_S = 1  # from SIGXCPU, which can be caught, to SIGKILL


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """None: as much as the daemon may. A process counts for itself; a cgroup for all of the job's together."""

    memory_bytes: int | None = None  # RLIMIT_DATA, and memory.max without swap
    cpu_s: int | None = None  # RLIMIT_CPU
    max_open_files: int | None = None  # RLIMIT_NOFILE
    max_processes: int | None = None  # pids.max, threads too; RLIMIT_NPROC would count all that this user runs
    no_new_privs: bool = False


def impose(limits: Limits, cgroup: str | None) -> None:
    """On this process and all that it will start. `cgroup`: its own; of what no controller is delegated to that, only
    the limits of each process hold.
    """
    if limits.no_new_privs:
        prctl.set_no_new_privs()
    if limits.cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + _LAST_S))
    if limits.max_open_files is not None:
        _lower(resource.RLIMIT_NOFILE, limits.max_open_files)
    if cgroup is not None and limits.max_processes is not None:
        _write(f"{cgroup}/pids.max", limits.max_processes)
    if limits.memory_bytes is not None:
        _lower(resource.RLIMIT_DATA, limits.memory_bytes)
        if cgroup is not None and _write(f"{cgroup}/memory.max", limits.memory_bytes):
            _write(f"{cgroup}/memory.swap.max", 0)
            _write(f"{cgroup}/memory.oom.group", 1)


def _lower(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (most, most))


def _write(file: str, number: int) -> bool:
    """False: there is no such limit."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, b"%d" % number)
    finally:
        os.close(fd)
    return True
