"""``annul config show``: what the daemon would be told here, and by what."""

from __future__ import annotations

from annul_client.cli.daemon_side import command_for

command = command_for("config", "Show each setting, and where it comes from.")
