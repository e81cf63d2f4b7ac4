"""The lines of a section to its entries: what heads each, when it was, and what is said under it."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from annul.jobs.import_pdf.lines import Line, Segment
from annul.jobs.import_pdf.offline.dates import Period, is_open, is_rest, periods, without
from annul.jobs.import_pdf.offline.sections import style_of
from annul.jobs.import_pdf.offline.words import DEGREE, LANGUAGES, begins, has, place_score

_DASH = re.compile(r"\s*(?:-{1,3}|–|—|→|\bto\b|\bà\b|\bbis\b|\ba\b)(?=\s|$)")


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
            if not _dated(part.text):
                starts[round(part.x0 / 4)] += 1
    columns: list[float] = []
    for start, _ in sorted(starts.items()):
        count = starts[start] + starts.get(start + 1, 0)
        if count >= max(2, 0.4 * len(wide)) and (not columns or start * 4 - columns[-1] > 40):
            columns.append(start * 4.0)
    if len(columns) < 2:
        return lines
    right = [part for line in wide for part in line.parts[1:]]
    if sum(len(part.text) < 22 and _dated(part.text) for part in right) > 0.3 * len(right):
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


def _dated(text: str) -> bool:
    found = periods(text)
    return bool(found) and sum(period.stop - period.begin for period in found) > 0.6 * len(text.strip())


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


def entries(lines: list[Line]) -> list[Entry]:
    """The entries of a section, in order."""
    lines = mend_periods(ungrid(mend_words(list(lines))))
    if not lines:
        return []
    starts = _starts(lines)
    found: list[Entry] = []
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found.append(_entry(lines[begin:end]))
    return found


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
    for anchor in anchors:
        back = anchor
        while back > floor and anchor - back < max(offset, 0) and not _is_body(lines[back - 1]):
            back -= 1
        if starts and back <= starts[-1]:
            continue
        starts.append(back)
        floor = anchor + 1
    starts[0] = 0
    return starts


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
        if not long and (_dated(part.text) or not rest[0] or (not rest[1] and len(rest[0]) < 90) or ranged):
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
    width = max((line.parts[0].x1 for line in lines if line.bullet or len(line.parts) == 1), default=0.0)
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
                and (not in_body or _dated(text) or not found[0].single)
            )
            if usable and (_anchors(line) or _dated(text)):
                best = next((one for one in found if not one.single), found[0])
                dated.append(best)
                text = without(text, best)
            if text.strip(" ,|·–—-()"):
                parts.append((part, text))
        if dated:
            period = dated[0]
        if not parts:
            continue
        if not in_body and head and not line.bullet and not dated and (_is_body(line) or _complete(head, period)):
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
        if any(char.isalnum() for char in chunk):
            out.append(Piece(chunk, row, part))
    return out
