"""The openai engine of `generate-cv`: a model proposes edits; what becomes of them the gates decide."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from annul.jobs.chat.ask import Level, Limits, ask
from annul.jobs.chat.schema import decode_answer, strict_schema
from annul.jobs.generate_cv.edits import Edit, NoSuchPath, at, names
from annul.jobs.generate_cv.gates import Base
from annul.jobs.generate_cv.offer import Offer
from annul.jobs.generate_cv.openai_prompt import instructions_and_text
from annul.jobs.generate_cv.places import Match
from annul.jobs.generate_cv.tailor import Proposals

MOST_EDITS = 200  # of an answer; what follows is not looked at
ANSWER_CHARS = 300_000


class Proposed(msgspec.Struct, kw_only=True):
    """One edit as a model proposes it."""

    path: str
    action: Literal["replace", "add", "reorder", "select"]
    text: str = ""
    order: list[int] = []
    why: str = ""


class Answer(msgspec.Struct, kw_only=True):
    """A model's answer."""

    edits: list[Proposed]


def propose(
    base: Base,
    offer: Offer,
    found: Match,
    *,
    model: str | None,
    level: Level,
    progress: Callable[[float, str], None],
    log: logging.Logger,
    limits: Limits | None = None,
) -> tuple[Proposals, list[str]]:
    """What a model would change of `base` for `offer`; and notes for the report. Runs in the job's process and blocks.

    `model`, `level`, `progress` and what is raised: as of `annul.jobs.chat.ask.ask`.
    """
    system, user = instructions_and_text(base.document, offer, found)
    said = ask(
        [{"role": "system", "content": system}, {"role": "user", "content": user}],
        name="edits",
        schema=strict_schema(Answer),
        model=model,
        level=level,
        expected_chars=4000,
        progress=progress,
        log=log,
        limits=limits or Limits(answer_chars=ANSWER_CHARS),
    )
    wanted = decode_answer(said.content, Answer, "edits").edits
    notes = []
    if len(wanted) > MOST_EDITS:
        notes.append(f"The model proposed {len(wanted)} edits; the first {MOST_EDITS} were looked at.")
    proposals = Proposals(usage=said.usage)
    for one in wanted[:MOST_EDITS]:
        edit = _edit(base.document, one)
        (proposals.edits if edit.action in ("replace", "add") else proposals.orders).append(edit)
    return proposals, notes


def _edit(document: dict[str, Any], one: Proposed) -> Edit:
    why = " ".join(one.why.split())[:300]
    path = one.path.strip()
    try:
        now = at(document, path)
    except NoSuchPath:
        now = None
    if one.action == "add":
        value: Any = {"name": one.text.strip()} if path == "/skills/-" else one.text.strip()
        return Edit(path=path, action="add", value=value, why=why)
    if one.action == "replace":
        return Edit(path=path, action="replace", original=now, value=one.text.strip(), why=why)
    shown = names(now) if isinstance(now, list) else now
    return Edit(path=path, action=one.action, original=shown, value=one.order, why=why)
