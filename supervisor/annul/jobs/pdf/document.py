"""A PDF's text with where it stands on the page: what every engine starts from."""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct, frozen=True, gc=False):
    """One run of text in one font on one line."""

    text: str
    x: float  # the left end of its baseline, in points from the page's left
    y: float  # its baseline, in points from the page's bottom
    width: float  # in points, estimated from the font's widths
    size: float  # font size in points, as seen on the page
    font: str  # the font's name without its subset prefix; "" where unknown
    bold: bool


class Link(msgspec.Struct, frozen=True, gc=False):
    """A URI that a region of a page points to."""

    page: int  # from 1
    uri: str
    x0: float
    y0: float
    x1: float
    y1: float


class Page(msgspec.Struct, frozen=True):
    """One page."""

    number: int  # from 1
    width: float  # points
    height: float  # points
    items: list[Item]
    text: str  # plain text in reading order


class Document(msgspec.Struct, frozen=True):
    """A PDF that has been read."""

    pages: list[Page]
    reader: str  # the library that read it: "pypdf" or "pdfium"
    links: list[Link] = []
    meta: dict[str, str] = {}  # the Info dictionary: Title, Author, ...

    @property
    def text(self) -> str:
        """All pages' text, separated by form feeds."""
        return "\f".join(page.text for page in self.pages)
