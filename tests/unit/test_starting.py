"""Admission and launches where something fails at the wrong moment."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

from annul import ending, proc, starting
from annul.catalog import stand_in
from annul.errors import StoreError
from annul_client.wire import State
from desk import Desk
from harness import alive, no_descriptors, wait_until


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


# --- no room for it ---------------------------------------------------------------------------------------------


@pytest.fixture
def full(desk: Desk) -> Callable[..., AbstractContextManager[object]]:
    """Makes the next boards fail, of a type with so many retries. Only "j2" is in the queue."""
    desk.registry.queue.remove("j1")

    @contextmanager
    def fail_with(number: int, *, retries: int = 0) -> Iterator[None]:
        known = stand_in("t")
        known = msgspec.structs.replace(known, type=msgspec.structs.replace(known.type, retries=retries))
        desk.supervision.catalog.known["t"] = known

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "posix_fallocate", fail)
            yield

    return fail_with


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_a_job_keeps_its_place_where_there_is_no_room_now(
    desk: Desk, full: Callable[..., AbstractContextManager[object]], number: int
) -> None:
    """It is tried again, ever less often, leaves nothing behind meanwhile, and starts when there is room."""
    jobs = desk.config.runtime_dir / "jobs"
    gaps = []
    with full(number):
        for _ in range(7):
            starting.admit(desk.supervision)
            desk.commit()
            assert desk.job("j2").state is State.QUEUED
            assert "j2" in desk.registry.queue
            assert list(jobs.glob("j2*")) == []
            assert desk.registry.admit_at is not None
            gaps.append(round(desk.registry.admit_at - desk.now, 3))
            desk.now = desk.registry.admit_at
    assert gaps == [0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0]
    desk.now -= 0.01
    starting.admit(desk.supervision)
    assert "j2" in desk.registry.queue
    desk.now += 0.01
    starting.admit(desk.supervision)
    assert (list(desk.registry.active), desk.registry.admit_at) == (["j2"], None)


def test_a_job_that_cannot_be_prepared_fails_by_the_retries_of_its_type(
    desk: Desk, full: Callable[..., AbstractContextManager[object]]
) -> None:
    """Where waiting for room would not help."""
    with full(errno.EIO, retries=1):
        starting.admit(desk.supervision)
        desk.commit()
        assert (desk.job("j2").state, desk.job("j2").failures) == (State.QUEUED, 1)
        later = desk.registry.next_later()
        assert later is not None
        desk.now = later
        starting.line_up_due(desk.supervision)
        starting.admit(desk.supervision)
        desk.commit()
    error = desk.job("j2").error
    assert error is not None
    assert (desk.job("j2").state, error.code) == (State.FAILED, "launch_failed")


# --- looks that fail --------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Desk]:
    """With a real tree."""
    made = Desk(tmp_path)
    made.active.tree = made.supervision.tree(made.active.name, made.active.run_dir / "board")
    own = proc.stat(made.process.pid)
    assert own is not None
    made.active.board.set_process(own.pid, own.start_time)
    yield made
    made.close()


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
        patch.setattr(proc, "children", fail)
        running.cancel(grace_s=60.0)
        assert running.active.ladder is not None
        assert running.active.ladder.flag is None
        assert running.active.board.flag
    running.wait(1.1)
    assert running.active.ladder.sigterm is not None


def test_few_survivors_of_a_job_are_watched_at_once(running: Desk) -> None:
    """A job that leaves hundreds behind must not use up the daemon's descriptors; when some end, others are watched."""
    active = running.active
    many = [subprocess.Popen(["sleep", "1000"]) for _ in range(40)]
    try:
        active.watch([one.pid for one in many])
        first = set(active.members)
        assert 0 < len(first) <= 16
        active.watch([one.pid for one in many if one.pid not in first])
        assert len(active.members) == len(first)
        assert first.isdisjoint(active.members)
    finally:
        for one in many:
            one.kill()
            one.wait()


def test_a_process_that_does_not_begin_is_replaced(tmp_path: Path) -> None:
    """One that was stopped while it waited, say: it has its job, and will never run it."""
    other = Desk(tmp_path)
    active = other.active
    active.register_by = other.now + 10.0
    other.wait(9.9)
    assert (active.over, alive(other.process.pid)) == (False, True)
    other.wait(0.2)
    wait_until(lambda: not alive(other.process.pid), "the process to be gone")
    assert active.over
    assert other.job().state is State.QUEUED
    assert "j1" in other.registry.queue
    assert not active.run_dir.exists()
    other.close()
