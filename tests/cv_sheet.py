"""CVs for the tests, written line by line as Documents: no PDF is made."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from annul.jobs.import_pdf.engine import Extraction
from annul.jobs.import_pdf.offline import extract
from annul.jobs.pdf.columns import arrange
from annul.jobs.pdf.document import Document, Item, Page


class Sheet:
    """A page being written from the top, as a CV is."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.y = 800.0

    def put(self, text: str, *, x: float = 50, bold: bool = False, size: float = 10, dy: float = 14) -> Sheet:
        """A line (`dy` below the one before)."""
        self.y -= dy
        return self.beside(text, x=x, bold=bold, size=size)

    def beside(self, text: str, *, x: float, bold: bool = False, size: float = 10) -> Sheet:
        """More on the same line."""
        font = "Sans-Bold" if bold else "Sans"
        width = 0.5 * size * len(text)
        self.items.append(Item(text=text, x=x, y=self.y, width=width, size=size, font=font, bold=bold))
        return self

    def head(self, text: str, **where: float) -> Sheet:
        """A heading."""
        return self.put(text, bold=True, size=13, dy=24, **where)

    def document(self) -> Document:
        text = "\n".join(line.text for line in arrange(self.items, 1, 595))
        return Document(pages=[Page(number=1, width=595, height=842, items=self.items, text=text)], reader="test")


def extraction_of(sheet: Sheet) -> Extraction:
    return extract(sheet.document(), progress=lambda _fraction, _stage: None)


def cv_of(sheet: Sheet) -> dict[str, Any]:
    done = extraction_of(sheet)
    cv: dict[str, Any] = json.loads(msgspec.json.encode(done.cv))
    return cv
