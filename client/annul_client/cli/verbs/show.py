"""``annul show ID``: all there is to say of a job."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import facts


@click.command("show", short_help="Show a job: its state, its times, how it was cancelled.")
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, as_json: bool) -> int:
    """Show a job: its state, its times, and how it was cancelled."""
    job = session.client().get(job_id)
    if as_json:
        document(job)
        return Exit.OK
    for name, value in facts(job, datetime.now(UTC)):
        line(f"{name:<11} {value}")
    return Exit.OK
