"""The short form of the crash bench of `make torture`: fewer steps, in both kinds of trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from annul.tree import find_cgroup
from torture.crash import RANDOM, RECOVERY, CrashBench

RESTARTS = {"session": 16, "cgroup": 14}
SCENARIOS = {
    "session": ["submit", "complete", "cancel-stubborn", "purge", "hand-over"],
    "cgroup": ["cancel-grandchild", RECOVERY, RANDOM, "retry", "take-over"],
}


@pytest.mark.parametrize("tree", ["session", "cgroup"])
def test_no_promise_is_broken_by_a_crash(tree: str, short_dir: Path) -> None:
    """kill -9 of the daemon at its steps: what was answered stays so, and nothing runs twice or is left."""
    if tree == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    report = CrashBench(short_dir, tree=tree, seed=8).run(SCENARIOS[tree], RESTARTS[tree])
    assert not report.violations, "\n".join(f"{where}: {one}" for where, one in report.violations)
    assert report.restarts >= RESTARTS[tree]
    assert report.jobs >= RESTARTS[tree]
    assert sum(row.died for row in report.rows.values()) == sum(report.steps.values()) > 0
