"""``annul pause ID``: hold a job: it does not start, or stands still."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import state


@click.command("pause", short_help="Hold a job: it does not start, or stands still.")
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, as_json: bool) -> int:
    """Hold a job: a queued one does not start, all processes of a running one are frozen where they are.

    It keeps its slot, and its time limit goes on. `annul unpause` lets it go on, `annul cancel` ends it all the same.
    """
    job = session.client().pause(job_id)
    if as_json:
        document(job)
    else:
        line(f"{job.id} {state(job)}")
    return Exit.OK
