"""The offline engine of `import-pdf`: sections, entries and fields from text with places."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from annul.errors import JobError
from annul.jobs.import_pdf.offline import extract
from annul.jobs.import_pdf.offline.degrees import degree_parts
from annul.jobs.import_pdf.offline.links import URL, profile_of
from annul.jobs.import_pdf.offline.words import place_score
from annul.jobs.pdf.headings import field_of
from annul.jobs.resume import Resume
from cv_sheet import Sheet, cv_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def english() -> Sheet:
    sheet = Sheet().put("Iris Vandermeer", size=22, bold=True).put("Marine Biologist", size=12)
    sheet.put("Aberdeen, United Kingdom | +44 1224 555 019 | iris@example.org | linkedin.com/in/iris-v")
    sheet.head("Work Experience")
    sheet.put("Marine Biologist", bold=True).beside("Mar 2019 – Present", x=430)
    sheet.put("Coastal Survey Ltd").beside("Aberdeen, UK", x=430)
    sheet.put("•").beside("Counts seals on forty beaches every spring", x=62)
    sheet.put("•").beside("Trains volunteers in the use of drones and", x=62)
    sheet.put("nets", x=62)
    sheet.put("Research Assistant", bold=True).beside("Sept 2016 – Feb 2019", x=430)
    sheet.put("University of Aberdeen").beside("Aberdeen, UK", x=430)
    sheet.head("Education")
    sheet.put("University of Glasgow", bold=True).beside("2012 – 2016", x=430)
    sheet.put("Bachelor of Science in Marine Biology")
    sheet.head("Skills").put("Field: Diving, Boat handling").put("Software: R, QGIS")
    sheet.head("Languages").put("English (native), Norwegian (B2)")
    return sheet


def test_an_english_cv() -> None:
    """Names, contacts, posts, degrees, skills and languages find their fields."""
    cv = cv_of(english())
    assert cv["$schema"].endswith("v1.0.0/schema.json")
    assert cv["meta"]["version"] == "v1.0.0"
    basics = cv["basics"]
    assert (basics["name"], basics["label"]) == ("Iris Vandermeer", "Marine Biologist")
    assert (basics["email"], basics["phone"]) == ("iris@example.org", "+44 1224 555 019")
    assert basics["location"] == {"city": "Aberdeen", "countryCode": "GB"}
    assert basics["profiles"] == [
        {"network": "LinkedIn", "username": "iris-v", "url": "https://linkedin.com/in/iris-v"}
    ]
    now, before = cv["work"]
    assert now == {
        "name": "Coastal Survey Ltd",
        "position": "Marine Biologist",
        "location": "Aberdeen, UK",
        "startDate": "2019-03",
        "highlights": ["Counts seals on forty beaches every spring", "Trains volunteers in the use of drones and nets"],
    }
    assert (before["name"], before["startDate"], before["endDate"]) == ("University of Aberdeen", "2016-09", "2019-02")
    assert cv["education"] == [
        {
            "institution": "University of Glasgow",
            "studyType": "Bachelor of Science",
            "area": "Marine Biology",
            "startDate": "2012",
            "endDate": "2016",
        }
    ]
    assert cv["skills"] == [
        {"name": "Field", "keywords": ["Diving", "Boat handling"]},
        {"name": "Software", "keywords": ["R", "QGIS"]},
    ]
    assert cv["languages"] == [
        {"language": "English", "fluency": "native"},
        {"language": "Norwegian", "fluency": "B2"},
    ]


def test_a_french_cv_with_dates_in_the_margin() -> None:
    """French headings, months, phone and address; a period that breaks over two lines of its column."""
    sheet = Sheet().put("Maël Quéméneur", size=20, bold=True)
    sheet.put("14 bis, rue de l’Évêché").put("29000 Quimper").put("Tél. : 02 98 55 01 23").put("mael.q@exemple.fr")
    sheet.head("EXPÉRIENCE PROFESSIONNELLE")
    sheet.put("04/2016 –").beside("Charpentier de marine", x=130, bold=True).beside("Chantier du Guip", x=260)
    sheet.put("aujourd’hui").beside("Restauration de coques en bois et formation des apprentis du chantier.", x=130)
    sheet.put("09/2012 – 03/2016").beside("Apprenti charpentier", x=150, bold=True).beside("Ateliers Le Bihan", x=280)
    sheet.head("FORMATION")
    sheet.put("2010 – 2012").beside("CAP Charpentier de marine", x=150, bold=True).beside("Lycée Vauban, Brest", x=330)
    sheet.head("LANGUES").put("Français : langue maternelle").put("Breton : courant")
    cv = cv_of(sheet)
    assert cv["basics"]["phone"] == "02 98 55 01 23"
    assert cv["basics"]["location"]["postalCode"] == "29000"
    assert cv["basics"]["location"]["city"] == "Quimper"
    now, before = cv["work"]
    assert (now["position"], now["name"]) == ("Charpentier de marine", "Chantier du Guip")
    assert (now["startDate"], now.get("endDate")) == ("2016-04", None)
    assert (before["startDate"], before["endDate"]) == ("2012-09", "2016-03")
    assert cv["education"][0]["endDate"] == "2012"
    assert [one["language"] for one in cv["languages"]] == ["Français", "Breton"]


def test_sidebar_and_main_column() -> None:
    """A sidebar's sections do not run into those beside them."""
    sheet = Sheet()
    for text, bold in [("Contact", True), ("jo@example.org", False), ("+1 312 555 0188", False), ("Skills", True)]:
        sheet.put(text, bold=bold, size=13 if bold else 10, x=30, dy=19)
    for text in ("Welding", "Blueprint reading", "Forklift licence"):
        sheet.put(text, x=30, dy=19)
    sheet.y = 800
    sheet.put("Jo Marchetti", x=220, size=24, bold=True).put("Welder", x=220, size=12)
    sheet.head("Experience", x=220)
    sheet.put("Welder", x=220, bold=True).put("Great Lakes Steel Inc. | 2018 – 2023", x=220)
    sheet.put("Repaired the hulls of ore carriers in dry dock, two at a time.", x=220)
    sheet.head("Education", x=220).put("Lakeside Technical College", x=220, bold=True).put(
        "Diploma in Welding | 2017", x=220
    )
    cv = cv_of(sheet)
    assert cv["basics"]["name"] == "Jo Marchetti"
    assert cv["basics"]["email"] == "jo@example.org"
    assert [skill["name"] for skill in cv["skills"]] == ["Welding", "Blueprint reading", "Forklift licence"]
    assert (cv["work"][0]["position"], cv["work"][0]["name"]) == ("Welder", "Great Lakes Steel Inc.")
    assert cv["education"][0]["institution"] == "Lakeside Technical College"


