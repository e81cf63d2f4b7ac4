"""Nothing is thrown away: the lines whose words the CV does not hold, to be kept beside it."""

from __future__ import annotations

import re
import unicodedata

from annul.jobs.import_pdf.offline.dates import periods
from annul.jobs.import_pdf.offline.words import LABELS
from annul.jobs.pdf.headings import plain

LOST = 0.34  # of a line's words missing from the CV: more, and the line is kept
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """A text's words for comparison: without accents, case, dates and what forms print before a contact.

    Dates are left out because a CV holds them as ISO 8601.
    """
    for period in reversed(periods(text)):
        text = f"{text[: period.begin]} {text[period.stop :]}"
    flat = unicodedata.normalize("NFKD", text.casefold())
    flat = "".join(char for char in flat if not unicodedata.combining(char))
    label, colon, rest = flat.partition(":")
    if colon and plain(label) in LABELS:
        flat = rest
    return [word for word in _WORD.findall(flat) if word not in LABELS]


def lost(lines: list[str], held: str) -> list[str]:
    """The lines of which more than `LOST` of the words are nowhere in `held`, all of the CV's text."""
    known = set(words_of(held)) | set(_WORD.findall(plain(held)))
    joined = "".join(char for char in plain(held) if char.isalnum())
    out = []
    for line in lines:
        words = words_of(line)
        # Words that a line's end broke are whole in the CV, and so are the beginnings of joined ones.
        missing = [word for word in words if word not in known and (len(word) < 4 or word not in joined)]
        if len(missing) > LOST * len(words):
            out.append(line)
    return out
