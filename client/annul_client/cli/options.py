"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer versions of click

F = TypeVar("F", bound=Callable[..., Any])


class KeyValue(ParamType):
    """``name=value``."""

    name = "k=v"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, rest


class Age(ParamType):
    """``90s``, ``10m``, ``2h``, ``30d``, as seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
        if found is None:
            self.fail(f"{value!r} is no time such as 90s, 10m, 2h or 30d", param, ctx)
        return timedelta(**{Moment.UNITS[found[2]]: float(found[1])}).total_seconds()


class Moment(ParamType):
    """``2026-12-24T18:00``, on this machine's clock where no zone is said, or ``+90s``, ``+10m``, ``+2h``, ``+1d``."""

    name = "time"
    UNITS: ClassVar[dict[str, str]] = {
        "": "seconds",
        "s": "seconds",
        "m": "minutes",
        "h": "hours",
        "d": "days",
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if found := re.fullmatch(r"\+(\d+(?:\.\d+)?)([smhd]?)", value):
            return datetime.now(UTC) + timedelta(**{self.UNITS[found[2]]: float(found[1])})
        try:
            return datetime.fromisoformat(value).astimezone()
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 2026-12-24T18:00 nor a delay such as +10m", param, ctx)


def submit_options() -> list[click.Parameter]:
    """What can be said of any job when it is submitted; new objects each time, since a command owns its own."""
    return [
        click.Option(["--user"], default=None, help="Whose job it is; users take turns."),
        click.Option(["--title"], default=None, help="What to call it in lists."),
        click.Option(["--label"], type=KeyValue(), multiple=True, metavar="K=V", help="A label; repeatable."),
        click.Option(["--key"], default=None, help="Submitting again with the same key makes no second job."),
        click.Option(["--priority"], type=int, default=None, help="Higher goes first; 0 where not said."),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(min=0, min_open=True),
            default=None,
            metavar="SECONDS",
            help="Stop the job after this time; the type's where not said.",
        ),
        click.Option(
            ["--not-before"],
            type=Moment(),
            default=None,
            metavar="TIME",
            help="Start no earlier: 2026-12-24T18:00, or +10m.",
        ),
    ]


SUBMIT_FIELDS = ("user", "title", "label", "key", "priority", "timeout", "not_before")


def submit_fields(values: dict[str, Any]) -> dict[str, Any]:
    """The values of `submit_options` as arguments of `Client.submit`."""
    return {
        "user": values["user"] or "",
        "title": values["title"] or "",
        "labels": dict(values["label"] or ()),
        "key": values["key"],
        "priority": values["priority"] or 0,
        "timeout_s": values["timeout"],
        "not_before": values["not_before"],
    }


def json_option(function: F) -> F:
    """``--json``, as every command has it."""
    text = "Print one JSON document on stdout, errors too."
    return click.option("--json", "as_json", is_flag=True, help=text)(function)


def json_parameter() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, errors too.")


def embedded_parameter() -> click.Option:
    return click.Option(["--embedded"], is_flag=True, help="Start a daemon just for this; nothing to set up.")


def wants_json(args: list[str]) -> bool:
    """Whether ``--json`` is among annul's own arguments; asked also where they cannot be parsed."""
    own = args[: args.index("--")] if "--" in args else args
    return "--json" in own


def whoami() -> str:
    """The name that a cancel from this terminal is recorded under."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
