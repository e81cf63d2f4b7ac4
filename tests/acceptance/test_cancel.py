"""The cancel contract, against the real daemon, witnessed from outside: by /proc and by heartbeats."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annul_client import CancelOutcome, Client, Stage, State
from harness import DaemonProcess, alive, processes_with, started, wait_until


@pytest.fixture(params=["session", "cgroup"])
def client(request: pytest.FixtureRequest, make_daemon: Callable[..., DaemonProcess]) -> Client:
    """A client of a daemon that finds process trees this way."""
    if request.param == "cgroup":
        from annul.tree import find_cgroup

        if find_cgroup() is None:
            pytest.skip("there is no writable cgroup v2 directory for this process")
    daemon = make_daemon("--tree", request.param, "--max-running", "4")
    daemon.start()
    with daemon.client() as found:
        yield found


def test_sleeping_job_is_cancelled_and_gone(client: Client) -> None:
    """A job in a blocking call ends by SIGTERM, within its grace, and its process is gone when `cancelled` shows."""
    job = started(client, "sleepy", "sleeping")
    assert job.pid is not None
    assert alive(job.pid)
    reply = client.cancel(job.id, reason="changed my mind", by="alice")
    assert reply.outcome is CancelOutcome.CANCELLING
    assert reply.job is not None
    assert reply.job.state is State.CANCELLING
    job = client.wait(job.id, 20)
    assert not processes_with(f"ANNUL_MARK={job.id}.")
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert (job.cancel.reason, job.cancel.by, job.cancel.kind) == ("changed my mind", "alice", "cancel")
    assert job.cancel.stage is Stage.SIGTERM
    assert job.cancel.sigkill_s is None
    assert job.cancel.noticed_s is not None
    assert job.cancel.flag_s is not None
    assert job.cancel.gone_s is not None


def test_repeats_are_answered_and_change_nothing(client: Client, tmp_path: Path) -> None:
    """A second cancel is answered `cancelling`, then `already_final`; an unknown id is `not_found`."""
    mark = tmp_path / "enough"
    job = started(client, "tidy-until-told", "working", {"mark": str(mark)})
    assert client.cancel(job.id, reason="first").outcome is CancelOutcome.CANCELLING
    assert client.cancel(job.id, reason="second", grace_s=1000).outcome is CancelOutcome.CANCELLING
    mark.touch()
    job = client.wait(job.id, 20)
    assert job.cancel is not None
    assert job.cancel.reason == "first"
    assert job.cancel.grace_s <= 30
    reply = client.cancel(job.id)
    assert reply.outcome is CancelOutcome.ALREADY_FINAL
    assert reply.job is not None
    assert reply.job.state is State.CANCELLED
    assert client.cancel("nosuchjob").outcome is CancelOutcome.NOT_FOUND


def test_queued_job_never_starts(client: Client) -> None:
    """A cancel of a queued job answers `cancelled_before_start`, and nothing of it ever runs."""
    for _ in range(4):
        started(client, "sleepy", "sleeping")
    job = client.submit("sleepy", {})
    reply = client.cancel(job.id)
    assert reply.outcome is CancelOutcome.CANCELLED_BEFORE_START
    assert reply.job is not None
    assert reply.job.state is State.CANCELLED
    assert reply.job.attempt == 0


def test_stubborn_job_is_killed_at_the_deadline(client: Client, tmp_path: Path) -> None:
    """A job that ignores SIGTERM gets SIGKILL when its grace is over, and its heart stops."""
    mark = tmp_path / "beat"
    job = started(client, "stubborn", "ignoring", {"mark": str(mark)})
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    size = mark.stat().st_size
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert job.cancel.sigkill_s is not None
    assert job.cancel.sigkill_s >= 0.3
    assert "in _beat" in job.cancel.stuck_at  # where it was, by its Python stack
    assert b"in _beat" in client.logs(job.id)
    assert job.pid is None
    assert not processes_with(f"ANNUL_MARK={job.id}.")
    assert mark.stat().st_size == size


def test_grace_may_be_shortened_while_it_runs(client: Client, tmp_path: Path) -> None:
    """A second cancel with grace 0 kills at once a job that is being patient with itself."""
    job = started(client, "tidy", "working", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    client.cancel(job.id, grace_s=0)
    job = client.wait(job.id, 20)
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert not (tmp_path / "mark").exists()


def test_grace_zero_kills_at_once(client: Client, tmp_path: Path) -> None:
    """Grace 0 is SIGKILL without a SIGTERM."""
    job = started(client, "tidy", "working", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id, grace_s=0)
    job = client.wait(job.id, 20)
    assert job.cancel is not None
    assert (job.cancel.stage, job.cancel.sigterm_s) == (Stage.SIGKILL, None)


def test_leftovers_are_not_taken_for_those_of_another_job(client: Client, tmp_path: Path) -> None:
    """What a job leaves behind is its own, also while another's survivors have their grace."""
    patient = started(client, "patient", "working", {"mark": str(tmp_path / "mark")})
    wait_until(Path(tmp_path / "mark.ready").exists, "the child")
    client.cancel(patient.id)
    wait_until(lambda: patient.pid is not None and not alive(patient.pid), "the leader to end")
    job = client.wait(client.submit("abandoner", {"mark": str(tmp_path / "beat")}).id, 20)
    left = processes_with(str(tmp_path / "beat"))
    assert job.state is State.COMPLETED
    assert not left
    patient = client.wait(patient.id, 25)
    assert patient.cancel is not None
    assert patient.cancel.stage is Stage.SIGTERM
    assert (tmp_path / "mark").read_text() == "cleaned up\n"


