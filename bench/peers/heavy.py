"""A job in a module that imports what the CV jobs use."""

from __future__ import annotations

import time

import openai
import pypdf

from bench.peers.work import tell


def heavy(where: str, token: str) -> bool:
    """Tell when the first line ran."""
    tell(where, token, "first", time.monotonic_ns())
    return bool(openai and pypdf)
