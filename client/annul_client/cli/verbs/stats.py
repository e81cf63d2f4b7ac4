"""``annul stats``: how many jobs are where, and what was done."""

from __future__ import annotations

import click

from annul_client import wire
from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line, table
from annul_client.cli.session import Session
from annul_client.cli.words import duration

_LIVE = ("queued", "starting", "running", "cancelling")


@click.command("stats", short_help="Count jobs: by state, by type, since it started.")
@json_option
@click.pass_obj
def command(session: Session, *, as_json: bool) -> int:
    """Count jobs: those that live by type and state, all others since the daemon started."""
    found = session.client().stats()
    if as_json:
        document(found)
        return Exit.OK
    busy = found.starting + found.running + found.cancelling
    oldest = "" if found.oldest_queued_s is None else f", the oldest for {duration(found.oldest_queued_s)}"
    line(f"slots       {busy} of {found.max_running}{', draining: no job is started' if found.draining else ''}")
    line(f"queued      {found.queued}{oldest}")
    line(f"of these    {found.paused} paused, {found.stuck} stuck, {found.adopted} adopted")
    line(f"in          {duration(found.uptime_s)}: {found.submitted} submitted, {_counts(found.ended)}")
    line(f"stopped by  {_counts(found.stages)}")
    line(f"start       {_timing(found.start)}")
    line(f"cancel      {_timing(found.cancel)}")
    if found.by_type:
        line()
        rows = [(name, *(str(counts.get(state, 0)) for state in _LIVE)) for name, counts in found.by_type.items()]
        table(("TYPE", *(state.upper() for state in _LIVE)), rows)
    return Exit.OK


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _timing(timing: wire.Timing) -> str:
    if not timing.count:
        return "none yet"
    mean_ms = timing.sum_s / timing.count * 1000
    return f"{timing.count}, {mean_ms:.1f} ms on average, {timing.max_s * 1000:.1f} at most"
