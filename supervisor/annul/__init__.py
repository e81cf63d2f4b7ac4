"""annul: background jobs that can be cancelled. What authors of jobs import:

    from annul import JobContext, job

Everything is loaded when it is first used, so that a job's process pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from annul._version import __version__

if TYPE_CHECKING:
    from annul.abort import AbortController, AbortError, AbortSignal
    from annul.errors import Cancelled, JobError
    from annul.jobtype import InputFile, JobType, job
    from annul.runtime.context import JobContext
    from annul.runtime.signal import JobSignal

__all__ = [
    "AbortController",
    "AbortError",
    "AbortSignal",
    "Cancelled",
    "InputFile",
    "JobContext",
    "JobError",
    "JobSignal",
    "JobType",
    "__version__",
    "job",
]

_HOMES = {
    "AbortController": "annul.abort",
    "AbortError": "annul.abort",
    "AbortSignal": "annul.abort",
    "Cancelled": "annul.errors",
    "InputFile": "annul.jobtype",
    "JobContext": "annul.runtime.context",
    "JobError": "annul.errors",
    "JobSignal": "annul.runtime.signal",
    "JobType": "annul.jobtype",
    "job": "annul.jobtype",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'annul' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
