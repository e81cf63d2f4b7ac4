"""A PDF read with pypdf, which parses files and fonts; the text is our own (content.py)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from pypdf import PdfReader, apply_configuration
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError
from pypdf.generic import ContentStream, DictionaryObject

from annul.errors import JobError
from annul.jobs.pdf.content import Canvas, references
from annul.jobs.pdf.document import Document, Link, Page
from annul.jobs.pdf.failures import corrupt, encrypted, too_many_pages, too_much_text
from annul.jobs.pdf.fonts import Typeface, clean
from annul.jobs.pdf.runs import TooMuchText
from annul.jobs.pdf.turn import lay_out

STREAM_BYTES = 30_000_000  # of one stream once decompressed; the largest page of real CVs is below 2 MB


class Reading(msgspec.Struct, frozen=True):
    """What was read, and how well its glyphs were understood."""

    document: Document
    glyphs: int  # shown, but for those of icon fonts
    mute: int  # of these, without a meaning that could be found
    guessed: int  # of these, with one that is a guess


def read(path: Path, *, max_pages: int, max_chars: int, progress: Callable[[float, str], None]) -> Reading:
    """Read a PDF; its text may be empty. Raises MemoryError and JobError: all codes but those of the file itself."""
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
    except (JobError, MemoryError):
        raise
    except FileNotDecryptedError as error:
        raise encrypted(path, str(error)) from error
    except DependencyError as error:
        raise encrypted(path, f"with a method that needs another Python package: {error}") from error
    except LimitReachedError as error:
        raise JobError(
            "too_large",
            f"reading {path.name}: a part of it grows beyond {STREAM_BYTES:,} bytes or the reader's other limits "
            f"when unpacked ({error}). Print it to a new PDF and import that.",
        ) from error
    except RecursionError as error:
        raise corrupt(path, "its structure is nested deeper than can be read") from error
    except Exception as error:
        raise corrupt(path, f"{type(error).__name__}: {error}") from error


def _read(
    pdf: PdfReader, path: Path, *, max_pages: int, max_chars: int, progress: Callable[[float, str], None]
) -> Reading:
    if pdf.is_encrypted and not pdf.decrypt(""):
        raise encrypted(path, "a password is needed to open it")
    count = len(pdf.pages)
    if count > max_pages:
        raise too_many_pages(path, count, max_pages)
    faces: dict[Any, Typeface] = {}
    pages: list[Page] = []
    links: list[Link] = []
    characters = glyphs = mute = guessed = 0
    for number, source in enumerate(pdf.pages, 1):
        progress((number - 1) / count, f"reading page {number} of {count}")
        try:
            page, own, canvas = _page(pdf, source, number, faces, max_chars - characters)
        except TooMuchText as error:
            raise too_much_text(path, characters + error.characters, max_chars, number, count) from error
        characters += sum(len(item.text) for item in page.items)
        glyphs += canvas.glyphs
        mute += canvas.mute
        guessed += canvas.guessed
        pages.append(page)
        links += own
    document = Document(pages=pages, reader="pypdf", links=links, meta=_meta(pdf))
    return Reading(document=document, glyphs=glyphs, mute=mute, guessed=guessed)


def _page(
    pdf: PdfReader, source: Any, number: int, faces: dict[Any, Typeface], room: int
) -> tuple[Page, list[Link], Canvas]:
    box = _box(source)
    canvas = Canvas(pdf, faces, room)
    contents = source.get("/Contents")
    resources = source.get("/Resources")
    resources = resources.get_object() if resources is not None else None
    if contents is not None and (contents := contents.get_object()) is not None:
        fonts = resources if isinstance(resources, DictionaryObject) else DictionaryObject()
        canvas.draw(ContentStream(contents, pdf, "bytes"), fonts)
    links = [
        Link(page=number, uri=uri, x0=x0 - box[0], y0=y0 - box[1], x1=x1 - box[0], y1=y1 - box[1])
        for uri, (x0, y0, x1, y1) in references(source)
    ]
    return lay_out(canvas.finish(), number, box), links, canvas


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
