"""An address out of the pieces of text that look like places."""

from __future__ import annotations

import re

from annul.jobs.import_pdf.offline.words import country_of
from annul.jobs.resume import Location

STREET = re.compile(
    r"\b(?:rue|avenue|av\.|boulevard|bd|place|chemin|allee|impasse|quai|street|st\.|road|rd\.?|ave\.?|lane|drive|"
    r"court|square|apt|suite|calle|plaza|via|piazza)\b|(?:strasse|straße|str\.|weg|platz|gasse)\b",
    re.IGNORECASE,
)
ZIP = re.compile(r"(?<![\w-])(?:([A-Z]{1,2})-)?(\d{5}(?:-\d{4})?|\d{4})(?!\w)")


def location_of(texts: list[str]) -> Location | None:
    """An address out of the pieces that look like places."""
    if not texts:
        return None
    place = Location()
    streets: list[str] = []
    texts = [re.sub(r"\s*\(([A-Z]{2})\)$", r", \1", text) for text in texts]
    parts = [part.strip() for text in texts[:4] for part in re.split(r",|\s+[–—-]{1,2}\s+", text) if part.strip()]
    for part in list(parts):
        if code := country_of(part):
            place.country_code = place.country_code or code
            parts.remove(part)
    names: list[str] = []
    for part in parts:
        left = part
        if STREET.search(part) and not re.match(r"^\d{5}\s", part):
            streets.append(part)
            continue
        if (match := ZIP.search(part)) and not place.postal_code:
            place.postal_code = match[2]
            left = (part[: match.start()] + part[match.end() :]).strip(" -")
        if re.fullmatch(r"[A-Z]{2,3}", left) and names:
            place.region = left
        elif left and not any(char.isdigit() for char in left):
            names.append(left)
        elif left:
            streets.append(left)
    if names:
        # "Mapo-gu, Seoul" before a country: the city is the larger; "Springfield, Illinois": the first.
        if place.country_code and len(names) == 2 and not place.postal_code and not streets:
            place.city = names[1] if "-" in names[0] else names[0]
            place.address, place.region = (names[0], "") if "-" in names[0] else ("", names[1])
        else:
            place.city = names[0]
            place.region = place.region or (names[1] if len(names) > 1 else "")
    place.address = place.address or ", ".join(streets)
    return place if place != Location() else None
