"""What is measured of annul. Seconds, sorted, unless a name says otherwise."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import zmq

from annul_client import Client, State
from bench.floors import repeat

HERE = Path(__file__).parent
GRACE_S = 0.1  # of the stubborn job


class Daemon:
    """One that serves the jobs of bench.jobs, and a client of it."""

    def __init__(self, runtime: Path, client: Client) -> None:
        self.runtime = runtime
        self.client = client

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)
        dealer.connect(f"ipc://{self.runtime}/annul.sock")
        try:
            yield Pipeline(dealer)
        finally:
            dealer.close(linger=0)
            context.term()


class Pipeline:
    """A client that does not wait for one answer before it sends the next request."""

    def __init__(self, dealer: zmq.Socket[bytes]) -> None:
        self._dealer = dealer

    def send(self, rid: str, verb: str, **fields: Any) -> None:
        self._dealer.send(msgspec.msgpack.encode({"v": 1, "rid": rid, "verb": verb, **fields}))

    def receive(self) -> str:
        """The id of the request that is answered next."""
        reply = msgspec.msgpack.decode(self._dealer.recv())
        assert reply.get("error") is None, reply
        return str(reply["rid"])


@contextmanager
def daemon(*options: str, folder: Path | None = None) -> Iterator[Daemon]:
    """One with directories of its own, gone when this program ends; or with those in a folder, which goes too. Its
    runtime directory is in memory, as under systemd.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="annul-b-"))
    runtime = Path(tempfile.mkdtemp(prefix="annul-b-", dir="/dev/shm"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(folder / "notify"))
        path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        places = ["--state-dir", str(folder / "state"), "--runtime-dir", str(runtime)]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "annul", "serve", *places),
                *("--jobs", "bench.jobs", "--log-level", "WARNING", *options),
            ],
            env={**os.environ, "PYTHONPATH": path, "NOTIFY_SOCKET": str(folder / "notify")},
        )
        ready.recv(64)
    try:
        with Client(f"ipc://{runtime}/annul.sock", timeout_s=60) as client:
            yield Daemon(runtime, client)
    finally:
        process.terminate()
        process.wait()
        # At the end: for each new file ext4 without a journal looks through what was deleted in the last minutes.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        shutil.rmtree(runtime)


def round_trips(client: Client, count: int) -> list[float]:
    def once() -> float:
        start = time.perf_counter()
        client.ping()
        return time.perf_counter() - start

    return repeat(count, once)


def starts(client: Client, count: int) -> list[float]:
    """submit -> first line of the job, the daemon idle."""
    client.wait(client.submit("bench-first-line").id)  # its zygote runs from here on

    def once() -> float:
        start = time.monotonic_ns()
        job = client.wait(client.submit("bench-first-line").id)
        return (int(job.result) - start) / 1e9

    return repeat(count, once)


def cancels(client: Client, type_: str, count: int) -> tuple[list[float], list[float]]:
    """(cancel -> `cancelled` seen by the client, cancel accepted -> last process gone)."""
    seen, gone = [], []
    for _ in range(count):
        job = client.submit(type_)
        while client.get(job.id).progress.stage != "sleeping":
            time.sleep(0.0005)  # the job needs the processor as well
        start = time.perf_counter()
        client.cancel(job.id)
        job = client.wait(job.id)
        seen.append(time.perf_counter() - start)
        assert job.state is State.CANCELLED
        assert job.cancel is not None
        assert job.cancel.gone_s is not None
        gone.append(job.cancel.gone_s)
    return sorted(seen), sorted(gone)


def cancels_of_queued(waiting: int, count: int) -> list[float]:
    """Cancel of one queued job, request to answer, among so many that wait."""
    with daemon("--max-running", "1", "--tree", "session") as found:
        client = found.client
        _fill(client)
        jobs = [one.job for one in client.submit_many([{"type": "bench-sleep"}] * waiting) if one.job]

        def once() -> float:
            job = jobs.pop(len(jobs) // 2)
            start = time.perf_counter()
            client.cancel(job.id)
            took = time.perf_counter() - start
            jobs.append(client.submit("bench-sleep"))
            return took

        times = repeat(count, once)
        client.cancel(type="bench-sleep")
        return times


def cancel_behind_submits(submits: int) -> tuple[float, int]:
    """(Cancel sent behind so many submits on one connection -> its answer, submits answered before it)."""
    with daemon("--max-running", "1", "--tree", "session") as found:
        job = _fill(found.client)
        with found.pipeline() as pipeline:
            for number in range(submits):
                pipeline.send(f"s{number}", "submit", type="bench-sleep")
            pipeline.send("cancel", "cancel", id=job)
            start = time.perf_counter()
            before = 0
            while pipeline.receive() != "cancel":
                before += 1
            took = time.perf_counter() - start
            for _ in range(before, submits):
                pipeline.receive()
        found.client.cancel(type="bench-sleep")
        return took, before


def cancels_at_once(tree: str, count: int) -> tuple[float, list[float]]:
    """All jobs run, every second is stubborn: (first cancel sent -> last one accepted, sent -> gone less any grace)."""
    with daemon("--max-running", str(count), "--tree", tree) as found:
        client = found.client
        types = ["bench-sleep", "bench-stubborn"]
        jobs = []
        for start in range(0, count, 500):
            batch = [{"type": types[number % 2]} for number in range(start, min(start + 500, count))]
            jobs += [one.job for one in client.submit_many(batch) if one.job]
        while sum(job.progress.stage == "sleeping" for job in client.list(limit=1000)) < count:
            time.sleep(0.2)
        with found.pipeline() as pipeline:
            start_s = time.perf_counter()
            for job in jobs:
                pipeline.send(job.id, "cancel", id=job.id)
            for _ in jobs:
                pipeline.receive()
            accepted = time.perf_counter() - start_s
        gone = []
        for job in jobs:
            ended = client.wait(job.id)
            assert ended.state is State.CANCELLED
            assert ended.cancel is not None
            assert ended.cancel.gone_s is not None
            gone.append(ended.cancel.gone_s - (GRACE_S if job.type == "bench-stubborn" else 0.0))
        return accepted, sorted(gone)


def _fill(client: Client) -> str:
    """Take the only slot; the job that has it."""
    job = client.submit("bench-sleep")
    while client.get(job.id).progress.stage != "sleeping":
        time.sleep(0.001)
    return job.id
