"""docs/protocol.md, taken apart: its tables and its examples."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "protocol.md"
FRAMES = ROOT / "tests" / "data" / "frames.json"

_EXAMPLE = re.compile(r"```frames\n(.*?)```", re.DOTALL)
_TO, _FROM = "→", "←"


@dataclass(frozen=True)
class Example:
    """A request in both encodings, and its answer in JSON, where the key "…" stands for fields that are left out."""

    json: str
    hex: str
    answer: Any


def section(title: str) -> str:
    """What stands below this heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE.name} has no heading {title!r}"
    return found[1]


def table(title: str, first: str) -> list[list[str]]:
    """The cells of the table below this heading whose first column is called so; none where there is no such table."""
    rows: list[list[str]] = []
    begun = False
    for line in section(title).splitlines():
        begun = line.startswith(f"| {first} |") or (begun and line.startswith("|"))
        if begun:
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows[2:]


def examples() -> list[Example]:
    """Those with an answer, in their order on the page."""
    found = []
    for block in _EXAMPLE.findall(PAGE.read_text()):
        lines = re.split(rf"^(?=[{_TO}{_FROM}⇠])", block, flags=re.MULTILINE)[1:]
        if len(lines) == 3:
            parts = [line[1:].strip() for line in lines]
            joined = re.sub(r"\n *", "", parts[0])
            found.append(Example(joined, re.sub(r"\s+", " ", parts[1]), json.loads(parts[2])))
    return found


def golden() -> list[Example]:
    """The frames that are kept: what the wire was when they were written."""
    return [Example(one["json"], one["hex"], one["answer"]) for one in json.loads(FRAMES.read_text())]
