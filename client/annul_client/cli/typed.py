"""``annul submit TYPE …`` and ``annul run TYPE …``: a subcommand for each job type the daemon knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from annul_client import wire
from annul_client.errors import AnnulClientError
from annul_client.sync import Client

from .inputs import collect_each
from .options import (
    SUBMIT_FIELDS,
    embedded_parameter,
    json_parameter,
    submit_fields,
    submit_options,
)
from .schema import described, fields_of
from .session import Session

Submit = Callable[[], list[wire.Submitted]]
Action = Callable[[Client, Submit, bool], int]
"""What is done with jobs: given the client, how to submit them, and whether to print JSON; an exit code.

There is one job, or, where the group takes `several`, one for each file that an option was given.
"""

OWN = {"params", "json", "embedded", "help", *(name.replace("_", "-") for name in SUBMIT_FIELDS)}
"""Options that every type has; a parameter of such a name gets another option."""


class TypedGroup(click.Group):
    """A group whose subcommands are job types, each with options made from its parameters.

    The options of any job may stand before the type or after it; after it they win.
    """

    def __init__(self, name: str, action: Action, *, may_embed: bool, several: bool = False, **attrs: Any) -> None:
        own = [*submit_options(), json_parameter()]
        if may_embed:
            own.append(embedded_parameter())
        super().__init__(
            name,
            params=own,
            subcommand_metavar="TYPE [PARAMETERS]...",
            no_args_is_help=True,
            **attrs,
        )
        self._action = action
        self._may_embed = may_embed
        self._several = several
        self._embeds = False

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # The types must be known before the rest is parsed, and with --embedded that takes a daemon.
        own = args[: args.index("--")] if "--" in args else args
        self._embeds = self._may_embed and (bool(ctx.params.get("embedded")) or "--embedded" in own)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The types; for help, so a missing daemon only makes it shorter."""
        try:
            return [info.name for info in self._session(ctx).types(embedded=self._embeds).types]
        except AnnulClientError:
            return []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a type. Raises what asking the daemon raises, and the refusal of an unknown type."""
        return self._command(self._session(ctx).type(cmd_name, embedded=self._embeds))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        with formatter.section("Types"):
            if not names:
                formatter.write_text("No daemon answers; with one running, its job types are listed here.")
                return
            known = self._session(ctx).types().types
            formatter.write_dl([(info.name, info.summary) for info in known])

    def _command(self, info: wire.TypeInfo) -> click.Command:
        fields = fields_of(info.params, OWN)
        positional = [f for f in fields if isinstance(f.parameter, click.Argument)]
        positional_help = [row for row in described(info.params) if row[0] in {f.name for f in positional}]

        def invoke(**values: Any) -> int:
            ctx = click.get_current_context()
            before = ctx.parent.params if ctx.parent else {}
            merged = {**values, **{n: values.get(n) or before.get(n) for n in (*SUBMIT_FIELDS, "as_json")}}
            merged["label"] = (*(before.get("label") or ()), *(values["label"] or ()))
            collected = collect_each(fields, values, values["params"])
            common = submit_fields(merged)
            if len(collected) > 1 and not self._several:
                raise click.UsageError(f"annul {self.name} follows one job; `annul submit` takes several files")
            if len(collected) > 1 and common["key"] is not None:
                raise click.UsageError("--key names one job, and several files are as many jobs")
            client = self._session(ctx).client(embedded=self._embeds)

            def submit() -> list[wire.Submitted]:
                jobs = [
                    {"type": info.name, "params": params, "inputs": inputs, **common, "title": common["title"] or title}
                    for params, inputs, title in collected
                ]
                if len(jobs) > 1:
                    return client.submit_many(jobs)
                (one,) = jobs
                return [wire.Submitted(job=client.submit(one.pop("type"), one.pop("params"), **one))]

            return self._action(client, submit, bool(merged["as_json"]))

        params_option = click.Option(
            ["--params"], default=None, metavar="FILE", help="A JSON file with parameters; - for stdin."
        )
        own: list[click.Parameter] = [params_option, *submit_options(), json_parameter()]
        if self._may_embed:
            own.append(embedded_parameter())
        return _TypeCommand(
            info.name,
            callback=invoke,
            params=[*(f.parameter for f in fields), *own],
            help=info.summary,
            positional_help=[(name.upper(), text) for name, text in positional_help],
        )

    @staticmethod
    def _session(ctx: click.Context) -> Session:
        session: Session = ctx.find_root().obj
        return session


class _TypeCommand(click.Command):
    """A command whose help tells its positional parameters too; click has no words for those."""

    def __init__(self, name: str, *, positional_help: list[tuple[str, str]], **attrs: Any) -> None:
        super().__init__(name, **attrs)
        self._positional_help = positional_help

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._positional_help:
            with formatter.section("Parameters"):
                formatter.write_dl(self._positional_help)
        super().format_options(ctx, formatter)
