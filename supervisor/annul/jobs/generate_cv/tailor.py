"""From a base CV, an offer and an engine's proposals to the tailored CV and its edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from annul.errors import JobError
from annul.jobs.generate_cv import fit, gates, offline
from annul.jobs.generate_cv.edits import Edit, apply, at, with_originals
from annul.jobs.generate_cv.places import Match, match, places
from annul.jobs.generate_cv.plan import Plan, Ranker, cuts, edits_of, ranked, with_cuts
from annul.jobs.generate_cv.terms import Term
from annul.jobs.resume import Resume

_MOST_REJECTED = 100
_SHOWN = 300  # characters of a rejected value


class Proposals(msgspec.Struct, kw_only=True):
    """What an engine wants: texts and skills, and lists in another order. Not yet looked at by any gate."""

    edits: list[Edit] = []  # replace, add
    orders: list[Edit] = []  # reorder, trim, select
    usage: dict[str, Any] = {}


class Tailored(msgspec.Struct, kw_only=True):
    """A tailored CV."""

    document: dict[str, Any]  # JSON Resume
    edits: list[Edit]  # applied in order to the base they give `document`
    rejected: list[Edit]
    before: Match
    after: Match
    pages: int  # as `pages_of` says
    notes: list[str]


def tailor(
    base: gates.Base,
    wanted: list[Term],
    proposals: Proposals | None,
    *,
    pages: int,
    pages_of: Callable[[dict[str, Any]], int],
) -> Tailored:
    """Make the edits that pass the gates, put the relevant first, and cut to `pages` pages.

    `proposals`: of a model; None: the offline engine's own. `pages_of`: how many pages a CV takes. Deterministic, given
    the proposals. Raises JobError ``internal_edit`` should an edit of ours not pass: it is not made then.
    """
    before = match(base.places, wanted)
    notes: list[str] = []
    given = proposals or Proposals(edits=offline.skills_to_show(base, before))
    inner, rejected = _accepted(base, given.edits)
    inner = _grouped(base, inner)
    document = apply(base.document, inner)

    ranker = Ranker(wanted, base.language)
    plan = ranked(document, ranker)
    orders, refused = _accepted(base, given.orders)
    _take_orders(plan, orders, document)

    options = [cut for cut in cuts(document, ranker) if cut.index in _kept(plan, cut.path, document)]

    def version(count: int) -> list[Edit]:
        return [*inner, *edits_of(with_cuts(plan, document, options[:count]), document)]

    known: dict[int, int] = {}

    def pages_with(count: int) -> int:
        if count not in known:
            known[count] = pages_of(apply(base.document, version(count)))
        return known[count]

    count = fit.fewest(len(options), pages, pages_with)
    took = pages_with(count)
    if took > pages:
        notes.append(f"The CV takes {took} pages, not {pages}, though all that may be cut is.")
    edits = with_originals(base.document, _without_gone(version(count)))
    # Invariant: no edit is made that the gates refuse, whoever proposed it.
    for edit in edits:
        if why := gates.why_not(base, edit):
            raise JobError("internal_edit", f"tailoring the CV: an edit of {edit.path} did not pass its gate: {why}")
    made = apply(base.document, edits)
    try:
        msgspec.convert(made, Resume)
    except msgspec.ValidationError as error:
        raise JobError("invalid_cv", f"the tailored CV is no JSON Resume: {error}") from error
    after = match(places(made, base.language), wanted)
    shown = [_shortened(edit) for edit in (*rejected, *refused)]
    if len(shown) > _MOST_REJECTED:
        notes.append(f"{len(shown)} edits were rejected; the first {_MOST_REJECTED} are told.")
    return Tailored(
        document=made,
        edits=edits,
        rejected=shown[:_MOST_REJECTED],
        before=before,
        after=after,
        pages=took,
        notes=notes,
    )


def _accepted(base: gates.Base, wanted: list[Edit]) -> tuple[list[Edit], list[Edit]]:
    """Those that pass the gates, and the others with the gate's reason. One edit a place: later ones are refused."""
    accepted: list[Edit] = []
    rejected: list[Edit] = []
    seen: set[object] = set()
    for edit in wanted:
        name = (
            edit.value
            if isinstance(edit.value, str)
            else (edit.value or {}).get("name")
            if edit.action == "add"
            else ""
        )
        place = ("add", str(name).casefold()) if edit.action == "add" else edit.path
        why = gates.why_not(base, edit)
        if why is None and place in seen:
            why = "this was edited before"
        if why is None:
            seen.add(place)
            accepted.append(edit)
        else:
            rejected.append(msgspec.structs.replace(edit, why=why))
    return accepted, rejected


def _grouped(base: gates.Base, edits: list[Edit]) -> list[Edit]:
    """Skills that were added one by one as one group, where the base has its skills in groups."""
    single = [edit for edit in edits if edit.action == "add" and edit.path == "/skills/-"]
    if not single or not any(skill.get("keywords") for skill in base.document.get("skills", [])):
        return edits
    value = {"name": gates.OTHER[base.language], "keywords": [edit.value["name"] for edit in single]}
    why = "; ".join(dict.fromkeys(filter(None, (edit.why for edit in single))))[:500]
    return [edit for edit in edits if edit not in single] + [Edit(path="/skills/-", action="add", value=value, why=why)]


def _take_orders(plan: Plan, orders: list[Edit], document: dict[str, Any]) -> None:
    """A model's orders instead of the ranked ones; what was added to a list comes after what it names."""
    for edit in orders:
        count = len(at(document, edit.path))
        order = [number for number in edit.value if number < count]
        if edit.action == "reorder":
            order += [number for number in range(count) if number not in order]
        plan.orders[edit.path] = order
        plan.why[edit.path] = edit.why


def _kept(plan: Plan, path: str, document: dict[str, Any]) -> set[int]:
    return set(plan.orders[path]) if path in plan.orders else set(range(len(at(document, path))))


def _without_gone(edits: list[Edit]) -> list[Edit]:
    """Without the edits of texts in entries that a later edit takes out."""
    gone = {edit.path: edit.value for edit in edits if edit.action in ("select", "trim")}

    def stays(edit: Edit) -> bool:
        parts = edit.path.split("/")
        for length in range(2, len(parts)):
            order = gone.get("/".join(parts[:length]))
            if order is not None and parts[length].isdigit() and int(parts[length]) not in order:
                return False
        return True

    return [edit for edit in edits if stays(edit)]


def _shortened(edit: Edit) -> Edit:
    def short(value: Any) -> Any:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode(errors="replace")
        return value if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

    return msgspec.structs.replace(
        edit, path=edit.path[:200], original=short(edit.original), value=short(edit.value), why=edit.why[:500]
    )
