"""A real daemon with directories of its own, and a witness outside of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annul.tree import daemons_group, find_cgroup
from annul_client import Client, Job

TESTS = Path(__file__).parent
SHARED = TESTS.parent.parent / "shared"
# Of every directory that this run of the tests makes; every process that it starts carries it in its environment.
PREFIX = os.environ.setdefault("ANNUL_TEST_SESSION", f"annul-t{os.getpid()}-")
NOTES = "ANNUL_TEST_NOTES"  # names the file in which started daemons are noted, for who looks what they have left
TIMEOUT_S = 30.0  # the one bound on every wait for a condition


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Look until it holds; the one place in the tests where time passes by itself."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether a process lives, by /proc: a zombie does not, unless other threads of it still run."""
    try:
        data = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = data.rpartition(")")[2].split()
    return fields[0] not in "ZX" or (fields[0] == "Z" and int(fields[17]) > 1)


def waits_for_work(pid: int) -> bool:
    """Whether it is a zygote, or a process that has not been given a job yet; also where it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("annul-zygote", "annul-spare")
    except OSError:
        return True


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process gets no new ones; those that it has stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def processes_with(text: str) -> list[int]:
    """Pids of live processes whose environment or command line holds `text`: a witness outside the daemon."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            data = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in data and alive(int(entry.name)):
            found.append(int(entry.name))
    return found


def started(client: Client, type_: str, stage: str, params: dict[str, object] | None = None, **terms: Any) -> Job:
    """Such a job, which has come to that stage of its progress. `terms`: of the submit."""
    job = client.submit(type_, params or {}, **terms)
    wait_until(lambda: client.get(job.id).progress.stage == stage, f"{type_} to be {stage}")
    return client.get(job.id)


class DaemonProcess:
    """`annul serve` as a subprocess, ready to be asked."""

    def __init__(self, base: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.base = base
        self.options = options
        self.env = env or {}
        self.state_dir = base / "state"
        self.runtime_dir = base / "run"
        self.log = base / "log"
        self.endpoint = f"ipc://{self.runtime_dir}/annul.sock"
        self.before = ""  # what a shell does before it becomes the daemon
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it is ready. Fails where it does not get there."""
        if not self.try_start():
            pytest.fail(f"the daemon did not get ready:\n{self.said()}")

    def try_start(self) -> bool:
        """Whether it got ready, which it says as to systemd, or ended before."""
        if NOTES in os.environ:
            with Path(os.environ[NOTES]).open("a") as notes:
                notes.write(f"{self.state_dir}\n")
        path = self.base / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("ab") as log:
            ready.bind(str(path))
            ready.settimeout(0.05)
            command = [sys.executable, "-m", "annul", "serve", *self.arguments()]
            self.process = subprocess.Popen(
                ["sh", "-c", f'{self.before}\nexec "$@"', "sh", *command] if self.before else command,
                env={**os.environ, "PYTHONPATH": self._path(), **self.env, "NOTIFY_SOCKET": str(path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            end = time.monotonic() + TIMEOUT_S
            while time.monotonic() < end:
                try:
                    said = ready.recv(64)
                except TimeoutError:
                    if self.process.poll() is not None:
                        return False
                    continue
                if said != b"STOPPING=1":  # of one that hands over to this one
                    return said == b"READY=1"
        return False

    @staticmethod
    def _path() -> str:
        """Where the menagerie is, before whatever this run of the tests was told."""
        return os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))

    def arguments(self) -> list[str]:
        return ["--state-dir", str(self.state_dir), "--runtime-dir", str(self.runtime_dir), *self.options]

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(TIMEOUT_S)
        if status == -signal.SIGKILL and (parent := find_cgroup()) is not None:
            # A daemon that was killed leaves its own, empty cgroup to the next one; one with jobs in it stays here too.
            with contextlib.suppress(OSError):
                (parent / daemons_group(self.state_dir)).rmdir()
        return status

    def client(self) -> Client:
        return Client(self.endpoint)