def test_nothing_is_thrown_away() -> None:
    """Every word of the CV is somewhere in the result; sections without a field are in `meta.annul.unplaced`."""
    sheet = english().head("Expeditions").put("Svalbard aboard the Nordlys").put("Rockall by kayak")
    cv = cv_of(sheet)
    assert {"section": "Expeditions", "text": "Rockall by kayak"} in cv["meta"]["annul"]["unplaced"]
    kept = set(re.findall(r"\w+", json.dumps(cv, ensure_ascii=False)))
    printed = {word for item in sheet.items for word in re.findall(r"\w+", item.text)}
    headings = {"Work", "Experience", "Education", "Skills", "Languages"}
    as_dates = {"Mar", "Sept", "Feb", "Present", "in", "United", "Kingdom"}
    assert printed - kept - headings - as_dates == set()


def test_the_report_says_what_was_found() -> None:
    """Sections, counts and doubts are told."""
    done = extract(english().document(), progress=lambda _f, _s: None)
    assert done.usage == {}
    assert done.report.sections[0] == "Work Experience -> work"
    assert done.report.counts == {"work": 2, "education": 1, "skills": 2, "languages": 2}
    assert done.report.uncertain == []
    nameless = extract(Sheet().head("Experience").put("12345").document(), progress=lambda _f, _s: None)
    assert any("email" in doubt for doubt in nameless.report.uncertain)


def test_a_text_that_is_no_cv_is_refused() -> None:
    """Much prose with nothing of a CV in it: not_a_cv."""
    sheet = Sheet()
    for _ in range(30):
        sheet.put("The heron stood in the shallow water and waited for what the tide would bring it, as ever.")
    with pytest.raises(JobError) as caught:
        extract(sheet.document(), progress=lambda _f, _s: None)
    assert caught.value.code == "not_a_cv"


def test_a_little_text_is_never_refused() -> None:
    """With a few lines nothing can be said, and a real CV must not be refused."""
    assert cv_of(Sheet().put("Bo Li", size=20, bold=True).put("bo@example.org"))["basics"]["name"] == "Bo Li"


