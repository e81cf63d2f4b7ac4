"""``annul list``: jobs, newest first."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from annul_client import wire
from annul_client.cli.exits import Exit
from annul_client.cli.options import KeyValue, json_option
from annul_client.cli.out import document, hint, printable, table
from annul_client.cli.session import Session
from annul_client.cli.words import duration, progress
from annul_client.cli.words import state as said_state


@click.command("list", short_help="List jobs, newest first.")
@click.option("--user", default=None, help="Only this user's.")
@click.option("--state", type=click.Choice([str(state) for state in wire.State]), default=None)
@click.option("--type", "type_name", default=None, help="Only of this type.")
@click.option("--label", type=KeyValue(), multiple=True, metavar="K=V", help="Only with this label.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
@click.pass_obj
def command(
    session: Session,
    *,
    user: str | None,
    state: str | None,
    type_name: str | None,
    label: tuple[tuple[str, str], ...],
    limit: int,
    as_json: bool,
) -> int:
    """List jobs, newest first."""
    jobs = session.client().list(user, state, type_name, limit, dict(label))
    if as_json:
        document({"jobs": jobs})
        return Exit.OK
    if not jobs:
        hint("no jobs")
        return Exit.OK
    now = datetime.now(UTC)
    table(
        ("ID", "TYPE", "STATE", "USER", "AGE", "PROGRESS", "TITLE"),
        [
            (
                job.id,
                job.type,
                f"{job.state}!" if job.cancel and job.cancel.stuck and not job.state.final else said_state(job),
                printable(job.user),
                duration((now - job.created_at).total_seconds()),
                progress(job) if not job.state.final else "",
                printable(job.title),
            )
            for job in jobs
        ],
    )
    if len(jobs) == limit:
        hint(f"only the newest {limit}; --limit shows more")
    return Exit.OK
