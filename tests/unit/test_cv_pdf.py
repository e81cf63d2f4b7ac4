"""The PDF of a JSON Resume: what is read back from it is what was put in, and nothing in it is run."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pypdf
import pytest

from annul.errors import Cancelled, JobError
from annul.jobs.cv_pdf import PAPERS, TEMPLATES, Rendered, render
from annul.jobs.cv_pdf.view import view_of
from annul.jobs.cv_pdf.words import LANGUAGES, one_date, period
from annul.jobs.import_pdf.offline import extract
from annul.jobs.pdf.document import Document
from annul.jobs.pdf.reader import read
from annul.jobs.resume import Basics, Resume, Skill, Work


def quiet(_fraction: float, _stage: str) -> None:
    return


@pytest.fixture
def compiler() -> None:
    """typst, which is in the extra [pdf] only."""
    pytest.importorskip("typst", reason="typst is not installed: pip install 'annul[pdf]'")


def resume(**fields: Any) -> Resume:
    return msgspec.convert(fields, Resume)


ENGLISH = resume(
    basics={
        "name": "Marian Fielding",
        "label": "Process Engineer",
        "email": "m.fielding@example.org",
        "phone": "+44 20 7946 0958",
        "url": "https://fielding.example.org/",
        "summary": "Chemical engineer with an eye for efficient, affordable flow.",
        "location": {"city": "Sheffield", "postalCode": "S1 2HE", "countryCode": "GB"},
        "profiles": [{"network": "GitHub", "username": "mfield", "url": "https://github.com/mfield"}],
    },
    work=[
        {
            "name": "Hartley Chemicals Ltd",
            "position": "Senior Process Engineer",
            "location": "Leeds",
            "startDate": "2019-03",
            "highlights": ["Cut the waste of five offices by 14 %", "Fixed the flow of first effluents"],
        },
        {
            "name": "Acme Group",
            "position": "Junior Engineer",
            "startDate": "2015-09-01",
            "endDate": "2019-02-28",
            "summary": "Looked after two reactors.",
        },
    ],
    education=[
        {
            "institution": "University of Sheffield",
            "studyType": "BSc",
            "area": "Chemical Engineering",
            "startDate": "2011",
            "endDate": "2015",
        }
    ],
    skills=[
        {"name": "Simulation", "keywords": ["Aspen", "COMSOL"]},
        {"name": "Code", "keywords": ["Python", "MATLAB", "SQL"]},
    ],
    languages=[{"language": "English", "fluency": "Native"}, {"language": "German", "fluency": "B2"}],
)
FRENCH = resume(
    basics={
        "name": "Zoé Çağlar-L’Hôpital",
        "label": "Ingénieure réseau",
        "email": "zoe.caglar@exemple.fr",
        "phone": "+33 4 72 00 12 34",
        "location": {"city": "Saint-Étienne", "postalCode": "42000"},
    },
    work=[
        {
            "name": "Société Œuvres & Cie",
            "position": "Ingénieure réseau",
            "location": "Lyon",
            "startDate": "2020-02",
            "highlights": ["Déployé 40 commutateurs à Nîmes", "Réduit la latence de 12 %"],
        },
        {
            "name": "Mairie de Roanne",
            "position": "Technicienne informatique",
            "startDate": "2017-08",
            "endDate": "2019-12",
        },
    ],
    education=[
        {
            "institution": "INSA Lyon",
            "studyType": "Diplôme d’ingénieur",
            "area": "Télécommunications",
            "startDate": "2012-09",
            "endDate": "2017-06",
        }
    ],
    skills=[
        {"name": "Réseaux", "keywords": ["BGP", "fibre optique", "VLAN"]},
        {"name": "Langages", "keywords": ["Python", "Bash"]},
    ],
    languages=[{"language": "Français", "fluency": "Langue maternelle"}, {"language": "Anglais", "fluency": "C1"}],
)
GERMAN = resume(
    basics={
        "name": "Jürgen Weiß",
        "email": "j.weiss@beispiel.de",
        "phone": "+49 30 901820",
        "label": "Softwareentwickler",
    },
    work=[
        {"name": "Müller & Söhne GmbH", "position": "Softwareentwickler", "startDate": "2018-05", "endDate": "2022-12"},
        {"name": "Straßenbau AG", "position": "Werkstudent", "startDate": "2016-10", "endDate": "2018-03"},
    ],
    education=[
        {
            "institution": "Technische Universität Dresden",
            "studyType": "Diplom",
            "area": "Informatik",
            "startDate": "2012",
            "endDate": "2018",
        }
    ],
    skills=[{"name": "Sprachen", "keywords": ["C++", "Rust"]}, {"name": "Werkzeuge", "keywords": ["Git", "CMake"]}],
)
HOSTILE = r'#read("/etc/passwd") #{panic("x")} $x^2$ *b* _i_ `c` = h "q" \u{41} <l> @ref // /* [x](y) </script>'


def read_back(rendered: Rendered, tmp_path: Path) -> Document:
    path = tmp_path / "cv.pdf"
    path.write_bytes(rendered.pdf)
    return read(path, max_pages=100, max_bytes=10_000_000, max_chars=500_000, progress=quiet)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("cv", "language"), [(ENGLISH, "en"), (FRENCH, "fr"), (GERMAN, "de-DE")])
def test_the_importer_reads_back_what_was_printed(
    tmp_path: Path, cv: Resume, language: str, template: str, paper: str
) -> None:
    """Name, contacts, posts, schools, their dates and skills come back from the text layer as they went in."""
    rendered = render(cv, template=template, paper=paper, language=language)
    assert rendered.notes == ()
    document = read_back(rendered, tmp_path)
    assert len(document.pages) == rendered.pages == 1
    assert round(document.pages[0].height) == {"a4": 842, "letter": 792}[paper]
    got = extract(document, progress=quiet).cv

    def month(date: str | None) -> str | None:
        return date and date[:7]

    def contact(one: Resume) -> tuple[str, ...]:
        return one.basics.name, one.basics.label, one.basics.email, squeezed(one.basics.phone), one.basics.summary

    def posts(one: Resume) -> list[tuple[Any, ...]]:
        return [(w.name, w.position, month(w.start_date), month(w.end_date), w.highlights) for w in one.work]

    def schools(one: Resume) -> list[tuple[Any, ...]]:
        return [(e.institution, e.study_type, e.area, month(e.start_date), month(e.end_date)) for e in one.education]

    assert contact(got) == contact(cv)
    assert posts(got) == posts(cv)
    assert schools(got) == schools(cv)
    assert [(s.name, s.keywords) for s in got.skills] == [(s.name, s.keywords) for s in cv.skills]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "text",
    [
        "Zażółć gęślą jaźń, Łódź",
        "Μαρία Παπαδοπούλου, Θεσσαλονίκη",
        "Любовь Щербакова, Київ, Ђорђе",
        "Nguyễn Thị Hương, Đà Nẵng",
        "Þórdís Ægisdóttir, Şırnak, Ķēniņš, Őrsi",
        "office, affluent, ﬁle → 25 € ± ½ ≥ № ✓",
    ],
)
def test_the_fonts_that_come_with_it_have_the_letters(tmp_path: Path, template: str, text: str) -> None:
    """European scripts and Vietnamese need no font of the machine, and come back letter for letter."""
    cv = resume(basics={"name": text, "summary": text}, work=[{"position": text, "highlights": [text]}])
    rendered = render(cv, template=template, paper="a4", language="en")
    assert rendered.notes == ()
    plain = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(rendered.pdf)).pages)
    # The name is large and takes two lines, perhaps; pypdf alone, as other programs, reads no gap for a space.
    assert squeezed(plain).count(squeezed(text)) == 4


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_character_without_a_font_is_told(template: str) -> None:
    """A letter that no font has is printed as "?", a symbol is left out, and a note names both: no box, no U+0000."""
    letter, symbol = "\u0378", "\U0001faff"  # unassigned, so no font has one; the second counts as a letter too
    cv = resume(basics={"name": f"Ann {letter}"}, work=[{"position": f"Cook{symbol}"}])
    rendered = render(cv, template=template, paper="a4", language="en")
    assert len(rendered.notes) == 1
    assert f"{letter} {symbol}" in rendered.notes[0]
    text = pypdf.PdfReader(io.BytesIO(rendered.pdf)).pages[0].extract_text()
    assert "Ann ?" in text
    assert "Cook" in text
    assert "\x00" not in text


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_resume_holds_is_text(tmp_path: Path, template: str) -> None:
    """typst's code, markup and quotes are printed as they are, whichever field they are in; nothing is read or run."""
    cv = resume(
        basics={"name": HOSTILE, "label": HOSTILE, "summary": HOSTILE, "profiles": [{"network": HOSTILE}]},
        work=[{"name": HOSTILE, "position": HOSTILE, "location": HOSTILE, "highlights": [HOSTILE, "", "a\nb"]}],
        skills=[{"name": HOSTILE, "level": HOSTILE, "keywords": [HOSTILE]}],
        projects=[{"name": HOSTILE, "keywords": [HOSTILE], "roles": [HOSTILE], "url": HOSTILE}],
    )
    rendered = render(cv, template=template, paper="a4", language="en")
    # Words too long for a column may have invisible marks where they can be broken.
    text = squeezed(read_back(rendered, tmp_path).text)
    assert text.count('#read("/etc/passwd")#{panic("x")}$x^2$*b*_i_`c`=h"q"\\u{41}<l>@ref///*[x](y)') >= 9
    assert "root:" not in text
    assert pypdf.PdfReader(io.BytesIO(rendered.pdf)).metadata["/Author"] == HOSTILE  # type: ignore[index]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_character_of_the_text_breaks_it(tmp_path: Path, template: str) -> None:
    """Controls, lone surrogates, marks of direction, right-to-left scripts and emoji: a PDF, with the rest in it."""
    cv = Resume(
        basics=Basics(name="A\x00nn \ud83d\u202eexe", summary="one\x07 two\r\n\r\nthree \ufffe\U000e0041four"),
        work=[Work(name="شركة الهندسة", position="מהנדסת תוכנה", highlights=["🚀 emoji 👩‍🏫", "\x00", "  "])],
    )
    text = read_back(render(cv, template=template, paper="a4", language="ar"), tmp_path).text
    assert "Ann exe" in text
    assert "one two" in text
    assert "three four" in text
    assert "emoji" in text


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_long_words_stay_on_the_paper(tmp_path: Path, template: str) -> None:
    """A word that is wider than its column is broken, in every field."""
    word = "W" * 500
    cv = resume(
        basics={"name": word[:60], "label": word, "email": "x" * 300 + "@example.org", "summary": word},
        work=[{"name": word, "position": word, "summary": word, "highlights": [word], "startDate": "2019-03"}],
        skills=[{"name": word, "keywords": [word, "Datenschutzfolgenabschätzungsverordnung"]}],
        projects=[{"name": word, "url": f"https://example.org/{word}", "keywords": [word]}],
    )
    for page in read_back(render(cv, template=template, paper="letter", language="de"), tmp_path).pages:
        assert max(item.x + item.width for item in page.items) < page.width - 30
        assert min(item.y for item in page.items) > 20


