"""The daemon's own log: one entry for each action, as a line, as a JSON object, or with the journal's fields.

What users wrote may be in a message; in a line it is shown without what would begin another, or a terminal would obey.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from annul.errors import StartError

Format = Literal["text", "json", "journal"]
JOURNAL = Path("/run/systemd/journal/socket")
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))  # syslog(3)
_FIELD_MAX = 32 * 1024  # bytes: larger datagrams would not go through by default


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        action = getattr(record, "action", "-")
        head = f"{self.formatTime(record)} {record.levelname.lower()} {action}: {_shown(record.getMessage())}"
        trace = _trace(self, record)
        return f"{head}\n{trace}" if trace else head


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(self, record))  # ASCII: nothing in it ends a line for anybody


class Journal(logging.Handler):
    """Sends each record to journald, by its native protocol: one datagram of fields. Never waits, never raises.

    What the journal does not take is counted, and told with the next that it does, as LOST.
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        """Raises OSError where nobody listens there."""
        super().__init__()
        self._to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._path = str(path)
        self._lost = 0
        try:
            self._to.connect(self._path)
        except OSError:
            self._to.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        found = _fields(logging.Formatter(), record)
        level = next(number for limit, number in _PRIORITIES if record.levelno >= limit)
        fields = {
            "MESSAGE": found["message"],
            "PRIORITY": level,
            "SYSLOG_IDENTIFIER": "annul",
            "CODE_FUNC": record.name,
        }
        fields |= {
            name.upper(): value for name, value in found.items() if name not in ("at", "level", "message", "logger")
        }
        if self._lost:
            fields["LOST"] = self._lost
        data = b"".join(_entry(name, str(value)) for name, value in fields.items())
        try:
            self._send(data)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def _send(self, data: bytes) -> None:
        try:
            self._to.send(data)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET):
                raise
            self._to.connect(self._path)  # journald was restarted
            self._to.send(data)

    def close(self) -> None:
        self._to.close()
        super().close()


def set_up(level: str, form: Format = "text") -> None:
    """Raises ValueError for an unknown level, and StartError where there is no journal to write to."""
    handler: logging.Handler
    if form == "journal":
        try:
            handler = Journal()
        except OSError as error:
            raise StartError(f"log_format is journal, but {JOURNAL}: {error}; take json or text") from error
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Json() if form == "json" else _Lines())
    root = logging.getLogger("annul")
    root.setLevel(level)
    root.addHandler(handler)
    root.propagate = False


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    """What there is to say of a record, by stable names."""
    found = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "action": getattr(record, "action", "-"),
        "job_id": getattr(record, "job_id", None),
        "message": record.getMessage(),
        "logger": record.name,
        "trace": _trace(formatter, record),
    }
    return {name: value for name, value in found.items() if value}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _shown(text: str) -> str:
    """In one line, and harmless to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _entry(name: str, value: str) -> bytes:
    """A field as journald reads it: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    data = value.encode(errors="replace")[:_FIELD_MAX]
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
