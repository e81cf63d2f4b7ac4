"""Job types for the crash bench, served with ``--jobs torture.crash_kinds``.

Every attempt that reaches its first line adds one to ``runs`` in the job's directory of heartbeats: its number, pid and
start time.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import msgspec

from annul import InputFile, JobContext, JobError, job
from torture.shapes import Heart, grow, ready

RUNS = "runs"
OUTPUT = b"0123456789abcdef" * 16_384
RESULT = "done"
RETRIES = 2  # of those that have some
AGAIN = "not_yet"  # the code of the failures that are tried again
FOREVER_S = 3600


class Crash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a job is to do."""

    beats: str  # directory of the heartbeats
    does: str
    shape: str = "none"
    seconds: float = 0.05  # how long those that end by themselves take
    file: Annotated[str, InputFile.MARK] = ""


def _begin(ctx: JobContext, params: Crash) -> int:
    """Which attempt this is of those that got here."""
    folder = Path(params.beats, ctx.job_id)
    folder.mkdir(exist_ok=True)
    start_time = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    with (folder / RUNS).open("a") as runs:
        runs.write(f"{ctx.attempt} {os.getpid()} {start_time}\n")
    number = len((folder / RUNS).read_text().splitlines())
    heart = Heart(folder)
    if params.does.startswith("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grow(folder, params.shape, exec_=False, stubborn=True)
    heart.start()
    _stage(ctx, Path(params.file).read_bytes() if params.file else OUTPUT)
    ready(folder)
    return number


def _stage(ctx: JobContext, data: bytes) -> None:
    for name in ("first", "second"):
        with ctx.output(f"out/{ctx.job_id}/{name}").open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            file.write(data[len(data) // 2 :])


def _go_on(ctx: JobContext, params: Crash) -> None:
    for number in range(3):
        ctx.progress(number / 3, f"step {number}")
        time.sleep(params.seconds / 3)


@job("crash", grace_s=5, on_shutdown="cancel")
def crash(ctx: JobContext, params: Crash) -> str:
    """Behave as told."""
    number = _begin(ctx, params)
    match params.does:
        case "fail":
            raise JobError("crashed_on_purpose", "it fails, having staged outputs")
        case "fail-again":
            raise JobError(AGAIN, "it fails each time", retryable=True)
        case "flaky" if number <= RETRIES:
            raise JobError(AGAIN, "it fails until the last time", retryable=True)
        case "vanish":
            time.sleep(params.seconds)
            os._exit(3)
        case "wait" | "stubborn":
            time.sleep(FOREVER_S)
    _go_on(ctx, params)
    return RESULT


@job("crash-again", grace_s=5, on_shutdown="queue")
def crash_again(ctx: JobContext, params: Crash) -> str:
    """The same, queued again by a shutdown."""
    return str(crash.function(ctx, params))


@job("crash-retry", grace_s=0.1, on_shutdown="cancel", retries=RETRIES, retry_delay_s=0.05)
def crash_retry(ctx: JobContext, params: Crash) -> str:
    """The same, tried again at once."""
    return str(crash.function(ctx, params))


@job("crash-later", grace_s=5, on_shutdown="cancel", retries=RETRIES, retry_delay_s=FOREVER_S)
def crash_later(ctx: JobContext, params: Crash) -> str:
    """The same, tried again long after all is over."""
    return str(crash.function(ctx, params))


@job("crash-hasty", grace_s=0.1, on_shutdown="cancel")
def crash_hasty(ctx: JobContext, params: Crash) -> str:
    """The same, killed soon."""
    return str(crash.function(ctx, params))
