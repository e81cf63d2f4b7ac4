"""Verbs that are the daemon's own: the client never imports the daemon, so this process becomes it."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click


def command_for(verb: str, short_help: str) -> click.Command:
    """``annul VERB ARGS…`` as ``python -m annul VERB ARGS…``. Every argument is the other side's, --help too."""

    @click.command(
        verb,
        short_help=short_help,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
    )
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def command(args: tuple[str, ...]) -> NoReturn:
        """Does not return: this process becomes the daemon's side, and signals reach it directly."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-m", "annul", verb, *args])

    return command
