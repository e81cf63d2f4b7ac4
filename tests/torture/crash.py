"""The crash bench: ends a daemon with SIGKILL at every step that outlives it, starts another, and looks what came of
the jobs.

A scenario is what clients do to some jobs. Run dry, it tells how many steps the daemon takes in it (`crashing` counts
them); then it is run again, once for each step, and the daemon dies there: or the one that takes over from it, or the
guardian of its jobs. Nobody repeats a cancel that was answered; a submit is repeated always, and must find its job. One
store, one event log and one subscriber serve the whole bench.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import zmq

from annul.tree import daemons_group, find_cgroup
from annul_client import wire
from annul_client.errors import NotFound
from harness import TESTS, TIMEOUT_S, DaemonProcess, alive, wait_until
from torture.crash_kinds import OUTPUT, RESULT, RUNS
from torture.crash_scenes import GRACE_S, KEPT, SCENARIOS, Died, Line, Scenario, Scene, Told, mixed
from torture.judge import Violation, life
from torture.shapes import BEAT
from torture.witness import SeenEvent, Survivor, alive_of, beating, marked, process, whole_log

__all__ = ["RANDOM", "RECOVERY", "SCENARIOS", "CrashBench", "CrashReport", "Row"]

RECOVERY = "recovery"  # the mixed load is hit at random, and the next daemon at a step of its start
RANDOM = "random"  # the mixed load is hit from outside: the daemon, its zygotes, or both
VICTIMS = ("daemon", "zygotes", "both")
_RANDOM_S = 0.6  # within which the mixed load is hit
_RANDOM_POINTS = 30  # moments at which it is
_SETTLE_S = 20.0
_GUARDIAN = "guardian"
_OUTPUTS = {"first", "second"}


def _play(scenario: Callable[[Scene], None], scene: Scene) -> None:
    try:
        scenario(scene)
    except Died:
        pass  # which was to be expected


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


_OTHERS = {RECOVERY: Scenario(mixed, victim="next"), RANDOM: Scenario(mixed, victim="any")}


class CrashBench:
    """One store, one daemon after another."""

    def __init__(self, base: Path, *, tree: str, seed: int) -> None:
        self._base = base
        self._beats = base / "beats"
        self._beats.mkdir()
        self._hook = base / "hook"
        self._hook.mkdir()
        shutil.copy(TESTS / "crashing" / "sitecustomize.py", self._hook)
        self._common = (
            *("--jobs", "torture.crash_kinds", "--no-warm", "--log-level", "WARNING"),
            *("--tree", tree, "--max-running", "6"),
        )
        self._options: tuple[str, ...] = ()  # of the scenario
        self._daemon = DaemonProcess(base, env={"PYTHONPATH": f"{self._hook}:{DaemonProcess._path()}"})
        self._started = 0  # daemons
        self._older: list[subprocess.Popen[bytes]] = []  # that were to be taken over from
        self._context: zmq.Context[Any] = zmq.Context()
        self._news = self._context.socket(zmq.SUB)
        self._random = random.Random(seed)
        self._log: dict[int, SeenEvent] = {}  # as far as it was judged
        self._left: set[str] = set()  # what was objected to already
        self._users: set[str | None] = set()
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
            self._must_start()
            self._news.connect(self._daemon.endpoint.replace("annul.sock", "events.sock"))
            plan = []
            for name in scenarios:
                row = self.report.rows[name] = Row()
                self._crash(name, 0)
                row.points = self._counted or _RANDOM_POINTS
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
            for process in self._older:
                process.kill()
                process.wait()
            if self._daemon.process is not None:
                self._daemon.stop()
            self._context.destroy(linger=0)
        return self.report

    def _crash(self, name: str, point: int) -> None:
        """One scenario, one death or two, and a daemon after that. Point 0: where it ends."""
        started = time.monotonic()
        row = self.report.rows[name]
        scenario = SCENARIOS.get(name) or _OTHERS[name]
        self._now = f"{name} at step {point}"
        self._counted = 0
        self._serve_with(scenario.options)
        line = Line(self._context, self._daemon)
        scene = Scene(self._daemon, line, self._beats, self._hand_over)
        match scenario.victim:
            case "daemon":
                self._hit_daemon(scenario, scene, row, point)
            case "next":
                self._hit_next(scene, row, point)
            case "successor":
                self._hit_successor(scenario, scene, row, point)
            case "guardian":
                self._hit_guardian(scenario, scene, row, point)
            case "late guardian":
                self._hold_up_guardian(scenario, scene, row, point)
            case "both":
                self._hit_both(scenario, scene, row, point)
            case "any":
                self._hit_from_outside(scene, VICTIMS[point % len(VICTIMS)])
                self._end_daemon(row)
        line.close()
        self._look_at_outputs(scene.jobs, over=False)
        self._settle()
        self._wait_for_all(scene)
        self._judge(scene.jobs)
        row.seconds += time.monotonic() - started

    # --- who dies -----------------------------------------------------------------------------------------------

    def _hit_daemon(self, scenario: Scenario, scene: Scene, row: Row, point: int) -> None:
        """It dies at a step of what the clients ask it for."""
        daemon, name = self._daemon.process, str(self._started)
        self._arm(name, point)
        _play(scenario.play, scene)
        if self._daemon.process is daemon:
            self._end_daemon(row, name)
        else:  # another has taken over, and stays
            assert daemon is not None
            row.restarts += 1
            self._note_steps(row, name, died=daemon.returncode == -signal.SIGKILL)

    def _hit_next(self, scene: Scene, row: Row, point: int) -> None:
        """It dies at some moment, and the next one at a step of its start."""
        self._hit_from_outside(scene, "daemon")
        self._end_daemon(row)
        self._look_at_outputs(scene.jobs, over=False)
        self._start_and_hit(scene, row, point)

    def _hit_successor(self, scenario: Scenario, scene: Scene, row: Row, point: int) -> None:
        """The one that takes over dies at a step of that; the one before has ended, or goes on."""
        _play(scenario.play, scene)
        assert self._daemon.process is not None
        self._older.append(self._daemon.process)
        self._start_and_hit(scene, row, point, "--takeover")

    def _start_and_hit(self, scene: Scene, row: Row, point: int, *options: str) -> None:
        name = str(self._started + 1)
        self._arm(name, point)
        if self._start(*options):
            _play(self._wait_for_all, scene)
        self._end_daemon(row, name)

    def _hit_guardian(self, scenario: Scenario, scene: Scene, row: Row, point: int) -> None:
        """The daemon dies, and the guardian at a step of ending its jobs. Then either all has to end by itself, or a
        daemon comes back meanwhile.
        """
        _play(scenario.play, scene)
        self._arm(_GUARDIAN, point)
        self._daemon.kill()
        row.restarts += 1
        self._leave_alone(scene, guarded=not point, come_back=point % 2 == 1)
        steps = self._hook / f"steps-{_GUARDIAN}"
        self._note_steps(row, _GUARDIAN, died=steps.exists() and len(steps.read_text().splitlines()) == point)

    def _hold_up_guardian(self, scenario: Scenario, scene: Scene, row: Row, point: int) -> None:
        """The daemon dies, and the guardian is stopped at a step of ending its jobs until another daemon serves."""
        assert self._daemon.process is not None
        _play(scenario.play, scene)
        guardians = _zygotes(self._daemon.process.pid)
        self._arm(_GUARDIAN, point, signal.SIGSTOP)
        self._daemon.kill()
        row.restarts += 1
        wait_until(lambda: all(map(_is_held, guardians)), "the guardian to be stopped, or to end")
        self._note_steps(row, _GUARDIAN, died=False)
        self._must_start()
        for pid in filter(_is_zygote, guardians):
            os.kill(pid, signal.SIGCONT)

    def _hit_both(self, scenario: Scenario, scene: Scene, row: Row, point: int) -> None:
        """The daemon dies and its zygotes with it: stopped, they do not even hear of its end."""
        assert self._daemon.process is not None
        _play(scenario.play, scene)
        zygotes = _zygotes(self._daemon.process.pid)
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in zygotes:
                os.kill(pid, signum)
            self._daemon.kill()
        row.restarts += 1
        self._leave_alone(scene, guarded=False, come_back=point % 2 == 1)

    def _leave_alone(self, scene: Scene, *, guarded: bool, come_back: bool) -> None:
        """For some time, or until no process of any job lives. What a job leaves that vanishes is the guardian's or,
        where that has died too, nobody's until a daemon comes.
        """
        if come_back:
            self._now += ", a daemon comes back"
            time.sleep(self._random.uniform(0, 2 * _RANDOM_S))
            return
        jobs = [job for job in scene.jobs if guarded or job.submit.params["does"] != "vanish"]
        try:
            wait_until(lambda: not any(map(self._alive, jobs)), "jobs to end", _SETTLE_S)
        except AssertionError:
            for job in filter(self._alive, jobs):
                self._object("alone", job.id, f"it lives on without anybody: {self._alive(job)}")

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
        _play(mixed, scene)
        timer.join()

    def _arm(self, name: str, point: int, signum: signal.Signals = signal.SIGKILL) -> None:
        part = self._hook / "at.part"
        part.write_text(f"{signum} {point}")
        part.rename(self._hook / f"at-{name}")

    def _end_daemon(self, row: Row, name: str = "") -> None:
        """See that it is dead, and note where it was."""
        assert self._daemon.process is not None
        if self._daemon.process.poll() is None:
            self._daemon.kill()
            died = False
        else:
            died = self._daemon.process.returncode == -signal.SIGKILL
        row.restarts += 1
        self._note_steps(row, name, died=died)

    def _note_steps(self, row: Row, name: str, *, died: bool) -> None:
        """`died`: at the last one."""
        (self._hook / f"at-{name}").unlink(missing_ok=True)
        path = self._hook / f"steps-{name}"
        if path.exists():
            steps = path.read_text().splitlines()
            path.unlink()
            self._counted = len(steps)
            if died:
                row.died += 1
                self.report.steps[steps[-1]] += 1
                self._now += f" ({steps[-1]})"

    # --- who serves ---------------------------------------------------------------------------------------------

    def _start(self, *more: str) -> bool:
        self._started += 1
        self._daemon.env["CRASHING"] = str(self._started)
        self._daemon.options = (*self._common, *self._options, *more)
        return self._daemon.try_start()

    def _must_start(self, *more: str) -> None:
        assert self._start(*more), self._daemon.said()

    def _serve_with(self, options: tuple[str, ...]) -> None:
        """Have a daemon with these options, that has done what it does about jobs of before."""
        if options == self._options:
            return
        assert self._daemon.stop() == 0, self._daemon.said()
        self._options = options
        self._must_start()
        if "--keep-jobs" in options:
            jobs = self._daemon.state_dir / "jobs"
            wait_until(lambda: len(os.listdir(jobs)) <= KEPT * len(self._users), "jobs of before to be purged")

    def _hand_over(self) -> None:
        """Start another daemon beside the one that serves, and wait until it does."""
        old = self._daemon.process
        assert old is not None
        self._must_start("--takeover")
        old.wait(TIMEOUT_S)

    def _settle(self) -> None:
        """Have one daemon, and see that it is the only one."""
        assert self._daemon.process is not None
        if self._daemon.process.poll() is not None:
            self._must_start(*(["--takeover"] if self._older else []))
        for old in self._older:
            old.wait(TIMEOUT_S)
        self._older.clear()
        serving = _daemons(self._daemon.state_dir)
        if serving != [self._daemon.process.pid]:
            self._object("one", "", f"the daemons {serving} serve, {self._daemon.process.pid} should")

    # --- what came of it ----------------------------------------------------------------------------------------

    def _wait_for_all(self, scene: Scene) -> None:
        """Repeat what was not answered, and wait until every job is over. Raises Died."""
        line = Line(self._context, self._daemon)
        try:
            for job in scene.jobs:
                self._repeat(line, job)
                self._look_at_process(line, job)
            ended_by_us = [job for job in scene.jobs if job.cancel is None and not job.ends]
            for job in [one for one in scene.jobs if one not in ended_by_us]:
                self._wait_for(line, job)
            for job in ended_by_us:  # the others were waited for: if they were to do anything by themselves, they have
                self._cancel(line, job)
                self._wait_for(line, job)
        finally:
            line.close()

    def _wait_for(self, line: Line, job: Told) -> None:
        try:
            reply = line.ask(wire.Wait(id=job.id, timeout_s=_SETTLE_S))
        except NotFound:
            if not job.purge:
                self._object("lost", job.id, "it is not there")
            return
        if not reply.done:
            self._object("lost", job.id, f"it is {reply.job.state}")
            line.ask(wire.Cancel(id=job.id, grace_s=0))
            line.ask(wire.Wait(id=job.id, timeout_s=_SETTLE_S))
        for one in self._alive(job):
            self._object("gone", job.id, f"pid {one.pid} lives ({one.state}) though it is {reply.job.state}")

    def _judge(self, jobs: list[Told]) -> None:
        self._users |= {job.submit.user for job in jobs}
        self._look_at_log(jobs)
        self._look_at_slots()
        self._look_at_outputs(jobs, over=True)
        gone = self._look_at_purges(jobs)
        for job in jobs:
            self._look_at_job(job)
        self._look_at_directories(gone)
        self.report.jobs += len(jobs)

    def _repeat(self, line: Line, job: Told) -> None:
        """Submit again, in the same words: it must be there, or be made now. Cancel again only what was not answered.
        What may be purged already would be another job.
        """
        if job.purge and job.id:
            return
        again = line.ask(job.submit)
        if job.id and (again.created or again.job.id != job.id):
            self._object("submitted", job.id, f"its submit was answered, and made {again.job.id} when repeated")
        job.id = again.job.id
        if job.submit.key:
            other = line.ask(msgspec.structs.replace(job.submit, rid=secrets.token_hex(8)))
            if other.created or other.job.id != job.id:
                self._object("submitted", job.id, f"its key made another job, {other.job.id}")
        if job.cancel is not None and not job.outcome:
            self._cancel(line, job)

    def _cancel(self, line: Line, job: Told) -> None:
        job.cancel = wire.Cancel(id=job.id, by="bench", reason="again", grace_s=GRACE_S)
        job.outcome = str(line.ask(job.cancel).outcome)

    def _look_at_process(self, line: Line, job: Told) -> None:
        """An attempt that goes on under another daemon does so in the same process."""
        runs = self._runs(job)
        if not runs or job.purge:
            return
        attempt, pid, _ = runs[-1].split()
        seen = line.ask(wire.Get(id=job.id)).job
        if seen.attempt == int(attempt) and seen.pid not in (None, int(pid)):
            self._object("twice", job.id, f"attempt {attempt} was in process {pid} and is in {seen.pid}")

    def _runs(self, job: Told) -> list[str]:
        """The attempts that have reached the job's first line."""
        path = self._beats / job.id / RUNS
        return path.read_text().splitlines() if job.id and path.exists() else []

    def _alive(self, job: Told) -> list[Survivor]:
        return alive_of(job.id, self._beats / job.id)

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
        code = (job.final.job.error or {}).get("code") if job.final else None
        if ended == "failed" and job.codes and code not in job.codes:
            self._object("end", job.id, f"it failed with {code}, not with one of {set(job.codes)}")
        folder = self._beats / job.id
        runs = self._runs(job)
        if len(runs) < job.least:
            self._object("end", job.id, f"it is {ended} and ran in {runs} only")
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
            wanted = _OUTPUTS if ended == "completed" else set()
            if found.get(job.id, set()) != wanted:
                self._object("output", job.id, f"it is {ended}, and has the outputs {found.get(job.id)}")
        for path in self._daemon.state_dir.glob("users/*/out/*"):
            shutil.rmtree(path)

    def _look_at_purges(self, jobs: list[Told]) -> list[Told]:
        """What was purged stays so, what may have been is there as a whole or not at all, and all else is there. Those
        that are gone now.
        """
        line = Line(self._context, self._daemon)
        some = [job for job in jobs if job.purge == "may be"]
        if some:
            wait_until(lambda: sum(self._is_there(line, job) for job in some) <= KEPT, "a purge", _SETTLE_S)
        gone = []
        for job in jobs:
            there = self._is_there(line, job)
            if job.purge == "asked":
                count = line.ask(wire.Purge(id=job.id)).count
                if count != there:
                    self._object("purged", job.id, f"it was there: {there}; its purge counted {count}")
                there = self._is_there(line, job)
            if there != (not job.purge or [job] == some[-1:]):
                self._object("purged", job.id, f"its purge was {job.purge or 'not asked for'}; it is there: {there}")
            if not there:
                gone.append(job)
        line.close()
        return gone

    def _is_there(self, line: Line, job: Told) -> bool:
        """Whether it is, which is then the whole of it."""
        try:
            seen = line.ask(wire.Get(id=job.id)).job
        except NotFound:
            return False
        if seen.state != "completed":
            return True
        reply = line.ask(wire.Result(id=job.id))
        if reply.result != RESULT or len(reply.files) != len(_OUTPUTS):
            self._object("half", job.id, f"its result is {reply}")
        folder = self._daemon.state_dir / "jobs" / job.id
        wanted = [f"{seen.attempt}/log", f"{seen.attempt}/outcome.json"] + [
            f"input/{name}" for name in job.submit.inputs
        ]
        missing = [name for name in wanted if not (folder / name).exists()]
        if missing:
            self._object("half", job.id, f"it is there without {missing}")
        return True

    def _look_at_slots(self) -> None:
        line = Line(self._context, self._daemon)
        pong = line.ask(wire.Ping())
        line.close()
        if pong.running or pong.queued:
            self._object("slots", "", f"{pong.running} run and {pong.queued} are queued when all is over")

    def _look_at_directories(self, gone: list[Told]) -> None:
        """Nothing is left of attempts: run directories, staging, cgroups (but spare processes have theirs); and of jobs
        that were purged. The daemon deletes in its own time.
        """
        state = self._daemon.state_dir
        parent = find_cgroup() if self.report.tree == "cgroup" else None

        def left() -> list[str]:
            found = list((self._daemon.runtime_dir / "jobs").iterdir())
            found += [path for name in ("staging", "work/*", "tmp") for path in state.glob(f"jobs/*/*/{name}")]
            found += [path for path in (state / "jobs" / job.id for job in gone) if path.exists()]
            if parent is not None and (parent / daemons_group(state)).exists():
                groups = [path for path in (parent / daemons_group(state)).iterdir() if path.is_dir()]
                found += [path for path in groups if not _is_spare(int(path.name.partition(".")[0]))]
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
        path = beats.get((int(pid), int(start)))
        if path is None:
            continue  # it was killed before its first beat
        data = path.read_bytes()
        times = [one[0] for one in BEAT.iter_unpack(data[: len(data) // BEAT.size * BEAT.size])]
        yield times[0], times[-1], attempt


def _is_zygote(pid: int) -> bool:
    try:
        return alive(pid) and b"annul.runtime.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_spare(pid: int) -> bool:
    """Whether it has not been told what to run; it has a cgroup already."""
    try:
        return alive(pid) and Path(f"/proc/{pid}/comm").read_text().strip() == "annul-spare"
    except OSError:
        return False


def _is_held(pid: int) -> bool:
    """Whether a process is stopped, or is none any more."""
    one = process(pid)
    return one is None or not one.alive or one.state == "T"


def _zygotes(daemon: int) -> list[int]:
    try:
        children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    except OSError:
        return []
    return [int(pid) for pid in children if _is_zygote(int(pid))]


def _daemons(state_dir: Path) -> list[int]:
    """Those that serve a state directory, by what /proc shows of them."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and os.fsencode(state_dir) in words and alive(pid):
            found.append(pid)
    return found
