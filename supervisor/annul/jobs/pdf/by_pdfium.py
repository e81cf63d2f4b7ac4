"""A PDF read with pdfium: what pypdf cannot make sense of.

pdfium runs in a child process (pdfium_child.py), since it aborts on a few hostile files: its death is told from its
exit, and the job goes on. The child starts in about 0.1 s. What it says is measured and cleaned here, as pypdf's is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from annul.jobs.pdf.document import Document, Link, Page
from annul.jobs.pdf.failures import too_many_pages, too_much_text
from annul.jobs.pdf.fonts import BOLD, ICONS, clean
from annul.jobs.pdf.runs import Runs, TooMuchText
from annul.jobs.pdf.turn import lay_out

LONGEST_LINE = 100_000_000  # bytes of the child's; a page of 200,000 characters has 20 MB
CHILD = Path(__file__).with_name("pdfium_child.py")


class _Opened(msgspec.Struct):
    pages: int = 0
    meta: dict[str, str] = {}
    error: str = ""


class _Page(msgspec.Struct):
    box: tuple[float, float, float, float]
    fonts: list[tuple[str, int]]
    links: list[tuple[str, float, float, float, float]]
    glyphs: list[tuple[str, int, int, float, float, float, float, float, float, float, float]]


class _Face(msgspec.Struct):
    name: str
    bold: bool
    icons: bool
    space: float = 0.25


def installed() -> bool:
    """pypdfium2 is there: it comes with the extra [pdf]."""
    return find_spec("pypdfium2") is not None


def read(path: Path, *, max_pages: int, max_chars: int, progress: Callable[[float, str], None]) -> Document | None:
    """Read a PDF; None where pdfium cannot, or died of it. Its text may be empty.

    Raises JobError ``too_many_pages``, ``too_much_text``. No child is left, whatever is raised.
    """
    # What it parses is a stranger's: it is not given the job's secrets.
    env = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    # -P: this folder's modules do not stand in for the library's.
    command = [sys.executable, "-P", str(CHILD), str(path), str(max_pages), str(max_chars)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as child:
        try:
            assert child.stdout is not None
            opened = msgspec.json.decode(child.stdout.readline(LONGEST_LINE), type=_Opened)
            if opened.error:
                return None
            if opened.pages > max_pages:
                raise too_many_pages(path, opened.pages, max_pages)
            faces: dict[tuple[str, int], _Face] = {}
            pages: list[Page] = []
            links: list[Link] = []
            characters = 0
            for number in range(1, opened.pages + 1):
                progress((number - 1) / opened.pages, f"reading page {number} of {opened.pages} with pdfium")
                said = msgspec.json.decode(child.stdout.readline(LONGEST_LINE), type=_Page)
                try:
                    page = _page(said, number, faces, max_chars - characters)
                except TooMuchText as error:
                    found = characters + error.characters
                    raise too_much_text(path, found, max_chars, number, opened.pages) from error
                characters += sum(len(item.text) for item in page.items)
                pages.append(page)
                left, bottom, _, _ = said.box
                links += [
                    Link(number, clean(uri).strip(), x0 - left, y0 - bottom, x1 - left, y1 - bottom)
                    for uri, x0, y0, x1, y1 in said.links
                ]
        except (msgspec.DecodeError, IndexError):  # half a line, or none: it died
            return None
        finally:
            child.kill()
    meta = {key: clean(value)[:1000] for key, value in opened.meta.items() if value}
    return Document(pages=pages, reader="pdfium", links=links, meta=meta)


def _page(said: _Page, number: int, faces: dict[tuple[str, int], _Face], room: int) -> Page:
    runs = Runs(room)
    for key in said.fonts:
        if key not in faces:
            name = key[0].partition("+")[2] or key[0]
            faces[key] = _Face(clean(name), key[1] >= 600 or bool(BOLD.search(name)), bool(ICONS.search(name)))
    for text, font, mode, a, b, c, d, x, y, size, width in said.glyphs:
        face = faces[said.fonts[font]]
        meant = clean(text)
        if meant and not face.icons:
            runs.add(meant, face, at=(a, b, c, d, x, y), size=size, width=width, mode=mode, spacing=0.0)
    return lay_out(runs.finish(), number, said.box)
