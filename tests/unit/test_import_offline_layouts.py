"""Layouts of CVs that the offline engine of `import-pdf` must read: one small CV for each kind."""

from __future__ import annotations

from typing import Any

import pytest

from annul.jobs.pdf.headings import field_of, told_by_a_word
from annul.jobs.pdf.lines import segments
from cv_sheet import Sheet, cv_of


def top(name: str = "Oda van der Meulen") -> Sheet:
    return Sheet().put(name, size=20, bold=True).put("oda@example.org | +31 20 123 4567 | Leiden")


def posts(cv: dict[str, Any]) -> list[tuple[str | None, ...]]:
    return [tuple(post.get(key) for key in ("position", "name", "startDate", "endDate")) for post in cv["work"]]


def test_list_items_without_marks() -> None:
    """Browsers draw the marks as shapes: an indented line is said under its post, and is no name of the next."""
    sheet = top().head("Experience")
    for title, firm, when in (
        ("Harbour Pilot", "Quay Ltd", "May 2019 – Present"),
        ("Deck Officer", "Ferries Ltd", "June 2014 – April 2019"),
    ):
        sheet.put(title, bold=True).beside(when, x=430).put(firm).put("Led the watch", x=62).put("Wrote the log", x=62)
    cv = cv_of(sheet)
    assert posts(cv) == [
        ("Harbour Pilot", "Quay Ltd", "2019-05", None), ("Deck Officer", "Ferries Ltd", "2014-06", "2019-04"),
    ]  # fmt: skip
    assert cv["work"][0]["highlights"] == ["Led the watch", "Wrote the log"]


def test_several_posts_under_one_employer() -> None:
    """The employer's name stands once, in a look of its own; durations beside the dates are no names."""
    sheet = top().head("Experience").put("Quay Ltd", bold=True, size=12).put("5 years 2 months")
    sheet.put("Harbour Pilot", size=11).put("May 2021 - Present (2 years)").put("Guided tankers up the river all year.")
    sheet.put("Deck Officer", size=11).put("June 2018 - April 2021 (2 yrs 11 mos)").put(
        "Kept the night watch with two."
    )
    sheet.put("Ferries Ltd", bold=True, size=12).put("Purser", size=11).put("May 2015 - May 2018 (3 years)")
    assert posts(cv_of(sheet)) == [
        ("Harbour Pilot", "Quay Ltd", "2021-05", None),
        ("Deck Officer", "Quay Ltd", "2018-06", "2021-04"),
        ("Purser", "Ferries Ltd", "2015-05", "2018-05"),
    ]


def test_entries_set_apart_by_room_alone() -> None:
    """One look for all, dates on lines of their own: the wider gap begins an entry."""
    sheet = top().put("EXPERIENCE", dy=26)
    for firm, title, when in (
        ("Marsh Farm", "Farm worker", "March 2018 to today"), ("Hill Dairy", "Driver", "July 2012 to June 2013"),
    ):  # fmt: skip
        sheet.put(firm, dy=20).put(title, dy=12).put(when, dy=12).put("Forty cows and a bull.", dy=12)
    assert posts(cv_of(sheet)) == [
        ("Farm worker", "Marsh Farm", "2018-03", None), ("Driver", "Hill Dairy", "2012-07", "2013-06"),
    ]  # fmt: skip


def test_a_form_with_labels() -> None:
    """The name stands after its label, under a heading; small words in it are no reason to pass it over."""
    sheet = Sheet().put("Lebenslauf", size=18, bold=True).head("Persönliche Daten")
    for label, value in (("Name", "Dr. Jette von der Heide"), ("Anschrift", "Seeweg 4, 24103 Kiel"),
                         ("Telefon", "0431/1234567"), ("E-Mail", "jette@example.org")):  # fmt: skip
        sheet.put(label).beside(value, x=180)
    sheet.head("Berufserfahrung").put("03/2017 – heute").beside("Apothekerin", x=180)
    sheet.put("Hafenapotheke, Kiel", x=180)
    sheet.head("Schulische und berufliche Ausbildung").put("2006 – 2012").beside("Universität Kiel", x=180)
    sheet.put("Staatsexamen – Pharmazie", x=180)
    cv = cv_of(sheet)
    basics = cv["basics"]
    assert (basics["name"], basics["phone"], basics["location"]["city"]) == (
        "Dr. Jette von der Heide", "0431/1234567", "Kiel",
    )  # fmt: skip
    assert cv["education"][0]["institution"] == "Universität Kiel"


