"""annul's client: submit background jobs, follow them, cancel them.

    from annul_client import Client

    with Client() as client:
        job = client.submit("import-pdf", {"pdf": "/path/cv.pdf"}, user="u1")
        client.cancel(job.id, reason="the user went away")
        job = client.wait(job.id)

With asyncio: `AsyncClient`, whose methods are the same, to be awaited.

The names below are loaded when they are first used, so that ``import annul_client.wire``, which is all the
daemon does, pulls in neither zmq nor this client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .errors import (
        AnnulClientError,
        BadReply,
        ClientClosed,
        EventsLost,
        KeyConflict,
        NoDaemon,
        NotCompleted,
        NotFinal,
        NotFound,
        QueueFull,
        RequestRefused,
        TooBig,
    )
    from .sync import Client
    from .wire import (
        CancelOutcome,
        CancelRecord,
        CancelReply,
        ErrorInfo,
        Event,
        Job,
        JobReply,
        LogsReply,
        Pong,
        Progress,
        ResultReply,
        Stage,
        State,
        TypeInfo,
        TypesReply,
    )

_HOME = {
    "AsyncClient": "aio",
    "Client": "sync",
    **dict.fromkeys(
        (
            "AnnulClientError",
            "BadReply",
            "ClientClosed",
            "EventsLost",
            "KeyConflict",
            "NoDaemon",
            "NotCompleted",
            "NotFinal",
            "NotFound",
            "QueueFull",
            "RequestRefused",
            "TooBig",
        ),
        "errors",
    ),
    **dict.fromkeys(
        (
            "CancelOutcome",
            "CancelRecord",
            "CancelReply",
            "ErrorInfo",
            "Event",
            "Job",
            "JobReply",
            "LogsReply",
            "Pong",
            "Progress",
            "ResultReply",
            "Stage",
            "State",
            "TypeInfo",
            "TypesReply",
        ),
        "wire",
    ),
}

__all__ = [
    "AnnulClientError",
    "AsyncClient",
    "BadReply",
    "CancelOutcome",
    "CancelRecord",
    "CancelReply",
    "Client",
    "ClientClosed",
    "ErrorInfo",
    "Event",
    "EventsLost",
    "Job",
    "JobReply",
    "KeyConflict",
    "LogsReply",
    "NoDaemon",
    "NotCompleted",
    "NotFinal",
    "NotFound",
    "Pong",
    "Progress",
    "QueueFull",
    "RequestRefused",
    "ResultReply",
    "Stage",
    "State",
    "TooBig",
    "TypeInfo",
    "TypesReply",
]


def __getattr__(name: str) -> Any:
    try:
        module = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
