"""Who the CV is of: name, label, email, phone, address, links, out of the text before the first heading."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from annul.jobs.import_pdf.offline.address import STREET, ZIP, location_of
from annul.jobs.import_pdf.offline.dates import periods
from annul.jobs.import_pdf.offline.links import EMAIL, URL, network_of, profile_of, with_scheme
from annul.jobs.import_pdf.offline.names import TITLES, cased, name_parts_of, set_name
from annul.jobs.import_pdf.offline.sections import Section
from annul.jobs.import_pdf.offline.words import LABELS, POSITION, has, place_score
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.headings import plain
from annul.jobs.pdf.lines import Line, Segment
from annul.jobs.resume import Basics, Profile

_PHONE = re.compile(r"(?<![\w@/])(?:\(?\+|00|\(?0|\(?\d)[\d\s().\-–/]{5,24}\d(?![\w@])(?!\s*[X*]{2})")
_SEPARATORS = re.compile(r"\s{3,}|\s*[|•·▪●■◦∙⋅◇♦*]\s*|\s+[–—-]\s+|\s+/\s+")
_LABELS = re.compile(
    r"^(?:e-?mail|e-?mailadres|mail|courriel|correo(?: electr[oó]nico)?|phone|tel|t[eé]l[eé]phone|telefon|tel[eé]fono|"
    r"telefone|telefoon|telem[oó]vel|mobile|mobil|mob|m[oó]vil|cell|cellulare|portable|handy|address|adresse|adres|"
    r"anschrift|indirizzo|residenza|endere[cç]o|domicilio|woonplaats|wohnort|ort|home|work|"
    r"direcci[oó]n|website|web|site|site web|homepage|url|linkedin|github|gitlab|twitter|x|portfolio|blog|location|"
    r"ville|city|ciudad|citt[aà]|cidade|skype|fax|t|m|e|p|a|w|mailto|nom|name|naam|nombre|nome)\s*:\s*|^(?:tel|tél|mob|fax)\.:?\s*",
    re.IGNORECASE,
)
_PERSONAL = re.compile(
    r"^(?:born|ne[e]? le|date of birth|geboren|nationalit|nationality|permis|driving|age|\d\d ans)", re.IGNORECASE
)


class Found(msgspec.Struct):
    """What was found, and what nothing was made of."""

    basics: Basics
    rest: list[str] = []
    prose: list[str] = []  # sentences among the contacts: a summary without a heading
    unsure: list[str] = []


def contacts(document: Document, sections: list[Section]) -> Found:
    """The `basics` of the CV, without its summary."""
    top = [section for section in sections if section.field in ("top", "contact")]
    if foot := _contact_rows([section for section in sections if section not in top]):
        top.append(Section("contact", "", foot))
    page = min((line.page for section in sections for line in section.lines), default=1)  # the first with text
    head = [line for section in top if section.field == "top" for line in section.lines if line.page == page]
    if not any(_may_name(part.text) for line in head for part in line.parts):  # under a heading such as "Personal data"
        head += [line for section in top if section.field == "contact" for line in section.lines if line.page == page]
    basics = Basics()
    found = Found(basics=basics)
    name_parts = name_parts_of(
        head or [line for section in sections for line in section.lines[:6] if line.page == page], document
    )
    used = {id(part) for part in name_parts}
    rest_of_name = set_name(basics, name_parts)
    if not basics.name:
        found.unsure.append("No line looks like a name.")

    pieces: list[tuple[str, Segment | None, int]] = [(text, None, 0) for text in rest_of_name]
    for section in top:
        for index, line in enumerate(section.lines):
            if _is_prose(section.lines, index):
                found.prose.append(line.text)
                continue
            for part in line.parts:
                if id(part) in used:
                    continue
                pieces += _cut(part)
    _fill(basics, pieces, name_parts, found, document)
    if not basics.phone:  # a CV that prints its contacts among other things
        for section in sections:
            if section.field in ("summary", "other") and not basics.phone:
                lone = [
                    part.text for line in section.lines for part in line.parts if _PHONE.fullmatch(part.text.strip())
                ]
                basics.phone = _best_phone([text for text in lone if sum(char.isdigit() for char in text) >= 8])
    if not basics.email:
        everything = "\n".join(
            line.text for section in sections if section.field != "references" for line in section.lines
        )
        if match := EMAIL.search(everything):
            basics.email = match[0]
    if not basics.email:
        mail = next((link.uri for link in document.links if link.uri.lower().startswith("mailto:")), "")
        basics.email = mail[7:].partition("?")[0]
    return found


def _may_name(text: str) -> bool:
    """A line of letters that is no title of the document."""
    return not TITLES.search(text) and sum(char.isalpha() for char in text) > 3 and not EMAIL.search(text)


def _cut(part: Segment) -> list[tuple[str, Segment | None, int]]:
    """The pieces of a row of contacts, and where in it each begins."""
    out: list[tuple[str, Segment | None, int]] = []
    begin = 0
    for match in [*_SEPARATORS.finditer(part.text), None]:
        end = match.start() if match else len(part.text)
        if text := part.text[begin:end].strip(" ,;|·•–—-"):
            out.append((text, part, begin))
        begin = match.end() if match else end
    return out


def _contact_rows(sections: list[Section]) -> list[Line]:
    """Rows of addresses and nothing else, at a page's foot for one; taken out of their sections."""
    found: list[Line] = []
    for section in sections:
        kept: list[Line] = []
        for line in section.lines:
            pieces = [piece for part in line.parts for piece in _SEPARATORS.split(part.text) if piece.strip()]
            bare = len(pieces) > 1 and all(
                URL.fullmatch(piece.strip()) or EMAIL.fullmatch(piece.strip()) for piece in pieces
            )
            (found if bare else kept).append(line)
        section.lines = kept
    return found


