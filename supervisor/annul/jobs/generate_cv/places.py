"""Where a CV says what: its texts with their places, what of them shows, and how well it matches an offer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from annul.jobs.generate_cv.terms import Term
from annul.jobs.generate_cv.words import Language, Word, words

# What is read in the first seconds. Paths are JSON Pointers with * for an index.
_SHOWS = re.compile(
    r"/basics/(?:label|summary)|/skills/\*/(?:name|keywords/\*)|/languages/\*/(?:language|fluency)|"
    r"/certificates/\*/name|/work/\*/position|/education/\*/(?:area|studyType)"
)
# What says what somebody did or can do, and not where, when or with whom.
_TELLS = re.compile(
    r"/basics/(?:label|summary)|/skills/\*/(?:name|keywords/\*)|/(?:work|volunteer)/\*/(?:summary|highlights/\*|position)|"
    r"/projects/\*/(?:name|description|highlights/\*|keywords/\*|roles/\*)|/education/\*/(?:area|studyType|courses/\*)|"
    r"/certificates/\*/name|/publications/\*/(?:name|summary)|/awards/\*/(?:title|summary)|"
    r"/languages/\*/(?:language|fluency)|/interests/\*/(?:name|keywords/\*)"
)


class Place(msgspec.Struct, frozen=True):
    """A text of the CV."""

    path: str  # JSON Pointer
    text: str
    words: list[Word]
    shows: bool  # where a reader looks first
    tells: bool  # evidence of what somebody can do


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """How a CV answers an offer's terms; each list in the order of their weight."""

    found: list[Term]  # where they show
    injectable: list[Term]  # the CV has evidence of them, but not where it shows
    missing: list[Term]
    score: float  # see `match`


def texts(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON document with its JSON Pointer, in order; `meta` and `$schema` are none of a CV."""
    if isinstance(document, str):
        yield path, document
    elif isinstance(document, dict):
        for key, value in document.items():
            if path or key not in ("meta", "$schema"):
                yield from texts(value, f"{path}/{key}")
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from texts(value, f"{path}/{number}")


def generic(path: str) -> str:
    """A JSON Pointer with * for each index: "/work/*/highlights/*"."""
    return re.sub(r"/(?:[0-9]+|-)(?=/|$)", "/*", path)


def places(document: Any, language: Language) -> list[Place]:
    """The texts of a CV, as words."""
    found = []
    for path, text in texts(document):
        kind = generic(path)
        shows, tells = bool(_SHOWS.fullmatch(kind)), bool(_TELLS.fullmatch(kind))
        found.append(Place(path, text, words(text, language), shows, tells))
    return found


def stands(term: Term, line: list[Word]) -> int | None:
    """The index in `line` where a term stands, word by word; None where it does not."""
    first, length = term.keys[0], len(term.keys)
    for start, word in enumerate(line):
        if (
            word.key == first
            and (not term.exact or word.text[0].isupper())
            and (length == 1 or tuple(one.key for one in line[start : start + length]) == term.keys)
        ):
            return start
    return None


def match(found_in: list[Place], wanted: list[Term]) -> Match:
    """How a CV answers `wanted`.

    The score is from 0 to 1: the share of the terms' weights that the CV answers, where a term that shows (in label,
    summary, skills, languages, certificates, job titles, fields of study) counts whole, and one that only a reader of
    all of it finds counts half. It compares two versions of a CV for one offer; it is no forecast of anybody's
    decision, and says nothing across offers. 0 where the offer has no terms.
    """
    found, injectable, missing = [], [], []
    for term in wanted:
        where = [place for place in found_in if place.tells and stands(term, place.words) is not None]
        if any(place.shows for place in where):
            found.append(term)
        elif where:
            injectable.append(term)
        else:
            missing.append(term)
    total = sum(term.weight for term in wanted)
    got = sum(term.weight for term in found) + 0.5 * sum(term.weight for term in injectable)
    return Match(found=found, injectable=injectable, missing=missing, score=round(got / total, 4) if total else 0.0)


def relevance(lines: list[list[Word]], wanted: list[Term]) -> float:
    """The weight of the terms that stand in any of `lines`, each counted once."""
    return sum(term.weight for term in wanted if any(stands(term, line) is not None for line in lines))
