"""What clients do to jobs while the crash bench ends their daemon: the scenarios, and what each client was told."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zmq

from annul_client import wire
from annul_client.core import Call
from harness import TIMEOUT_S, DaemonProcess, wait_until
from torture.crash_kinds import AGAIN, OUTPUT, RETRIES
from torture.shapes import READY
from torture.witness import SeenEvent

GRACE_S = 0.05  # of those that have to be killed
KEPT = 1  # finished jobs of each user, where the daemon purges them by itself
ORPHANED = frozenset({"orphaned"})
_LATER = timedelta(days=1)


class Died(Exception):
    """The daemon is gone."""


class Told(msgspec.Struct, kw_only=True):
    """One job, and what its client was told of it."""

    submit: wire.Submit  # with a request id of its own
    ends: frozenset[str]  # how it may end where nobody cancels it
    codes: frozenset[str] = frozenset()  # of its error, where it may end `failed`; empty: any
    runs: int = 1  # how many attempts may reach its first line
    least: int = 0  # how many have to
    id: str = ""  # once a submit was answered
    cancel: wire.Cancel | None = None  # once it was sent
    outcome: str = ""  # of the cancel, once it was answered
    purge: str = ""  # "may be": the daemon has too many; "asked", "answered"
    final: SeenEvent | None = None


class Line:
    """A connection that knows when the daemon has died."""

    def __init__(self, context: zmq.Context[Any], daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(daemon.endpoint)

    def ask(self, request: wire.Request) -> Any:
        """Raises Died where no answer came and none will, and what `Call.answer` raises."""
        call = Call(request, wire.REPLY_OF[type(request)])
        self._socket.send(call.frame)
        end = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < end:
            assert self._daemon.process is not None
            gone = self._daemon.process.poll() is not None
            while self._socket.poll(0 if gone else 10):
                answer = call.answer(self._socket.recv())
                if answer is not None:
                    return answer
            if gone:
                raise Died
        raise TimeoutError(f"{call.verb}: no answer")

    def close(self) -> None:
        self._socket.close()


class Scene:
    """What the clients of one scenario do, for as long as the daemon lives."""

    def __init__(self, daemon: DaemonProcess, line: Line, beats: Path, hand_over: Callable[[], None]) -> None:
        """`hand_over`: starts another daemon, which has this one hand over."""
        self.daemon = daemon
        self.line = line
        self.jobs: list[Told] = []
        self.hand_over = hand_over
        self._beats = beats

    def submit(
        self,
        does: str,
        *ends: str,
        type_: str = "crash",
        runs: int = 1,
        least: int = 0,
        codes: frozenset[str] = frozenset(),
        purge: str = "",
        **terms: Any,
    ) -> Told:
        """`terms`: of the job (`shape`, `seconds`), and of the submit."""
        params = {"beats": str(self._beats), "does": does}
        params |= {name: terms.pop(name) for name in ("shape", "seconds") if name in terms}
        request = wire.Submit(type=type_, params=params, rid=secrets.token_hex(8), **terms)
        job = Told(submit=request, ends=frozenset(ends), runs=runs, least=least, codes=codes, purge=purge)
        self.jobs.append(job)
        job.id = self.line.ask(request).job.id
        return job

    def ready(self, job: Told) -> None:
        """Wait until a job is where it wants to be."""
        self._until((self._beats / job.id / READY).exists)

    def cancel(self, job: Told, grace_s: float | None = None) -> None:
        job.cancel = wire.Cancel(id=job.id, by="bench", reason="a crash", grace_s=grace_s)
        job.outcome = str(self.line.ask(job.cancel).outcome)

    def final(self, job: Told) -> None:
        self.line.ask(wire.Wait(id=job.id, timeout_s=TIMEOUT_S))

    def failed_once(self, job: Told) -> None:
        """Wait until a job that is to be tried again waits for that."""

        def waits() -> bool:
            seen = self.line.ask(wire.Get(id=job.id)).job
            return bool(seen.state == "queued" and seen.attempt)

        self._until(waits)

    def purge(self, jobs: list[Told], **matching: Any) -> None:
        for job in jobs:
            job.purge = "asked"
        self.line.ask(wire.Purge(**matching))
        for job in jobs:
            job.purge = "answered"

    def stop(self) -> None:
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGTERM)
        self.daemon.process.wait(TIMEOUT_S)
        raise Died

    def _until(self, condition: Callable[[], object]) -> None:
        def over() -> object:
            assert self.daemon.process is not None
            return condition() or self.daemon.process.poll() is not None

        wait_until(over, "a job to get ready")
        if not condition():
            raise Died


# --- scenarios --------------------------------------------------------------------------------------------------


def _submit(scene: Scene) -> None:
    """With an input file and a key, twice."""
    data = {"file": OUTPUT}
    job = scene.submit("finish", "completed", inputs=data, user="u", key=secrets.token_hex(4))
    scene.submit("finish", "completed", seconds=0.0, labels={"a": "b"})
    scene.final(job)


def _progress(scene: Scene) -> None:
    scene.final(scene.submit("finish", "completed", seconds=0.6))


def _complete(scene: Scene) -> None:
    """Two that publish, one of them leaving a process behind."""
    jobs = [scene.submit("finish", "completed", shape=shape) for shape in ("none", "double-fork")]
    for job in jobs:
        scene.final(job)


def _fail(scene: Scene) -> None:
    """In its own words, and without a word."""
    for job in [scene.submit(does, "failed") for does in ("fail", "vanish")]:
        scene.final(job)


def _cancel(scene: Scene) -> None:
    job = scene.submit("wait")
    scene.ready(job)
    scene.cancel(job)
    scene.final(job)


def _cancel_stubborn(scene: Scene) -> None:
    job = scene.submit("stubborn", shape="child")
    scene.ready(job)
    scene.cancel(job, GRACE_S)
    scene.final(job)


def _cancel_queued(scene: Scene) -> None:
    job = scene.submit("wait", not_before=datetime.now(UTC) + _LATER)
    scene.cancel(job)
    scene.final(job)


def _cancel_starting(scene: Scene) -> None:
    job = scene.submit("wait")
    scene.cancel(job)
    scene.final(job)


def _cancel_grandchild(scene: Scene) -> None:
    """What it leaves has double-forked, has a session of its own, no environment, and ignores SIGTERM."""
    jobs = [scene.submit("wait", shape=shape) for shape in ("double-fork", "setsid")]
    for job in jobs:
        scene.ready(job)
        scene.cancel(job, GRACE_S)
    for job in jobs:
        scene.final(job)


def _cancel_racing(scene: Scene) -> None:
    """It ends by itself at about the same time."""
    job = scene.submit("finish", "completed", seconds=0.02)
    scene.ready(job)
    time.sleep(0.02)
    scene.cancel(job)
    scene.final(job)


def _timeout(scene: Scene) -> None:
    job = scene.submit("wait", "failed", timeout_s=0.2)
    scene.final(job)


def _shutdown(scene: Scene) -> None:
    """One is queued again and runs twice, the other is cancelled; where the crash came first, they just go on."""
    jobs = [
        scene.submit("finish", "completed", type_="crash-again", runs=2, seconds=0.6),
        scene.submit("finish", "completed", "cancelled", seconds=0.6),
    ]
    for job in jobs:
        scene.ready(job)
    scene.stop()


def mixed(scene: Scene) -> None:
    """Some of everything at once."""
    ended = [scene.submit("finish", "completed", user=f"u{number}") for number in range(3)]
    ended.append(scene.submit("fail", "failed"))
    waiting = [scene.submit("wait", shape=shape) for shape in ("none", "double-fork")]
    waiting.append(scene.submit("stubborn"))
    scene.cancel(scene.submit("wait", not_before=datetime.now(UTC) + _LATER))
    for job in waiting:
        scene.ready(job)
        scene.cancel(job, GRACE_S)
    for job in [*ended, *waiting]:
        scene.final(job)


def _retry(scene: Scene) -> None:
    """One succeeds at last, one never does, and one is cancelled between two attempts."""
    most = RETRIES + 1
    jobs = [
        scene.submit("flaky", "completed", type_="crash-retry", runs=most, least=most),
        scene.submit("fail-again", "failed", type_="crash-retry", runs=most, least=most, codes=frozenset({AGAIN})),
    ]
    between = scene.submit("fail-again", type_="crash-later")
    scene.failed_once(between)
    scene.cancel(between)
    for job in [*jobs, between]:
        scene.final(job)


def _purge(scene: Scene) -> None:
    """One by its id and two by a label; a fourth stays."""
    label = {"purge": secrets.token_hex(4)}
    data = {"file": OUTPUT}
    marked = [scene.submit("finish", "completed", seconds=0.0, inputs=data, labels=label) for _ in range(2)]
    named = scene.submit("finish", "completed", seconds=0.0, inputs=data, user="u", key=secrets.token_hex(4))
    stays = scene.submit("finish", "completed", seconds=0.0, inputs=data, user="u", key=secrets.token_hex(4))
    for job in (*marked, named, stays):
        scene.final(job)
    scene.purge([named], id=named.id)
    scene.purge(marked, label=label)


def _retention(scene: Scene) -> None:
    """Of four in turn the newest is kept, and so is another user's."""
    stays = scene.submit("finish", "completed", seconds=0.0, user="stays", inputs={"file": OUTPUT})
    scene.final(stays)
    for _ in range(4):
        job = scene.submit("finish", "completed", seconds=0.0, user="many", purge="may be", inputs={"file": OUTPUT})
        scene.final(job)