def _is_prose(around: list[Line], index: int) -> bool:
    """Part of a paragraph: long, with the look of sentences."""
    line = around[index]
    text = line.text
    if "@" in text or URL.search(text) or len(_PHONE.findall(text)) > 0:
        return False
    words = text.split()
    small = sum(word[:1].islower() for word in words)
    if len(words) >= 8 and small >= 0.4 * len(words):
        return True
    above = around[index - 1] if index else None
    below = around[index + 1] if index + 1 < len(around) else None
    # The ends of a narrow paragraph: the line above or below in the same look runs on.
    return any(
        near is not None
        and abs(near.size - line.size) < 0.3
        and abs(near.x0 - line.x0) < 3
        and near.parts[0].font == line.parts[0].font
        and len(near.text.split()) >= 4
        and sum(word[:1].islower() for word in near.text.split()) >= 0.5 * len(near.text.split())
        and len(words) >= 1
        and (small >= 0.5 * len(words) or text.endswith("."))
        for near in (above, below)
    )


def _fill(
    basics: Basics,
    pieces: list[tuple[str, Segment | None, int]],
    name_parts: list[Segment],
    found: Found,
    document: Document,
) -> None:
    """Give each piece of the header its field."""
    phones: list[str] = []
    places: list[tuple[float, str]] = []
    labels: list[tuple[float, str]] = []
    users: list[tuple[str, Segment | None]] = []
    loose: list[tuple[str, Segment | None]] = []
    name = plain(basics.name)
    rows = {
        id(part) for _, part, _ in pieces if part is not None and (EMAIL.search(part.text) or URL.search(part.text))
    }
    for whole, part, begin in pieces:
        text = whole
        tag = plain(match[0]) if (match := _LABELS.match(text)) else ""
        text = _LABELS.sub("", text).strip()
        if (
            not text
            or plain(text) == name
            or TITLES.fullmatch(text)
            or _PERSONAL.match(plain(text))
            or plain(text) in LABELS
        ):
            if text and plain(text) != name and plain(text) not in LABELS:
                found.rest.append(whole)
            continue
        if match := EMAIL.search(text):
            if not basics.email:
                basics.email = match[0]
            text = text.replace(match[0], " ").replace("mailto:", " ").strip(" ,;|")
        for match in list(URL.finditer(text)):
            _take_url(basics, match[0])
            text = text.replace(match[0], " ").strip(" ,;|")
        for match in list(_PHONE.finditer(text)):
            digits = sum(char.isdigit() for char in match[0])
            if 7 <= digits <= 15 and not (periods(match[0]) and digits <= 8):
                phones.append(match[0].strip(" .-–/"))
                text = text.replace(match[0], " ").strip(" ,;|")
        text = _LABELS.sub("", " ".join(text.split())).strip(" ,;|:")
        if text.count("(") != text.count(")"):
            text = text.strip("() ")
        if not any(char.isalnum() for char in text):
            continue
        if tag in ("tel", "phone") and not phones and sum(char.isdigit() for char in text) >= 7:
            phones.append(text)
            continue
        if (linked := _linked(part, text, begin, document)) and (profile := profile_of(linked)) and " " not in text:
            basics.profiles.append(Profile(network=profile.network, username=text))
            continue
        if network_of(tag) and " " not in text:
            basics.profiles.append(Profile(network=network_of(tag), username=text))
            continue
        if linked and linked.startswith("http") and " " not in text and "." in text and not basics.url:
            basics.url = with_scheme(text)
            continue
        if re.fullmatch(r"@[\w.]{2,30}", text):
            users.append((text, part))
            continue
        score = max(place_score(text), 0.95 if STREET.search(text) and (ZIP.search(text) or len(text) < 40) else 0.0)
        score = max(score, 0.9 if re.match(r"^(?:[A-Z]{1,2}-)?\d{4,5}\s+[^\W\d]", text) else 0.0)
        if score >= 0.3 and id(part) in rows:
            score += 0.2  # a town, in a row of contacts
        if score >= 0.4 and not has(POSITION, text):
            places.append((score, text))
        elif network_of(plain(text)):
            continue  # the name of a network beside a picture of it
        else:
            loose.append((text, part))
    _labels(basics, loose, name_parts, labels, places, found)
    basics.phone = _best_phone(phones)
    found.rest += [phone for phone in phones if phone != basics.phone]
    for text, _ in users:
        basics.profiles.append(Profile(network="Twitter", username=text))
    basics.location = location_of([text for _, text in places])
    _dedupe(basics)


