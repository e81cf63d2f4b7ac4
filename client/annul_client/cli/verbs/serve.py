"""``annul serve``: become the daemon."""

from __future__ import annotations

from annul_client.cli.daemon_side import command_for

command = command_for("serve", "Start the daemon, in the foreground.")
