"""What one run of the command line holds on to: its client, and the embedded daemon where it started one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from annul_client import wire
from annul_client.errors import RequestRefused

if TYPE_CHECKING:
    from annul_client.sync import Client


class Session:
    """Made by the root command, kept as ``ctx.obj``, closed with the root context. Owned by the main thread."""

    def __init__(self, ctx: click.Context, endpoint: str | None, key: str | None) -> None:
        self._ctx = ctx
        self._key = key
        self.endpoint = endpoint
        self._client: Client | None = None
        self._types: wire.TypesReply | None = None

    def client(self, *, embedded: bool = False) -> Client:
        """The client, connected to the daemon there is, or to one of its own that is started now."""
        if self._client is None:
            # zmq is not loaded for `--help`.
            from annul_client.sync import Client

            endpoint = self.endpoint
            if embedded:
                if endpoint is not None:
                    raise click.UsageError("--embedded starts a daemon of its own, --endpoint names another one")
                from .embedded import EmbeddedDaemon

                daemon = EmbeddedDaemon()
                # Closed even where its start fails; and after the client, since the last in is the first out.
                self._ctx.call_on_close(daemon.close)
                endpoint = daemon.start()
            try:
                self._client = Client(endpoint, key=self._key)
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            self._ctx.call_on_close(self._client.close)
        return self._client

    def types(self, *, embedded: bool = False) -> wire.TypesReply:
        """The daemon's job types, asked for once."""
        if self._types is None:
            self._types = self.client(embedded=embedded).types()
        return self._types

    def type(self, name: str, *, embedded: bool = False) -> wire.TypeInfo:
        """One job type. Raises `RequestRefused` as the daemon would, and names those there are."""
        known = self.types(embedded=embedded)
        for info in known.types:
            if info.name == name:
                return info
        if name in known.broken:
            raise RequestRefused(
                "unknown_type", f"the job type {name} could not be loaded: {known.broken[name]}", "type"
            )
        names = ", ".join(info.name for info in known.types) or "none"
        raise RequestRefused("unknown_type", f"no job type {name}; the daemon knows: {names}", "type")
