"""A PDF file to a `Document`, within limits.

pypdf reads it (by_pypdf.py). Where it finds the file damaged, or what it reads makes little sense, pdfium is asked too
(by_pdfium.py), if it is installed, and has the word if it understands more; `Document.reader` says which one it was.

Every failure is a `JobError` with a stable code: ``no_such_file``, ``unreadable_file``, ``not_a_pdf``,
``corrupt_pdf``, ``encrypted_pdf``, ``no_text``, ``too_large``, ``too_many_pages``, ``too_much_text``,
``out_of_memory``. `Cancelled` is a BaseException and passes through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from annul.errors import JobError
from annul.jobs.pdf import by_pdfium, by_pypdf
from annul.jobs.pdf.by_pypdf import Reading
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.failures import no_text, out_of_memory

HEADER_WITHIN = 1024  # bytes; where readers look for %PDF-
LEAST_TEXT = 12  # letters and digits; fewer are stray marks beside pictures
LONGEST_WORD = 30  # letters; longer ones are several that ran together, or no words
DOUBTFUL = 0.15  # share of the letters, or glyphs, beyond which another reader is asked
# East and South East Asian scripts put no space between words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LETTERS = re.compile(r"[^\W\d_]+")


def read(
    path: Path,
    *,
    max_pages: int,
    max_bytes: int,
    max_chars: int,
    progress: Callable[[float, str], None],
) -> Document:
    """Read a PDF's text, with places and fonts.

    `progress` is called before each page with the share of pages read. Raises JobError (codes above).
    """
    _check_file(path, max_bytes)
    furthest = 0.0

    def forward(fraction: float, stage: str) -> None:
        """The second reader begins anew; the bar does not."""
        nonlocal furthest
        furthest = max(furthest, fraction)
        progress(furthest, stage)

    try:
        document = _read(path, max_pages, max_chars, forward)
    except MemoryError as error:
        raise out_of_memory(path) from error
    progress(1.0, f"read {len(document.pages)} pages")
    if _text_in(document) < LEAST_TEXT:
        characters = sum(len(item.text) for page in document.pages for item in page.items)
        raise no_text(path, len(document.pages), characters)
    return document


def _read(path: Path, max_pages: int, max_chars: int, progress: Callable[[float, str], None]) -> Document:
    """With pypdf; with pdfium where it fails, and where that understands more."""

    def with_pdfium() -> Document | None:
        if not by_pdfium.installed():
            return None
        return by_pdfium.read(path, max_pages=max_pages, max_chars=max_chars, progress=progress)

    try:
        reading = by_pypdf.read(path, max_pages=max_pages, max_chars=max_chars, progress=progress)
    except JobError as error:
        if error.code != "corrupt_pdf":
            raise
        recovered = with_pdfium()
        if recovered is None or _text_in(recovered) < LEAST_TEXT:
            raise
        return recovered
    if not _doubtful(reading):
        return reading.document
    try:
        other = with_pdfium()
    except JobError:  # it sees more than the limits allow, where pypdf does not
        other = None
    sure = max(0, _understood(reading.document) - reading.guessed)
    return other if other and _understood(other) > 1.1 * sure else reading.document


def _text_in(document: Document) -> int:
    """Letters and digits."""
    return sum(char.isalnum() for page in document.pages for char in page.text)


def _doubtful(reading: Reading) -> bool:
    """Glyphs have no meaning, or a guessed one; or words ran together, since the file's widths are not true."""
    if reading.mute + reading.guessed > DOUBTFUL * reading.glyphs:
        return True
    letters = sum(map(len, _words(reading.document)))
    return letters - _understood(reading.document) > DOUBTFUL * letters


def _understood(document: Document) -> int:
    """Letters that stand in words of a word's length, or in a script without spaces."""
    return sum(len(word) for word in _words(document) if len(word) <= LONGEST_WORD or _UNSPACED.search(word))


def _words(document: Document) -> Iterator[str]:
    return (word for page in document.pages for word in _LETTERS.findall(page.text))


def _check_file(path: Path, max_bytes: int) -> None:
    """Refuse what can be refused without parsing it."""
    try:
        if not path.is_file():
            if path.exists():
                raise JobError("unreadable_file", f"reading {path}: it is not a regular file. Give the path of a PDF.")
            raise JobError("no_such_file", f"reading {path}: there is no such file. Check the path.")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER_WITHIN + 8)
    except OSError as error:
        raise JobError(
            "unreadable_file",
            f"reading {path}: {error.strerror or error}. Make it readable for the user whom the daemon runs as.",
        ) from error
    if size > max_bytes:
        raise JobError(
            "too_large",
            f"reading {path.name}: it has {size:,} bytes, the limit is {max_bytes:,} (max_bytes). "
            "Give a smaller PDF or raise the limit.",
        )
    if b"%PDF-" not in head:
        what = "it is empty (0 bytes)" if not size else f"its {size:,} bytes are {_kind(head)}"
        raise JobError("not_a_pdf", f"reading {path.name}: {what}, not a PDF. Give a PDF file.")


def _kind(head: bytes) -> str:
    start = head.lstrip()[:15].lower()
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "an image"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive (a .docx or .odt file, perhaps)"
    return "of another kind"