def _hand_over(scene: Scene) -> None:
    """In the middle of what runs, of a cancel, and of the wait for another attempt."""
    _under_way(scene)
    scene.hand_over()


def _under_way(scene: Scene) -> None:
    jobs = [scene.submit("finish", "completed", seconds=0.6, shape=shape) for shape in ("none", "double-fork")]
    waiting = scene.submit("wait", shape="setsid")
    stubborn = scene.submit("stubborn")
    later = scene.submit("fail-again", type_="crash-later")
    scene.submit("finish", "completed", not_before=datetime.now(UTC) + timedelta(seconds=0.5))
    for job in (*jobs, waiting, stubborn):
        scene.ready(job)
    scene.failed_once(later)
    scene.cancel(stubborn, 0.3)


def _orphaned(scene: Scene) -> None:
    """They end by themselves, soon or late, or have to be ended; one by a cancel, and one is tried again."""
    jobs = [
        scene.submit("finish", "completed", "failed", type_="crash-hasty", codes=ORPHANED, seconds=2.0, shape="child"),
        scene.submit(
            *("stubborn-finish", "completed", "failed"),
            type_="crash-hasty",
            codes=ORPHANED,
            seconds=2.0,
            shape="double-fork",
        ),
        scene.submit("finish", "completed", type_="crash-retry", runs=RETRIES + 1, seconds=0.6, shape="setsid"),
        scene.submit("finish", "completed", type_="crash-hasty", seconds=0.2, shape="setsid"),
        scene.submit("vanish", "failed", type_="crash-hasty", shape="double-fork", seconds=0.2),
        scene.submit("stubborn", type_="crash-hasty", shape="double-fork"),
    ]
    for job in jobs:
        scene.ready(job)
    scene.cancel(jobs[-1], 0.3)


