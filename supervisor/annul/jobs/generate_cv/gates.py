"""What no edit may do: invent. Every edit of either engine passes here, or is not made. Pure.

Only what is listed in `_REPLACE`, `_REORDER`, `_TRIM`, `_SELECT` and `_ADD` can be touched at all; so dates, employers,
institutions, positions and titles, degrees, names, contacts, certificates and their issuers cannot. What is left:

replace  a summary or highlight, whose every word stands in the base already (see `_unfounded`)
add      a skill that the base shows evidence of, letter for letter
reorder  the items of a list, all of them; work, education and volunteer keep their order in time
trim     some highlights or keywords go
select   some entries go, where a CV is complete without them; work, education and the like never

Non-guarantee: words of the base in another order can say what the base does not. What a model has rewritten is
therefore told to the user as what to check.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import msgspec

from annul.jobs.generate_cv.edits import Edit, NoSuchPath, at
from annul.jobs.generate_cv.known import AMBIGUOUS
from annul.jobs.generate_cv.places import Place, generic, places, stands
from annul.jobs.generate_cv.terms import Term, known_at
from annul.jobs.generate_cv.words import NEGATIONS, Language, Word, fold, is_stop, words

_REPLACE = re.compile(
    r"/basics/summary|/(?:work|volunteer)/\*/(?:summary|highlights/\*)|/projects/\*/(?:description|highlights/\*)"
)
_REORDER = re.compile(
    r"/(?:skills|projects|interests|languages|awards|publications|certificates|references)|/(?:skills|interests)/\*/keywords|"
    r"/(?:work|volunteer)/\*/highlights|/projects/\*/(?:highlights|keywords)|/education/\*/courses"
)
_TRIM = re.compile(r"/(?:work|volunteer)/\*/highlights|/projects/\*/(?:highlights|keywords)|/education/\*/courses")
_SELECT = re.compile(r"/(?:projects|volunteer|interests|awards|publications|references)")
_IN_TIME = re.compile(r"/volunteer")  # a part of these may be shown, in their own order
_ADD = re.compile(r"/skills/\*|/skills/\*/keywords/\*")

# What a group of added skills is called, where the base has its skills in groups: the one text that is not its own.
OTHER: dict[Language, str] = {
    "en": "Other skills",
    "fr": "Autres compétences",
    "de": "Weitere Kenntnisse",
    "es": "Otras competencias",
}

_LONGEST_SKILL = 60  # characters
_LONGEST = {"/basics/summary": 1200}
_LONGEST_ELSE = 600
_GROWTH, _MORE = 1.3, 80  # a new text has at most so many times the old one's characters, or so many more

_LONGEST_ENDING = 4
_SHORTEST_SINGULAR = 3  # letters of a name that may have a plural's s
_QUALITY = re.compile(r"(?:ity|ities|ites?|itat(?:en)?|idad(?:es)?)$")
_CONTACT = re.compile(r"://|\bwww\.|\S@\S")
_LETTERS = re.compile(r"(?<!\w)(?:[A-Z]\.){2,}")  # each may be a small word: "A.I."
_POINT_FIRST = re.compile(r"(?<!\w)[.,]\d+")  # ".7" is another number than "7", though the same word
_PUNCTUATION = frozenset(".,;:!?'\"()/&%#-‐‑–—’‘“”«»…")  # a "+" or ">" would make more of a number
# Small words that make more, or less, of what is said.
_MEASURES = frozenset(
    """more most all each every over above under below only few own near once again very until
    plus tout tous toute toutes tres moins chaque peu
    alle allem allen aller alles jede jedem jeden jeder jedes sehr nur uber unter pro
    mas todo todos toda todas muy cada""".split()
)
_NEAR = 5  # words before a skill, among which a negation is about it

# Ranks: the word before them says whose or what of, so it must be the same as in the base.
_RANKS = frozenset(
    """senior junior lead leader head chief director directeur directrice manager manageur responsable principal
    doctor docteur phd professor professeur expert experte certified certifie founder fondateur fondatrice leiter
    leiterin geschaftsfuhrer direktor doktor experte jefe jefa directora director gerente experto experta president
    vice deputy assistant adjoint stellvertretender cto ceo cfo vp""".split()
)
# Words that claim nothing.
_IDLE = frozenset(
    """work working works worked experience experienced use used using uses include includes including focus focused
    across based help helped well especially particularly both skilled background projects project
    experience experiences utilisant utilise utilisation travail travaille notamment ainsi dont grace incluant axe
    projet projets comprenant arbeit erfahrung erfahrungen nutzung mittels insbesondere sowie einschliesslich projekt
    projekte experiencia experiencias usando uso trabajo incluyendo especialmente proyecto proyectos mediante""".split()
)


class Base(msgspec.Struct, frozen=True):
    """The base CV, ready for questions."""

    document: dict[str, Any]  # as JSON, empty values left out
    places: list[Place]
    language: Language


def base_of(document: dict[str, Any], language: Language) -> Base:
    return Base(document, places(document, language), language)


def why_not(base: Base, edit: Edit) -> str | None:
    """Why an edit of the base is not made; None: it may be."""
    if edit.action == "add":
        return _why_not_add(base, edit)
    try:
        now = at(base.document, edit.path)
    except NoSuchPath as error:
        return str(error)
    kind = generic(edit.path)
    if edit.action == "replace":
        return _why_not_replace(base, edit, kind, now)
    return _why_not_list(edit, kind, now)


def blocked(kind: str) -> str:
    """Why a place of the CV is never edited."""
    return f"{kind} is a fact of the CV: dates, names, titles, degrees, contacts and the like are never edited"


def _why_not_replace(base: Base, edit: Edit, kind: str, now: Any) -> str | None:
    if not _REPLACE.fullmatch(kind) or not isinstance(now, str):
        return blocked(kind)
    if not isinstance(edit.value, str) or not edit.value.strip():
        return "the new text is empty"
    new = edit.value
    if new == now:
        return "the CV says so already"
    bound = min(max(int(_GROWTH * len(now)), len(now) + _MORE), max(len(now), _LONGEST.get(kind, _LONGEST_ELSE)))
    if len(new) > bound:
        return f"the new text has {len(new)} characters, {bound} are allowed"
    rest = new
    for word in words(new, base.language):
        rest = rest.replace(word.text, "") if word.special else rest  # "C++" is looked for below
    if odd := sorted({hex(ord(c)) for c in rest if not _is_plain(c) and c not in now}):
        return f"the new text has characters that the old one has not: {', '.join(odd[:5])}"
    if "\n" in new.strip() and "\n" not in now:
        return "the new text has several lines, the old one has one"
    if _CONTACT.search(new) and not _CONTACT.search(now):
        return "the new text has an address, the old one has none"
    for pattern in (_LETTERS, _POINT_FIRST):  # what is cut into words that may well be there
        if others := sorted(set(pattern.findall(new)) - set(pattern.findall(now))):
            return f"the new text has what the old one has not: {', '.join(others[:5])}"
    if unknown := _unfounded(new, _scope(base, edit.path), base.language):
        where = "the CV" if edit.path.startswith("/basics/") else "this entry of the CV"
        return f"{where} does not say: {', '.join(unknown[:8])}"
    old_words = words(now, base.language)
    if _negations(words(new, base.language)) != _negations(old_words):
        return "the new text negates something else than the old one"
    return None


def _scope(base: Base, path: str) -> list[list[Word]]:
    """The texts that a new text may draw from: of an entry its own, of the summary all of the CV.

    What was done at one employer is not claimed of another.
    """
    parts = path.split("/")
    prefix = "/" if parts[1] == "basics" else "/".join(parts[:3]) + "/"
    return [place.words for place in base.places if place.path.startswith(prefix)]


def _unfounded(new: str, scope: list[list[Word]], language: Language) -> list[str]:
    """The words of a text that do not stand in `scope`: what it would invent.

    Small words and those that claim nothing may be new. Names, technologies and numbers must stand there as they
    are, but for case, accents and a plural's s; other words by their stem. A rank ("senior", "head of") must follow
    the same word as there.
    """
    there = [word for line in scope for word in line]
    exact = {word.folded for word in there}
    as_names = {word.folded for word in there if word.text[0].isupper()}
    as_acronyms = {word.folded for word in there if _is_acronym(word)}
    stems = {word.key: word.folded for word in there}
    before = {pair for line in scope for pair in _pairs(line)}
    line = words(new, language)
    unknown = []
    for place, word in enumerate(line):
        idle = (is_stop(word, language) or word.folded in _IDLE) and word.folded not in NEGATIONS | _MEASURES
        # "Go" is a language and "go" none; "WHO" is an employer and "MIT" a school, whatever "who" and "mit" are.
        where = exact
        if word.folded in AMBIGUOUS and word.text[0].isupper() and not word.first:
            where = as_names
        elif idle and _is_acronym(word):
            where = as_acronyms
        if _with_plural(word) & where or (idle and not word.number and not _is_acronym(word)):
            continue
        named = word.special or word.number or word.capital or known_at(line, place)
        named = named or (idle and _is_acronym(word))
        similar = stems.get(word.key)
        if named or similar is None or not _inflected(word.folded, similar):
            unknown.append(word.text)
    unknown += _other_counts(line, scope)
    unknown += [
        word.text
        for before_it, word in _with_before(line)
        if word.folded in _RANKS and (before_it, word.folded) not in before
    ]
    return list(dict.fromkeys(unknown))


def _with_plural(word: Word) -> set[str]:
    """A word as it is, and with and without a plural's s.

    Not where an s makes another word: "SAS" is no plural of "SA", nor "iOS" of "io".
    """
    forms = {word.folded}
    if len(word.folded) >= _SHORTEST_SINGULAR:
        forms.add(f"{word.folded}s")
    if len(word.folded) > _SHORTEST_SINGULAR and word.folded.endswith("s"):
        forms.add(word.folded[:-1])
    return forms


def _is_acronym(word: Word) -> bool:
    return sum(char.isupper() for char in word.text) > 1


def _other_counts(line: list[Word], scope: list[list[Word]]) -> list[str]:
    """The numbers in a text that count something else than they do in `scope`: "3 records" where 3 are teams."""
    counted: dict[str, set[str]] = {}
    for there in scope:
        for place, word in enumerate(there):
            if word.number:
                counted.setdefault(word.folded, set()).update(one.key for one in there[place + 1 : place + 4])
    return [
        f"{word.text} {after.text}"
        for word, after in pairwise(line)
        if word.number
        and word.folded[-1].isdigit()  # "40 %" says itself what it is
        and word.folded in counted
        and not is_stop(after)
        and after.key not in counted[word.folded]
    ]


def _is_plain(char: str) -> bool:
    return char.isalnum() or char.isspace() or char in _PUNCTUATION


def _with_before(line: list[Word]) -> list[tuple[str, Word]]:
    """Each word that is no small one, with the one before it ("" where there is none)."""
    telling = [word for word in line if not is_stop(word)]
    return [(telling[place - 1].folded if place else "", word) for place, word in enumerate(telling)]


def _pairs(line: list[Word]) -> list[tuple[str, str]]:
    return [(before, word.folded) for before, word in _with_before(line)]


def _negations(line: list[Word]) -> int:
    return sum(word.folded in NEGATIONS for word in line)


def _why_not_list(edit: Edit, kind: str, now: Any) -> str | None:
    allowed = {"reorder": _REORDER, "trim": _TRIM, "select": _SELECT}[edit.action]
    if not isinstance(now, list) or not allowed.fullmatch(kind):
        return blocked(kind) if not isinstance(now, list) else f"{kind} keeps its items and their order"
    # Items that other edits add follow the base's.
    order, count = edit.value, len(now)
    if not isinstance(order, list) or not all(type(number) is int and number >= 0 for number in order):
        return "an order is a list of indexes"
    if len(set(order)) != len(order):
        return "an order names each item once"
    added = [number for number in order if number >= count]
    if added and kind not in ("/skills", "/skills/*/keywords"):
        return f"{kind} has {count} items"
    if edit.action == "reorder" and set(range(count)) - set(order):
        return "an order names every item"
    if _IN_TIME.fullmatch(kind) and order != sorted(order):
        return f"{kind} keeps its order in time"
    return None


def _why_not_add(base: Base, edit: Edit) -> str | None:
    kind = generic(edit.path)
    if not edit.path.endswith("/-") or not _ADD.fullmatch(kind):
        return f"nothing is added at {kind[:80]}: only skills are, where the CV shows evidence of them"
    if kind == "/skills/*":
        value = edit.value
        if isinstance(value, dict) and set(value) == {"name", "keywords"} and value["name"] == OTHER[base.language]:
            added = value["keywords"] if isinstance(value["keywords"], list) else []
            return next(
                filter(None, (_why_not_skill(base, one) for one in added)), None if added else "it adds nothing"
            )
        if not isinstance(value, dict) or set(value) != {"name"}:
            return "a skill is added by its name alone"
        name = value["name"]
    else:
        try:
            at(base.document, edit.path.removesuffix("/keywords/-"))
        except NoSuchPath as error:
            return str(error)
        name = edit.value
    return _why_not_skill(base, name)


def _why_not_skill(base: Base, name: object) -> str | None:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_SKILL or not name.isprintable():
        return f"a skill is one line of 1 to {_LONGEST_SKILL} characters"
    return why_no_skill(base, name)


def why_no_skill(base: Base, name: str) -> str | None:
    """Why `name` cannot be added to the skills; None: the base has evidence of it, and does not list it yet."""
    line = words(name, base.language)
    if not any((not is_stop(word) and word.folded[0].isalpha()) or word.special for word in line):
        return f"{name!r} is no skill"
    if any(word.folded in _RANKS for word in line):
        return f"{name!r} is a rank, no skill"
    listed = [place for place in base.places if place.path.startswith("/skills/")]
    if any(fold(place.text) == fold(name) for place in listed):
        return f"{name!r} is among the skills already"
    exact = any(known_at(line, place) for place in range(len(line)))
    for place in base.places:
        if not place.tells:
            continue
        start = stands(Term(name, tuple(word.key for word in line), 1.0, skill=True, exact=False), place.words)
        if start is None:
            continue
        there = place.words[start : start + len(line)]
        if _negations(place.words[max(0, start - _NEAR) : start]):
            continue  # "no experience with Java" is none
        # What is a name must be the same name, not one of the same stem; nor "go" where "Go" is meant.
        if all(_same(one, other) for one, other in zip(line, there, strict=True)) and (
            not exact or known_at(there, 0) == len(there) or not known_at(line, 0)
        ):
            return None
    return f"the CV has no evidence of {name!r}"


def _same(one: Word, other: Word) -> bool:
    if one.folded == other.folded:
        return True
    if one.number or one.special or one.capital or other.capital:
        return other.folded in _with_plural(one)
    return _inflected(one.folded, other.folded)


def _inflected(one: str, other: str) -> bool:
    """Whether two words of the same stem are forms of one word: "universal" and "university" are not."""
    return abs(len(one) - len(other)) <= _LONGEST_ENDING and bool(_QUALITY.search(one)) == bool(_QUALITY.search(other))
