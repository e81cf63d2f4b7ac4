"""Words, languages and an offer's terms."""

from __future__ import annotations

import pytest

from annul.jobs.generate_cv.places import match, places, relevance
from annul.jobs.generate_cv.terms import MOST, Term, sections, terms
from annul.jobs.generate_cv.words import Language, fold, language_of, plain_number, words


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("C++, C# and F#", ["c++", "c#", "and", "f#"]),
        (".NET, ASP.NET, dotnet", [".net", "asp.net", ".net"]),
        ("Node.js nodeJS NODE.JS", ["node.js", "node.js", "node.js"]),
        ("CI/CD, CI-CD, ci / cd", ["ci/cd", "ci/cd", "ci/cd"]),
        ("Vue.js/React", ["vue", "react"]),
        ("front-end Frontend", ["frontend", "frontend"]),
        ("K8s, Postgres; golang", ["kubernetes", "postgresql", "go"]),
        ("TCP/IP and R&D", ["tcp/ip", "and", "r&d"]),
        ("end. Next", ["end", "next"]),
    ],
)
def test_technologies_are_whole(text: str, keys: list[str]) -> None:
    """Signs that are part of a name stay with it, and its spellings are one."""
    assert [word.folded for word in words(text, "en")] == keys


@pytest.mark.parametrize(
    ("text", "number"),
    [("1 200", "1200"), ("1,200", "1200"), ("1.200", "1200"), ("1\u202f200", "1200"), ("3,5 %", "3.5%"), ("40%", "40%"),
     ("40 %", "40%"), ("2.5", "2.5"), ("12", "12"), ("7 €", "7€"), ("40 million", "40million"),
     ("3,5 Millionen", "3.5millionen"), ("12k", "12k")],
)  # fmt: skip
def test_numbers_have_one_spelling(text: str, number: str) -> None:
    """Thousands, decimals and signs as they are written in four languages."""
    (word,) = words(f"x {text} y", "en")[1:-1]
    assert (word.key, word.number) == (number, True)
    assert plain_number(text) == number


def test_accents_and_case_do_not_matter() -> None:
    """What a keyboard lacks does not hide a skill; neither does the form of a word."""
    for one, other in (("Développement", "developpement"), ("STRASSE", "Straße"), ("gestión", "GESTION")):
        assert fold(one) == fold(other)
    en = [word.key for word in words("testing tested tests", "en")]
    assert len(set(en)) == 1


def test_capitals_mean_names_inside_of_sentences_only() -> None:
    """The first word of a sentence or a bullet is written with a capital whatever it is."""
    found = {word.text: word.capital for word in words("Wrote Prometheus rules. Then: Alerts\n- Rolled out AWS", "en")}
    assert found == {"Wrote": False, "Prometheus": True, "rules": False, "Then": False, "Alerts": False,
                     "Rolled": False,
                     "out": False, "AWS": True}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("You will work with the team that builds our pipelines.", "en"),
        ("Vous travaillez avec une équipe qui développe nos produits.", "fr"),
        ("Du arbeitest mit einem Team, das unsere Produkte entwickelt.", "de"),
        ("Trabajarás con el equipo que desarrolla nuestros productos para los clientes.", "es"),
        ("Python, SQL", "en"),
        ("", "en"),
    ],
)
def test_languages_are_told_by_small_words(text: str, language: Language) -> None:
    """English where nothing tells."""
    assert language_of(text) == language


OFFERS: dict[Language, tuple[str, list[str], list[str]]] = {
    "en": (
        """About us
We love Excel and table football.

Requirements:
- 5 years of Python, C++ or C#
- CI/CD, Kubernetes
- machine learning
- double-entry bookkeeping

Nice to have
- Rust

Benefits
- Gym, Jira jokes""",
        ["Python", "C++", "C#", "CI/CD", "Kubernetes", "machine learning"],
        ["Excel", "football", "Gym", "Jira"],
    ),
    "fr": (
        """Qui sommes-nous ?
Une équipe Salesforce.

Profil recherché :
- Maîtrise de Node.js et de .NET
- contrôle de gestion
- soudure inox

Atouts
- Docker

Nous offrons
- Mutuelle""",
        ["Node.js", ".NET", "contrôle de gestion", "soudure inox"],
        ["Salesforce", "Mutuelle"],
    ),
    "de": (
        """Über uns
Wir mögen SAP.

Ihr Profil
- Kenntnisse in SolidWorks und SPS-Programmierung
- Qualitätsmanagement, ISO 9001

Von Vorteil
- Python

Wir bieten
- Obstkorb""",
        ["SolidWorks", "Qualitätsmanagement", "ISO 9001"],
        ["SAP", "Obstkorb"],
    ),
    "es": (
        """Sobre nosotros
Usamos Jira.

Requisitos
- Experiencia con React y PostgreSQL
- atención al cliente

Deseable
- Docker

Ofrecemos
- Seguro médico""",
        ["React", "PostgreSQL"],
        ["Jira", "Seguro", "médico"],
    ),
}


