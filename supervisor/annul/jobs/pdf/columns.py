"""Columns of a page: where it is split by a gutter, so that text is read as a person reads it.

A gutter is a vertical strip that no segment crosses over a band of the page. Rows of "title ..... date" have such
strips too, but there each segment on one side has its partner on the same baseline on the other; real columns have
baselines, or headings, of their own.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from itertools import pairwise

from annul.jobs.pdf.document import Item
from annul.jobs.pdf.headings import field_of
from annul.jobs.pdf.lines import Line, Segment, segments

MOST_SEGMENTS = 600  # beyond, a page is no CV's: read it row by row
NARROWEST = 5.0  # points of a gutter
DATE = re.compile(r"\b(?:19|20)\d\d\b|\d\d?/\d{2,4}|present|today|heute|actuel|aujourd", re.IGNORECASE)

Region = tuple[list[Segment], int]  # its segments; 0 for the whole width, else the column


def arrange(items: list[Item], page: int, width: float) -> list[Line]:
    """A page's lines in reading order. `page` is its number, `width` its width in points."""
    found = segments(items)
    regions = _split(found, 0, 0) if len(found) <= MOST_SEGMENTS else [(found, 0)]
    lines: list[Line] = []
    for inside, column in regions:
        lines += _lines(inside, page, column, width)
    return lines


def _lines(inside: list[Segment], page: int, column: int, width: float) -> list[Line]:
    left = min((segment.x0 for segment in inside), default=width)
    lines: list[Line] = []
    for segment in sorted(inside, key=lambda segment: (-segment.y, segment.x0)):
        if lines and abs(lines[-1].y - segment.y) < 0.34 * min(lines[-1].size, segment.size):
            lines[-1].parts.append(segment)
            lines[-1].parts.sort(key=lambda part: part.x0)
        else:
            gap = lines[-1].y - segment.y if lines else 0.0
            lines.append(Line(parts=[segment], page=page, column=column, left=left, gap=gap))
    return lines


def _split(inside: list[Segment], column: int, depth: int) -> list[Region]:
    """The regions of a part of a page, in reading order."""
    if depth < 4 and (found := _row_of_headings(inside)):
        row, bottom = found
        return _under_headings(inside, row, bottom, column, depth)
    best = _gutter(inside) if depth < 4 and len(inside) >= 8 else None
    if best is None:
        return [(inside, column)] if inside else []
    x, top, bottom = best
    above = [segment for segment in inside if segment.y >= top]
    below = [segment for segment in inside if segment.y <= bottom]
    band = [segment for segment in inside if bottom < segment.y < top]
    left = [segment for segment in band if _middle(segment) < x]
    right = [segment for segment in band if _middle(segment) >= x]
    return [
        *_split(above, column, depth + 1),
        *_split(left, 2 * column + 1, depth + 1),
        *_split(right, 2 * column + 2, depth + 1),
        *_split(below, column, depth + 1),
    ]


def _row_of_headings(inside: list[Segment]) -> tuple[list[Segment], float] | None:
    """Headings of sections side by side, each with its text below, and the baseline where that ends.

    Nothing else is on their baseline, and no other heading between them and what crosses their columns below, but for
    the one that heads it. Where more follow, these are the tops of a page's columns, which a gutter tells better.
    """
    heads = [segment for segment in inside if field_of(segment.text)]
    for first in sorted(heads, key=lambda segment: -segment.y):
        level = [segment for segment in inside if abs(segment.y - first.y) < 0.15 * first.size]
        row = sorted(level, key=lambda segment: segment.x0)
        if len(row) < 2 or not all(field_of(segment.text) for segment in row):
            continue
        near = [segment for segment in inside if 0.5 * first.size < first.y - segment.y < 3 * first.size]
        if not all(any(abs(under.x0 - head.x0) < 4 for under in near) for head in row):
            continue
        edges = [head.x0 - 3 for head in row[1:]]
        under = [segment for segment in inside if segment.y < first.y - 0.5 * first.size]
        far = 4 * first.size  # what barely crosses is two texts set close
        crossing = [one.y for one in under if any(one.x0 < edge - far and one.x1 > edge + far for edge in edges)]
        bottom = max(crossing, default=float("-inf"))
        between = [head for head in heads if bottom <= head.y < first.y - 0.5 * first.size]
        if crossing and len(between) == 1 and abs(between[0].x0 - row[0].x0) < 4:
            bottom, between = between[0].y, []
        dated = any(DATE.search(one.text) for one in under if one.y > bottom)
        if not between and not dated:  # lists only: posts and degrees have dates
            return row, bottom
    return None


def _under_headings(inside: list[Segment], row: list[Segment], bottom: float, column: int, depth: int) -> list[Region]:
    """The regions of a part of a page with a row of headings: what is above it, each column under it, the rest."""
    top = row[0].y + 0.2 * row[0].size
    band = [segment for segment in inside if bottom < segment.y < top]
    edges = [float("-inf"), *(head.x0 - 3 for head in row[1:]), float("inf")]
    out = _split([segment for segment in inside if segment.y >= top], column, depth + 1)
    for number, (left, right) in enumerate(pairwise(edges)):
        out += _split([one for one in band if left <= one.x0 < right], 3 * column + 1 + number, depth + 4)
    return [*out, *_split([segment for segment in inside if segment.y <= bottom], column, depth + 1)]


