"""The gates of `generate-cv`: what no edit may do, whoever proposes it."""

from __future__ import annotations

from typing import Any

import pytest

from annul.jobs.generate_cv.edits import ACTIONS, Edit
from annul.jobs.generate_cv.gates import Base, base_of, why_no_skill, why_not

CV: dict[str, Any] = {
    "basics": {
        "name": "Ana Prieto",
        "label": "Senior Developer",
        "email": "ana@example.org",
        "phone": "+34 600 000 000",
        "url": "https://ana.example.org",
        "summary": "Developer with 8 years of experience in payments. Writes Python and Go.",
        "location": {"city": "Lyon", "countryCode": "FR"},
        "profiles": [{"network": "GitHub", "username": "ana", "url": "https://github.com/ana"}],
    },
    "work": [
        {
            "name": "Banco Azul",
            "location": "Lyon",
            "position": "Senior Developer",
            "url": "https://azul.example.org",
            "startDate": "2020-03",
            "description": "A bank.",
            "summary": "Payments for 3 million customers.",
            "highlights": [
                "Cut the time of a payment by 40 %, from 1,200 ms to 720 ms, in Python",
                "Assisted the head of engineering with the migration to Kubernetes",
                "Has no experience with COBOL, and still replaced it",
            ],
        },
        {
            "name": "Werkzeug GmbH",
            "position": "Developer",
            "startDate": "2016",
            "endDate": "2020-02",
            "highlights": ["Développement d'une API en Node.js et C++", "Ready to go at any time"],
        },
    ],
    "volunteer": [
        {"organization": "Code Club", "position": "Mentor", "startDate": "2019", "highlights": ["Taught Scratch"]},
        {"organization": "Red Cross", "startDate": "2015"},
    ],
    "education": [
        {
            "institution": "INSA Lyon",
            "area": "Informatique",
            "studyType": "Diplôme d'ingénieur",
            "startDate": "2011",
            "endDate": "2016",
            "score": "15/20",
            "courses": ["Compilers", "Statistics"],
        }
    ],
    "awards": [{"title": "Hackathon", "date": "2018", "awarder": "Lyon Tech", "summary": "First of 20."}],
    "certificates": [{"name": "CKA", "date": "2022", "issuer": "CNCF", "url": "https://cncf.io"}],
    "publications": [{"name": "On ledgers", "publisher": "IEEE", "releaseDate": "2021", "summary": "Ledgers."}],
    "skills": [{"name": "Languages", "level": "Expert", "keywords": ["Python", "SQL"]}, {"name": "Git"}],
    "languages": [{"language": "French", "fluency": "native"}, {"language": "English", "fluency": "C1"}],
    "interests": [{"name": "Chess", "keywords": ["blitz"]}],
    "references": [{"name": "Jo Doe", "reference": "Good."}],
    "projects": [
        {
            "name": "ledger",
            "description": "A double-entry ledger.",
            "highlights": ["Used by 12 teams", "Written in Rust"],
            "keywords": ["Rust"],
            "startDate": "2019",
            "endDate": "2020",
            "url": "https://l.example.org",
            "roles": ["Author"],
            "entity": "none",
            "type": "application",
        }
    ],
}
FACTS = """
    /basics /basics/name /basics/label /basics/email /basics/phone /basics/url /basics/location /basics/location/city
    /basics/location/countryCode /basics/profiles /basics/profiles/0/username /basics/profiles/0/url
    /work /work/0 /work/0/name /work/0/location /work/0/position /work/0/url /work/0/startDate /work/1/endDate
    /work/0/description /volunteer/0/organization /volunteer/0/position /volunteer/0/startDate
    /education /education/0 /education/0/institution /education/0/area /education/0/studyType /education/0/startDate
    /education/0/endDate /education/0/score /education/0/courses/0
    /awards/0/title /awards/0/date /awards/0/awarder /awards/0/summary
    /certificates/0 /certificates/0/name /certificates/0/date /certificates/0/issuer /certificates/0/url
    /publications/0/name /publications/0/publisher /publications/0/releaseDate
    /skills/0 /skills/0/name /skills/0/level /skills/0/keywords/0
    /languages/0/language /languages/0/fluency /interests/0/name /references/0/name /references/0/reference
    /projects/0 /projects/0/name /projects/0/startDate /projects/0/endDate /projects/0/url /projects/0/roles
    /projects/0/roles/0 /projects/0/entity /projects/0/type /projects/0/keywords/0
""".split()
NOWHERE = ["", "/", "x", "/work/9/highlights/0", "/work/-1/summary", "/work/00/summary", "/nope",
           "/work/0/highlights/0/x",
           "/work/٠/summary", "/basics/summary/", "/work/0/highlights/-", "/../etc/passwd", "/" * 500]  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Base:
    return base_of(CV, "en")


