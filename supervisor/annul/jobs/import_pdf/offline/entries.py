"""The lines of a section to its entries: what heads each, when it was, and what is said under it."""

from __future__ import annotations

import re

import msgspec

from annul.jobs.import_pdf.offline.dates import Period, fills, flat, periods, without
from annul.jobs.import_pdf.offline.grid import mend_periods, mend_titles, mend_words, ungrid, without_titles
from annul.jobs.import_pdf.offline.sections import style_of
from annul.jobs.import_pdf.offline.words import DEGREE, begins, place_score
from annul.jobs.pdf.lines import Line, Segment

# How long something lasted, as some print beside the dates: no date itself, and no name.
_DURATION = re.compile(
    r"\(?(?:\d+\+?\s*(?:y(?:ea)?rs?|m(?:o(?:nth)?s?)?|ans?|mois|jahre?n?|monate?n?|anos?|meses|mes|anni|anno|mesi|mese|"
    r"jaar|maand(?:en)?)\.?,?\s*(?:and|et|und|y|e|en)?\s*)+\)?"
)
_TAIL = re.compile(r"\s+(?:in|of|en|at|chez|bei|im|à|@)$", re.IGNORECASE)  # what joins a run to the next


class Piece(msgspec.Struct):
    """A piece of an entry's head: one segment, or a bold beginning and the rest after it."""

    text: str
    row: int  # of the head's lines, from 0
    part: Segment
    first: bool = False  # the distinct beginning of its segment


class Entry(msgspec.Struct):
    """One post, degree or project as printed."""

    head: list[Piece]
    period: Period | None
    bullets: list[str] = []
    prose: list[str] = []  # paragraphs that are no list items


def entries(lines: list[Line]) -> list[Entry]:
    """The entries of a section, in order."""
    lines = [line for line in lines if not _DURATION.fullmatch(flat(line.text))]
    lines = mend_periods(ungrid(mend_titles(mend_words(without_titles(lines)))))
    if not lines:
        return []
    starts = _starts(lines)
    found: list[Entry] = []
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found.append(_entry(lines[begin:end]))
    return _with_employers(found)


def _with_employers(found: list[Entry]) -> list[Entry]:
    """Posts that stand under one employer's name, each with that name in its head.

    The employer's line has a look of its own, which the first entry begins with; a head without such a line is of the
    employer above. An employer's line that has a period of its own, over its posts', is no post.
    """
    looks = [_look(entry.head[0]) if entry.head else None for entry in found]
    outer = looks[0] if looks else None
    if outer is None or all(look in (outer, None) for look in looks):
        return found
    above: list[Piece] = []  # the employer's line
    inner: set[tuple[str, float, bool]] = set()  # how the lines of its posts look
    out: list[Entry] = []
    for index, entry in enumerate(found):
        look = looks[index]
        if look == outer:
            top = entry.head[0].row
            above = [piece for piece in entry.head if piece.row == top]
            inner = {_look(piece) for piece in entry.head if piece.row != top and not piece.first}
            follows = index + 1 < len(found) and looks[index + 1] not in (outer, None)
            if follows and not (inner or entry.bullets or entry.prose):
                continue
        if look in (outer, None) or (inner and look not in inner):
            out.append(entry)
        else:
            inner = inner or {look} if look else inner
            shifted = [Piece(piece.text, piece.row + 1, piece.part, piece.first) for piece in entry.head]
            out.append(Entry([*above, *shifted], entry.period, entry.bullets, entry.prose))
    return out


def _look(piece: Piece) -> tuple[str, float, bool]:
    return piece.part.head, round(piece.part.size * 2) / 2, piece.part.head_bold


def _is_body(line: Line) -> bool:
    """A list item, or a line of a paragraph."""
    text = line.parts[0].text
    if line.bullet:
        return True
    words = text.split()
    if line.bold and len(words) < 14:
        return False  # titles are bold; what is said under them is not
    if len(words) < 9 and begins(DEGREE, text):
        return False
    small = sum(word[:1].islower() for word in words)
    return (
        (len(words) >= 9 and small > 0.4 * len(words))
        or (
            len(words) >= 5
            and small >= 0.5 * len(words)
            and (text.endswith((".", ",", ";", "-")) or len(line.parts) == 1)
        )
        or (text[:1].islower() and len(line.parts) == 1 and not periods(text))
    )


