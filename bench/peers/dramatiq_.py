"""Dramatiq with dramatiq-abort: threads in processes; a cancel raises an exception in the job's thread."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultError, Results
from dramatiq.results.backends import RedisBackend as ResultsInRedis
from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import RedisBackend as AbortsInRedis

from bench.peers import work
from bench.peers.redis_ import RedisSystem, connect
from bench.peers.system import WORKERS, spawn

broker = RedisBroker(client=connect())
broker.add_middleware(Results(backend=ResultsInRedis(client=connect()), store_results=True))
broker.add_middleware(Abortable(backend=AbortsInRedis(client=connect())))
dramatiq.set_broker(broker)
actors = {
    name: dramatiq.actor(actor_name=name, queue_name="bench", max_retries=0)(job) for name, job in work.jobs().items()
}
parked = dramatiq.actor(actor_name="parked", queue_name="parked")(work.empty)


class Dramatiq(RedisSystem):
    """As its command line starts it."""

    about = (
        f"dramatiq-abort, {WORKERS} processes × 8 threads (its default), no process per job; cancel: abort(), an "
        "exception at the next Python instruction; gone = the job's code was left"
    )
    packages = ("dramatiq", "dramatiq-abort", "redis")
    gone = "code"

    def start_workers(self, folder: Path) -> None:
        options = ["--processes", str(WORKERS), "--queues", "bench"]
        spawn([sys.executable, "-m", "dramatiq", "bench.peers.dramatiq_", *options], folder)

    def submit(self, job: str, where: str, token: str) -> Any:
        return actors[job].send(where, token)

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:  # noqa: ARG002 - there is one kind
        abort(handle.message_id)
        return True

    def outcome(self, handle: Any) -> str:
        try:
            handle.get_result(block=True, timeout=15_000)
        except ResultError as error:
            return type(error).__name__
        return "success"

    def park(self, where: str) -> None:
        parked.send(where, "parked")

    def park_bulk(self, where: str, count: int) -> bool:
        dramatiq.group([parked.message(where, "parked") for _ in range(count)]).run()
        return True
