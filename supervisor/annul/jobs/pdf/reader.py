"""A PDF file to a `Document`, with pypdf, within limits.

Every failure is a `JobError` with a stable code: ``no_such_file``, ``unreadable_file``, ``not_a_pdf``,
``corrupt_pdf``, ``encrypted_pdf``, ``no_text``, ``too_large``, ``too_many_pages``, ``too_much_text``,
``out_of_memory``. `Cancelled` is a BaseException and passes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pypdf import PdfReader, apply_configuration
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError
from pypdf.generic import ContentStream, DictionaryObject

from annul.errors import JobError
from annul.jobs.pdf.columns import arrange
from annul.jobs.pdf.content import Canvas, TooMuchText, references
from annul.jobs.pdf.document import Document, Link, Page
from annul.jobs.pdf.fonts import Typeface, clean
from annul.jobs.pdf.turn import upright

HEADER_WITHIN = 1024  # bytes; where readers look for %PDF-
STREAM_BYTES = 30_000_000  # of one stream once decompressed; the largest page of real CVs is below 2 MB
LEAST_TEXT = 12  # letters and digits; fewer are stray marks beside pictures


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
    # pypdf logs each oddity of a damaged file, megabytes for some: what matters is raised.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        with (
            path.open("rb") as file,
            apply_configuration(
                zlib_maximum_output_length=STREAM_BYTES,
                lzw_maximum_output_length=STREAM_BYTES,
                run_length_maximum_output_length=STREAM_BYTES,
                array_based_stream_maximum_output_length=STREAM_BYTES,
                stream_decoding_work_maximum_length=2 * STREAM_BYTES,
                stream_parsing_work_maximum_count=1_500_000,
                disable_legacy_handling=True,
            ),
        ):
            return _read(PdfReader(file), path, max_pages=max_pages, max_chars=max_chars, progress=progress)
    except JobError:
        raise
    except MemoryError as error:
        raise JobError(
            "out_of_memory",
            f"reading {path.name} took more memory than a job may have. Print it to a new PDF and import that.",
        ) from error
    except FileNotDecryptedError as error:
        raise _encrypted(path, str(error)) from error
    except DependencyError as error:
        raise _encrypted(path, f"with a method that needs another Python package: {error}") from error
    except LimitReachedError as error:
        raise JobError(
            "too_large",
            f"reading {path.name}: a part of it grows beyond {STREAM_BYTES:,} bytes or the reader's other limits "
            f"when unpacked ({error}). Print it to a new PDF and import that.",
        ) from error
    except RecursionError as error:
        raise _corrupt(path, "its structure is nested deeper than can be read") from error
    except Exception as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


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


def _corrupt(path: Path, why: str) -> JobError:
    return JobError(
        "corrupt_pdf",
        f"reading {path.name}: it is damaged and cannot be read ({why[:300]}). "
        "Open it in a viewer, print it to a new PDF and import that.",
    )


def _encrypted(path: Path, why: str) -> JobError:
    return JobError(
        "encrypted_pdf",
        f"reading {path.name}: it is encrypted ({why[:200]}). Save a copy without a password and import that.",
    )


def _read(
    pdf: PdfReader, path: Path, *, max_pages: int, max_chars: int, progress: Callable[[float, str], None]
) -> Document:
    if pdf.is_encrypted and not pdf.decrypt(""):
        raise _encrypted(path, "a password is needed to open it")
    count = len(pdf.pages)
    if count > max_pages:
        raise JobError(
            "too_many_pages",
            f"reading {path.name}: it has {count:,} pages, the limit is {max_pages:,} (max_pages). "
            "Give only the pages of the CV or raise the limit.",
        )
    faces: dict[Any, Typeface] = {}
    pages: list[Page] = []
    links: list[Link] = []
    characters = 0
    for number, source in enumerate(pdf.pages, 1):
        progress((number - 1) / count, f"reading page {number} of {count}")
        try:
            page, own = _page(pdf, source, number, faces, max_chars - characters)
        except TooMuchText as error:
            raise JobError(
                "too_much_text",
                f"reading {path.name}: it has at least {characters + error.characters:,} characters by page {number} "
                f"of {count}, the limit is {max_chars:,} (max_chars). Give only the pages of the CV or raise the "
                "limit.",
            ) from error
        characters += sum(len(item.text) for item in page.items)
        pages.append(page)
        links += own
    progress(1.0, f"read {count} pages")
    document = Document(pages=pages, reader="pypdf", links=links, meta=_meta(pdf))
    if sum(char.isalnum() for page in pages for char in page.text) < LEAST_TEXT:
        raise JobError(
            "no_text",
            f"reading {path.name}: there is no text layer on its {count} pages ({characters} characters found); it "
            "is blank or made of images. Run text recognition (OCR) on it, or export the CV as a PDF again.",
        )
    return document


def _page(pdf: PdfReader, source: Any, number: int, faces: dict[Any, Typeface], room: int) -> tuple[Page, list[Link]]:
    left, bottom, width, height = _box(source)
    canvas = Canvas(pdf, faces, room)
    contents = source.get("/Contents")
    resources = source.get("/Resources")
    resources = resources.get_object() if resources is not None else None
    if contents is not None and (contents := contents.get_object()) is not None:
        fonts = resources if isinstance(resources, DictionaryObject) else DictionaryObject()
        canvas.draw(ContentStream(contents, pdf, "bytes"), fonts)
    items, width, height = upright(canvas.finish(), width, height)
    if left or bottom:
        items = [
            type(item)(
                text=item.text, x=item.x - left, y=item.y - bottom, width=item.width, size=item.size,
                font=item.font, bold=item.bold,
            )
            for item in items
        ]  # fmt: skip
    lines = arrange(items, number, width)
    text = "\n".join(line.text for line in lines)
    links = [
        Link(page=number, uri=uri, x0=x0 - left, y0=y0 - bottom, x1=x1 - left, y1=y1 - bottom)
        for uri, (x0, y0, x1, y1) in references(source)
    ]
    return Page(number=number, width=width, height=height, items=items, text=text), links


def _box(source: Any) -> tuple[float, float, float, float]:
    """The page's left, bottom, width and height; Letter where a damaged file does not say."""
    try:
        box = source.mediabox
        return float(box.left), float(box.bottom), float(box.width), float(box.height)
    except (ValueError, TypeError, AttributeError, KeyError):
        return 0.0, 0.0, 612.0, 792.0


def _meta(pdf: PdfReader) -> dict[str, str]:
    """The Info dictionary. Nothing in it is needed, so a damaged one is as good as none."""
    try:
        info = pdf.metadata
        return {str(key).lstrip("/"): clean(str(value))[:1000] for key, value in (info or {}).items()}
    except Exception:  # noqa: BLE001
        return {}
