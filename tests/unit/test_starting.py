"""Admission and launches where something fails at the wrong moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from annul import ending, proc, starting
from annul.errors import StoreError
from annul_client.wire import State
from desk import Desk
from harness import no_descriptors


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.give_in()  # the slot is free
    yield made
    made.close()


@pytest.fixture
def unreadable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job_id: str) -> None:
        raise StoreError(f"reading from the store: disk I/O error ({job_id})")

    monkeypatch.setattr(desk.store, "job", fail)


def test_a_job_keeps_its_place_where_the_store_cannot_be_read(desk: Desk, unreadable: None) -> None:
    """And there is a time to try again."""
    starting.admit(desk.supervision)
    assert "j2" in desk.registry.queue
    assert desk.ledger.retry_at is not None


def test_a_retry_waits_on_where_the_store_cannot_be_read(
    desk: Desk,
    unreadable: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not forgotten."""
    desk.registry.queue.remove("j2")
    desk.registry.line_up_later("j2", desk.now)
    starting.line_up_due(desk.supervision)
    assert "j2" not in desk.registry.queue
    later = desk.registry.next_later()
    assert later is not None
    monkeypatch.undo()
    desk.now = later
    starting.line_up_due(desk.supervision)
    assert "j2" in desk.registry.queue


def test_a_job_whose_submit_was_refused_is_not_queued(desk: Desk) -> None:
    """Admitted in the same turn, it leaves nothing behind but its refusal."""
    desk.registry.queue.remove("j2")
    refusals: list[StoreError] = []

    def not_stored(error: StoreError) -> None:
        desk.registry.queue.remove("j3")
        refusals.append(error)

    with desk.locked():
        record = desk.record(3, State.QUEUED)
        desk.ledger.change(record, State.QUEUED, insert=True, refused=not_stored)
        starting.enqueue(desk.supervision, record)
        starting.admit(desk.supervision)
        desk.commit()
    assert refusals
    assert len(desk.registry.queue) == 0
    assert not desk.registry.active


# --- looks that fail --------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Desk]:
    """With a real tree."""
    made = Desk(tmp_path)
    made.active.tree = made.supervision.tree(made.active.name, made.active.run_dir / "board", make=True)
    own = proc.stat(made.process.pid)
    assert own is not None
    made.active.board.set_process(own.pid, own.start_time)
    yield made
    made.close()


@pytest.mark.parametrize("told_by", ["zygote", "poll"])
def test_a_launch_that_cannot_be_looked_for_is_looked_for_again(running: Desk, told_by: str) -> None:
    """Its process lives: neither a zygote that is gone nor a lost descriptor may make the job start anew."""
    active = running.active
    assert active.pidfd is not None
    active.pidfd, active.pid = os.close(active.pidfd), None
    with no_descriptors():
        if told_by == "zygote":
            starting.not_launched(running.supervision, active.name, "its zygote died")
        else:
            starting.launched(running.supervision, active.name, running.process.pid, None)
        running.wait(3.0)
    assert (active.over, active.ended, active.pid, active.pidfd) == (False, False, None, None)
    running.wait(2.0)
    assert (active.over, active.ended, active.pid) == (False, False, running.process.pid)
    assert active.pidfd is not None


def test_an_end_is_concluded_only_when_it_could_be_looked_at(running: Desk) -> None:
    """Whoever tells of it; and then it is."""
    active = running.active
    running.end()
    active.status_by = running.now
    with no_descriptors():
        ending.exited(running.supervision, running.process.pid, 9)
        running.wait(3.0)
    assert (active.ended, active.over) == (True, False)
    running.wait(2.0)
    assert active.over
    assert running.job().state is State.FAILED


def test_an_outcome_that_cannot_be_read_now_is_read_later(running: Desk) -> None:
    """That descriptors ran out does not make a failure of a success."""
    active = running.active
    active.tree = running.kernel  # which needs none
    active.attempt_dir.mkdir(parents=True)
    (active.attempt_dir / "outcome.json").write_text('{"verdict":"completed"}')
    running.end()
    with no_descriptors():
        running.supervision.guarded(active, lambda one: ending.look(running.supervision, one))
        assert not active.over
    running.wait(2.0)
    assert running.job().state is State.COMPLETED


def test_a_step_of_the_ladder_that_failed_is_taken_again(running: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGTERM that could not be sent is not taken for sent."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fail)
        running.cancel(grace_s=60.0)
        assert running.active.ladder is not None
        assert running.active.ladder.flag is None
        assert running.active.board.flag
    running.wait(1.1)
    assert running.active.ladder.sigterm is not None
