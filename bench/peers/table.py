"""The figures as a table: rows are figures, columns are systems; also the newest ones kept in bench/results/."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"

Figure = dict[str, Any]
Cell = Callable[[Figure], str]


def _spread(figure: Figure) -> str:
    never = figure.get("never", 0)
    if not figure["n"]:
        return "never" if never else ""
    also = f" (never: {never})" if never else ""
    return f"{_short(figure['p50_ms'])} / {_short(figure['p99_ms'])}{also}"


def _short(value: float) -> str:
    """Two or three digits that tell something."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def _per_second(figure: Figure) -> str:
    return _short(figure["per_second"])


def _alive(figure: Figure) -> str:
    return "never" if figure.get("never") else f"{figure['alive_percent']:.0f} %"


def _percent(name: str) -> Cell:
    def cell(figure: Figure) -> str:
        percent, count = figure[f"{name}_percent"], figure[f"{name}_n"]
        return f"{percent:.0f} % of {count}" if count else "none"

    return cell


def _submits(kind: str, way: str) -> Cell:
    def cell(figure: Figure) -> str:
        rate = figure.get(kind, {}).get(way)
        return "" if rate is None else f"{rate:,.0f}"

    return cell


ROWS: tuple[tuple[str, str, Cell], ...] = (
    ("submit → first line, idle for 50 ms (ms)", "start", _spread),
    ("  the same, job imports openai and pypdf", "start_heavy", _spread),
    ("submit → first line, just after another (ms)", "start_next", _spread),
    ("  the same, job imports openai and pypdf", "start_next_heavy", _spread),
    ("empty jobs/s", "throughput", _per_second),
    ("jobs/s that import openai and pypdf", "throughput_heavy", _per_second),
    ("cancel → gone: asleep in one call (ms)", "cancel", _spread),
    ("cancel → gone: asleep 2 ms at a time (ms)", "cancel_tick", _spread),
    ("cancel → gone: stubborn (ms)", "stubborn", _spread),
    ("  the same, by the harder cancel", "stubborn_hard", _spread),
    ("grandchildren alive 2 s after", "grandchildren", _alive),
    ("race: accepted, ended as success", "race", _percent("success_of_accepted")),
    ("race: asked while it ran, ended as success", "race", _percent("success_of_running")),
    ("submits/s in memory, one by one", "submits", _submits("volatile", "one_by_one")),
    ("  in bulk", "submits", _submits("volatile", "bulk")),
    ("submits/s on disk, one by one", "submits", _submits("durable", "one_by_one")),
    ("  pipelined", "submits", _submits("durable", "pipelined")),
    ("  in bulk", "submits", _submits("durable", "bulk")),
)
NOTES = (
    "p50 / p99. never: not within 10 s. Race: cancels from 5 ms before to 5 ms after the natural end of a 50 ms job.",
    "In memory: Redis keeps nothing on disk. On disk: Redis with appendfsync always.",
)


def rows(systems: dict[str, Any]) -> list[list[str]]:
    """The heading, then a row for each figure that anybody has; a cell is empty where there is no such thing."""
    found = [["", *systems]]
    for title, name, cell in ROWS:
        cells = []
        for system in systems.values():
            figure = system["figures"].get(name)
            cells.append("" if figure is None else "failed" if "error" in figure else cell(figure))
        if any(cells):
            found.append([title, *cells])
    return found


def newest() -> list[list[str]]:
    """The rows of the newest run that is kept; none where there is none."""
    kept = sorted(RESULTS.glob("*-peers.json"))
    return rows(json.loads(kept[-1].read_text())["systems"]) if kept else []


def text(table: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip_longest(*table, fillvalue="")]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in table
    )


def footnotes(systems: dict[str, Any]) -> str:
    lines = list(NOTES)
    for name, system in systems.items():
        versions = ", ".join(f"{package} {number}" for package, number in system["versions"].items())
        harder = f"; harder: {system['harder']}" if system["harder"] else ""
        lines.append(f"{name}: {system['about']}{harder}. {versions}")
        if (others := system.get("others_percent", 0)) > 10:
            lines.append(f"{name}: measured while other programs took {others:.0f} % of the processors")
        lines += [
            f"{name}: {figure} failed: {found['error']}"
            for figure, found in system["figures"].items()
            if "error" in found
        ]
    return "\n".join(lines)
