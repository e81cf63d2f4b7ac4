"""Admission where the store fails at the wrong moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from annul import starting
from annul.errors import StoreError
from annul_client.wire import State
from desk import Desk


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
