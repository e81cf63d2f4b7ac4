"""Job types that are interrupted in awkward places. Each says `ready` as its stage, and writes to its mark what it saw.

`--jobs children.signals`. A test cancels a job when it is ready, or sends it SIGTERMs of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import msgspec

from annul import AbortSignal, Cancelled, JobContext, job


class Marked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mark: str  # path of a file the job writes to
    how: str = ""


def say(params: Marked, text: str) -> None:
    with Path(params.mark).open("a") as file:
        file.write(text + "\n")


def storm(times: int = 20) -> None:
    """SIGTERM upon SIGTERM, as from a supervisor that has lost its patience."""
    for _ in range(times):
        signal.raise_signal(signal.SIGTERM)


def hang() -> None:
    time.sleep(3600)


def spin() -> None:
    while True:
        pass


# --- clean-up -----------------------------------------------------------------------------------------------


@job("cleaner", grace_s=30, on_shutdown="cancel")
def cleaner(ctx: JobContext, params: Marked) -> None:
    """Clean up in every way there is, under a storm of signals."""

    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            storm()
            say(params, "generator")

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: (storm(), say(params, "stack")))
        try:
            for _ in numbers():
                ctx.progress(None, "ready")
                if params.how == "look":
                    while not ctx.signal.aborted:
                        pass
                    ctx.signal.throw_if_aborted()
                hang()
        finally:
            try:
                raise KeyError
            except KeyError:
                storm()
                say(params, "except")
            finally:
                storm()
                say(params, "finally")
    say(params, "never")


@job("cleaner-task", grace_s=30, on_shutdown="cancel")
async def cleaner_task(ctx: JobContext, params: Marked) -> None:
    """The same, where each step of the clean-up awaits."""

    async def step(text: str) -> None:
        for _ in range(5):
            storm(2)
            await asyncio.sleep(0.001)
        say(params, text)

    async def child(text: str) -> None:
        try:
            ctx.progress(None, "ready")  # not before: a task that is cancelled before its first step never begins
            await asyncio.sleep(3600)
        finally:
            await step(text)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(step, "stack")
        try:
            if params.how == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(child("child"))
            else:
                await asyncio.gather(child("child"))
        finally:
            await step("finally")
    say(params, "never")


@job("cleaner-flag", grace_s=30, interrupt="flag", on_shutdown="cancel")
def cleaner_flag(ctx: JobContext, params: Marked) -> None:
    """Nothing is ever raised but by the job's own look."""
    ctx.progress(None, "ready")
    ctx.signal.wait()
    storm()
    say(params, "woken")
    try:
        ctx.signal.throw_if_aborted()
    finally:
        storm()
        say(params, "finally")


# --- swallowed ----------------------------------------------------------------------------------------------


@job("swallowed", grace_s=30, on_shutdown="cancel")
def swallowed(ctx: JobContext, params: Marked) -> None:
    """Be interrupted where the exception is lost; then go on until it comes again."""
    told = False

    def lost_here() -> None:
        nonlocal told
        if told:
            return
        told = True
        try:
            ctx.progress(None, "ready")
            hang()
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the next one waits until this one is noted

    class Destroyed:
        def __del__(self) -> None:
            lost_here()

    def ctypes_callback() -> None:
        ctypes.CFUNCTYPE(None)(lost_here)()

    def sqlite_handler() -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.set_progress_handler(lambda: lost_here(), 1)
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute(LONG_QUERY).fetchall()

    def sort_key() -> None:
        with contextlib.suppress(Cancelled):
            sorted(range(3), key=lambda number: lost_here() or number)

    where: dict[str, Callable[[], object]] = {
        "del": Destroyed,
        "ctypes": ctypes_callback,
        "sqlite": sqlite_handler,
        "sorted": sort_key,
    }
    where[params.how]()
    say(params, "swallowed")
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        hang()
    finally:
        storm()
        say(params, "cleaned up")


@job("swallowed-task", grace_s=30, on_shutdown="cancel")
async def swallowed_task(ctx: JobContext, params: Marked) -> None:
    """Swallow the first two cancels."""
    ctx.progress(None, "ready")
    for number in range(2):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            storm()
            await asyncio.sleep(0.05)  # long enough for the daemon's own repeats
            say(params, f"swallowed {number}")
    try:
        await asyncio.sleep(3600)
    finally:
        say(params, "cleaned up")


# --- between the job and the signal -------------------------------------------------------------------------

LONG_QUERY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000) SELECT count(*) FROM n"
)


