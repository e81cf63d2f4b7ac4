"""What a model answers: a type and a strict JSON schema from the JSON Resume Structs; and the way back.

The answer differs from a `Resume` in three things: long texts are references to lines of the document
(`Copied`), dates are plain strings, and it says whether the text is a CV and which lines no field took. The
schema that is sent is made of the type that the answer is checked against, so they cannot differ.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from annul.jobs.import_pdf.openai_prompt import NumberedText, clean, fold
from annul.jobs.resume import Basics, Date, Interest, Meta, Part, Resume, Skill

# Not to be had from text, or ours to write.
_NOT_ASKED = frozenset({"schema", "meta", "image"})
# Texts of more than a line, by field name wherever they stand.
_LONG = frozenset({"summary", "description", "reference", "highlights"})
# Fields that should stand in the document letter for letter; others are rightly reworded (URLs, codes).
_VERBATIM = frozenset(
    {
        "name",
        "email",
        "phone",
        "position",
        "institution",
        "organization",
        "title",
        "awarder",
        "issuer",
        "publisher",
    }
)
_MAX_NOTES = 40

_DATE = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?(?:T.*)?")
_NO_DATE = frozenset({"", "present", "current", "now", "today", "ongoing", "null", "none", "n/a"})

Kind = Literal["long", "longs", "date", "string", "strings", "part", "parts"]
P = TypeVar("P", bound=Part)


class Copied(msgspec.Struct):
    """A long text: lines of the document to copy, or, where `first` is 0, words."""

    first: int = msgspec.field(default=0, name="from")  # from 1
    last: int = msgspec.field(default=0, name="to")  # included
    text: str = ""


def answer_type() -> type[msgspec.Struct]:
    """The type of a model's answer. Only `basics` is required.

    The schema requires everything, but servers without grammars leave out what is empty. Without `basics` an
    answer is about something else.
    """
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = [("is_cv", bool, True)]
    for name, kind, default in _answer_fields(Resume):
        members.append((name, kind) if name == "basics" else (name, kind, default))
    members.append(("unplaced", list[Copied], []))
    return msgspec.defstruct("Answer", members, rename="camel", kw_only=True)


def to_resume(answer: msgspec.Struct, text: NumberedText) -> tuple[Resume, list[str]]:
    """The CV that `answer` describes, its copied texts taken from `text`; and what a person should check.

    Never fails on a value: what cannot be used (a date that is none, lines that do not exist) is left out and
    noted.
    """
    reader = _Reader(text)
    resume = reader.part(Resume, answer, "")
    if not getattr(answer, "is_cv", True):
        reader.notes.insert(0, "The model says that this text is not a CV.")
    unplaced = reader.unplaced(getattr(answer, "unplaced", []))
    if unplaced:
        resume.meta = Meta(annul={"unplaced": unplaced})
    notes = reader.notes
    if len(notes) > _MAX_NOTES:
        notes = [*notes[:_MAX_NOTES], f"{len(notes) - _MAX_NOTES} more of this kind."]
    return resume, notes


class _Reader:
    """Reads one answer; owns the notes that come up meanwhile."""

    def __init__(self, text: NumberedText) -> None:
        self.text = text
        self.folded = fold("".join(text.lines))
        self.notes: list[str] = []

    def part(self, part: type[P], answer: msgspec.Struct, path: str) -> P:
        values: dict[str, Any] = {}
        for member in _asked(part):
            value = getattr(answer, member.name)
            here = f"{path}.{member.encode_name}" if path else member.encode_name
            kind, inner = _kind(member)
            if kind == "long":
                values[member.name] = "\n".join(self.copied(value, here))
            elif kind == "longs":
                values[member.name] = self.copied(value, here)
            elif kind == "date":
                values[member.name] = self.date(value, here)
            elif kind == "string":
                values[member.name] = self.string(value, here, part)
            elif kind == "strings":
                values[member.name] = [item for raw in value if (item := clean(raw))]
            elif kind == "parts":
                read = [self.part(inner, item, f"{here}[{i}]") for i, item in enumerate(value)]
                values[member.name] = [item for item in read if item != inner()]
            else:
                read_one = self.part(inner, value, here)
                # Basics is always there, an empty Location is none.
                values[member.name] = read_one if inner is Basics or read_one != inner() else None
        return part(**values)

    def string(self, value: str, path: str, part: type[Part]) -> str:
        value = clean(value)
        if path.rpartition(".")[2] in _VERBATIM and part not in (Skill, Interest):
            folded = fold(value)
            if folded and folded not in self.folded:
                self.notes.append(f"{path} “{value[:80]}” does not stand in the document like that.")
        return value

    def copied(self, references: list[Copied], path: str) -> list[str]:
        texts = []
        for reference in references:
            if self.text.has(reference.first, reference.last):
                written = self.text.copy(reference.first, reference.last)
            else:
                written = clean(reference.text)
                if reference.first or reference.last:
                    self.notes.append(
                        f"{path} names the lines {reference.first} to {reference.last}, which do not exist."
                    )
                if fold(written) not in self.folded:
                    self.notes.append(f"{path} was written anew, not copied: “{written[:80]}”.")
            if written:
                texts.append(written)
        return texts

    def unplaced(self, references: list[Copied]) -> list[str]:
        lines: list[str] = []
        for reference in references:
            if self.text.has(reference.first, reference.last):
                lines += self.text.lines[reference.first - 1 : reference.last]
            elif written := clean(reference.text):
                lines.append(written)
        return lines

    def date(self, value: str, path: str) -> Date | None:
        """`value` as a JSON Resume date. Months and days of 0 mean that they are not known."""
        value = value.strip()
        if value.casefold() in _NO_DATE:
            return None
        match = _DATE.fullmatch(value)
        year, month, day = (int(group or 0) for group in match.groups()) if match else (0, 0, 0)
        if not (1000 <= year <= 2999 and month <= 12 and day <= 31):
            self.notes.append(f"{path} “{value[:40]}” is not a date and was left out.")
            return None
        if not month:
            return f"{year}"
        return f"{year}-{month:02}-{day:02}" if day else f"{year}-{month:02}"


def _asked(part: type[Part]) -> list[FieldInfo]:
    return [member for member in fields(part) if member.name not in _NOT_ASKED]


def _kind(member: FieldInfo) -> tuple[Kind, type[Part]]:
    """What a field of a resume is, and the Struct in it if there is one (else `Part`, which nobody uses)."""
    types = [t for t in get_args(member.type) if t is not type(None)] or [member.type]
    inner = types[0] if isinstance(types[0], type) and issubclass(types[0], Part) else Part
    is_list = get_origin(member.type) is list
    if inner is not Part:
        return ("parts" if is_list else "part"), inner
    if member.name in _LONG:
        return ("longs" if is_list else "long"), inner
    if is_list:
        return "strings", inner
    return ("date" if get_origin(types[0]) is Annotated else "string"), inner


def _answer_fields(part: type[Part]) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for member in _asked(part):
        kind, inner = _kind(member)
        if kind in ("long", "longs"):
            found.append((member.name, list[Copied], []))
        elif kind == "strings":
            found.append((member.name, list[str], []))
        elif kind == "parts":
            item: Any = msgspec.defstruct(inner.__name__, _answer_fields(inner), rename="camel", kw_only=True)
            found.append((member.name, list[item], []))
        elif kind == "part":
            one = msgspec.defstruct(inner.__name__, _answer_fields(inner), rename="camel", kw_only=True)
            found.append((member.name, one, msgspec.field(default_factory=one)))
        else:
            found.append((member.name, str, ""))
    return found
