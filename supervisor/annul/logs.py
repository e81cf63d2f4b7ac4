"""The daemon's own log: lines on standard error, each with the one action it tells of."""

from __future__ import annotations

import logging
import sys


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        action = getattr(record, "action", "-")
        return f"{self.formatTime(record)} {record.levelname.lower()} {action}: {super().format(record)}"


def set_up(level: str) -> None:
    """Raises ValueError for an unknown level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(message)s"))
    root = logging.getLogger("annul")
    root.setLevel(level)
    root.addHandler(handler)
    root.propagate = False
