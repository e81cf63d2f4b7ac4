"""sd_notify(3): telling whoever started the daemon how it is."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send one message to $NOTIFY_SOCKET; without one do nothing. Best effort, as the protocol is."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        pass  # nobody listens any more
