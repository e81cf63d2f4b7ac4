"""What a job is given: its parameters, its signal, its places, and a way to say how far it is."""

from __future__ import annotations

import logging
import os
import socket
import threading
from pathlib import Path, PurePosixPath
from typing import Any

from annul.board import Board
from annul.runtime.confine import Paths, confine
from annul.runtime.launch import Launch
from annul.runtime.signal import JobSignal


class JobContext:
    """One attempt of a job, from within. Made by annul; its methods may be called from any thread."""

    def __init__(self, launch: Launch, params: Any, board: Board, signal: JobSignal, notifier: Notifier) -> None:
        self._launch = launch
        self._board = board
        self._notifier = notifier
        self._reporting = threading.RLock()  # re-entrant: no lock that a signal handler reaches may be another
        self._in_report = False
        self.params = params
        self.signal = signal
        self.job_id = launch.job_id
        self.attempt = launch.attempt
        self.type = launch.type
        self.user = launch.user
        self.title = launch.title
        self.labels = dict(launch.labels)

    @property
    def log(self) -> logging.Logger:
        """Goes to the job's log."""
        return logging.getLogger(f"annul.job.{self.type}")  # made when it is asked for: that takes a while

    @property
    def run_dir(self) -> Path:
        """Where ``cancel.json`` appears."""
        return Path(self._launch.run_dir)

    @property
    def workdir(self) -> Path:
        """The job's own, and its current directory; what is in it is removed afterwards."""
        return Path(self._launch.attempt_dir, "work")

    def progress(self, fraction: float | None, stage: str = "") -> None:
        """Say how far the job is: 0 to 1 (None: unknown) and in a few words at what. Cheap; call it often.

        The daemon passes on a few a second at the most, and always the last. Stages are cut at 400 bytes.
        """
        with self._reporting:
            if self._in_report:
                return  # a signal handler of the job's, in the middle of a report: that one is on its way
            self._in_report = True
            try:
                self._report(fraction, stage)
            finally:
                self._in_report = False

    def _report(self, fraction: float | None, stage: str) -> None:
        self._board.set_progress(None if fraction is None else min(1.0, max(0.0, float(fraction))), stage)
        self._notifier.nudge()

    def output(self, name: str) -> Path:
        """Where to write an output: a path in the staging directory, its folders made.

        `name` is relative to the user's directory ("cvs/42.json"). It is published, by rename, only together with
        the commit of `completed`; of a job that fails or is cancelled nothing is. Raises ValueError where `name`
        leaves the directory.
        """
        path = Path(self._launch.attempt_dir, "staging", _inside(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def confine(self, *, network: bool, read: Paths = (), write: Paths = ()) -> bool:
        """Give up what the job does not need, before it touches what a stranger sent. For good, and for all that it
        starts from then on; can be called again, to give up more. Takes a millisecond.

        From then on, of files it can only

        - read those in `read` (files, or folders with all below them; those that are not there are left out), its run
          directory, what Python and its libraries consist of, and what programs need of the system: /usr, /lib, /bin,
          /proc, and of /etc names, time zone, fonts, public certificates;
        - change those in `write`, and its own: `workdir`, outputs;
        - run programs of the system's and of Python's.

        It makes no sockets but pairs of them and UNIX datagram sockets; with `network` IPv4 and IPv6 ones too. It
        signals nobody but itself and those that it started after this. It cannot look into other processes; sudo gives
        it nothing; where the daemon runs as root, it has nothing of root's but access to all files that are left to
        it. Progress, outputs, `Cancelled`, and all else that the context has go on.

        What is refused raises PermissionError. What is open stays open: connect to a database before. Pools and locks
        of `multiprocessing` need ``write=["/dev/shm"]``, where others' shared memory lies too. Not covered: the names
        and sizes of files (stat), their modes and times (chmod, for a file of the daemon's user), which processes there
        are, System V IPC, and the threads and processes that were started before: call it in the main thread, first of
        all.

        Returns whether all of this holds; where the kernel lacks something, the rest is done, and the job's log says
        what is missing. Raises OSError where a file descriptor is lacking, or after 16 calls.
        """
        lacks = confine(self._launch, network=network, read=read, write=write)
        if lacks:
            self.log.warning("the job is not wholly confined: %s", "; ".join(lacks))
        return not lacks

    def published(self, name: str) -> Path:
        """Where that output will be once the job is completed."""
        return Path(self._launch.user_dir, _inside(name))


class Notifier:
    """Sends nudges to the daemon: "look at my board". A datagram, as with sd_notify; one that does not fit into the
    daemon's queue is lost, but then those that are in it make the daemon look at all boards.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name.encode()
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def nudge(self, *, wait_s: float = 0.0) -> None:
        """`wait_s`: how long to wait where the daemon's queue is full. Without a daemon it is simply not sent."""
        if os.getpid() != self._pid:
            return  # a child that the job forked speaks for itself only
        self._socket.settimeout(wait_s)
        try:
            self._socket.sendto(self._name, self._path)
        except OSError:
            pass  # the daemon is away, or busy: it reads the board when it looks next

    def close(self) -> None:
        self._socket.close()


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"an output's name is relative to the user's directory and stays in it: {name!r} does not")
    return path
