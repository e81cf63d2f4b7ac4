"""Jobs and cancel records in words. Pure: takes what is to be said, and the time it is said at."""

from __future__ import annotations

from datetime import datetime

from annul_client import wire

from .out import printable


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, size in ((100, "s", 1), (6000, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def state(job: wire.Job) -> str:
    """``running``, ``queued, paused``."""
    return f"{job.state}, paused" if job.paused else str(job.state)


def progress(job: wire.Job) -> str:
    """``35 % page 7``, as far as the job tells."""
    fraction = job.progress.fraction
    percent = "" if fraction is None else f"{fraction * 100:.0f} %"
    return " ".join(part for part in (percent, printable(job.progress.stage)) if part)


def ran(job: wire.Job) -> str:
    """For how long the job's last attempt ran, where it did: `` after 3 s``."""
    if job.started_at is None or job.finished_at is None:
        return ""
    return f" after {duration((job.finished_at - job.started_at).total_seconds())}"


def swept(count: int) -> str:
    """``2 more processes swept``."""
    return f"{count} more process{'es' if count > 1 else ''} swept"


def ending(job: wire.Job) -> str:
    """How a job ended, in one line."""
    match job.state:
        case wire.State.COMPLETED:
            return f"completed{ran(job)}" + (f"; {swept(job.swept)}" if job.swept else "")
        case wire.State.CANCELLED:
            return f"cancelled{ran(job)}: {cancel_steps(job.cancel)}" if job.cancel else "cancelled"
        case wire.State.FAILED if job.error is not None:
            return f"failed{ran(job)}: {job.error.code}: {job.error.message}"
        case _:
            return str(job.state)


def cancel_steps(record: wire.CancelRecord) -> str:
    """``asked +0 ms, flag +0.2, SIGTERM +0.3, noticed +1.1, tree empty +5.0; ended by sigterm``, as time went."""
    steps = [
        ("flag", record.flag_s),
        ("SIGTERM", record.sigterm_s),
        ("noticed", record.noticed_s),
        ("SIGKILL", record.sigkill_s),
        # Of a job that was still queued there never was a tree.
        ("tree empty", record.gone_s if record.flag_s is not None else None),
    ]
    timed = sorted((at_s, place, name) for place, (name, at_s) in enumerate(steps) if at_s is not None)
    said = ", ".join(["asked +0 ms", *(f"{name} +{_ms(at_s)}" for at_s, _, name in timed)])
    match record.stage:
        case None:
            pass
        case wire.Stage.BEFORE_START:
            said += "; nothing of it ever ran"
        case stage:
            said += f"; ended by {'the flag' if stage is wire.Stage.FLAG else stage}"
    if record.swept:
        said += f"; {swept(record.swept)}"
    if record.late_result:
        said += "; a result came too late and was dropped"
    if record.stuck:
        said += "; STUCK, the kernel does not end it" if record.gone_s is None else "; was stuck in the kernel"
    return said


def _ms(seconds: float) -> str:
    """Milliseconds: ``0.3``, ``86.0``, ``5003``."""
    return f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f}"


def cancel_asker(record: wire.CancelRecord) -> str:
    """Who stopped it and why: ``by ann, "wrong file", grace 5 s``."""
    who = {"timeout": "by annul, out of time", "shutdown": "by annul, which was stopped"}.get(
        record.kind, f"by {printable(record.by) or 'somebody'}"
    )
    why = f", “{printable(record.reason)}”" if record.reason and record.reason != record.kind else ""
    return f"{who}{why}, grace {record.grace_s:g} s"


def facts(job: wire.Job, now: datetime) -> list[tuple[str, str]]:
    """All there is to say of a job, as pairs of what and how."""
    pairs = [
        ("job", job.id),
        ("type", job.type),
        ("state", state(job) + (f", {progress(job)}" if not job.state.final and progress(job) else "")),
        ("user", printable(job.user)),
        ("title", printable(job.title)),
        ("labels", printable(", ".join(f"{name}={value}" for name, value in job.labels.items()))),
        ("key", printable(job.key or "")),
        ("priority", str(job.priority) if job.priority else ""),
        ("again", f"what {job.retry_of} was to do" if job.retry_of else ""),
        ("attempt", str(job.attempt) if job.attempt > 1 else ""),
        ("pid", str(job.pid) if job.pid else ""),
        ("time limit", f"{job.timeout_s:g} s" if job.timeout_s else ""),
        ("not before", moment(job.not_before, now)),
        ("created", moment(job.created_at, now)),
        ("started", moment(job.started_at, now)),
        ("finished", moment(job.finished_at, now) + (ran(job) if job.finished_at else "")),
    ]
    if job.error is not None:
        where = f" ({job.error.field})" if job.error.field else ""
        pairs.append(("error", f"{job.error.code}{where}: {printable(job.error.message)}"))
    if job.cancel is not None:
        pairs += [("stopped", cancel_asker(job.cancel)), ("", cancel_steps(job.cancel))]
        lines = job.cancel.stuck_at.splitlines()
        pairs += [("" if n else "stuck here", printable(line)) for n, line in enumerate(lines)]
    elif job.swept:
        pairs.append(("left behind", swept(job.swept)))
    pairs += [("file" if n == 0 else "", path) for n, path in enumerate(job.files)]
    return [(name, value) for name, value in pairs if value]


def moment(at: datetime | None, now: datetime) -> str:
    """A time as the reader's clock has it, and how far it is from now."""
    if at is None:
        return ""
    away_s = (now - at).total_seconds()
    distance = f"{duration(away_s)} ago" if away_s >= 0 else f"in {duration(-away_s)}"
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({distance})"
