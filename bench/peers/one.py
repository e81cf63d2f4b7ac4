"""``python -m bench.peers.one NAME``: measure one system, in a process of its own; prints what was found as JSON.

On its own, since a client of one peer must not pay for the imports of the others, and since what a peer does to its
process ends with it. With BENCH_HEAVY in the environment: the figures of the job with heavy imports.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.peers import processes
from bench.peers.system import System

SYSTEMS = {
    "annul": ("annul_", "Annul"),
    "rq": ("rq_", "Rq"),
    "rq-preloaded": ("rq_", "RqPreloaded"),
    "celery": ("celery_", "Celery"),
    "celery-fresh": ("celery_", "CeleryFresh"),
    "pebble": ("pebble_", "Pebble"),
    "dramatiq": ("dramatiq_", "Dramatiq"),
    "huey": ("huey_", "Huey"),
}
"""By name: the module, and the class in it."""


def main() -> None:
    name = sys.argv[1]
    processes.end_with_parent()
    processes.end_by_exception()
    processes.adopt_orphans()
    try:
        with tempfile.TemporaryDirectory(prefix="annul-b-") as folder:
            os.environ["BENCH_REDIS"] = f"{folder}/redis.sock"  # before a peer's module makes its clients
            found = _measure(name, Path(folder))
    finally:
        processes.end_descendants()
    print(json.dumps(found))


def _measure(name: str, folder: Path) -> dict[str, Any]:
    from bench.peers import measuring

    module, class_ = SYSTEMS[name]
    system: System = getattr(import_module(f"bench.peers.{module}"), class_)()
    system.open(folder)
    try:
        figures = measuring.measure(system, lambda line: print(f"{name} {line}", file=sys.stderr, flush=True))
    finally:
        system.close()
    return {
        "about": system.about,
        "harder": system.harder,
        "versions": {package: version(package) for package in system.packages},
        "figures": figures,
    }


if __name__ == "__main__":
    main()
