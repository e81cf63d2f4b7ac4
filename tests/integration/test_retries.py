"""Failures that may pass are tried again; and how long a job may take to start."""

from __future__ import annotations

from pathlib import Path

from annul_client import CancelOutcome, Client, Stage, State
from harness import started, wait_until


def test_a_failure_that_may_pass_is_tried_again(client: Client) -> None:
    """Until it succeeds; the job is one, and its attempts are counted."""
    job = client.wait(client.submit("shaky").id, 20)
    assert (job.state, job.result, job.attempt, job.error) == (State.COMPLETED, 3, 3, None)
    kinds = [event.kind for event in client.events(since=0, job_id=job.id)]
    assert kinds.count("queued") == 3
    assert kinds[-1] == "completed"


def test_it_is_tried_as_often_as_its_type_says(client: Client, tmp_path: Path) -> None:
    """Then it has failed, with the last error."""
    job = client.wait(client.submit("hopeless", {"mark": str(tmp_path / "mark")}).id, 20)
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("never", "attempt 3")
    assert (tmp_path / "mark").read_text() == "attempt 1\nattempt 2\nattempt 3\n"


def test_a_failure_for_good_is_not_tried_again(client: Client, tmp_path: Path) -> None:
    """Whatever its type says of retries."""
    job = client.wait(client.submit("wrong", {"mark": str(tmp_path / "mark")}).id, 20)
    assert (job.state, job.attempt) == (State.FAILED, 1)


def test_a_job_that_waits_for_its_retry_is_queued_and_can_be_cancelled(client: Client) -> None:
    """It says why it waits and until when; once cancelled it is never tried again."""
    job = client.submit("retried-later")
    wait_until(lambda: client.get(job.id).error is not None, "the first attempt to fail")
    job = client.get(job.id)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    assert job.error is not None
    assert job.error.code == "later"
    assert job.not_before is not None
    assert 1700 < (job.not_before - job.created_at).total_seconds() < 3700
    assert client.cancel(job.id).outcome is CancelOutcome.CANCELLED_BEFORE_START
    assert client.get(job.id).state is State.CANCELLED


def test_a_cancelled_job_is_not_tried_again(client: Client, tmp_path: Path) -> None:
    """Neither one whose time is up: only failures are."""
    job = started(client, "insistent", "beating", {"mark": str(tmp_path / "beat")})
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert (job.state, job.attempt) == (State.CANCELLED, 1)
    job = client.wait(client.submit("insistent", {"mark": str(tmp_path / "beat")}, timeout_s=0.3).id, 20)
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.code == "timeout"


def test_a_job_that_takes_too_long_to_start_fails(client: Client) -> None:
    """Before its first line, so nothing of it ran; the code tells this time-out from the other."""
    job = client.wait(client.submit("slow-start").id, 20)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == "start_timeout"
    assert job.cancel is not None
    assert (job.cancel.kind, job.cancel.stage) == ("timeout", Stage.BEFORE_START)
