"""One function a request. Each looks, notes what is to change, and answers after the turn's commit.

Called with the daemon, the request and the caller; what cannot be done is raised as `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from annul import access
from annul.errors import Refused, StoreError
from annul.handlers import cancel, draining, look, pause, purge, reprioritize, retry, stats, submit
from annul.handlers.showing import MAX_ROWS, unavailable, view_of
from annul.server import Caller, internal
from annul_client import wire

if TYPE_CHECKING:
    from annul.daemon import Daemon

__all__ = ["look_up", "may_ask", "only_looks", "piece", "view_of", "write"]

_OVER = object()
_LISTED_A_REQUEST = 5  # jobs: so many are shown in the time that one is submitted in
_BYTES_A_REQUEST = 64 * 1024  # a bigger one counts as several
_Handler = Callable[[Any, Any, Caller], None]

WRITING: dict[type[wire.Request], _Handler] = {
    wire.Submit: submit.submit,
    wire.SubmitMany: submit.submit_many,
    wire.Cancel: cancel.cancel,
    wire.Purge: purge.purge,
    wire.Pause: pause.pause,
    wire.Unpause: pause.unpause,
    wire.Reprioritize: reprioritize.reprioritize,
    wire.Retry: retry.retry,
    wire.Drain: draining.drain,
    wire.Resume: draining.resume,
}
READING: dict[type[wire.Request], _Handler] = {
    wire.Ping: look.ping,
    wire.Get: look.get,
    wire.List: look.list_,
    wire.Wait: look.wait,
    wire.Events: look.events,
    wire.Logs: look.logs,
    wire.Result: look.result,
    wire.Output: look.output,
    wire.Types: look.types,
    wire.Stats: stats.stats,
}


def may_ask(daemon: Daemon, request: wire.Request, caller: Caller) -> bool:
    """Whether the caller's role is enough, and it does not ask too often. If not, that is answered, unless it was told
    often enough.
    """
    try:
        now, cost = daemon.clock.monotonic(), _cost(request, caller)
        if not caller.grant.is_local_admin and not daemon.rates.take(caller.by, now, cost):
            if not daemon.rates.tell(caller.by, now):
                return False
            limit = daemon.config.max_requests_per_s
            raise Refused("rate_limited", f"{caller.by} asks more than {limit} times a second: wait a little")
        access.check(caller.grant, request)
    except Refused as error:
        caller.refuse(error)
        return False
    return True


def _cost(request: wire.Request, caller: Caller) -> int:
    """How many requests it counts as: what it makes the daemon do grows with its jobs, and with its bytes."""
    jobs = 1
    if isinstance(request, wire.SubmitMany):
        jobs = len(request.jobs)
    elif isinstance(request, wire.List):
        jobs = min(request.limit, MAX_ROWS) // _LISTED_A_REQUEST
    return max(1, jobs) + caller.size // _BYTES_A_REQUEST


def only_looks(request: wire.Request) -> bool:
    """Whether a request changes nothing, and so is answered after the turn's commit."""
    return type(request) in READING


def write(daemon: Daemon, request: wire.Request, caller: Caller) -> None:
    """Carry out a request that changes something. Whatever goes wrong is answered, and hits nobody else."""
    _guarded(WRITING[type(request)], daemon, request, caller)


def look_up(daemon: Daemon, request: wire.Request, caller: Caller) -> None:
    """Answer a request that only looks."""
    _guarded(READING[type(request)], daemon, request, caller)


def piece(work: Iterator[None], caller: Caller) -> bool:
    """Do one more piece of a request that is cut in pieces. Whether it is over."""
    over = True

    def on(_daemon: None, _request: None, _caller: Caller) -> None:
        nonlocal over
        over = next(work, _OVER) is _OVER

    _guarded(on, None, None, caller)
    return over


def _guarded(handler: _Handler, daemon: Any, request: Any, caller: Caller) -> None:
    try:
        handler(daemon, request, caller)
    except Refused as error:
        caller.refuse(error)
    except StoreError as error:
        caller.refuse(unavailable(error))
    except Exception as error:  # noqa: BLE001 (a bug shown by one request must not take the jobs' supervisor down)
        caller.refuse(internal(error))
