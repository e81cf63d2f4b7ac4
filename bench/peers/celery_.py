"""Celery: a pool of processes; a cancel of what runs kills the pool's process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from celery import Celery as App
from celery import group
from celery import states as state
from celery.exceptions import TimeoutError as NotYet

from bench.peers import work
from bench.peers.redis_ import RedisSystem, url
from bench.peers.system import WORKERS, spawn

app = App("bench", broker=url("redis+socket"), backend=url("redis+socket"))
app.conf.update(
    task_acks_late=True,
    task_default_queue="bench",
    task_track_started=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
tasks = {name: app.task(name=name)(job) for name, job in work.jobs().items()}


class Celery(RedisSystem):
    """With a pool whose processes are used again."""

    about = (
        f"prefork, {WORKERS} processes, used again; acks_late, prefetch 1; "
        "cancel: revoke(terminate=True), SIGTERM; the race with reply=True, accepted = it says `terminate`"
    )
    packages = ("celery", "billiard", "kombu", "redis")
    harder = "signal='SIGKILL'"
    options: tuple[str, ...] = ()

    def start_workers(self, folder: Path) -> None:
        quiet = ["--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
        pool = ["--pool", "prefork", "--concurrency", str(WORKERS), *self.options]
        spawn([sys.executable, "-m", "celery", "--app", "bench.peers.celery_", "worker", *pool, *quiet], folder)

    def submit(self, job: str, where: str, token: str) -> Any:
        return tasks[job].delay(where, token)

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:
        signal = "SIGKILL" if hard else "SIGTERM"
        app.control.revoke(handle.id, terminate=True, signal=signal)
        return True

    def cancel_told(self, handle: Any) -> bool:
        replies = app.control.revoke(handle.id, terminate=True, reply=True, limit=1, timeout=2)
        return any(handle.id in reply["ok"] for answer in replies for reply in answer.values() if "ok" in reply)

    def outcome(self, handle: Any) -> str:
        try:
            handle.get(timeout=15, propagate=False)
        except NotYet:
            return "unknown"
        return "success" if handle.state == state.SUCCESS else str(handle.state)

    def park(self, where: str) -> None:
        tasks["empty"].apply_async((where, "parked"), queue="parked")

    def park_bulk(self, where: str, count: int) -> bool:
        group([tasks["empty"].s(where, "parked").set(queue="parked") for _ in range(count)]).apply_async()
        return True


class CeleryFresh(Celery):
    """With a pool whose processes run one job each."""

    about = "the same with --max-tasks-per-child=1: a fresh process per job"
    figures = frozenset({"start", "start_next", "throughput", "cancel"})
    options = ("--max-tasks-per-child", "1")
