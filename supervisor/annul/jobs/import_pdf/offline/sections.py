"""Lines to sections, by headings.

A heading is a lone line whose words are known (`headings`), in a style that is used for headings; in that style,
words that are not known head a section too, which is kept as it is.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import msgspec

from annul.jobs.import_pdf.offline.dates import fills, periods
from annul.jobs.pdf.columns import arrange
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.headings import field_of, told_by_a_word
from annul.jobs.pdf.lines import Line, Segment

Style = tuple[str, float, bool, bool]  # font, size, bold, capitals
_NUMBERS = re.compile(r"\d+")
PAGE = re.compile(
    r"^(?:page|seite|pagina|página)?\s*\d+\s*(?:(?:/|of|sur|von|de|di)\s*\d+)?$|\b(?:page|seite|página)\s+\d+\s+(?:of|sur|von|de)\s+\d+$",
    re.IGNORECASE,
)


class Section(msgspec.Struct):
    """A heading and the lines under it."""

    field: str  # of JSON Resume; "top" before any heading; "summary", "contact", "other"
    title: str  # the heading as printed; "" for "top"
    lines: list[Line]
    column: int = 0


def lines_of(document: Document) -> list[Line]:
    """All lines in reading order, without page numbers and running heads."""
    pages = [arrange(page.items, page.number, page.width) for page in document.pages]
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_NUMBERS.sub("#", line.text) for line in page})
    heights = {page.number: page.height for page in document.pages}
    out: list[Line] = []
    for page in pages:
        for line in page:
            margin = line.y < 0.09 * heights[line.page] or line.y > 0.93 * heights[line.page]
            repeated = len(pages) > 1 and seen[_NUMBERS.sub("#", line.text)] > 1
            if margin and (repeated or PAGE.search(line.text)) and not (line.page == 1 and line.y > 100):
                continue
            if line.y < 0.06 * heights[line.page] and line.gap > 3 * line.size and _is_imprint(line):
                continue
            out.append(line)
    return out


def _is_imprint(line: Line) -> bool:
    """What a template prints at a page's foot: the day, the page, whose template it is."""
    return all(fills(part.text) or PAGE.search(part.text) or "©" in part.text for part in line.parts)


def style_of(line: Line) -> Style:
    """How a line's first segment looks."""
    part = line.parts[0]
    letters = [char for char in part.text if char.isalpha()]
    caps = len(letters) > 2 and sum(char.isupper() for char in letters) > 0.85 * len(letters)
    return part.head, round(part.size * 2) / 2, part.head_bold, caps


def split(lines: list[Line]) -> list[Section]:
    """Sections in reading order. The first is what stands before any heading ("top"); it may be empty."""
    lines = _whole_headings(lines)
    heads = _headings(lines)
    sections = [Section("top", "", [])]
    now = sections[0]
    by_left: dict[int, Section] = {}  # the section last open in each column of the page before
    place = (0, 0)
    for index, line in enumerate(lines):
        here = (line.page, line.column)
        if here != place and index not in heads:
            now = _continued(sections, now, line, place, by_left)
        place = here
        if index in heads:
            field, title = heads[index]
            now = Section(field, title, [], line.column)
            sections.append(now)
            rest = line.parts[1:]
            if rest:
                now.lines.append(Line(parts=rest, page=line.page, column=line.column, left=line.left, gap=0.0))
        else:
            now.lines.append(line)
        by_left[round(line.left)] = now
    return [section for section in sections if section.lines or section.title]


def _continued(
    sections: list[Section], now: Section, line: Line, place: tuple[int, int], by_left: dict[int, Section]
) -> Section:
    """The section that a column's first line belongs to, where that is no heading."""
    if place == (0, 0):
        return now
    if line.page != place[0]:  # a new page: the column above goes on
        near = min(by_left, key=lambda left: abs(left - line.left), default=None)
        return by_left[near] if near is not None and abs(near - line.left) < 20 and line.column else now
    if line.page == 1 and line.column:  # text beside the sidebar of the first page stands before any heading
        top = Section("top", "", [], line.column)
        sections.append(top)
        return top
    near = min(by_left, key=lambda left: abs(left - line.left), default=None)
    return by_left[near] if near is not None and abs(near - line.left) < 12 else now


