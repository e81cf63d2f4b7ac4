"""Lines as they were meant: grids read by column, and words and periods that break in narrow columns mended."""

from __future__ import annotations

import re
from collections import Counter

from annul.jobs.import_pdf.offline.dates import fills, is_open, is_rest, periods
from annul.jobs.import_pdf.offline.words import LANGUAGES, has
from annul.jobs.pdf.headings import plain
from annul.jobs.pdf.lines import Line, Segment

_UNFINISHED = re.compile(
    r"(?:\b(?:in|of|and|the|for|et|de|des|du|en|und|für|im|der|y|del|di|e|do|da|van)|&|-|,)$", re.IGNORECASE
)
_COLUMNS = set(
    """period|periode|periodo|zeitraum|date|dates|datum|data|fecha|year|years|jahr|annee|annees|ano|anno|jaar|from|to|
    von|bis|du|au|desde|hasta|dal|al|employer|company|organisation|organization|employeur|entreprise|societe|
    arbeitgeber|firma|unternehmen|empresa|azienda|datore di lavoro|werkgever|bedrijf|position|post|role|job title|
    poste|fonction|intitule|tatigkeit|funktion|puesto|cargo|ruolo|mansione|posizione|functie|school|institution|
    university|etablissement|ecole|schule|hochschule|centro|istituto|scuola|instituicao|degree|qualification|diplome|
    abschluss|titulo|titolo|diploma|curso|subject|place|location|lieu|ort|lugar|luogo|plaats|grade|note|result|
    description|beschreibung|missions|taken|qualification obtained""".replace("\n", " ").split("|")
)
_COLUMNS = {" ".join(word.split()) for word in _COLUMNS}
_DASH = re.compile(r"\s*(?:-{1,3}|–|—|→|\bto\b|\bà\b|\bbis\b|\ba\b)(?=\s|$)")


def without_titles(lines: list[Line]) -> list[Line]:
    """A table's rows without the row of its columns' titles."""
    return [
        line for line in lines if len(line.parts) < 2 or not all(plain(part.text) in _COLUMNS for part in line.parts)
    ]


def ungrid(lines: list[Line]) -> list[Line]:
    """Entries set side by side, one after the other.

    A grid has rows of segments whose left ends stand in the same columns; a date at the right end of a row is none.
    """
    wide = [line for line in lines if len(line.parts) > 1]
    if len(wide) < 2 or len(wide) < 0.4 * len(lines):
        return lines
    starts: Counter[int] = Counter()
    for line in lines:
        for part in line.parts:
            if not fills(part.text):
                starts[round(part.x0 / 4)] += 1
    columns: list[float] = []
    for start, _ in sorted(starts.items()):
        count = starts[start] + starts.get(start + 1, 0)
        if count >= max(2, 0.4 * len(wide)) and (not columns or start * 4 - columns[-1] > 40):
            columns.append(start * 4.0)
    if len(columns) < 2:
        return lines
    right = [part for line in wide for part in line.parts[1:]]
    beside = [part for line in wide for part in line.parts[1:] if not fills(line.parts[0].text)]
    if sum(len(part.text) < 22 and fills(part.text) for part in beside) > 0.3 * len(right):
        return lines
    first = [line for line in wide if abs(line.parts[0].x0 - columns[0]) < 10]
    if len(first) < 0.6 * len(wide):
        return lines
    # Labels in the left column with their text at the right are no grid.
    labels = [line.parts[0].text for line in wide]
    if len(columns) == 2 and (
        sum("," in part.text for part in right) >= 0.5 * len(right) > 2 * sum("," in text for text in labels)
        or (
            sum(has(LANGUAGES, text) for text in labels) > 0.5 * len(labels)
            and not any(has(LANGUAGES, part.text) for part in right)
        )
    ):
        return lines
    heads = {(line.parts[0].head, line.parts[0].head_bold) for line in wide}
    tails = {(part.head, part.head_bold) for part in right}
    if heads.isdisjoint(tails):
        return lines
    out: list[Line] = []
    for index, left in enumerate(columns):
        end = columns[index + 1] - 6 if index + 1 < len(columns) else float("inf")
        for line in lines:
            parts = [part for part in line.parts if (index == 0 or part.x0 >= left - 6) and part.x0 < end]
            if parts:
                # A wide gap before each column: no entry runs from one into the next.
                gap = 999.0 if index and not any(done.left == left for done in out) else line.gap
                out.append(Line(parts=parts, page=line.page, column=line.column, left=left, gap=gap))
    return out