def _labels(
    basics: Basics,
    loose: list[tuple[str, Segment | None]],
    name_parts: list[Segment],
    labels: list[tuple[float, str]],
    places: list[tuple[float, str]],
    found: Found,
) -> None:
    """Of the pieces left: what the person says they are, a town, a user name; the rest is kept."""
    under = min((part.y for part in name_parts), default=0.0)
    for index in range(len(loose) - 1, 0, -1):  # a label that runs over two lines
        (first, above), (second, below) = loose[index - 1], loose[index]
        if above is None or below is None or above is below or above.font != below.font:
            continue
        if first != above.text or second != below.text:
            continue  # a piece of a row of several
        close = 0 < above.y - below.y < 1.8 * above.size and abs(above.size - below.size) < 0.2
        level = abs(above.x0 - below.x0) < 3 or abs(above.x0 + above.x1 - below.x0 - below.x1) < 6
        if close and level and len(second.split()) < 4:
            loose[index - 1 : index + 1] = [(f"{first} {second}", above)]
    for text, part in loose:
        words = text.split()
        if len(words) > 14 or text.endswith((".", "!", "”", '"')) or text[:1] in "“\"«'":
            found.rest.append(text)
            continue
        score = 0.0
        score += 1.0 if has(POSITION, text) else 0.0
        if part is None:
            score += 0.8
        elif under and 0 <= under - part.y < 45:
            score += 0.6
        score += 0.3 if part is not None and part.size > 10.5 else 0.0
        score -= 0.3 if len(words) == 1 else 0.0
        score -= 0.6 if any(char.isdigit() for char in text) else 0.0
        score -= 0.4 if text[:1].islower() else 0.0
        if score >= 0.6:
            labels.append((score, text))
        elif (
            len(words) <= 3
            and text[:1].isupper()
            and place_score(text) >= 0.3
            and (not places or re.search(r"\d{4,5}$", places[-1][1]))
        ):
            places.append((0.3, text))
        else:
            found.rest.append(text)
    if labels:
        best = max(labels, key=lambda label: label[0])
        siblings = [text for score, text in labels if score >= best[0] - 0.3]
        index = siblings.index(best[1])
        basics.label = cased(siblings[index]) if siblings[index].isupper() else siblings[index]
        if len(siblings) > 1 and len(" · ".join(siblings)) < 60 and len(name_parts) > 0:
            basics.label = " · ".join(siblings)
            siblings = []
        lost = [text for _, text in labels if text not in basics.label]
        if not places and (town := next((text for text in lost if place_score(text) >= 0.3), "")):
            places.append((0.3, town))
            lost.remove(town)
        found.rest += lost


def _take_url(basics: Basics, text: str) -> None:
    if profile := profile_of(text):
        basics.profiles.append(profile)
    elif not basics.url:
        basics.url = with_scheme(text)


def _linked(part: Segment | None, text: str, begin: int, document: Document) -> str:
    """The URI that the PDF links a piece of text to."""
    if part is None:
        return ""
    share = max(1, len(part.text))
    begin = max(0, part.text.find(text, begin))
    middle = part.x0 + (part.x1 - part.x0) * (begin + len(text) / 2) / share
    page = next((page.number for page in document.pages if page.text), 1)
    for link in document.links:
        if (
            link.page == page
            and link.x0 - 2 <= middle <= link.x1 + 2
            and min(link.y0, link.y1) - 3 <= part.y + 2 <= max(link.y0, link.y1) + 3
        ):
            return link.uri
    return ""


def _best_phone(phones: list[str]) -> str:
    """The first that is a real number somewhere; else the first."""
    import phonenumbers

    for phone in phones:
        for region in (None, "US", "FR", "DE", "GB", "ES"):
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(phone, region)):
                    return phone
            except phonenumbers.NumberParseException:
                continue
    return phones[0] if phones else ""


def _dedupe(basics: Basics) -> None:
    seen: set[str] = set()
    kept: list[Profile] = []
    full = {(profile.network, profile.username.casefold()) for profile in basics.profiles if profile.url}
    for profile in basics.profiles:
        if not profile.url and (profile.network, profile.username.casefold()) in full:
            continue
        key = profile.network + unicodedata.normalize("NFKC", profile.url or profile.username).casefold().strip("/")
        if key not in seen:
            seen.add(key)
            kept.append(profile)
    basics.profiles = kept