def rejected(base: Base, path: str, action: Any, value: Any) -> str | None:
    return why_not(base, Edit(path=path, action=action, value=value))


@pytest.mark.parametrize("path", FACTS)
def test_facts_are_never_edited(base: Base, path: str) -> None:
    """Dates, names, employers, positions, degrees, contacts, certificates: by no action, to no value."""
    for action in ACTIONS:
        for value in ("Python", "2019", "", [0], [], {"name": "Python"}, None):
            assert rejected(base, path, action, value), (action, value)


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("action", ACTIONS)
def test_paths_that_lead_nowhere(base: Base, path: str, action: str) -> None:
    """A path that the CV does not have is refused, and never an exception."""
    for value in ("Python", [0], {"name": "Python"}, None):
        assert rejected(base, path, action, value)


H0, H1, H2 = (f"/work/0/highlights/{number}" for number in range(3))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (H0, "In Python, cut the time of a payment by 40%, from 1200 ms to 720 ms"),
        (H0, "Python: payment time cut from 1.200 ms to 720 ms (40 %)"),
        (H0, "Cutting a payment's time by 40 %, using Python"),  # a stem, and words that claim nothing
        (H1, "Migration to Kubernetes: assisted the head of engineering"),
        (H2, "Replaced COBOL, with no experience in it"),
        ("/basics/summary", "Senior Developer: Python, Go, Kubernetes and Node.js, 8 years of experience in payments."),
        ("/basics/summary", "Developer with 8 years of experience in payments: Go, C++ (Node.js, too)"),
        ("/work/1/highlights/0", "Developpement d'API en C++ et NodeJS"),  # accents, and another spelling
        ("/projects/0/highlights/0", "A ledger used by 12 teams, in Rust"),
    ],
)
def test_what_the_base_says_may_be_said_otherwise(base: Base, path: str, text: str) -> None:
    """The base's own words pass, in another order, without accents, by another form."""
    assert rejected(base, path, "replace", text) is None


@pytest.mark.parametrize(
    ("path", "text", "unknown"),
    [
        (H0, "Cut the time of a payment by 40 % at Initech", "Initech"),  # an employer
        (H0, "Cut the time of a payment by 60 % in Python", "60 %"),  # a number
        (H0, "Cut the time of a payment by 40 in Python", "40"),  # 40 % is not 40
        (H0, "Cut the time of a payment by 40 % in Java", "Java"),  # a technology
        (H0, "Cut the time of a payment by 40 % in python and c#", "c#"),
        (H0, "Cut the time of a payment by 40 % with machine learning", "machine"),  # a skill in small letters
        (H0, "As a doctor, cut the time of a payment by 40 %", "doctor"),  # a title
        (H0, "Led a team: payment time cut by 40 %", "Led"),
        (H0, "Cut the time of a payment by 40 %, migration to Kubernetes", None),  # of the same employer: fine
        (H0, "Cut the time of a payment by 40 % in Node.js", "Node.js"),  # done elsewhere, not here
        (H1, "Head of engineering; migration to Kubernetes", "Head"),  # assisted, and was not
        (H1, "Senior head of engineering", "head"),
        ("/basics/summary", "PhD in payments, Python and Go", "PhD"),
        ("/basics/summary", "Lead developer in Python and Go", "Lead"),
        ("/basics/summary", "Developer. Payments. Twelve years of Python", "Twelve"),
        ("/basics/summary", "Developer with 80 years of Python", "80"),
        ("/basics/summary", "Developer with .8 years of experience in payments", ".8"),
        ("/basics/summary", "Developer, see http://evil.example", "address"),
        ("/projects/0/description", "A ledger for Banco Azul", "Banco"),
        ("/work/1/highlights/0", "API en C++, Node.js et Go", "Go"),
        ("/work/1/highlights/1", "Writes Go", "Writes"),
        (H0, "Cut the time of a payment by over 40 % in Python", "over"),  # more than was said
        (H0, "Cut all payment time by 40 % in Python", "all"),
        (H0, "Cut the time of a payment by >40 % in Python", "0x3e"),
        (H0, "Cut the time of a payment by 40 % in Python ★★★★★", "0x2605"),
        (H0, "Cut 1,200 payments by 40 %", "1,200 payments"),  # milliseconds they were
        (H0, "Payments for 3 customers, in Python", "3"),  # 3 million
        ("/work/0/summary", "Payments for 40 million customers", "40 million"),
        (H0, "Cut the time of a payment by 40 % in Python, for WHO", "WHO"),  # an employer that looks like "who"
        (H2, "Has no experience with COBOL, and still replaced it for IT", "IT"),  # the base has "it"
        ("/basics/summary", "Developer with 8 years of experience in A.I.", "A.I."),
        ("/projects/0/highlights/0", "Used by 12 war teams", "war"),  # a small word, in another language
    ],
)
def test_what_the_base_does_not_say_is_refused(base: Base, path: str, text: str, unknown: str | None) -> None:
    """Employers, numbers, technologies, titles and plain claims that the entry does not have; the reason names them."""
    why = rejected(base, path, "replace", text)
    if unknown is None:
        assert why is None
    else:
        assert why is not None
        assert unknown in why


