"""What leaves the command line: results on stdout, everything said to people on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec


def document(value: Any) -> None:
    """The one JSON document of ``--json``, or a result. Structs, times and bytes (base64) are written too."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def raw(data: bytes) -> None:
    """Bytes as they are: a job's log, a command's output."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def line(text: str = "") -> None:
    """A line of a result made for reading."""
    click.echo(text)


def hint(text: str) -> None:
    """Something said to whoever watches; never part of a result."""
    click.echo(text, err=True)


def printable(text: str) -> str:
    """Text from a job or a user, without what a terminal would take for a command."""
    return "".join(c if c.isprintable() else " " for c in text)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be; the last one is not padded."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line("  ".join(padded).rstrip())
