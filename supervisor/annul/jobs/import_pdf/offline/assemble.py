"""Sections to the JSON Resume document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from annul.jobs.import_pdf.offline import fields, lists
from annul.jobs.import_pdf.offline.contacts import Found, contacts
from annul.jobs.import_pdf.offline.dates import periods
from annul.jobs.import_pdf.offline.entries import Entry, entries, paragraph
from annul.jobs.import_pdf.offline.leftover import lost
from annul.jobs.import_pdf.offline.links import EMAIL, URL
from annul.jobs.import_pdf.offline.sections import PAGE, Section
from annul.jobs.import_pdf.offline.words import DEGREE, LANGUAGES, POSITION, SCHOOL, has, matched
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.headings import KNOWN, field_of, plain
from annul.jobs.pdf.lines import Line
from annul.jobs.resume import SCHEMA_URL, Language, Meta, Resume, Skill

LISTS = (
    "work", "volunteer", "education", "awards", "certificates", "publications", "skills", "languages", "interests",
    "references", "projects",
)  # fmt: skip
_BY_LINES: dict[str, Callable[[list[Line]], list[Any]]] = {
    "skills": lists.skills,
    "languages": lists.languages,
    "interests": lists.interests,
    "certificates": lists.certificates,
    "awards": lists.awards,
    "publications": lists.publications,
    "references": lists.references,
}
_PHONE_LINE = re.compile(r"[+()\d\s./-]{8,25}")


def resume(document: Document, sections: list[Section]) -> tuple[Resume, list[str]]:
    """The document, checked against its Structs, and what was uncertain, in sentences.

    What of the document's lines no field holds is in `meta.annul["unplaced"]`.
    """
    cv = Resume(schema=SCHEMA_URL)
    unsure: list[str] = []
    unplaced: list[dict[str, str]] = []
    sections = _spoken_apart(_labelled(_without_headings(sections, unsure)))
    found = contacts(document, sections)
    cv.basics = found.basics
    unsure += found.unsure
    _summary(cv, sections, found)
    for section in sections:
        if section.field in ("top", "contact", "summary"):
            continue
        if not _place(cv, section, unsure):
            unplaced += [{"section": section.title, "text": line.text} for line in section.lines]
    unplaced = [{"section": "", "text": text} for text in found.rest] + unplaced
    titles = " ".join(section.title for section in sections)  # which the report has
    held = " ".join([*_texts(msgspec.to_builtins(cv)), titles, *(one["text"] for one in unplaced)])
    unplaced += [{"section": "", "text": text} for text in lost(_printed(document), held)]
    cv.meta = Meta(version="v1.0.0", annul={"unplaced": unplaced} if unplaced else {})
    used = msgspec.json.encode(cv).decode()
    if links := _other_links(document, used):
        cv.meta.annul["links"] = links
    if not cv.basics.email and not cv.basics.phone:
        unsure.append("No email address or phone number was found.")
    if not cv.work and not cv.education:
        unsure.append("No post and no degree were found.")
    # The Structs hold the schema's patterns, which are checked when decoding only.
    return msgspec.json.decode(msgspec.json.encode(cv), type=Resume), unsure


def _summary(cv: Resume, sections: list[Section], found: Found) -> None:
    """The summary; its first line where that is a title."""
    texts: list[str] = []
    for section in sections:
        if section.field != "summary":
            continue
        for line in section.lines:
            text = " ".join(part.text for part in line.parts)
            bare = text.strip()
            if EMAIL.fullmatch(bare) or URL.fullmatch(bare) or _PHONE_LINE.fullmatch(bare):
                continue
            texts.append(text)
    if texts and not cv.basics.label:
        first = texts[0]
        title = len(first.split()) <= 6 and not first.endswith((".", ",")) and first[:1].isupper()
        if title and (len(texts) == 1 or (texts[1][:1].isupper() and len(texts[1]) > len(first))):
            cv.basics.label = texts.pop(0)
    if texts:
        cv.basics.summary = paragraph(texts)
        found.rest += found.prose
    else:
        cv.basics.summary = paragraph(found.prose)


def _place(cv: Resume, section: Section, unsure: list[str]) -> bool:
    """Fill the section's field; False where it has none or nothing came of it."""
    name = section.field
    if not section.lines:
        return True
    if name == "volunteer" and not any(periods(line.text) for line in section.lines):
        name = "interests" if "activit" in plain(section.title) else name
    if name in _BY_LINES:
        made = _BY_LINES[name](section.lines)
        if name == "skills":
            made = _spoken(cv, made)
        getattr(cv, name).extend(made)
        return bool(made)
    if name not in ("work", "education", "projects", "volunteer"):
        return False
    got = entries(section.lines)
    if name in ("work", "education") and _is_mixed(section.title):
        schools = [entry for entry in got if _is_degree(entry)]
        cv.education.extend(fields.education(schools, unsure))
        cv.work.extend(fields.work([entry for entry in got if not _is_degree(entry)], unsure))
        return bool(got)
    if name == "work":
        cv.work.extend(fields.work(got, unsure))
    elif name == "education":
        cv.education.extend(fields.education(got, unsure))
    elif name == "projects":
        cv.projects.extend(fields.projects(got))
    else:
        cv.volunteer.extend(fields.volunteer(got))
    return bool(got)


