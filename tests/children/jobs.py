"""Job types for the tests, each one way to behave or to misbehave.

A `beat` file is a witness: whoever lives appends a byte to it; when it stops growing, nobody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import msgspec

from annul import Cancelled, InputFile, JobContext, JobError, job


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Marked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mark: str = ""  # path of a file the job writes to


class Timed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float = 0.0


def _beat(path: str) -> None:
    """Write a heartbeat for ever."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        os.write(fd, b".")
        time.sleep(0.002)


def _say(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


@job("quick", on_shutdown="cancel")
def quick(ctx: JobContext, params: Timed) -> dict[str, Any]:
    """Be done after a while, having written an output."""
    ctx.output(f"out/{ctx.job_id}.txt").write_text("done")
    time.sleep(params.seconds)
    return {"first_line": time.monotonic(), "file": str(ctx.published(f"out/{ctx.job_id}.txt"))}


@job("reporter", on_shutdown="cancel")
def reporter(ctx: JobContext, params: Marked) -> None:
    """Report once, when there is a file `mark`, and say so."""
    ctx.progress(None, "ready")
    while not Path(params.mark).exists():
        time.sleep(0.005)
    ctx.progress(1.0, "reported")
    Path(f"{params.mark}.{ctx.job_id}").touch()
    time.sleep(3600)


@job("sleepy", grace_s=5, on_shutdown="cancel")
def sleepy(ctx: JobContext, params: Timed) -> str:
    """Sleep in one blocking call."""
    ctx.progress(0.5, "sleeping")
    time.sleep(params.seconds or 3600)
    return "slept"


@job("again", grace_s=5)
def again(ctx: JobContext, params: Marked) -> int:
    """Sleep in the first attempt only; queued again by a shutdown."""
    _say(params.mark, f"attempt {ctx.attempt}")
    if ctx.attempt == 1:
        time.sleep(3600)
    return ctx.attempt


@job("asleep", on_shutdown="cancel")
async def asleep(ctx: JobContext, params: Marked) -> str:
    """Sleep in a coroutine, and clean up."""
    ctx.progress(None, "sleeping")
    try:
        await asyncio.sleep(3600)
    finally:
        _say(params.mark, "cleaned up")
    return "slept"


@job("stubborn", grace_s=0.3, on_shutdown="cancel")
def stubborn(ctx: JobContext, params: Marked) -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.progress(0.1, "ignoring")
    _beat(params.mark)


@job("swallower", grace_s=30, on_shutdown="cancel")
def swallower(ctx: JobContext, params: Marked) -> None:
    """Swallow the first two cancels, as a destructor or a callback from C would."""
    for number in range(3):
        try:
            ctx.progress(None, f"waiting {number}")
            time.sleep(3600)
        except BaseException:
            if number == 2:
                raise
            _say(params.mark, f"swallowed {number}")


@job("tidy", grace_s=30, on_shutdown="cancel")
def tidy(ctx: JobContext, params: Marked) -> None:
    """Clean up slowly enough for several SIGTERMs to arrive; none may interrupt it."""
    try:
        ctx.progress(None, "working")
        time.sleep(3600)
    finally:
        for _ in range(100):
            time.sleep(0.005)
        _say(params.mark, "tidied up")


@job("tidy-until-told", grace_s=30, on_shutdown="cancel")
def tidy_until_told(ctx: JobContext, params: Marked) -> None:
    """Clean up until the mark is there."""
    try:
        ctx.progress(None, "working")
        time.sleep(3600)
    finally:
        while not Path(params.mark).exists():
            time.sleep(0.005)


@job("shielded", grace_s=30, on_shutdown="cancel")
def shielded(ctx: JobContext, params: Marked) -> None:
    """Be cancelled inside a shield, nested."""
    with ctx.signal.shield():
        with ctx.signal.shield():
            ctx.progress(None, "shielded")
            ctx.signal.wait()
            time.sleep(0.2)
            ctx.signal.throw_if_aborted()
            _say(params.mark, "inner done")
        _say(params.mark, "outer done")
    _say(params.mark, "must not be written")


@job("flagged", grace_s=30, interrupt="flag", on_shutdown="cancel")
def flagged(ctx: JobContext, params: Marked) -> None:
    """Look at the flag only."""
    ctx.progress(None, "looking")
    while not ctx.signal.aborted:
        time.sleep(0.001)
    _say(params.mark, f"{ctx.signal.kind} by {ctx.signal.requested_by}, {(ctx.signal.time_left() or 0) > 20}")
    ctx.signal.throw_if_aborted()


@job("listening", grace_s=30, on_shutdown="cancel")
def listening(ctx: JobContext, params: Marked) -> None:
    """Hear of the cancel in a listener, while the main thread waits in C."""
    heard = threading.Event()
    ctx.signal.add_listener(lambda _: (_say(params.mark, threading.current_thread().name), heard.set()))
    ctx.progress(None, "listening")
    try:
        time.sleep(3600)
    finally:
        heard.wait(20)


@job("returned", grace_s=30, on_shutdown="cancel")
def returned(ctx: JobContext, params: Nothing) -> str:
    """Have the SIGTERM come when this function has returned, and annul has not taken its result yet."""

    def let_it_come(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_name == "_completed":
            sys.setprofile(None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctx.progress(None, "waiting")
    while signal.SIGTERM not in signal.sigpending():
        time.sleep(0.001)
    sys.setprofile(let_it_come)
    return "late"


@job("escaper", grace_s=0.5, on_shutdown="cancel")
def escaper(ctx: JobContext, params: Marked) -> None:
    """Leave a grandchild behind: double fork, own session, no environment, nothing that names the job."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execve("/bin/sh", ["sh", "-c", f"while :; do echo . >> '{params.mark}'; sleep 0.005; done"], {})
        os._exit(0)
    os.wait()
    ctx.progress(None, "escaped")
    time.sleep(3600)


@job("headless", grace_s=0.2, on_shutdown="cancel")
def headless(ctx: JobContext, params: Marked) -> None:
    """End the main thread only, as pthread_exit does: the process shows as a zombie, and beats on."""
    import ctypes

    threading.Thread(target=_beat, args=(params.mark,)).start()
    ctx.progress(None, "headless")
    ctypes.CDLL(None).syscall(60, 0)  # SYS_exit on x86-64


@job("patient", grace_s=20, on_shutdown="cancel")
def patient(ctx: JobContext, params: Marked) -> None:
    """End at once when cancelled, and leave a child that takes its time to clean up."""
    if os.fork() == 0:
        os.setsid()
        done = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: done.set())
        Path(f"{params.mark}.ready").touch()
        while not done.is_set():
            time.sleep(0.01)
        for _ in range(100):
            time.sleep(0.01)
        _say(params.mark, "cleaned up")
        os._exit(0)
    ctx.progress(None, "working")
    time.sleep(3600)


@job("abandoner", on_shutdown="cancel")
def abandoner(ctx: JobContext, params: Marked) -> str:
    """Complete, and leave a beating grandchild behind: own session, no environment, nothing that names the job."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sh", ["sh", "-c", f"while :; do echo . >> '{params.mark}'; sleep 0.005; done"], {})
        os._exit(0)
    os.wait()
    while not Path(params.mark).exists():
        time.sleep(0.001)
    return "left one behind"


@job("crasher", on_shutdown="cancel")
def crasher(ctx: JobContext, params: Nothing) -> None:
    """End without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


@job("raiser", on_shutdown="cancel")
def raiser(ctx: JobContext, params: Nothing) -> None:
    """Fail in its own words, having written an output."""
    ctx.output("out/never.txt").write_text("never seen")
    raise JobError("my_code", "what went wrong")


@job("big", on_shutdown="cancel")
def big(ctx: JobContext, params: Nothing) -> str:
    """Return more than a result may hold."""
    return "x" * (20 * 1024 * 1024)


@job("deep", on_shutdown="cancel")
def deep(ctx: JobContext, params: Nothing) -> list[Any]:
    """Return what is nested deeper than most readers can go."""
    found: list[Any] = []
    for _ in range(900):
        found = [found]
    return found


@job("fifo", on_shutdown="cancel")
def fifo(ctx: JobContext, params: Nothing) -> None:
    """Put FIFOs where the daemon will look for files."""
    for name in ("log", "stacks", "outcome.json"):
        path = ctx.workdir.parent / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    ctx.progress(None, "waiting")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


@job("odd-name", on_shutdown="cancel")
def odd_name(ctx: JobContext, params: Nothing) -> None:
    """Stage an output whose name is no text."""
    (ctx.output("x").parent / os.fsdecode(b"\xff.txt")).write_text("")


@job("bug", on_shutdown="cancel")
def bug(ctx: JobContext, params: Nothing) -> None:
    """Fail by an exception."""
    raise ValueError("a bug")


@job("hog", memory_bytes=256 * 1024 * 1024, on_shutdown="cancel")
def hog(ctx: JobContext, params: Nothing) -> int:
    """Take more memory than it may."""
    return len(bytearray(1024 * 1024 * 1024))


@job("late", grace_s=30, interrupt="flag", on_shutdown="cancel")
def late(ctx: JobContext, params: Nothing) -> str:
    """Come with a result after the cancel was accepted."""
    ctx.output("out/late.txt").write_text("too late")
    ctx.progress(None, "waiting")
    ctx.signal.wait()
    return "too late"


@job("slow-import", preload=("children.slow",), on_shutdown="cancel")
def slow_import(ctx: JobContext, params: Nothing) -> str:
    """Wait for its zygote, which takes a while to import."""
    return "imported"


@job("slow-sleeper", preload=("children.slow",), on_shutdown="cancel")
def slow_sleeper(ctx: JobContext, params: Nothing) -> None:
    """The same, and then sleep."""
    time.sleep(3600)


class WithFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[str, InputFile.MARK]


@job("measure", on_shutdown="cancel")
def measure(ctx: JobContext, params: WithFile) -> int:
    """Tell the size of its input file."""
    return Path(params.file).stat().st_size


@job("reads-file", on_shutdown="cancel")
def reads_file(ctx: JobContext, params: WithFile) -> str:
    """Tell what stands in its input file."""
    return Path(params.file).read_text()


@job("steps", on_shutdown="cancel")
def steps(ctx: JobContext, params: Nothing) -> str:
    """Report progress often."""
    for number in range(2000):
        ctx.progress(number / 2000, f"step {number}")
    ctx.progress(1, "last")
    return "stepped"


@job("self-cancel", on_shutdown="cancel")
def self_cancel(ctx: JobContext, params: Nothing) -> None:
    """Raise Cancelled without having been asked to."""
    raise Cancelled


@job("out-of-bounds", on_shutdown="cancel")
def out_of_bounds(ctx: JobContext, params: Nothing) -> str:
    """Try to write outside its directory."""
    with contextlib.suppress(ValueError):
        ctx.output("../../escaped.txt").write_text("no")
        return "escaped"
    return "refused"


@job("shaky", retries=2, retry_delay_s=0.05, on_shutdown="cancel")
def shaky(ctx: JobContext, params: Timed) -> int:
    """Fail twice in a way that may pass, and complete."""
    if ctx.attempt < 3:
        raise JobError("not_yet", f"attempt {ctx.attempt}", retryable=True)
    return ctx.attempt


@job("shaky-when-told", retries=2, retry_delay_s=0.05, on_shutdown="cancel")
def shaky_when_told(ctx: JobContext, params: Marked) -> None:
    """Say which attempt it is, wait for a file, and fail twice in a way that may pass."""
    print(f"in attempt {ctx.attempt}", flush=True)
    while not Path(params.mark).exists():
        time.sleep(0.01)
    if ctx.attempt < 3:
        raise JobError("not_yet", f"attempt {ctx.attempt}", retryable=True)


@job("hopeless", retries=2, retry_delay_s=0.02, on_shutdown="cancel")
def hopeless(ctx: JobContext, params: Marked) -> None:
    """Fail every time, in a way that may pass."""
    _say(params.mark, f"attempt {ctx.attempt}")
    raise JobError("never", f"attempt {ctx.attempt}", retryable=True)


@job("retried-later", retries=1, retry_delay_s=3600, on_shutdown="cancel")
def retried_later(ctx: JobContext, params: Nothing) -> None:
    """Fail, to be tried again in half an hour at the earliest."""
    raise JobError("later", "not now", retryable=True)


@job("wrong", retries=5, retry_delay_s=0.02, on_shutdown="cancel")
def wrong(ctx: JobContext, params: Marked) -> None:
    """Fail for good."""
    _say(params.mark, f"attempt {ctx.attempt}")
    raise JobError("for_good", "trying again is of no use")


@job("insistent", retries=1, retry_delay_s=0.02, grace_s=0.5, on_shutdown="cancel")
def insistent(ctx: JobContext, params: Marked) -> str:
    """Beat for ever in the first attempt."""
    if ctx.attempt == 1:
        ctx.progress(None, "beating")
        _beat(params.mark)
    return "second attempt"


@job("slow-start", start_timeout_s=0.2, preload=("children.slow",), on_shutdown="cancel")
def slow_start(ctx: JobContext, params: Nothing) -> str:
    """Wait for its zygote for longer than it may take to start."""
    return "started"


@job("filler", on_shutdown="cancel")
def filler(ctx: JobContext, params: Nothing) -> None:
    """Write until the disk is full."""
    with (ctx.workdir / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    ctx.progress(1.0, "full")
    time.sleep(3600)


@job("gated", on_shutdown="cancel")
def gated(ctx: JobContext, params: Marked) -> str:
    """Be done, with an output, once the mark is there."""
    ctx.output(f"out/{ctx.job_id}.txt").write_text("done")
    ctx.progress(None, "waiting")
    while not Path(params.mark).exists():
        time.sleep(0.005)
    return "done"
