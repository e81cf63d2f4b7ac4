"""The zygote: a process that has imported what a kind of job needs, and forks on request.

``python -m annul.runtime.zygote JSON`` (the arguments of `main`): reads Launch messages from a socket, answers with the
pid and a pidfd of each new process, and tells the status of those that end. One a preload profile, started by the
daemon.

Single-threaded, so that forking is safe; a child subreaper, so that what a job leaves behind is found below it. It ends
when the daemon's end of the socket closes; jobs live on.
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
from annul.runtime import entry
from annul.runtime.launch import Exited, Launch, Launched, NotLaunched, Ready, Unframer, frame


def main(fd: int, targets: list[str], preload: list[str]) -> None:
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
    channel.sendall(frame(Ready(failed)))

    unframer = Unframer()
    leaders: set[int] = set()
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(channel, leaders)
        if channel.fileno() in ready:
            data = channel.recv(65536)
            if not data:
                return  # the daemon has gone
            for body in unframer.feed(data):
                launch = msgspec.msgpack.decode(body, type=Launch)
                leaders.add(_fork(launch, types.get(launch.target), channel, (wake_read, wake_write)))


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


def _fork(launch: Launch, job_type: JobType | None, channel: socket.socket, pipe: tuple[int, int]) -> int:
    """Fork a job's process; its pid, 0 where that failed. The daemon is told either way."""
    # SIGTERM waits until the child has its handler: by default it would end it without a trace.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        channel.sendall(frame(NotLaunched(launch.name, str(error))))
        return 0
    if pid == 0:
        _become(launch, job_type, channel, pipe)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # The child is not reaped before this loop comes round, so its pid cannot have been reused.
    pidfd = os.pidfd_open(pid)
    try:
        socket.send_fds(channel, [frame(Launched(launch.name, pid))], [pidfd])
    finally:
        os.close(pidfd)
    return pid


def _become(launch: Launch, job_type: JobType | None, channel: socket.socket, pipe: tuple[int, int]) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel.close()
    for fd in pipe:
        os.close(fd)
    entry.main(launch, job_type)


def _reap(channel: socket.socket, leaders: set[int]) -> None:
    """Of leaders the daemon is told how they ended; orphans handed to this subreaper are just reaped."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in leaders:
            leaders.remove(pid)
            channel.sendall(frame(Exited(pid, status)))


if __name__ == "__main__":
    _arguments = msgspec.json.decode(sys.argv[1])
    try:
        main(**_arguments)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon went away in the middle of an answer
    os._exit(0)
