"""``annul logs ID``: what a job wrote."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, raw
from annul_client.cli.session import Session

LOOK_EVERY_S = 0.3
"""Seconds between two looks at a log that is followed."""


@click.command("logs", short_help="Print what a job wrote.")
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over, retries too.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; the latest otherwise.")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, follow: bool, attempt: int | None, as_json: bool) -> int:
    """Print what a job wrote: its own log, and the output of the commands it ran."""
    if follow and as_json:
        raise click.UsageError("--json prints one document, --follow goes on; choose one")
    client = session.client()
    if as_json:
        data = client.logs(job_id, attempt=attempt)
        document({"id": job_id, "text": data.decode(errors="replace")})
        return Exit.OK
    offset = 0
    each = follow and attempt is None  # one attempt after the other, each from its beginning
    while True:
        piece = client.read_log(job_id, offset, attempt=attempt)
        attempt = attempt or piece.attempts or None
        raw(piece.data)
        offset = piece.offset + len(piece.data)
        if piece.data and offset < piece.size:
            continue
        if each and attempt is not None and attempt < piece.attempts:
            attempt, offset = attempt + 1, 0
            continue
        if piece.done or not follow:
            return Exit.OK
        try:
            # Waits, but comes back at once when the job ends, for its last lines.
            client.wait(job_id, LOOK_EVERY_S)
        except TimeoutError:
            pass
