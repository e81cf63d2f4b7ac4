"""Decoys: processes beside the daemon that nobody has any business to signal. Each records whatever hits it.

``python decoys.py RECORD``: blocks every signal that can be, says that it is ready, and waits for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_LOOKS_LIKE_A_JOB = {"ANNUL_JOB_ID": "k3v9x2m4q8tz", "ANNUL_ATTEMPT": "1", "ANNUL_MARK": "k3v9x2m4q8tz.1"}


class Decoy:
    """One of them, as the bench holds it."""

    def __init__(self, name: str, record: Path, *, session: bool, env: dict[str, str]) -> None:
        self.name = name
        self._record = record
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(record)],
            start_new_session=session,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdout.close()

    def hit(self) -> list[str]:
        """The signals that it got: those recorded, and those that leave no record but a trace."""
        found = self._record.read_text().splitlines()
        if self.process.poll() is not None:
            found.append(f"ended: {self.process.returncode}")
        elif Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt":
            found.append("stopped")
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def start(folder: Path) -> list[Decoy]:
    """Children of the bench: in the session of the daemon, in one of their own, and with a job's environment."""
    return [
        Decoy("in the daemon's session", folder / "decoy-1", session=False, env={}),
        Decoy("in its own session", folder / "decoy-2", session=True, env={}),
        Decoy("with a job's environment", folder / "decoy-3", session=True, env=_LOOKS_LIKE_A_JOB),
        Decoy(
            "in the daemon's session, with a job's environment",
            folder / "decoy-4",
            session=False,
            env=_LOOKS_LIKE_A_JOB,
        ),
    ]


def main(record: Path) -> None:
    record.touch()
    signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:  # it is not to stay when the bench is killed
        info = signal.sigtimedwait(signals, 1)
        if info is not None:
            with record.open("a") as file:
                file.write(f"{info.si_signo} from pid {info.si_pid}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
