"""``annul output ID NAME``: a file that a completed job has published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, raw
from annul_client.cli.session import Session

if TYPE_CHECKING:
    from annul_client.sync import Client


@click.command("output", short_help="Fetch a file that a completed job has published.")
@click.argument("job_id", metavar="ID")
@click.argument("name")
@click.option("-o", "--output", default=None, metavar="FILE", help="Write it there; it must not be there yet.")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, name: str, output: str | None, as_json: bool) -> int:
    """Write a file that a job has published to stdout, also where you could not read it yourself.

    NAME is as in `annul show`, or the end of it: cv.pdf, cvs/cv.pdf.
    """
    if as_json and output is None:
        raise click.UsageError("--json prints one document: name a file for the bytes with -o")
    pieces = _pieces(session.client(), job_id, name)
    if output is None:
        for piece in pieces:
            raw(piece)
        return Exit.OK
    first = next(pieces, b"")  # before the file is made: it is not, where the job has no such output
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(first)
        for piece in pieces:
            file.write(piece)
        size = file.tell()
    if as_json:
        document({"output": str(Path(output).absolute()), "size": size})
    return Exit.OK


def _pieces(client: Client, job_id: str, name: str) -> Iterator[bytes]:
    at = 0
    while True:
        reply = client.read_output(job_id, name, at)
        at += len(reply.data)
        yield reply.data
        if not reply.data or at >= reply.size:
            return