@pytest.mark.parametrize(
    ("language", "text", "unknown"),
    [("de", "Entwicklerin am MIT", "MIT"), ("es", "Trabajo en la ESA", "ESA"), ("fr", "Travail chez SES", "SES")],
)
def test_a_name_that_looks_like_a_small_word(language: Any, text: str, unknown: str) -> None:
    """ "MIT" is a school, though "mit" is a German word; it passes where the base has it so written."""
    for said, refused in (
        ("Entwicklerin, trabajo, travail", True),
        (f"Entwicklerin, trabajo, travail, {unknown}", False),
    ):
        why = rejected(base_of({"basics": {"summary": said}}, language), "/basics/summary", "replace", text)
        assert (why is not None and unknown in why) if refused else why is None


@pytest.mark.parametrize(("said", "unsaid"), [("SA", "SAS"), ("io", "iOS"), ("CSS", "CS"), ("AWS", "AW")])
def test_an_s_that_makes_another_name(said: str, unsaid: str) -> None:
    """A plural's s is that of a word: "SAS" is not said by "SA", as "APIs" is by "API"."""
    cv = {"basics": {"summary": f"Payments, {said}, API."}, "work": [{"name": "A", "highlights": [f"Used {said}"]}]}
    base = base_of(cv, "en")
    assert rejected(base, "/basics/summary", "replace", f"Payments, {unsaid}")
    assert why_no_skill(base, unsaid)
    assert rejected(base, "/basics/summary", "replace", "Payment, APIs") is None


@pytest.mark.parametrize(
    "value",
    [
        "", "   ", None, 3, ["Python"], {"a": 1},
        "Python " * 200,  # too long
        "Cut the time\u200b of a payment",  # a character that is not seen
        "Cut the time\x00 of a payment",
        "Cut the time of a payment\nby 40 %",  # lines where there was one
        "Has experience with COBOL, and replaced it",  # of H2: the "no" is gone
    ],
)  # fmt: skip
def test_texts_that_are_none(base: Base, value: Any) -> None:
    """Empty, of another kind, too long, with hidden characters or lines, or with a negation gone."""
    assert rejected(base, H2 if "COBOL" in str(value) else H0, "replace", value)


@pytest.mark.parametrize(
    "skill", ["Kubernetes", "kubernetes", "Node.js", "C++", "nodejs", "Rust", "migration", "Compilers"]
)
def test_skills_with_evidence_may_be_shown(base: Base, skill: str) -> None:
    """A skill that a text of the CV shows may be added to its skills."""
    assert why_no_skill(base, skill) is None
    assert rejected(base, "/skills/-", "add", {"name": skill}) is None
    assert rejected(base, "/skills/0/keywords/-", "add", skill) is None
    assert rejected(base, "/skills/-", "add", {"name": "Other skills", "keywords": [skill]}) is None


