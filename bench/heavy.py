"""A job whose process has imported what the CV jobs import."""

from __future__ import annotations

import time

from annul import JobContext, job
from bench.jobs import Nothing


@job("bench-heavy", preload=("pypdf", "openai"), on_shutdown="cancel")
def heavy(ctx: JobContext, params: Nothing) -> int:  # noqa: ARG001
    """Import both, and tell when the first line ran, as bench-first-line."""
    now = time.monotonic_ns()
    import openai  # noqa: F401
    import pypdf  # noqa: F401

    return now
