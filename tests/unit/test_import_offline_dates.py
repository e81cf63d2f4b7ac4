"""Dates and periods of CVs in several languages."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annul.jobs.import_pdf.offline.dates import MONTHS, flat, is_open, is_rest, periods, without

ISO = re.compile(r"[12]\d{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@pytest.mark.parametrize(
    ("text", "start", "end", "present"),
    [
        ("janv. 2021 – présent", "2021-01", None, True),
        ("Sept 2019 - Jun 2021", "2019-09", "2021-06", False),
        ("2018–2020", "2018", "2020", False),
        ("03/2017", "2017-03", None, False),
        ("Summer 2012", "2012", None, False),
        ("since 2020", "2020", None, True),
        ("depuis mars 2019", "2019-03", None, True),
        ("02.2018–11.2020", "2018-02", "2020-11", False),
        ("2010-10 / 2015-06", "2010-10", "2015-06", False),
        ("Jan. ‘17 to Dec. ‘21", "2017-01", "2021-12", False),
        ("de septembre 2015 à février 2019", "2015-09", "2019-02", False),
        ("März 2018 bis heute", "2018-03", None, True),
        ("marzo 2019 – actualidad", "2019-03", None, True),
        ("Sept - Dec 2020", "2020-09", "2020-12", False),
        ("2016 - Expected June 2019", "2016", "2019-06", False),
        ("01.10.2012 – 31.03.2015", "2012-10-01", "2015-03-31", False),
        ("31 février 2020", "2020-02", None, False),
        ("2015 / 07", "2015-07", None, False),
        ("March 3, 2021", "2021-03-03", None, False),
    ],
)
def test_a_period_as_printed(text: str, start: str, end: str | None, present: bool) -> None:
    """Only as precise as printed; "present" has no end."""
    (found,) = periods(text)
    assert (found.start, found.end, found.present) == (start, end, present)
    assert without(f"Engineer, {text}", periods(f"Engineer, {text}")[0]) == "Engineer"


@pytest.mark.parametrize(
    "text", ["RE2020", "€2000", "page 3 of 12", "ISO 9001", "Room 2001b", "12,000 users", "v2.2021.4"]
)
def test_numbers_that_are_no_dates(text: str) -> None:
    """Amounts, norms and versions are left alone."""
    assert periods(text) == []


def test_a_period_broken_over_two_lines() -> None:
    """The first half is open, the second is a rest."""
    assert is_open("04/2016 –")
    assert is_open("septembre 2015 – février")
    assert not is_open("2012 – 2014")
    assert is_rest("aujourd’hui")
    assert is_rest("2019")
    assert not is_rest("2019 was a good year")


@given(st.text(max_size=120))
def test_any_text_gives_valid_dates_in_order(text: str) -> None:
    """Whatever the text: ISO dates of real days, within the text, in order and apart."""
    found = periods(text)
    stop = 0
    for period in found:
        assert stop <= period.begin < period.stop <= len(text)
        stop = period.stop
        for value in (period.start, period.end):
            if value is not None:
                assert ISO.fullmatch(value)
                if len(value) == 10:
                    date.fromisoformat(value)
        assert not (period.present and period.end)
    assert len(flat(text)) == len(text)


@given(
    st.sampled_from(sorted(MONTHS)),
    st.integers(1950, 2060),
    st.sampled_from(sorted(MONTHS)),
    st.integers(0, 9),
    st.sampled_from([" - ", " – ", "–", " to ", " — "]),
    st.sampled_from([str.lower, str.title, str.upper]),
)
def test_every_months_name_is_read(first: str, year: int, second: str, years: int, dash: str, case: object) -> None:
    """A range of named months, however written, is what it says."""
    assert callable(case)
    text = f"Engineer {case(first)} {year}{dash}{case(second)} {year + years}"
    (found,) = periods(text)
    assert found.start == f"{year}-{MONTHS[first]:02}"
    assert found.end == f"{year + years}-{MONTHS[second]:02}"
    assert text[found.begin : found.stop].startswith(case(first))


@given(
    st.integers(1, 12),
    st.integers(1950, 2060),
    st.sampled_from(["{m:02}/{y}", "{y}-{m:02}", "{m:02}.{y}", "{y}/{m:02}"]),
)
def test_numeric_months(month: int, year: int, form: str) -> None:
    """Month and year in figures, in either order."""
    (found,) = periods(form.format(m=month, y=year))
    assert (found.start, found.single) == (f"{year}-{month:02}", True)