def _whole_headings(lines: list[Line]) -> list[Line]:
    """The lines, with headings that break over two lines of a narrow column made one."""
    out: list[Line] = []
    for line in lines:
        if out and (rest := _rest_in_margin(out[-1], line)):
            first, *others = out[-1].parts
            whole = msgspec.structs.replace(first, text=f"{first.text} {rest.text}", x1=max(first.x1, rest.x1), runs=[])
            out[-1] = msgspec.structs.replace(out[-1], parts=[whole, *others])
            if line.parts[1:]:
                out.append(msgspec.structs.replace(line, parts=line.parts[1:]))
        elif out and _is_rest_of_heading(out[-1], line):
            first, second = out[-1].parts[0], line.parts[0]
            whole = msgspec.structs.replace(
                first, text=f"{first.text} {second.text}", x1=max(first.x1, second.x1), runs=[]
            )
            out[-1] = msgspec.structs.replace(out[-1], parts=[whole])
        else:
            out.append(line)
    return out


def _rest_in_margin(above: Line, line: Line) -> Segment | None:
    """The second line of a heading that hangs in the margin, beside the text of its section."""
    first, second = above.parts[0], line.parts[0]
    if len(above.parts) < 2 or (above.page, above.column) != (line.page, line.column) or line.bullet:
        return None
    alike = (first.head, first.head_bold) == (second.head, second.head_bold) and abs(first.size - second.size) < 0.3
    level = abs(first.x0 - second.x0) < 3 or abs(first.x1 - second.x1) < 3
    if not alike or not level or second.x1 > above.parts[1].x0 or not 0 < line.gap < 1.7 * line.size:
        return None
    fields = field_of(first.text), field_of(second.text)
    joined = field_of(f"{first.text} {second.text}")
    return second if joined is not None and (None in fields or fields[0] == fields[1]) else None


def _is_rest_of_heading(above: Line, line: Line) -> bool:
    if len(above.parts) > 1 or len(line.parts) > 1 or above.bullet or line.bullet:
        return False
    first, second = above.parts[0], line.parts[0]
    if (above.page, above.column) != (line.page, line.column) or style_of(above) != style_of(line):
        return False
    if not 0 < line.gap < 1.7 * line.size or len(first.text) + len(second.text) > 50:
        return False
    fields = field_of(first.text), field_of(second.text)
    return field_of(f"{first.text} {second.text}") is not None and (None in fields or fields[0] == fields[1])


