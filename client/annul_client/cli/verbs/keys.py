"""``annul keys``: who may come by TCP."""

from __future__ import annotations

from annul_client.cli.daemon_side import command_for

command = command_for("keys", "Make, list and revoke the keys of clients that come by TCP.")
