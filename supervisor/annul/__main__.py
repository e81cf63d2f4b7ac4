"""`annul serve`: read the options, run the daemon."""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from annul import logs
from annul.config import Config
from annul.errors import StartError, StoreError
from annul_client import places


def _pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for value in values:
        name, _sep, number = value.partition("=")
        if not name or not (number.isascii() and number.isdigit()):
            raise click.BadParameter(f"{value!r} is not TYPE=NUMBER")
        found[name] = int(number)
    return found


@click.command("serve", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with these settings (names with underscores).",
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Store, logs and staging [$ANNUL_STATE_DIR].")
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="Sockets and shared memory [$ANNUL_RUNTIME_DIR].")
@click.option(
    "--outputs-dir",
    type=click.Path(path_type=Path),
    help="Users' outputs; default: users/ in the state directory.",
)
@click.option("--max-running", type=click.IntRange(1), help="Jobs at once; default: the number of cores.")
@click.option("--max-running-per-user", type=click.IntRange(0), help="Of one user at once; 0: no limit.")
@click.option(
    "--max-running-per-type",
    multiple=True,
    metavar="TYPE=N",
    callback=_pairs,
    help="Of one type at once; repeatable.",
)
@click.option("--max-queued", type=click.IntRange(1), help="Jobs waiting, at most.")
@click.option("--max-log-bytes", type=click.IntRange(1), help="Of one attempt's log; default: 16 MiB.")
@click.option("--jobs", multiple=True, metavar="MODULE", help="A module with further job types; repeatable.")
@click.option("--tree", type=click.Choice(["auto", "cgroup", "session"]), help="How a job's processes are found.")
@click.option("--no-warm", is_flag=True, help="Start zygotes when they are first needed.")
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input closes.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="Default: INFO.")
def serve(config_file: Path | None, no_warm: bool, **options: Any) -> None:
    """Run the annul daemon: queue, start, supervise and cancel jobs.

    SIGTERM or Ctrl-C stops it: jobs that run are stopped too, each in its grace period.
    """
    try:
        config = _config(config_file, {**options, "warm": False if no_warm else None})
        logs.set_up(config.log_level)
        _run(config)
    except (StartError, StoreError) as error:
        click.echo(f"annul serve: {error}", err=True)
        sys.exit(1)


def _config(file: Path | None, options: dict[str, Any]) -> Config:
    """Flags over the file over the defaults."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise StartError(f"reading the configuration {file}: {error}") from error
    values |= {name: value for name, value in options.items() if value not in (None, (), {}) and value is not False}
    if options["warm"] is False:
        values["warm"] = False
    for name in ("state_dir", "runtime_dir", "outputs_dir"):
        if not isinstance(values.get(name, ""), str | Path):
            raise StartError(f"the configuration {file}: {name} is a path, not {values[name]!r}")
    state_dir = Path(values.get("state_dir") or places.state_dir()).absolute()
    values["state_dir"] = state_dir
    values["runtime_dir"] = Path(values.get("runtime_dir") or places.runtime_dir()).absolute()
    values["outputs_dir"] = Path(values.get("outputs_dir") or state_dir / "users").absolute()
    try:
        return msgspec.convert(values, Config, dec_hook=lambda type_, value: type_(value))
    except msgspec.ValidationError as error:
        raise StartError(f"the configuration{f' {file}' if file else ''}: {error}") from error


def _run(config: Config) -> None:
    os.umask(0o077)
    from annul.daemon import Daemon

    daemon = Daemon(config)
    try:
        daemon.run()
    finally:
        daemon.close()
    logging.getLogger("annul.daemon").info("stopped", extra={"action": "stop"})


if __name__ == "__main__":
    serve(prog_name="annul serve")
