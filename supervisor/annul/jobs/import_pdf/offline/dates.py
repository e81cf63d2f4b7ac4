"""Dates and periods as CVs print them, in many languages, to JSON Resume's ISO 8601 strings.

Only as precise as printed: "2019" stays ``2019``. A season is its year. "Present" and its like: no end.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

import msgspec

_MONTHS = {
    1: "january jan janvier janv januar jaenner janner enero ene gennaio gen janeiro januari stycznia styczen",
    2: "february feb fevrier fevr fev februar feber febrero febbraio fevereiro fev februari luty lutego",
    3: "march mar mars marz maerz marzo marco mrz maart mrt mars marzec marca",
    4: "april apr avril avr abril abr aprile kwiecien kwietnia",
    5: "may mai mayo maggio mag maio mei maj maja",
    6: "june jun juin juni junio giugno giu junho czerwiec czerwca",
    7: "july jul juillet juil juli julio luglio lug julho lipiec lipca",
    8: "august aug aout agosto ago augustus augusti sierpien sierpnia",
    9: "september sep sept septembre septiembre set settembre setembro wrzesien wrzesnia septiembre setiembre",
    10: "october oct octobre oktober okt octubre ottobre ott outubro out pazdziernik pazdziernika",
    11: "november nov novembre noviembre novembro listopad listopada",
    12: "december dec decembre dezember dez diciembre dic dicembre dezembro grudzien grudnia",
}
MONTHS = {name: number for number, names in _MONTHS.items() for name in names.split()}
_NAME = "|".join(sorted(MONTHS, key=len, reverse=True))
_SEASON = (
    "spring|summer|fall|autumn|winter|printemps|ete|automne|hiver|fruhling|sommer|herbst|wintersemester|"
    "sommersemester|ws|ss|primavera|verano|otono|invierno|semester|q[1-4]"
)
_PRESENT = (
    r"present(?:e|ly)?|current(?:ly)?|now|today|ongoing|to date|till date|date|aujourd\W?hui|actuel(?:lement)?|"
    r"a ce jour|ce jour|en cours|a aujourd\W?hui|maintenant|heute|jetzt|gegenwart|laufend|aktuell|actualidad|"
    r"actual(?:mente|idade)?|hoy|la fecha|oggi|ad oggi|attuale|attualmente|presente|atualmente|atual|hoje|o momento|"
    r"in corso|en curso|heden|nu|nutid|"
    r"dags dato|pagaende|obecnie|dzis|still|jusqu\W?a present|a present|jusqu\W?a maintenant|dato|idag"
)
_YEAR = r"(?:19[4-9]\d|20[0-6]\d)"
# The alternatives run from the most precise to the least; each is a date.
_DATE = rf"""(?:
    (?P<iso>{_YEAR}[-/.](?:0[1-9]|1[0-2])[-/.](?:0[1-9]|[12]\d|3[01]))(?!\d)
  | (?P<dmy>(?<!\d)(?:0?[1-9]|[12]\d|3[01])\s?[/.]\s?(?:0?[1-9]|1[0-2])\s?[/.]\s?{_YEAR})
  | (?P<day>(?<![\d.])(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|er|\.|º)?\s+(?:de\s+)?(?:{_NAME})\.?,?\s+
        (?:de\s+|del\s+)?{_YEAR})
  | (?P<mdy>(?<![a-z])(?:{_NAME})\.?\s+(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?,\s*{_YEAR})
  | (?P<name>(?<![a-z])(?:{_NAME})\.?[\s,/-]*(?:de\s+|del\s+)?(?:{_YEAR}|['`]\s?\d\d(?!\d)))
  | (?P<yname>{_YEAR}[\s,/-]+(?:{_NAME})(?![a-z])\.?)
  | (?P<season>(?<![a-z])(?:{_SEASON})\.?,?\s*(?:of\s+|de\s+)?{_YEAR}(?:[/-]\d\d(?!\d))?)
  | (?P<ym>(?<!\d){_YEAR}\s?[-/.]\s?(?:0[1-9]|1[0-2])(?!\d|[-/.]\d))
  | (?P<my>(?<![a-z\d/.-])(?:0?[1-9]|1[0-2])\s?[/.]\s?{_YEAR}(?!\d))
  | (?P<my2>(?<![\d/.-])(?:0[1-9]|1[0-2])-{_YEAR}(?!\d))
  | (?P<year>(?<![a-z\d.,/$€£#+-]){_YEAR}(?![a-z\d]|[.,]\d|\s?(?:€|eur\b|%)))
)"""
_JOIN = (
    r"\s*(?:-{1,3}|–|—|−|→|‐|‑|~|\b(?:to|until|till|through|thru|bis(?:\s+zum)?|a|ao|ate|au|al|hasta|fino\s+a[dl]?|tot(?:\s+en\s+met)?|t/m|til|do)\b|\bjusqu\W?(?:a|en|au)\b|/|"
    r"\be\b(?=\s+oggi))\s*(?:(?:la|the|l)\b\W*)?"
)
_EXPECTED = r"(?:expected|exp\.|est\.|anticipated|prevu|voraussichtlich|graduat\w+|expected graduation)?:?\s*"
_FIRST = _DATE.replace("?P<", "?P<a")
_SECOND = _DATE.replace("?P<", "?P<b").replace(
    "(?<![a-z\\d.,/$€£#+-])", "(?<![a-z\\d.,$€£#+])"
)  # "2015-2018", "2015/2016"
_RANGE = re.compile(
    rf"(?:(?:from|de|du|von|vom|van|desde|da|dal|dall\W|since|depuis(?:\s+le)?|seit|ab|sinds|\ben\b)\s+)?(?P<first>{_FIRST}){_JOIN}"
    rf"(?:{_EXPECTED}(?P<second>{_SECOND})|(?P<now>(?:{_PRESENT})(?![a-z]))"
    r"|(?P<short>(?<=[-–—])(?:1[3-9]|[2-9]\d)(?!\d)))",
    re.VERBOSE,
)
# "Sept - Dec 2020": the year of the second is the first's.
_SHARED = re.compile(
    rf"(?<![a-z])(?P<first>{_NAME})\.?{_JOIN}(?P<second>(?:{_NAME})\.?[\s,]+(?:de\s+)?(?P<year>{_YEAR}))".replace(
        " ", r"[ ]"
    )
)
_SHARED_NUMBER = re.compile(
    rf"(?<![\d/.-])(?P<first>0?[1-9]|1[0-2])\s?[-–—]\s?(?P<second>0?[1-9]|1[0-2])/(?P<year>{_YEAR})(?!\d)"
)
_SINCE = re.compile(
    rf"(?<![a-z])(?P<word>since|depuis(?:\s+le)?|seit(?:\s+dem)?|ab|desde|dal|sinds|vanaf|sedan|from|od|a\s+partir\s+de)\s+(?P<first>{_FIRST})",
    re.VERBOSE,
)
# "2015 2018", "2019 Present", where a column of dates or a font has lost the dash: at the beginning only.
_DASHLESS = re.compile(
    rf"^\s*(?P<first>{_FIRST})\s{{1,3}}(?:(?P<second>{_SECOND})|(?P<now>(?:{_PRESENT})(?![a-z])))", re.VERBOSE
)
_OPEN = re.compile(rf"(?P<first>{_FIRST})\s*(?:-{{1,3}}|–|—|→)\s*$", re.VERBOSE)
_ONE = re.compile(rf"(?P<first>{_FIRST})", re.VERBOSE)
_NOW = re.compile(rf"^(?:{_PRESENT})$")


class Period(msgspec.Struct, frozen=True):
    """A date or a span of time, and where in the text it stands."""

    start: str | None  # ISO 8601
    end: str | None  # ISO 8601
    present: bool  # it goes on until today
    begin: int  # index in the text of its first character
    stop: int  # index after its last
    single: bool = False  # one date, in `start`


def flat(text: str) -> str:
    """Lower case without accents, of the same length, so that indices hold."""
    out = []
    for char in text:
        base = unicodedata.normalize("NFKD", char)[0] if char else char
        low = base.lower()
        out.append(low if len(low) == 1 else base)
    return "".join(out).replace("’", "'").replace("‘", "'").replace("ʼ", "'")


def periods(text: str) -> list[Period]:
    """All dates and periods in a text, in order, none overlapping."""
    if not any(char.isdigit() for char in text):
        return []
    low = flat(text)
    found: list[Period] = []

    def free(match: re.Match[str]) -> bool:
        return all(match.end() <= other.begin or match.start() >= other.stop for other in found)

    for match in _RANGE.finditer(low):
        start = _iso(match, "a")
        end = _iso(match, "b") if match["second"] else None
        if match["short"]:
            end = (start or "")[:2] + match["short"]
        if start and (match["now"] or end):
            if end and end[:4] < start[:4]:
                continue
            found.append(Period(start, end, bool(match["now"]), match.start(), match.end()))
    if (bare := _DASHLESS.match(low)) and free(bare):
        start, end = _iso(bare, "a"), _iso(bare, "b") if bare["second"] else None
        if start and (bare["now"] or (end and len(end) == len(start) and end > start)):
            found.append(Period(start, end, bool(bare["now"]), bare.start(), bare.end()))
    for match in _SHARED.finditer(low):
        if free(match):
            year = match["year"]
            second = re.match(rf"{_NAME}", match["second"])
            last = MONTHS[second[0]] if second else 12
            found.append(
                Period(f"{year}-{MONTHS[match['first']]:02}", f"{year}-{last:02}", False, match.start(), match.end())
            )
    for match in _SHARED_NUMBER.finditer(low):
        if free(match) and int(match["first"]) < int(match["second"]):
            year = match["year"]
            found.append(
                Period(
                    f"{year}-{int(match['first']):02}", f"{year}-{int(match['second']):02}", False,
                    match.start(), match.end(),
                )
            )  # fmt: skip
    for pattern in (_SINCE, _OPEN, _ONE):  # each only where those before left the text free
        single = pattern is _ONE
        found += [
            Period(start, None, not single, match.start(), match.end(), single=single)
            for match in pattern.finditer(low)
            if free(match) and (start := _iso(match, "a"))
        ]
    return sorted(found, key=lambda period: period.begin)


def is_open(text: str) -> bool:
    """The text ends in the middle of a period: "04/2016 –", "septembre 2015 – février"."""
    low = flat(text).strip()
    return bool(_OPEN.search(low)) or bool(
        re.search(rf"(?:{_YEAR})\s*(?:-|–|—|to|a|au|bis)\s*(?:{_NAME})\.?$".replace(" ", ""), low)
    )


def is_rest(text: str) -> bool:
    """The text may end a period that began on the line above: a date or "present", and nothing else."""
    low = flat(text).strip(" .")
    if _NOW.match(low):
        return True
    match = _ONE.match(low)
    return bool(match) and match is not None and match.end() == len(low)


def fills(text: str) -> bool:
    """The text is a date or a period and little else."""
    found = periods(text)
    return bool(found) and sum(period.stop - period.begin for period in found) > 0.6 * len(text.strip())


def without(text: str, period: Period) -> str:
    """The text with the period, and what set it off, taken out."""
    left = text[: period.begin].rstrip(" ,;:|·•–—-(\u2003")
    right = text[period.stop :].lstrip(" .,;:|·•–—-)")
    if left.count("(") > left.count(")") and ")" in right:
        right = right.replace(")", "", 1)
    return f"{left}   {right}" if left and right else left or right


def _iso(match: re.Match[str], side: str) -> str | None:
    """The ISO date of the one alternative that matched; a day that its month does not have is left out."""
    value = _iso_unchecked(match, side)
    if value is None or len(value) < 10:
        return value
    try:
        date.fromisoformat(value)
    except ValueError:
        return value[:7]
    return value


def _iso_unchecked(match: re.Match[str], side: str) -> str | None:
    got = {key[1:]: value for key, value in match.groupdict().items() if value and key[0] == side and len(key) > 1}
    kind = next(
        (
            key
            for key in ("iso", "dmy", "day", "mdy", "name", "yname", "season", "ym", "my", "my2", "year")
            if key in got
        ),
        None,
    )
    if kind is None:
        return None
    text = got[kind]
    year = re.search(_YEAR, text)
    if kind in ("iso", "ym"):
        return "-".join(f"{int(part):02}" for part in re.findall(r"\d+", text))
    if kind in ("my", "my2"):
        assert year is not None
        return f"{year[0]}-{int(re.findall(r'[0-9]+', text)[0]):02}"
    if kind == "dmy":
        day, month, full = re.findall(r"\d+", text)
        return f"{full}-{int(month):02}-{int(day):02}" if int(month) <= 12 else full
    if kind in ("season", "year"):
        return year[0] if year else None
    word = re.search(rf"(?:{_NAME})", text)
    month_number = MONTHS[word[0]] if word else 0
    if year is None:
        short = re.search(r"\d\d", text)
        full = ("20" if short and int(short[0]) < 60 else "19") + (short[0] if short else "00")
    else:
        full = year[0]
    if kind in ("day", "mdy"):
        day_number = re.search(r"\d{1,2}", text.replace(full, ""))
        return f"{full}-{month_number:02}-{int(day_number[0]):02}" if day_number else f"{full}-{month_number:02}"
    return f"{full}-{month_number:02}"
