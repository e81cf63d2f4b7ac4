"""``annul watch``: the jobs there are, live."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from annul_client.cli.exits import Exit
from annul_client.cli.options import json_option
from annul_client.cli.out import document, hint, table
from annul_client.cli.session import Session


@click.command("watch", short_help="Watch all jobs live; cancel them, read their logs.")
@click.option("--user", default=None, help="Only this user's.")
@click.option("--type", "type_name", default=None, help="Only of this type.")
@click.option("--once", is_flag=True, help="Print the table once; needs no terminal.")
@json_option
@click.pass_obj
def command(session: Session, *, user: str | None, type_name: str | None, once: bool, as_json: bool) -> int:
    """Watch jobs live: those that run, those that wait, and the latest to end.

    CPU and memory are those of a job's whole process tree, where that is on this machine. --json implies --once.

    \b
    Keys: up, down (or k, j)   select a job
          c                    cancel it; again, while it is stopping: kill it at once
          l or Enter           read its log, as it grows
          q                    quit; the jobs go on
    """
    if once or as_json:
        return _once(session, user, type_name, as_json=as_json)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("watch draws on a terminal, and this is none: --once prints the table once")
    from annul_client.cli.watching.screen import Screen
    from annul_client.cli.watching.watch import Watch

    screen = Screen()
    if not screen.usable:
        raise click.UsageError("this terminal cannot be drawn on (TERM): --once prints the table once")
    Watch(session.client(), screen, user, type_name, sys.stdin.fileno()).run()
    return Exit.OK


def _once(session: Session, user: str | None, type_name: str | None, *, as_json: bool) -> int:
    from time import sleep

    from annul_client.cli.watching.jobs import Watched, snapshot
    from annul_client.cli.watching.rows import COLUMNS, cells
    from annul_client.cli.watching.usage import Usage

    client = session.client()
    watched = Watched(user, type_name)
    watched.replace(snapshot(client, user, type_name)[1])
    usage = Usage(client.endpoint)
    used = usage.look(watched.all())
    if used:
        sleep(0.2)  # how much of a processor is known after a while only
        used = usage.look(watched.all())
    if as_json:
        jobs: list[dict[str, Any]] = []
        for job in watched.all():
            of_it = used.get(job.id)
            taken = {"cpu": of_it and of_it.cpu, "memory_bytes": of_it and of_it.memory_bytes}
            jobs.append({**msgspec.to_builtins(job), **taken})
        document({"jobs": jobs})
    elif watched.all():
        now = datetime.now(UTC)
        table(COLUMNS, [cells(job, used.get(job.id), now) for job in watched.all()])
    else:
        hint("no jobs")
    return Exit.OK
