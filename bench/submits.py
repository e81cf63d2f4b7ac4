"""Submits and events by the thousand, and what they do to another client's cancels.

The load comes from a process of its own; the cancels meanwhile are this one's.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from annul.store import Store
from annul_client import Client, State, wire
from annul_client.subscription import UNREAD
from bench import figures

SUBMITS = int(os.environ.get("BENCH_SUBMITS", "60000"))
EVENTS = int(os.environ.get("BENCH_EVENTS", "10000"))
SUBSCRIBERS = 50
USERS = 100
VICTIMS = 100  # of each kind, at the most
EVERY_S = 0.02  # a cancel
_SILENT_S = 2.0  # then nothing more comes
_EVENT = 450  # bytes of the event of a queued job

Seconds = list[float]
_encode = msgspec.msgpack.Encoder().encode


class Load(NamedTuple):
    """Jobs submitted, and what else was seen meanwhile."""

    per_second: float
    cpu_us: float  # processor time of the daemon, microseconds a job
    of_running: Seconds  # cancels of running jobs, request to answer
    of_queued: Seconds


class Fan(NamedTuple):
    """Events sent to many subscribers."""

    per_second: float  # until the last one had its last one
    percent: float  # of the events that these subscribers should have had, those that they had
    cpu_us: float  # processor time of the sender, microseconds an event


# --- loads: each in a process of its own; the jobs a second ---------------------------------------------------------


def by_submit(endpoint: str, count: int) -> float:
    """One `submit` a message, sent without waiting for answers."""
    return _pipeline(endpoint, [_encode(_request("submit", **_job(number))) for number in range(count)], count)


def by_submit_many(endpoint: str, count: int) -> float:
    """Lists as long as they may be, sent without waiting for answers."""
    jobs = [{"verb": "submit", **_job(number)} for number in range(count)]
    lists = [jobs[start : start + wire.MAX_SUBMIT_MANY] for start in range(0, count, wire.MAX_SUBMIT_MANY)]
    return _pipeline(endpoint, [_encode(_request("submit_many", jobs=one)) for one in lists], count)


def by_client(endpoint: str, count: int) -> float:
    """As people would: `Client.submit_many`."""
    jobs = [_job(number) for number in range(count)]
    with Client(endpoint, timeout_s=60) as client:
        client.ping()
        start = time.perf_counter()
        answers = client.submit_many(jobs)
        took = time.perf_counter() - start
    assert all(one.job is not None for one in answers)
    return count / took


def _job(number: int) -> dict[str, Any]:
    return {"type": "bench-sleep", "user": f"user-{number % USERS}", "title": f"Job number {number}"}


def _request(verb: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "rid": secrets.token_hex(8), "verb": verb, **fields}


def _pipeline(endpoint: str, frames: list[bytes], jobs: int) -> float:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.SNDHWM, 0)
    dealer.setsockopt(zmq.RCVHWM, 0)
    dealer.connect(endpoint)
    dealer.send(_encode(_request("ping")))
    dealer.recv()
    start = time.perf_counter()
    for frame in frames:
        dealer.send(frame)
    answers = [dealer.recv() for _ in frames]
    took = time.perf_counter() - start
    for answer in answers:
        reply = msgspec.msgpack.decode(answer)
        assert "error" not in reply, reply
        assert all(one["job"] for one in reply["ok"].get("jobs", ())), reply
    dealer.close(linger=0)
    context.term()
    return jobs / took


LOADS = {"submit": by_submit, "submit_many": by_submit_many, "Client.submit_many": by_client}


# --- the daemon under load ------------------------------------------------------------------------------------------


def under(load: Callable[[str, int], float], count: int = SUBMITS) -> Load:
    """A load, and cancels of somebody else's running and queued jobs meanwhile, in turn."""
    limits = ("--max-running", str(2 * VICTIMS), "--max-running-per-type", "bench-sleep=1", "--max-queued", "10000000")
    with figures.daemon("--tree", "session", *limits) as found, _process() as process:
        client = found.client
        running = _running(client)
        queued = [one.job.id for one in client.submit_many([{"type": "bench-sleep"}] * 10 * VICTIMS) if one.job]
        pid = client.ping().pid
        process.submit(os.getpid).result()
        of_running: Seconds = []
        of_queued: Seconds = []
        before = _cpu_s(pid)
        loading = process.submit(load, client.endpoint, count)
        for ids, times in _in_turn((running, of_running), (queued, of_queued), loading):
            if ids:
                start = time.perf_counter()
                client.cancel(ids.pop())
                times.append(time.perf_counter() - start)
        cpu_s = _cpu_s(pid) - before
        return Load(loading.result(), cpu_s / count * 1e6, sorted(of_running), sorted(of_queued))


def _in_turn(
    first: tuple[list[str], Seconds], second: tuple[list[str], Seconds], until: Future[float]
) -> Iterator[tuple[list[str], Seconds]]:
    while not until.done():
        yield first
        time.sleep(EVERY_S / 2)
        yield second
        time.sleep(EVERY_S / 2)


def _running(client: Client) -> list[str]:
    client.submit_many([{"type": "bench-stubborn"}] * VICTIMS)
    while len(found := client.list(state=State.RUNNING, type="bench-stubborn", limit=VICTIMS)) < VICTIMS:
        time.sleep(0.05)
    return [job.id for job in found]


@contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the floor of submits -------------------------------------------------------------------------------------------


