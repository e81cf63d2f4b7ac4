"""Sections that are lists: skills, languages, interests, certificates, awards, publications, references."""

from __future__ import annotations

import re

from annul.jobs.import_pdf.offline.dates import Period, periods, without
from annul.jobs.import_pdf.offline.entries import paragraph
from annul.jobs.import_pdf.offline.grid import ungrid
from annul.jobs.import_pdf.offline.links import EMAIL, URL, with_scheme
from annul.jobs.import_pdf.offline.sections import style_of
from annul.jobs.import_pdf.offline.words import FLUENCY, LANGUAGES, LEVEL, has, place_score
from annul.jobs.pdf.lines import Line
from annul.jobs.resume import Award, Certificate, Interest, Language, Publication, Reference, Skill

_ITEMS = re.compile(r"\s*[,;•·▪|●]\s*(?![^()]*\))|\s{3,}|\s+/\s+")
_COLON = re.compile(r"^([^:]{2,45}?)\s*:\s*(.*)$")
_DASH = re.compile(r"\s+[–—-]\s+|\s*\|\s*|,\s+|\s{3,}")


def items(text: str) -> list[str]:
    """A list written in a line, as its items."""
    found = [part.strip(" .•·-–—") for part in _ITEMS.split(text)]
    return [item for item in found if any(char.isalnum() for char in item) and not EMAIL.fullmatch(item)]


def _wrapped(lines: list[Line]) -> list[tuple[Line, str]]:
    """Lines with those that run on joined to the one above: after a comma or a hyphen, or indented below."""
    out: list[tuple[Line, str]] = []
    for line in lines:
        text = "   ".join(part.text for part in line.parts)
        if out and not line.bullet:
            above, before = out[-1]
            indented = line.x0 > above.parts[-1].x0 - 3 and len(above.parts) > 1 and len(line.parts) == 1
            hung = above.bullet and abs(line.x0 - above.x0) < 2.5 and line.bold == above.bold
            if before.endswith((",", "-", "&", "/")) or hung or indented or (text[:1].islower() and "," in before):
                joined = before[:-1] + text if before.endswith("-") else f"{before} {text}"
                out[-1] = above, joined
                continue
        out.append((line, text))
    return out


def skills(lines: list[Line]) -> list[Skill]:
    """Groups with their items, or single skills."""
    out: list[Skill] = []
    rows = _wrapped(ungrid(lines))
    titles = _titles([line for line, _ in rows])
    group: Skill | None = None
    for line, text in rows:
        part = line.parts[0]
        lead = part.lead.strip(" :–—-")
        if (match := _COLON.match(text)) and match[2]:
            out.append(Skill(name=match[1].strip(), keywords=items(match[2])))
            group = None
        elif match and not match[2]:
            group = Skill(name=match[1].strip())
            out.append(group)
        elif len(line.parts) > 1 and text.count(",") > part.text.count(",") and len(part.text) < 40:
            out.append(Skill(name=part.text, keywords=items(text[len(part.text) :])))
            group = None
        elif (
            lead
            and part.text.startswith(lead)
            and len(part.text) > len(lead) + 3
            and len(lead) < 40
            and (part.head_bold or ("," in text[len(lead) :] and "," not in lead))
        ):
            out.append(Skill(name=lead, keywords=items(text[len(lead) :].strip(" :–—-"))))
            group = None
        elif id(line) in titles:
            group = Skill(name=text)
            out.append(group)
        elif group is not None and LEVEL.fullmatch(_flat(text)) and not group.level:
            group.level = text
        elif group is not None and not line.bullet:
            group.keywords = [*group.keywords, *items(text)]
        else:
            found = items(text)
            if group is not None:
                group.keywords = [*group.keywords, *found]
            else:
                out += [Skill(name=item) for item in found]
    return _levels(out)


def _titles(lines: list[Line]) -> set[int]:
    """Lines that name a group: in another look than the items under them, or followed by a level."""
    found: set[int] = set()
    if not lines:
        return found
    styles = [style_of(line) for line in lines]
    for index, line in enumerate(lines[:-1]):
        below = lines[index + 1]
        if (
            line.bullet
            or len(line.parts) > 1
            or len(line.text) > 40
            or "," in line.text
            or LEVEL.fullmatch(_flat(line.text))
        ):
            continue
        if LEVEL.fullmatch(_flat(below.text)) or (
            styles[index] != styles[index + 1]
            and (line.bold or line.size > below.size + 0.3 or styles[index] == styles[0])
            and ("," in below.text or below.bullet or not line.bold or styles.count(styles[index]) < len(lines) / 1.9)
        ):
            found.add(id(line))
    return found


