"""Runs of text, with place and font, out of a page's content stream.

pypdf parses the file and the fonts; the text state machine (ISO 32000-1, 9.3 and 9.4) is our own, because pypdf's
`visitor_text` gives neither widths nor the end of a run: words without a space glyph between them (LuaLaTeX) run
together, and columns cannot be told from words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pypdf import PdfReader
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject, IndirectObject, NameObject

from annul.jobs.pdf.document import Item
from annul.jobs.pdf.fonts import Glyph, Typeface, clean, tell_apart
from annul.jobs.pdf.fonts import read as read_font
from annul.jobs.pdf.runs import WORD as WORD  # noqa: PLC0414 (where lines.py takes it from)
from annul.jobs.pdf.runs import Matrix, Runs

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)

FORM_DEPTH = 12
FORM_CALLS = 2_000


def multiply(a: Matrix, b: Matrix) -> Matrix:
    """The matrix that applies `a`, then `b`."""
    return (
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    )


def numbers(operands: list[Any], count: int) -> tuple[float, ...] | None:
    """The first `count` operands as finite floats; None where they are not that (a damaged stream)."""
    if len(operands) < count:
        return None
    try:
        values = tuple(float(value) for value in operands[:count])
    except (TypeError, ValueError):
        return None
    return values if all(math.isfinite(value) and abs(value) < 1e7 for value in values) else None


class _State:
    """The text state that `q` saves and `Q` restores."""

    __slots__ = ("char_space", "ctm", "face", "leading", "mode", "rise", "scale", "size", "word_space")

    def __init__(self) -> None:
        self.ctm = IDENTITY
        self.face: Typeface | None = None
        self.size = 0.0
        self.char_space = 0.0
        self.word_space = 0.0
        self.scale = 1.0
        self.leading = 0.0
        self.rise = 0.0
        self.mode = 0

    def copy(self) -> _State:
        new = _State.__new__(_State)
        for name in _State.__slots__:
            setattr(new, name, getattr(self, name))
        return new


class Canvas:
    """Reads one page's content into runs of text. Used once."""

    def __init__(self, pdf: PdfReader, faces: dict[Any, Typeface], room: int) -> None:
        self.glyphs = 0  # shown, but for those of icon fonts
        self.mute = 0  # of these, without a meaning that could be found
        self.guessed = 0  # of these, with one that is a guess
        self._pdf = pdf
        self._faces = faces
        self._runs = Runs(room)
        self._calls = 0
        self._state = _State()
        self._stack: list[_State] = []
        self._tm = self._line = IDENTITY
        self._marks: list[list[str] | None] = []  # ActualText of the open marked contents

    def draw(self, content: ContentStream, resources: DictionaryObject, depth: int = 0) -> None:
        """Run the operators of a content stream."""
        fonts = _dictionary(resources.get("/Font"))
        for name in list(fonts)[:200]:
            self._face(fonts, name)  # all of them first: weights are told by comparing them
        bottom = len(self._stack)
        for operands, operator in content.operations:
            if operator in (b"Tj", b"TJ", b"'", b'"'):
                self._show_operator(operator, operands)
            elif operator == b"q":
                if len(self._stack) < 1000:
                    self._stack.append(self._state.copy())
            elif operator == b"Q":
                if len(self._stack) > bottom:
                    self._state = self._stack.pop()
            elif operator == b"cm":
                if (m := numbers(operands, 6)) is not None:
                    self._state.ctm = multiply(m, self._state.ctm)  # type: ignore[arg-type]
            elif operator == b"Tf":
                self._select(fonts, operands)
            elif operator == b"Do":
                self._form(resources, operands, depth)
            elif operator in (b"BDC", b"BMC"):
                self._marks.append(self._actual_text(operands, resources) if len(self._marks) < 100 else None)
            elif operator == b"EMC":
                if self._marks:
                    self._marks.pop()
            else:
                self._text_operator(operator, operands)
        del self._stack[bottom:]

    def finish(self) -> list[tuple[Item, int, bool]]:
        """End the page and give its runs, with quadrant and "is hidden"."""
        return self._runs.finish()

    def _text_operator(self, operator: bytes, operands: list[Any]) -> None:
        state = self._state
        if operator == b"BT":
            self._tm = self._line = IDENTITY
        elif operator in (b"Td", b"TD"):
            if (m := numbers(operands, 2)) is not None:
                if operator == b"TD":
                    state.leading = -m[1]
                self._next(m[0], m[1])
        elif operator == b"Tm":
            if (m := numbers(operands, 6)) is not None:
                self._tm = self._line = m  # type: ignore[assignment]
        elif operator == b"T*":
            self._next(0.0, -state.leading)
        elif operator in (b"Tc", b"Tw", b"Tz", b"TL", b"Ts", b"Tr") and (m := numbers(operands, 1)) is not None:
            value = m[0]
            if operator == b"Tc":
                state.char_space = value
            elif operator == b"Tw":
                state.word_space = value
            elif operator == b"Tz":
                state.scale = value / 100
            elif operator == b"TL":
                state.leading = value
            elif operator == b"Ts":
                state.rise = value
            else:
                state.mode = int(value)

    def _next(self, x: float, y: float) -> None:
        self._tm = self._line = multiply((1.0, 0.0, 0.0, 1.0, x, y), self._line)

    def _select(self, fonts: DictionaryObject, operands: list[Any]) -> None:
        if len(operands) < 2 or (m := numbers(operands[1:], 1)) is None:
            return
        self._state.size = m[0]
        self._state.face = self._face(fonts, operands[0])

    def _face(self, fonts: DictionaryObject, name: Any) -> Typeface:
        raw = fonts.raw_get(name) if name in fonts else None
        key = (raw.idnum, raw.generation) if isinstance(raw, IndirectObject) else id(raw)
        if key not in self._faces:
            face = self._faces[key] = read_font(_dictionary(raw))
            tell_apart(face, self._faces.values())
        return self._faces[key]

    def _actual_text(self, operands: list[Any], resources: DictionaryObject) -> list[str] | None:
        if len(operands) < 2:
            return None
        properties: Any = operands[1]
        if isinstance(properties, NameObject):
            properties = _dictionary(resources.get("/Properties")).get(properties)
        value = _dictionary(properties).get("/ActualText")
        if isinstance(value, bytes):
            value = value.decode("utf-16-be" if value[:2] == b"\xfe\xff" else "latin-1", "replace").lstrip("\ufeff")
        # A short one is a ligature, an accent or a hyphen that the glyphs do not tell. A long one is said of an icon
        # and the words beside it, and is not what a person reads there.
        return [str(value)] if isinstance(value, str) and len(value) <= 4 else None

    def _form(self, resources: DictionaryObject, operands: list[Any], depth: int) -> None:
        self._calls += 1
        if depth >= FORM_DEPTH or self._calls > FORM_CALLS or not operands:
            return
        form = _dictionary(_dictionary(resources.get("/XObject")).get(operands[0]))
        if form.get("/Subtype") != "/Form":
            return
        saved, lines = self._state, (self._tm, self._line)
        self._state = saved.copy()
        matrix = numbers(list(form.get("/Matrix", ()) or ()), 6)
        if matrix is not None:
            self._state.ctm = multiply(matrix, self._state.ctm)  # type: ignore[arg-type]
        own = _dictionary(form.get("/Resources")) or resources
        self.draw(ContentStream(form, self._pdf, "bytes"), own, depth + 1)
        self._state = saved
        self._tm, self._line = lines

    def _show_operator(self, operator: bytes, operands: list[Any]) -> None:
        state = self._state
        if operator == b'"' and (m := numbers(operands, 2)) is not None:
            state.word_space, state.char_space = m
            operands = operands[2:]
        if operator in (b"'", b'"'):
            self._next(0.0, -state.leading)
        if not operands or state.face is None:
            return
        pieces = operands[0] if operator == b"TJ" and isinstance(operands[0], ArrayObject) else operands[:1]
        for piece in pieces:
            if isinstance(piece, bytes):
                self._show(piece, state.face)
            elif isinstance(piece, str) and not isinstance(piece, NameObject):
                self._show(getattr(piece, "original_bytes", piece.encode("latin-1", "replace")), state.face)
            elif isinstance(piece, (int, float)):
                self._advance(-float(piece) / 1000 * state.size * state.scale)

    def _advance(self, distance: float) -> None:
        if math.isfinite(distance) and abs(distance) < 1e7:
            self._tm = multiply((1.0, 0.0, 0.0, 1.0, distance, 0.0), self._tm)

    def _show(self, data: bytes, face: Typeface) -> None:
        state = self._state
        actual = next((mark for mark in reversed(self._marks) if mark is not None), None)
        for glyph in face.glyphs(data):
            self._place(glyph, face, actual)
            step = glyph.width * state.size + state.char_space + (state.word_space if glyph.code == " " else 0.0)
            self._advance(step * state.scale)

    def _place(self, glyph: Glyph, face: Typeface, actual: list[str] | None) -> None:
        """Add one glyph to the run, or begin another."""
        text = glyph.text
        if actual is not None:  # the whole replacement stands where its first glyph stands
            text = clean(actual.pop()) if actual else ""
        if face.icons:
            return
        self.glyphs += 1
        if not text:
            self.mute += 1
            return
        self.guessed += face.guessed and actual is None
        state = self._state
        full = multiply(self._tm, state.ctm)
        along = math.hypot(full[0], full[1])
        self._runs.add(
            text,
            face,
            at=(*full[:4], full[4] + state.rise * full[2], full[5] + state.rise * full[3]),
            size=state.size,
            width=glyph.width * abs(state.size) * abs(state.scale) * along,
            mode=state.mode,
            spacing=state.char_space * state.scale * along,
        )


def _dictionary(value: Any) -> DictionaryObject:
    """The dictionary meant, through a reference; an empty one where a damaged file has something else."""
    if isinstance(value, IndirectObject):
        value = value.get_object()
    return value if isinstance(value, DictionaryObject) else DictionaryObject()


def references(page: DictionaryObject) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The URIs that a page links to, with their rectangles in the page's own space."""
    annotations = page.get("/Annots")
    annotations = annotations.get_object() if annotations is not None else None
    if not isinstance(annotations, ArrayObject):
        return
    for raw in annotations[:500]:
        annotation = _dictionary(raw)
        uri = _dictionary(annotation.get("/A")).get("/URI")
        rect = annotation.get("/Rect")
        rect = rect.get_object() if rect is not None else None
        place = numbers(list(rect), 4) if isinstance(rect, ArrayObject) else None
        if isinstance(uri, bytes):
            uri = uri.decode("utf-8", "replace")
        if isinstance(uri, str) and uri and place is not None and len(uri) < 2000:
            yield clean(uri).strip(), place
