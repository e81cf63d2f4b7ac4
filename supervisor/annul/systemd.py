"""What the daemon and systemd tell each other: sd_notify(3), the watchdog, credentials."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

_log = logging.getLogger(__name__)


def notify(message: str, wait_s: float = 0.0) -> None:
    """Send one message to $NOTIFY_SOCKET; without one do nothing. Best effort, as the protocol is.

    `wait_s`: for room in systemd's queue. In the loop none: rather the message is lost than the loop's time.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(wait_s)
            sender.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        pass  # nobody listens any more


class Watchdog:
    """Systemd's: it ends a daemon that has not said for `WatchdogSec=` that its loop still turns.

    Owned by the loop thread, which says so itself, at the end of a turn and nowhere else: a loop that hangs in a turn,
    or does not come back from its poll, is one that says nothing. Systemd sends SIGABRT then: where it hung is told on
    standard error.
    """

    def __init__(self, now: float, env: Mapping[str, str] = os.environ) -> None:
        """`now`: monotonic seconds. Where nobody watches this process, it is never due."""
        usec = env.get("WATCHDOG_USEC", "")
        watched = usec.isdecimal() and int(usec) > 0 and env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._usec = int(usec) if watched else 0
        self.due: float | None = now if watched else None  # when to say it next, monotonic seconds
        if watched:
            faulthandler.enable()

    def turned(self, now: float, *, stopping: bool) -> None:
        """The loop has done the work of a turn. Told twice in each period.

        While stopping no watchdog barks, but `TimeoutStopSec=` runs: it is put off for as long as the loop turns, so
        that every job has the grace that it was promised.
        """
        if self.due is None or now < self.due:
            return
        self.due = now + self._usec / 2e6
        notify(f"EXTEND_TIMEOUT_USEC={self._usec}" if stopping else "WATCHDOG=1")


def credential(name: str, env: Mapping[str, str] = os.environ) -> str | None:
    """A setting: that environment variable, else the file of that name among the service's credentials
    (`LoadCredential=`), which are in no environment for others to see. None where there is neither.
    """
    if name in env:
        return env[name]
    if folder := env.get("CREDENTIALS_DIRECTORY"):
        try:
            return Path(folder, name).read_text().strip()
        except FileNotFoundError:
            pass  # the service was given no such credential
        except (OSError, UnicodeDecodeError) as error:
            _log.warning("reading the credential %s: %s", name, error, extra={"action": "launch"})
    return None
