"""Huey: a pool of processes; what runs is not interrupted by a revoke."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from huey import RedisHuey
from huey.exceptions import HueyException

from bench.peers import work
from bench.peers.redis_ import RedisSystem, url
from bench.peers.system import WORKERS, spawn

huey = RedisHuey("bench", url=url(), notify_result=True)
tasks = {name: huey.task(name=name)(job) for name, job in work.jobs().items()}
parked = RedisHuey("parked", url=url()).task(name="parked")(work.empty)


class Huey(RedisSystem):
    """With processes, not threads."""

    about = (
        f"{WORKERS} worker processes, used again; cancel: revoke(), which by its documentation stops no running task"
    )
    packages = ("huey", "redis")

    def start_workers(self, folder: Path) -> None:
        options = ["--worker-type", "process", "--workers", str(WORKERS), "--quiet"]
        spawn([sys.executable, "-m", "huey.bin.huey_consumer", "bench.peers.huey_.huey", *options], folder)

    def submit(self, job: str, where: str, token: str) -> Any:
        return tasks[job](where, token)

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:  # noqa: ARG002 - there is one kind
        handle.revoke()
        return True

    def outcome(self, handle: Any) -> str:
        try:
            return "success" if handle.get(blocking=True, timeout=15) else "failed"
        except HueyException as error:
            return type(error).__name__

    def park(self, where: str) -> None:
        parked(where, "parked")
