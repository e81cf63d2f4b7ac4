"""The zygote: a process that has imported what a kind of job needs, and forks on request.

``python -m annul.runtime.zygote JSON`` (the arguments of `main`): reads Launch messages from a socket, answers with the
pid and a pidfd of each new process, and tells the status of those that end. One a preload profile, started by the
daemon.

Single-threaded, so that forking is safe; a child subreaper, so that what a job leaves behind is found below it. When
the daemon's end of the socket closes it launches no more, and stays as the guardian of its jobs until they have ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
from typing import NoReturn

import msgspec

from annul import prctl
from annul.jobtype import JobType
from annul.runtime import entry, guardian
from annul.runtime.launch import Exited, Launch, Launched, NotLaunched, Ready, Unframer, frame
from annul.tree import Reaper, children_of


def main(fd: int, targets: list[str], preload: list[str], notify: str, orphan_grace_s: float) -> None:
    prctl.set_child_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the daemon's terminal is the daemon's
    channel = socket.socket(fileno=fd)
    channel.set_inheritable(False)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up descriptor is what counts

    failed = _preload(preload)
    types = _load(targets, failed)
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, all these pages

    strangers = children_of(os.getpid())
    launches: dict[int, Launch] = {}  # of leaders that live
    try:
        channel.sendall(frame(Ready(failed, strangers)))
        _serve(channel, types, launches, (wake_read, wake_write))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon went away in the middle of an answer
    channel.close()
    reaper = Reaper(os.getpid(), settled=True, strangers=strangers)
    guardian.guard(launches, reaper, guardian.Absence(notify, orphan_grace_s), wake_read, lambda: _reap(None, launches))


def _serve(
    channel: socket.socket, types: dict[str, JobType], launches: dict[int, Launch], pipe: tuple[int, int]
) -> None:
    """Fork what is asked for, until the daemon goes. Raises BrokenPipeError where it goes while it is answered."""
    unframer = Unframer()
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(pipe[0], select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if pipe[0] in ready:
            os.read(pipe[0], 4096)
            _reap(channel, launches)
        if channel.fileno() in ready:
            data = channel.recv(65536)
            if not data:
                return
            for body in unframer.feed(data):
                launch = msgspec.msgpack.decode(body, type=Launch)
                _fork(launch, types.get(launch.target), channel, pipe, launches)


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
        except Exception as error:  # noqa: BLE001 (as above)
            failed[target] = f"{type(error).__name__}: {error}"
    if threading.active_count() > 1:
        names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        failed["threads"] = f"importing started threads {names}: forking a process with threads is not safe"
    return types


def _fork(
    launch: Launch,
    job_type: JobType | None,
    channel: socket.socket,
    pipe: tuple[int, int],
    launches: dict[int, Launch],
) -> None:
    """Fork a job's process. The daemon is told either way."""
    zygote = os.getpid()
    # SIGTERM waits until the child has its handler: by default it would end it without a trace.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        channel.sendall(frame(NotLaunched(launch.name, str(error))))
        return
    if pid == 0:
        _become(launch, job_type, channel, pipe, zygote)
    launches[pid] = launch
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # The child is not reaped before this loop comes round, so its pid cannot have been reused.
    pidfd = os.pidfd_open(pid)
    try:
        socket.send_fds(channel, [frame(Launched(launch.name, pid))], [pidfd])
    finally:
        os.close(pidfd)


def _become(
    launch: Launch, job_type: JobType | None, channel: socket.socket, pipe: tuple[int, int], zygote: int
) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel.close()
    for fd in pipe:
        os.close(fd)
    entry.main(launch, job_type, zygote)


def _reap(channel: socket.socket | None, launches: dict[int, Launch]) -> bool:
    """Of leaders the daemon is told how they ended; orphans handed to this subreaper are just reaped. Whether there
    still is any child.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if launches.pop(pid, None) is not None and channel is not None:
            channel.sendall(frame(Exited(pid, status)))


if __name__ == "__main__":
    main(**msgspec.json.decode(sys.argv[1]))
    os._exit(0)
