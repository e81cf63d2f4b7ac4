"""Cutting a CV until it fits on its pages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_LINES = 52  # on a page
_CHARS = 95  # on a line
_HEAD = 6  # lines of name and contacts


def fewest(count: int, pages: int, pages_with: Callable[[int], int]) -> int:
    """The fewest cuts, of `count` in their order, with which a CV has at most `pages` pages.

    `pages_with(n)` says how many pages it has with the first n cuts; it is asked about log2(count) + 2 times. More
    cuts are taken to never make more pages: where they do, the number found fits all the same. `count` where nothing
    is enough.
    """
    if pages_with(0) <= pages or not count:
        return 0
    if pages_with(count) > pages:
        return count
    short, enough = 0, count
    while enough - short > 1:
        middle = (short + enough) // 2
        if pages_with(middle) <= pages:
            enough = middle
        else:
            short = middle
    return enough


def estimate(cv: dict[str, Any]) -> int:
    """How many pages a CV takes, without a renderer: lines of text, roughly, as a plain template sets them."""
    lines = float(_HEAD)

    def text(value: str) -> float:
        return float(math.ceil(len(value) / _CHARS)) if value else 0.0

    lines += text(cv.get("basics", {}).get("summary", ""))
    for section, entries in cv.items():
        if not isinstance(entries, list) or not entries:
            continue
        lines += 2  # its heading and the room above it
        for entry in entries:
            if section in ("skills", "languages", "interests"):
                lines += text(", ".join([entry.get("name", ""), *entry.get("keywords", [])]))
                continue
            lines += 1.5
            for key in ("summary", "description", "reference"):
                lines += text(entry.get(key, ""))
            lines += sum(map(text, entry.get("highlights", [])))
    return max(1, math.ceil(lines / _LINES))
