"""``annul unpause ID``: let a paused job go on."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import state


@click.command("unpause", short_help="Let a paused job go on.")
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, as_json: bool) -> int:
    """Let a paused job start, or go on where it was frozen."""
    job = session.client().unpause(job_id)
    if as_json:
        document(job)
    else:
        line(f"{job.id} {state(job)}")
    return Exit.OK
