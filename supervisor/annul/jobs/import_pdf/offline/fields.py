"""Entries to work, education, projects and volunteer."""

from __future__ import annotations

import re

from annul.jobs.import_pdf.offline.degrees import degree_parts
from annul.jobs.import_pdf.offline.entries import Entry, paragraph
from annul.jobs.import_pdf.offline.heads import assign, split, vote
from annul.jobs.import_pdf.offline.links import URL, with_scheme
from annul.jobs.import_pdf.offline.words import COMPANY, DEGREE, POSITION, SCHOOL, has, place_score
from annul.jobs.resume import Education, Project, Volunteer, Work

_SCORE = re.compile(
    r"(?:,|;|–|-|\||\()?\s*((?:c?gpa|grade|note|moyenne|notendurchschnitt|score|average)\s*:?\s*[\d.,]+(?:\s*/\s*[\d.,]+)?|"
    r"[\d.]+\s+c?gpa(?:\s*/\s*[\d.]+)?|mention\s+(?:très\s+bien|assez\s+bien|bien|tb|ab)|"
    r"(?:summa|magna)?\s*cum laude)\)?",
    re.IGNORECASE,
)


def work(entries: list[Entry], unsure: list[str]) -> list[Work]:
    """Posts."""
    heads = split(entries, POSITION, COMPANY)
    order = vote(heads, POSITION, COMPANY)
    out: list[Work] = []
    for entry, (pieces, place) in zip(entries, heads, strict=True):
        position, name, rest = assign(pieces, order, POSITION, COMPANY)
        url, prose, bullets = _url(entry)
        start, end = _dates(entry)
        if entry.period is not None and entry.period.single:
            end = start  # one date: it began and ended then
        if not (position or name or bullets or prose):
            continue
        out.append(
            Work(
                name=name, position=position, location=place, url=url, start_date=start, end_date=end,
                description=", ".join(rest), summary=paragraph(prose) if bullets else _short(prose),
                highlights=bullets or _several(prose),
            )
        )  # fmt: skip
        if start is None:
            unsure.append(f"No date found for the post {position or name!r}.")
        if not position or not name:
            unsure.append(f"Employer and post could not be told apart in {name or position!r}.")
    return out


def volunteer(entries: list[Entry]) -> list[Volunteer]:
    """Unpaid posts."""
    unsure: list[str] = []
    return [
        Volunteer(
            organization=post.name, position=post.position, url=post.url, start_date=post.start_date,
            end_date=post.end_date, summary=post.summary, highlights=post.highlights,
        )
        for post in work(entries, unsure)
    ]  # fmt: skip


def education(entries: list[Entry], unsure: list[str]) -> list[Education]:
    """Degrees and schools."""
    heads = split(entries, DEGREE, SCHOOL)
    order = vote(heads, DEGREE, SCHOOL)
    out: list[Education] = []
    for entry, (head, place) in zip(entries, heads, strict=True):
        score = ""
        pieces = list(head)
        for index, piece in enumerate(head):
            if match := _SCORE.search(piece):
                score = score or match[1].strip(" ,;")
                pieces[index] = (piece[: match.start()] + piece[match.end() :]).strip(" ,;–-|()")
        degree, school, rest = assign([piece for piece in pieces if piece], order, DEGREE, SCHOOL)
        if not school and place and not has(DEGREE, place):
            school = ""
        study, area = degree_parts(degree)
        for piece in list(rest):
            if not area:
                area = piece
                rest.remove(piece)
            elif not study and has(DEGREE, piece):
                study = piece
                rest.remove(piece)
        if area and study == "" and rest and has(DEGREE, rest[0]):
            study = rest.pop(0)
        start, end = _dates(entry, single_is_end=True)
        url, prose, bullets = _url(entry)
        if not (school or study or area):
            continue
        courses: list[str] = []
        for text in [*rest, *bullets, *prose]:
            if not score and (match := _SCORE.search(text)):
                score = match[1].strip(" ,;")
            courses.append(text)
        out.append(
            Education(
                institution=school, area=area, study_type=study, url=url, start_date=start, end_date=end,
                score=score, courses=courses,
            )
        )  # fmt: skip
        if not school:
            unsure.append(f"No school found for the degree {study or area!r}.")
    return out


def projects(entries: list[Entry]) -> list[Project]:
    """Projects."""
    out: list[Project] = []
    for entry in entries:
        url, prose, bullets = _url(entry)
        texts = [piece.text for piece in entry.head if place_score(piece.text) < 0.9]
        if not texts:
            if bullets or prose:
                out.append(Project(description=paragraph(prose), highlights=bullets))
            continue
        name, *more = texts
        if match := re.match(r"(.{2,60}?)\s*(?:\||:|\s[–—-]\s)\s*(.+)", name):
            name, more = match[1], [match[2], *more]
        if match := URL.search(name):
            url = url or with_scheme(match[0])
            name = name.replace(match[0], "").strip(" ()-–,") or name
        keywords: list[str] = []
        roles: list[str] = []
        for text in more:
            if not keywords and text.count(",") >= 1 and all(len(item.split()) <= 3 for item in text.split(",")):
                keywords = [item.strip() for item in text.split(",") if item.strip()]
            elif has(POSITION, text) and len(text.split()) <= 5:
                roles.append(text)
            else:
                prose.insert(0, text)
        start, end = _dates(entry)
        out.append(
            Project(
                name=name, description=paragraph(prose), highlights=bullets, keywords=keywords, roles=roles,
                start_date=start, end_date=end, url=url,
            )
        )  # fmt: skip
    return out


def _dates(entry: Entry, *, single_is_end: bool = False) -> tuple[str | None, str | None]:
    period = entry.period
    if period is None:
        return None, None
    if period.single and single_is_end:
        return None, period.start
    return period.start, period.end


def _url(entry: Entry) -> tuple[str, list[str], list[str]]:
    """A URL that stands alone in an entry, and the entry's text without it."""
    url = ""
    prose = []
    for text in entry.prose:
        if not url and (match := URL.fullmatch(text.strip())):
            url = with_scheme(match[0])
        else:
            prose.append(text)
    for piece in entry.head if len(entry.head) > 2 else []:
        if not url and (match := URL.fullmatch(piece.text.strip())):
            url = with_scheme(match[0])
    return url, prose, list(entry.bullets)


def _short(prose: list[str]) -> str:
    return prose[0] if len(prose) == 1 else ""


def _several(prose: list[str]) -> list[str]:
    return prose if len(prose) > 1 else []