class Scenario(msgspec.Struct, frozen=True):
    """What clients do, to which daemon, and who dies of it."""

    play: Callable[[Scene], None]
    options: tuple[str, ...] = ()  # of its daemon
    victim: str = (
        "daemon"  # "successor": that takes over; "guardian": of jobs whose daemon was killed; "late guardian":
    )
    # it is stopped only, and goes on beside the next daemon; "both": daemon and zygotes at once


_KEEP = ("--keep-jobs", str(KEPT))
_ALONE = ("--orphan-grace", "0.2")

SCENARIOS: dict[str, Scenario] = {
    "submit": Scenario(_submit),
    "progress": Scenario(_progress),
    "complete": Scenario(_complete),
    "fail": Scenario(_fail),
    "retry": Scenario(_retry),
    "cancel": Scenario(_cancel),
    "cancel-stubborn": Scenario(_cancel_stubborn),
    "cancel-queued": Scenario(_cancel_queued),
    "cancel-starting": Scenario(_cancel_starting),
    "cancel-grandchild": Scenario(_cancel_grandchild),
    "cancel-racing": Scenario(_cancel_racing),
    "timeout": Scenario(_timeout),
    "shutdown": Scenario(_shutdown),
    "hand-over": Scenario(_hand_over),
    "take-over": Scenario(_under_way, victim="successor"),
    "mixed": Scenario(mixed),
    "purge": Scenario(_purge),
    "retention": Scenario(_retention, _KEEP),
    "orphaned": Scenario(_orphaned, _ALONE, victim="guardian"),
    "orphaned-late": Scenario(_orphaned, _ALONE, victim="late guardian"),
    "orphaned-alone": Scenario(_orphaned, _ALONE, victim="both"),
}
