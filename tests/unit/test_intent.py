"""Where the store takes no writes, the board holds an accepted cancel, until the store takes them again (C1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from annul import stopping
from annul.board import Board
from annul.lifecycle import Event, StopKind, Verdict
from annul.runtime import outcome
from annul.runtime.outcome import Outcome
from annul_client.wire import Stage, State
from desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def on_board(desk: Desk) -> str | None:
    """What the next daemon would find."""
    board = Board.open(desk.active.run_dir / "board")
    try:
        found = board.cancel()
    finally:
        board.close()
    return found[0].kind if found else None


def test_a_job_that_completes_in_the_turn_of_its_cancel_leaves_the_cancel_on_its_board(desk: Desk) -> None:
    """Else a daemon that dies before the store takes writes again would leave a `completed` job to the next one."""
    desk.active.attempt_dir.mkdir(parents=True)
    outcome.write(str(desk.active.attempt_dir), Outcome(verdict=Verdict.COMPLETED))
    with desk.locked():
        stopping.begin(desk.supervision, desk.active, Event.CANCEL, StopKind.CANCEL, reason="", by="")
        desk.process.kill()
        desk.process.wait()
        desk.kernel.pids.clear()
        desk.give_in()
        desk.commit()
        assert desk.active.over
        assert desk.job().state is State.RUNNING
        assert on_board(desk) == "cancel"
    desk.commit()
    job = desk.job()
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.late_result
    assert not desk.active.run_dir.exists()


def test_a_cancel_that_the_store_refuses_is_on_the_board_before_it_is_answered(desk: Desk) -> None:
    """Else a daemon that is killed right after its answer would have promised what the next one knows nothing of."""
    answered: list[str | None] = []
    with desk.locked():
        stopping.begin(desk.supervision, desk.active, Event.CANCEL, StopKind.CANCEL, reason="", by="")
        desk.supervision.ledger.afterwards(lambda: answered.append(on_board(desk)))
        desk.commit()
    assert answered == ["cancel"]


def test_a_launch_withdrawn_by_a_cancel_leaves_the_cancel_on_its_board(desk: Desk) -> None:
    """Else the next daemon would start the job anew."""
    active = desk.active
    assert active.pidfd is not None
    os.close(active.pidfd)
    active.pid = active.pidfd = None  # it waits for a process
    desk.supervision.launcher.withdraw = lambda name: name == active.name  # type: ignore[method-assign]
    desk.kernel.pids.clear()
    with desk.locked():
        desk.cancel(grace_s=0)
        assert active.over
        assert desk.job().state is State.RUNNING
        assert on_board(desk) == "cancel"
    desk.commit()
    job = desk.job()
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is not Stage.SIGKILL
    assert not active.run_dir.exists()
