"""`make bench`: run daemons, measure, print a table, write bench/results/DATE.json.

Every figure stands beside a floor (or another of ours) from the same run; the ratio is what can be compared between
machines. BENCH_N: trials of the quick figures. BENCH_FINISHED, BENCH_QUEUED: jobs in the long books. BENCH_SUBMITS,
BENCH_EVENTS: jobs and events of one load.
"""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import abort_cost, books, figures, floors, hostile, starts, submits
from bench.peers import table

HERE = Path(__file__).parent
N = int(os.environ.get("BENCH_N", "300"))
MANY = 20_000  # jobs in the queue, submits in front of a cancel
AT_ONCE = 1000  # cancels

Row = dict[str, Any]


def quantile(sorted_values: list[float], q: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))]


def row(figure: str, ours: list[float], floor_name: str, floor: list[float]) -> Row:
    """A figure beside its floor; both ratios are to the floor's median."""
    least = quantile(floor, 0.5)
    return {
        "figure": figure,
        "p50_ms": quantile(ours, 0.5) * 1e3,
        "p99_ms": quantile(ours, 0.99) * 1e3,
        "floor": floor_name,
        "floor_p50_ms": least * 1e3,
        "ratio_p50": quantile(ours, 0.5) / least,
        "ratio_p99": quantile(ours, 0.99) / least,
    }


def rate(figure: str, ours: float, floor_name: str, floor: float) -> Row:
    return {"figure": figure, "per_second": ours, "floor": floor_name, "floor_per_second": floor, "ratio": ours / floor}


def value(figure: str, ours: float, unit: str, parts: dict[str, float] | None = None) -> Row:
    return {"figure": figure, "value": ours, "unit": unit, "parts": parts or {}}


def of_starts(tree: str) -> list[Row]:
    """How fast jobs begin on an idle machine, and how many a second; what is kept ready for that."""
    echo, commit, hand_over = starts.echoes(N), starts.commits(N), starts.hand_overs(N)
    least = [quantile(echo, 0.5) + quantile(commit, 0.5) + quantile(hand_over, 0.5)]
    types = {"bench-first-line": (), "bench-heavy": starts.HEAVY}
    forkserver = starts.forkserver_per_second(N, starts.HEAVY)
    with figures.daemon("--tree", tree) as daemon:
        ready = starts.settled(daemon.client)
        memory = {name: starts.pss_mib(processes) for name, processes in ready.items()}
        daemon.client.close()  # its heartbeat wakes the daemon up
        woken, busy = starts.wake_ups([one for processes in ready.values() for one in processes])
    with figures.daemon("--tree", tree, "--jobs", "bench.heavy") as daemon:
        client = daemon.client
        starts.settled(client)
        light, heavy = (starts.first_lines(client, type_, N) for type_ in types)
        (light_rate, light_forks), (heavy_rate, heavy_forks) = (
            starts.rates(client, type_, modules, N) for type_, modules in types.items()
        )
    name = "round trip + commit + hand-over, each idle"
    rows = [
        row("idle: submit -> first line", light, name, least),
        row("idle: the same, with pypdf and openai", heavy, name, least),
        rate("empty jobs", light_rate, "forks of the same image", light_forks),
        rate("empty jobs with pypdf and openai", heavy_rate, "forks of the same image", heavy_forks),
        rate("empty jobs with pypdf and openai", heavy_rate, "multiprocessing's forkserver", forkserver),
        value("memory (PSS) of daemon, zygotes and spares", sum(memory.values()), "MiB", memory),
        value("wake-ups a minute, daemon, zygotes and spares", woken, "/min"),
        value("processor, of all these, while idle", busy, "%"),
    ]
    return [{**one, "tree": tree} for one in rows]


