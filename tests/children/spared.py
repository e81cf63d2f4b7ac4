"""Jobs that tell of the process that runs them."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import tempfile
import threading
import time
from typing import Annotated

import msgspec

from annul import InputFile, JobContext, job, proc

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
        "marked": proc.branded(os.getpid()) == proc.brand_of(f"{ctx.job_id}.{ctx.attempt}"),
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


@job("forks", on_shutdown="cancel")
def forks(ctx: JobContext, params: Nothing) -> dict[str, bool]:
    """Fork while another thread holds the locks of logging, and tell what is true here, and in the child."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        handler = logging.getLogger().handlers[0]
        handler.acquire()
        held.set()
        over.wait()
        handler.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        logging.getLogger("child").info("a line of it")  # where that lock were not made anew: waits for ever
        os.write(write, b"alone" if threading.enumerate() == [threading.main_thread()] else b"not alone")
        os._exit(0)
    os.close(write)
    found = {
        "main thread": threading.main_thread().native_id == os.getpid(),
        "child": bool(select.select([read], [], [], 20)[0]) and os.read(read, 16) == b"alone",
    }
    over.set()
    thread.join()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found
