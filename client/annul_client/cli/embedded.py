"""A daemon of one's own, for one command: nothing to set up, nothing left.

It gets a temporary store and runtime directory; what jobs publish goes to the normal state directory. Its
stdin is a pipe from here: when this process ends, however it ends, the daemon reads the end of it and stops
with its jobs.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from annul_client import places
from annul_client.errors import AnnulClientError

from .out import hint

START_S = 30.0
"""Seconds that the daemon may take until it says that it is ready."""

STOP_S = 30.0
"""Seconds that it may take to stop, jobs and all, before it is killed."""

PREFIX = "embedded-"
LOCK = "cli.lock"  # not `lock`, which is the daemon's own
RUNTIME = "runtime"  # holds the path of the runtime directory, for whoever has to clean up


class EmbedError(AnnulClientError):
    """The embedded daemon did not start; the message says what it said."""


class EmbeddedDaemon:
    """One daemon as a child process. Owned by the main thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._state: Path | None = None
        self._runtime: Path | None = None
        self._lock_fd: int | None = None

    def start(self) -> str:
        """Start it, and give its endpoint once it is ready. Raises `EmbedError` and OSError."""
        home = places.state_dir()
        home.mkdir(parents=True, exist_ok=True)
        self._make_state(home)
        assert self._state is not None
        self._runtime = _runtime_dir()
        (self._state / RUNTIME).write_text(str(self._runtime))
        notify_path = str(self._runtime / "ready.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(notify_path)
            with (self._state / "daemon.log").open("wb") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",  # a file called annul.py in the current directory is not the daemon
                        "-m",
                        "annul",
                        "serve",
                        "--state-dir",
                        str(self._state),
                        "--outputs-dir",
                        str(home / "users"),
                        "--runtime-dir",
                        str(self._runtime),
                        "--stop-on-eof",
                        *("--no-warm", "--spares", "0"),  # it runs one job: only what that one needs is worth starting
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "NOTIFY_SOCKET": notify_path, "ANNUL_CONFIG": ""},
                    # Its own session: Ctrl-C in the terminal reaches only this process, which cancels properly.
                    start_new_session=True,
                    # The lock lives as long as either of us: what a crashed command leaves behind is cleaned
                    # up only once its daemon is gone too.
                    pass_fds=[self._lock_fd] if self._lock_fd is not None else [],
                )
            self._wait_ready(ready, self._process)
        return places.requests_endpoint(self._runtime)

    def close(self) -> None:
        """Stop it, wait until it is gone, and remove what it had. Repeatable."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                hint(f"the embedded daemon ended by itself, exit code {process.returncode}:\n{self._log()}")
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for directory in (self._runtime, self._state):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
        self._runtime = self._state = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _make_state(self, home: Path) -> None:
        # Race: between making a directory and locking it, another command could take it for a leftover. So
        # both making and cleaning up are done under one lock.
        with _locked(home / f"{PREFIX.rstrip('-')}.lock"):
            _remove_leftovers(home)
            self._state = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home))
            self._lock_fd = os.open(self._state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def _wait_ready(self, ready: socket.socket, process: subprocess.Popen[bytes]) -> None:
        deadline = monotonic() + START_S
        pidfd = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(ready, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            while True:
                left_s = deadline - monotonic()
                if left_s <= 0:
                    raise EmbedError(f"the embedded daemon was not ready within {START_S:g} s:\n{self._log()}")
                found = {fd for fd, _ in poll.poll(left_s * 1000)}
                if ready.fileno() in found and b"READY=1" in ready.recv(4096).split(b"\n"):
                    return
                if pidfd in found:
                    self._process = None  # reported here; `close` has nothing to stop
                    code = process.wait()
                    raise EmbedError(f"the embedded daemon did not start, exit code {code}:\n{self._log()}")
        finally:
            os.close(pidfd)

    def _log(self) -> str:
        assert self._state is not None
        return (self._state / "daemon.log").read_text(errors="replace")[-3000:].rstrip()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_leftovers(home: Path) -> None:
    """Remove what commands that were killed left behind. Those whose lock is held are in use."""
    for directory in home.glob(f"{PREFIX}*"):
        if not directory.is_dir() or directory.is_symlink():
            continue
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            _remove_runtime(directory / RUNTIME)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(fd)


def _remove_runtime(note: Path) -> None:
    try:
        runtime = Path(note.read_text())
        # The path comes from a file: only what looks like this module's own, and belongs to this user, is removed.
        if runtime.name.startswith("annul-e-") and runtime.lstat().st_uid == os.getuid():
            shutil.rmtree(runtime, ignore_errors=True)
    except OSError:
        pass  # already gone


def _runtime_dir() -> Path:
    """A short 0700 directory: the path of a socket in it must fit in 107 bytes."""
    longest = len("/annul-e-12345678/events.sock") + 16  # room for the daemon's own names
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    if not os.access(base, os.W_OK) or len(os.fsencode(base)) + longest > places.MAX_SOCKET_PATH:
        base = "/tmp"  # noqa: S108 - mkdtemp makes a directory of its own in it
    return Path(tempfile.mkdtemp(prefix="annul-e-", dir=base))
