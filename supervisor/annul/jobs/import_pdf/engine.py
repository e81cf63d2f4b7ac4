"""What an engine gives back: the CV, what it cost, and what it was unsure of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from annul.jobs.resume import Resume

# How far the step is (0.0 to 1.0 of this step, not of the job) and what is being done, in a few words.
Progress = Callable[[float, str], None]


class Report(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the CV was got, for a person who checks it."""

    reader: str = ""  # the library that read the text: "pypdf"
    pages: int = 0
    characters: int = 0
    columns: int = 1  # the most text columns found on a page
    sections: list[str] = []  # the headings found, in reading order, as "heading -> field"
    counts: dict[str, int] = {}  # entries per JSON Resume section
    unplaced: int = 0  # lines that no field took; kept in `meta.annul.unplaced`
    uncertain: list[str] = []  # what a person should check, one sentence each


class Extraction(msgspec.Struct, kw_only=True):
    """A CV from a document."""

    cv: Resume
    usage: dict[str, Any] = {}  # tokens, model, seconds; empty where nothing was paid for
    report: Report = msgspec.field(default_factory=Report)
