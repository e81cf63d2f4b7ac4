"""The scale of the books: what one job costs where the store holds a million others."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from annul.handlers.submit import new_id
from annul.store import JobRecord, Store
from annul.store.record import to_row
from annul_client import Client, State
from bench import figures
from bench.floors import repeat

FINISHED = int(os.environ.get("BENCH_FINISHED", "1000000"))
QUEUED = int(os.environ.get("BENCH_QUEUED", "100000"))
FEW = (1000, 100)  # finished, queued: what the ratios are to
USERS = 100


class Book(NamedTuple):
    """What was measured with one store. Seconds, sorted, unless a name says otherwise."""

    start: list[float]  # of the process -> its first answer
    submits_per_second: float
    list_: list[float]  # the newest 100
    list_rare: list[float]  # those in a state that none is in
    get: list[float]
    cancel: list[float]  # of a queued job
    memory_mib: float  # resident, after all that


def measure(folder: Path, count: int) -> Book:
    """Serve the store in a folder, and ask `count` times for each."""
    store = folder / "state" / "annul.db"
    completed, queued = (iter(_some_ids(store, state, count)) for state in (State.COMPLETED, State.QUEUED))
    start = time.perf_counter()
    options = ("--tree", "session", "--max-running", "1", "--keep-jobs", "0", "--max-queued", str(2 * QUEUED + 10**5))
    with figures.daemon(*options, folder=folder) as found:
        client = found.client
        client.ping()
        started = time.perf_counter() - start
        get = repeat(count, lambda: _timed(client.get, next(completed)))
        list_ = repeat(count, lambda: _timed(client.list))
        rare = [_timed(client.list, state=State.FAILED) for _ in range(3)]
        cancel = repeat(count, lambda: _timed(client.cancel, next(queued)))
        rate = _submit_rate(client)
        status = Path(f"/proc/{client.ping().pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Book([started], rate, list_, sorted(rare), get, cancel, int(resident.split()[1]) / 1024)


def books(count: int) -> Iterator[tuple[int, int, Book]]:
    """(finished, queued, what was measured): of a few jobs, of a long history, and of a long queue on top of it."""
    with tempfile.TemporaryDirectory(prefix="annul-b-") as base:
        for finished, queued in (FEW, (FINISHED, FEW[1]), (FINISHED, QUEUED)):
            filled = Path(base, f"{finished}.db")
            fill(filled, finished, queued)
            folder = Path(tempfile.mkdtemp(prefix="annul-b-"))
            (folder / "state").mkdir(mode=0o700)
            copy = shutil.copy(filled, folder / "state" / "annul.db")
            with open(copy, "rb") as file:
                os.fsync(file.fileno())  # else the daemon's first checkpoint does that
            yield finished, queued, measure(folder, min(count, FEW[1] - 1))


def fill(path: Path, finished: int, queued: int) -> None:
    """Bring a store to so many finished and queued jobs; never takes any out."""
    store = Store(path)
    states = []
    for state, wanted in ((State.COMPLETED, finished), (State.QUEUED, queued)):
        (there,) = store._db.execute("SELECT count(*) FROM job WHERE state = ?", (state,)).fetchone()
        states += [state] * (wanted - there)
    rows = (tuple(_row(seq, state).values()) for seq, state in enumerate(states, start=store.last_job() + 1))
    store._db.execute("BEGIN")
    store._db.executemany(store._queries["insert_job"], rows)
    store._db.execute("COMMIT")
    store.close()


def _row(seq: int, state: State) -> dict[str, Any]:
    now = 1_750_000_000.0 + seq
    over = state is State.COMPLETED
    return to_row(
        JobRecord(
            seq=seq,
            id=new_id(seq),
            request=f"uid:1000/{seq:032x}",
            type="bench-sleep",
            user=f"user-{seq % USERS}",
            key=f"key-{seq}",
            digest=seq.to_bytes(16),
            title=f"Job number {seq}",
            labels={"batch": str(seq // 1000)},
            priority=0,
            params=msgspec.Raw(b"{}"),
            timeout_s=None,
            not_before=None,
            submitted_by="uid:1000",
            state=state,
            attempt=1 if over else 0,
            events=4 if over else 1,
            created_at=now,
            started_at=now + 1 if over else None,
            finished_at=now + 2 if over else None,
            result=msgspec.Raw(b'{"pages": 2, "engine": "offline", "seconds": 1.5}') if over else None,
            files=[f"cvs/{seq}.json"] if over else [],
        )
    )


def _some_ids(path: Path, state: State, count: int) -> list[str]:
    store = Store(path)
    found = store._db.execute("SELECT id FROM job WHERE state = ? ORDER BY random() LIMIT ?", (state, count)).fetchall()
    store.close()
    return [row[0] for row in found]


def _submit_rate(client: Client) -> float:
    jobs = [{"type": "bench-sleep", "user": f"user-{n % USERS}"} for n in range(5000)]
    start = time.perf_counter()
    replies = client.submit_many(jobs)
    took = time.perf_counter() - start
    assert all(reply.job is not None for reply in replies)
    return len(jobs) / took


def _timed(ask: Any, *arguments: Any, **named: Any) -> float:
    start = time.perf_counter()
    ask(*arguments, **named)
    return time.perf_counter() - start
