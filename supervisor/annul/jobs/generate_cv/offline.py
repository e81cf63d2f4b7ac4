"""What the offline engine shows that the base CV hides: skills with evidence, in the base's own words. Pure."""

from __future__ import annotations

import re

from annul.jobs.generate_cv import gates
from annul.jobs.generate_cv.edits import Edit
from annul.jobs.generate_cv.places import Match, stands
from annul.jobs.generate_cv.terms import Term
from annul.jobs.generate_cv.words import fold

_MOST = 10  # skills added
# Groups of skills that anything technical belongs to.
_GENERAL = re.compile(
    r"(?:technical |other |key |core |hard )?skills|tools?|technologies|tech(?:nical)? stack|technical|"
    r"competences(?: techniques| cles)?|outils|technologies|techniques|informatique|"
    r"(?:edv-|it-|fach)?kenntnisse|werkzeuge|technologien|tools|"
    r"(?:otras )?(?:competencias|habilidades)(?: tecnicas)?|herramientas|tecnologias"
)


def skills_to_show(base: gates.Base, found: Match) -> list[Edit]:
    """Known skills that the offer asks for and the base has evidence of, added to its skills as the base writes them.

    Only those that are known to be skills (known.py): what else an offer asks for, and a highlight says, may be a
    place or a habit; it stands in the report, as injectable. They go into a group for anything technical where there
    is one, else into one of their own.
    """
    skills = base.document.get("skills", [])
    general = next(
        (number for number, skill in enumerate(skills)
         if skill.get("keywords") and _GENERAL.fullmatch(fold(skill.get("name", "")).strip(" :"))),
        None,
    )  # fmt: skip
    added: list[Edit] = []
    for term in found.injectable:
        written = _as_written(base, term)
        if not term.skill or not written or len(added) == _MOST or gates.why_no_skill(base, written) is not None:
            continue
        path = "/skills/-" if general is None else f"/skills/{general}/keywords/-"
        value = {"name": written} if general is None else written
        added.append(
            Edit(path=path, action="add", value=value, why="the offer asks for it, and the CV says it elsewhere")
        )
    return added


def _as_written(base: gates.Base, term: Term) -> str:
    """A term as the base writes it, at the first place that is evidence of it."""
    for place in base.places:
        start = stands(term, place.words) if place.tells else None
        if start is not None:
            last = place.words[start + len(term.keys) - 1]
            return place.text[place.words[start].at : last.at + len(last.text)]
    return ""
