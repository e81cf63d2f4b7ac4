"""``annul ping``: is the daemon there."""

from __future__ import annotations

import click

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, line
from annul_client.cli.session import Session
from annul_client.cli.words import duration


@click.command("ping", short_help="Ask whether the daemon is there.")
@json_option
@click.pass_obj
def command(session: Session, *, as_json: bool) -> int:
    """Ask whether the daemon is there, and what it says of itself. Exits 3 where nothing answers."""
    pong = session.client().ping()
    if as_json:
        document(pong)
        return Exit.OK
    line(f"annul {pong.version}, pid {pong.pid}, up for {duration(pong.uptime_s)}")
    line(f"jobs        {pong.running} running of at most {pong.max_running}, {pong.queued} queued")
    line(f"requests    {pong.requests}")
    line(f"events      {pong.events or 'by asking'}")
    line(f"state       {pong.state_dir}")
    line(f"you are     {pong.you}, role {pong.role}")
    line(f"trees by    {pong.tree}")
    return Exit.OK
