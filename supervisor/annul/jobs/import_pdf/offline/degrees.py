"""A degree as printed: its kind and its subject."""

from __future__ import annotations

import re

from annul.jobs.import_pdf.offline.dates import flat
from annul.jobs.import_pdf.offline.words import DEGREE, has

_IN = re.compile(
    r"\s+(?:in|en|of|de|im|für|fur|sur|spécialité|specialite|mention|option|major(?:ing)? in|di)\s+|"
    r"\s*[:–—|]\s*|\s+-\s+|,\s+",
    re.IGNORECASE,
)


def degree_parts(text: str) -> tuple[str, str]:
    """A degree's kind and its subject.

    >>> degree_parts("Bachelor of Arts in Computer Science")
    ('Bachelor of Arts', 'Computer Science')
    """
    text = re.sub(r"^(?:graduated\s+(?:as|with)|graduation as)\s+(?:an?\s+)?", "", text, flags=re.IGNORECASE)
    if not text:
        return "", ""
    if match := re.match(
        r"(.{2,30}?\((?:hons?|honours|honors)\.?\))\s*(?:(?:in|of)\b|,|-|–)?\s*(.+)", text, re.IGNORECASE
    ):
        return match[1], match[2]
    best: tuple[str, str] | None = None
    for match in _IN.finditer(text):
        left, right = text[: match.start()].strip(" ,"), text[match.end() :].strip(" ,")
        if not left or not right or text[: match.end()].count("(") != text[: match.end()].count(")"):
            continue
        if not has(DEGREE, left):
            if has(DEGREE, right) and match[0].strip() in (",", "-", "–", "—", "|", ":") and best is None:
                best = right, left
            continue
        # "Bachelor of Arts in History": the last "of" or "de" that still belongs to the degree is passed over.
        word = match[0].strip().casefold()
        if word in ("of", "de") and re.match(
            r"(?:science|arts|engineering|technology|business admin|laws|philosophy|fine arts|education|commerce|"
            r"technologie|conduite|recherche)",
            right,
            re.IGNORECASE,
        ):
            rest = _IN.search(right)
            if rest is None:
                return (text, "") if len(right.split()) <= 2 else (left, right)
            continue
        return left, right
    if best:
        return best
    if (match := DEGREE.match(flat(text))) and " " in match[0] and match.end() < len(text):
        return text[: match.end()], text[match.end() :].strip(" ,")
    if match and match.end() == len(text):
        return text, ""  # "Licence professionnelle"
    words = text.split()
    for count in range(min(4, len(words) - 1), 0, -1):  # "M.Sc. Digital Media"
        left, right = " ".join(words[:count]), " ".join(words[count:])
        if has(DEGREE, words[count - 1]) and not has(DEGREE, right) and not right.startswith(("of ", "de ")):
            return left, right
    return (text, "") if has(DEGREE, text) else ("", text)
