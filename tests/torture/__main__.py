"""``python -m torture``: run the race and the crash bench and print what came of them. Exits with 1 where a promise was
broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from annul.tree import find_cgroup
from harness import PREFIX
from torture.crash import RANDOM, RECOVERY, SCENARIOS, CrashBench, CrashReport, Row
from torture.judge import Account
from torture.race import Race, Report

_SHOWN = 50  # violations
_TELL_EVERY = 500  # trials
_OF_ONE_DAEMON = 5000  # trials: its event log keeps all that they do


def latencies(report: Report) -> dict[int, list[float]]:
    """By trial: milliseconds from a job's first accepted cancel until the witness saw its final event; where SIGKILL
    had to end it, without the grace. Of a burst, those of all its jobs.
    """
    finals = report.finals
    found: dict[int, list[float]] = defaultdict(list)
    for account in report.accounts:
        sent: dict[str, int] = {}
        for ask in account.asks:
            for job_id in ask.accepted or ([] if ask.outcome else ask.jobs):
                sent.setdefault(job_id, ask.sent_ns)
        for job_id, sent_ns in sent.items():
            event = finals.get(job_id)
            if event is None or event.job.cancel is None or event.seq not in report.evidence.seen_ns:
                continue
            record = event.job.cancel
            grace_ms = record.grace_s * 1e3 if record.sigkill_s is not None else 0.0
            found[account.trial.number].append((report.evidence.seen_ns[event.seq] - sent_ns) / 1e6 - grace_ms)
    return found


def table(reports: list[Report]) -> str:
    """What happened, by what the jobs did, how they were cancelled, and what their trees looked like."""
    lines = [f"{'':18} {'trials':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}  outcomes of the first cancel"]
    took = [(report, latencies(report)) for report in reports]

    trees = {id(account): report.tree for report in reports for account in report.accounts}

    def section(title: str, kind: Callable[[Account], str]) -> None:
        rows: dict[str, list[tuple[Account, list[float]]]] = defaultdict(list)
        for report, times in took:
            for account in report.accounts:
                rows[kind(account)].append((account, times[account.trial.number]))
        lines.append(title)
        for name, row in sorted(rows.items()):
            values = sorted(value for _, times in row for value in times)
            told = Counter(next((ask.outcome for ask in account.asks), "none") or "not read" for account, _ in row)
            outcomes = ", ".join(f"{outcome} {count}" for outcome, count in told.most_common())
            figures = [_quantile(values, q) for q in (0.5, 0.99, 1.0)]
            lines.append(f"  {name:16} {len(row):7} {' '.join(figures)}  {outcomes}")

    section("the job is", lambda account: account.trial.behaviour)
    section("the cancel comes", lambda account: account.trial.manner)
    section("its tree is", lambda account: account.trial.shape)
    section("found by", lambda account: trees[id(account)])
    return "\n".join(lines)


def _quantile(ordered: list[float], q: float) -> str:
    return f"{ordered[min(len(ordered) - 1, int(q * len(ordered)))]:8.1f}" if ordered else f"{'-':>8}"


def crash_table(reports: list[CrashReport]) -> str:
    """What happened, by scenario, and at which steps daemons died."""
    lines = [f"{'':20} {'crash points':>13} {'restarts':>9} {'violations':>11}"]
    for name in reports[0].rows:
        rows = [report.rows.get(name, Row()) for report in reports]
        broken = sum(where.split()[0] == name for report in reports for where, _ in report.violations)
        points, restarts = max(row.points for row in rows), sum(row.restarts for row in rows)
        lines.append(f"  {name:18} {points:13} {restarts:9} {broken:11}")
    steps = Counter[str]()
    for report in reports:
        steps += report.steps
    lines.append("died: " + ", ".join(f"{step} {count}" for step, count in steps.most_common()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000, help="in all; default: 10,000")
    parser.add_argument("--seed", type=int, help="of the deal; default: another one each time")
    parser.add_argument("--tree", choices=["session", "cgroup", "both"], default="both", help="how trees are found")
    parser.add_argument("--max-running", type=int, default=10, help="jobs at once; default: 10")
    parser.add_argument("--restarts", type=int, default=600, help="of the crash bench, in all; 0: one at every step")
    parser.add_argument("--only", choices=["race", "crash"], help="of the two benches; default: both")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    trees = ["session", "cgroup"] if options.tree == "both" else [options.tree]
    if "cgroup" in trees and find_cgroup() is None:
        print("no writable cgroup v2 directory: trees by session only", flush=True)
        trees = ["session"]
    broken = 0
    if options.only != "crash":
        broken += race(trees, options.trials, seed, options.max_running)
    if options.only != "race":
        broken += crash(trees, options.restarts, seed)
    sys.exit(1 if broken else 0)


def _shares(trees: list[str], trials: int) -> Iterator[tuple[str, int]]:
    """(tree, how many trials) of each daemon."""
    for number, tree in enumerate(trees):
        left = trials // len(trees) + (trials % len(trees) if not number else 0)
        while left > 0:
            yield tree, min(left, _OF_ONE_DAEMON)
            left -= _OF_ONE_DAEMON


def race(trees: list[str], trials: int, seed: int, max_running: int) -> int:
    """Run the race bench; how many violations there were."""
    reports = []
    for number, (tree, share) in enumerate(_shares(trees, trials)):
        print(f"{share} trials, trees by {tree}, seed {seed + number}", flush=True)
        base = Path(tempfile.mkdtemp(prefix=PREFIX))
        told = 0

        def tell(done: int, seconds: float) -> None:
            nonlocal told
            if done - told >= _TELL_EVERY:
                told = done
                print(f"  {done} trials, {done / seconds:.0f} a second", flush=True)

        try:
            bench = Race(base, tree=tree, trials=share, seed=seed + number, max_running=max_running)
            reports.append(bench.run(tell))
        finally:
            shutil.rmtree(base)
    print(table(reports))
    violations = [violation for report in reports for violation in report.violations]
    trials_of = {job_id: account.trial for report in reports for account in report.accounts for job_id in account.jobs}
    for violation in violations[:_SHOWN]:
        print(f"VIOLATION {violation.check} {violation.job_id}: {violation.what} {trials_of.get(violation.job_id, '')}")
    seconds = sum(report.seconds for report in reports)
    done = sum(len(report.accounts) for report in reports)
    jobs = sum(len(report.finals) for report in reports)
    print(f"{done} trials, {jobs} jobs, {len(violations)} violations, {done / seconds:.1f} trials/s", flush=True)
    return len(violations)


def crash(trees: list[str], restarts: int, seed: int) -> int:
    """Run the crash bench; how many violations there were."""
    reports = []
    for number, tree in enumerate(trees):
        share = restarts // len(trees)
        print(f"{share or 'all'} crashes, trees by {tree}, seed {seed + number}", flush=True)
        base = Path(tempfile.mkdtemp(prefix=PREFIX))
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            if done - told >= _TELL_EVERY // 10:
                told = done
                print(f"  {done} restarts", flush=True)

        try:
            reports.append(
                CrashBench(base, tree=tree, seed=seed + number).run([*SCENARIOS, RECOVERY, RANDOM], share, tell)
            )
        finally:
            shutil.rmtree(base)
    print(crash_table(reports))
    violations = [violation for report in reports for violation in report.violations]
    for where, violation in violations[:_SHOWN]:
        print(f"VIOLATION {violation.check} {violation.job_id} in {where}: {violation.what}")
    done, jobs = sum(report.restarts for report in reports), sum(report.jobs for report in reports)
    print(f"{done} crashes and restarts, {jobs} jobs, {len(violations)} violations", flush=True)
    return len(violations)


if __name__ == "__main__":
    main()
