"""Whether a document is a CV at all. In doubt it is one, and the report says that it may be none: a real CV must not
be refused.
"""

from __future__ import annotations

import re

import msgspec

from annul.jobs.import_pdf.offline.dates import flat, periods
from annul.jobs.import_pdf.offline.links import EMAIL
from annul.jobs.import_pdf.offline.sections import Section
from annul.jobs.pdf.document import Document

ENOUGH = 400  # letters; with less, only what is plainly something else is refused
SPARSE = 0.01  # of the lines have a period of time: fewer than in any CV
BOOK = 15  # pages; longer CVs are lists of dated lines, longer books are prose
_OF_CVS = {"work", "education", "skills", "languages", "projects", "certificates", "volunteer", "interests", "awards"}
_TITLE = re.compile(r"\b(?:curr[ií]cul(?:um|o)\b|r[ée]sum[ée]\b|lebenslauf|hoja de vida)", re.IGNORECASE)
_PHONE = re.compile(r"(?<!\w)(?:\+|00|\(?0|\(\d)[\d\s().\-–/]{7,20}\d")
# What other papers have: prices and words of bills, the greetings of letters, the blanks of forms. Without accents.
_PRICE = re.compile(
    r"(?:[€£$]\s?\d|[+-]?\d[\d.,\s]*(?:€|£|\beur\b|\busd\b|\bchf\b)|(?<![\d.])[+-]?\d{1,3}(?:[.,]\d{3})*[.,]\d\d(?![\d.]))"
)
_BILL = re.compile(
    r"\b(?:invoice|facture|rechnung(?:snummer)?|factura|fattura|fatura|factuur|receipt|account statement|kontoauszug|"
    r"releve de compte|estratto conto|extracto de cuenta|iban|vat|tva|mwst|subtotal|total|balance|menu|coperto|devis)\b"
)
_GREETING = re.compile(
    r"^(?:dear |sehr geehrte|liebe[r ]|madame|monsieur|cher |chere |estimad|gentile |egregi|spettabile|prezad|"
    r"geachte|beste |to whom it may concern)", re.MULTILINE
)  # fmt: skip
_CLOSING = re.compile(
    r"\b(?:yours (?:sincerely|faithfully|truly)|sincerely|kind regards|best regards|mit freundlichen grussen|"
    r"mit freundlichen gru.en|hochachtungsvoll|cordialement|salutations (?:distinguees|respectueuses)|atentamente|"
    r"cordiali saluti|distinti saluti|atenciosamente|met vriendelijke groet)"
)
_BLANK = re.compile(r"_{4,}|\.{12,}|…{4,}")


class Evidence(msgspec.Struct):
    """What speaks for and against."""

    fields: set[str]  # of CVs, whose headings have text under them
    dated: bool  # posts or degrees with a date among it
    titled: bool  # "Curriculum vitae" and its like near the beginning
    spans: int  # lines with a period of time
    lines: int
    reachable: bool  # an email address or a phone number near the beginning
    kind: str  # what else it looks like, as "a letter"; "" if like nothing


def weigh(document: Document, sections: list[Section]) -> Evidence:
    """The evidence in a document's words and headings."""
    text = document.text
    lines = [line for section in sections for line in section.lines]
    short = [line.text for line in lines if len(line.text) < 120]
    main = [line.text for section in sections if section.field in ("work", "education") for line in section.lines]
    return Evidence(
        fields={section.field for section in sections if section.lines} & _OF_CVS,
        dated=any(periods(one) for one in main),
        titled=bool(_TITLE.search(text[:2000])),
        spans=sum(any(not period.single for period in periods(one)) for one in short),
        lines=len(lines),
        reachable=bool(EMAIL.search(text[:3000]) or _PHONE.search(text[:3000])),
        kind=_kind(text),
    )


def _kind(text: str) -> str:
    low = flat(text[:20_000])
    if len(_PRICE.findall(low)) >= 4 and _BILL.search(low):
        return "a bill, a statement or a list of prices"
    if _GREETING.search(low) and _CLOSING.search(low):
        return "a letter"
    return "a form to fill in" if len(_BLANK.findall(low)) >= 4 else ""


def against(document: Document, sections: list[Section]) -> str:
    """Why the document is surely no CV, as a sentence; "" where it may be one."""
    got = weigh(document, sections)
    if (got.fields & {"work", "education"} and got.dated) or got.titled:
        # A book has chapters on work and education too, but few of its lines say when.
        return _is_book(document, sections, got)
    if got.kind:
        return f"it looks like {got.kind}."
    letters = [char for char in document.text if char.isalpha()]
    # The headings of other scripts are not known here: such a CV is read as well as it can be.
    if len(letters) < ENOUGH or sum(char < "\u0250" for char in letters) < 0.7 * len(letters):
        return ""
    if not got.reachable and not got.spans and "work" not in got.fields:
        return "it has no name with an address or a phone number, and nothing in it has dates."
    if got.fields & {"work", "education"} or len(got.fields) > 1 or (got.fields and len(document.pages) < 5):
        return ""
    lines = [line for section in sections for line in section.lines]
    long = sum(len(line.text) > 60 for line in lines) / max(1, len(lines))
    if min(got.spans, 4) + got.reachable >= 4 and got.spans > SPARSE * got.lines and long < 0.7:
        return ""
    return (
        f"it has no section such as experience, education or skills, and {got.spans} periods of time "
        f"among {got.lines} lines."
    )


def _is_book(document: Document, sections: list[Section], got: Evidence) -> str:
    lines = [line for section in sections for line in section.lines]
    long = sum(len(line.text) > 60 for line in lines) / max(1, len(lines))
    if len(document.pages) <= BOOK or long < 0.5 or got.spans > SPARSE * got.lines:
        return ""
    return f"it has {len(document.pages)} pages of prose, and {got.spans} periods of time among {got.lines} lines."


def doubt(document: Document, sections: list[Section]) -> str:
    """Why a document that was read as a CV may be none, as a sentence for the report; "" where nothing says so."""
    got = weigh(document, sections)
    if got.titled or got.dated or got.spans > 2:
        return ""
    has = ", ".join(sorted(got.fields)) or "none that CVs have"
    return f"This may be no CV: no post and no degree has a date in it (sections found: {has})."
