"""What of a resume is printed, in order: a tree of plain strings, with which a template has nothing left to decide.

The strings reach the template as JSON and are set as text: what they hold is never markup.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from annul.errors import JobError
from annul.jobs.cv_pdf.words import ENGLISH, LANGUAGES, Words, heading, one_date, period
from annul.jobs.resume import Basics, Location, Resume

# A long academic CV of 15 pages has 45,000 characters. Rendering takes its time in C code that cannot be
# interrupted: at these limits a second or two.
MOST_CHARACTERS = 100_000
MOST_TEXTS = 2_500  # names, bullets, keywords, ...
LONGEST_WORD = 45  # characters; longer ones may be broken at any place, or they would leave the paper

# Controls, lone surrogates, non-characters, and marks that turn the direction of what follows (a name that reads
# as another); tags, which nobody sees.
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\uffff"
    "\U000e0000-\U000e00ff]"
)
_LINES = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]+")
# East Asian scripts can be broken anywhere as they are.
_LONG = re.compile(rf"[^\s\u2e80-\U0003ffff]{{{LONGEST_WORD},}}")
_TAG = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}))?(?:[-_].*)?", re.IGNORECASE)
_IN_URLS = "!#$%&'()*+,/:;=?@[]~"  # as they are
# Of those whose addresses put the post code after the region.
_CODE_LAST = frozenset({"US", "CA", "AU"})


class Text(msgspec.Struct, frozen=True):
    """Words, and where they lead."""

    text: str
    url: str = ""  # http, https or mailto; "" where they lead nowhere


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One post, school, project, award, ..."""

    title: Text
    by: Text = Text("")  # employer, school, issuer
    place: str = ""
    dates: str = ""
    paragraphs: list[str] = []
    bullets: list[str] = []
    tags: list[str] = []  # keywords
    link: Text = Text("")  # printed, as it can be typed


class Term(msgspec.Struct, frozen=True):
    """A word and what belongs to it: a skill and its keywords, a language and how well it is spoken."""

    name: str  # with its colon, where `words` follow
    words: list[str]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading and what stands under it."""

    field: str  # of JSON Resume
    heading: str
    paragraphs: list[str] = []
    entries: list[Entry] = []
    terms: list[Term] = []


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that is printed."""

    language: str  # ISO 639
    region: str  # ISO 3166-1 alpha-2; "" where not said
    title: str  # of the document
    name: str
    label: str
    contacts: list[Text]
    sections: list[Section]


def view_of(resume: Resume, *, language: str) -> View:
    """What is printed of a resume. Raises JobError ``too_large``, ``empty_cv``, ``bad_language``."""
    match = _TAG.fullmatch(language.strip())
    if match is None:
        raise JobError(
            "bad_language", f"rendering a CV: {language[:40]!r} is no language tag. Give one such as en, fr or pt-BR."
        )
    _check_size(resume)
    words = LANGUAGES.get(match[1].lower(), ENGLISH)
    basics = resume.basics
    name, label = _line(basics.name), _line(basics.label)
    sections = [section for section in _sections(resume, words) if _holds(section)]
    contacts = [text for text in _contacts(basics) if text.text]
    if not (name or contacts or sections):
        raise JobError("empty_cv", "rendering a CV: there is nothing in it. Give one that has a name or a section.")
    return View(
        language=match[1].lower(),
        region=(match[3] or "").upper(),
        title=" – ".join(filter(None, (name, label))) or "CV",
        name=name,
        label=label,
        contacts=contacts,
        sections=sections,
    )


def _check_size(resume: Resume) -> None:
    texts = characters = 0
    left: list[Any] = [getattr(resume, field) for field in resume.__struct_fields__ if field != "meta"]
    while left:
        value = left.pop()
        if isinstance(value, str):
            texts += bool(value)
            characters += len(value)
        elif isinstance(value, list):
            left += value
        elif isinstance(value, msgspec.Struct):
            left += [getattr(value, field) for field in value.__struct_fields__]
    if texts > MOST_TEXTS or characters > MOST_CHARACTERS:
        raise JobError(
            "too_large",
            f"rendering a CV: it has {characters:,} characters in {texts:,} texts, the limits are "
            f"{MOST_CHARACTERS:,} and {MOST_TEXTS:,}. Leave out entries or highlights.",
        )


