"""Runs of text to segments (words that stand together) and lines (segments on one baseline)."""

from __future__ import annotations

import re

import msgspec

from annul.jobs.pdf.content import WORD
from annul.jobs.pdf.document import Item
from annul.jobs.pdf.headings import field_of

BULLETS = "•◦▪‣●○■□▸►➢➤❖✓✔⁃∙·–—-*◆◇▶→»›⇒∗⋄◾‐"
# What a lone character must be to count as a bullet at a line's start without a gap after it.
SURE = "•◦▪‣●○■□▸►➢➤❖✓✔⁃∙◆◇▶◾⋄∗"


SPACED = re.compile(r"[^\W\d_](?:\s{1,4}[^\W\d_]|\s{1,4}[&/'’+-]){3,}")
LONGEST = 1_000  # characters of a segment


class Segment(msgspec.Struct):
    """Words that stand together on one baseline."""

    text: str
    x0: float
    x1: float
    y: float
    size: float  # of most of its letters
    bold: bool  # most of its letters
    font: str
    head: str = ""  # the font of its first letters
    head_bold: bool = False
    lead: str = ""  # its beginning, where that is in another font than the rest
    bullet: bool = False
    runs: list[str] = []  # its text by font and size, where it has several


class Line(msgspec.Struct):
    """The segments on one baseline of one column."""

    parts: list[Segment]
    page: int
    column: int  # 0: the whole width; 1, 2, ...: columns from the left
    left: float  # the column's left edge
    gap: float = 0.0  # baseline to baseline from the line above in the column; 0.0 for the first

    @property
    def text(self) -> str:
        """The whole line, segments apart by three spaces."""
        return ("• " if self.bullet else "") + "   ".join(part.text for part in self.parts)

    @property
    def bullet(self) -> bool:
        """It starts a list item."""
        return self.parts[0].bullet

    @property
    def x0(self) -> float:
        return self.parts[0].x0

    @property
    def x1(self) -> float:
        return self.parts[-1].x1

    @property
    def y(self) -> float:
        return self.parts[0].y

    @property
    def size(self) -> float:
        return max(part.size for part in self.parts)

    @property
    def bold(self) -> bool:
        return self.parts[0].bold


def segments(items: list[Item]) -> list[Segment]:
    """Items to segments, from the top down, each row from the left."""
    found: list[Segment] = []
    for row in rows(items):
        group: list[Item] = []
        end = 0.0
        for item in row:
            # A gap of more than an em is never a space between words, except after a bullet.
            wide = item.x - end > 1.05 * _em(group[-1], item) if group else False
            if group and (wide or _ends_heading(group, item)) and not _is_bullet(group):
                found.append(_segment(group))
                group = []
            end = max(end, item.x + item.width) if group else item.x + item.width
            group.append(item)
        if group:
            found.append(_segment(group))
    return [short for segment in found if segment.text for short in _cut(segment)]


def _em(last: Item, item: Item) -> float:
    """The em that a gap is measured by: the larger, but for two texts that are level by chance.

    These differ in size and baseline: a name, and a heading in the column beside it.
    """
    small, large = sorted((last.size, item.size))
    chance = large > 1.3 * small and abs(last.y - item.y) > 0.05 * large
    return small if chance else large


def _cut(segment: Segment) -> list[Segment]:
    """A segment of a length that patterns can be tried on: hostile files have words of a million letters."""
    if len(segment.text) <= LONGEST:
        return [segment]
    return [
        msgspec.structs.replace(segment, text=segment.text[begin : begin + LONGEST], runs=[], lead="")
        for begin in range(0, len(segment.text), LONGEST)
    ]


def rows(items: list[Item]) -> list[list[Item]]:
    """Items grouped by baseline, from the top; a superscript belongs to its line."""
    ordered = sorted(items, key=lambda item: (-item.y, item.x))
    grouped: list[list[Item]] = []
    for item in ordered:
        if grouped:
            base = max(grouped[-1], key=lambda other: other.size)
            if abs(base.y - item.y) < 0.34 * min(base.size, item.size * 1.6):
                grouped[-1].append(item)
                continue
        grouped.append([item])
    return [sorted(row, key=lambda item: item.x) for row in grouped]


def _ends_heading(group: list[Item], item: Item) -> bool:
    """A heading of its own font stands close before the text of its section."""
    if len(group) > 4 or (item.font == group[-1].font and abs(item.size - group[-1].size) < 0.6):
        return False
    return item.text[:1].isalnum() and field_of(" ".join(other.text for other in group)) is not None


def _is_bullet(group: list[Item]) -> bool:
    return len(group) == 1 and len(group[0].text) == 1 and group[0].text in BULLETS


def _closed(text: str) -> str:
    """Letters set apart, as headings and names are ("S K I L L S"), closed up; more than one space ends a word."""
    if not SPACED.fullmatch(text.strip()):
        return text
    return " ".join("".join(word.split()) for word in re.split(r"\s{2,}", text.strip()))


def _segment(group: list[Item]) -> Segment:
    bullet = False
    if len(group) > 1 and _is_bullet(group[:1]):
        bullet, group = True, group[1:]
    text = ""
    lead = ""
    start = end = group[0].x
    heavy = light = 0
    mixed = False
    runs: list[str] = []
    look: tuple[str, float] | None = None
    for item in group:
        gap = item.x - end
        if text and gap > WORD * min(item.size, group[0].size) * 0.9 and not text.endswith(" "):
            text += " "
        if (
            text
            and not mixed
            and any(char.isalnum() for char in item.text)
            and (item.font != group[0].font or abs(item.size - group[0].size) > 0.6)
        ):
            lead, mixed = text.strip(), any(char.isalnum() for char in text)
        text += item.text
        if any(char.isalnum() for char in item.text) or look is None:
            if look is None or look[0] != item.font or abs(look[1] - item.size) > 0.6:
                runs.append("")
            look = item.font, item.size
        runs[-1] += (" " if gap > WORD * item.size * 0.9 else "") + item.text
        letters = sum(char.isalnum() for char in item.text)
        heavy += letters if item.bold else 0
        light += 0 if item.bold else letters
        end = max(end, item.x + item.width)
    text = " ".join(_closed(text).split())
    if len(text) > 1 and (text[0] in SURE or (text[0] in BULLETS and text[1] == " ")):
        # The mark and the words are one run: where the words begin is estimated.
        bullet, start = True, start + (end - start) * (len(text) - len(text[1:].lstrip())) / len(text)
        text = text[1:].strip()
        lead = lead.lstrip(BULLETS + " ")
    main = max(group, key=lambda item: len(item.text))
    return Segment(
        text=text,
        x0=start,
        x1=end,
        y=main.y,
        size=main.size,
        bold=heavy > light,
        font=main.font,
        head=group[0].font,
        head_bold=group[0].bold,
        lead=lead if mixed else "",
        runs=[" ".join(run.split()) for run in runs] if len(runs) > 1 else [],
        bullet=bullet,
    )
