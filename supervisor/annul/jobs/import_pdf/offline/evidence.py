"""Whether a document is a CV at all. In doubt it is one: a real CV must not be refused."""

from __future__ import annotations

import re

from annul.jobs.import_pdf.offline.dates import periods
from annul.jobs.import_pdf.offline.links import EMAIL
from annul.jobs.import_pdf.offline.sections import Section
from annul.jobs.pdf.document import Document

ENOUGH = 400  # letters; with less, nothing can be said
_OF_CVS = {"work", "education", "skills", "languages", "projects", "certificates", "volunteer", "interests", "awards"}
_TITLE = re.compile(r"\b(?:curriculum\s+vit|r[ée]sum[ée]\b|lebenslauf|hoja de vida)", re.IGNORECASE)


def against(document: Document, sections: list[Section]) -> str:
    """Why the document is no CV, as a sentence; "" where it may be one."""
    text = document.text
    letters = [char for char in text if char.isalpha()]
    # The headings of other scripts are not known here: such a CV is read as well as it can be.
    if len(letters) < ENOUGH or sum(char < "\u0250" for char in letters) < 0.7 * len(letters):
        return ""
    fields = {section.field for section in sections if section.lines} & _OF_CVS
    if fields & {"work", "education"} or len(fields) > 1 or _TITLE.search(text[:2000]):
        return ""
    if fields and len(document.pages) < 5:
        return ""
    lines = [line for section in sections for line in section.lines]
    spans = sum(any(not period.single for period in periods(line.text)) for line in lines if len(line.text) < 120)
    small = sum(len(line.text) > 60 for line in lines) / max(1, len(lines))
    points = min(spans, 4) + (1 if EMAIL.search(text[:3000]) else 0)
    if points >= 4 and small < 0.7:
        return ""
    return (
        f"it has no section such as experience, education or skills, and {spans} periods of time "
        f"among {len(lines)} lines."
    )
