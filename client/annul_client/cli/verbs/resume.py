"""``annul resume``: start jobs again, after `annul drain`."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session


@click.command("resume", short_help="Start jobs again, after `annul drain`.")
@json_option
@click.pass_obj
def command(session: Session, *, as_json: bool) -> int:
    """Have the daemon start jobs again. Needs the role admin."""
    reply = session.client().resume()
    if as_json:
        document(reply)
    else:
        how = "draining: no job is started" if reply.draining else "jobs are started"
        line(f"{how}; {reply.running} running, {reply.queued} queued")
    return Exit.OK