@pytest.mark.parametrize(
    "skill",
    [
        "Java", "Docker", "machine learning", "C", "C#", ".NET", "Node", "migrations to Docker",
        "Python", "SQL", "git",  # listed already
        "COBOL",  # "no experience with"
        "Banco Azul", "Lyon", "Werkzeug", "INSA", "CNCF", "2020",  # no skills, though the CV has them
        "head of engineering", "Senior", "Expert", "the", "", "  ", "and of",
        "Python " * 20, "Kubernetes\nDocker", "40%%%%", "Ana Prieto",
        "University",
    ],
)  # fmt: skip
def test_skills_without_evidence_are_refused(base: Base, skill: str) -> None:
    """No evidence, a place, an employer, a rank, a negated one, or one that is listed: nothing is added."""
    assert rejected(base, "/skills/-", "add", {"name": skill})
    assert rejected(base, "/skills/0/keywords/-", "add", skill)
    assert rejected(base, "/skills/-", "add", {"name": "Other skills", "keywords": ["Kubernetes", skill]})


def test_an_everyday_word_is_no_evidence_of_a_skill() -> None:
    """ "Ready to go" is no Go, and "excel at" no Excel; "universal" is no "university"."""
    cv = {"work": [{"name": "A", "highlights": ["Ready to go", "We excel at universal remotes"]}]}
    base = base_of(cv, "en")
    for skill in ("Go", "Excel", "University"):
        assert why_no_skill(base, skill), skill
    other = base_of({"work": [{"name": "A", "highlights": ["Wrote services in Go"]}]}, "en")
    assert why_no_skill(other, "Go") is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/skills/-", {"name": "Kubernetes", "level": "Master"}),
        ("/skills/-", {"name": "Kubernetes", "keywords": ["Rust"]}),  # a heading of its own making
        ("/skills/-", {"name": "Other skills", "keywords": []}),
        ("/skills/-", "Kubernetes"),
        ("/skills/-", None),
        ("/skills/9/keywords/-", "Kubernetes"),
        ("/skills/0/keywords/0", "Kubernetes"),
        ("/work/-", {"name": "Initech"}),
        ("/education/-", {"studyType": "PhD"}),
        ("/certificates/-", {"name": "Kubernetes"}),
        ("/work/0/highlights/-", "Kubernetes"),
        ("/languages/-", {"language": "German"}),
        ("/basics/profiles/-", {"network": "GitHub"}),
        ("/-", "Kubernetes"),
    ],
)
def test_nothing_else_is_added(base: Base, path: str, value: Any) -> None:
    """No job, degree, certificate, language or highlight, and no skill with a level."""
    assert rejected(base, path, "add", value)


@pytest.mark.parametrize(
    ("path", "action", "order", "fine"),
    [
        (H0[:-2], "reorder", [2, 0, 1], True),
        (H0[:-2], "trim", [2, 0], True),
        (H0[:-2], "trim", [], True),
        ("/skills", "reorder", [1, 0], True),
        ("/projects", "select", [], True),
        ("/volunteer", "select", [1], True),
        ("/languages", "reorder", [1, 0], True),
        (H0[:-2], "reorder", [2, 0], False),  # one is missing
        (H0[:-2], "reorder", [2, 0, 1, 1], False),
        (H0[:-2], "reorder", [2, 0, 1, 3], False),  # nothing there
        (H0[:-2], "trim", [-1], False),
        (H0[:-2], "trim", [True, False], False),
        (H0[:-2], "trim", ["0"], False),
        (H0[:-2], "select", [0], False),
        ("/work", "reorder", [1, 0], False),  # in time
        ("/work", "select", [0], False),
        ("/volunteer", "reorder", [1, 0], False),
        ("/volunteer", "select", [1, 0], False),
        ("/education", "reorder", [0], False),
        ("/education", "select", [], False),
        ("/certificates", "select", [], False),
        ("/languages", "select", [0], False),
        ("/skills", "select", [0], False),
        ("/basics/profiles", "reorder", [0], False),
    ],
)
def test_lists(base: Base, path: str, action: str, order: list[Any], fine: bool) -> None:
    """Lists may be put in another order or shortened where a CV stays true and complete; each item once."""
    assert (rejected(base, path, action, order) is None) is fine
