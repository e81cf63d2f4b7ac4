"""What `generate-cv` says of its work, for the person whose CV it is."""

from __future__ import annotations

import msgspec

from annul.jobs.generate_cv.edits import Edit


class Keywords(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The offer's terms, the heaviest first, as the offer writes them, and what the base CV has of them."""

    found: list[str] = []  # where they show: label, summary, skills, languages, certificates, job titles
    injectable: list[str] = []  # the base CV has evidence of them, but not where it shows
    missing: list[str] = []


class Score(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How well the CV answers the offer, 0 to 1; defined in `places.match`."""

    before: float = 0.0
    after: float = 0.0


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The offer, as it was understood."""

    source: str = ""  # "text", "file" or its address
    kind: str = ""  # "text", "html" or "pdf"
    title: str = ""
    company: str = ""
    language: str = ""
    characters: int = 0


class Report(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the tailored CV came about."""

    keywords: Keywords = msgspec.field(default_factory=Keywords)
    score: Score = msgspec.field(default_factory=Score)
    edits: list[Edit] = []  # applied in order to the base CV they give the result
    rejected: list[Edit] = []  # what the model wanted and a gate refused; `why` is the gate's
    uncertain: list[str] = []  # what a person should check, one sentence each
    dropped: list[str] = []  # what of the base CV was left out when it was read
    offer: Source = msgspec.field(default_factory=Source)
    language: str = ""  # of the CV
    pages: int = 0  # of the PDF; without one an estimate
    pdf: bool = False  # whether one was made