def test_a_cv_without_headings_is_read_by_its_dates() -> None:
    """Headings drawn as pictures are not in the text: entries are told by their words, and the report says so."""
    sheet = Sheet().put("Ana Ribeiro", size=20, bold=True).put("ana@example.org")
    sheet.put("Accountant", bold=True, dy=30).beside("2015 – 2020", x=430).put("Douro Vinhos Ltd")
    sheet.put("Clerk", bold=True, dy=24).beside("2012 – 2015", x=430).put("Porto Trading Company")
    done = extract(sheet.document(), progress=lambda _f, _s: None)
    assert [post.position for post in done.cv.work] == ["Accountant", "Clerk"]
    assert any("headings" in doubt for doubt in done.report.uncertain)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("WORK EXPERIENCE", "work"),
        ("Expériences professionnelles", "work"),
        ("Education & Training", "education"),
        ("Diplômes et formations", "education"),
        ("Centres d’intérêt", "interests"),
        ("Sprachkenntnisse", "languages"),
        ("Formación académica", "education"),
        ("Skills / Tools", "skills"),
        ("À propos de moi", "summary"),
        ("Yesterday I worked a lot", None),
        ("Acme", None),
    ],
)
def test_headings_are_known_in_four_languages(text: str, field: str | None) -> None:
    """Accents, case and joined words do not matter."""
    assert field_of(text) == field


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Bachelor of Arts in Computer Science", ("Bachelor of Arts", "Computer Science")),
        ("B.S. in Physics", ("B.S.", "Physics")),
        ("Master of Science", ("Master of Science", "")),
        ("M.Sc. Digital Media", ("M.Sc.", "Digital Media")),
        ("Licence de physique", ("Licence", "physique")),
        ("Diplom-Ingenieur in Maschinenbau", ("Diplom-Ingenieur", "Maschinenbau")),
        ("BA (Hons) Interactive Media", ("BA (Hons)", "Interactive Media")),
        ("Marine Biology", ("", "Marine Biology")),
        ("", ("", "")),
    ],
)
def test_a_degree_is_its_kind_and_its_subject(text: str, parts: tuple[str, str]) -> None:
    """The words between them are left out."""
    assert degree_parts(text) == parts


def test_urls_and_accounts() -> None:
    """Addresses with and without a scheme; file names and abbreviations are none."""
    found = URL.findall("see https://a.example/x, www.b.org or github.com/me, not Node.js nor jo@mail.com nor e.g.")
    assert found == ["https://a.example/x", "www.b.org", "github.com/me"]
    profile = profile_of("www.linkedin.com/in/jo-example/")
    assert profile is not None
    assert (profile.network, profile.username) == ("LinkedIn", "jo-example")
    assert profile_of("https://jo.example") is None


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Chicago, IL", 1, 1),
        ("Utrecht, Netherlands", 1, 1),
        ("Remote", 1, 1),
        ("Lyon", 0.3, 0.3),
        ("Software Engineer", 0, 0),
        ("University of Leeds", 0, 0),
        ("", 0, 0),
    ],
)
def test_what_looks_like_a_place(text: str, least: float, most: float) -> None:
    """A state or a country makes it sure; a capitalised word alone may be one."""
    assert least <= place_score(text) <= most


def test_dates_of_the_result_are_the_schemas() -> None:
    """The Structs refuse a month that is none, as the schema's pattern does."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"work": [{"startDate": "Mar 2020"}]}', type=Resume)
    assert msgspec.json.decode(b'{"work": [{"startDate": "2020-03"}]}', type=Resume).work[0].start_date == "2020-03"


def test_a_cv_in_another_script_is_not_refused() -> None:
    """Where the headings cannot be known, nothing is said about it being a CV or not."""
    sheet = Sheet()
    for _ in range(30):
        sheet.put("在那家公司工作了三年负责软件开发和测试的全部流程以及客户支持")
    assert extract(sheet.document(), progress=lambda _f, _s: None).cv.basics.email == ""


def test_text_beside_a_place_for_the_date_is_not_a_column() -> None:
    """Dates in the right margin do not make a column of their own, whatever their number."""
    sheet = Sheet().put("Experience", bold=True, size=13)
    for index in range(12):
        sheet.put(f"Engineer number {index}", bold=True).beside(f"20{index + 10} – 20{index + 11}", x=470)
        sheet.put(f"Company number {index} Ltd")
    work = extract(sheet.document(), progress=lambda _f, _s: None).cv.work
    assert [post.start_date for post in work] == [f"20{index + 10}" for index in range(12)]