def _sections(resume: Resume, words: Words) -> list[Section]:
    """All sections, in the order of the page; some hold nothing."""

    def entries(field: str, found: list[Entry]) -> Section:
        return Section(field=field, heading=heading(words, field), entries=list(filter(_says, found)))

    def terms(field: str, found: list[Term]) -> Section:
        return Section(
            field=field, heading=heading(words, field), terms=[one for one in found if one.name or one.words]
        )

    return [
        Section(field="summary", heading=heading(words, "summary"), paragraphs=_paragraphs(resume.basics.summary)),
        entries("work", [
            _entry(
                one.position, one.name, url=one.url, place=one.location,
                dates=period(words, one.start_date, one.end_date),
                texts=[one.description, one.summary], bullets=one.highlights,
            )
            for one in resume.work
        ]),
        entries("education", [
            _entry(
                _degree(one.study_type, one.area), one.institution, url=one.url,
                dates=period(words, one.start_date, one.end_date, post=one.end_date is None),
                texts=[one.score], tags=one.courses,
            )
            for one in resume.education
        ]),
        entries("projects", [
            _entry(
                one.name, ", ".join(filter(None, map(_line, [*one.roles, one.entity, one.type]))), link=one.url,
                dates=period(words, one.start_date, one.end_date, post=False),
                texts=[one.description], bullets=one.highlights, tags=one.keywords,
            )
            for one in resume.projects
        ]),
        terms("skills", [_term(words, one.name, one.level, one.keywords) for one in resume.skills]),
        terms("languages", [_term(words, one.language, "", [one.fluency]) for one in resume.languages]),
        entries("certificates", [
            _entry(one.name, one.issuer, link=one.url, dates=one_date(words, one.date)) for one in resume.certificates
        ]),
        entries("awards", [
            _entry(one.title, one.awarder, dates=one_date(words, one.date), texts=[one.summary])
            for one in resume.awards
        ]),
        entries("publications", [
            _entry(
                one.name, one.publisher, link=one.url, dates=one_date(words, one.release_date), texts=[one.summary]
            )
            for one in resume.publications
        ]),
        entries("volunteer", [
            _entry(
                one.position, one.organization, url=one.url, dates=period(words, one.start_date, one.end_date),
                texts=[one.summary], bullets=one.highlights,
            )
            for one in resume.volunteer
        ]),
        terms("interests", [_term(words, one.name, "", one.keywords) for one in resume.interests]),
        entries("references", [_entry(one.name, "", texts=[one.reference]) for one in resume.references]),
    ]  # fmt: skip


def _holds(section: Section) -> bool:
    return bool(section.paragraphs or section.entries or section.terms)


def _says(entry: Entry) -> bool:
    return entry != Entry(title=Text(""))


def _entry(
    title: str,
    by: str,
    *,
    url: str = "",
    place: str = "",
    dates: str = "",
    texts: list[str] | None = None,
    bullets: list[str] | None = None,
    tags: list[str] | None = None,
    link: str = "",
) -> Entry:
    """An entry; who it was for becomes its title where it has none. `url` is where they lead; `link` is printed."""
    title, by, target = _line(title), _line(by), _target(url)
    return Entry(
        title=Text(title) if title else Text(by, target),
        by=Text(by, target) if title else Text(""),
        place=_line(place),
        dates=dates,
        paragraphs=[one for text in texts or [] for one in _paragraphs(text)],
        bullets=_lines(bullets or []),
        tags=_lines(tags or []),
        link=Text(_shown(link), _target(link)),
    )


def _term(words: Words, name: str, level: str, keywords: list[str]) -> Term:
    name, level = _line(name), _line(level)
    listed = _lines(keywords)
    head = f"{name} ({level})" if name and level else name or level
    return Term(head + words.colon if head and listed else head, listed)


def _degree(kind: str, area: str) -> str:
    return ", ".join(filter(None, (_line(kind), _line(area))))


def _contacts(basics: Basics) -> list[Text]:
    email = _line(basics.email)
    found = [
        Text(email, f"mailto:{email}" if re.fullmatch(r"[^\s@<>\"?&%]+@[^\s@<>\"?&%]+", email) else ""),
        Text(_line(basics.phone)),
        Text(_where(basics.location) if basics.location else ""),
        Text(_shown(basics.url), _target(basics.url)),
    ]
    for profile in basics.profiles:
        network, shown = _line(profile.network), _shown(profile.url) or _line(profile.username)
        known = profile.url and network.lower() in shown.lower()
        found.append(Text(shown if known else ": ".join(filter(None, (network, shown))), _target(profile.url)))
    return found


def _where(location: Location) -> str:
    city, code, region = _line(location.city), _line(location.postal_code), _line(location.region)
    country = _line(location.country_code)
    if country.upper() in _CODE_LAST:
        town = ", ".join(filter(None, (city, f"{region} {code}".strip())))
    else:
        town = ", ".join(filter(None, (f"{code} {city}".strip(), region)))
    return ", ".join(filter(None, (_line(location.address), town, country)))


def _shown(url: str) -> str:
    """A URL as it is printed: without what goes without saying."""
    return re.sub(r"^https?://(?:www\.)?", "", _line(url), flags=re.IGNORECASE).rstrip("/")


def _target(url: str) -> str:
    """Where a URL leads; "" where that is no place on the web."""
    url = re.sub(r"\s", "", _clean(url))
    if re.match(r"(?:www\.)?[\w-]+(?:\.[\w-]+)+(?:/|$)", url):
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
    except ValueError:  # an address of IPv6 that is none
        return ""
    # A PDF's links are ASCII.
    url = quote(url, safe=_IN_URLS)
    return url if parts.scheme in ("http", "https") and parts.hostname and len(url) <= 2000 else ""


def _paragraphs(text: str) -> list[str]:
    return [line for part in _LINES.split(text) if (line := _line(part))]


def _lines(texts: list[str]) -> list[str]:
    return [line for text in texts if (line := _line(text))]


def _line(text: str) -> str:
    """A text on one line; words that would leave the paper can be broken."""
    line = " ".join(_clean(text).split())
    return _LONG.sub(lambda match: "\u200b".join(re.findall(r".{1,15}", match[0])), line)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", _DROPPED.sub("", _LINES.sub(" ", text)))
