"""What the codes of Europass stand for."""

from __future__ import annotations

_LANGUAGES = """
    ara ar Arabic|bul bg Bulgarian|cat ca Catalan|ces cze cs Czech|cym wel cy Welsh|dan da Danish|deu ger de German|
    ell gre el Greek|eng en English|est et Estonian|eus baq eu Basque|fas per fa Persian|fin fi Finnish|
    fra fre fr French|gle ga Irish|glg gl Galician|heb he Hebrew|hin hi Hindi|hrv hr Croatian|hun hu Hungarian|
    isl ice is Icelandic|ita it Italian|jpn ja Japanese|kor ko Korean|lav lv Latvian|lit lt Lithuanian|
    ltz lb Luxembourgish|mkd mac mk Macedonian|mlt mt Maltese|nld dut nl Dutch|nor nob no nb Norwegian|pol pl Polish|
    por pt Portuguese|ron rum ro Romanian|rus ru Russian|slk slo sk Slovak|slv sl Slovenian|spa es Spanish|
    sqi alb sq Albanian|srp sr Serbian|swe sv Swedish|tur tr Turkish|ukr uk Ukrainian|urd ur Urdu|vie vi Vietnamese|
    zho chi zh Chinese|bos bs Bosnian|ben bn Bengali|kat geo ka Georgian|hye arm hy Armenian|lat la Latin
"""
_NAMES = {
    code: words[-1] for row in _LANGUAGES.split("|") if (words := row.split()) for code in words[:-1]
}  # ISO 639-1 and both kinds of 639-2
_SIDES = {
    "Listening": "listening", "Reading": "reading", "SpokenInteraction": "spoken interaction",
    "SpokenProduction": "spoken production", "Writing": "writing", "CEF-Understanding-Listening": "listening",
    "CEF-Understanding-Reading": "reading", "CEF-Speaking-Interaction": "spoken interaction",
    "CEF-Speaking-Production": "spoken production", "CEF-Writing-Production": "writing",
}  # fmt: skip


def language_name(code: str) -> str:
    """The English name of a language; the code itself where it is not known, or is a name."""
    return _NAMES.get(code.casefold(), code)


def spoken(levels: dict[str, str]) -> str:
    """Levels of the European framework by skill, in one text: "B2", or "listening C1, writing B1".

    >>> spoken({"Listening": "C1", "Writing": "B1"})
    'listening C1, writing B1'
    """
    given = {side: level for side, level in levels.items() if level}
    if len(set(given.values())) == 1:
        return next(iter(given.values()))
    return ", ".join(f"{_SIDES.get(side, side)} {level}" for side, level in given.items())
