"""One job as a row of words."""

from __future__ import annotations

from datetime import datetime

from annul_client import wire
from annul_client.cli.out import printable
from annul_client.cli.words import duration, progress

from .usage import Used

COLUMNS = ("ID", "TYPE", "STATE", "USER", "AGE", "CPU", "MEMORY", "PROGRESS", "TITLE")


def cells(job: wire.Job, used: Used | None, now: datetime) -> tuple[str, ...]:
    """The age is a live job's since its submission; of one that is over, for how long its last attempt ran."""
    end = job.finished_at if job.state.final else now
    begin = (job.started_at or end) if job.state.final else job.created_at
    age = duration(max(0.0, (end - begin).total_seconds())) if end and begin else ""
    if job.state.final:
        used = None
    stuck = job.cancel is not None and job.cancel.stuck and not job.state.final
    if job.state is wire.State.FAILED and job.error is not None:
        said = printable(job.error.code)
    else:
        said = "" if job.state.final else progress(job)
    return (
        job.id,
        job.type,
        f"{job.state}!" if stuck else str(job.state),
        printable(job.user),
        age,
        "" if used is None or used.cpu is None else f"{used.cpu * 100:.0f} %",
        "" if used is None else f"{used.memory_bytes / 2**20:,.0f} MiB",
        said,
        printable(job.title),
    )
