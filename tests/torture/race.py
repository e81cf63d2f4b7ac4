"""The driver: deals trials, submits, cancels, and gives what it did and what was seen to the judge."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zmq

from annul.runtime.entry import DUMP_SIGNAL
from annul.tree import daemons_group, find_cgroup
from annul_client import wire
from annul_client.core import Call
from annul_client.errors import RequestRefused
from harness import TESTS, TIMEOUT_S, DaemonProcess, alive, wait_until
from openai_server import Exchange, OpenAIServer, hang, trickle
from torture import decoys, shapes
from torture.grid import SOFT_GRACE_S, Trial, deal
from torture.judge import Account, Ask, Violation, judge
from torture.witness import Evidence, SeenEvent, beats_of, marked

_WAITERS = 6  # trials under way beside those that hold a slot: queued ones, and those between two jobs
_BACKGROUND_EVERY = 4  # trials
_START_S = 0.012  # within which a job is popped, forked and reaches its first line
_SETTLE_S = 0.015  # from "it is where it wants to be" to the cancel, at the most
_IMPORT_S = 0.2
_END_S = 0.025  # how long those that end by themselves take
_END_JITTER_S = 0.004  # and by how much the cancel misses that


class Report(msgspec.Struct, kw_only=True):
    """What came of one run."""

    tree: str
    seconds: float
    accounts: list[Account]
    evidence: Evidence
    violations: list[Violation]

    @property
    def finals(self) -> dict[str, SeenEvent]:
        """The final event of each job."""
        return {event.job.id: event for event in self.evidence.log if event.final}


class Line:
    """One connection to the daemon. Owned by one thread."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 5000)
        self._socket.connect(endpoint)
        self._others: list[bytes] = []  # answers to calls that are still to be read

    def send(self, request: wire.Request) -> Call[Any]:
        call = Call(request, wire.REPLY_OF[type(request)])
        self._socket.send(call.frame)
        return call

    def read(self, call: Call[Any]) -> Any:
        """Its answer. Raises RequestRefused."""
        for frame in self._others:
            answer = call.answer(frame)
            if answer is not None:
                self._others.remove(frame)
                return answer
        while self._socket.poll(2 * TIMEOUT_S * 1000):
            frame = self._socket.recv()
            answer = call.answer(frame)
            if answer is not None:
                return answer
            self._others.append(frame)
        raise TimeoutError(f"{call.verb}: no answer")

    def ask(self, request: wire.Request) -> Any:
        """Send and read, again as long as the store is locked: nothing was changed then."""
        request = msgspec.structs.replace(request, rid=secrets.token_hex(8))  # sent twice, it makes one job
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self.read(self.send(request))
            except RequestRefused as error:
                if error.code != "store_unavailable" or time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def close(self) -> None:
        self._socket.close()


