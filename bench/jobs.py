"""The jobs that are measured."""

from __future__ import annotations

import signal
import time

import msgspec

from annul import JobContext, job


class Nothing(msgspec.Struct, frozen=True):
    pass


@job("bench-first-line", on_shutdown="cancel")
def first_line(ctx: JobContext, params: Nothing) -> int:  # noqa: ARG001
    """Tell when the first line ran: CLOCK_MONOTONIC, ns, the same clock in every process."""
    return time.monotonic_ns()


@job("bench-sleep", on_shutdown="cancel")
def sleep(ctx: JobContext, params: Nothing) -> None:  # noqa: ARG001
    """Sleep until cancelled."""
    ctx.progress(None, "sleeping")
    time.sleep(3600)


@job("bench-stubborn", grace_s=0.1, on_shutdown="cancel")
def stubborn(ctx: JobContext, params: Nothing) -> None:  # noqa: ARG001
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.progress(None, "sleeping")
    time.sleep(3600)
