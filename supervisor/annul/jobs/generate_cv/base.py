"""The base CV: a JSON Resume file as they are found, or a CV that annul has published for this user.

Files of the wild are read leniently, and what is left out is said: null, keys that JSON Resume does not have, dates
that are none. Names of JSON Resume before 1.0 (``company``, ``website``, ``picture``) are understood. What has another
shape than JSON Resume's is an error that says where.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from annul.errors import JobError
from annul.jobs.resume import Part, Resume

MAX_BYTES = 1_000_000
_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,63}", re.ASCII)
_DATE = re.compile(r"([12]\d{3})(?:[-/.](0?[1-9]|1[0-2])(?:[-/.](0?[1-9]|[12]\d|3[01])(?:[T ]\d.*)?)?)?", re.ASCII)
_OPEN = frozenset({"", "present", "current", "now", "today", "ongoing", "aujourd'hui", "heute", "actualidad"})
_OLD_NAMES = {"company": "name", "website": "url", "picture": "image", "gpa": "score"}
_MAX_NOTES = 50
_LARGEST_LIST = 2000


class BaseCv(msgspec.Struct, frozen=True):
    """A base CV as it was read."""

    cv: Resume
    dropped: list[str]  # what was left out, one sentence each


def from_id(cv_id: str, published: Path) -> BaseCv:
    """The CV of a finished job, of which `published` gives the path if it is one of this user's.

    Raises JobError ``no_such_cv``, also for what is no id at all: another user's CV cannot be told from none.
    """
    try:
        if not is_id(cv_id):
            raise FileNotFoundError
        data = _read(published, follow=False)
    except FileNotFoundError:
        raise JobError(
            "no_such_cv",
            f"the base CV: you have no CV {cv_id[:64]!r}. Give the id of a finished import-pdf or generate-cv job of "
            "this user, or a JSON Resume file (cv).",
        ) from None
    return parse(data, f"the CV {cv_id}")


def is_id(text: str) -> bool:
    """Whether `text` may be the id of a job, and so part of a file's name."""
    return bool(_ID.fullmatch(text))


def from_file(path: Path) -> BaseCv:
    """The CV in a JSON Resume file. Raises JobError ``no_such_file``, ``unreadable_file``, ``cv_too_large``,
    ``invalid_cv``."""
    try:
        data = _read(path, follow=True)
    except FileNotFoundError:
        raise JobError(
            "no_such_file", f"the base CV: there is no file {path}. Give the path of a JSON Resume file."
        ) from None
    return parse(data, "the base CV")


