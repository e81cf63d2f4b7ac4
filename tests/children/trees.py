"""Job types that make process trees without exec: what `exec` jobs do by `shapes.py`, these do themselves."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import msgspec

from annul import JobContext, job
from children import shapes


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: str
    folder: str
    manner: str
    then: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


@job("tree", on_shutdown="cancel")
def tree(ctx: JobContext, params: Shape) -> None:
    """Be the leader of a tree of that shape."""
    shapes.grow(params.shape, params.folder, params.manner)
    if params.then == "wait":
        time.sleep(3600)


class Folder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: str


@job("lingering", grace_s=60, on_shutdown="cancel")
def lingering(ctx: JobContext, params: Folder) -> None:
    """Clean up until there is the file "go", and leave a child behind that does so for longer."""
    folder = Path(params.folder)

    def child() -> None:
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        (folder / "ready").touch()
        while not told.is_set():
            time.sleep(0.01)
        for _ in range(50):
            time.sleep(0.01)
        (folder / "cleaned up").touch()

    try:
        shapes.forked(child)
        time.sleep(3600)
    finally:
        (folder / "cleaning up").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)


@job("spawned", on_shutdown="cancel", preload=("children.spawning",))
def spawned(ctx: JobContext, params: Nothing) -> int:
    """Tell how the program ended that its zygote ran."""
    from children.spawning import STATUS

    return STATUS


@job("somebody-else", on_shutdown="cancel")
def somebody_else(ctx: JobContext, params: Shape) -> None:
    """Be the leader, as another user."""
    shapes.grow(params.shape, params.folder, params.manner)
    os.setgid(shapes.NOBODY)
    os.setuid(shapes.NOBODY)
    time.sleep(3600)
