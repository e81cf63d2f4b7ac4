"""The pieces of entries' heads: which is the place, which says what (post, degree) and which says who.

Each piece is scored by its words; the order is then voted over the whole section, because a CV prints all its entries
alike and words alone leave many of them undecided.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from annul.jobs.import_pdf.offline.entries import Entry, Piece
from annul.jobs.import_pdf.offline.links import URL
from annul.jobs.import_pdf.offline.words import DEGREE, POSITION, begins, has, matched, place_score

_AT = re.compile(r"\s+(?:at|@|chez|bei|en|presso|bij|for|pour)\s+|\s*@\s*", re.IGNORECASE)
_SURELY_AT = re.compile(r"\s(?:at|@|chez|bei|presso|bij)\s+(?:[Tt]he\s+)?[A-ZÀ-Þ]")
_DASHED = re.compile(r"\s+[—–]\s+")
_LEADING_AT = re.compile(r"^(?:at|@|chez|bei|presso)\s+|^@", re.IGNORECASE)


def split(entries: list[Entry], what: re.Pattern[str], who: re.Pattern[str]) -> list[tuple[list[str], str]]:
    """The pieces of each head without its place, and the place.

    Which piece is the place, and whether one is cut off the end of another ("Haulwise, Chicago, IL"), is voted over
    the section: a capitalised word alone may be a town or anything else.
    """
    heads: list[list[str]] = []
    for entry in entries:
        texts = [_LEADING_AT.sub("", piece.text).strip(" ,") for piece in entry.head]
        heads.append([text for text in texts if text and not (URL.fullmatch(text) and len(texts) > 2)])
    dashed = sum(any(_DASHED.search(text) for text in texts) for texts in heads)
    if dashed >= 0.6 * len(heads):  # "Post — Employer": the section's way of setting them apart
        heads = [
            [part for text in texts for part in _DASHED.split(text) if part] if len(texts) < 3 else texts
            for texts in heads
        ]
    towns = [_town(texts, what, who) for texts in heads]
    cut = sum(town is not None for town in towns) >= 0.55 * max(1, sum(bool(texts) for texts in heads))
    votes: Counter[int] = Counter()
    for entry, texts in zip(entries, heads, strict=True):
        aside = {piece.text for piece in entry.head if _is_aside(piece, entry)}
        for index, text in enumerate(texts):
            votes[index] += 15 * (text in aside)
            votes[index] += round(100 * (place_score(text) - 0.4 * (has(what, text) + has(who, text)) - 0.05))
    usual = max(votes, key=lambda index: votes[index], default=0)
    out: list[tuple[list[str], str]] = []
    for texts, town in zip(heads, towns, strict=True):
        place = ""
        sure = [text for text in texts if place_score(text) >= 0.85 and not has(who, text)]
        if len(texts) > 1 and votes[usual] > 0 and usual < len(texts) and place_score(texts[usual]) >= 0.85:
            place = texts[usual]
        elif len(texts) > 1 and sure:
            place = sure[-1]
        elif len(texts) > 2 and votes[usual] > 0 and usual < len(texts):
            score = place_score(texts[usual])
            # In education a lone word beside the school is a subject more often than a town.
            if score >= (0.3 if what is POSITION or (usual == 1 and len(texts) > 3) else 0.45):
                place = texts[usual]
        parts = place.split(", ")
        if place and town is not None and town[1] in texts and town[1] == place and len(parts) > 2 and len(texts) == 2:
            place = ""  # "Haulwise, Chicago, IL" beside a post: the employer is in it
        rest = [text for text in texts if text is not place] if place else list(texts)
        if not place and town is not None and (cut or town[3]):
            index = rest.index(town[1])
            rest[index], place = town[0], town[2]
        if len(rest) == 1:
            rest, place = _cut(rest[0], place, what, who)
        elif len(rest) > 1:  # one piece holds both, and no other says who
            both = [piece for piece in rest if has(what, piece) and has(who, piece)]
            if len(both) == 1 and not any(has(who, piece) for piece in rest if piece is not both[0]):
                pieces, place = _cut(both[0], place, what, who)
                index = rest.index(both[0])
                rest[index : index + 1] = pieces
        out.append(([piece for piece in rest if piece], place))
    return out


def _is_aside(piece: Piece, entry: Entry) -> bool:
    """At the right of a row, in a lighter print than what the row begins with: a place more often than a name."""
    first = next(other for other in entry.head if other.row == piece.row)
    return (
        piece.part is not first.part and piece.part.x0 > first.part.x1 and first.part.head_bold > piece.part.head_bold
    )


def _town(texts: list[str], what: re.Pattern[str], who: re.Pattern[str]) -> tuple[str, str, str, bool] | None:
    """A place at the end of one of the pieces: what is before it, the whole piece, the place, and if it is sure."""
    for text in texts:
        parts = text.split(", ")
        if len(parts) > 2 and place_score(", ".join(parts[-2:])) >= 1.0 and not has(who, parts[-2]):
            return ", ".join(parts[:-2]), text, ", ".join(parts[-2:]), True
        for pattern in (r"^(.+?)\s*\(([^()]{2,40})\)$", r"^(.+)\s+[–—-]\s+([^–—]{2,40})$", r"^(.+),\s+([^,]{2,30})$"):
            match = re.match(pattern, text)
            if match is None or has(what, match[2]) or has(who, match[2]):
                continue
            score = place_score(match[2])
            if match[2].isupper() and len(match[2]) > 2:
                continue
            if score >= 0.85 or (score >= 0.3 and (what is POSITION or pattern[-5:-2] != "30}")):
                if pattern.startswith("^(.+),") and what is not POSITION:
                    continue  # "University of California, Berkeley"
                if pattern.startswith("^(.+),") and len(texts) == 1 and text.count(",") < 2:
                    continue  # "Engineer, Haulwise": too little to tell
                return match[1].strip(" ,"), text, match[2], score >= 0.85
    return None


def _cut(text: str, place: str, what: re.Pattern[str], who: re.Pattern[str]) -> tuple[list[str], str]:
    """One piece that holds several: cut where the parts differ in kind."""
    if match := re.match(r"(.+?)\s*\(([^()]{3,})\)$", text):
        inside = match[2]
        if has(who, inside) or (has(what, match[1]) and not has(what, inside) and not has(who, match[1])):
            return [match[1], inside], place
    for pattern in (r"\s*\|\s*", r"\s+[–—-]\s+", r"\s*·\s*", r"\s*:\s+", _AT.pattern, r",\s+", r"\s+/\s+"):
        if pattern == _AT.pattern and what is DEGREE:
            continue  # "Grado en Física": it joins the degree and its subject
        parts = [part.strip() for part in re.split(pattern, text, flags=re.IGNORECASE) if part.strip()]
        if len(parts) < 2:
            continue
        kinds = [(matched(what, part), matched(who, part)) for part in parts]
        sure = bool(_SURELY_AT.search(text)) and what is not DEGREE
        if pattern == _AT.pattern and not (kinds[0][0] or kinds[-1][1] or sure):
            continue
        if pattern in (r",\s+", r"\s+/\s+") and not any(one for one, _ in kinds) and not any(two for _, two in kinds):
            continue
        if pattern == r"\s+/\s+" and not kinds[-1][1]:
            continue
        if len(parts) > 2 and not place and place_score(parts[-1]) >= 0.3 and not kinds[-1][1]:
            place = parts.pop()
            if len(parts) > 2 and place_score(f"{parts[-1]}, {place}") >= 1.0:
                place = f"{parts.pop()}, {place}"
        if len(parts) > 2:  # a comma within a name: keep like with like
            kinds = [(matched(what, part), matched(who, part)) for part in parts]
            joined: list[str] = [parts[0]]
            for part, kind, before in zip(parts[1:], kinds[1:], kinds, strict=False):
                alike = (kind[0] > kind[1]) == (before[0] > before[1]) and (kind[1] > kind[0]) <= (
                    before[1] > before[0]
                )
                alike = alike or (what is DEGREE and kind == (0, 0))
                if alike and len(parts) - len(joined) > 1:
                    joined[-1] = f"{joined[-1]}, {part}"
                else:
                    joined.append(part)
            parts = joined
        return parts, place
    return [text], place


def vote(heads: list[tuple[list[str], str]], what: re.Pattern[str], who: re.Pattern[str]) -> dict[int, int]:
    """For heads of each length: the index of the piece that says what (post, degree); the other says who."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for pieces, _ in heads:
        if len(pieces) < 2:
            continue
        for index in (0, 1):
            other = pieces[1 - index]
            votes[len(pieces)][index] += (
                2 * bool(matched(what, pieces[index]))
                - bool(matched(who, pieces[index]))
                + 2 * bool(matched(who, other))
                - bool(matched(what, other))
            )
    usual = Counter[int]()
    for counter in votes.values():
        usual.update(counter)
    return {
        length: (0 if counter[0] > counter[1] else 1 if counter[1] > counter[0] else (0 if usual[0] >= usual[1] else 1))
        for length, counter in votes.items()
    }