def _starts(lines: list[Line]) -> list[int]:
    """Indices of the lines that begin an entry."""
    anchors = [index for index, line in enumerate(lines) if _anchors(line)]
    if not anchors:
        return _starts_by_style(lines)
    if apart := _starts_by_gaps(lines, anchors):
        return apart
    first = next((index for index, line in enumerate(lines) if not line.bullet), 0)
    style = style_of(lines[first])[:3]  # capitals or not: an employer may be called NASA
    same = [
        index
        for index, line in enumerate(lines)
        if style_of(line)[:3] == style and not _is_body(line) and not _hangs(lines, index)
    ]
    # In the style of the first line, one for each date: these begin the entries.
    apart = [index for place, index in enumerate(same) if place == 0 or not _adjacent(same[place - 1], index, anchors)]
    if abs(len(apart) - len(anchors)) <= max(0, len(anchors) // 5) and _interleaved(apart, anchors, len(lines)):
        return [0, *apart[1:]] if apart and apart[0] == first and first > 0 else apart
    offset = anchors[0] - first
    starts: list[int] = []
    floor = 0
    looks = {style_of(line)[:3] for line in lines[first : anchors[0]]}  # of the lines above the first date
    for anchor in anchors:
        back = anchor
        while (
            back > floor
            and anchor - back < max(offset, 0)
            and not _is_body(lines[back - 1])
            and not _indented(lines[back - 1], lines[anchor].parts)
            and style_of(lines[back - 1])[:3] in looks
        ):
            back -= 1
        if starts and back <= starts[-1]:
            continue
        starts.append(back)
        floor = anchor + 1
    starts[0] = 0
    return starts


def _starts_by_gaps(lines: list[Line], anchors: list[int]) -> list[int]:
    """Where wider gaps set entries apart, each with one date: these begin them; else nothing."""
    gaps = sorted(line.gap for line in lines[1:] if line.gap > 0)
    if not gaps or len(anchors) < 2:
        return []
    usual = gaps[len(gaps) // 2 - (len(gaps) % 2 == 0)]
    starts = [0, *(index for index, line in enumerate(lines) if index and line.gap > max(1.25 * usual, usual + 2))]
    ends = [*starts[1:], len(lines)]
    each = all(sum(begin <= anchor < end for anchor in anchors) == 1 for begin, end in zip(starts, ends, strict=True))
    return starts if each and not any(lines[index].bullet for index in starts) else []


def _indented(line: Line, head: list[Segment]) -> bool:
    """The line stands further right than the head that these are the parts of, and under none of them.

    Browsers draw the marks of list items as shapes, which are no text: their indent is left.
    """
    found = periods(head[0].text)
    if found and found[0].begin < 2 and not fills(head[0].text):
        return False  # where the words begin after the date is not known
    return (
        len(line.parts) == 1
        and line.x0 > head[0].x0 + 5
        and all(abs(part.x0 - line.x0) > 4 and abs(part.x1 - line.x1) > 4 for part in head)
        and all(abs(part.x0 + part.x1 - line.x0 - line.x1) > 8 for part in head)
    )


def _hangs(lines: list[Line], index: int) -> bool:
    """The line runs on from a list item above it."""
    for above in range(index - 1, max(-1, index - 6), -1):
        if lines[above].bullet:
            return abs(lines[index].x0 - lines[above].x0) < 2.5
    return False


def _anchors(line: Line) -> bool:
    """The line carries the date of an entry: at its start or end, or as a segment of its own."""
    if line.bullet and len(line.parts) == 1:
        return False
    for part in line.parts:
        if line.bullet and part is line.parts[0]:
            continue
        found = periods(part.text)
        if not found:
            continue
        rest = part.text[: found[0].begin].strip(" (,|·–—-"), part.text[found[-1].stop :].strip(" ),.|·–—-")
        long = len(part.text.split()) > 16
        ranged = any(not period.single for period in found)
        if not long and (fills(part.text) or not rest[0] or (not rest[1] and len(rest[0]) < 90) or ranged):
            return not (part.text.rstrip().endswith(".") and len(rest[0].split()) > 5 and not ranged)
    return False


def _adjacent(before: int, index: int, anchors: list[int]) -> bool:
    """A second line of the same head: it follows at once and the first has no date of its own yet."""
    return index - before == 1 and not (before in anchors and index in anchors)


def _interleaved(starts: list[int], anchors: list[int], count: int) -> bool:
    """Most starts have exactly one date before the next start."""
    good = sum(
        sum(begin <= anchor < end for anchor in anchors) == 1
        for begin, end in zip(starts, [*starts[1:], count], strict=True)
    )
    return bool(starts) and good >= 0.7 * len(starts)


def _starts_by_style(lines: list[Line]) -> list[int]:
    """Without dates: by a first line in a look of its own, else by gaps, else one entry a line."""
    style = style_of(lines[0])[:3]
    same = [index for index, line in enumerate(lines) if style_of(line)[:3] == style and not line.bullet]
    others = len(lines) - len(same)
    if not lines[0].bullet and others and len(same) <= others + 1:
        return [index for place, index in enumerate(same) if place == 0 or index - same[place - 1] > 1]
    gaps = sorted(line.gap for line in lines[1:] if line.gap > 0)
    if gaps:
        usual = gaps[len(gaps) // 2]
        wide = [index for index, line in enumerate(lines) if index and line.gap > 1.35 * usual]
        if wide:
            return [0, *wide]
    if any(line.bullet for line in lines):
        return [0, *(index for index, line in enumerate(lines) if index and line.bullet)] if lines[0].bullet else [0]
    return list(range(len(lines))) if all(len(line.text) < 80 and not _is_body(line) for line in lines) else [0]


def _entry(lines: list[Line]) -> Entry:
    head: list[Piece] = []
    period: Period | None = None
    bullets: list[str] = []
    prose: list[str] = []
    row = 0
    in_body = False
    last: list[str] | None = None
    width = max((part.x1 for line in lines for part in line.parts), default=0.0)
    hang: float | None = None  # where the text of the list item stands
    previous: Line | None = None
    for line in lines:
        dated: list[Period] = []
        parts: list[tuple[Segment, str]] = []
        for part in line.parts:
            text = part.text
            found = periods(text)
            usable = (
                found
                and period is None
                and not (line.bullet and part is line.parts[0])
                and (not in_body or fills(text) or not found[0].single)
            )
            if usable and (_anchors(line) or fills(text)):
                best = next((one for one in found if not one.single), found[0])
                dated.append(best)
                text = without(text, best)
            if text.strip(" ,|·–—-()"):
                parts.append((part, text))
        if dated:
            period = dated[0]
        if not parts:
            continue
        under = bool(head) and period is not None and _names_two(head) and _indented(line, [one.part for one in head])
        if (
            not in_body
            and head
            and not line.bullet
            and not dated
            and (_is_body(line) or under or _complete(head, period))
        ):
            in_body = in_body or not all(place_score(text) >= 0.3 for _, text in parts)
        if not in_body and not line.bullet and row < 6:
            for part, text in parts:
                head += _pieces(part, text, row)
            row += 1
            previous = line
            continue
        in_body = True
        whole = " ".join(text for _, text in parts).replace("   ", " ")
        if line.bullet:
            bullets.append(whole)
            last = bullets
            hang = line.x0
        elif last and (
            (last is bullets and hang is not None and abs(line.x0 - hang) < 2.5)
            or _runs_on(last[-1], whole, line, previous, width)
        ):
            last[-1] = _joined(last[-1], whole)
        else:
            prose.append(whole)
            last = prose
        previous = line
    return Entry(head=head, period=period, bullets=bullets, prose=prose)


def _complete(head: list[Piece], period: Period | None) -> bool:
    """The head says when, who and what: what follows is said about it."""
    return period is not None and sum(place_score(piece.text) < 0.3 for piece in head) >= 2


def _names_two(head: list[Piece]) -> bool:
    """The head has several pieces, or one that can be cut in two."""
    return len(head) > 1 or bool(re.search(r",\s|\s[@|–—-]\s|\s(?:at|chez|bei)\s", head[0].text))


def _runs_on(before: str, text: str, line: Line, previous: Line | None, width: float) -> bool:
    """The line continues the one above, rather than beginning a paragraph."""
    if before.endswith("-") or text[:1].islower():
        return True
    if before.endswith((".", "!", "?", ";")) and previous is not None and previous.x1 < width - 2.5 * line.size:
        return False
    # A line that could have taken the next one's first word, had it been the same paragraph, ended there.
    if previous is not None:
        word = len(text.split(" ", maxsplit=1)[0]) * line.size * 0.5
        return previous.x1 + word > width - line.size
    return True


def _joined(before: str, text: str) -> str:
    """Two lines of a paragraph: a hyphen at the end of the first joins a broken word."""
    if before.endswith("-") and text[:1].islower() and before[-2:-1].isalpha():
        word = before.rsplit(" ", 1)[-1]
        return before + text if "-" in word[:-1] else before[:-1] + text
    return f"{before} {text}"


def paragraph(lines: list[str]) -> str:
    """Lines to one paragraph."""
    whole = ""
    for line in lines:
        whole = _joined(whole, line) if whole else line
    return whole


def _pieces(part: Segment, text: str, row: int) -> list[Piece]:
    """A segment of a head, in two where its beginning is in a font of its own."""
    out: list[Piece] = []
    runs = [bare for run in part.runs if len(bare := run.strip(" ,|·•–—-:(@")) > 1]
    for whole in re.split(r"\s{3,}|\s+[|•·]\s+", text):
        chunk = whole
        first = True
        for run in runs:
            rest = chunk[len(run) :]
            if not chunk.startswith(run) or len(rest) < 3:
                continue
            # The first boundary may be a bare space; later ones need a mark of their own.
            if re.match(r"\s*[,|·•–—:(@]|\s+-\s" if not first else r"\s*[,|·•–—:(@-]|\s", rest):
                out.append(Piece(_TAIL.sub("", run), row, part, first=True))
                chunk = rest.strip(" ,|·•–—-:")
                first = False
        chunk = chunk.strip(" ,|·•–—-:")
        if chunk.startswith("(") and chunk.endswith(")"):
            chunk = chunk[1:-1]
        if any(char.isalnum() for char in chunk) and not _DURATION.fullmatch(flat(chunk)):
            out.append(Piece(chunk, row, part))
    return out