def test_headings_and_titles_broken_over_lines() -> None:
    """In a narrow column both run on: they are one."""
    sheet = top().put("ÉTUDES ET", bold=True, size=13, dy=24).put("DIPLÔMES", bold=True, size=13, dy=16)
    sheet.put("Licence Langues étrangères", bold=True).put("appliquées", bold=True)
    sheet.put("Université de Brest").put("2009 - 2012")
    (degree,) = cv_of(sheet)["education"]
    assert degree["institution"] == "Université de Brest"
    assert f"{degree['studyType']} {degree['area']}" == "Licence Langues étrangères appliquées"


def test_headings_and_dates_in_the_margin_are_no_column() -> None:
    """What stands beside a date is of it."""
    sheet = top().head("Work Experience", x=50)
    for title, when in (("Baker", "2019-04 to 2021-02"), ("Miller", "2014-10 to 2019-03"), ("Carter", "2010 to 2014")):
        sheet.put(when).beside(f"{title} at The {title}s' Guild", x=200, bold=True)
        sheet.put("Up before dawn, six days of the week.", x=215)
        sheet.put("Carried what there was to carry.", x=215)
    sheet.head("Education").put("2008 to 2010").beside("Diploma in Baking, Mill College", x=200, bold=True)
    assert posts(cv_of(sheet))[:2] == [
        ("Baker", "The Bakers' Guild", "2019-04", "2021-02"), ("Miller", "The Millers' Guild", "2014-10", "2019-03"),
    ]  # fmt: skip


def test_a_table_with_titled_columns() -> None:
    """The titles are no entry."""
    sheet = top().head("Experience").put("Period", bold=True).beside("Employer", x=200, bold=True)
    sheet.beside("Position", x=380, bold=True)
    for when, firm, title in (("05/2019 - Present", "Bay Foods Ltd", "Buyer"), ("02/2015 - 04/2019", "City", "Clerk")):
        sheet.put(when).beside(firm, x=200).beside(title, x=380)
    assert posts(cv_of(sheet)) == [
        ("Buyer", "Bay Foods Ltd", "2019-05", None), ("Clerk", "City", "2015-02", "2019-04"),
    ]  # fmt: skip


def test_languages_labelled_in_the_margin_of_the_skills() -> None:
    """Europass prints all personal skills under one heading."""
    sheet = top().head("Experience").put("2019 - 2021").beside("Clerk, Bay Foods Ltd", x=200)
    sheet.head("PERSONAL SKILLS").put("Mother tongue(s)").beside("Dutch", x=200)
    sheet.put("Other language(s)").beside("English C1", x=200)
    sheet.put("Job-related skills").beside("Filing", x=200)
    cv = cv_of(sheet)
    assert [(one["language"], one.get("fluency")) for one in cv["languages"]] == [("Dutch", None), ("English", "C1")]
    assert [skill["name"] for skill in cv["skills"]] == ["Filing"]


def test_a_dutch_cv() -> None:
    sheet = top().head("Werkervaring").put("sinds 01.2020").beside("Teamleider, Havenbedrijf Maas (Rotterdam)", x=170)
    sheet.put("05.2015 – 12.2019").beside("Logistiek medewerker, Distributie Zuid (Breda)", x=170)
    sheet.head("Opleidingen").put("2011 – 2014").beside("MBO niveau 3, Logistiek, ROC Albeda", x=170)
    sheet.head("Talen").put("Nederlands").beside("moedertaal", x=170)
    cv = cv_of(sheet)
    assert posts(cv) == [
        ("Teamleider", "Havenbedrijf Maas", "2020-01", None),
        ("Logistiek medewerker", "Distributie Zuid", "2015-05", "2019-12"),
    ]
    assert cv["education"][0]["institution"] == "ROC Albeda"
    assert cv["languages"] == [{"language": "Nederlands", "fluency": "moedertaal"}]