def _read(path: Path, *, follow: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise JobError(
                    "unreadable_file", f"the base CV: {path} is not a regular file. Give a JSON Resume file."
                )
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise JobError("unreadable_file", f"reading the base CV {path}: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise JobError("cv_too_large", f"the base CV has more than {MAX_BYTES:,} bytes, the limit. Give a shorter one.")
    return data


def parse(data: bytes, what: str) -> BaseCv:
    """The CV in JSON `data`. `what`: it is called so in errors. Raises JobError ``invalid_cv``, which says where."""
    if data.startswith(b"%PDF-"):
        raise JobError("invalid_cv", f"reading {what}: it is a PDF. Import it first (import-pdf), then give that CV.")
    try:
        raw = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise JobError("invalid_cv", f"reading {what}: it is not JSON: {_where(data, str(error))}") from None
    if isinstance(raw, dict) and isinstance(raw.get("cv"), dict) and "basics" not in raw:
        raw = raw["cv"]  # the whole result of a job, which holds the CV
    reader = _Reader(what)
    if not isinstance(raw, dict):
        raise reader.wrong("the file", "an object", raw)
    try:
        cv = reader.part(Resume, raw, "")
    except RecursionError:
        raise JobError("invalid_cv", f"reading {what}: it is nested too deep for a JSON Resume") from None
    if not any(getattr(cv, field) for field in Resume.__struct_fields__ if field not in ("schema", "basics", "meta")):
        raise JobError(
            "invalid_cv",
            f"reading {what}: it has none of a JSON Resume's sections (work, education, skills, …). "
            "See https://jsonresume.org/schema.",
        )
    return BaseCv(cv, reader.notes)


def _where(data: bytes, error: str) -> str:
    at = re.search(r"\(byte (\d+)\)", error)
    if at is None:
        return error[:200]
    before = data[: int(at[1])]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"{error[: at.start()].strip()} (line {line}, byte {column} of it)"


class _Reader:
    """Fits JSON to the Structs, noting what it leaves out."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.notes: list[str] = []

    def wrong(self, where: str, expected: str, got: Any) -> JobError:
        kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
        kind = kinds.get(type(got), "a number")
        return JobError(
            "invalid_cv", f"reading {self._what}: {where[:120]} should be {expected}, not {kind}. Correct the file."
        )

    def part(self, kind: type[Part], raw: dict[str, Any], path: str) -> Any:
        hints = get_type_hints(kind, include_extras=True)
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for key, value in raw.items():
            where = f"{path}.{key}" if path else key
            field = known.get(key)
            if field is None and _OLD_NAMES.get(key) in known and not raw.get(_OLD_NAMES[key]):
                field = known[_OLD_NAMES[key]]
            if field is None:
                self._note(f"{where} was left out: JSON Resume has no such field.")
            elif value is not None:
                values[field.name] = self._value(hints[field.name], value, where)
        return kind(**{name: value for name, value in values.items() if value is not None})

    def _value(self, hint: Any, value: Any, where: str) -> Any:
        options = [one for one in get_args(hint) if one is not type(None)] if _is_optional(hint) else [hint]
        hint = options[0]
        if _is_date(hint):
            return self._date(value, where)
        if hint is str:
            return self._text(value, where)
        if isinstance(hint, type) and issubclass(hint, Part):
            if not isinstance(value, dict):
                raise self.wrong(where, "an object", value)
            return self.part(hint, value, where)
        item = get_args(hint)[0] if get_args(hint) else Any
        if getattr(hint, "__origin__", None) is dict:
            return value if isinstance(value, dict) else None
        return self._list(item, value, where)

    def _list(self, item: Any, value: Any, where: str) -> list[Any]:
        if item is str and isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise self.wrong(where, "a list", value)
        if len(value) > _LARGEST_LIST:
            raise JobError("invalid_cv", f"reading {self._what}: {where} has more than {_LARGEST_LIST} items")
        found = []
        for number, one in enumerate(value):
            if one is None or one == "":
                continue
            if item is not str and isinstance(one, str) and "name" in item.__struct_fields__:
                one = {"name": one}  # noqa: PLW2901 ("skills": ["Python"], as some write it)
            read = self._value(item, one, f"{where}[{number}]")
            if read is not None and read != "":
                found.append(read)
        return found

    def _text(self, value: Any, where: str) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.wrong(where, "a text", value)
        return "".join(c for c in value if c in "\n\t" or (ord(c) >= 32 and ord(c) != 127))

    def _date(self, value: Any, where: str) -> str | None:
        text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if found := _DATE.fullmatch(text):
            return "-".join(part if len(part) == 4 else f"{int(part):02}" for part in found.groups() if part)
        if text.casefold() in _OPEN and isinstance(value, str):
            return None
        from annul.jobs.import_pdf.offline.dates import fills, periods

        if text and len(text) <= 40 and fills(text) and len(read := periods(text)) == 1 and read[0].single:
            return read[0].start
        self._note(f"{where} was left out: {msgspec.json.encode(value).decode(errors='replace')[:40]} is no date.")
        return None

    def _note(self, text: str) -> None:
        if len(self.notes) < _MAX_NOTES:
            self.notes.append(text)
        elif len(self.notes) == _MAX_NOTES:
            self.notes.append("More was left out than is told here.")


def _is_optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _is_date(hint: Any) -> bool:
    return hasattr(hint, "__metadata__")