def _flat(text: str) -> str:
    from annul.jobs.import_pdf.offline.dates import flat

    return flat(text).strip()


def _levels(found: list[Skill]) -> list[Skill]:
    for skill in found:
        match = re.fullmatch(r"(.{2,40}?)\s*\((.{3,25})\)", skill.name)
        if match and has(LEVEL, match[2]) and not skill.level:
            skill.name, skill.level = match[1], match[2]
    return [skill for skill in found if skill.name or skill.keywords]


def languages(lines: list[Line]) -> list[Language]:
    """Languages and how well they are spoken."""
    out: list[Language] = []
    pieces: list[str] = []
    for line in ungrid(lines):
        whole = "   ".join(part.text for part in line.parts)
        lead = line.parts[0].lead.strip(" :–—-")
        if lead and has(LANGUAGES, lead) and len(line.parts) == 1 and len(whole) > len(lead) + 1:
            pieces.append(f"{lead}: {whole[len(lead) :].strip(' :–—-')}")
        elif len(LANGUAGES.findall(_flat(whole))) > 1 or (len(line.parts) > 1 and has(LANGUAGES, line.parts[-1].text)):
            pieces += [
                piece for piece in re.split(r"\s*[,;•·|]\s*(?![^()]*\))|\s{3,}|\s+(?:and|et|und|y)\s+", whole) if piece
            ]
        else:
            pieces.append(whole)
    for piece in pieces:
        text = piece.strip(" •·-–—.,")
        if not any(char.isalpha() for char in text):
            continue
        match = re.match(r"^([^:(–—,|]+?)\s*(?:[:(–—,|]|\s-\s|\s{3,})\s*(.+?)\)?$", text)
        if match:
            name, level = match[1].strip(), match[2].strip()
            level = level + ")" if level.count("(") > level.count(")") else level
            level = level[1:-1] if level.startswith("(") and level.endswith(")") else level
            if not has(LANGUAGES, name) and has(LANGUAGES, level):
                name, level = level, name
            out.append(Language(language=name, fluency=level))
        elif (
            out
            and not out[-1].fluency
            and (has(FLUENCY, text) or re.fullmatch(r"[\d ./]+", text))
            and not has(LANGUAGES, text)
        ):
            out[-1].fluency = text
        elif (known := LANGUAGES.match(_flat(text))) and known.end() < len(text) and has(FLUENCY, text[known.end() :]):
            out.append(Language(language=text[: known.end()], fluency=text[known.end() :].strip()))
        elif len(text.split()) <= 4:
            out.append(Language(language=text))
        elif out:
            out[-1].fluency = f"{out[-1].fluency} {text}".strip()
    return out


def interests(lines: list[Line]) -> list[Interest]:
    """Interests, one each; a text after a colon becomes keywords."""
    out: list[Interest] = []
    for _, text in _wrapped(ungrid(lines)):
        if (match := _COLON.match(text)) and match[2]:
            out.append(Interest(name=match[1], keywords=items(match[2])))
        elif len(text.split()) > 12:
            out.append(Interest(name=text))
        else:
            out += [Interest(name=item) for item in items(text)]
    return out


def _dated_rows(lines: list[Line]) -> list[tuple[list[str], Period | None]]:
    """Entries of a line or a few: their texts in order, and their date."""
    rows: list[tuple[list[str], Period | None]] = []
    wrapped = _wrapped(ungrid(lines))
    styles = [style_of(line) for line, _ in wrapped]
    first = styles[0] if styles else None
    starts = sum(style == first for style in styles)
    for (line, text), style in zip(wrapped, styles, strict=True):
        found = periods(text)
        best = next((one for one in found if not one.single), found[-1] if found else None)
        rest = without(text, best) if best else text
        chunks = [chunk.strip(" ,;|()") for chunk in re.split(r"\s{3,}", rest) if any(c.isalnum() for c in chunk)]
        alone = best is not None and not chunks
        distinct = starts < len(styles) and starts <= len(styles) / 1.4
        begins = (
            line.bullet
            or not rows
            or (style == first if distinct else not alone and (rows[-1][1] is not None or not best))
        )
        if begins and not alone:
            rows.append((chunks, best))
        elif rows:
            texts, date = rows[-1]
            rows[-1] = [*texts, *chunks], date or best
    return [row for row in rows if row[0]]


