"""`drain` and `resume`: start no more jobs, or start them again.

Kept as a file in the state directory, durable before it is answered: a restart in the middle of maintenance starts no
job. An operator may make or remove that file where no daemon runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from annul.handlers.showing import unavailable
from annul.runtime.outcome import fsync_dir
from annul.server import Caller
from annul_client import wire

if TYPE_CHECKING:
    from annul.daemon import Daemon

_log = logging.getLogger(__name__)
_MARK = "draining"


def is_marked(state_dir: Path) -> bool:
    return (state_dir / _MARK).exists()


def drain(daemon: Daemon, request: wire.Drain, caller: Caller) -> None:  # noqa: ARG001
    _set(daemon, caller, True)


def resume(daemon: Daemon, request: wire.Resume, caller: Caller) -> None:  # noqa: ARG001
    _set(daemon, caller, False)


def _set(daemon: Daemon, caller: Caller, draining: bool) -> None:
    mark = daemon.config.state_dir / _MARK
    try:
        if draining:
            mark.touch(mode=0o600)
        else:
            mark.unlink(missing_ok=True)
        fsync_dir(mark.parent)
    except OSError as error:
        raise unavailable(error) from error
    if draining is not daemon.draining:
        what = "draining: no more starts" if draining else "resumed"
        _log.info("%s (%s)", what, caller.by, extra={"action": "drain" if draining else "resume"})
    daemon.draining = draining
    registry = daemon.registry
    reply = wire.DrainReply(draining=draining, running=registry.running.total, queued=len(registry.queue))
    daemon.ledger.afterwards(lambda: caller.answer(reply))
