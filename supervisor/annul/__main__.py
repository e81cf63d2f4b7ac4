"""``python -m annul serve`` and ``doctor``: read the options; run the daemon, or look whether it could run."""

from __future__ import annotations

import logging
import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from annul import logs
from annul.config import Config
from annul.errors import KeyProblem, StartError, StoreError
from annul_client import places
from annul_client.keys import KeyFile
from annul_client.keys import write as write_key

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for value in values:
        name, _sep, number = value.partition("=")
        if not name or not (number.isascii() and number.isdigit()):
            raise click.BadParameter(f"{value!r} is not TYPE=NUMBER")
        found[name] = int(number)
    return found


def _settings(command: F) -> F:
    """The options by which the daemon is told what it is; `doctor` looks at just that."""
    path = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option(
                "--config",
                "config_file",
                type=click.Path(path_type=Path, dir_okay=False),
                help="TOML file with these settings (names with underscores).",
            ),
            click.option("--state-dir", type=path, help="Store, logs and staging [$ANNUL_STATE_DIR]."),
            click.option("--runtime-dir", type=path, help="Sockets and shared memory [$ANNUL_RUNTIME_DIR]."),
            click.option("--outputs-dir", type=path, help="Users' outputs; default: users/ in the state directory."),
            click.option(
                "--jobs", multiple=True, metavar="MODULE", help="A module with further job types; repeatable."
            ),
            click.option(
                "--tree",
                type=click.Choice(["auto", "cgroup", "session"]),
                help="How a job's processes are found; default: by cgroup if it can.",
            ),
        )
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def daemon() -> None:
    """What runs on the daemon's side of annul. People type `annul serve` and `annul doctor`."""


@daemon.command()
@_settings
@click.option(
    "--listen", metavar="tcp://HOST:PORT", help="Also serve clients with keys by TCP; see `annul keys`. Default: none."
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
@click.option(
    "--orphan-grace",
    "orphan_grace_s",
    type=float,
    help="Seconds that a job runs on without a daemon; default: 60; -1: for ever.",
)
@click.option("--drain", is_flag=True, help="On SIGTERM wait for running jobs; a second one stops them.")
@click.option("--takeover", is_flag=True, help="Have the daemon that runs there hand over its jobs and end.")
@click.option("--keep-jobs", type=click.IntRange(0), help="Finished jobs kept of one user; default: 10,000; 0: all.")
@click.option("--keep-days", type=click.FloatRange(0, 36_500), help="Purge what ended so long ago; default: 0, never.")
@click.option("--spares", type=click.IntRange(0), help="Processes of each profile ready for the next job; default: 2.")
@click.option("--no-warm", is_flag=True, help="Start zygotes when they are first needed.")
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input closes.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="Default: INFO.")
def serve(config_file: Path | None, no_warm: bool, takeover: bool, **options: Any) -> None:
    """Run the annul daemon: queue, start, supervise and cancel jobs.

    SIGTERM or Ctrl-C stops it: jobs that run are stopped too, each in its grace period. SIGUSR2 ends it and leaves its
    jobs running, for the next daemon to adopt: that is what --takeover has the other one do.
    """
    try:
        config = _config(config_file, {**options, "warm": False if no_warm else None})
        logs.set_up(config.log_level)
        _run(config, takeover=takeover)
    except (StartError, StoreError) as error:
        click.echo(f"annul serve: {error}", err=True)
        sys.exit(1)


@daemon.command()
@_settings
@click.option("--check-store", is_flag=True, help="Read all of the store; it may be in use. Seconds for each gigabyte.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def doctor(config_file: Path | None, as_json: bool, check_store: bool, **options: Any) -> None:
    """Look whether `annul serve` would start here, with these options, and keep its promises.

    Changes nothing. Exits 1 where something would keep it from that, else 0.
    """
    from annul.doctor import Finding, Level, examine

    sys.dont_write_bytecode = True  # importing the modules of jobs leaves nothing behind
    logging.getLogger("annul").setLevel(logging.CRITICAL)  # what is wrong is a finding, said once
    try:
        findings = list(examine(_config(config_file, options), check_store=check_store))
    except StartError as error:
        findings = [Finding("configuration", Level.ERROR, str(error))]
    failed = any(finding.level is Level.ERROR for finding in findings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"ok": not failed, "checks": findings}), indent=2))
    else:
        for one in findings:
            click.echo(
                f"{one.level:<8} {one.check:<10} {one.found}" + (f"\n{'':<19} → {one.advice}" if one.advice else "")
            )
    sys.exit(1 if failed else 0)


