"""A view and a template to a PDF, with typst."""

from __future__ import annotations

import io
import os
import re
import tempfile
import unicodedata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from pypdf import PdfReader

from annul.errors import JobError
from annul.jobs.cv_pdf.view import View

PAPER = {"a4": "a4", "letter": "us-letter"}  # as typst names them
# The standard of accessible PDF: tags, title, language; and no character without a glyph.
STANDARD: Final = "ua-1"
_MISSING = re.compile(r'error: PDF/UA-1 error: the text `"(.+?)"` could not be displayed')
_BREAKABLE = "?\u200b"  # scripts without spaces would be one long word
_SYMBOLS = ("So", "Sk", "Sm", "Cf", "Mn", "Me")  # Unicode's categories: emoji, and the marks that combine them
_ESCAPE = re.compile(r"\\u\{([0-9a-f]+)\}")


def compile_pdf(view: View, *, template: str, paper: str) -> tuple[bytes, int, tuple[str, ...]]:
    """The PDF, its number of pages, and notes for a person. Raises JobError ``no_renderer``, ``render_failed``.

    Fonts: typst's own and the package's; the machine's only where these lack a character. One that no font has would
    be a box, and U+0000 to who copies it: it is printed as "?", symbols are left out, and a note says so.
    """
    # Read by typst's thread pool when it starts: a CV is no work for two, and each thread takes memory.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    try:
        import typst
    except ImportError as error:
        raise JobError(
            "no_renderer",
            f"rendering a CV as PDF needs the package typst ({error}). Install it: pip install 'annul[pdf]'.",
        ) from error
    source = "".join(files(__package__).joinpath(f"{name}.typ").read_text("utf-8") for name in ("common", template))
    data = msgspec.json.encode({**msgspec.structs.asdict(view), "paper": PAPER[paper]}).decode()

    # A root that holds nothing: there is no file that a template, or what got into it, could read.
    with tempfile.TemporaryDirectory(prefix="annul-typst-") as root:

        def attempt(data: str, *, system: bool) -> bytes | str:
            """The PDF; what was wrong with it where it cannot be."""
            fonts = typst.Fonts(include_system_fonts=system, font_paths=_font_folders())
            try:
                compiler = typst.Compiler(
                    source.encode(),
                    root=root,
                    font_paths=fonts,
                    package_path=root,
                    package_cache_path=root,
                    sys_inputs={"cv": data},
                )
                made: Any = compiler.compile(pdf_standards=[STANDARD])
            except typst.TypstError as error:
                return f"{error.message}\n{error.diagnostic}"
            return bytes(made)

        notes: tuple[str, ...] = ()
        result = attempt(data, system=False)
        if isinstance(result, str) and _MISSING.search(result):
            result = attempt(data, system=True)
        if isinstance(result, str) and (missing := _missing(result)):
            notes = _notes(missing)
            result = attempt(data.translate({ord(char): stand_in for char, stand_in in missing.items()}), system=True)
    if isinstance(result, str):
        raise JobError("render_failed", f"rendering a CV as PDF: typst could not: {result.strip()[:500]}")
    return result, len(PdfReader(io.BytesIO(result)).pages), notes


def _font_folders() -> list[Path]:
    """The sans-serif that typst does not come with. Without it both templates have serifs."""
    spec = find_spec("font_source_sans_pro")
    return [Path(place) / "files" for place in spec.submodule_search_locations or []] if spec else []


def _missing(errors: str) -> dict[str, str]:
    """The characters that no font has, in the order of the page, and what is printed instead."""
    texts = (_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) for text in _MISSING.findall(errors))
    return {char: "" if unicodedata.category(char) in _SYMBOLS else _BREAKABLE for text in texts for char in text}


def _notes(missing: dict[str, str]) -> tuple[str, ...]:
    # Joiners and variation selectors are no loss of their own.
    chars = [char for char in missing if unicodedata.category(char) not in ("Cf", "Mn")]
    if not chars:
        return ()
    shown = " ".join(chars[:20]) + (" …" if len(chars) > 20 else "")
    note = (
        f'No font on this machine has {shown}: the PDF has "?" in their place, and leaves out symbols. Install fonts '
        "that have them (fonts-noto-cjk, fonts-noto-core, fonts-noto-color-emoji, say) and render again."
    )
    return (note,)
