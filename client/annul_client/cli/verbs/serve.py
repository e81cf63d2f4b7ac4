"""``annul serve``: become the daemon."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    "serve",
    short_help="Start the daemon, in the foreground.",
    # Every argument is the daemon's, --help too: the client never imports the daemon.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Start the daemon. Does not return: this process becomes it, and signals reach it directly."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "annul", *args])
