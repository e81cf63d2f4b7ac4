"""Write the lifecycle table into ARCHITECTURE.md (`make docs`); a test checks that it is there and true."""

from __future__ import annotations

import re
from pathlib import Path

from annul.lifecycle import TABLE, Action, Event
from annul_client.wire import FINAL_STATES, State

PAGE = Path(__file__).parent.parent / "ARCHITECTURE.md"
BEGIN, END = "<!-- lifecycle: made by `make docs` -->", "<!-- lifecycle end -->"


def cell(state: State, event: Event) -> str:
    """What this event does in this state: the next state, and what is to be done."""
    following, action = TABLE[state, event]
    parts = ["" if following is state else f"→ {following}", "" if action is Action.NOTHING else f"*{action}*"]
    return " ".join(part for part in parts if part) or "·"


def table() -> str:
    """The whole table, in Markdown. The final states share a row: they ignore everything."""
    rows = [f"| | {' | '.join(Event)} |", f"|---|{'---|' * len(Event)}"]
    rows += [
        f"| {state} | {' | '.join(cell(state, event) for event in Event)} |"
        for state in State
        if state not in FINAL_STATES
    ]
    assert all(cell(state, event) == "·" for state in FINAL_STATES for event in Event)
    finals = " ".join(state for state in State if state in FINAL_STATES)
    return "\n".join([*rows, f"| {finals} |{' · |' * len(Event)}"])


def rendered(page: str) -> str:
    """The page with its table as it should be. Raises ValueError where the page has no place for it."""
    wanted = f"{BEGIN}\n{table()}\n{END}"
    found, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: wanted, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE.name} must have {BEGIN} and {END} once each")
    return found


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