def test_letters_set_apart_are_closed_up() -> None:
    """Headings and names are printed so; two spaces end a word."""
    sheet = Sheet().put("W O R K   E X P E R I E N C E").put("a b c").put("Plan B is A")
    assert [segment.text for segment in segments(sheet.items)] == ["WORK EXPERIENCE", "a b c", "Plan B is A"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Competenze digitali", "skills"),
        ("Experiencia en docencia", "work"),
        ("Sprachen und Reisen", "languages"),
        ("Skills and languages we seek", None),
        ("Led the team", None),
    ],
)
def test_headings_told_by_one_word(text: str, field: str | None) -> None:
    """Where a heading is not listed, its one telling word tells; two of different fields do not."""
    assert field_of(text) in (None, field)
    assert told_by_a_word(text) == field


def test_sections_side_by_side() -> None:
    """A row of headings, each with a list below, above the posts, whose text crosses those columns."""
    sheet = Sheet().put("Oda van der Meulen", size=20, bold=True).put("Contact", bold=True, size=13, dy=24)
    sheet.beside("Skills", x=220, bold=True, size=13).beside("Languages", x=400, bold=True, size=13)
    for contact, skill, language in (
        ("oda@example.org", "Knots", "Dutch"), ("+31 20 123 4567", "Charts", "English"), ("Leiden", "Radar", "Frisian"),
    ):  # fmt: skip
        sheet.put(contact).beside(skill, x=220).beside(language, x=400)
    sheet.head("Experience").put("2019 – 2023").beside("Harbour Pilot at the Port of Leiden", x=150, bold=True)
    sheet.put("Guided the tankers up the river in all weathers.", x=150)
    cv = cv_of(sheet)
    assert [skill["name"] for skill in cv["skills"]] == ["Knots", "Charts", "Radar"]
    assert [one["language"] for one in cv["languages"]] == ["Dutch", "English", "Frisian"]
    assert (cv["basics"]["email"], cv["basics"]["location"]["city"]) == ("oda@example.org", "Leiden")
    assert posts(cv) == [("Harbour Pilot", "the Port of Leiden", "2019", "2023")]


def test_headings_in_the_margin_right_aligned_and_over_two_lines() -> None:
    """They end at one edge, beside the text of their sections."""
    sheet = top().put("Esperienza", x=72, bold=True, dy=24).beside("Studio Conti, Torino", x=142, bold=True)
    sheet.put("lavorativa", x=72, bold=True).beside("Architetto | mag 2017 – oggi", x=142)
    sheet.put("Istruzione e", x=62, bold=True, dy=24).beside("Politecnico di Torino", x=142, bold=True)
    sheet.put("formazione", x=72, bold=True).beside("Laurea magistrale in Architettura | set 2011 – lug 2014", x=142)
    cv = cv_of(sheet)
    assert posts(cv) == [("Architetto", "Studio Conti", "2017-05", None)]
    assert cv["education"][0]["institution"] == "Politecnico di Torino"


def test_a_name_close_to_the_heading_of_the_next_column() -> None:
    """Almost level with it, and less than an em of the name's away: two texts, of two columns."""
    sheet = Sheet().put("Oda van der Meulen", size=20, bold=True)
    edge = sheet.items[0].x + sheet.items[0].width + 16
    for text in ("oda@example.org", "+31 20 123 4567", "Leiden", "SKILLS", "Knots, Charts", "LANGUAGES", "Dutch"):
        sheet.put(text, dy=19)
    sheet.y = 797.0 - 14
    sheet.beside("WORK EXPERIENCE", x=edge, size=11)
    for title, firm, when in (
        ("Harbour Pilot", "Quay Ltd", "May 2019 – Present"),
        ("Deck Officer", "Ferries Ltd", "June 2014 – April 2019"),
    ):
        sheet.put(title, x=edge, bold=True, dy=24).put(firm, x=edge).put(when, x=edge).put("• Led the watch.", x=edge)
    cv = cv_of(sheet)
    assert cv["basics"]["name"] == "Oda van der Meulen"
    assert posts(cv) == [
        ("Harbour Pilot", "Quay Ltd", "2019-05", None), ("Deck Officer", "Ferries Ltd", "2014-06", "2019-04"),
    ]  # fmt: skip
