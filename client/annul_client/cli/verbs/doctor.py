"""``annul doctor``: would the daemon start here, and keep its promises."""

from __future__ import annotations

from annul_client.cli.daemon_side import command_for

command = command_for("doctor", "Check this machine and the configured places.")
