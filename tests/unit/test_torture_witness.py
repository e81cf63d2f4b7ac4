"""The witness of the race bench can fail: forged evidence, and real processes that misbehave, are reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from harness import TESTS, wait_until
from torture import decoys
from torture.grid import Trial, deal
from torture.judge import Account, Ask, judge
from torture.shapes import SHELL_BEAT
from torture.witness import (
    Beats,
    Evidence,
    SeenCancel,
    SeenEvent,
    SeenJob,
    Survivor,
    Witness,
    alive_of,
    marked,
    sizes_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_NS = round(NOW.timestamp() * 1e9)
TRIAL = Trial(0, "syscall", "id", "none", False, False, 30.0, 0.0, False)
RECORD = SeenCancel(
    kind="cancel",
    by="trial-0",
    reason="",
    grace_s=30.0,
    asked_at=NOW,
    flag_s=0.001,
    sigterm_s=0.001,
    noticed_s=0.002,
    gone_s=0.003,
    stage="sigterm",
)
ASK = Ask(sent_ns=0, by="trial-0", grace_s=30.0, jobs=["a"], accepted=["a"], outcome="cancelling", state="cancelling")


class Case:
    """A small run that went well: job a was cancelled, job b, which nobody cancelled, completed."""

    def __init__(self) -> None:
        self.evidence = Evidence(
            log=[
                *(_event(n + 1, n + 1, "a", state) for n, state in enumerate(("queued", "starting", "running"))),
                _event(4, 1, "b", "queued"),
                _event(5, 4, "a", "cancelling"),
                _event(6, 5, "a", "cancelled", cancel=RECORD),
                *(_event(n + 7, n + 2, "b", state) for n, state in enumerate(("starting", "running"))),
                _event(9, 4, "b", "completed", files=["/users/u/out/b"]),
            ],
            sizes={"a": {"7.1.ns": 8}},
            beats={"a": {"7.1.ns": Beats(8, NOW_NS - 1_000_000)}},
            outputs=["b"],
            crowd=1,
            hits={"a decoy": []},
        )
        self.evidence.told = {event.seq: event for event in self.evidence.log}
        self.account = Account(trial=TRIAL, jobs=["a"], asks=[ASK], in_place=True)

    def checks(self) -> set[str]:
        return {one.check for one in judge(self.evidence, [self.account], {"b": "completed"}, max_running=1)}

    def change(self, seq: int, **changes: object) -> None:
        """Another event in the place of one, as it was told and kept."""
        self.evidence.log[seq - 1] = msgspec.structs.replace(self.evidence.log[seq - 1], **changes)
        self.evidence.told[seq] = self.evidence.log[seq - 1]

    def record(self, **changes: object) -> None:
        """Another cancel record."""
        job = self.evidence.log[5].job
        record = msgspec.structs.replace(RECORD, **changes) if changes else None
        self.change(6, job=msgspec.structs.replace(job, cancel=record))

    def ask(self, **changes: object) -> None:
        """Another answer to the cancel."""
        self.account = msgspec.structs.replace(self.account, asks=[msgspec.structs.replace(ASK, **changes)])


def _event(seq: int, job_seq: int, job_id: str, state: str, **more: object) -> SeenEvent:
    return SeenEvent(seq=seq, job_seq=job_seq, at=NOW, kind=state, job=SeenJob(id=job_id, state=state, **more))


def _append(case: Case, event: SeenEvent) -> None:
    case.evidence.log.append(event)
    case.evidence.told[event.seq] = event


FORGERIES: dict[str, tuple[str, Callable[[Case], object]]] = {
    "a process is alive after the final event": (
        "alive",
        lambda case: case.evidence.survivors.append(Survivor("a", 7, "S")),
    ),
    "it beats after the final event": (
        "alive",
        lambda case: case.evidence.beats["a"].update({"7.1.ns": Beats(8, NOW_NS + 1000)}),
    ),
    "its heartbeat grows after the final event": (
        "alive",
        lambda case: case.evidence.beats["a"].update({"7.1.ns": Beats(16, NOW_NS - 1)}),
    ),
    "a process begins to beat after the final event": (
        "alive",
        lambda case: case.evidence.beats["a"].update({"8.1.sh": Beats(2, NOW_NS - 1)}),
    ),
    "a second final event": ("final", lambda case: _append(case, _event(10, 6, "a", "cancelled", cancel=RECORD))),
    "an event after the final one": ("final", lambda case: _append(case, _event(10, 6, "a", "running"))),
    "no final event": ("final", lambda case: case.change(9, job=SeenJob(id="b", state="running"))),
    "a gap in the log": ("gap", lambda case: case.evidence.log.pop(3)),
    "a gap in a job's numbers": ("gap", lambda case: case.change(8, job_seq=7)),
    "an event that is told and not kept": ("gap", lambda case: case.evidence.log.pop()),
    "an event that is told otherwise": (
        "gap",
        lambda case: case.evidence.told.update({6: _event(6, 5, "a", "failed")}),
    ),
    "an accepted cancel, and it completes": (
        "accepted",
        lambda case: case.change(6, job=SeenJob(id="a", state="completed")),
    ),
    "a cancel that hits another's job": ("accepted", lambda case: case.ask(accepted=["a", "b"])),
    "an answer that was not possible": ("answer", lambda case: case.ask(outcome="not_found", accepted=[])),
    "accepted for no job": ("answer", lambda case: case.ask(accepted=[])),
    "already final, in another state": (
        "answer",
        lambda case: case.ask(outcome="already_final", accepted=[], state="completed"),
    ),
    "two slots held": ("slots", lambda case: case.change(4, job=SeenJob(id="b", state="starting"))),
    "two jobs alive at once": ("slots", lambda case: setattr(case.evidence, "crowd", 2)),
    "a slot held at the end": ("slots", lambda case: setattr(case.evidence, "slots", 1)),
    "a signalled decoy": ("decoy", lambda case: case.evidence.hits.update({"a decoy": ["15 from pid 1"]})),
    "a bystander that is cancelled": (
        "bystander",
        lambda case: case.change(9, job=SeenJob(id="b", state="cancelled", cancel=RECORD)),
    ),
    "an output of a cancelled job": ("outputs", lambda case: case.evidence.outputs.append("a")),
    "a completed job without its output": ("outputs", lambda case: case.evidence.outputs.clear()),
    "an output that comes late": ("outputs", lambda case: case.evidence.unpublished.append("/users/u/out/b")),
    "staging left behind": ("outputs", lambda case: case.evidence.staged.append("jobs/a/1/staging")),
    "a process left at the end": ("left", lambda case: case.evidence.left.append("pid 7")),
    "a job's process left while the daemon ran": ("left", lambda case: case.evidence.holders.append("pid 7")),
    "a cgroup left at the end": ("left", lambda case: case.evidence.cgroups.append("annul-x/a.1")),
    "no cancel record": ("record", lambda case: case.record()),
    "a record of somebody else's": ("record", lambda case: case.record(by="mallory")),
    "a record that is not complete": ("record", lambda case: case.record(gone_s=None)),
    "a record out of order": ("record", lambda case: case.record(flag_s=0.002)),
    "a record without a flag": ("record", lambda case: case.record(flag_s=None)),
    "a record whose stage is another": ("record", lambda case: case.record(stage="sigkill")),
    "killed before its grace was over": (
        "record",
        lambda case: case.record(stage="sigkill", sigkill_s=0.002),
    ),
    "killed though it would have ended": (
        "stage",
        lambda case: case.record(stage="sigkill", sigkill_s=30.0, gone_s=30.1),
    ),
    "a job that nobody submitted": ("trial", lambda case: _append(case, _event(10, 1, "c", "failed"))),
    "a trial that could not be carried through": (
        "trial",
        lambda case: setattr(case, "account", msgspec.structs.replace(case.account, trouble="no answer")),
    ),
}


def test_a_run_that_went_well_has_no_violation() -> None:
    """The judge finds nothing where nothing is."""
    assert Case().checks() == set()


@pytest.mark.parametrize("name", FORGERIES)
def test_a_broken_promise_is_reported(name: str) -> None:
    """Each check finds what it is there for."""
    check, forge = FORGERIES[name]
    case = Case()
    forge(case)
    assert check in case.checks()


def test_the_same_seed_deals_the_same() -> None:
    """A seed names its trials."""
    assert deal(3, 300) == deal(3, 300)
    assert deal(3, 300) != deal(4, 300)


@pytest.fixture
def survivor(short_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that beats for job a, and does not end."""
    folder = short_dir / "beats" / "a"
    folder.mkdir(parents=True)
    process = subprocess.Popen(["sh", "-c", SHELL_BEAT, "sh", str(folder)], start_new_session=True)
    wait_until(lambda: list(folder.iterdir()), "its first beat")
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_witness_sees_who_survives(survivor: subprocess.Popen[bytes], short_dir: Path) -> None:
    """A process of a job that is alive when its final event comes is noted, also later; so is how far it has beaten."""
    witness = Witness(short_dir / "beats", short_dir / "state", daemon=0)
    witness._since = 0  # it began before this witness did
    witness.saw(_event(1, 1, "a", "cancelled", cancel=RECORD), now_ns=0)
    first = [one.pid for one in witness.evidence.survivors]
    assert first == [survivor.pid] == [one.pid for one in alive_of("a", short_dir / "beats" / "a")]
    wait_until(
        lambda: sizes_of(short_dir / "beats" / "a") != witness.evidence.sizes["a"],
        "it to beat on",
    )
    witness.scan()
    assert survivor.pid in [one.pid for one in witness.evidence.survivors][1:]
    assert witness.evidence.crowd == 1


