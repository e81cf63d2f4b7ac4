"""Europass CVs: read from the XML that the PDF carries, without loss.

attachments.py  the XML out of the PDF · tree.py  parsed within limits · codes.py  what its codes stand for
candidate.py    what europa.eu attaches since 2020 (`Candidate`, of HR-XML)
passport.py     what was attached before (`SkillsPassport`, 3.x)
"""

from __future__ import annotations

from pathlib import Path

from annul.jobs.import_pdf.engine import Extraction, Report
from annul.jobs.import_pdf.europass import candidate, passport
from annul.jobs.import_pdf.europass.attachments import xml_of
from annul.jobs.import_pdf.europass.tree import Node, NotReadable, parse
from annul.jobs.pdf.document import Document
from annul.jobs.resume import SCHEMA_URL, Meta

_KINDS = {"Candidate": candidate.resume, "SkillsPassport": passport.resume}
LISTS = ("work", "volunteer", "education", "awards", "certificates", "publications", "skills", "languages", "interests",
         "references", "projects")  # fmt: skip
# Pictures, files, how to print and who sent it: no text of the CV.
_NO_TEXT = {
    "Photo", "Signature", "Attachment", "AttachmentList", "RenderingInformation", "PrintingPreferences", "DocumentInfo",
    "DocumentID", "CandidateSupplier", "ID", "ProcessingInformation", "Code",
}  # fmt: skip


def extract(path: Path, document: Document) -> tuple[Extraction | None, str]:
    """The CV in the XML that a PDF carries, or None; and why an XML was not used ("" if one was, or there is none).

    What no field takes is kept in `cv.meta.annul["unplaced"]`, with the name of its element as the section. The file
    must have been read as a `Document` before, so its size and structure are known to be within limits.
    """
    why = ""
    for data in xml_of(path):
        try:
            root = parse(data)
        except NotReadable as error:
            why = f"The XML attached to the PDF was not used: {error}. The CV was read from the text."
            continue
        if (make := _KINDS.get(root.name)) is None:
            continue
        cv = make(root)
        if not (cv.basics.name or cv.work or cv.education):
            why = "The XML attached to the PDF is empty. The CV was read from the text."
            continue
        cv.schema = SCHEMA_URL
        rest = _unused(root, "")
        cv.meta = Meta(version="v1.0.0", annul={"unplaced": rest} if rest else {})
        report = Report(
            reader="europass",
            pages=len(document.pages),
            characters=len(data),
            counts={name: len(getattr(cv, name)) for name in LISTS if getattr(cv, name)},
            unplaced=len(rest),
        )
        return Extraction(cv=cv, report=report), ""
    return None, why


def _unused(node: Node, section: str) -> list[dict[str, str]]:
    """All text that no field took, in order."""
    if node.name in _NO_TEXT:
        return []
    out = [] if node.used or not node.text else [{"section": section, "text": node.text}]
    for child in node.children:
        out += _unused(child, child.name if child.children else section or node.name)
    return out