def mend_titles(lines: list[Line]) -> list[Line]:
    """Join a title that breaks over two lines of a narrow column: both in one look, the first full or unfinished."""
    out: list[Line] = []
    right = max((part.x1 for line in lines for part in line.parts), default=0.0)
    taken: set[int] = set()
    for index, line in enumerate(lines):
        below = lines[index + 1] if index + 1 < len(lines) else None
        for place, part in enumerate(line.parts):
            if below is None or id(part) in taken or part.bullet or not 0 < below.gap < 1.6 * part.size:
                continue
            end = line.parts[place + 1].x0 - part.size if place + 1 < len(line.parts) else right
            for rest in below.parts:
                if rest.bullet or id(rest) in taken or abs(rest.x0 - part.x0) > 2 or not _is_rest(part, rest, end):
                    continue
                part.text, part.x1 = f"{part.text} {rest.text}", max(part.x1, rest.x1)
                part.runs = []
                taken.add(id(rest))
                break
        parts = [part for part in line.parts if id(part) not in taken]
        if parts:
            out.append(Line(parts=parts, page=line.page, column=line.column, left=line.left, gap=line.gap))
    return out


def _is_rest(part: Segment, rest: Segment, end: float) -> bool:
    """The title runs on in `rest`. `end` is how far right it could have gone."""
    alike = (part.head, part.head_bold) == (rest.head, rest.head_bold) and abs(part.size - rest.size) < 0.3
    words = part.text.split()
    if not alike or len(words) > 9 or len(rest.text.split()) > 6 or periods(part.text) or periods(rest.text):
        return False
    if part.text.endswith((".", ":", ";")) or "," in rest.text:
        return False
    if not part.head_bold:
        return bool(_UNFINISHED.search(part.text)) and not rest.text.endswith(".") and len(words) < 7
    full = part.x1 + len(rest.text.split()[0]) * 0.55 * part.size > end
    return full or rest.text[:1].islower() or bool(_UNFINISHED.search(part.text))


def mend_periods(lines: list[Line]) -> list[Line]:
    """Join a period that breaks over two lines in a narrow column of dates."""
    out: list[Line] = []
    skip: set[int] = set()
    for index, line in enumerate(lines):
        for part in line.parts:
            if index + 1 >= len(lines) or (line.bullet and part is line.parts[0]):
                continue
            found = periods(part.text)
            head = part.text
            if found and found[0].begin < 3:
                dash = _DASH.match(part.text, found[0].stop)
                head = part.text[: dash.end() if dash else found[0].stop]
            if not (is_open(head.strip()) or is_open(part.text)):
                continue
            for below in lines[index + 1].parts:
                if (
                    (abs(below.x0 - part.x0) < 45 or abs(below.x1 - part.x1) < 12)
                    and (rest := _rest_of(below.text))
                    and id(below) not in skip
                ):
                    cut = len(head) if is_open(head.strip()) else len(part.text)
                    part.text = f"{part.text[:cut].rstrip()} {rest}{part.text[cut:]}"
                    below.text = below.text[len(rest) :].strip()
                    if not below.text:
                        skip.add(id(below))
                    break
        parts = [part for part in line.parts if id(part) not in skip]
        if parts:
            out.append(Line(parts=parts, page=line.page, column=line.column, left=line.left, gap=line.gap))
    return out


def mend_words(lines: list[Line]) -> list[Line]:
    """Join a word that breaks at the end of a narrow column beside another."""
    out: list[Line] = []
    index = -1
    while (index := index + 1) < len(lines):  # `lines` shrinks on the way
        line = lines[index]
        first = line.parts[0]
        below = lines[index + 1].parts[0] if index + 1 < len(lines) else None
        while (
            len(line.parts) > 1
            and below is not None
            and first.text.endswith("-")
            and below.text[:1].islower()
            and abs(below.x0 - first.x0) < 3
            and (below.x1 < line.parts[1].x0 or len(lines[index + 1].parts) == 1)
        ):
            first.text = first.text[:-1] + below.text
            following = lines[index + 1].parts
            following.remove(below)
            below = following[0] if following else None
            if not following:
                del lines[index + 1]
                below = lines[index + 1].parts[0] if index + 1 < len(lines) else None
        out.append(line)
    return out


def _rest_of(text: str) -> str:
    """The beginning of a text that ends a period begun above; "" if there is none."""
    words = text.split(" ")
    for count in (3, 2, 1):
        beginning = " ".join(words[:count])
        if len(words) >= count and is_rest(beginning):
            return beginning
    return ""
