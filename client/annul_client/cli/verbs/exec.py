"""``annul exec -- COMMAND ARGS…``: run any program under the contract."""

from __future__ import annotations

import os
import sys
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import click

from annul_client import wire
from annul_client.cli import out
from annul_client.cli.display import Quiet
from annul_client.cli.exits import Exit
from annul_client.cli.finish import finish
from annul_client.cli.follow import Inbox, follow
from annul_client.cli.options import embedded_parameter, json_parameter, submit_fields, submit_options
from annul_client.cli.session import Session
from annul_client.sync import Client

PATIENCE_S = 1.0
"""Seconds in the queue after which somebody at a terminal is told."""


def _environment(given: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE`` as it is; ``NAME`` alone with the value it has here."""
    env = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals and name not in os.environ:
            raise click.UsageError(f"--env {name}: there is no such variable here")
        env[name] = value if equals else os.environ[name]
    return env


def _exec(**values: Any) -> int:
    ctx = click.get_current_context()
    session: Session = ctx.find_root().obj
    here = Path.cwd()
    cwd = here / values["cwd"] if values["cwd"] else here
    params: dict[str, Any] = {
        "argv": list(values["argv"]),
        "cwd": str(cwd),
        "env": _environment(values["env"]),
    }
    for name in ("stdin", "stdout", "stderr"):
        if values[name]:
            params[name] = str(here / values[name])
    params = {name: value for name, value in params.items() if value}
    common = submit_fields(values)
    if values["detach"] and values["embedded"]:
        raise click.UsageError("--detach leaves the job to a daemon that stays; --embedded has none")
    client = session.client(embedded=values["embedded"])
    as_json: bool = values["as_json"]
    if values["detach"]:
        job = client.submit("exec", params, **common)
        if as_json:
            out.document(job)
        else:
            out.line(job.id)
        return Exit.OK
    with Inbox() as inbox:
        job = client.submit("exec", params, **common)
        output = Output(client, job.id)
        job = follow(client, job, inbox, output, None if as_json else output.pump)
    return finish(client, job, as_json=as_json, show_result=False)


class Output(Quiet):
    """Passes a job's log on to stdout as it grows, and says why there is none. Owned by the main thread."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._offset = 0
        self._state = wire.State.QUEUED
        self._say_at = monotonic() + PATIENCE_S if sys.stderr.isatty() else inf

    def show(self, job: wire.Job) -> None:
        self._state = job.state

    def pump(self) -> bool:
        """Pass on what is new; says whether anything was."""
        if self._state is wire.State.QUEUED and monotonic() > self._say_at:
            self._say_at = inf
            self.note("queued, and waiting for its turn; `annul list` shows what runs, Ctrl-C gives it up")
        data = self._client.logs(self._job_id, offset=self._offset)
        self._offset += len(data)
        if data:
            out.raw(data)
        return bool(data)


command = click.Command(
    "exec",
    callback=_exec,
    # What follows the command is the command's own, also where it looks like an option.
    context_settings={"allow_interspersed_args": False},
    params=[
        click.Argument(["argv"], nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND..."),
        click.Option(["--env"], multiple=True, metavar="K[=V]", help="Set a variable; others are not passed on."),
        click.Option(["--cwd"], default=None, metavar="DIR", help="Where to run it; here, where not said."),
        click.Option(["--stdin"], default=None, metavar="FILE", help="What it reads; nothing, where not said."),
        click.Option(["--stdout"], default=None, metavar="FILE", help="Where its output goes."),
        click.Option(["--stderr"], default=None, metavar="FILE", help="Where its error output goes."),
        click.Option(["--detach"], is_flag=True, help="Only submit it, and print the job's id."),
        *submit_options(),
        embedded_parameter(),
        json_parameter(),
    ],
    short_help="Run any command as a job.",
    help="""Run any command as a job. Nothing survives its cancel, not even what it started in the background.

    Its output follows to the terminal, and Ctrl-C cancels it. Exits 0 when the command did, else 1.

    \b
    annul exec -- make -j4
    annul exec --timeout 60 --env PATH -- ./crawl.sh https://example.org""",
)
