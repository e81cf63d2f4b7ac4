"""What becomes of a CV's lists: an order for each, and what may go to save room. Pure.

A plan is kept apart from the CV: the order of a list is the base's indexes, so that cutting more or less is only
another plan, and the edits are made of the one that is chosen in the end.
"""

from __future__ import annotations

from typing import Any

import msgspec

from annul.jobs.generate_cv.edits import Action, Edit, at
from annul.jobs.generate_cv.gates import OTHER
from annul.jobs.generate_cv.places import generic, relevance, texts
from annul.jobs.generate_cv.terms import Term
from annul.jobs.generate_cv.words import Language, words

# Lists that are ordered by relevance; work, education and volunteer stay in their order in time.
ORDERED = frozenset(
    {
        "/skills",
        "/skills/*/keywords",
        "/work/*/highlights",
        "/volunteer/*/highlights",
        "/projects",
        "/projects/*/highlights",
        "/projects/*/keywords",
    }
)
# How much an entry is worth apart from the offer; the least goes first.
_WORTH = {"references": 0.0, "interests": 0.0, "publications": 1.0, "awards": 1.0, "volunteer": 1.5, "projects": 1.5}
_SECTIONS = ("work", "volunteer", "projects")  # that have highlights


class Cut(msgspec.Struct, frozen=True):
    """Something that may go: the item of a list."""

    path: str  # of the list
    index: int  # in it
    worth: float
    why: str


class Plan(msgspec.Struct):
    """The order of each list that has another one than the base, and why."""

    orders: dict[str, list[int]] = {}
    why: dict[str, str] = {}


class Ranker:
    """Knows how relevant each part of a document is to an offer's terms. Remembers what it was asked."""

    def __init__(self, wanted: list[Term], language: Language) -> None:
        self._wanted = wanted
        self._language = language
        self._known: dict[str, float] = {}

    def relevance(self, value: Any) -> float:
        """The weight of the terms that stand anywhere in a text, or in the texts of an entry."""
        found = [text for _, text in texts(value, "/")]
        key = "\n".join(found)
        if key not in self._known:
            self._known[key] = relevance([words(text, self._language) for text in found], self._wanted)
        return self._known[key]


def ranked(document: dict[str, Any], ranker: Ranker) -> Plan:
    """The plan that puts what is most relevant first; what is as relevant stays in the base's order."""
    plan = Plan()
    for path, items in lists(document):
        if generic(path) not in ORDERED:
            continue
        # The group of what was added comes after the person's own.
        last = [isinstance(item, dict) and item.get("name") in OTHER.values() for item in items]
        worth = [ranker.relevance(item) for item in items]
        order = sorted(range(len(items)), key=lambda number, last=last, worth=worth: (last[number], -worth[number]))  # type: ignore[misc]
        if order != list(range(len(items))):
            plan.orders[path] = order
            plan.why[path] = "what the offer asks for comes first"
    return plan


def lists(document: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Every list in a CV with its path, in order; none of `meta`."""
    found: list[tuple[str, list[Any]]] = []

    def look(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if path or key != "meta":
                    look(item, f"{path}/{key}")
        elif isinstance(value, list):
            found.append((path, value))
            for number, item in enumerate(value):
                look(item, f"{path}/{number}")

    look(document, "")
    return found


def cuts(document: dict[str, Any], ranker: Ranker) -> list[Cut]:
    """All that may go, what is worth least first.

    Entries of `_WORTH`, and highlights. An entry of work keeps its most relevant highlight as long as others have
    more than one.
    """
    found: list[Cut] = []
    for section, worth in _WORTH.items():
        items = document.get(section, [])
        for number, item in enumerate(items):
            value = worth + ranker.relevance(item) + (len(items) - number) / 1000
            found.append(Cut(f"/{section}", number, value, "least relevant to the offer, and room is short"))
    for section in _SECTIONS:
        for place, entry in enumerate(document.get(section, [])):
            highlights = entry.get("highlights", [])
            own = [ranker.relevance(text) for text in highlights]
            best = max(range(len(own)), key=lambda number, own=own: own[number], default=-1)  # type: ignore[misc]
            recent = 1 / (1 + place)
            for number, value in enumerate(own):
                kept = (100.0 if section == "work" else 2.0) if number == best else 0.0
                worth_it = value + recent + kept + (len(own) - number) / 1000
                found.append(Cut(f"/{section}/{place}/highlights", number, worth_it, _why(value)))
    return sorted(found, key=lambda cut: (cut.worth, cut.path, cut.index))


def _why(value: float) -> str:
    return "the offer asks for none of it, and room is short" if not value else "less relevant, and room is short"


def with_cuts(plan: Plan, document: dict[str, Any], gone: list[Cut]) -> Plan:
    """`plan` with some items gone."""
    made = Plan(dict(plan.orders), dict(plan.why))
    for path in dict.fromkeys(cut.path for cut in gone):
        dropped = {cut.index for cut in gone if cut.path == path}
        order = made.orders.get(path) or list(range(len(at(document, path))))
        made.orders[path] = [number for number in order if number not in dropped]
        made.why[path] = next(cut.why for cut in gone if cut.path == path)
    return made


def edits_of(plan: Plan, document: dict[str, Any]) -> list[Edit]:
    """The edits that a plan for `document` (the base with texts edited and skills added) stands for.

    The deepest lists first, so that each path still leads where it does in the base. What is inside of an entry that
    goes is not edited. `original` is left to `edits.with_originals`.
    """
    made = []
    for path in sorted(plan.orders, key=lambda path: (-path.count("/"), path)):
        order = plan.orders[path]
        items = at(document, path)
        if [items[number] for number in order] == items or _inside_of_gone(path, plan):
            continue
        action: Action = "trim" if path.count("/") > 1 else "select"
        if len(order) == len(items):
            action = "reorder"
        made.append(Edit(path=path, action=action, value=order, why=plan.why.get(path, "")))
    return made


def _inside_of_gone(path: str, plan: Plan) -> bool:
    _, section, *rest = path.split("/")
    order = plan.orders.get(f"/{section}")
    return bool(rest) and order is not None and int(rest[0]) not in order
