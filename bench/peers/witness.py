"""The witness: hears of every job from the job itself, and sees by descriptors when it is gone."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple


class Report(NamedTuple):
    """What a job told."""

    pid: int
    at_ns: int  # CLOCK_MONOTONIC
    fds: list[int]  # its pidfd, and the pipe that hangs up when its code is left; of a grandchild the pidfd only


class Witness:
    """Takes in reports as they come, in a thread of its own, so that no job waits for the one who measures."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder / "witness")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.where)
        self._news = threading.Condition()  # guards the reports
        self._reports: dict[tuple[str, str], Report] = {}  # by token and kind
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self._socket, 1024, 2)
            if not data:
                return
            token, kind, pid, at_ns = data.decode().split()
            with self._news:
                self._reports[token, kind] = Report(int(pid), int(at_ns), list(fds))
                self._news.notify_all()

    def report(self, token: str, kind: str = "first", timeout_s: float = 60) -> Report:
        """Once it is there. Raises TimeoutError."""
        report = self.report_if_any(token, kind, timeout_s)
        if report is None:
            raise TimeoutError(f"no job said {kind!r} of {token!r} within {timeout_s} s")
        return report

    def report_if_any(self, token: str, kind: str, timeout_s: float) -> Report | None:
        with self._news:
            self._news.wait_for(lambda: (token, kind) in self._reports, timeout_s)
            return self._reports.get((token, kind))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self.where)
        self._thread.join()
        self._socket.close()
        Path(self.where).unlink()
        for report in self._reports.values():
            for fd in report.fds:
                os.close(fd)


class Watch:
    """Looks, from now on and in a thread of its own, when one descriptor becomes readable or hangs up."""

    def __init__(self, fd: int, timeout_s: float) -> None:
        self._fd = fd
        self._timeout_s = timeout_s
        self._at: float | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        if readable(self._fd, self._timeout_s):
            self._at = time.monotonic()

    def wait(self) -> float | None:
        """When it was (`time.monotonic`), or None: not within `timeout_s`."""
        self._thread.join()
        return self._at


def readable(fd: int, timeout_s: float) -> bool:
    """Whether a process has ended (its pidfd), or its code was left (the pipe), waiting for that."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))
