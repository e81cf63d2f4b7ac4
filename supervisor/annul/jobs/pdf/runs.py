"""Glyphs to runs of text, by where they stand and how wide they are: whichever library found them."""

from __future__ import annotations

import math
from typing import Protocol

from annul.jobs.pdf.document import Item
from annul.jobs.pdf.fonts import compose

# In ems. A gap wider than WORD is a space; wider than RUN, another run (a column, a tab stop).
WORD = 0.13
RUN = 1.0
SMALLEST = 2.5  # points; nobody reads smaller print: it is there for machines

Matrix = tuple[float, float, float, float, float, float]


class Look(Protocol):
    """What a run needs of its font. One object for each font: runs end where it changes."""

    name: str
    bold: bool
    space: float  # ems; the width of a space, or about


class TooMuchText(Exception):
    """The page holds more characters than were left. `characters` is the number reached."""

    def __init__(self, characters: int) -> None:
        super().__init__(characters)
        self.characters = characters


class _Run:
    """The run being written: glyphs of one face and size on one baseline. Owned by one `Runs`."""

    __slots__ = ("chars", "direction", "end", "face", "gaps", "hidden", "last_x", "size", "start", "stroked", "y")

    def __init__(self, face: Look, size: float, start: float, y: float, direction: int, mode: int) -> None:
        self.face = face
        self.size = size
        self.start = self.end = self.last_x = start
        self.y = y
        self.direction = direction
        # Mode 3 draws nothing: the text layer of a scan, or words hidden from the reader.
        self.hidden = mode == 3 or size < SMALLEST
        self.stroked = mode == 2  # filled and stroked: a bold that the font does not have
        self.chars: list[str] = []
        self.gaps: list[float] = []  # before each of `chars`


def _join(run: _Run) -> str:
    """The run's text: a space where the gap is a word's, letter-spaced capitals as words."""
    word = min(WORD, 0.55 * run.face.space) * run.size
    solid = [gap for char, gap in zip(run.chars[1:], run.gaps[1:], strict=True) if char != " "]
    letters = [gap for gap in solid if gap > word]
    if len(run.chars) > 3 and len(letters) > 0.6 * len(solid):
        # Letter-spaced: the usual gap is between letters, and words are apart by a good deal more.
        word = sorted(letters)[len(letters) // 2] * 1.5
    out: list[str] = []
    for char, gap in zip(run.chars, run.gaps, strict=True):
        if gap > word and out and out[-1] != " " and char != " ":
            out.append(" ")
        out.append(char)
    return "".join(out)


class Runs:
    """The runs of one page, as its glyphs come. Used once."""

    def __init__(self, room: int) -> None:
        """`room`: characters that may still be read."""
        self.items: list[tuple[Item, int, bool]] = []  # with quadrant and "is hidden"
        self._room = room
        self._characters = 0
        self._run: _Run | None = None

    def add(self, text: str, face: Look, *, at: Matrix, size: float, width: float, mode: int, spacing: float) -> None:
        """Add what one glyph says to the run, or begin another. Raises TooMuchText.

        `at`: how its font's plane lies on the page, with its origin. `size`: of the font, in that plane. `width` and
        the `spacing` after it: along its baseline, in points. `mode`: PDF's text rendering mode.
        """
        self._characters += len(text)
        if self._characters > self._room:
            raise TooMuchText(self._characters)
        upward = size < 0
        size = abs(size) * math.hypot(at[2], at[3])
        if not size or not (at[0] or at[1]):
            return
        x, y = at[4], at[5]
        if abs(at[1]) <= abs(at[0]):
            direction, u, v = (0, x, y) if (at[0] > 0) != upward else (2, -x, -y)
        else:
            direction, u, v = (1, y, -x) if (at[1] > 0) != upward else (3, -y, x)
        run = self._run
        gap = u - run.end if run else 0.0
        if (
            run is None
            or run.face is not face
            or run.direction != direction
            or run.hidden != (mode == 3 or size < SMALLEST)
            or run.stroked != (mode == 2)
            or abs(run.size - size) > 0.04 * size
            or abs(run.y - v) > 0.08 * size
            or gap > RUN * size
            or u < run.start - 0.05 * size
            or gap < -0.9 * size
        ):
            self.finish()
            run = self._run = _Run(face, size, u, v, direction, mode)
            gap = 0.0
        if run.chars and gap < -0.2 * size and (whole := compose(run.chars[-1], text)):
            run.chars[-1] = whole  # an accent drawn over its letter, as TeX's OT1 fonts do
        elif run.chars and run.chars[-1] == text and abs(u - run.last_x) < 0.12 * size and text != " ":
            pass  # drawn twice to look bold
        else:
            run.chars.append(text)
            run.gaps.append(gap)
        run.last_x = u
        run.end = max(run.end, u + width + spacing)

    def finish(self) -> list[tuple[Item, int, bool]]:
        """End the run under way; give all."""
        run, self._run = self._run, None
        if run is None or not (text := _join(run)).strip():
            return self.items
        lead = len(text) - len(text.lstrip())
        start = run.start + (run.end - run.start) * lead / max(1, len(text))
        kept = text.strip()
        end = run.end - (run.end - run.start) * (len(text) - lead - len(kept)) / max(1, len(text))
        item = Item(
            text=kept,
            x=start,
            y=run.y,
            width=max(0.0, end - start),
            size=run.size,
            font=run.face.name,
            bold=run.face.bold or run.stroked,
        )
        self.items.append((item, run.direction, run.hidden))
        return self.items
