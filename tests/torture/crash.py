"""The crash bench: ends a daemon with SIGKILL at every step that outlives it, starts another, and looks what came of
the jobs.

A scenario is what clients do to some jobs. Run dry, it tells how many steps the daemon takes in it (`crashing` counts
them); then it is run again, once for each step, and the daemon dies there. Nobody repeats a cancel that was answered; a
submit is repeated always, and must find its job. One store, one event log and one subscriber serve the whole bench.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import zmq

from annul.tree import daemons_group, find_cgroup
from annul_client import wire
from annul_client.core import Call
from harness import TESTS, TIMEOUT_S, DaemonProcess, alive, wait_until
from torture.crash_kinds import OUTPUT, RUNS
from torture.judge import Violation, life
from torture.shapes import BEAT, READY
from torture.witness import SeenEvent, alive_of, beating, marked, whole_log

_GRACE_S = 0.05  # of those that have to be killed
_LATER = timedelta(days=1)
_RANDOM_S = 0.6  # within which the mixed load is hit
_RANDOM_POINTS = 30  # moments at which it is
_SETTLE_S = 20.0


class Died(Exception):
    """The daemon is gone."""


class Told(msgspec.Struct, kw_only=True):
    """One job, and what its client was told of it."""

    submit: wire.Submit  # with a request id of its own
    ends: frozenset[str]  # how it may end where nobody cancels it
    runs: int = 1  # how many attempts may reach its first line
    id: str = ""  # once a submit was answered
    cancel: wire.Cancel | None = None  # once it was sent
    outcome: str = ""  # of the cancel, once it was answered
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

    def __init__(self, daemon: DaemonProcess, line: Line, beats: Path) -> None:
        self.daemon = daemon
        self.line = line
        self.jobs: list[Told] = []
        self._beats = beats

    def submit(self, does: str, *ends: str, type_: str = "crash", runs: int = 1, **terms: Any) -> Told:
        """`terms`: of the job (`shape`, `seconds`), and of the submit."""
        params = {"beats": str(self._beats), "does": does}
        params |= {name: terms.pop(name) for name in ("shape", "seconds") if name in terms}
        request = wire.Submit(type=type_, params=params, rid=secrets.token_hex(8), **terms)
        job = Told(submit=request, ends=frozenset(ends), runs=runs)
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
    scene.cancel(job, _GRACE_S)
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
        scene.cancel(job, _GRACE_S)
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


def _mixed(scene: Scene) -> None:
    """Some of everything at once."""
    ended = [scene.submit("finish", "completed", user=f"u{number}") for number in range(3)]
    ended.append(scene.submit("fail", "failed"))
    waiting = [scene.submit("wait", shape=shape) for shape in ("none", "double-fork")]
    waiting.append(scene.submit("stubborn"))
    scene.cancel(scene.submit("wait", not_before=datetime.now(UTC) + _LATER))
    for job in waiting:
        scene.ready(job)
        scene.cancel(job, _GRACE_S)
    for job in [*ended, *waiting]:
        scene.final(job)


SCENARIOS: dict[str, Callable[[Scene], None]] = {
    "submit": _submit,
    "progress": _progress,
    "complete": _complete,
    "fail": _fail,
    "cancel": _cancel,
    "cancel-stubborn": _cancel_stubborn,
    "cancel-queued": _cancel_queued,
    "cancel-starting": _cancel_starting,
    "cancel-grandchild": _cancel_grandchild,
    "cancel-racing": _cancel_racing,
    "timeout": _timeout,
    "shutdown": _shutdown,
    "mixed": _mixed,
}
RECOVERY = "recovery"  # the mixed load is hit at random, and the next daemon at a step of its start
RANDOM = "random"  # the mixed load is hit from outside: the daemon, its zygotes, or both
VICTIMS = ("daemon", "zygotes", "both")


def _play(scenario: Callable[[Scene], None], scene: Scene) -> None:
    try:
        scenario(scene)
    except Died:
        pass  # which was to be expected


# --- the bench --------------------------------------------------------------------------------------------------


class Row(msgspec.Struct):
    """What came of one scenario."""

    points: int = 0  # steps counted in the dry run
    restarts: int = 0
    died: int = 0  # of these, where the daemon had ended itself
    seconds: float = 0.0


class CrashReport(msgspec.Struct, kw_only=True):
    """What came of one bench."""

    tree: str
    rows: dict[str, Row]
    steps: Counter[str]  # at which the daemon died
    jobs: int
    violations: list[tuple[str, Violation]]  # with the scenario, and the step

    @property
    def restarts(self) -> int:
        return sum(row.restarts for row in self.rows.values())


class CrashBench:
    """One store, one daemon after another."""

    def __init__(self, base: Path, *, tree: str, seed: int) -> None:
        self._base = base
        self._beats = base / "beats"
        self._beats.mkdir()
        self._hook = base / "hook"
        self._hook.mkdir()
        shutil.copy(TESTS / "crashing" / "sitecustomize.py", self._hook)
        self._daemon = DaemonProcess(
            base,
            *("--jobs", "torture.crash_kinds", "--no-warm", "--log-level", "WARNING"),
            *("--tree", tree, "--max-running", "6"),
            env={"PYTHONPATH": f"{self._hook}:{DaemonProcess._path()}"},
        )
        self._context: zmq.Context[Any] = zmq.Context()
        self._news = self._context.socket(zmq.SUB)
        self._random = random.Random(seed)
        self._log: dict[int, SeenEvent] = {}  # as far as it was judged
        self._left: set[str] = set()  # what was objected to already
        self._counted = 0  # steps of the last scenario
        self._now = ""  # scenario and step, for the report
        self.report = CrashReport(tree=tree, rows={}, steps=Counter(), jobs=0, violations=[])

    def run(self, scenarios: list[str], restarts: int, tell: Callable[[int], None] = lambda done: None) -> CrashReport:
        """Run each scenario dry, then die at its steps: all of them, or as many as `restarts` leaves room for, dealt
        evenly. `restarts` of 0: all.
        """
        self._news.set_hwm(0)
        self._news.subscribe(b"")
        try:
            assert self._daemon.try_start(), self._daemon.said()
            self._news.connect(self._daemon.endpoint.replace("annul.sock", "events.sock"))
            plan = []
            for name in scenarios:
                row = self.report.rows[name] = Row()
                self._crash(name, 0)
                row.points = _RANDOM_POINTS if name == RANDOM else self._counted
                plan.append([(name, point) for point in self._random.sample(range(1, row.points + 1), row.points)])
            for name, point in _in_turns(plan):
                if restarts and self.report.restarts >= restarts:
                    break
                self._crash(name, point)
                tell(self.report.restarts)
            assert self._daemon.stop() == 0, self._daemon.said()
            for left in marked(self._base, but={os.getpid()}):
                self._object("left", "", left)
        finally:
            if self._daemon.process is not None:
                self._daemon.stop()
            self._context.destroy(linger=0)
        return self.report

    def _crash(self, name: str, point: int) -> None:
        """One scenario, one death, one restart. Point 0: where it ends."""
        started = time.monotonic()
        row = self.report.rows[name]
        self._now = f"{name} at step {point}"
        line = Line(self._context, self._daemon)
        scene = Scene(self._daemon, line, self._beats)
        if name == RANDOM:
            self._hit_from_outside(scene, VICTIMS[point % len(VICTIMS)])
        elif name == RECOVERY:
            self._hit_from_outside(scene, "daemon")
        else:
            self._arm(point)
            _play(SCENARIOS[name], scene)
        line.close()
        self._end_daemon(row)
        self._look_at_outputs(scene.jobs, over=False)
        if name == RECOVERY:
            self._arm(point)
            if self._daemon.try_start():
                _play(self._wait_for_all, scene)
            self._end_daemon(row)
            self._look_at_outputs(scene.jobs, over=False)
        assert self._daemon.try_start(), self._daemon.said()
        self._wait_for_all(scene)
        self._judge(scene.jobs)
        row.seconds += time.monotonic() - started

    def _arm(self, point: int) -> None:
        part = self._hook / "at.part"
        part.write_text(str(point))
        part.rename(self._hook / "at")

    def _hit_from_outside(self, scene: Scene, victim: str) -> None:
        assert self._daemon.process is not None
        zygotes = _zygotes(self._daemon.process.pid) if victim != "daemon" else []

        def hit() -> None:
            assert self._daemon.process is not None
            found = zygotes + (_zygotes(self._daemon.process.pid) if victim != "daemon" else [])
            if victim != "zygotes":
                self._daemon.process.kill()
            for pid in set(found):
                if _is_zygote(pid):
                    os.kill(pid, signal.SIGKILL)

        self._now += f", {victim} killed"
        timer = threading.Timer(self._random.uniform(0, _RANDOM_S), hit)
        timer.start()
        _play(_mixed, scene)
        timer.join()

    def _end_daemon(self, row: Row) -> None:
        """See that it is dead, and note where it was. The next one counts no steps."""
        assert self._daemon.process is not None
        if self._daemon.process.poll() is None:
            self._daemon.kill()
            by_itself = False
        else:
            by_itself = self._daemon.process.returncode == -signal.SIGKILL
        row.restarts += 1
        (self._hook / "at").unlink(missing_ok=True)
        path = self._hook / "steps"
        if path.exists():
            steps = path.read_text().splitlines()
            path.unlink()
            self._counted = len(steps)
            if by_itself:
                row.died += 1
                self.report.steps[steps[-1]] += 1
                self._now += f" ({steps[-1]})"

    # --- what came of it ----------------------------------------------------------------------------------------

    def _wait_for_all(self, scene: Scene) -> None:
        """Repeat what was not answered, and wait until every job is over. Raises Died."""
        line = Line(self._context, self._daemon)
        try:
            for job in scene.jobs:
                self._repeat(line, job)
            for job in scene.jobs:
                reply = line.ask(wire.Wait(id=job.id, timeout_s=_SETTLE_S))
                if not reply.done:
                    self._object("lost", job.id, f"it is {reply.job.state}")
                    line.ask(wire.Cancel(id=job.id, grace_s=0))
                    line.ask(wire.Wait(id=job.id, timeout_s=_SETTLE_S))
                for one in alive_of(job.id, self._beats / job.id):
                    self._object("gone", job.id, f"pid {one.pid} lives ({one.state}) though it is {reply.job.state}")
        finally:
            line.close()

    def _judge(self, jobs: list[Told]) -> None:
        self._look_at_log(jobs)
        self._look_at_slots()
        self._look_at_outputs(jobs, over=True)
        for job in jobs:
            self._look_at_job(job)
        self._look_at_directories()
        self.report.jobs += len(jobs)

    def _repeat(self, line: Line, job: Told) -> None:
        """Submit again, in the same words: it must be there, or be made now. Cancel again only what was not answered,
        and what nobody else ends.
        """
        again = line.ask(job.submit)
        if job.id and (again.created or again.job.id != job.id):
            self._object("submitted", job.id, f"its submit was answered, and made {again.job.id} when repeated")
        job.id = again.job.id
        if job.submit.key:
            other = line.ask(msgspec.structs.replace(job.submit, rid=secrets.token_hex(8)))
            if other.created or other.job.id != job.id:
                self._object("submitted", job.id, f"its key made another job, {other.job.id}")
        if (job.cancel is not None and not job.outcome) or (job.cancel is None and not job.ends):
            job.cancel = wire.Cancel(id=job.id, by="bench", reason="again", grace_s=_GRACE_S)
            job.outcome = str(line.ask(job.cancel).outcome)

    def _look_at_log(self, jobs: list[Told]) -> None:
        """It goes on without a gap, holds all that was told, and each job's events are a life."""
        before = len(self._log)
        pages = list(whole_log(self._context, self._daemon.endpoint, before))
        if [event.seq for event in pages] != list(range(before + 1, before + 1 + len(pages))):
            self._object("gap", "", f"after {before} come {[event.seq for event in pages]}")
        self._log |= {event.seq: event for event in pages}
        while self._news.poll(0):
            told = msgspec.msgpack.decode(self._news.recv_multipart()[1], type=SeenEvent)
            if self._log.get(told.seq) != told:
                self._object("gap", told.job.id, f"{told} was told, and {self._log.get(told.seq)} is kept")
        ours = {job.id: job for job in jobs}
        for event in pages:
            if event.job.id not in ours:
                self._object("submitted", event.job.id, "nobody submitted it")
        for job_id, job in ours.items():
            events = [event for event in pages if event.job.id == job_id]
            for violation in life(job_id, events):
                self._object(violation.check, job_id, violation.what)
            job.final = next((event for event in events if event.final), None)

    def _look_at_job(self, job: Told) -> None:
        """How it ended is how it may have ended, and it ran no more often than it may."""
        ended = job.final.job.state if job.final else "lost"
        accepted = job.outcome in ("cancelling", "cancelled_before_start")
        if ended not in ({"cancelled"} if accepted else job.ends | ({"cancelled"} if job.cancel else set())):
            self._object("end", job.id, f"it is {ended}; its cancel was answered with {job.outcome or 'nothing'}")
        folder = self._beats / job.id
        runs = (folder / RUNS).read_text().splitlines() if (folder / RUNS).exists() else []
        if len(runs) > job.runs or len({run.split()[0] for run in runs}) < len(runs):
            self._object("twice", job.id, f"it ran in {runs}")
        if ended == "completed" and not runs:
            self._object("twice", job.id, "it is completed and never ran")
        spans = sorted(_spans(folder, runs))
        for (_, end, one), (begin, _, other) in pairwise(spans):
            if begin <= end:
                self._object("twice", job.id, f"attempts {one} and {other} were alive at once")
        if folder.exists():
            shutil.rmtree(folder)

    def _look_at_outputs(self, jobs: list[Told], *, over: bool) -> None:
        """Whatever stands in the users' directories is whole; when all is over it is there for the completed only."""
        found: dict[str, set[str]] = {}
        for path in self._daemon.state_dir.glob("users/*/out/*/*"):
            found.setdefault(path.parent.name, set()).add(path.name)
            if path.read_bytes() != OUTPUT:
                self._object("output", path.parent.name, f"{path} is not whole")
        if not over:
            return
        for job in jobs:
            ended = job.final.job.state if job.final else "lost"
            wanted = {"first", "second"} if ended == "completed" else set()
            if found.get(job.id, set()) != wanted:
                self._object("output", job.id, f"it is {ended}, and has the outputs {found.get(job.id)}")
        for path in self._daemon.state_dir.glob("users/*/out/*"):
            shutil.rmtree(path)

    def _look_at_slots(self) -> None:
        line = Line(self._context, self._daemon)
        pong = line.ask(wire.Ping())
        line.close()
        if pong.running or pong.queued:
            self._object("slots", "", f"{pong.running} run and {pong.queued} are queued when all is over")

    def _look_at_directories(self) -> None:
        """Nothing is left of attempts: run directories, staging, cgroups. The daemon deletes in its own time."""
        state = self._daemon.state_dir
        parent = find_cgroup() if self.report.tree == "cgroup" else None

        def left() -> list[str]:
            found = list((self._daemon.runtime_dir / "jobs").iterdir())
            found += [path for name in ("staging", "work", "tmp") for path in state.glob(f"jobs/*/*/{name}")]
            if parent is not None and (parent / daemons_group(state)).exists():
                found += [path for path in (parent / daemons_group(state)).iterdir() if path.is_dir()]
            return [str(path) for path in found if str(path) not in self._left]

        end = time.monotonic() + _SETTLE_S / 4
        while left() and time.monotonic() < end:
            time.sleep(0.005)
        for path in left():
            self._object("left", "", path)
            self._left.add(path)

    def _object(self, check: str, job_id: str, what: str) -> None:
        self.report.violations.append((self._now, Violation(check, job_id, what)))


def _in_turns(lists: list[list[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """One of each, as long as there are any."""
    for place in range(max(map(len, lists), default=0)):
        for one in lists:
            if place < len(one):
                yield one[place]


def _spans(folder: Path, runs: list[str]) -> Iterator[tuple[int, int, str]]:
    """(first beat, last beat, attempt) of each attempt's leader."""
    beats = {(pid, start): path for path, pid, start in beating(folder)}
    for run in runs:
        attempt, pid, start = run.split()
        data = beats[int(pid), int(start)].read_bytes()
        times = [one[0] for one in BEAT.iter_unpack(data[: len(data) // BEAT.size * BEAT.size])]
        yield times[0], times[-1], attempt


def _is_zygote(pid: int) -> bool:
    try:
        return alive(pid) and b"annul.runtime.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _zygotes(daemon: int) -> list[int]:
    try:
        children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    except OSError:
        return []
    return [int(pid) for pid in children if _is_zygote(int(pid))]
