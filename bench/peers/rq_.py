"""RQ: a worker forks a process for each job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rq import Queue, Worker
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import JobStatus

from bench.peers import work
from bench.peers.redis_ import RedisSystem, connect, url
from bench.peers.system import WORKERS, spawn


class Rq(RedisSystem):
    """With the workers of its command line."""

    about = f"{WORKERS} × `rq worker`, a process forked per job; cancel: send_stop_job_command (SIGKILL to its group)"
    packages = ("rq", "redis")

    def start_workers(self, folder: Path) -> None:
        for _ in range(WORKERS):
            spawn(self.worker(), folder)
        redis = connect()
        self._queue = Queue("bench", connection=redis)
        self._parked = Queue("parked", connection=redis)

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "rq.cli", "worker", "--quiet", "--url", url(), "bench"]

    def submit(self, job: str, where: str, token: str) -> Any:
        return self._queue.enqueue(work.path(job), where, token)

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:  # noqa: ARG002 - it is always hard
        try:
            send_stop_job_command(self._queue.connection, handle.id)
        except (InvalidJobOperation, NoSuchJobError):
            return False
        return True

    def outcome(self, handle: Any) -> str:
        handle.latest_result(timeout=15)
        status = handle.get_status()
        return "success" if status == JobStatus.FINISHED else str(status)

    def park(self, where: str) -> None:
        self._parked.enqueue(work.path("empty"), where, "parked")

    def park_bulk(self, where: str, count: int) -> bool:
        data = [Queue.prepare_data(work.path("empty"), (where, "parked")) for _ in range(count)]
        self._parked.enqueue_many(data)
        return True


class RqPreloaded(Rq):
    """With a worker of our own, as RQ's documentation proposes for jobs with many imports."""

    about = f"{WORKERS} workers that import the jobs' modules before they fork (a script of one's own); else as RQ"
    figures = frozenset({"start", "start_next", "throughput"})

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "bench.peers.rq_"]


if __name__ == "__main__":
    work.jobs()
    Worker([Queue("bench", connection=connect())], connection=connect()).work(logging_level="WARNING")