def _headings(lines: list[Line]) -> dict[int, tuple[str, str]]:
    """Index of each heading's line: its field and its words."""
    known: dict[int, str] = {}
    used: Counter[Style] = Counter()
    if not lines:
        return {}
    body = _body(lines)
    margin = Counter(round(line.parts[0].x1) for line in lines if len(line.parts) > 1 and field_of(line.parts[0].text))
    for index, line in enumerate(lines):
        if line.bullet:
            continue
        used[style_of(line)] += 1
        text = line.parts[0].text.rstrip(" :")
        if (
            (text[:1].islower() and not (_stands_out(line.parts[0], body) and len(line.parts) == 1))
            or text.endswith((".", ","))
            or (line.parts[0].text.endswith(":") and len(line.parts) > 1)
        ):
            continue
        if (field := field_of(text)) and (
            len(line.parts) == 1 or _hangs(line) or sum(margin[round(line.parts[0].x1) + by] for by in (-1, 0, 1)) > 1
        ):
            known[index] = field
    if not known:
        return {}
    by_style: dict[Style, list[int]] = defaultdict(list)
    for index in known:
        by_style[style_of(lines[index])].append(index)
    good: set[Style] = set()
    for style, indices in by_style.items():
        distinct = style[2] or style[3] or style[1] > body[1] + 0.7 or style[0] != body[0]
        if distinct and len(indices) >= 0.25 * used[style] and (len(indices) > 1 or _strong(known[indices[0]])):
            good.add(style)
    good |= {
        style
        for style, indices in by_style.items()
        if style[3] and any(style[:3] == other[:3] for other in good) and len(indices) >= 0.25 * used[style]
    }  # the same, in capitals
    if good:
        # A style below the headings' own (a group of skills named "Tools") heads nothing, unless it is used in a
        # column that has no other.
        main = max(good, key=lambda style: (len({known[index] for index in by_style[style]}), style[1]))
        columns = {lines[index].column for index in by_style[main]}
        for style in [one for one in good if one[:3] != main[:3] or one[3] < main[3]]:
            lesser = style[1] < main[1] - 0.4 and not (style[2] > main[2]) and not (style[3] > main[3])
            few = len({known[index] for index in by_style[style]}) < 2
            if (
                (lesser or (few and style[1] < main[1] + 0.4))
                and all(lines[index].column in columns and _within(index, by_style[main]) for index in by_style[style])
                and not (few and any(_strong(known[index]) for index in by_style[style]) and not lesser)
            ):
                good.discard(style)
    else:
        good = set(by_style)
        # Nothing but room tells these headings: what has much less of it above heads nothing.
        least = min(
            (lines[index].gap for index in known if _strong(known[index]) and lines[index].gap > 0), default=0.0
        )
        before = ""
        for index, field in sorted(known.items()):
            if field == before and 0 < lines[index].gap < 0.85 * least:
                del known[index]  # a group of the section above: "Tools" among the skills
            before = field
    heads = {
        index: (field, lines[index].parts[0].text) for index, field in known.items() if style_of(lines[index]) in good
    }
    loud = {style for style in good if style[2] or style[3] or style[1] > body[1] + 0.7}
    heads.update(_unknown(lines, heads, used, loud, by_style))
    return heads


def _stands_out(part: Segment, body: Style) -> bool:
    """Bolder or larger than the text: it may be a heading in small letters."""
    return (part.head_bold and not body[2]) or part.size > body[1] + 1.4


def _hangs(line: Line) -> bool:
    """Its first segment is a heading in the margin: in a look of its own, or well apart."""
    first, second = line.parts[0], line.parts[1]
    if abs(first.x0 - line.left) < 3 and second.x0 - first.x1 > 1.5 * first.size:
        return True
    return first.head != second.head or abs(first.size - second.size) > 0.6


def _within(index: int, heads: list[int]) -> bool:
    return any(head < index for head in heads)


def _strong(field: str) -> bool:
    return field in {"work", "education", "projects", "publications", "volunteer", "certificates"}


def _body(lines: list[Line]) -> Style:
    """The style that most letters are printed in."""
    letters: Counter[Style] = Counter()
    for line in lines:
        letters[style_of(line)] += len(line.text)
    return letters.most_common(1)[0][0]


def _unknown(
    lines: list[Line],
    heads: dict[int, tuple[str, str]],
    used: Counter[Style],
    good: set[Style],
    by_style: dict[Style, list[int]],
) -> dict[int, tuple[str, str]]:
    """Headings whose words are not known, by their style."""
    found: dict[int, tuple[str, str]] = {}
    if not heads:
        return found
    first = min(heads)
    lefts = [lines[index].x0 for index in heads]
    for index, line in enumerate(lines):
        style = style_of(line)
        if index in heads or style not in good or line.bullet or len(line.parts) > 1:
            continue
        if index < first and line.page == 1 and line.column == lines[first].column:
            continue  # the name, perhaps
        text = line.parts[0].text
        told = told_by_a_word(text)
        # Many lines in this style, few of them known: it is the style of titles in entries.
        if not told and (len(by_style[style]) < 0.5 * used[style] or len(by_style[style]) < 2):
            continue
        words = len(text.split())
        aligned = any(abs(line.x0 - left) < 3 for left in lefts) or style[3]
        if 0 < words <= 6 and not periods(text) and "@" not in text and len(text) > 2 and aligned:
            found[index] = (told or "other", text)
    return found
