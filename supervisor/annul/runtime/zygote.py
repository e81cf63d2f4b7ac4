"""The zygote: a process that has imported what a kind of job needs, and forks on request.

``python -m annul.runtime.zygote JSON MIB`` (the arguments of `main`; how much memory to reserve for what it imports):
for each byte that it is sent it forks a process, and answers with its pid, a pidfd, and a socket by which the daemon
then tells that process what to run (`entry`). And it tells the status of those that end. One a preload profile, started
by the daemon.

Single-threaded, so that forking is safe; a child subreaper, so that what a job leaves behind is found below it. When
the daemon's end of the socket closes it launches no more, and stays as the guardian of its jobs until they have ended.
"""

from __future__ import annotations

import sys

from annul.runtime import at_fork, memory

_reserved = memory.reserve(int(sys.argv[2])) if __name__ == "__main__" else []  # before all that follows is imported

# isort: split
import gc
import importlib
import inspect
import os
import select
import signal
import socket
import threading
from pathlib import Path
from typing import NoReturn

import msgspec

from annul import prctl, proc
from annul.jobtype import JobType
from annul.runtime import entry, guardian
from annul.runtime.launch import SPARE, Exited, Forked, NotForked, Ready, frame
from annul.runtime.sigaction import SIG_DFL, set_handler
from annul.tree import Reaper, children_of

_AT_ONCE = 16  # forks before those that have ended are reaped


def main(
    fd: int,
    targets: list[str],
    preload: list[str],
    notify: str,
    orphan_grace_s: float,
    cgroup: str | None,
    rehearsal: str,
    rooms: str,
) -> None:
    prctl.set_child_subreaper()
    prctl.set_name("annul-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the daemon's terminal is the daemon's
    channel = socket.socket(fileno=fd)
    channel.set_inheritable(False)

    failed = _preload(preload)
    types = _load(targets, failed)
    _reserved.clear()
    entry.set_terms()
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, all these pages
    memory.close_gaps()
    own = Path(cgroup) if cgroup else None
    origin = entry.Origin(types=types, zygote=os.getpid(), cgroup=cgroup, rehearsal=rehearsal, rooms=rooms)
    entry.warm_up(origin)
    memory.settle()

    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up descriptor is what counts
    os.write(wake_write, b"\0")  # some may have ended already
    strangers = children_of(os.getpid())
    proc.brand(proc.forked_by(os.getpid()))
    children: set[int] = set()
    ready = frame(Ready(failed, strangers))
    gc.collect()
    memory.fill_gaps()
    gc.freeze()
    try:
        channel.sendall(ready)
        _serve(channel, origin, children, (wake_read, wake_write))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon went away in the middle of an answer
    channel.close()
    reaper = Reaper(os.getpid(), settled=True, strangers=strangers)
    absence = guardian.Absence(notify, orphan_grace_s)
    guardian.guard(children, reaper, absence, wake_read, lambda: _reap(None, children), own)


def _serve(channel: socket.socket, origin: entry.Origin, children: set[int], pipe: tuple[int, int]) -> None:
    """Fork what is asked for, until the daemon goes. Raises BrokenPipeError where it goes while it is answered."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(pipe[0], select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if pipe[0] in ready:
            os.read(pipe[0], 4096)
            _reap(channel, children)
        if channel.fileno() in ready:
            asked = channel.recv(_AT_ONCE)
            if not asked:
                return
            for number in range(len(asked)):
                _fork(origin, channel, pipe, children, spare=asked[number : number + 1] == SPARE)


def _preload(modules: list[str]) -> dict[str, str]:
    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 (the job that needs it will say so; the others still run)
            failed[module] = f"{type(error).__name__}: {error}"
    return failed


def _load(targets: list[str], failed: dict[str, str]) -> dict[str, JobType]:
    types = {}
    for target in targets:
        try:
            types[target] = entry.load(target)
            if inspect.iscoroutinefunction(types[target].function):
                importlib.import_module("asyncio")
            msgspec.json.Decoder(types[target].params)  # what it makes is kept with the type, for all that are forked
        except Exception as error:  # noqa: BLE001 (as above)
            failed[target] = f"{type(error).__name__}: {error}"
    if threading.active_count() > 1:
        names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        at_fork.register()
        failed["threads"] = f"importing started threads {names}: forking a process with threads is not safe"
    return types


def _fork(
    origin: entry.Origin, channel: socket.socket, pipe: tuple[int, int], children: set[int], *, spare: bool
) -> None:
    """Fork one process. The daemon is told either way."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    except OSError as error:
        channel.sendall(frame(NotForked(str(error))))
        return
    try:
        pid = os.fork()
    except OSError as error:
        channel.sendall(frame(NotForked(str(error))))
        ours.close()
        theirs.close()
        return
    if pid == 0:
        ours.close()
        _become(origin, theirs, channel, pipe, spare=spare)
    theirs.close()
    children.add(pid)
    # The child is not reaped before this loop comes round, so its pid cannot have been reused.
    try:
        one, pidfd = proc.stat(pid), os.pidfd_open(pid)
    except OSError as error:  # no descriptor is left: it finds nobody at the other end, and ends
        ours.close()
        channel.sendall(frame(NotForked(str(error))))
        return
    try:
        forked = Forked(pid, one.start_time if one else 0)
        socket.send_fds(channel, [frame(forked)], [pidfd, ours.fileno()])
    finally:
        os.close(pidfd)
        ours.close()


def _become(
    origin: entry.Origin, orders: socket.socket, channel: socket.socket, pipe: tuple[int, int], *, spare: bool
) -> NoReturn:
    at_fork.register()
    signal.set_wakeup_fd(-1)
    set_handler(signal.SIGCHLD, SIG_DFL)
    set_handler(signal.SIGINT, signal.default_int_handler)
    channel.close()
    for fd in pipe:
        os.close(fd)
    entry.main(origin, orders, spare=spare)


def _reap(channel: socket.socket | None, children: set[int]) -> bool:
    """Of those that it has forked the daemon is told how they ended; orphans handed to this subreaper are just reaped.
    Whether there still is any child.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid in children:
            children.discard(pid)
            if channel is not None:
                channel.sendall(frame(Exited(pid, status)))


if __name__ == "__main__":
    main(**msgspec.json.decode(sys.argv[1]))
    os._exit(0)