@job("between", grace_s=30, on_shutdown="cancel")
def between(ctx: JobContext, params: Marked) -> None:
    """Be interrupted inside somebody else's code."""

    async def coroutine() -> None:
        async def background() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                say(params, "background")

        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        ctx.progress(None, "ready")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            say(params, f"coroutine {task.done()}")

    async def group() -> None:
        async def blocking() -> None:
            ctx.progress(None, "ready")
            hang()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(blocking())

    def query() -> None:
        with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
            ctx.signal.add_listener(lambda _: connection.interrupt())
            ctx.progress(None, "ready")
            connection.execute(LONG_QUERY).fetchall()

    def any_signal() -> None:
        either = AbortSignal.any([ctx.signal, AbortSignal.timeout(3600)])
        with ctx.signal.shield():
            ctx.progress(None, "ready")
            say(params, f"{either.wait(60)} {type(either.reason).__name__}")

    def thread() -> None:
        found: list[bool] = []
        waiter = threading.Thread(target=lambda: found.append(ctx.signal.wait(60)))
        waiter.start()
        try:
            ctx.progress(None, "ready")  # in here: the cancel may come right after it
            hang()
        finally:
            waiter.join(60)
            say(params, f"thread {found}")

    def run() -> None:
        ctx.progress(None, "ready")
        subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)"], check=False)

    def process() -> None:
        child = multiprocessing.get_context("fork").Process(target=spin)
        child.start()
        ctx.progress(None, "ready")
        child.join()

    where: dict[str, Callable[[], object]] = {
        "asyncio": lambda: asyncio.run(coroutine()),
        "taskgroup": lambda: asyncio.run(group()),
        "sqlite": query,
        "any": any_signal,
        "thread": thread,
        "subprocess": run,
        "process": process,
    }
    try:
        where[params.how]()
    finally:
        storm()
        say(params, "cleaned up")


@job("waiter-task", grace_s=30, on_shutdown="cancel")
async def waiter_task(ctx: JobContext, params: Marked) -> None:
    """Hear of it in a coroutine before the task is cancelled, inside a shield; then cancel a task of its own."""
    other = asyncio.create_task(asyncio.sleep(3600))
    ctx.signal.cancel_task(other)
    with ctx.signal.shield():
        ctx.progress(None, "ready")
        await ctx.signal.wait_async()
        with contextlib.suppress(asyncio.CancelledError):
            await other
        say(params, f"heard of {ctx.signal.kind}, {other.cancelled()}")
    await asyncio.sleep(3600)
    say(params, "never")


@job("stuck-thread", grace_s=30, on_shutdown="cancel")
def stuck_thread(ctx: JobContext, params: Marked) -> None:
    """Leave threads behind that nothing can end."""
    threading.Thread(target=hang).start()
    threading.Thread(target=spin, daemon=params.how == "daemon").start()
    ThreadPoolExecutor().submit(hang)
    ctx.progress(None, "ready")
    if params.how != "return":
        hang()


@job("stuck-thread-task", grace_s=30, on_shutdown="cancel")
async def stuck_thread_task(ctx: JobContext, params: Marked) -> None:
    """Wait in a coroutine for a thread that nothing can end."""
    ctx.progress(None, "ready")
    await asyncio.to_thread(hang)


def _pool(ctx: JobContext, params: Marked) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        busy = [pool.submit(spin) for _ in range(2)]
        while not all(future.running() for future in busy):
            pass
        ctx.progress(None, "ready")
        hang()


@job("pool", grace_s=0.5, on_shutdown="cancel")
def pool(ctx: JobContext, params: Marked) -> None:
    """Wait for busy workers on the way out, as the ``with`` block of a pool does."""
    _pool(ctx, params)


@job("pool-tree", grace_s=30, on_shutdown="cancel", signal_tree=True)
def pool_tree(ctx: JobContext, params: Marked) -> None:
    """The same, where SIGTERM goes to the workers too."""
    _pool(ctx, params)


# --- forks, and signals taken away --------------------------------------------------------------------------


@job("forker", grace_s=30, on_shutdown="cancel")
def forker(ctx: JobContext, params: Marked) -> str:
    """Fork, and let the child come out of the job's function by itself, in one way or another."""
    ctx.output("out.txt").write_text("of the parent")
    if os.fork() == 0:
        ctx.progress(1.0, "child")
        if params.how == "return":
            return "of the child"
        if params.how == "raise":
            raise ValueError("of the child")
        if params.how == "cancelled":
            raise Cancelled
        sys.exit(0)
    os.wait()
    ctx.progress(0.5, "ready")
    if Path(params.mark).exists():
        return "of the parent"
    hang()
    return "never"


@job("deaf", grace_s=0.4, on_shutdown="cancel")
def deaf(ctx: JobContext, params: Marked) -> None:
    """Take SIGTERM away; the flag is seen all the same."""
    if params.how == "block":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    else:
        signal.signal(signal.SIGTERM, lambda *_: None)
    ctx.signal.add_listener(lambda _: say(params, "heard"))
    ctx.progress(None, "ready")
    while True:
        with contextlib.suppress(BaseException):
            hang()


@job("killed", grace_s=30, interrupt="flag", on_shutdown="cancel")
def killed(ctx: JobContext, params: Marked) -> None:
    """Wait for a SIGTERM that does not come from annul."""
    ctx.progress(None, "ready")
    ctx.signal.wait()
    say(params, f"{ctx.signal.kind}: {ctx.signal.reason}")
    ctx.signal.throw_if_aborted()