def test_what_is_left_is_found_by_any_trace(survivor: subprocess.Popen[bytes], short_dir: Path) -> None:
    """A process is found by a file of the run's that it holds open, though its environment says nothing."""
    orphan = subprocess.Popen(["sleep", "60"], cwd=short_dir, env={}, start_new_session=True)
    try:
        found = marked(short_dir, but=set())
        assert {int(one.split()[1].rstrip(":")) for one in found} >= {survivor.pid, orphan.pid}
        assert not [one for one in marked(short_dir, but={survivor.pid, orphan.pid}) if f"pid {orphan.pid}:" in one]
    finally:
        orphan.kill()
        orphan.wait()


def test_decoys_tell_what_hits_them(short_dir: Path) -> None:
    """A signal that is caught, a stop and a kill: each is told."""
    found = decoys.start(short_dir)
    try:
        assert [decoy.hit() for decoy in found] == [[], [], [], []]
        found[0].process.send_signal(signal.SIGTERM)
        found[1].process.send_signal(signal.SIGSTOP)
        found[2].process.kill()
        wait_until(lambda: all(decoy.hit() for decoy in found[:3]), "three of them to be hit")
        assert found[0].hit() == [f"{int(signal.SIGTERM)} from pid {os.getpid()}"]
        assert found[1].hit() == ["stopped"]
        assert found[2].hit() == [f"ended: {-signal.SIGKILL}"]
        assert found[3].hit() == []
    finally:
        for decoy in found:
            decoy.end()


def test_the_witness_runs_without_the_daemons_code() -> None:
    """It imports neither the daemon nor its client."""
    code = "import torture.witness, sys; print([name for name in sys.modules if name.startswith('annul')])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"