def _spoken(cv: Resume, found: list[Skill]) -> list[Skill]:
    """Skills without the group that lists the languages one speaks, which go where they belong."""
    kept: list[Skill] = []
    for skill in found:
        if skill.keywords and all(has(LANGUAGES, word) and len(word.split()) < 5 for word in skill.keywords):
            for word in skill.keywords:
                match = re.fullmatch(r"([^(:]+?)\s*(?:[(:]\s*([^()]+)\)?)?", word)
                name, level = (match[1], match[2] or "") if match else (word, "")
                cv.languages.append(Language(language=name, fluency=level))
        else:
            kept.append(skill)
    return kept


def _is_mixed(title: str) -> bool:
    """The heading names both posts and degrees."""
    parts = re.split(r" and | et | und | y |[/,|]", plain(title))
    kinds = {KNOWN.get(part.strip()) for part in parts}
    return {"work", "education"} <= kinds


def _is_degree(entry: Entry) -> bool:
    text = " ".join(piece.text for piece in entry.head)
    return matched(DEGREE, text) + matched(SCHOOL, text) > matched(POSITION, text) + (0 if matched(DEGREE, text) else 1)


def _without_headings(sections: list[Section], unsure: list[str]) -> list[Section]:
    """Where no section of posts or degrees has text: what follows the contacts, from its first period on.

    Headings may be drawn as pictures, or turned on their side in the margin.
    """
    if any(section.field in ("work", "education") and section.lines for section in sections):
        return sections
    top = max((section for section in sections if section.field == "top"), key=lambda one: len(one.lines), default=None)
    if top is None:
        return sections
    dated = [
        index
        for index, line in enumerate(top.lines)
        if any(not period.single for period in periods(line.text)) and len(line.text) < 120
    ]
    if len(dated) < 2:
        return sections
    unsure.append("No headings of experience or education were found: entries were told by their words.")
    first = dated[0]
    rest = Section("work", "Experience and education", top.lines[first:])
    head = Section("top", "", top.lines[:first], top.column)
    return [head if section is top else section for section in sections] + [rest]


def _labelled(sections: list[Section]) -> list[Section]:
    """Lists that stand among the contacts under a label ("Tools: Git, Docker") as sections of their own."""
    out: list[Section] = []
    for section in sections:
        out.append(section)
        if section.field != "top":
            continue
        kept: list[Line] = []
        now: Section | None = None
        for line in section.lines:
            first = line.parts[0]
            label, colon, rest = first.text.partition(":")
            field = field_of(label.strip()) if colon else None
            if colon and field in ("skills", "languages", "interests") and (rest.strip() or len(line.parts) > 1):
                now = Section(field, label.strip(), [line], section.column)
                out.append(now)
            elif now is not None and not colon and len(line.parts) == 1 and first.x0 > now.lines[-1].parts[0].x0 + 12:
                now.lines.append(line)
            else:
                now = None
                kept.append(line)
        section.lines = kept
    return out


def _spoken_apart(sections: list[Section]) -> list[Section]:
    """The rows on languages of a section on skills of all kinds, labelled in the margin, as a section of their own."""
    out: list[Section] = []
    for section in sections:
        out.append(section)
        if section.field not in ("skills", "other"):
            continue
        spoken = Section("languages", "", [], section.column)
        kept: list[Line] = []
        inside = False
        for line in section.lines:
            first, *rest = line.parts
            row = line
            if rest:
                label = field_of(first.text)
                inside = label == "languages" and has(LANGUAGES, " ".join(part.text for part in rest))
                if inside:
                    spoken.title = spoken.title or first.text
                if inside or (spoken.lines and label == "skills"):
                    row = Line(parts=rest, page=line.page, column=line.column, left=line.left, gap=line.gap)
            (spoken.lines if inside else kept).append(row)
        if spoken.lines:
            section.lines = kept
            section.field = "skills" if kept else section.field
            out.append(spoken)
    return out


def _printed(document: Document) -> list[str]:
    """The document's lines, each once, without page numbers."""
    lines = [line.strip() for page in document.pages for line in page.text.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not PAGE.fullmatch(line)))


def _texts(value: object) -> list[str]:
    """All strings in a document."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for one in inner for text in _texts(one)]


def _other_links(document: Document, used: str) -> list[str]:
    """Link targets of the PDF that the CV does not print."""
    out: list[str] = []
    for link in document.links:
        bare = re.sub(r"^(?:https?://(?:www\.)?|mailto:|tel:)", "", link.uri).rstrip("/")
        if bare and bare not in used and link.uri not in out:
            out.append(link.uri)
    return out[:50]
