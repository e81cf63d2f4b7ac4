"""Runs of text to a page: turned so that they read from left to right, and in reading order."""

from __future__ import annotations

from annul.jobs.pdf.columns import arrange
from annul.jobs.pdf.document import Item, Page
from annul.jobs.pdf.runs import SMALLEST


def lay_out(items: list[tuple[Item, int, bool]], number: int, box: tuple[float, float, float, float]) -> Page:
    """The page of a number, from its runs with quadrant and "is hidden", and its left, bottom, width and height."""
    left, bottom, width, height = box
    shown, width, height = upright(items, width, height)
    if left or bottom:
        shown = [_moved(item, item.x - left, item.y - bottom) for item in shown]
    text = "\n".join(line.text for line in arrange(shown, number, width))
    return Page(number=number, width=width, height=height, items=shown, text=text)


def upright(items: list[tuple[Item, int, bool]], width: float, height: float) -> tuple[list[Item], float, float]:
    """Turn the page so that most of its text reads from left to right; give its items and its size.

    Text in other directions (a year along a timeline) is put below the page, each run a line of its own.
    Hidden text is left out, except where the page has no other: the text layer of a scan.
    """
    shown = [entry for entry in items if not entry[2]]
    if sum(len(item.text) for item, _, _ in shown) < 20:
        shown = [entry for entry in items if entry[0].size >= SMALLEST]
    weight = [0, 0, 0, 0]
    for item, direction, _ in shown:
        weight[direction] += len(item.text)
    main = weight.index(max(weight))
    if main % 2:
        width, height = height, width
    dx, dy = ((0.0, 0.0), (0.0, height), (width, height), (width, 0.0))[main]
    below = -20.0
    out: list[Item] = []
    for item, direction, _ in shown:
        if direction == main:
            out.append(_moved(item, item.x + dx, item.y + dy))
        else:
            out.append(_moved(item, 0.0, below))
            below -= 3 * item.size
    return out, width, height


def _moved(item: Item, x: float, y: float) -> Item:
    return Item(text=item.text, x=x, y=y, width=item.width, size=item.size, font=item.font, bold=item.bold)
