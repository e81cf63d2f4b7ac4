"""`make bench-peers`: measure every system in turn, print one table, write bench/results/DATE-peers.json.

BENCH_N: what the numbers of trials are derived from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from bench.__main__ import N
from bench.peers import processes, redis_, table
from bench.peers.one import SYSTEMS

WITHOUT_HEAVY = {"dramatiq", "huey"}  # they import it once, when their workers start
LONGEST_S = 300  # for one system


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--only", help=f"systems to measure, separated by commas: {', '.join(SYSTEMS)}")
    only = parser.parse_args().only
    names = only.split(",") if only else list(SYSTEMS)
    if unknown := set(names) - set(SYSTEMS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    processes.adopt_orphans()
    processes.end_by_exception()
    systems: dict[str, Any] = {}
    try:
        for name in names:
            try:
                systems[name] = _both(name)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"({name} left out: {error})")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing written")
    finally:
        processes.end_descendants()
    print(f"\n{table.text(table.rows(systems))}\n\n{table.footnotes(systems)}")
    if only:
        print("(some systems only: not written)")
    else:
        _write(systems)


def _both(name: str) -> dict[str, Any]:
    """The figures of a system, those of the job with heavy imports among them."""
    busy_s, own_s, began = _busy_s(), _own_s(), time.monotonic()
    found = _one(name, "")
    if name not in WITHOUT_HEAVY:
        found["figures"] |= _one(name, "1")["figures"]
    others_s = (_busy_s() - busy_s) - (_own_s() - own_s)
    found["others_percent"] = 100 * max(0.0, others_s) / (time.monotonic() - began) / (os.cpu_count() or 1)
    return found


def _busy_s() -> float:
    """What all processors together have worked, since the machine's start."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """What all that we started, and is reaped, has worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _one(name: str, heavy: str) -> dict[str, Any]:
    """Raises ChildProcessError: how it ended instead of telling what it found."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.peers.one", name],
        env={**os.environ, "BENCH_HEAVY": heavy},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            out, _ = process.communicate(timeout=LONGEST_S)
        finally:
            process.terminate()  # where it still runs: it ends what it has started
            process.wait()
    if process.returncode:
        raise ChildProcessError(f"its measuring ended with code {process.returncode}, see above")
    found: dict[str, Any] = json.loads(out)
    return found


def _write(systems: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    program, _ = redis_.find()
    server = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    about = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("annul", "openai", "pypdf")} | {"redis-server": server.strip()},
        "n": N,
        "systems": systems,
    }
    out = table.RESULTS / f"{now:%Y-%m-%d}-peers.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {out.relative_to(table.RESULTS.parent.parent)}")


if __name__ == "__main__":
    main()
