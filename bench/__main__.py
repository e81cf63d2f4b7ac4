"""`make bench`: run the daemon, measure, print a table, write bench/results/DATE.json."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from annul_client import Client, State
from bench import floors

HERE = Path(__file__).parent
N = int(os.environ.get("BENCH_N", "100"))


def quantile(sorted_values: list[float], q: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))]


@contextmanager
def daemon(folder: Path, *options: str) -> Iterator[Client]:
    """A daemon of its own, with the jobs of bench.jobs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(folder / "notify"))
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "annul",
                "serve",
                "--state-dir",
                folder / "state",
                "--runtime-dir",
                folder / "run",
                "--jobs",
                "bench.jobs",
                "--no-warm",
                "--log-level",
                "WARNING",
                *options,
            ],
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "NOTIFY_SOCKET": str(folder / "notify")},
        )
        ready.recv(64)
    try:
        with Client(f"ipc://{folder}/run/annul.sock") as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def starts(client: Client) -> list[float]:
    """submit -> first line of the job, the daemon idle."""
    client.wait(client.submit("bench-first-line").id)  # its zygote runs from here on

    def once() -> float:
        start = time.monotonic_ns()
        job = client.wait(client.submit("bench-first-line").id)
        return (int(job.result) - start) / 1e9

    return floors.repeat(N, once)


def round_trips(client: Client) -> list[float]:
    def once() -> float:
        start = time.perf_counter()
        client.ping()
        return time.perf_counter() - start

    return floors.repeat(N, once)


def cancels(client: Client, type_: str) -> tuple[list[float], list[float]]:
    """(cancel -> `cancelled` seen by the client, cancel accepted -> last process gone)."""
    seen, gone = [], []
    for _ in range(N if type_ == "bench-sleep" else N // 4):
        job = client.submit(type_)
        while client.get(job.id).progress.stage != "sleeping":
            pass
        start = time.perf_counter()
        client.cancel(job.id)
        job = client.wait(job.id)
        seen.append(time.perf_counter() - start)
        assert job.state is State.CANCELLED
        assert job.cancel is not None
        assert job.cancel.gone_s is not None
        gone.append(job.cancel.gone_s)
    return sorted(seen), sorted(gone)


def throughput(client: Client) -> float:
    """Empty jobs a second, each in its own process."""
    start = time.perf_counter()
    jobs = [client.submit("bench-first-line") for _ in range(N * 3)]
    for job in jobs:
        client.wait(job.id)
    return len(jobs) / (time.perf_counter() - start)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="annul-b-"))
    rows: list[dict[str, object]] = []

    def row(figure: str, ours: list[float], floor_name: str, floor: list[float]) -> None:
        rows.append({
            "figure": figure,
            "p50_ms": quantile(ours, 0.5) * 1e3,
            "p99_ms": quantile(ours, 0.99) * 1e3,
            "floor": floor_name,
            "floor_p50_ms": quantile(floor, 0.5) * 1e3,
            "ratio_p50": quantile(ours, 0.5) / quantile(floor, 0.5),
        })  # fmt: skip

    try:
        fork_exec = floors.repeat(N, floors.fork_exec)
        python = floors.repeat(N // 4, floors.python_start)
        killed = floors.repeat(N, floors.sigkill_to_reap)
        terminated = floors.repeat(N // 4, floors.sigterm_to_reap)
        commits = floors.full_commits(N, folder)
        for tree in ("session", "cgroup"):
            where = folder / tree
            where.mkdir()
            with daemon(where, "--tree", "auto" if tree == "cgroup" else tree) as client:
                if client.ping().tree != tree:
                    print(f"(no writable cgroup v2 directory: {tree} left out)")
                    continue
                trips = round_trips(client)
                first = starts(client)
                seen, gone = cancels(client, "bench-sleep")
                _, stubborn = cancels(client, "bench-stubborn")
                together = [quantile(trips, 0.5) + quantile(commits, 0.5) + quantile(fork_exec, 0.5)]
                row(f"submit -> first line ({tree})", first, "fork+exec /bin/true", fork_exec)
                row(f"submit -> first line ({tree})", first, "round trip + commit + fork+exec", together)
                row(f"submit -> first line ({tree})", first, "start of a bare python", python)
                row(f"cancel -> `cancelled` seen ({tree})", seen, "pidfd SIGKILL to reap, sleep", killed)
                row(f"cancel -> `cancelled` seen ({tree})", seen, "pidfd SIGTERM to reap, python", terminated)
                row(f"cancel -> tree gone ({tree})", gone, "pidfd SIGTERM to reap, python", terminated)
                row(
                    f"stubborn, after its grace ({tree})",
                    [s - 0.1 for s in stubborn],
                    "pidfd SIGKILL to reap, sleep",
                    killed,
                )
                rows.append({"figure": f"empty jobs ({tree})", "per_second": throughput(client)})
    finally:
        shutil.rmtree(folder)

    print(f"\n{'figure':<34} {'p50':>8} {'p99':>8}   {'floor':<32} {'p50':>8} {'ratio':>6}")
    for one in rows:
        if "per_second" in one:
            print(f"{one['figure']:<34} {one['per_second']:8.0f}/s")
        else:
            print(
                f"{one['figure']:<34} {one['p50_ms']:8.2f} {one['p99_ms']:8.2f}   "
                f"{one['floor']:<32} {one['floor_p50_ms']:8.2f} {one['ratio_p50']:6.1f}"
            )
    print("(milliseconds)")
    now = datetime.now(UTC)
    about = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("annul", "pyzmq", "msgspec", "openai", "pypdf")},
        "n": N,
        "rows": rows,
    }
    out = HERE / "results" / f"{now:%Y-%m-%d}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {out.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