@daemon.group("keys")
def keys_() -> None:
    """The keys of clients that come by TCP. Needs no daemon, and one that runs takes each change at once.

    \b
    annul keys new web --role submit --user u1 --out web.key
    annul --key web.key --endpoint tcp://HOST:PORT list
    annul keys revoke web
    """


_state_dir = click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Of the daemon whose clients they are [$ANNUL_STATE_DIR]."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


@keys_.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["read", "submit", "admin"]), required=True, help="What it may do.")
@click.option("--user", help="Only this user's jobs exist for it.")
@click.option("--type", "types", multiple=True, help="It may submit this job type, and only those named; repeatable.")
@click.option("--endpoint", default="", help="Where its holder finds the daemon; kept in the file.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to make; default: NAME.key.")
@_state_dir
@_as_json
def new(
    name: str,
    role: str,
    user: str | None,
    types: tuple[str, ...],
    endpoint: str,
    out: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a key, and make it known to the daemon. Whoever has the file is who it says."""
    from annul import keys
    from annul.access import Role
    from annul.server import new_pair

    state_dir = state_dir or places.state_dir()
    out = out or Path(f"{name}.key")
    with _problems():
        if out.exists():
            raise KeyProblem(f"{out} is there already, and no key is written over: name another file with --out")
        if not state_dir.is_dir():
            raise KeyProblem(f"there is no state directory {state_dir}: name the daemon's with --state-dir")
        server = keys.server_key(state_dir, new_pair())
        public, secret = new_pair()
        keys.add(
            state_dir,
            keys.Key(
                name=name,
                public_key=public,
                role=Role(role),
                user=user,
                types=list(types) or None,
                created_at=time.time(),
            ),
        )
        made = KeyFile(name=name, public_key=public, secret_key=secret, server_key=server.public_key, endpoint=endpoint)
        try:
            write_key(out, made)
        except OSError as error:
            keys.revoke(state_dir, name)
            raise KeyProblem(f"writing {out}: {error}") from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"name": name, "role": role, "file": str(out.absolute())})))
    else:
        click.echo(f"{out}: the key {name}, role {role}. Keep it secret; `annul keys revoke {name}` ends it.", err=True)


@keys_.command("list")
@_state_dir
@_as_json
def list_keys(state_dir: Path | None, as_json: bool) -> None:
    """Say which keys there are, and what each may do."""
    from annul import keys

    found = keys.known(state_dir or places.state_dir())
    good = [one for one in found if isinstance(one, keys.Key)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(good), indent=2))
    else:
        for one in good:
            user = f", jobs of {one.user} only" if one.user else ""
            types = f", submits {', '.join(one.types)}" if one.types else ""
            click.echo(f"{one.name}: {one.role}{user}{types}")
    for problem in found:
        if isinstance(problem, KeyProblem):
            click.echo(f"annul keys: {problem}", err=True)


@keys_.command("revoke")
@click.argument("name")
@_state_dir
@_as_json
def revoke_key(name: str, state_dir: Path | None, as_json: bool) -> None:
    """End a key, at once: also on connections that stand."""
    from annul import keys

    with _problems():
        keys.revoke(state_dir or places.state_dir(), name)
    if as_json:
        click.echo(msgspec.json.encode({"revoked": name}))


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except KeyProblem as error:
        click.echo(f"annul keys: {error}", err=True)
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
    if options.get("warm") is False:
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


def _run(config: Config, *, takeover: bool) -> None:
    os.umask(0o077)
    from annul.daemon import Daemon

    running = Daemon(config, takeover=takeover)
    try:
        running.run()
    finally:
        running.close()
    logging.getLogger("annul.daemon").info("stopped", extra={"action": "stop"})


if __name__ == "__main__":
    daemon(prog_name="annul")
