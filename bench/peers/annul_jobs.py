"""The jobs as annul's, in the module that its daemon is given."""

from __future__ import annotations

import msgspec

from annul import JobContext, job
from bench.peers import work


class Trial(msgspec.Struct, frozen=True):
    where: str
    token: str


@job("peers-empty", on_shutdown="cancel")
def empty(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.empty(params.where, params.token)


@job("peers-heavy", on_shutdown="cancel", preload=("bench.peers.heavy",))
def heavy(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    from bench.peers import heavy

    return heavy.heavy(params.where, params.token)


@job("peers-sleep", on_shutdown="cancel")
def sleep(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.sleep(params.where, params.token)


@job("peers-tick", on_shutdown="cancel")
def tick(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.tick(params.where, params.token)


@job("peers-stubborn", on_shutdown="cancel", grace_s=0.1)
def stubborn(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.stubborn(params.where, params.token)


@job("peers-parent", on_shutdown="cancel")
def parent(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.parent(params.where, params.token)


@job("peers-brief", on_shutdown="cancel")
def brief(ctx: JobContext, params: Trial) -> bool:  # noqa: ARG001
    return work.brief(params.where, params.token)
