"""Freezing the processes of a paused job, and thawing them: by its cgroup where it has one, else by SIGSTOP.

Invariant: a tree is frozen only while the store says that the job is paused, or while nobody has climbed its ladder
yet: `paused` is committed first, and taken back last. So whatever daemon comes next knows whom it has to thaw.

In the loop thread; nothing in here waits. A signal sent is not a stop: it is looked at again until nobody runs, and
once a second from then on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from annul.registry import Active
from annul.store import JobRecord
from annul_client.wire import State

if TYPE_CHECKING:
    from annul.supervision import Supervision

_log = logging.getLogger(__name__)
_AGAIN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
PAUSABLE = frozenset({State.QUEUED, State.STARTING, State.RUNNING})


def is_to_be_frozen(active: Active) -> bool:
    """Not before it runs: a process that is being made has its time to register. Not once it is being stopped."""
    return (
        active.record.paused
        and active.pause_noted
        and active.record.state is State.RUNNING
        and active.ladder is None
        and active.leader_alive
        and not active.over
    )


def freeze(sup: Supervision, active: Active) -> None:
    """Freeze all that is seen of a paused job; `freeze_at` says when to look again. Raises OSError."""
    active.freeze_at = None
    if not is_to_be_frozen(active):
        active.freezes = 0
        return
    active.maybe_frozen = True
    again_s = _AGAIN_S[min(active.freezes, len(_AGAIN_S) - 1)]
    active.freezes += 1
    active.freeze_at = sup.clock.monotonic() + again_s
    active.tree.freeze(active.pid, leader_alive=active.leader_alive)


def thaw(active: Active) -> None:
    """Let everybody in the tree go on who may have been stopped for a pause. Raises OSError; then it is to be repeated.

    Non-guarantee: of one that an earlier daemon has paused also those go on whom somebody else had stopped before.
    """
    if active.maybe_frozen:
        active.tree.thaw(active.pid, leader_alive=active.leader_alive, everyone=active.adopted)
        active.maybe_frozen, active.freeze_at, active.freezes = False, None, 0


def after(record: JobRecord, state: State) -> JobRecord:
    """That record in another state: what is final, or being cancelled, is not paused any more."""
    return record.with_(state=state, paused=record.paused and state in PAUSABLE)