def assign(
    pieces: list[str], order: dict[int, int], what: re.Pattern[str], who: re.Pattern[str]
) -> tuple[str, str, list[str]]:
    """What (post, degree), who (employer, school), and the pieces left."""
    if not pieces:
        return "", "", []
    if len(pieces) == 1:
        text = pieces[0]
        is_what, is_who = matched(what, text), matched(who, text)
        if is_who > is_what or (is_who and not is_what):
            return "", text, []
        return (text, "", []) if is_what or what is DEGREE else ("", text, [])
    index = order.get(len(pieces), 0)
    chosen, other = pieces[index], pieces[1 - index]
    # Plain evidence in one entry overrules the vote.
    if (
        not matched(what, chosen)
        and matched(what, other)
        and not matched(who, other)
        and (matched(who, chosen) or what is DEGREE)
    ):
        chosen, other = other, chosen
    rest = pieces[2:]
    if rest:
        kinds = [(matched(who, piece) - matched(what, piece) + begins(who, piece), piece) for piece in rest]
        best = max(kinds, key=lambda kind: kind[0])
        # Three pieces, none of the first two a school: the third may be.
        if what is DEGREE and best[0] > 0 and not matched(who, other):
            rest[rest.index(best[1])] = other
            other = best[1]
        elif what is POSITION and not matched(what, chosen):
            better = max(rest, key=lambda piece: matched(what, piece) - matched(who, piece))
            if matched(what, better) > matched(who, better):
                rest[rest.index(better)] = chosen
                chosen = better
    return chosen, other, rest
