"""``annul result ID``: what a completed job gave."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, hint
from annul_client.cli.session import Session


@click.command("result", short_help="Print the result of a completed job.")
@click.argument("job_id", metavar="ID")
@click.option("-o", "--output", default=None, metavar="FILE", help="Write it there.")
@json_option
@click.pass_obj
def command(session: Session, *, job_id: str, output: str | None, as_json: bool) -> int:
    """Print the result of a completed job as JSON, and the paths of its files on stderr.

    With --json, both in one document: {"result": ..., "files": [...]}.
    """
    reply = session.client().result(job_id)
    value = reply if as_json else reply.result
    if output is None:
        document(value)
    else:
        Path(output).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        if as_json:
            document({"output": str(Path(output).absolute())})
    if not as_json:
        for path in reply.files:
            hint(path)
    return Exit.OK
