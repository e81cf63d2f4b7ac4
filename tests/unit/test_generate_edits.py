"""Edits: applied in order to the base they are the result, whatever CV, offer and proposals there are."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annul.jobs.generate_cv import fit, gates
from annul.jobs.generate_cv.edits import ACTIONS, Edit, NoSuchPath, apply, at, names
from annul.jobs.generate_cv.places import texts
from annul.jobs.generate_cv.plan import lists
from annul.jobs.generate_cv.tailor import Proposals, Tailored, tailor
from annul.jobs.generate_cv.terms import terms
from annul.jobs.resume import Resume

WORDS = [
    "Python",
    "Go",
    "go",
    "Kubernetes",
    "C++",
    "team",
    "payments",
    "senior",
    "40 %",
    "3",
    "no",
    "the",
    "Lyon",
    "audit",
]
phrase = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
phrases = st.lists(phrase, max_size=4)
date = st.sampled_from(["2019", "2020-03", "2021-12-31"])


def entry(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def section(entries: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(entries, max_size=3)


work = entry(name=phrase, position=phrase, startDate=date, endDate=date, summary=phrase, highlights=phrases)
cvs = entry(
    basics=entry(name=phrase, label=phrase, summary=phrase, email=st.just("a@example.org")),
    work=section(work),
    volunteer=section(entry(organization=phrase, startDate=date, highlights=phrases)),
    education=section(entry(institution=phrase, area=phrase, studyType=phrase, courses=phrases)),
    awards=section(entry(title=phrase, date=date)),
    certificates=section(entry(name=phrase, issuer=phrase)),
    skills=section(entry(name=phrase, level=phrase, keywords=phrases)),
    languages=section(entry(language=phrase, fluency=phrase)),
    interests=section(entry(name=phrase)),
    references=section(entry(name=phrase)),
    projects=section(entry(name=phrase, description=phrase, highlights=phrases, keywords=phrases, startDate=date)),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], str, list[Edit], list[Edit]]:
    """A CV, an offer, and what a model may propose: true, false, impossible."""
    # As the job has it: read into Structs, empty values left out.
    cv = msgspec.to_builtins(msgspec.convert(draw(cvs), Resume))
    offer = "\n".join(["Requirements", *(f"- {one}" for one in draw(phrases))])
    paths = [path for path, _ in texts(cv)] + [path for path, _ in lists(cv)] + ["/nope", "/work/7/summary", ""]
    edits, orders = [], []
    for _ in range(draw(st.integers(0, 6))):
        path = draw(st.sampled_from(paths))
        action = draw(st.sampled_from(ACTIONS))
        if action == "add":
            path = draw(st.sampled_from(["/skills/-", "/skills/0/keywords/-", "/work/-"]))
            value: Any = draw(phrase)
            value = {"name": value} if path == "/skills/-" else value
        elif action == "replace":
            value = draw(st.one_of(phrase, st.sampled_from([text for _, text in texts(cv)] or ["x"])))
        else:
            value = draw(st.one_of(st.permutations(range(3)), st.lists(st.integers(-1, 4), max_size=4)))
        original = None
        try:
            now = at(cv, path)
            original = names(now) if isinstance(now, list) else now
        except NoSuchPath:
            pass
        (edits if action in ("add", "replace") else orders).append(
            Edit(path=path, action=action, original=original, value=value, why="proposed")
        )
    return cv, offer, edits, orders


def highlights(cv: dict[str, Any]) -> int:
    return sum(len(one.get("highlights", [])) for each in ("work", "volunteer", "projects") for one in cv.get(each, []))


def run(case: tuple[dict[str, Any], str, list[Edit], list[Edit]], pages: int = 1) -> tuple[gates.Base, Tailored]:
    cv, offer, edits, orders = case
    base = gates.base_of(cv, "en")
    proposals = Proposals(edits=edits, orders=orders) if edits or orders else None
    return base, tailor(base, terms(offer, "en"), proposals, pages=pages, pages_of=lambda cv: 1 + highlights(cv) // 4)


def facts(cv: dict[str, Any]) -> dict[str, Any]:
    """What may never change: of each section, the entries without what may."""
    cv = copy.deepcopy(cv)
    cv.get("basics", {}).pop("summary", None)
    for name in ("work", "volunteer", "projects"):
        for one in cv.get(name, []):
            for key in ("highlights", "summary", "keywords"):
                one.pop(key, None)
            if name == "projects":
                one.pop("description", None)
    for one in cv.get("education", []):
        one.pop("courses", None)
    return cv


@given(cases())
@settings(max_examples=120, deadline=None)
def test_edits_are_the_whole_difference(case: tuple[dict[str, Any], str, list[Edit], list[Edit]]) -> None:
    """Applied in order to the base they give exactly the result; each `original` is what stands there then."""
    before = copy.deepcopy(case[0])
    base, made = run(case)
    assert case[0] == before, "the base is left as it was"
    assert apply(base.document, made.edits) == made.document
    now = base.document
    for edit in made.edits:
        if edit.action != "add":
            stood = at(now, edit.path)
            assert edit.original == (names(stood) if isinstance(stood, list) else stood)
        after = apply(now, [edit])
        assert after != now, f"an edit that changes nothing: {edit}"
        now = after
    assert now == made.document
    assert msgspec.to_builtins(msgspec.convert(made.document, Resume)) == made.document


@given(cases())
@settings(max_examples=120, deadline=None)
def test_facts_stay(case: tuple[dict[str, Any], str, list[Edit], list[Edit]]) -> None:
    """Whatever was proposed: every fact of the result is the base's, in its place; and every edit passes its gate."""
    base, made = run(case)
    old, new = facts(base.document), facts(made.document)
    for name in ("basics", "work", "education"):
        assert new.get(name) == old.get(name)
    for name in ("languages", "awards", "projects", "interests", "references", "volunteer"):
        assert all(one in old[name] for one in new.get(name, []))
    for name in ("languages", "certificates"):
        assert sorted(map(str, new.get(name, []))) == sorted(map(str, old.get(name, [])))
    in_time = iter(old.get("volunteer", []))
    assert all(one in in_time for one in new.get("volunteer", []))
    for edit in made.edits:
        assert gates.why_not(base, edit) is None
    for edit in made.rejected:
        assert edit.why
        assert edit.why != "proposed"


