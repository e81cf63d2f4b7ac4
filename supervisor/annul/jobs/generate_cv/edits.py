"""Edits: what was changed between the base CV and the tailored one, and applying them. Pure.

Paths are JSON Pointers (RFC 6901) into the base CV as it was read. Edits are in an order in which each path still
means what it means in the base: the texts inside of entries first, then the order of lists, the deepest first.
Applying them one after the other to the base gives the tailored CV, and nothing else does.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Literal

import msgspec

Action = Literal["replace", "add", "reorder", "trim", "select"]
ACTIONS: tuple[Action, ...] = ("replace", "add", "reorder", "trim", "select")

_INDEX = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One change."""

    path: str  # of a text (replace), of a list and "/-" (add), of a list (all others)
    action: Action
    original: Any = None
    """What stood there before: the text; of a list its items, entries by their names. Nothing for add."""
    value: Any = None
    """The new text; the item to add at the list's end; of a list the indexes of the items that stay, in their new
    order, where added ones have the next indexes after the base's."""
    why: str = ""


class NoSuchPath(ValueError):
    """A path that leads nowhere."""


def steps(path: str) -> list[str]:
    """The reference tokens of a JSON Pointer. Raises NoSuchPath where it is none."""
    if not path.startswith("/") or len(path) > 200:
        raise NoSuchPath(f"{path[:80]!r} is no path in a CV")
    return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]


def at(document: Any, path: str) -> Any:
    """What stands at `path`. Raises NoSuchPath."""
    here = document
    for step in steps(path):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and _INDEX.fullmatch(step) and int(step) < len(here):
            here = here[int(step)]
        else:
            raise NoSuchPath(f"the CV has nothing at {path[:80]}")
    return here


def apply(document: Any, edits: list[Edit]) -> Any:
    """A new document with the edits made, in order. Raises NoSuchPath or ValueError where one cannot be made."""
    made = copy.deepcopy(document)
    for edit in edits:
        _make(made, edit)
    return made


def with_originals(document: Any, edits: list[Edit]) -> list[Edit]:
    """The edits, each with what stands at its place when its turn comes."""
    now = copy.deepcopy(document)
    told = []
    for edit in edits:
        stands = None if edit.action == "add" else at(now, edit.path)
        told.append(msgspec.structs.replace(edit, original=names(stands) if isinstance(stands, list) else stands))
        _make(now, edit)
    return told


def _make(document: Any, edit: Edit) -> None:
    parent, _, last = edit.path.rpartition("/")
    if edit.action == "add":
        into = _list_for_adding(document, parent)
        if last != "-":
            raise NoSuchPath(f"an item is added at a list's end, /-, not at {edit.path}")
        into.append(copy.deepcopy(edit.value))
        return
    holder = at(document, parent) if parent else document
    now = at(document, edit.path)
    value = edit.value if edit.action == "replace" else [now[number] for number in edit.value]
    if isinstance(holder, list):
        holder[int(last)] = value
    elif value == []:
        del holder[last]  # a CV leaves out what is empty
    else:
        holder[last] = value


def _list_for_adding(document: Any, path: str) -> list[Any]:
    """The list at `path`; made where the CV leaves it out because it is empty."""
    try:
        found = at(document, path)
    except NoSuchPath:
        parent, _, last = path.rpartition("/")
        holder = at(document, parent) if parent else document
        if not isinstance(holder, dict):
            raise
        found = holder[last] = []
    if not isinstance(found, list):
        raise NoSuchPath(f"{path} is no list")
    return found


def names(items: list[Any]) -> list[Any]:
    """The items of a list for a person: texts as they are, entries by what they are called."""
    keys = ("name", "title", "organization", "institution", "language", "position")
    return [
        next((item[key] for key in keys if item.get(key)), "") if isinstance(item, dict) else item for item in items
    ]
