"""Jobs that tell of the process that runs them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Annotated

import msgspec

from annul import InputFile, JobContext, job

SERVED: list[str] = []  # of this process: what it ran


class Nothing(msgspec.Struct, frozen=True):
    pass


class Long(msgspec.Struct, frozen=True):
    text: str


def _who(ctx: JobContext) -> dict[str, object]:
    SERVED.append(ctx.job_id)
    print(f"{ctx.type} was here")
    return {
        "inode": ctx.workdir.stat().st_ino,
        "pid": os.getpid(),
        "served": SERVED,
        "session": os.getsid(0) == os.getpid(),
        "offset": time.strftime("%z"),
        "tmp": ctx.workdir.samefile(tempfile.gettempdir()),
        "cwd": ctx.workdir.samefile("."),
        "environ": sorted(os.environ),
        "heavy": "children.heavy" in sys.modules,
        "cgroup": open("/proc/self/cgroup").read(),
    }


@job("who", on_shutdown="cancel")
def who(ctx: JobContext, params: Nothing) -> dict[str, object]:
    return _who(ctx)


class WithFile(msgspec.Struct, frozen=True):
    file: Annotated[str, InputFile.MARK]


@job("wordy", on_shutdown="cancel")
def wordy(ctx: JobContext, params: WithFile) -> dict[str, object]:
    return _who(ctx)


@job("heavy-who", preload=("children.heavy",), on_shutdown="cancel")
def heavy_who(ctx: JobContext, params: Nothing) -> dict[str, object]:
    return _who(ctx)


@job("length", on_shutdown="cancel")
def length(ctx: JobContext, params: Long) -> int:
    return len(params.text)