@given(cases())
@settings(max_examples=40, deadline=None)
def test_always_the_same(case: tuple[dict[str, Any], str, list[Edit], list[Edit]]) -> None:
    """The same base, offer and proposals give the same result."""
    assert run(case)[1] == run(case)[1]


@given(cases())
@settings(max_examples=40, deadline=None)
def test_only_as_much_is_cut_as_must_be(case: tuple[dict[str, Any], str, list[Edit], list[Edit]]) -> None:
    """With room for everything nothing of ours goes, and the score does not fall; with less it fits, or says so."""
    cv, offer, _, _ = case
    _, roomy = run((cv, offer, [], []), pages=2 + highlights(cv))
    assert not [edit for edit in roomy.edits if edit.action in ("trim", "select")]
    assert roomy.after.score >= roomy.before.score
    _, tight = run((cv, offer, [], []), pages=1)
    assert highlights(tight.document) < 4
    assert tight.pages == 1
    if highlights(cv) < 4:
        assert highlights(tight.document) == highlights(cv)


@given(st.integers(0, 200), st.integers(0, 250))
def test_the_fewest_cuts(count: int, needed: int) -> None:
    """Found in few steps: not one cut more than needed, all where that is not enough."""
    asked: list[int] = []

    def pages_with(cuts: int) -> int:
        asked.append(cuts)
        return 1 if cuts >= needed else 2

    assert fit.fewest(count, 1, pages_with) == min(needed, count)
    assert len(asked) <= 10


def test_pointers() -> None:
    """RFC 6901: ~0 and ~1 are ~ and /; no leading zeros, no signs, no digits of other scripts."""
    assert at({"a/b": {"~": [1, 2]}}, "/a~1b/~0/1") == 2
    for path in ("/a", "/0", "a", "", "/a~1b/~0/01", "/a~1b/~0/-1", "/a~1b/~0/2", "/a~1b/~0/١"):
        with pytest.raises(NoSuchPath):
            at({"a/b": {"~": [1, 2]}}, path)
