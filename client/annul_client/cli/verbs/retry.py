"""``annul retry ID``: do a failed or cancelled job again, as a new one."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import state


@click.command("retry", short_help="Do a failed or cancelled job again, as a new one.")
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, as_json: bool) -> int:
    """Do a failed or cancelled job again: a new job with the same parameters and input files, whose id this prints.

    The key of the old one, if it has one, stays with that one.
    """
    job = session.client().retry(job_id)
    if as_json:
        document(job)
    else:
        line(f"{job.id} {state(job)}, again what {job_id} was to do")
    return Exit.OK
