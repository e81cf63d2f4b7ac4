"""``annul reprioritize ID PRIORITY``: give a queued job another priority."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import state


@click.command(
    "reprioritize", short_help="Give a queued job another priority.", context_settings={"ignore_unknown_options": True}
)
@click.argument("job_id", metavar="ID")
@click.argument("priority", type=int)
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, priority: int, as_json: bool) -> int:
    """Give a queued job another priority; higher goes first."""
    job = session.client().reprioritize(job_id, priority)
    if as_json:
        document(job)
    else:
        line(f"{job.id} {state(job)}, priority {job.priority}")
    return Exit.OK
