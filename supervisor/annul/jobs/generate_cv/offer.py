"""The offer: from text, a file or a URL to plain text, within limits.

A file is told by its content, since its bytes may have come without a name: PDF, HTML, or text (Markdown too).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from annul.errors import JobError
from annul.jobs.generate_cv import MAX_CHARS

MAX_BYTES = 10_000_000
MAX_PAGES = 50
_LEAST = 20  # letters and digits; fewer are no offer
_META = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{1,40})", re.IGNORECASE | re.ASCII)
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|div|p|h1|h2|ul|script|meta|section|article|main)\b", re.IGNORECASE
)

# Encodings that texts come in; Python knows others, some of which take hours for a page.
_CHARSET = re.compile(r"utf-?(?:8|16)|iso-8859-\d{1,2}|latin-?1|(?:windows|cp)-?125\d|us-ascii", re.IGNORECASE)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A job offer."""

    text: str  # plain, in lines
    source: str  # "text", "file", or the address it came from in the end
    kind: str  # "text", "html" or "pdf"
    title: str = ""  # where the source has one apart from the text
    company: str = ""


def from_text(text: str) -> Offer:
    """The offer in a parameter. Raises JobError ``empty_offer``, ``offer_too_long``."""
    return _checked(Offer(text=_plain(text), source="text", kind="text"))


def from_file(path: Path, progress: Callable[[float, str], None]) -> Offer:
    """The offer in a file. Raises JobError ``no_such_file``, ``unreadable_file``, and what `from_bytes` raises."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise JobError("unreadable_file", f"the offer: {path} is not a regular file. Give a file.")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise JobError("no_such_file", f"the offer: there is no file {path}. Check the path.") from None
    except OSError as error:
        raise JobError("unreadable_file", f"reading the offer {path}: {error.strerror or error}") from error
    return from_bytes(data, path, source="file", progress=progress)


def from_url(url: str, workdir: Path, progress: Callable[[float, str], None]) -> Offer:
    """The offer at a URL. Raises JobError: what `fetch.fetch` and `from_bytes` raise."""
    from annul.jobs.generate_cv.fetch import fetch

    got = fetch(url, progress=lambda fraction, stage: progress(0.8 * fraction, stage))
    kind = "pdf" if got.kind == "application/pdf" else "html" if "html" in got.kind else ""
    path = workdir / "offer"
    return from_bytes(got.data, path, source=got.url, progress=progress, kind=kind, charset=got.charset)


def from_bytes(
    data: bytes,
    path: Path,
    *,
    source: str,
    progress: Callable[[float, str], None],
    kind: str = "",
    charset: str = "",
) -> Offer:
    """The offer in `data`. `path`: where it lies, or, if nothing is there, where a PDF may be put to be read.

    Raises JobError ``offer_too_large``, ``offer_too_long``, ``empty_offer``, ``not_an_offer``, and for PDFs the codes
    of `annul.jobs.pdf.reader`.
    """
    if len(data) > MAX_BYTES:
        raise JobError(
            "offer_too_large", f"the offer has more than {MAX_BYTES:,} bytes, the limit. Give its text alone."
        )
    if b"%PDF-" in data[:1024]:
        return _checked(Offer(text=_pdf(data, path, progress), source=source, kind="pdf"))
    if kind == "pdf":
        raise JobError("not_an_offer", "reading the offer: it is called a PDF, and is none. Give its text instead.")
    charset = charset if _CHARSET.fullmatch(charset) else ""
    looks = path.suffix.lower() in (".html", ".htm", ".xhtml") or _HTML.search(data[:4096])
    if kind == "html" or (looks and path.suffix.lower() not in (".md", ".markdown", ".txt")):
        from annul.jobs.generate_cv.page import read_page

        posting = read_page(_decode(data, charset or _declared(data)))
        return _checked(
            Offer(text=posting.text, source=source, kind="html", title=posting.title, company=posting.company)
        )
    return _checked(Offer(text=_plain(_decode(data, charset)), source=source, kind="text"))


def _declared(data: bytes) -> str:
    found = _META.search(data[:4096])
    name = found[1].decode() if found else ""
    return name if _CHARSET.fullmatch(name) else ""


def _decode(data: bytes, charset: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise JobError("not_an_offer", "reading the offer: it is neither text, HTML nor PDF. Give one of these.")
    for name in (charset, "utf-8-sig"):
        try:
            return data.decode(name or "utf-8-sig")
        except (LookupError, ValueError):
            continue
    return data.decode("cp1252", errors="replace")


def _plain(text: str) -> str:
    """Text without the marks of Markdown and without controls, in lines."""
    text = re.sub(r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"(\*\*|__|`)(?=\S)(.*?)(?<=\S)\1", r"\2", text)
    lines = ("".join(c for c in line if c.isprintable() or c == "\t").rstrip() for line in text.split("\n"))
    return "\n".join(re.sub(r"^\s*(?:[*+•·▪–]|-)\s+", "- ", line) for line in lines).strip()


def _pdf(data: bytes, path: Path, progress: Callable[[float, str], None]) -> str:
    from annul.jobs.pdf.reader import read

    if not path.exists():
        path.write_bytes(data)  # in the job's own work directory, which goes with it

    def reading(fraction: float, _stage: str) -> None:
        progress(fraction, "reading the offer")

    try:
        document = read(path, max_pages=MAX_PAGES, max_bytes=MAX_BYTES, max_chars=MAX_CHARS, progress=reading)
    except JobError as error:
        # The reader's advice is about CVs.
        advice = {
            "too_many_pages": f"it has more than {MAX_PAGES} pages, the limit",
            "too_much_text": f"it has more than {MAX_CHARS:,} characters, the limit",
            "no_text": "it has no text layer; it may be made of images",
        }.get(error.code)
        said = f"{advice}. Give its text instead." if advice else error.message
        raise JobError(error.code, f"reading the offer (PDF): {said}") from error
    return "\n".join(page.text for page in document.pages)


def _checked(offer: Offer) -> Offer:
    if len(offer.text) > MAX_CHARS:
        raise JobError(
            "offer_too_long",
            f"the offer has {len(offer.text):,} characters, the limit is {MAX_CHARS:,}. Give the offer alone.",
        )
    if sum(c.isalnum() for c in offer.text) < _LEAST:
        raise JobError(
            "empty_offer",
            "the offer has hardly any text. Where a page shows its text by scripts only, give the text itself (offer).",
        )
    return offer