_COLUMNS = (
    "seq, id, request, type, user, key, digest, title, labels, priority, params, timeout_s, not_before, submitted_by, "
    "state, attempt, events, created_at, started_at, finished_at, progress, result, files, published, error, cancel, "
    "swept, failures"
)


def bare(count: int = SUBMITS) -> float:
    """Jobs a second: decode a message each, the same rows of job and event, one durable commit for 500 jobs."""
    frames = [_encode(_request("submit", **_job(number))) for number in range(count)]
    with tempfile.TemporaryDirectory(prefix="annul-b-") as folder:
        store = Store(Path(folder, "floor.db"))  # for the schema
        store.close()
        with sqlite3.connect(Path(folder, "floor.db"), isolation_level=None) as db:
            db.execute("PRAGMA synchronous = FULL")
            body = _encode(_job(0)) * 6  # as long as an event
            start = time.perf_counter()
            for first in range(0, count, wire.MAX_SUBMIT_MANY):
                db.execute("BEGIN IMMEDIATE")
                for number, frame in enumerate(frames[first : first + wire.MAX_SUBMIT_MANY], start=first + 1):
                    job = msgspec.msgpack.decode(frame)
                    id_ = f"{number:012x}"
                    db.execute(
                        f"INSERT INTO job ({_COLUMNS}) "
                        "VALUES (?, ?, ?, ?, ?, NULL, x'00112233445566778899aabbccddeeff', ?, '{}', 0,"
                        "'{}', NULL, NULL, 'uid:1000', 'queued', 0, 1, 1e9, NULL, NULL, '{\"fraction\": null,"
                        '"stage": ""}\', NULL, \'[]\', 1, NULL, NULL, 0, 0)',
                        (number, id_, f"uid:1000/{job['rid']}", job["type"], job["user"], job["title"]),
                    )
                    db.execute("INSERT INTO event VALUES (?, ?, ?)", (number, id_, body))
                db.execute("COMMIT")
            took = time.perf_counter() - start
        db.close()
        return count / took


# --- events ---------------------------------------------------------------------------------------------------------


class _Numbered(msgspec.Struct):
    seq: int


def fan_out(count: int = EVENTS) -> Fan:
    """Events of jobs that are submitted as fast as possible, to subscribers that do nothing but read."""
    with figures.daemon("--max-running", "1", "--max-queued", "10000000", "--tree", "session") as found:
        figures._fill(found.client)
        pong = found.client.ping()
        last = found.client._ask(wire.Events(), wire.EventsReply).last
        with _listening(pong.events, last + count) as read, _process() as loader:
            before = _cpu_s(pong.pid)
            loader.submit(by_submit_many, found.client.endpoint, count)
            return _fan(*read.result(), count, lambda: _cpu_s(pong.pid) - before)


def bare_fan_out(count: int = EVENTS) -> Fan:
    """Its floor: messages of that size out of a socket that has nothing else to do."""
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.SNDHWM, 0)
    with tempfile.TemporaryDirectory(prefix="annul-b-") as folder:
        publisher.bind(f"ipc://{folder}/floor")
        with _listening(f"ipc://{folder}/floor", count) as read:
            before = time.process_time()
            for number in range(1, count + 1):
                publisher.send_multipart([b"job.0123456789ab", _encode({"seq": number, "rest": b"x" * _EVENT})])
            fan = _fan(*read.result(), count, lambda: time.process_time() - before)
    publisher.close(linger=0)
    context.term()
    return fan


def _fan(had: int, first: float, last: float, count: int, cpu_s: Callable[[], float]) -> Fan:
    return Fan(count / (last - first), 100 * had / count / SUBSCRIBERS, cpu_s() / count * 1e6)


@contextmanager
def _listening(endpoint: str, last: int) -> Iterator[Future[tuple[int, float, float]]]:
    """Subscribers that are connected, and what they will have had."""
    with tempfile.TemporaryDirectory(prefix="annul-b-") as folder, _process() as reader:
        ready = Path(folder, "ready")
        read = reader.submit(read_events, endpoint, str(ready), last)
        while not ready.exists():
            time.sleep(0.01)
        time.sleep(0.5)  # nobody says when a subscription takes effect
        yield read


def read_events(endpoint: str, ready: str, last: int) -> tuple[int, float, float]:
    """(events had by all subscribers together, when the first came, and the last) up to number `last`, or silence.

    None comes out of order, or twice. Makes a file when it is about to listen.
    """
    context = zmq.Context()
    heard: dict[zmq.Socket[bytes], int] = {}  # the number of the last one
    poller = zmq.Poller()
    for _ in range(SUBSCRIBERS):
        socket = context.socket(zmq.SUB)
        socket.subscribe(b"job.")
        socket.rcvhwm = UNREAD
        socket.connect(endpoint)
        poller.register(socket, zmq.POLLIN)
        heard[socket] = 0
    Path(ready).touch()
    decode = msgspec.msgpack.Decoder(_Numbered).decode
    had, times = 0, []
    wait_s = 30.0  # for the first one
    while min(heard.values()) < last and (found := poller.poll(wait_s * 1e3)):
        times.append(time.monotonic())
        wait_s = _SILENT_S
        for socket, _ in found:
            try:
                for _ in range(100):
                    seq = decode(socket.recv_multipart(zmq.NOBLOCK)[1]).seq
                    assert seq > heard[socket]
                    heard[socket] = seq
                    had += 1
            except zmq.Again:
                pass
    times.append(times[-1] if min(heard.values()) < last else time.monotonic())
    for socket in heard:
        socket.close(linger=0)
    context.term()
    return had, times[0], times[-1]
