"""The short form of `make torture`: the same trials, fewer of them, in both kinds of trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from annul.tree import find_cgroup
from torture.grid import BEHAVIOURS, MANNERS
from torture.race import Race
from torture.shapes import SHAPES

TRIALS = 216  # two decks of behaviours and two bursts


@pytest.mark.parametrize("tree", ["session", "cgroup"])
def test_no_promise_is_broken_under_fire(tree: str, short_dir: Path) -> None:
    """Random cancels of every kind, while jobs finish: a witness outside sees no promise broken."""
    if tree == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    report = Race(short_dir, tree=tree, trials=TRIALS, seed=8, max_running=8).run()
    assert not report.violations, "\n".join(map(str, report.violations))
    trials = [account.trial for account in report.accounts]
    assert len(trials) == TRIALS
    assert {trial.behaviour for trial in trials} == set(BEHAVIOURS)
    assert {trial.manner for trial in trials} == set(MANNERS)
    assert {trial.shape for trial in trials} == set(SHAPES)
    outcomes = {ask.outcome for account in report.accounts for ask in account.asks}
    assert {"cancelling", "cancelled_before_start", "already_final", "not_found"} <= outcomes
    stages = {event.job.cancel.stage for event in report.finals.values() if event.job.cancel is not None}
    assert {"before_start", "flag", "sigterm", "sigkill"} >= stages >= {"before_start", "sigterm", "sigkill"}
    assert len(report.evidence.beats) > TRIALS // 2  # there was something to be seen
    assert len(report.evidence.seen_ns) > len(report.evidence.log) // 2
