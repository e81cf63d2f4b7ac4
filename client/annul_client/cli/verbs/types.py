"""``annul types``: what jobs the daemon knows."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, hint, line, printable, table
from annul_client.cli.schema import described
from annul_client.cli.session import Session


@click.command("types", short_help="List the job types, or the parameters of one.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def command(session: Session, *, name: str | None, as_json: bool) -> int:
    """List the job types that the daemon knows, or the parameters and terms of one."""
    if name is None:
        known = session.types()
        if as_json:
            document(known)
            return Exit.OK
        table(("TYPE", "WHAT IT DOES"), [(info.name, info.summary) for info in known.types])
        for broken, why in known.broken.items():
            hint(f"{broken} could not be loaded: {printable(why)}")
        return Exit.OK
    info = session.type(name)
    if as_json:
        document(info)
        return Exit.OK
    line(f"{info.name}: {info.summary}")
    limit = "no time limit" if info.timeout_s is None else f"at most {info.timeout_s:g} s"
    then = "queued again" if info.on_shutdown == "queue" else "cancelled"
    line(f"{limit}; {info.grace_s:g} s of grace when cancelled; {then} when the daemon stops")
    line()
    table(("PARAMETER", ""), described(info.params))
    return Exit.OK
