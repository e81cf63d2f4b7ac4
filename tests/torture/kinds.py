"""Job types for the race bench, served with ``--jobs torture.kinds``.

None of them ends before it is cancelled, but for those that are told to. Each stages an output first: it must be seen
of completed jobs only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from annul import JobContext, JobError, job
from torture.shapes import SHAPES, Heart, fork, grow, ready

CV = Path(__file__).parents[2] / "examples" / "cv-en.pdf"
FOREVER_S = 3600


class Race(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a job is to do, and what its tree looks like meanwhile."""

    beats: str  # directory of the heartbeats
    behaviour: str
    shape: str = "none"
    exec_: bool = False
    stubborn: bool = False  # its descendants ignore SIGTERM
    seconds: float = 0.0  # for those that end by themselves
    base_url: str = ""  # of the OpenAI server


class Scene:
    """A job that has begun: its directory of heartbeats, its own heart, its tree."""

    def __init__(self, ctx: JobContext, params: Race) -> None:
        assert params.shape in SHAPES
        self.ctx = ctx
        self.params = params
        self.output = ctx.output(f"out/{ctx.job_id}")
        self.output.write_text("staged")
        self.folder = Path(params.beats, ctx.job_id)
        self.folder.mkdir()
        self.heart = Heart(self.folder)
        grow(self.folder, params.shape, exec_=params.exec_, stubborn=params.stubborn)
        self.heart.start()

    def ready(self) -> None:
        ready(self.folder)

    def ready_to_end(self) -> float:
        """Say when it will end, on the monotonic clock."""
        end = time.monotonic() + self.params.seconds
        ready(self.folder, str(end))
        return end


def _wait_until(end: float) -> None:
    time.sleep(max(0.0, end - time.monotonic() - 0.001))
    while time.monotonic() < end:
        pass


def _python(scene: Scene) -> None:
    scene.ready()
    while True:
        sum(range(100))


def _gil(scene: Scene) -> None:
    """A call that neither returns nor lets another thread run: the second lock of a mutex."""
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    mutex = ctypes.create_string_buffer(64)
    lock(mutex)
    scene.ready()
    lock(mutex)


def _syscall(scene: Scene) -> None:
    scene.ready()
    time.sleep(FOREVER_S)


def _ignored(scene: Scene) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _syscall(scene)


def _blocked(scene: Scene) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _syscall(scene)


def _stopped(scene: Scene) -> None:
    scene.ready()
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(FOREVER_S)


def _stopped_member(scene: Scene) -> None:
    def stop() -> None:
        Heart(scene.folder)
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(FOREVER_S)

    fork(stop)
    _syscall(scene)


def _shield(scene: Scene) -> None:
    with scene.ctx.signal.shield():
        scene.ready()
        scene.ctx.signal.wait()
        time.sleep(0.02)


def _import(scene: Scene) -> None:
    scene.ready()
    import torture.slow  # noqa: F401

    time.sleep(FOREVER_S)


def _writing(scene: Scene) -> None:
    scene.ready()
    with scene.output.open("w") as file:
        while True:
            file.write("x" * 4096)
            file.flush()
            if file.tell() > 1_000_000:
                file.seek(0)


def _sqlite(scene: Scene) -> None:
    db = sqlite3.connect(scene.ctx.workdir / "db")
    db.execute("CREATE TABLE t (a TEXT)")
    scene.ready()
    while True:
        with db:
            db.execute("INSERT INTO t VALUES (?)", ("x" * 1000,))


def _finishing(scene: Scene) -> None:
    _wait_until(scene.ready_to_end())


def _failing(scene: Scene) -> None:
    _wait_until(scene.ready_to_end())
    raise JobError("raced", "it fails at a time that is known")


def _leader_exits(scene: Scene) -> None:
    """Without a word, before the rest of its tree."""
    _wait_until(scene.ready_to_end())
    os._exit(3)


def _zombie_leader(scene: Scene) -> None:
    """End the main thread only: the process shows as a zombie, and beats on."""
    scene.ready()
    ctypes.CDLL(None).syscall(60, 0)  # SYS_exit on x86-64


def _done(scene: Scene) -> None:
    scene.ready()


_BEHAVIOURS: dict[str, Callable[[Scene], None]] = {
    "python": _python,
    "gil": _gil,
    "syscall": _syscall,
    "ignored": _ignored,
    "blocked": _blocked,
    "stopped": _stopped,
    "stopped-member": _stopped_member,
    "shield": _shield,
    "import": _import,
    "writing": _writing,
    "sqlite": _sqlite,
    "finishing": _finishing,
    "failing": _failing,
    "leader-exits": _leader_exits,
    "zombie-leader": _zombie_leader,
    "done": _done,
}


@job("race", preload=("sqlite3", "ctypes"), on_shutdown="cancel")
def race(ctx: JobContext, params: Race) -> str:
    """Behave as told."""
    _BEHAVIOURS[params.behaviour](Scene(ctx, params))
    return "done"


@job("race-typed", preload=("sqlite3", "ctypes"), on_shutdown="cancel")
def race_typed(ctx: JobContext, params: Race) -> str:
    """The same under another name, for cancels by type."""
    return str(race(ctx, params))


@job("race-async", preload=("sqlite3", "ctypes"), on_shutdown="cancel")
async def race_async(ctx: JobContext, params: Race) -> None:
    """Sleep in a coroutine."""
    Scene(ctx, params).ready()
    await asyncio.sleep(FOREVER_S)


@job("race-flag", preload=("sqlite3", "ctypes"), interrupt="flag", on_shutdown="cancel")
def race_flag(ctx: JobContext, params: Race) -> str:
    """Look at the flag only, and come with a result all the same."""
    Scene(ctx, params).ready()
    while not ctx.signal.aborted:
        time.sleep(0.001)
    return "late"


@job("race-zygote", preload=("torture.slow",), on_shutdown="cancel")
def race_zygote(ctx: JobContext, params: Race) -> None:
    """Wait for a zygote that takes a while to import."""
    _syscall(Scene(ctx, params))


@job("race-pdf", preload=("pypdf",), on_shutdown="cancel")
def race_pdf(ctx: JobContext, params: Race) -> None:
    """Read a CV, again and again."""
    from pypdf import PdfReader

    Scene(ctx, params).ready()
    while True:
        for page in PdfReader(CV).pages:
            page.extract_text()


@job("race-openai", preload=("annul.jobs.chat.preload",), on_shutdown="cancel")
def race_openai(ctx: JobContext, params: Race) -> None:
    """Ask a model that does not answer, or not to the end."""
    from openai import OpenAI

    scene = Scene(ctx, params)
    client = OpenAI(api_key="sk-race", base_url=params.base_url)  # it retries, as it does by default
    streamed = params.behaviour == "openai-stream"
    # By a timer: the call itself is what the cancel is to hit.
    threading.Timer(0.02, scene.ready).start()
    answer = client.chat.completions.create(
        model="none", messages=[{"role": "user", "content": "Who are you?"}], stream=streamed
    )
    for _ in answer if streamed else ():
        pass
