"""`exec`: any command, under the same contract.

The job's leader is this small Python process: it starts the command, waits for it and writes the outcome. SIGTERM goes
to the whole tree at once, so the command gets it itself; why it was sent stands in ``$ANNUL_RUN_DIR/cancel.json``.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated

import msgspec

from annul.errors import Cancelled, JobError
from annul.jobtype import job
from annul.runtime.context import JobContext


class Exec(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A command."""

    argv: Annotated[list[str], msgspec.Meta(min_length=1)]  # program and arguments; no shell
    env: dict[str, str] = {}  # added to a clean environment
    cwd: str | None = None  # None: the job's own work directory, deleted afterwards
    stdin: str | None = None  # path of a file; None: /dev/null
    stdout: str | None = None  # path of a file, appended to; None: the job's log
    stderr: str | None = None


class ExecResult(msgspec.Struct, kw_only=True):
    """How the command ended: exactly one of the two is there."""

    exit_code: int | None = None
    signal: str | None = None  # "SIGSEGV"


@job(
    "exec",
    grace_s=5,
    interrupt="flag",
    on_shutdown="cancel",
    signal_tree=True,
    privileged=True,
    no_new_privs=False,  # sudo works
)
def exec_command(ctx: JobContext, params: Exec) -> ExecResult:
    """Run a command."""
    with ExitStack() as files:

        def opened(name: str | None, mode: str, what: str) -> IO[bytes] | None:
            if name is None:
                return None
            try:
                return files.enter_context(Path(name).open(mode))
            except OSError as error:
                raise JobError("exec_file", f"opening {what} {name!r} of the command: {error}") from error

        stdin = opened(params.stdin, "rb", "the standard input") or subprocess.DEVNULL
        stdout = opened(params.stdout, "ab", "the standard output")
        stderr = opened(params.stderr, "ab", "the standard error")
        try:
            process = subprocess.Popen(
                params.argv,
                env={**os.environ, **params.env},
                cwd=params.cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            raise JobError("exec_start", f"starting {params.argv[0]!r}: {error}") from error
    # Race: cancelled between the fork of this process and that of the command: the SIGTERM to the tree missed it.
    if ctx.signal.aborted:
        process.terminate()
    code = process.wait()
    if ctx.signal.aborted:
        raise Cancelled("the command ended after it was cancelled")
    if code == 0:
        return ExecResult(exit_code=0)
    if code > 0:
        raise JobError("exec_status", f"{params.argv[0]} exited with status {code}", result=ExecResult(exit_code=code))
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    raise JobError("exec_signal", f"{params.argv[0]} was killed by {name}", result=ExecResult(signal=name))