@pytest.mark.parametrize("language", OFFERS)
def test_what_an_offer_asks_for(language: Language) -> None:
    """Requirements come first, in four languages; what is nice comes after; what the employer offers is no term."""
    text, wanted, not_wanted = OFFERS[language]
    found = [term.text for term in terms(text, language)]
    assert set(wanted) <= set(found), found
    assert not set(not_wanted) & set(found)
    nice = {"en": "Rust", "fr": "Docker", "de": "Python", "es": "Docker"}[language]
    assert max(found.index(one) for one in wanted if one in ("Python", "Node.js", "SolidWorks", "React")) < found.index(
        nice
    )


def test_one_line_that_is_nice_to_have() -> None:
    """ "is a plus" is about its line, not about the section that it stands in."""
    text = "Requirements\n- Python\n- Scala would be a plus\n- SQL"
    weights = {term.text: term.weight for term in terms(text, "en")}
    assert weights["Python"] == weights["SQL"] > weights["Scala"]
    assert dict(sections("Requirements\n- Python"))["Python"] == 2.0


def test_the_employer_is_no_keyword() -> None:
    """Its name is in all its offers, and on nobody's CV."""
    text = "Requirements\n- Experience with NordWind Turbines\n- NordWind values"
    assert "NordWind" not in " ".join(term.text for term in terms(text, "en", without="NordWind GmbH"))


def test_terms_are_few_and_always_the_same() -> None:
    """At most `MOST`, in an order that does not change."""
    text = "Requirements\n" + "\n".join(f"- Tool{n}X and thing{n} making" for n in range(300))
    assert len(terms(text, "en")) == MOST
    assert terms(text, "en") == terms(text, "en")


@pytest.mark.parametrize(
    "piece", ["a", "1", "1,1", ". ", "C++", "é", "(", "- \n", "Python ", "1 000", "x-", "A.", "«", "Go Go ", "\u0301"]
)
def test_hostile_offers_take_no_time(piece: str) -> None:
    """Nothing here grows with the square: as much as an offer may have at most comes to its end."""
    assert terms(piece * (200_000 // len(piece)), "en") is not None


CV = {
    "basics": {"label": "Data engineer", "summary": "Python and data quality."},
    "work": [{"name": "Kafka GmbH", "position": "Developer", "highlights": ["Wrote Terraform", "Ran a Go service"]}],
    "skills": [{"name": "Data", "keywords": ["SQL"]}],
}


def a_term(text: str, weight: float = 1.0, *, exact: bool = False) -> Term:
    return Term(text, tuple(word.key for word in words(text, "en")), weight, skill=True, exact=exact)


def test_found_injectable_missing() -> None:
    """What shows is found, what only a highlight says is injectable; an employer's name is evidence of nothing."""
    wanted = [a_term(one) for one in ("Python", "SQL", "data quality", "Terraform", "Kafka", "Java")]
    got = match(places(CV, "en"), wanted)
    assert [term.text for term in got.found] == ["Python", "SQL", "data quality"]
    assert [term.text for term in got.injectable] == ["Terraform"]
    assert [term.text for term in got.missing] == ["Kafka", "Java"]
    assert got.score == round((3 + 0.5) / 6, 4)


def test_the_score_is_of_weights() -> None:
    """From 0, nothing, to 1, all of it; a heavy term counts more; no terms are 0."""
    found = places(CV, "en")
    assert match(found, []).score == 0.0
    assert match(found, [a_term("Python", 3), a_term("Java", 1)]).score == 0.75
    assert match(found, [a_term("Python")]).score == 1.0
    assert match(found, [a_term("Java")]).score == 0.0


def test_exact_terms_need_their_capital() -> None:
    """ "Go" is not "go"."""
    go = a_term("Go", exact=True)
    assert relevance([words("Ran a Go service", "en")], [go]) == 1.0
    assert relevance([words("ready to go", "en")], [go]) == 0.0
