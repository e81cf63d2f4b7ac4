"""What a model answers: a type and a strict JSON schema from the JSON Resume Structs; and the way back.

The answer differs from a `Resume` in three things: long texts are references to lines of the document
(`Copied`; of a scan, which has no lines, words: `Written`), dates are plain strings, and it says whether
it is a CV and which lines no field took. The schema that is sent is made of the type that the answer is
checked against, so they cannot differ.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from annul.jobs.import_pdf.openai_prompt import NumberedText, clean, fold
from annul.jobs.resume import Basics, Date, Meta, Part, Resume

# Not to be had from text, or ours to write.
_NOT_ASKED = frozenset({"schema", "meta", "image"})
# Texts of more than a line, by field name wherever they stand.
_LONG = frozenset({"summary", "description", "reference", "highlights"})
# Fields that should stand in the document letter for letter; others are rightly reworded (codes, levels).
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
        "label",
        "keywords",
        "courses",
        "language",
    }
)
_MAX_NOTES = 40
_FROM_SPEECH = "stands where the document speaks to programs"
_SCHEME = re.compile(r"^(?:https?://)?(?:www\.)?", re.IGNORECASE)

_DATE = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?(?:T.*)?")
_YEAR = re.compile(r"(?<!\d)(?:\d{4}|\d\d)(?!\d)")  # in a document: 2021, or '21
_NO_DATE = frozenset({"", "present", "current", "now", "today", "ongoing", "null", "none", "n/a"})

Kind = Literal["long", "longs", "date", "string", "strings", "part", "parts"]
P = TypeVar("P", bound=Part)


class Written(msgspec.Struct):
    """A long text: its words."""

    text: str = ""


class Copied(msgspec.Struct):
    """A long text: lines of the document to copy, or, where `first` is 0, words."""

    first: int = msgspec.field(default=0, name="from")  # from 1
    last: int = msgspec.field(default=0, name="to")  # included
    text: str = ""


def answer_type(long: type[Copied | Written] = Copied) -> type[msgspec.Struct]:
    """The type of a model's answer, with long texts of type `long`. Only `basics` is required.

    The schema requires everything, but servers without grammars leave out what is empty. Without `basics` an
    answer is about something else.
    """
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = [("is_cv", bool, True)]
    for name, kind, default in _answer_fields(Resume, long):
        members.append((name, kind) if name == "basics" else (name, kind, default))
    members.append(("unplaced", list[long], []))  # type: ignore[valid-type]
    return msgspec.defstruct("Answer", members, rename="camel", kw_only=True)


def to_resume(answer: msgspec.Struct, text: NumberedText | None) -> tuple[Resume, list[str]]:
    """The CV that `answer` describes, its copied texts taken from `text`; and what a person should check.

    None: a scan's, whose texts are `Written` and stand nowhere to check them against.

    Never fails on a value: what cannot be used (a date that is none, lines that do not exist) is left out and
    noted.
    """
    reader = _Reader(text)
    resume = reader.part(Resume, answer, "")
    if not getattr(answer, "is_cv", True):
        reader.notes.insert(0, "The model says that this is not a CV.")
    unplaced = reader.unplaced(getattr(answer, "unplaced", []))
    if unplaced:
        resume.meta = Meta(annul={"unplaced": unplaced})
    notes = reader.notes
    if len(notes) > _MAX_NOTES:
        notes = [*notes[:_MAX_NOTES], f"{len(notes) - _MAX_NOTES} more of this kind."]
    return resume, notes


class _Reader:
    """Reads one answer; owns the notes that come up meanwhile."""

    def __init__(self, text: NumberedText | None) -> None:
        self.text = text
        self.folded = fold("".join(text.lines)) if text else ""
        self.to_programs = text.to_programs() if text else frozenset()
        # What stands in a speech to programs only is no evidence that the CV says it.
        lines = enumerate(text.lines, 1) if text else ()
        evidence = [line for number, line in lines if number not in self.to_programs]
        self.evidence = fold("".join(evidence))
        # Python's numbers are of any script: "٢٠٢١" is 2021.
        self.numbers = {int(number) for line in evidence for number in _YEAR.findall(line)}
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
                values[member.name] = self.string(value, here)
            elif kind == "strings":
                items = [self.string(raw, here) for raw in value]
                values[member.name] = [item for item in items if item]
            elif kind == "parts":
                read = [self.part(inner, item, f"{here}[{i}]") for i, item in enumerate(value)]
                values[member.name] = [item for item in read if item != inner()]
            else:
                read_one = self.part(inner, value, here)
                # Basics is always there, an empty Location is none.
                values[member.name] = read_one if inner is Basics or read_one != inner() else None
        return part(**values)

    def string(self, value: str, path: str) -> str:
        value = clean(value)
        field = path.rpartition(".")[2]
        if field == "url":
            self.check(_SCHEME.sub("", value), path, "does not stand in the document")
        elif field in _VERBATIM:
            self.check(value, path, "does not stand in the document like that")
        return value

    def check(self, value: str, path: str, problem: str) -> None:
        """Note what does not stand in the text: a model may invent, or be told to by the document."""
        folded = fold(value)
        if self.text is None or folded in self.evidence:
            return
        if folded in self.folded:
            problem = _FROM_SPEECH
        self.notes.append(f"{path} {problem}: “{value[:80]}”.")

    def copied(self, references: list[Copied] | list[Written], path: str) -> list[str]:
        texts = []
        for reference in references:
            if isinstance(reference, Written) or self.text is None:
                written = clean(reference.text)
            elif self.text.has(reference.first, reference.last):
                written = self.text.copy(reference.first, reference.last)
                if not self.to_programs.isdisjoint(range(reference.first, reference.last + 1)):
                    self.notes.append(f"{path} {_FROM_SPEECH}: “{written[:80]}”.")
            else:
                written = clean(reference.text)
                if reference.first or reference.last:
                    self.notes.append(
                        f"{path} names the lines {reference.first} to {reference.last}, which do not exist."
                    )
                self.check(written, path, "was written anew, not copied")
            if written:
                texts.append(written)
        return texts

    def unplaced(self, references: list[Copied] | list[Written]) -> list[str]:
        lines: list[str] = []
        for reference in references:
            if isinstance(reference, Copied) and self.text and self.text.has(reference.first, reference.last):
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
        if self.text is not None and not {year, year % 100} & self.numbers:
            self.notes.append(f"{path} “{value[:40]}”: the year {year} does not stand in the document.")
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


def _answer_fields(part: type[Part], long: type[Copied | Written]) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for member in _asked(part):
        kind, inner = _kind(member)
        if kind in ("long", "longs"):
            found.append((member.name, list[long], []))  # type: ignore[valid-type]
        elif kind == "strings":
            found.append((member.name, list[str], []))
        elif kind == "parts":
            item: Any = msgspec.defstruct(inner.__name__, _answer_fields(inner, long), rename="camel", kw_only=True)
            found.append((member.name, list[item], []))
        elif kind == "part":
            one = msgspec.defstruct(inner.__name__, _answer_fields(inner, long), rename="camel", kw_only=True)
            found.append((member.name, one, msgspec.field(default_factory=one)))
        else:
            found.append((member.name, str, ""))
    return found