def of_tree(tree: str) -> list[Row]:
    """The figures that depend on how process trees are found, right after their floors."""
    terminated = floors.repeat(N // 2, floors.sigterm_to_reap)
    killed = floors.repeat(N, floors.sigkill_to_reap)
    python = floors.repeat(N // 4, floors.python_start)
    with figures.daemon("--tree", tree) as daemon:
        client = daemon.client
        trips = figures.round_trips(client, N)
        first = figures.starts(client, N)
        seen, gone = figures.cancels(client, "bench-sleep", N)
        _, stubborn = figures.cancels(client, "bench-stubborn", N)
    late = [one - figures.GRACE_S for one in stubborn]
    accepted, at_once = figures.cancels_at_once(tree, AT_ONCE)
    rows = [
        row("submit -> first line, one after the other", first, "start of a bare python", python),
        row("cancel -> tree gone", gone, "pidfd SIGTERM to reap, python", terminated),
        row("cancel -> `cancelled` seen", seen, "pidfd SIGTERM to reap, python", terminated),
        row("stubborn: gone after its grace", late, "pidfd SIGKILL to reap, sleep", killed),
        row(f"{AT_ONCE} cancels: last accepted", [accepted], "as many round trips", [AT_ONCE * quantile(trips, 0.5)]),
        row(f"{AT_ONCE} cancels: gone, less grace", at_once, "as many SIGTERM to reap",
            [AT_ONCE * quantile(terminated, 0.5)]),
    ]  # fmt: skip
    return [{**one, "tree": tree} for one in rows]


def of_queue() -> list[Row]:
    """Whether a cancel waits behind what has nothing to do with it."""
    few, many = figures.cancels_of_queued(10, N), figures.cancels_of_queued(MANY, N)
    took, before = figures.cancel_behind_submits(MANY)
    print(f"(cancel behind {MANY} submits: {before} of them were answered before it)")
    with figures.daemon("--tree", "session") as daemon:
        trips = figures.round_trips(daemon.client, N)
    return [
        row(f"cancel of one of {MANY} queued", many, "of one of 10", few),
        row(f"cancel behind {MANY} submits", [took], "a round trip", trips),
    ]


def of_books() -> list[Row]:
    """What a million finished jobs, and then a long queue too, cost those who ask for one job."""
    (_, _, few), *others = books.books(N)
    rows = []
    for finished, queued, book in others:
        about = f"{finished:,} finished, {queued:,} queued"
        rows += [
            {**row(figure, getattr(book, name), "of 1,000 and 100", getattr(few, name)), "books": about}
            for figure, name in (
                ("start -> first answer", "start"),
                ("get", "get"),
                ("list, the newest 100", "list_"),
                ("list, none found", "list_rare"),
                ("cancel of a queued job", "cancel"),
            )
        ]
        for figure, name, unit in (
            ("submitted by submit_many", "submits_per_second", "/s"),
            ("resident memory", "memory_mib", "MiB"),
        ):
            value, least = getattr(book, name), getattr(few, name)
            rows.append({"figure": figure, "value": value, "unit": unit, "floor": least, "books": about})
    return rows


def of_submits() -> list[Row]:
    """Submits and events by the thousand, and another client's cancels meanwhile."""
    with figures.daemon("--tree", "session") as daemon:
        trips = figures.round_trips(daemon.client, N)
    floor, rows = submits.bare(), list[Row]()
    for name, load in submits.LOADS.items():
        found = submits.under(load)
        rows += [
            {"figure": f"jobs by {name}", "value": found.per_second, "unit": "/s", "floor": floor,
             "floor_name": "decode, insert and commit alone"},
            row(f"cancel (running), meanwhile by {name}", found.of_running, "a round trip", trips),
            row(f"cancel (queued), meanwhile by {name}", found.of_queued, "a round trip", trips),
        ]  # fmt: skip
    ours, bare = submits.fan_out(), submits.bare_fan_out()
    least = "a bare socket"
    figure = f"events to {submits.SUBSCRIBERS} subscribers"
    for what, name, unit in (
        ("", "per_second", "/s"),
        (", had by them", "percent", "%"),
        (", processor time", "cpu_us", "us"),
    ):
        value, floor = getattr(ours, name), getattr(bare, name)
        rows.append({"figure": figure + what, "value": value, "unit": unit, "floor": floor, "floor_name": least})
    return rows


def of_hostile() -> list[Row]:
    """A good client's round trips, among others that mean harm; the ratio that counts is that of the two p99."""
    found = hostile.measure(10 * N)
    among = row("round trip among 1,050 hostile peers", found.among, "without them", found.alone)
    return [{**among, "ratio_p99": quantile(found.among, 0.99) / quantile(found.alone, 0.99), "of_p99": "to p99"}]


def of_flag() -> list[Row]:
    costs = abort_cost.measure()
    floor = costs["threading.Event.is_set()"] / 1e9
    return [row("ctx.signal.aborted", [costs["job signal .aborted"] / 1e9], "threading.Event.is_set()", [floor])]


def main() -> None:
    rows = of_flag() + of_hostile() + of_queue() + of_submits() + of_books()
    for tree in ("session", "cgroup"):
        with figures.daemon("--tree", "auto" if tree == "cgroup" else tree) as daemon:
            usable = daemon.client.ping().tree == tree
        if usable:
            rows += of_starts(tree) + of_tree(tree)
        else:
            print(f"(no writable cgroup v2 directory: {tree} left out)")
    show(rows)
    print(table.text(table.newest()))
    write(rows)


def show(rows: list[Row]) -> None:
    print(f"\n{'figure':<42} {'p50':>9} {'p99':>9}   {'floor':<32} {'p50':>9} {'ratio':>7} {'of p99':>7}")
    for one in rows:
        about = one.get("tree") or one.get("books")
        name = one["figure"] + (f" ({about})" if about else "")
        if "per_second" in one:
            print(
                f"{name:<42} {one['per_second']:9.0f}/s {'':9} {one['floor']:<32} "
                f"{one['floor_per_second']:8.0f}/s {one['ratio']:6.2f}"
            )
        elif "parts" in one:
            parts = ", ".join(f"{part} {size:.0f}" for part, size in one["parts"].items())
            print(f"{name:<64} {one['value']:9.2f} {one['unit']:<4} {parts}")
        elif "unit" in one:
            least = one.get("floor_name", "of 1,000 and 100")
            print(f"{name:<64} {one['value']:9.0f} {one['unit']:<4} {least}: {one['floor']:.0f}")
        else:
            print(
                f"{name:<42} {one['p50_ms']:9.3g} {one['p99_ms']:9.3g}   {one['floor']:<32} "
                f"{one['floor_p50_ms']:9.3g} {one['ratio_p50']:7.1f} {one['ratio_p99']:7.1f}"
            )
    print("(milliseconds; both ratios to the floor's p50)")


def write(rows: list[Row]) -> None:
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
