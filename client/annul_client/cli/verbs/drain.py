"""``annul drain``: start no more jobs, until `annul resume`."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session


@click.command("drain", short_help="Start no more jobs, until `annul resume`.")
@json_option
@click.pass_obj
def command(session: Session, *, as_json: bool) -> int:
    """Have the daemon start no more jobs, until `annul resume`; also where it is restarted meanwhile.

    Submits are still queued, cancels still work, and jobs that run go on. Needs the role admin. (`annul serve --drain`
    is something else: what SIGTERM does with running jobs.)
    """
    reply = session.client().drain()
    if as_json:
        document(reply)
    else:
        how = "draining: no job is started" if reply.draining else "jobs are started"
        line(f"{how}; {reply.running} running, {reply.queued} queued")
    return Exit.OK
