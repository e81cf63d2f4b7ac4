"""The command line. One file for each verb; this one puts them together and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import ClassVar, NoReturn

import click

from annul_client.errors import AnnulClientError, RequestRefused

from .exits import Exit, code_of, of_error
from .options import wants_json
from .out import document, hint, printable


class Root(click.Group):
    """The verbs, loaded when they are named, in groups that a newcomer can read from the top."""

    VERBS: ClassVar[dict[str, tuple[str, ...]]] = {
        "Run jobs": ("run", "exec", "submit"),
        "Look and wait": ("list", "show", "wait", "result", "logs", "output"),
        "Stop and forget": ("cancel", "purge"),
        "The daemon": ("serve", "doctor", "keys", "ping", "types"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [verb for verbs in self.VERBS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        from importlib import import_module

        command: click.Command = import_module(f".verbs.{cmd_name}", __name__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in self.VERBS.items():
            with formatter.section(title):
                commands = [(verb, self.get_command(ctx, verb)) for verb in verbs]
                formatter.write_dl([(verb, c.get_short_help_str(70)) for verb, c in commands if c])


@click.group(
    cls=Root,
    no_args_is_help=True,
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 completed, 1 failed, 2 usage, 3 no daemon, 4 cancelled, 5 not found, 6 timed out, "
    "7 refused. Every command takes --json and --help.",
)
@click.option("--endpoint", default=None, metavar="ADDRESS", help="Of the daemon; else $ANNUL_ENDPOINT.")
@click.option("--key", default=None, metavar="FILE", help="Your key, for one reached by TCP; else $ANNUL_KEY.")
@click.version_option(package_name="annul")
@click.pass_context
def cli(ctx: click.Context, endpoint: str | None, key: str | None) -> None:
    """Background jobs that stop when they are cancelled: all of them, at once, for good.

    \b
    Try it, with nothing set up:
      annul run --embedded import-pdf cv.pdf

    \b
    Or with a daemon, here started by hand:
      annul serve &
      annul run import-pdf cv.pdf
      annul exec -- sleep 1000        (then press Ctrl-C)
    """
    from .session import Session

    if endpoint is not None and ctx.invoked_subcommand in ("serve", "doctor", "keys"):
        raise click.UsageError("--endpoint is where to find a daemon; one is put elsewhere by --runtime-dir")
    ctx.obj = Session(ctx, endpoint, key)


def main(args: list[str] | None = None) -> NoReturn:
    """Run one command and exit with the code that says how it went."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run one command; the exit code. Unexpected errors are raised, with --json after a document that says so."""
    as_json = wants_json(args)
    try:
        return int(cli.main(args, prog_name="annul", standalone_mode=False) or 0)
    except click.UsageError as error:
        if as_json:
            _error("usage", error.format_message())
        else:
            error.show()
        return Exit.USAGE
    except click.ClickException as error:
        _error("usage", error.format_message(), as_json=as_json)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        _error("interrupted", "interrupted", as_json=as_json)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except (AnnulClientError, TimeoutError, OSError) as error:
        field = error.field if isinstance(error, RequestRefused) else None
        _error(code_of(error), str(error), field, as_json=as_json)
        return of_error(error)
    except Exception as error:
        if as_json:
            _error("internal", f"{type(error).__name__}: {error}")
        raise


def _error(code: str, message: str, field: str | None = None, *, as_json: bool = True) -> None:
    if as_json:
        document({"error": {"code": code, "message": message, "field": field}})
    else:
        where = f" ({field})" if field and field not in message else ""
        hint("annul: " + "\n".join(printable(part) for part in message.split("\n")) + where)
