"""The person's name: the largest print on the first page that could be one."""

from __future__ import annotations

import re

import msgspec

from annul.jobs.import_pdf.offline.links import EMAIL
from annul.jobs.import_pdf.offline.words import LABELS, POSITION, has, place_score
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.headings import field_of, plain
from annul.jobs.pdf.lines import Line, Segment
from annul.jobs.resume import Basics

TITLES = re.compile(
    r"\b(?:curr[ií]cul(?:um|o)(?:\s+v[ií]t(?:ae|æ))?|r[eé]sum[eé]|cv|lebenslauf|hoja de vida|bewerbung|europass)\b",
    re.IGNORECASE,
)
# What a form prints before the name.
_LABEL = re.compile(
    r"(?:full )?name|nom|nom et prenom|prenom et nom|nom prenom|nombre|nombre y apellidos|nome|nome e cognome|"
    r"nome completo|nombre completo|naam|vor und (?:nach|zu)name|vorname und name|name vorname|"
    r"surname s first name s|first name s surname s|apellido s nombre s|cognome nome"
)
_GIVEN = re.compile(r"(?:first|given) names?|vornamen?|prenoms?|nombres?|voornamen?|nome")
_FAMILY = re.compile(
    r"(?:last|family) name|surname|nachname|familienname|zuname|nom(?: de famille)?|apellidos?|cognome|achternaam|"
    r"sobrenome"
)
# Words in names that are written small.
_PARTICLES = {
    "de", "del", "de'", "della", "dello", "di", "da", "do", "dos", "das", "du", "des", "la", "le", "las", "los", "van",
    "von", "vom", "zu", "zum", "zur", "den", "der", "ten", "ter", "te", "el", "al", "bin", "ibn", "ben", "y", "e",
    "af", "av", "und", "st.",
}  # fmt: skip


def name_parts_of(head: list[Line], document: Document) -> list[Segment]:
    """The segments of the name: the largest print that could be one."""
    if labelled := _labelled(head):
        return labelled
    best: list[Segment] = []
    best_score = 0.0
    flat = [(index, part) for index, line in enumerate(head[:25]) for part in line.parts]
    sizes = [part.size for _, part in flat] or [10.0]
    top = max(sizes)
    local = plain(match[0].partition("@")[0]) if (match := EMAIL.search(document.text)) else ""
    author = plain(document.meta.get("Author", "") + " " + document.meta.get("Title", ""))
    for index, part in flat:
        text = _bare(part.text)
        words = text.split()
        if not _could_be_name(text) or not words:
            continue
        score = 2.0 * part.size / top + (0.5 if 2 <= len(words) <= 4 else -0.3) - 0.08 * index
        score += 0.4 if plain(text) and plain(text) in author else 0.0
        score += 0.5 * min(2, sum(len(word) > 2 and word in local for word in plain(text).split()))
        score -= 1.2 if has(POSITION, text) else 0.0
        score -= 1.0 if field_of(text) or plain(text) in LABELS else 0.0
        score -= 0.8 if place_score(text) > 0.8 else 0.0
        score += 0.1 if part.bold else 0.0
        if score > best_score:
            best, best_score = [part], score
    if best:  # a first name and a family name on lines, or in weights, of their own
        first = best[0]
        for _, part in flat:
            near = abs(part.y - first.y) < 1.8 * first.size and abs(part.size - first.size) < 0.12 * first.size
            bare = _bare(part.text)
            same = (
                abs(part.x0 - first.x0) < 4
                or abs(part.y - first.y) < 1
                or abs((part.x0 + part.x1) - (first.x0 + first.x1)) < 20
            )
            if (
                part is not first
                and near
                and same
                and _could_be_name(bare)
                and not has(POSITION, bare)
                and part.size > 13
            ):
                if len(bare.split()) + len(first.text.split()) <= 5 and plain(bare) != plain(first.text):
                    best.append(part)
                break
        best.sort(key=lambda part: (-round(part.y), part.x0))
    return best


def _labelled(head: list[Line]) -> list[Segment]:
    """The name of a form: what stands after "Name" in its row, or after "First name" and "Surname" in theirs."""
    given: list[Segment] = []
    family: list[Segment] = []
    for line in head:
        first, *others = line.parts
        label, colon, rest = first.text.partition(":")
        word = plain(label)
        if colon and rest.strip() and not others:
            others = [msgspec.structs.replace(first, text=rest.strip(), runs=[])]
            # The piece stands for its whole line: what is used of it must not be read as a contact again.
            line.parts[0] = others[0]
        if len(others) != 1 or not _could_be_name(others[0].text):
            continue
        if _LABEL.fullmatch(word) and len(others[0].text.split()) > 1:
            return others
        if _FAMILY.fullmatch(word):
            family = family or others
        elif _GIVEN.fullmatch(word):
            given = given or others
    return [*given, *family] if given and family else []


def _bare(text: str) -> str:
    """A line without "Curriculum vitae" and what follows a separator."""
    text = re.split(r"\s*[|·•,]\s*|\s+[–—-]\s+|\s{3,}", text)[0]
    return TITLES.sub("", text).strip(" -–—:,|")


def _could_be_name(text: str) -> bool:
    words = text.split()
    if not 1 <= len(words) <= 6 or len(text) > 50 or len(text) < 3:
        return False
    if any(char.isdigit() or char in "@/\\_=+#:!?;" for char in text):
        return False
    letters = [char for char in text if char.isalpha()]
    if len(letters) < 0.75 * len(text.replace(" ", "")):
        return False
    words = [word for word in words if word.casefold() not in _PARTICLES] or words
    capital = sum(word[:1].isupper() or not word[:1].isascii() or not word[:1].isalpha() for word in words)
    return (capital >= 0.6 * len(words) and not text.endswith(".")) or (len(words) >= 2 and text.isupper())


def set_name(basics: Basics, parts: list[Segment]) -> list[str]:
    """Set the name; give what else stood in its line."""
    rest: list[str] = []
    names: list[str] = []
    for part in parts:
        pieces = re.split(r"\s*[|·•]\s*|\s+[–—-]\s+|,\s+|\s{3,}", part.text)
        names.append(TITLES.sub("", pieces[0]).strip(" -–—:,|"))
        rest += [piece for piece in pieces[1:] if not TITLES.fullmatch(piece.strip())]
    name = " ".join(" ".join(names).split())
    basics.name = cased(name)
    return [piece for piece in rest if piece.strip()]


def cased(name: str) -> str:
    """Capitals only: written as names are."""
    letters = [char for char in name if char.isalpha()]
    if len(letters) < 3 or sum(char.isupper() for char in letters) < 0.8 * len(letters):
        return name
    return re.sub(r"[^\W\d_]+", lambda match: match[0].capitalize() if len(match[0]) > 1 else match[0], name)
