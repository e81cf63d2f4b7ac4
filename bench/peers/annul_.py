"""annul, through its daemon and its client, as in the other figures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from annul_client import CancelOutcome, State
from bench import figures
from bench.peers.system import System


class Annul(System):
    """As it comes."""

    about = (
        "its defaults, a process forked per job; cancel: client.cancel(); the stubborn job's type has a grace of 0.1 s"
    )
    packages = ("annul", "pyzmq", "msgspec")
    durable = "always"
    harder = "grace_s=0"

    def start(self, folder: Path) -> None:  # noqa: ARG002 - it has one of its own
        self._stack = ExitStack()
        self._daemon = self._stack.enter_context(figures.daemon("--jobs", "bench.peers.annul_jobs"))
        self._client = self._daemon.client

    def submit(self, job: str, where: str, token: str) -> Any:
        return self._client.submit(f"peers-{job}", {"where": where, "token": token}).id

    def cancel(self, handle: Any, *, hard: bool = False) -> bool:
        outcome = self._client.cancel(handle, grace_s=0 if hard else None).outcome
        return outcome in {CancelOutcome.CANCELLING, CancelOutcome.CANCELLED_BEFORE_START}

    def outcome(self, handle: Any) -> str:
        state = self._client.wait(handle, timeout=15).state
        return "success" if state is State.COMPLETED else str(state)

    def park(self, where: str) -> None:
        """Behind the sleepers that `submits` has put in front."""
        self.submit("empty", where, "parked")

    def park_pipelined(self, where: str, count: int) -> bool:
        with self._daemon.pipeline() as pipeline:
            for number in range(count):
                pipeline.send(f"s{number}", "submit", type="peers-empty", params={"where": where, "token": "parked"})
            for _ in range(count):
                pipeline.receive()
        return True

    def park_bulk(self, where: str, count: int) -> bool:
        replies = self._client.submit_many(
            [{"type": "peers-empty", "params": {"where": where, "token": "parked"}}] * count
        )
        assert all(reply.job is not None for reply in replies)
        return True

    def stop(self) -> None:
        self._stack.close()
        super().stop()
