"""The offline engine: a CV's fields by rules over text, places and fonts. Nothing leaves the machine.

items -> lines (columns) -> sections (headings) -> entries (dates, styles, gaps) -> fields (words, votes).
"""

from __future__ import annotations

from annul.errors import JobError
from annul.jobs.import_pdf.engine import Extraction, Progress, Report
from annul.jobs.import_pdf.offline import assemble, evidence
from annul.jobs.import_pdf.offline.sections import lines_of, split
from annul.jobs.pdf.document import Document


def extract(document: Document, *, progress: Progress) -> Extraction:
    """The CV in a document.

    What no field takes is kept, in reading order, in `cv.meta.annul["unplaced"]`. Raises JobError ``not_a_cv``
    where there is much text and none of it is what CVs have.
    """
    progress(0.0, "finding lines and columns")
    lines = lines_of(document)
    progress(0.3, "finding sections")
    sections = split(lines)
    if reason := evidence.against(document, sections):
        raise JobError("not_a_cv", f"importing a CV: this PDF does not look like one: {reason} Give the PDF of a CV.")
    progress(0.5, "reading sections")
    doubt = evidence.doubt(document, sections)
    cv, uncertain = assemble.resume(document, sections)
    counts = {name: len(getattr(cv, name)) for name in assemble.LISTS if getattr(cv, name)}
    unplaced = cv.meta.annul.get("unplaced", []) if cv.meta else []
    report = Report(
        reader=document.reader,
        pages=len(document.pages),
        characters=sum(len(page.text) for page in document.pages),
        columns=max((line.column > 0) + 1 for line in lines) if lines else 1,
        sections=[f"{section.title} -> {section.field}" for section in sections if section.title],
        counts=counts,
        unplaced=len(unplaced),
        uncertain=[doubt, *uncertain] if doubt else uncertain,
    )
    progress(1.0, "read the CV")
    return Extraction(cv=cv, report=report)
