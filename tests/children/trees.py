"""Job types that make process trees without exec: what `exec` jobs do by `shapes.py`, these do themselves."""

from __future__ import annotations

import os
import time

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