@pytest.mark.parametrize(
    "cv",
    [
        Resume(work=[Work(name="x", highlights=["did a thing"] * 10_000)]),
        Resume(basics=Basics(summary="word " * 30_000)),
        Resume(skills=[Skill(name="x", keywords=["k"] * 5_000)]),
    ],
)
def test_what_no_cv_has_is_refused(cv: Resume) -> None:
    """Beyond the limits nothing is rendered; the message has the numbers."""
    with pytest.raises(JobError, match=r"the limits are 100,000 and 2,500") as caught:
        render(cv, template="classic", paper="a4", language="en")
    assert caught.value.code == "too_large"


@pytest.mark.usefixtures("compiler")
def test_a_cancel_during_the_rendering_is_noticed_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limits of size rendering takes seconds at most; the cancel then flies, and no directory is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cv = Resume(work=[Work(name="n", position="p", highlights=["words and words and words " * 2] * 1_800)])

    def cancel(_number: int, _frame: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGALRM, cancel)
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        with pytest.raises(Cancelled):
            render(cv, template="classic", paper="a4", language="en")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("compiler")
def test_the_same_resume_gives_the_same_bytes() -> None:
    """No time and no random number is in the PDF."""
    first = render(FRENCH, template="sidebar", paper="a4", language="fr")
    time.sleep(1.1)  # a time stamp would have another second
    assert render(FRENCH, template="sidebar", paper="a4", language="fr").pdf == first.pdf


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_pdf_says_what_it_is(template: str) -> None:
    """Title, author and language are set, it is tagged, and its links lead to the web and to mail only."""
    cv = resume(
        basics={
            "name": "Ann Ex",
            "label": "Cook",
            "email": "ann@example.org",
            "url": "javascript:alert(1)",
            "profiles": [{"network": "Blog", "url": "https://blog.example.org/é"}],
        },
        work=[{"name": "Acme", "url": "file:///etc/passwd"}, {"name": "Globex", "url": "globex.example.com"}],
    )
    pdf = pypdf.PdfReader(io.BytesIO(render(cv, template=template, paper="a4", language="fr-CA").pdf))
    assert pdf.metadata is not None
    assert (pdf.metadata.title, pdf.metadata.author) == ("Ann Ex – Cook", "Ann Ex")
    assert pdf.root_object["/Lang"] == "fr-CA"
    assert pdf.root_object["/MarkInfo"]["/Marked"]
    links = {note.get_object()["/A"]["/URI"] for page in pdf.pages for note in page["/Annots"]}  # type: ignore[attr-defined]
    assert links == {"mailto:ann@example.org", "https://blog.example.org/%C3%A9", "https://globex.example.com"}


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("template", TEMPLATES)
def test_all_sections_are_printed_and_empty_ones_are_not(tmp_path: Path, template: str) -> None:
    """What each section of JSON Resume holds is in the text; a section or an entry of nothing leaves no mark."""
    cv = resume(
        basics={"name": "Ann Ex"},
        work=[{"name": "", "highlights": [" "]}],
        volunteer=[
            {"organization": "Red Cross", "position": "Medic", "summary": "vol-sum", "highlights": ["vol-high"]}
        ],
        education=[{"institution": "A School", "score": "1.3", "courses": ["Logic", "Sets"]}],
        awards=[{"title": "A Prize", "date": "2020-05-04", "awarder": "A Jury", "summary": "award-sum"}],
        certificates=[{"name": "A Paper", "date": "2021", "issuer": "An Office", "url": "https://paper.example.org"}],
        publications=[{"name": "A Book", "publisher": "A Press", "releaseDate": "2018-11", "summary": "pub-sum"}],
        interests=[{"name": "Chess", "keywords": ["endgames"]}],
        references=[{"name": "A Boss", "reference": "ref-words"}],
        projects=[{"name": "A Bridge", "description": "proj-desc", "roles": ["welder"], "entity": "A Town"}],
    )
    text = read_back(render(cv, template=template, paper="a4", language="en"), tmp_path).text
    for word in (
        "Red Cross", "Medic", "vol-sum", "vol-high", "A School", "1.3", "Logic, Sets", "A Prize", "4 May 2020",
        "A Jury", "award-sum", "A Paper", "2021", "An Office", "paper.example.org", "A Book", "A Press",
        "Nov 2018", "pub-sum",
        "Chess", "endgames", "A Boss", "ref-words", "A Bridge", "proj-desc", "welder", "A Town",
    ):  # fmt: skip
        assert word in text
    for heading in ("Experience", "Skills", "Languages", "Summary"):
        assert heading not in text