def test_swallowed_cancel_is_delivered_again(client: Client, tmp_path: Path) -> None:
    """A cancel that code between swallows is raised again until it comes through."""
    job = started(client, "swallower", "waiting 0", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGTERM
    assert (tmp_path / "mark").read_text() == "swallowed 0\nswallowed 1\n"


def test_cleaning_up_is_not_interrupted(client: Client, tmp_path: Path) -> None:
    """While a job cleans up after a cancel, repeated SIGTERMs raise nothing."""
    job = started(client, "tidy", "working", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert (tmp_path / "mark").read_text() == "tidied up\n"


def test_shield_defers_the_cancel(client: Client, tmp_path: Path) -> None:
    """Inside `shield` nothing is raised; on the way out of the outermost one the cancel is."""
    job = started(client, "shielded", "shielded", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert (tmp_path / "mark").read_text() == "inner done\nouter done\n"


def test_async_job_has_its_task_cancelled(client: Client, tmp_path: Path) -> None:
    """An `async def` job gets a CancelledError and cleans up."""
    job = started(client, "asleep", "sleeping", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGTERM
    assert (tmp_path / "mark").read_text() == "cleaned up\n"


def test_flag_mode_sees_why(client: Client, tmp_path: Path) -> None:
    """With interrupt="flag" the job reads who asked and how long it has, and nothing is raised."""
    job = started(client, "flagged", "looking", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id, by="bob")
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert (tmp_path / "mark").read_text() == "cancel by bob, True\n"


def test_listener_runs_on_the_watcher_thread(client: Client, tmp_path: Path) -> None:
    """A listener of the job's signal is called, and not in the signal handler."""
    job = started(client, "listening", "listening", {"mark": str(tmp_path / "mark")})
    client.cancel(job.id)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert (tmp_path / "mark").read_text() == "annul-watcher\n"


def test_exec_finds_the_reason(client: Client, tmp_path: Path) -> None:
    """A command finds reason and asker in $ANNUL_RUN_DIR/cancel.json when SIGTERM arrives."""
    found = tmp_path / "found"
    script = (
        f"trap 'cp $ANNUL_RUN_DIR/cancel.json {found}; exit 0' TERM; touch {found}.ready; while :; do sleep 0.01; done"
    )
    job = client.submit("exec", {"argv": ["sh", "-c", script]})
    wait_until(Path(f"{found}.ready").exists, "the trap")
    client.cancel(job.id, reason="the browser went away", by="web")
    assert client.wait(job.id, 20).state is State.CANCELLED
    text = found.read_text()
    assert '"reason":"the browser went away"' in text
    assert '"by":"web"' in text


def test_late_result_is_evidence_only(client: Client) -> None:
    """A result that comes after an accepted cancel never makes the job `completed`; its output is not published."""
    job = started(client, "late", "waiting")
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.late_result
    assert (job.result, job.files) == (None, [])


def test_timeout_is_the_same_ladder(client: Client) -> None:
    """A job over its time limit is stopped, and `failed` with code `timeout`."""
    job = client.wait(client.submit("sleepy", {}, timeout_s=0.2).id, 20)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == "timeout"
    assert job.cancel is not None
    assert job.cancel.kind == "timeout"
    assert job.cancel.sigkill_s is None


def test_cancel_while_its_zygote_still_imports(client: Client) -> None:
    """A cancel between the start and the job's first line stops it before that line."""
    job = client.submit("slow-import", {})
    reply = client.cancel(job.id)
    assert reply.outcome is CancelOutcome.CANCELLING
    job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.BEFORE_START


def test_a_cancel_that_comes_when_the_job_has_returned_was_not_before_its_start(client: Client) -> None:
    """Nothing of its function is on the stack any more, and it has run all the same."""
    job = started(client, "returned", "waiting")
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert job.cancel is not None
    assert (job.state, job.cancel.stage, job.cancel.sigkill_s) == (State.CANCELLED, Stage.SIGTERM, None)


def test_cancel_by_user_and_label(client: Client) -> None:
    """A cancel by user or label takes all live jobs that match, and no others."""
    mine = [started(client, "sleepy", "sleeping", user="u1", labels={"offer": str(n)}) for n in range(2)]
    other = started(client, "sleepy", "sleeping", user="u2", labels={"offer": "0"})
    reply = client.cancel(user="u1", label={"offer": "1"})
    assert [job.id for job in reply.jobs] == [mine[1].id]
    reply = client.cancel(user="u1")
    assert {job.id for job in reply.jobs} >= {mine[0].id}
    assert all(client.wait(job.id, 20).state is State.CANCELLED for job in mine)
    assert client.get(other.id).state is State.RUNNING


def test_cancel_meets_a_finishing_job(client: Client) -> None:
    """200 cancels within 5 ms of a job's end: an accepted cancel never ends in `completed`, and nothing else does."""
    rng = random.Random(4)
    wrong: list[str] = []
    outcomes: set[tuple[CancelOutcome, State]] = set()
    lock = threading.Lock()

    def race(trials: int) -> None:
        with Client(client.endpoint) as own:
            for _ in range(trials):
                job = own.submit("quick", {"seconds": 0.012})
                offset = 0.012 + rng.uniform(-0.005, 0.005)
                while own.get(job.id).state in (State.QUEUED, State.STARTING):
                    pass
                end = time.monotonic() + offset
                while time.monotonic() < end:
                    pass
                outcome = own.cancel(job.id).outcome
                final = own.wait(job.id, 20)
                published = Path(own.ping().state_dir, "users", "default", "out", f"{job.id}.txt").exists()
                expected = State.COMPLETED if outcome is CancelOutcome.ALREADY_FINAL else State.CANCELLED
                with lock:
                    outcomes.add((outcome, final.state))
                    if final.state is not expected or published is not (expected is State.COMPLETED):
                        wrong.append(f"{job.id}: {outcome}, then {final.state}, published: {published}")

    threads = [threading.Thread(target=race, args=(100,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {(CancelOutcome.CANCELLING, State.CANCELLED), (CancelOutcome.ALREADY_FINAL, State.COMPLETED)} <= outcomes
