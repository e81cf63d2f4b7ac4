"""Job types whose first line leaves a mark: whether anything of a job ran. `--jobs children.starts`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from annul import JobContext, job


class Witnessed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mark: str  # path of a file that the job's first line appends to
    seconds: float = 0.0


def _ran(params: Witnessed) -> None:
    with Path(params.mark).open("a") as file:
        file.write("ran\n")


@job("first-line", on_shutdown="cancel", memory_bytes=1024**3)
def first_line(ctx: JobContext, params: Witnessed) -> str:
    """Say that it runs, then take a while."""
    _ran(params)
    time.sleep(params.seconds)
    return "done"


@job("first-line-flag", on_shutdown="cancel", interrupt="flag")
def first_line_flag(ctx: JobContext, params: Witnessed) -> str:
    """The same, where nothing is raised."""
    _ran(params)
    ctx.signal.wait(params.seconds)
    ctx.signal.throw_if_aborted()
    return "done"


@job("first-line-task", on_shutdown="cancel")
async def first_line_task(ctx: JobContext, params: Witnessed) -> str:
    """The same in a coroutine."""
    _ran(params)
    await asyncio.sleep(params.seconds)
    return "done"