class Race:
    """One daemon, one deal of trials."""

    def __init__(self, base: Path, *, tree: str, trials: int, seed: int, max_running: int) -> None:
        self.beats = base / "beats"
        self.beats.mkdir()
        self._base = base
        self._tree = tree
        self._max_running = max_running
        self._daemon = DaemonProcess(
            base,
            *("--jobs", "torture.kinds", "--no-warm", "--log-level", "WARNING"),
            *("--tree", tree, "--max-running", str(max_running)),
        )
        self._context: zmq.Context[Any] = zmq.Context()
        self._trials = deque(deal(seed, trials))
        self.accounts: list[Account] = []
        self._background: dict[str, str] = {}  # job id -> the state that it must end in
        # One at a time: each of these does something to the daemon, or to all jobs of a type.
        self._typed, self._zygote, self._stopping, self._locking = (threading.Lock() for _ in range(4))

    def run(self, tell: Callable[[int, float], None] = lambda done, seconds: None) -> Report:
        """All trials. `tell` is called now and then with how many are done."""
        found = decoys.start(self._base)
        try:
            self._daemon.start()
            with OpenAIServer(_model) as self._openai:
                witness = self._watch()
                seconds = self._run_all(tell)
                slots = self._ask_once(wire.Ping()).running
                assert witness.stdin is not None
                witness.stdin.close()
                assert witness.wait(120) == 0
            evidence = msgspec.msgpack.decode((self._base / "evidence").read_bytes(), type=Evidence)
            assert self._daemon.stop() == 0, self._daemon.said()
            evidence.slots = slots
            evidence.hits = {decoy.name: decoy.hit() for decoy in found}
        finally:
            if self._daemon.process is not None:
                self._daemon.stop()
            for decoy in found:
                decoy.end()
            self._context.destroy(linger=0)
        self._look_around(evidence)
        violations = judge(evidence, self.accounts, self._background, self._max_running)
        return Report(
            tree=self._tree, seconds=seconds, accounts=self.accounts, evidence=evidence, violations=violations
        )

    def _watch(self) -> subprocess.Popen[str]:
        """Start the witness, and have something happen until it sees it."""
        daemon = self._daemon
        assert daemon.process is not None
        pong = self._ask_once(wire.Ping())
        places = [self._base, self.beats, daemon.state_dir, pong.requests, pong.events, daemon.process.pid]
        witness = subprocess.Popen(
            [sys.executable, "-m", "torture.witness", *map(str, places)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )
        assert witness.stdout is not None
        watching = threading.Thread(target=witness.stdout.readline)
        watching.start()
        while watching.is_alive():
            job = self._ask_once(wire.Submit(type="exec", params={"argv": ["true"]})).job
            self._background[job.id] = "completed"
            watching.join(0.1)
        witness.stdout.close()
        return witness

    def _ask_once(self, request: wire.Request) -> Any:
        line = Line(self._context, self._daemon.endpoint)
        try:
            return line.ask(request)
        finally:
            line.close()

    def _run_all(self, tell: Callable[[int, float], None]) -> float:
        start = time.monotonic()
        workers = [threading.Thread(target=self._work) for _ in range(self._max_running + _WAITERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(5)
                tell(len(self.accounts), time.monotonic() - start)
        line = Line(self._context, self._daemon.endpoint)
        for job_id in self._background:
            _wait(line, job_id)
        line.close()
        return time.monotonic() - start

    def _look_around(self, evidence: Evidence) -> None:
        """What is there now that the daemon has stopped."""
        state = self._daemon.state_dir
        for folder in self.beats.iterdir():
            evidence.beats[folder.name] = beats_of(folder)
        evidence.outputs = [path.name for path in state.glob("users/*/out/*")]
        evidence.staged = [
            str(path) for name in ("staging", "work/*", "tmp") for path in state.glob(f"jobs/*/*/{name}")
        ]
        evidence.left = marked(self._base, but={os.getpid()})
        parent = find_cgroup()
        if parent is not None and (parent / daemons_group(state)).exists():
            evidence.cgroups = [str(path) for path in (parent / daemons_group(state)).rglob("*") if path.is_dir()]

    def _work(self) -> None:
        line = Line(self._context, self._daemon.endpoint)
        while True:
            try:
                trial = self._trials.popleft()
            except IndexError:
                break
            if trial.number % _BACKGROUND_EVERY == 0:
                self._add_background(line, trial)
            turn = _Turn(self, trial, line)
            try:
                turn.run()
            except Exception:
                turn.trouble = "\n".join([traceback.format_exc(), *(self._about(line, job_id) for job_id in turn.jobs)])
            self.accounts.append(turn.account())
        line.close()

    def _about(self, line: Line, job_id: str) -> str:
        """What is known of a job that is not where its trial expects it."""
        job = line.ask(wire.Get(id=job_id)).job
        said = [text for text in self._daemon.said().splitlines() if job_id in text]
        files = [*(self.beats / job_id).glob("*"), *self._daemon.state_dir.glob(f"jobs/{job_id}/*/log")]
        kernel = []
        for name in ("status", "wchan", "syscall", "stack") if job.pid else ():
            try:
                kernel.append(f"{name}: {Path(f'/proc/{job.pid}/{name}').read_text()}")
            except OSError as error:
                kernel.append(f"{name}: {error}")
        if job.pid and job.state is wire.State.RUNNING:
            os.kill(job.pid, DUMP_SIGNAL)
            time.sleep(0.5)
        told = [f"{path}: {path.read_bytes()[-4000:]!r}" for path in files if path.is_file()]
        return "\n".join([repr(job), *said, *kernel, *told])

    def _add_background(self, line: Line, trial: Trial) -> None:
        """A job that nobody cancels, beside those that are."""
        ends, state = ("finishing", "completed") if trial.number % (3 * _BACKGROUND_EVERY) else ("failing", "failed")
        params = {"beats": str(self.beats), "behaviour": ends, "shape": trial.shape, "seconds": 0.03}
        job = line.ask(wire.Submit(type="race", params=params, user=f"b{trial.number}")).job
        self._background[job.id] = state

    # --- what trials do to the daemon ---------------------------------------------------------------------------

    @contextmanager
    def alone(self, trial: Trial) -> Any:
        """For trials that would hit others of their kind."""
        if trial.manner == "type":
            with self._typed:
                yield
        elif trial.behaviour == "zygote-importing":
            with self._zygote:
                yield
                self._end_zygote()
        else:
            yield

    def _end_zygote(self) -> None:
        """So that the next job of this profile waits for its import again."""
        assert self._daemon.process is not None
        for pid in _children(self._daemon.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text()
            except OSError:
                continue
            if "annul.runtime.zygote" in command and "torture.slow" in command:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: not alive(pid), "the zygote to end")

    @contextmanager
    def stopped(self, seconds: float) -> Any:
        """The daemon, stopped in the middle of whatever it does, and continued after a while."""
        assert self._daemon.process is not None
        with self._stopping:
            self._daemon.process.send_signal(signal.SIGSTOP)
            try:
                yield
                time.sleep(seconds)
            finally:
                self._daemon.process.send_signal(signal.SIGCONT)

    @contextmanager
    def locked(self, seconds: float) -> Any:
        """The store, locked by another process for a while."""
        with self._locking:
            db = sqlite3.connect(self._daemon.state_dir / "annul.db", timeout=TIMEOUT_S, isolation_level=None)
            try:
                db.execute("BEGIN IMMEDIATE")
                yield
                time.sleep(seconds)
                db.execute("ROLLBACK")
            finally:
                db.close()

    @contextmanager
    def unlocked(self) -> Any:
        """The store, which no trial locks meanwhile."""
        with self._locking:
            yield

    def job(self, trial: Trial) -> wire.Submit:
        """What a trial submits."""
        does = trial.does
        terms = {"user": f"u{trial.number}", "labels": {"trial": str(trial.number)}}
        if trial.terms.type == "exec":
            ends = _END_S if does == "exec-ends" else None
            argv = shapes.command(str(self.beats), trial.shape, stubborn=trial.stubborn, ends_after_s=ends)
            return wire.Submit(type="exec", params={"argv": argv}, **terms)
        later = datetime.now(UTC) + timedelta(hours=1) if trial.behaviour == "queued" else None
        params = {
            "beats": str(self.beats),
            "behaviour": does,
            "shape": trial.shape,
            "exec_": trial.exec_,
            "stubborn": trial.stubborn,
            "seconds": _END_S,
            "base_url": self._openai.base_url,
        }
        type_ = "race-typed" if trial.manner == "type" else trial.terms.type
        return wire.Submit(type=type_, params=params, not_before=later, **terms)

    def line(self) -> Line:
        return Line(self._context, self._daemon.endpoint)


class _Turn:
    """One trial under way."""

    def __init__(self, race: Race, trial: Trial, line: Line) -> None:
        self._race = race
        self._trial = trial
        self._line = line
        self._by = f"trial-{trial.number}"
        self.jobs: list[str] = []
        self._asks: list[Ask] = []
        self._in_place = False
        self.trouble = ""

    def account(self) -> Account:
        return Account(
            trial=self._trial, jobs=self.jobs, asks=self._asks, in_place=self._in_place, trouble=self.trouble
        )

    def run(self) -> None:
        match self._trial.behaviour:
            case "unknown":
                self._ask(wire.Cancel(id="nosuchjob234"))
            case "burst":
                self._burst()
            case "starting" if self._trial.blind and self._trial.manner in ("user", "label"):
                self._blind()
            case _:
                with self._race.alone(self._trial):
                    self._one()

    def _one(self) -> None:
        trial = self._trial
        job_id = self._line.ask(self._race.job(trial)).job.id
        self.jobs.append(job_id)
        self._await_moment(job_id)
        self._cancel(job_id)
        if trial.moment > 0.9 and trial.manner not in ("vanish", "type"):
            self._ask(wire.Cancel(id=job_id, grace_s=trial.grace_s))  # repeatable
        _wait(self._line, job_id)

    def _await_moment(self, job_id: str) -> None:
        trial = self._trial
        match trial.behaviour:
            case "queued":
                self._in_place = True
            case "starting":
                time.sleep(trial.moment * _START_S)
            case "zygote-importing":
                time.sleep(trial.moment * _IMPORT_S)
            case "finished":
                _wait(self._line, job_id)
            case _:
                place = self._race.beats / job_id / shapes.READY
                wait_until(place.exists, f"{trial} to get ready")
                self._in_place = True
                end = place.read_text()
                if end:
                    jitter = (2 * trial.moment - 1) * _END_JITTER_S
                    time.sleep(max(0.0, float(end) + jitter - time.monotonic()))
                else:
                    slow = {"import": _IMPORT_S, "exec-ends": 2 * _END_S}
                    time.sleep(trial.moment * slow.get(trial.behaviour, _SETTLE_S))

    def _cancel(self, job_id: str) -> None:
        trial = self._trial
        by_id = wire.Cancel(id=job_id, grace_s=trial.grace_s)
        match trial.manner:
            case "id" | "kill":
                self._ask(by_id)
            case "user":
                self._ask(wire.Cancel(user=f"u{trial.number}", grace_s=trial.grace_s))
            case "label":
                self._ask(wire.Cancel(label={"trial": str(trial.number)}, grace_s=trial.grace_s))
            case "type":
                self._ask(wire.Cancel(type="race-typed", grace_s=trial.grace_s))
            case "twice":
                self._ask(wire.Cancel(id=job_id, grace_s=SOFT_GRACE_S))
                time.sleep(trial.moment * 0.01)
                self._ask(by_id)
            case "vanish":
                # A locked store refuses the cancel of a queued job, and nobody is there any more to try again.
                with self._race.unlocked():
                    line = self._race.line()
                    self._asks.append(self._sent(by_id))
                    line.send(self._named(by_id))
                    line.close()
                    wait_until(lambda: self._is_accepted(job_id), "the cancel to be accepted")
            case "daemon-stopped":
                self._ask(by_id, self._race.stopped(0.001 + trial.moment * 0.014))
            case "store-locked":
                self._ask(by_id, self._race.locked(0.01 + trial.moment * 0.04))

    def _is_accepted(self, job_id: str) -> bool:
        state = self._line.ask(wire.Get(id=job_id)).job.state
        return bool(state is wire.State.CANCELLING or state.final)

    def _named(self, request: wire.Cancel) -> wire.Cancel:
        return msgspec.structs.replace(request, by=self._by, reason="a trial")

    def _sent(self, request: wire.Cancel) -> Ask:
        """The note of a cancel that is sent now."""
        jobs = self.jobs if request.id is None else [request.id]
        return Ask(sent_ns=time.monotonic_ns(), by=self._by, grace_s=request.grace_s or 0.0, jobs=jobs)

    def _ask(self, request: wire.Cancel, meanwhile: Any = None) -> wire.CancelReply:
        """Cancel, and note what was answered. `meanwhile`: it is sent inside of this."""
        ask = self._sent(request)
        if meanwhile is None:
            return self._note(ask, self._line.ask(self._named(request)))
        with meanwhile:
            call = self._line.send(self._named(request))
        try:
            reply = self._line.read(call)
        except RequestRefused as error:
            if error.code != "store_unavailable":
                raise
            reply = self._line.ask(self._named(request))
        return self._note(ask, reply)

    def _note(self, ask: Ask, reply: wire.CancelReply) -> wire.CancelReply:
        accepted = [job.id for job in reply.jobs]
        if reply.job is not None and reply.outcome is not wire.CancelOutcome.ALREADY_FINAL:
            accepted = [reply.job.id]
        self._asks.append(
            msgspec.structs.replace(
                ask,
                outcome=str(reply.outcome),
                accepted=accepted,
                state=str(reply.job.state) if reply.job else "",
            )
        )
        return reply

    def _blind(self) -> None:
        """Sent at once, on the same connection or another, without knowing the job's id."""
        trial = self._trial
        other = self._race.line()
        target: dict[str, Any] = (
            {"user": f"u{trial.number}"} if trial.manner == "user" else {"label": {"trial": str(trial.number)}}
        )
        request = self._named(wire.Cancel(**target, grace_s=trial.grace_s))
        submit = msgspec.structs.replace(self._race.job(trial), rid=secrets.token_hex(8))
        call = self._line.send(submit)
        time.sleep(trial.moment * _START_S if trial.exec_ else 0)
        ask = self._sent(request)
        cancelling = (other if trial.stubborn else self._line).send(request)
        try:
            job_id = self._line.read(call).job.id
        except RequestRefused as error:
            if error.code != "store_unavailable":
                raise
            job_id = self._line.ask(submit).job.id
        self.jobs.append(job_id)
        ask = msgspec.structs.replace(ask, jobs=[job_id])
        try:
            reply = self._note(ask, (other if trial.stubborn else self._line).read(cancelling))
            missed = reply.outcome is wire.CancelOutcome.NOT_FOUND
        except RequestRefused as error:
            if error.code != "store_unavailable":
                raise
            missed = True
        other.close()
        if missed:  # it came first
            self._ask(wire.Cancel(id=job_id, grace_s=trial.grace_s))
        _wait(self._line, job_id)

    def _burst(self) -> None:
        """Many jobs at once, and all of them cancelled at once."""
        trial = self._trial
        one = self._race.job(trial)
        todo = [msgspec.structs.replace(one, rid=secrets.token_hex(8)) for _ in range(trial.size)]
        while todo:
            batch = todo[: wire.MAX_SUBMIT_MANY]
            reply = self._line.ask(wire.SubmitMany(jobs=batch))
            # Those that a locked store has refused are sent again.
            again = [job for job, found in zip(batch, reply.jobs, strict=True) if found.job is None]
            self.jobs += [found.job.id for found in reply.jobs if found.job is not None]
            todo = again + todo[wire.MAX_SUBMIT_MANY :]
        time.sleep(trial.moment * 2 * _START_S)
        if trial.manner == "id":
            asks = [wire.Cancel(id=job_id, grace_s=trial.grace_s) for job_id in self.jobs]
            calls = [(one, self._sent(one), self._line.send(self._named(one))) for one in asks]
            for request, ask, call in calls:
                try:
                    self._note(ask, self._line.read(call))
                except RequestRefused:
                    self._ask(request)
        else:
            by: dict[str, Any] = (
                {"user": f"u{trial.number}"} if trial.manner == "user" else {"label": {"trial": str(trial.number)}}
            )
            self._ask(wire.Cancel(**by, grace_s=trial.grace_s))
        for job_id in self.jobs:
            _wait(self._line, job_id)


def _wait(line: Line, job_id: str) -> None:
    reply = line.ask(wire.Wait(id=job_id, timeout_s=TIMEOUT_S))
    assert reply.done, f"job {job_id} is {reply.job.state} after {TIMEOUT_S} s: {reply.job.cancel}"


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _model(exchange: Exchange) -> None:
    """A model that never answers, or never stops."""
    (trickle() if exchange.request.body.get("stream") else hang())(exchange)
