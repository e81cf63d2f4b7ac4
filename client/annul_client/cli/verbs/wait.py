"""``annul wait ID``: until a job is over."""

from __future__ import annotations

import click

from annul_client.cli.exits import of_job
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line, printable
from annul_client.cli.session import Session
from annul_client.cli.words import ending


@click.command("wait", short_help="Wait until a job is over.")
@click.argument("job_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Exit 6 after it.")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, timeout: float | None, as_json: bool) -> int:
    """Wait until a job is over; exit 0 if it completed, 1 if it failed, 4 if it was cancelled.

    Ctrl-C ends the waiting, not the job.
    """
    job = session.client().wait(job_id, timeout)
    if as_json:
        document(job)
    else:
        line(f"{job.id} {printable(ending(job))}")
    return of_job(job)