@pytest.mark.parametrize(
    ("language", "start", "end", "printed"),
    [
        ("en", "2019-03", None, "Mar 2019 – Present"),
        ("fr", "2021-01-15", "2022-08", "janv. 2021 – août 2022"),
        ("de", "2018", "2020", "2018 – 2020"),
        ("es", None, "2020-09", "hasta sept. 2020"),
        ("it", "2020-05", "2020-05", "mag. 2020"),
        ("pt", "2020-00", "2020-19", "2020-00 – 2020-19"),
        ("en", None, None, ""),
    ],
)
def test_periods_are_printed_in_the_language(language: str, start: str | None, end: str | None, printed: str) -> None:
    """To the month, with what goes on said in words; what is no date is printed as it stands."""
    assert period(LANGUAGES[language], start, end) == printed


def test_single_dates_are_as_precise_as_they_are() -> None:
    """A day is printed where there is one."""
    assert one_date(LANGUAGES["de"], "2020-03-09") == "9. März 2020"
    assert one_date(LANGUAGES["en"], "2020-13-09") == "2020-13-09"


def test_another_language_has_english_headings_and_its_own_tag() -> None:
    """What words are missing for is printed in English; the document still says its language."""
    view = view_of(resume(basics={"summary": "Cześć"}), language="pl_PL")
    assert (view.language, view.region, view.sections[0].heading) == ("pl", "PL", "Summary")


@pytest.mark.parametrize(
    ("cv", "language", "code"),
    [
        (Resume(), "en", "empty_cv"),
        (resume(basics={"name": " \x00"}), "en", "empty_cv"),
        (ENGLISH, "#x", "bad_language"),
    ],
)
def test_what_cannot_be_printed_has_a_code(cv: Resume, language: str, code: str) -> None:
    """Nothing to print, and no language."""
    with pytest.raises(JobError) as caught:
        render(cv, template="classic", paper="a4", language=language)
    assert caught.value.code == code


def test_without_typst_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional; what is missing is named."""
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(JobError, match=r"pip install 'annul\[pdf\]'") as caught:
        render(ENGLISH, template="classic", paper="a4", language="en")
    assert caught.value.code == "no_renderer"


def test_the_daemon_can_import_it_cheaply() -> None:
    """The package itself imports neither compiler nor reader."""
    check = "import sys, annul.jobs.cv_pdf; assert not {'typst', 'pypdf', 'pypdfium2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