def certificates(lines: list[Line]) -> list[Certificate]:
    """Certificates with issuer and date."""
    out: list[Certificate] = []
    for row, date in _dated_rows(lines):
        texts, url = _without_url(row)
        name, rest = _name_and_rest(texts)
        out.append(Certificate(name=name, issuer=", ".join(rest), date=_day(date), url=url))
    return [one for one in out if one.name]


def awards(lines: list[Line]) -> list[Award]:
    """Awards with giver and date."""
    out: list[Award] = []
    for row, date in _dated_rows(lines):
        texts = [text for text in row if place_score(text) < 0.85] or row
        name, rest = _name_and_rest(texts)
        if not rest and len(texts) == 1 and " at " in name:
            name, _, giver = name.partition(" at ")
            rest = [giver]
        out.append(Award(title=name, awarder=rest[0] if rest else "", summary=" ".join(rest[1:]), date=_day(date)))
    return [one for one in out if one.title]


def _name_and_rest(texts: list[str]) -> tuple[str, list[str]]:
    if not texts:
        return "", []
    if len(texts) > 1:
        return texts[0], texts[1:]
    match = re.match(r"(.{4,}?)(?:\s+[–—-]\s+|\s*\|\s*|,\s+)(.+)$", texts[0])
    return (match[1], [match[2]]) if match else (texts[0], [])


def _without_url(texts: list[str]) -> tuple[list[str], str]:
    url = next((match[0] for text in texts if (match := URL.search(text))), "")
    if not url:
        return texts, ""
    kept = [left for text in texts if (left := text.replace(url, "").strip(" ,()"))]
    return kept or texts, with_scheme(url)


def _day(period: Period | None) -> str | None:
    return None if period is None else period.end or period.start


def publications(lines: list[Line]) -> list[Publication]:
    """Publications: a title, who published it, when."""
    groups: list[list[Line]] = []
    gaps = sorted(line.gap for line in lines if line.gap > 0)
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    styles = [style_of(line) for line in lines]
    first = styles[0] if styles else None
    distinct = first is not None and 1 < styles.count(first) <= len(styles) / 1.6
    bullets = any(line.bullet for line in lines)
    numbered = sum(bool(re.match(r"(?:\[\w+\]|\d{1,2}[.)])\s", line.text)) for line in lines) > 1
    for line, style in zip(lines, styles, strict=True):
        if bullets:
            begins = line.bullet
        elif numbered:
            begins = bool(re.match(r"(?:\[\w+\]|\d{1,2}[.)])\s", line.text))
        elif distinct:
            begins = style == first and (not groups or style_of(groups[-1][-1]) != first)
        else:
            begins = line.gap > 1.25 * usual
        if begins or not groups:
            groups.append([line])
        else:
            groups[-1].append(line)
    out: list[Publication] = []
    for group in groups:
        texts = ["   ".join(part.text for part in line.parts) for line in group]
        whole = paragraph(texts)
        found = [(index, date) for index, text in enumerate(texts) for date in periods(text)]
        date = found[0][1] if found else None
        if quoted := re.search(r"[“\"«](.{6,}?),?[”\"»]", whole):
            out.append(Publication(name=quoted[1].strip(" ,"), summary=whole, release_date=_day(date)))
            continue
        if len(group) > 1 and distinct:
            name = without(texts[0], found[0][1]) if found and found[0][0] == 0 else texts[0]
            publisher = next(
                (match[1] for text in texts[1:] if (match := re.search(r"\(([^()]{3,60})\)\s*$", text))), ""
            )
            rest = [text for text in texts[1:] if not publisher or publisher not in text]
            out.append(
                Publication(name=name.strip(), publisher=publisher, summary=" ".join(rest), release_date=_day(date))
            )
            continue
        out.append(Publication(name=whole if len(whole) < 400 else whole[:400], release_date=_day(date)))
    return [one for one in out if one.name]


def references(lines: list[Line]) -> list[Reference]:
    """People who can be asked, or what was said."""
    rows = _wrapped(ungrid(lines))
    if len(rows) == 1:
        return [Reference(reference=rows[0][1])]
    groups: list[list[str]] = []
    first = style_of(rows[0][0]) if rows else None
    distinct = any(style_of(line) != first for line, _ in rows)
    for line, text in rows:
        if not groups or (distinct and style_of(line) == first and groups[-1][1:]):
            groups.append([text])
        else:
            groups[-1].append(text)
    return [Reference(name=group[0], reference="\n".join(group[1:])) for group in groups]