def _middle(segment: Segment) -> float:
    return (segment.x0 + segment.x1) / 2


def _gutter(inside: list[Segment]) -> tuple[float, float, float] | None:
    """The best gutter: its x, and the baselines that bound its band above and below (exclusive)."""
    best: tuple[float, float, float] | None = None
    best_score = 0.0
    ordered = sorted(inside, key=lambda segment: -segment.y)
    last = min(segment.x0 for segment in inside)
    starts = Counter(round(segment.x0) for segment in inside)
    for start in sorted(starts):
        if start - last < 4 and starts[start] < 3:
            continue  # about the same edge; few begin just here
        last = start
        x = start - NARROWEST / 2
        for top, bottom, band in _bands(ordered, x):
            left = [segment for segment in band if _middle(segment) < x]
            right = [segment for segment in band if _middle(segment) >= x]
            score = _score(left, right)
            if score > best_score:
                best, best_score = (x, top, bottom), score
    return best


def _bands(ordered: list[Segment], x: float) -> list[tuple[float, float, list[Segment]]]:
    """The parts of a page, from the top, in which no segment crosses x: their bounds and what is in them."""
    found: list[tuple[float, float, list[Segment]]] = []
    top = float("inf")
    band: list[Segment] = []
    for segment in ordered:
        if segment.x0 < x - 1 and segment.x1 > x + 1:
            found.append((top, segment.y, [one for one in band if one.y > segment.y]))
            top, band = segment.y, []
        elif segment.y < top:
            band.append(segment)
    found.append((top, float("-inf"), band))
    return [part for part in found if len(part[2]) >= 8]


def _score(left: list[Segment], right: list[Segment]) -> float:
    """How surely these are two columns, more for longer ones; 0.0 if they are not."""
    if len(left) < 3 or len(right) < 3:
        return 0.0
    gutter = min(segment.x0 for segment in right) - max(segment.x1 for segment in left)
    if gutter < NARROWEST:
        return 0.0
    few, many = (left, right) if len(left) <= len(right) else (right, left)
    heads = [sum(field_of(segment.text) is not None for segment in side) for side in (left, right)]
    if any(count >= 2 and count > 0.5 * len(side) for count, side in zip(heads, (left, right), strict=True)):
        return 0.0  # headings hung in the margin
    if any(_is_margin(side, other) for side, other in ((left, right), (right, left))):
        return 0.0
    aligned = max(_aligned(left, right), _aligned(right, left))
    # Dates on the far side of the gutter that have their line on this one: it is not the gutter between columns.
    astray = [segment for segment in right if DATE.search(segment.text) and len(segment.text) < 40]
    astray_share = _aligned(astray, left) * len(astray) / len(right) if astray else 0.0
    size = float(len(few) * len(many) ** 0.5 * min(gutter, 20.0) ** 0.1) * (1.0 - astray_share)
    edge = min(segment.x0 for segment in right)
    size *= 0.7 + 0.3 * sum(segment.x0 < edge + 4 for segment in right) / len(right)  # columns have a left edge
    if all(heads):
        return size * 2 if aligned < (0.95 if min(heads) > 1 else 0.6) else 0.0
    dates = max(
        sum(bool(DATE.search(segment.text)) and len(segment.text) < 40 for segment in side) / len(side)
        for side in (left, right)
    )
    extent = min(max(segment.y for segment in side) - min(segment.y for segment in side) for side in (left, right))
    if dates > 0.45 or extent < 60 or aligned > (0.45 if any(heads) else 0.7) or len(few) < 5:
        return 0.0
    return size


def _is_margin(side: list[Segment], other: list[Segment]) -> bool:
    """A margin of headings and dates, beside the text that they are of; or all dates in it are of lines there."""
    dates = [segment for segment in side if DATE.search(segment.text) and len(segment.text) < 40]
    heads = sum(field_of(segment.text) is not None for segment in side)
    if len(dates) < 2:
        return False
    larger = min(segment.size for segment in dates) > 1.15 * max(segment.size for segment in other)
    aligned = _aligned(dates, other, 0.35 if larger else 0.15)  # larger print may be set level by its middle
    if len(dates) + heads > 0.75 * len(side) and aligned > 0.6:
        return True
    return aligned > 0.8 and not any(DATE.search(segment.text) and len(segment.text) < 40 for segment in other)


def _aligned(side: list[Segment], other: list[Segment], within: float = 0.15) -> float:
    """The share of a side's segments that have a partner on their baseline on the other, `within` so many ems."""
    baselines = sorted(segment.y for segment in other)

    def has_partner(segment: Segment) -> bool:
        near = within * segment.size
        index = bisect_left(baselines, segment.y - near)
        return index < len(baselines) and baselines[index] <= segment.y + near

    return sum(map(has_partner, side)) / len(side)
