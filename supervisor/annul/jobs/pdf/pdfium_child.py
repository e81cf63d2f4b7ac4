"""The program that opens a PDF with pdfium: PATH MAX_PAGES MAX_CHARS, JSON lines on standard output.

A process of its own, since pdfium aborts on a few hostile files. It imports nothing of annul, and is run by its path.
First line: `{"pages": n, "meta": {...}}`; then, unless that is beyond MAX_PAGES, one a page:
`{"box": [left, bottom, width, height], "fonts": [[name, weight], ...], "links": [[uri, x0, y0, x1, y1], ...],
"glyphs": [[text, font, mode, a, b, c, d, x, y, size, width], ...]}`, points in the page's space. After MAX_CHARS
characters it stops. A file that it cannot open: `{"error": why}`.
"""

from __future__ import annotations

import ctypes
import json
import math
import resource
import sys
from collections.abc import Iterator
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

# Bounds of its own, below what the job may have: a bomb ends the child, and the job goes on without it.
SECONDS = 60  # of processor time
MEMORY = 400 * 1024 * 1024  # bytes of data
HYPHEN = 2  # how pdfium tells the hyphen at the end of a line
LINKS = 500  # of a page


def main(path: str, max_pages: int, max_chars: int) -> None:
    """Print what is in the file."""
    for what, limit in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (most, most))
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        say({"error": str(error)})
        return
    count = len(document)
    say({"pages": count, "meta": {key: whole(value) for key, value in document.get_metadata_dict().items()}})
    if count > max_pages:
        return
    room = max_chars + 1
    for number in range(count):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:  # listed, and not there: an empty one
            say({"box": [0, 0, 612, 792], "fonts": [], "links": [], "glyphs": []})
            continue
        left, bottom, right, top = page.get_mediabox()
        fonts: dict[tuple[str, int], int] = {}
        glyphs = [[whole(glyph[0]), *glyph[1:]] for glyph in read(page, fonts, room)]
        room -= sum(len(glyph[0]) for glyph in glyphs)
        box = [left, bottom, right - left, top - bottom]
        say({"box": box, "fonts": list(fonts), "links": list(links(document, page)), "glyphs": glyphs})
        if room <= 0:
            return


def say(value: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def whole(text: str) -> str:
    """Text of UTF-16 units as text of characters; a unit that stands alone is none."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read(page: pypdfium2.PdfPage, fonts: dict[tuple[str, int], int], room: int) -> Iterator[list[Any]]:
    """The glyphs of a page that are really there, in the order of the file, ligatures as one."""
    text = page.get_textpage()
    x, y = ctypes.c_double(), ctypes.c_double()
    box, matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
    known: dict[int, list[Any]] = {}  # by the text object that a character is of
    last: list[Any] | None = None
    place: tuple[Any, ...] = ()
    for index in range(text.count_chars()):
        code = pdfium.FPDFText_GetUnicode(text, index)
        # Spaces that pdfium adds are told by the gaps here, too, as of any other reader.
        if (
            not code
            or pdfium.FPDFText_IsGenerated(text, index) == 1
            or pdfium.FPDFText_HasUnicodeMapError(text, index) == 1
        ):
            continue
        char = "-" if code == HYPHEN else chr(code)
        thing = pdfium.FPDFText_GetTextObject(text, index)
        key = ctypes.cast(thing, ctypes.c_void_p).value or 0
        pdfium.FPDFText_GetCharOrigin(text, index, x, y)
        pdfium.FPDFText_GetLooseCharBox(text, index, box)
        here = (key, x.value, y.value, box.left, box.right, box.bottom, box.top)
        if last is not None and here == place:
            last[0] += char  # the rest of a ligature, or of a surrogate pair
            continue
        if key not in known:
            pdfium.FPDFText_GetMatrix(text, index, matrix)
            mode = pdfium.FPDFTextObj_GetTextRenderMode(thing) if key else 0
            font = fonts.setdefault(font_of(text, index), len(fonts))
            size = pdfium.FPDFText_GetFontSize(text, index)
            known[key] = [font, mode, matrix.a, matrix.b, matrix.c, matrix.d, size]
        font, mode, a, b, c, d, size = known[key]
        if last is not None:
            yield last
            room -= len(last[0])
            if room <= 0:
                return
        along = abs(box.right - box.left) if abs(b) <= abs(a) else abs(box.top - box.bottom)
        numbers = [value if math.isfinite(value) else 0.0 for value in (a, b, c, d, x.value, y.value, size, along)]
        last, place = [char, font, mode, *numbers], here
    if last is not None:
        yield last


def font_of(text: pypdfium2.PdfTextPage, index: int) -> tuple[str, int]:
    """A font's name and its weight (400: regular; -1: unknown)."""
    flags = ctypes.c_int()
    buffer = ctypes.create_string_buffer(256)
    size = pdfium.FPDFText_GetFontInfo(text, index, buffer, 256, flags)
    name = buffer.raw[: max(0, min(size, 256) - 1)].decode("utf-8", "replace")
    return name, pdfium.FPDFText_GetFontWeight(text, index)


def links(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> Iterator[list[Any]]:
    """The URIs that the page links to."""
    position, link, rect = ctypes.c_int(), pdfium.FPDF_LINK(), pdfium.FS_RECTF()
    for _ in range(LINKS):
        if not pdfium.FPDFLink_Enumerate(page, position, link):
            return
        action = pdfium.FPDFLink_GetAction(link)
        if not action or not pdfium.FPDFLink_GetAnnotRect(link, rect):
            continue
        buffer = ctypes.create_string_buffer(2001)
        size = pdfium.FPDFAction_GetURIPath(document, action, buffer, 2001)
        if 1 < size <= 2001:
            uri = buffer.raw[: size - 1].decode("utf-8", "replace")
            yield [uri, rect.left, rect.bottom, rect.right, rect.top]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
