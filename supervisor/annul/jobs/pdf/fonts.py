"""What a PDF font's codes mean: text, widths, weight.

pypdf's `Font` (in `pypdf.generic._font`, there since 7.0) reads encodings, ToUnicode maps and widths.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec
from pypdf._cmap import _predefined_cmap
from pypdf._codecs.adobe_glyphs import adobe_glyphs
from pypdf.generic import DictionaryObject, NameObject
from pypdf.generic._font import Font

BOLD = re.compile(r"bold|black|heavy|demi|medi(?!um)|cmbx|sfbx|ecbx|cmssbx|\bbx\d|-bd\b|extrabd|,b\b", re.IGNORECASE)
ICONS = re.compile(r"awesome|icon|marvosym|wingding|webding|material|glyphicon|academicons|simpleicons", re.IGNORECASE)
# Runs that stand for their letters: ligatures and Arabic forms, fullwidth letters. The rest of NFKC changes what
# people wrote (TM for ™, 2 for ²).
COMPATIBLE = re.compile("[\ufb00-\ufdff\ufe70-\ufeff\uff01-\uff5e\u2126\u212b\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3]")
# Control characters, lone surrogates, non-characters, private use (icons), invisible marks of direction and width.
DROPPED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff"
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffc\ufffe\uffff\U000f0000-\U0010ffff]"
)
SPACES = re.compile("[\t\r\n\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
GLYPH_NAME = re.compile(r"/[A-Za-z][\w]*(?:\.\w+)*")
LIGATURES = {"ff", "fi", "fl", "ffi", "ffl", "ft", "fft", "tt", "ti", "tti", "Th", "fj", "ffj"}
# Spacing accents that TeX draws over (or under) the letter, as combining ones.
ACCENTS = {
    "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "^": "\u0302", "¨": "\u0308", "¸": "\u0327", "˜": "\u0303",
    "~": "\u0303", "ˇ": "\u030c", "˚": "\u030a", "¯": "\u0304", "˘": "\u0306", "˝": "\u030b", "˙": "\u0307",
    "˛": "\u0328",
}  # fmt: skip


class Glyph(msgspec.Struct, frozen=True, gc=False):
    """What one code of a font draws."""

    code: str  # " " where word spacing applies
    text: str  # "" where it means nothing
    width: float  # ems


class Typeface(msgspec.Struct):
    """A font of the file, ready to be read with."""

    name: str
    bold: bool
    icons: bool  # a font of pictures: its letters are not text
    font: Font | None  # None where the file does not define it
    scale: float  # ems per unit of width
    space: float  # ems; the width of a space, or about
    guessed: bool = False  # the file does not tell, in a way that is understood, what its codes mean
    known: dict[str, Glyph] = {}  # by raw character, filled as they come

    def glyphs(self, data: bytes) -> list[Glyph]:
        """The glyphs of a string of codes."""
        if self.font is None:
            return [Glyph(" " if byte == 32 else "", chr(byte), 0.5) for byte in data if 32 <= byte < 127]
        encoding = self.font.encoding
        simple = not isinstance(encoding, str)
        if isinstance(encoding, str):
            try:
                raw = data.decode(encoding, "surrogatepass")
            except (UnicodeDecodeError, LookupError):
                raw = data.decode("latin-1")
        else:
            raw = data.decode("latin-1")
        found = []
        for char in raw:
            glyph = self.known.get(char)
            if glyph is None:
                glyph = self.known[char] = self._glyph(char, simple)
            found.append(glyph)
        return found

    def _glyph(self, raw: str, simple: bool) -> Glyph:
        font = self.font
        assert font is not None
        middle = font.encoding.get(ord(raw), raw) if isinstance(font.encoding, dict) else raw
        text = clean(str(font.character_map.get(middle, middle)))
        width = font.character_widths.get(raw)
        if width is None:
            width = font.space_width if raw == font.space_char else font.character_widths.get("default", 500)
        try:
            ems = float(width) * self.scale
        except (TypeError, ValueError):
            ems = 0.5
        return Glyph(" " if simple and raw == " " else "", text, ems if 0 <= ems < 20 else 0.5)


def read(resource: DictionaryObject) -> Typeface:
    """The typeface of a font resource; a stand-in where the file does not define it.

    Raises pypdf's errors for a map or a table of widths beyond its limits.
    """
    if not resource:
        return Typeface("", False, False, None, 0.001, 0.25)
    try:
        font = Font.from_font_resource(resource)
    except (AttributeError, TypeError, KeyError, ValueError):  # a damaged resource: plain codes are the best guess
        return Typeface("", False, False, None, 0.001, 0.25)
    name = font.name.partition("+")[2] or font.name
    scale = 0.001
    if font.sub_type == "Type3":
        matrix: Any = resource.get("/FontMatrix")
        try:
            scale = abs(float(matrix[0])) or 0.001
        except (TypeError, ValueError, IndexError):
            pass  # no usable matrix: the usual one
    space = float(font.space_width) * scale if isinstance(font.space_width, (int, float)) else 0.25
    space = space if 0.15 <= space <= 0.6 else 0.25
    weight = font.font_descriptor.weight if hasattr(font.font_descriptor, "weight") else 0
    heavy = isinstance(weight, (int, float)) and weight >= 600
    return Typeface(
        name, heavy or bool(BOLD.search(name)), bool(ICONS.search(name)), font, scale, space, _is_guess(resource, font)
    )


def _is_guess(resource: DictionaryObject, font: Font) -> bool:
    """pypdf takes codes for Unicode, for want of a map: of glyph numbers, of a predefined CMap that it has not."""
    encoding = resource.get("/Encoding")
    if not font.interpretable:
        return True
    if font.sub_type != "Type0" or "/ToUnicode" in resource or not isinstance(encoding, NameObject):
        return False
    return encoding.startswith("/Identity-") or not (encoding in _predefined_cmap or "-UCS2-" in encoding)


def tell_apart(face: Typeface, others: Iterable[Typeface]) -> None:
    """Give a face a name of its own, and find the bolder one, where others of the file have the same name.

    Browsers print a variable font as one font for each weight, all named "Name-Regular"; glyph numbers are kept, and
    the same glyphs are wider in the bolder one.
    """
    twins = [other for other in others if other is not face and other.name.partition("#")[0] == face.name]
    if not twins or not face.name or face.font is None:
        return
    face.name = f"{face.name}#{len(twins) + 1}"
    for twin in twins:
        if twin.font is None or twin.bold or face.bold:
            continue
        mine, theirs = face.font.character_widths, twin.font.character_widths
        shared = [key for key in mine if len(key) == 1 and theirs.get(key, 0) > 0 and mine[key] > 0]
        if len(shared) < 3:
            continue
        ratio = sum(float(mine[key]) / float(theirs[key]) for key in shared) / len(shared)
        if ratio > 1.015:
            face.bold = True
        elif ratio < 0.985:
            twin.bold = True


def clean(text: str) -> str:
    """Text that JSON, UTF-8 and people can take: ligatures whole, no controls, lone surrogates or icons."""
    if text.isascii() and text.isprintable() and not text.startswith("/"):
        return text
    if GLYPH_NAME.fullmatch(text):  # a glyph's name for want of its meaning
        # "/S.sc" is a small capital S, "/four.oldstyle" a 4, "/f_i" the letters f and i; others draw pictures.
        parts = text[1:].partition(".")[0].split("_")
        return "".join(adobe_glyphs.get("/" + part, part if part in LIGATURES else "") for part in parts)
    # LuaLaTeX maps the hyphen's glyph to the soft hyphen.
    text = SPACES.sub(" ", text).replace("\xad", "-")
    text = DROPPED.sub("", text)
    if COMPATIBLE.search(text):
        text = COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", text)


def compose(first: str, second: str) -> str:
    """The accented letter of an accent and a letter drawn over each other, in either order; "" if they are not."""
    for accent, letter in ((first, second), (second, first)):
        if accent in ACCENTS and len(letter) == 1 and (letter.isalpha() or letter == "ı"):
            whole = unicodedata.normalize("NFC", ("i" if letter == "ı" else letter) + ACCENTS[accent])
            if len(whole) == 1:
                return whole
    return ""
