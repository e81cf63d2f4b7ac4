"""What several handlers need: limits, and how a job is shown."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from annul import stopping
from annul.errors import Refused, StoreError
from annul.server import Caller
from annul.store import JobRecord
from annul.store.record import view
from annul_client import wire

if TYPE_CHECKING:
    from annul.daemon import Daemon

MAX_DURATION_S = 366 * 86400.0
MAX_LABELS = 32
MAX_TEXT = 500  # characters of a title, a reason, a key, a label
MAX_ROWS = 1_000  # in one reply


def found(daemon: Daemon, job_id: str, caller: Caller) -> JobRecord:
    """A job's newest facts. Raises Refused where the caller does not see it, or may not stop it; StoreError."""
    active = daemon.registry.active.get(job_id)
    record = active.record if active is not None else daemon.ledger.newest(job_id)
    if record is None or not caller.grant.sees(record.user):
        raise Refused("not_found", f"there is no job {job_id!r}", "id")
    caller.grant.check_owns(job_id, record.user, record.submitted_by)
    return record


def check_priority(priority: int) -> None:
    """Raises Refused."""
    if not -(2**31) <= priority < 2**31:
        raise Refused("invalid_request", "priority is a 32-bit integer", "priority")


def check_labels(labels: dict[str, str]) -> None:
    """Raises Refused where there are more than a job may have."""
    if len(labels) > MAX_LABELS:
        raise Refused("invalid_request", f"a job has {MAX_LABELS} labels at most, not {len(labels)}", "labels")


def view_of(daemon: Daemon, record: JobRecord, *, with_result: bool) -> wire.Job:
    """A job as clients see it, with what is known of it right now."""
    active = daemon.registry.active.get(record.id)
    alive = active is not None and active.leader_alive and record.state is not wire.State.QUEUED
    pid = active.pid if active is not None and alive else None
    if active is not None and active.record.attempt == record.attempt:
        seq, fraction, stage = active.board.progress()
        if seq:
            record = record.with_(progress=wire.Progress(fraction=fraction, stage=stage))
        record = record.with_(cancel=stopping.cancel_so_far(daemon.supervision, active))
    return view(record, outputs=str(daemon.config.outputs_dir), pid=pid, result=with_result)


def unavailable(error: StoreError | OSError) -> Refused:
    """The store, or the disk it is on, takes nothing now."""
    if "full" in str(error) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        advice = "make room on that file system (a job that is cancelled gives back what it wrote), then try again"
    elif "locked" in str(error):
        advice = "another program has the store locked: try again, or end that one if it stays so"
    else:
        advice = "try again"
    return Refused("store_unavailable", f"{error}; nothing was changed by that; {advice}")
