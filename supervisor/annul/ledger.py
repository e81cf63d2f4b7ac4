"""What a turn of the loop writes: collected, committed once, and only then told.

A change is either a *request* (it has `refused`: where the store does not take it, it never happened) or a *fact*
(a process is gone, a cancel was accepted: it stays true whatever the store says, and is written when the store takes
writes again). Facts that wait keep their order.

Owned by the loop thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime

import msgspec

from annul.errors import StoreConflictError, StoreError
from annul.store import JobRecord, Store
from annul.store.record import view
from annul_client.wire import ErrorInfo, Event, Job, State

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_TRIM_EVERY = 1000  # events
_PURGE_S = 0.005  # in each turn, for deleting jobs


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One job's new facts."""

    record: JobRecord
    kind: str | None  # of the event it makes; None: none
    pid: int | None = None
    insert: bool = False
    extra: Callable[[Store], None] | None = None  # further writes of the same transaction
    first: Callable[[], None] | None = None  # what is to be done before anybody is told anything
    then: Callable[[JobRecord], None] | None = None  # with what was written, once it is durable, before it is told
    told: Callable[[Job], None] | None = None  # with the job as its event tells it, at the same moment
    refused: Callable[[StoreError], None] | None = None


class Purge(msgspec.Struct, frozen=True):
    """A final job that is to be deleted; always a request."""

    job_id: str
    then: Callable[[bool], None]  # once that is durable; with whether there was such a job
    refused: Callable[[StoreError], None]


class Ledger:
    """The store as the loop uses it."""

    def __init__(
        self, store: Store, *, outputs_dir: str, keep_events: int, tell: Callable[[Event, bytes], None]
    ) -> None:
        self._store = store
        self._outputs = outputs_dir
        self._keep = keep_events
        self._tell = tell
        self.oldest_event, self.last_event = store.event_bounds()
        self._seq = store.last_job()
        self._changes: list[Change] = []
        self._purges: list[Purge] = []
        self._afterwards: list[Callable[[], None]] = []
        self._overlay: dict[str, JobRecord] = {}  # newest facts of jobs with changes not yet committed
        self._keys: dict[tuple[str, str], str] = {}
        self._requests: dict[str, str] = {}
        self._counts: dict[str, int] = {}  # events so far of jobs that live and have changed
        self._failures = 0
        self.retry_at: float | None = None  # monotonic; None: nothing waits to be written again

    def keep(self, events: int) -> None:
        """From now on that many of the newest; those beyond go with the next ones."""
        self._keep = events

    # --- reading ------------------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """The number of the next job submitted."""
        self._seq += 1
        return self._seq

    def newest(self, job_id: str) -> JobRecord | None:
        """A job's facts as they are, committed or not. Raises StoreError."""
        return self._overlay.get(job_id) or self._store.job(job_id)

    def by_key(self, user: str, key: str) -> JobRecord | None:
        waiting = self._keys.get((user, key))
        return self._overlay[waiting] if waiting else self._store.job_by_key(user, key)

    def by_request(self, request: str, stored: Container[str] | None = None) -> JobRecord | None:
        """`stored`: those that the store knows, where that has been asked for many at once (`requests_below`)."""
        waiting = self._requests.get(request)
        if waiting:
            return self._overlay[waiting]
        return self._store.job_by_request(request) if stored is None or request in stored else None

    def requests_below(self, name: str) -> set[str]:
        """Request ids ``name/...`` that stand for jobs in the store: one search instead of one for each."""
        return self._store.requests_below(name)

    # --- writing ------------------------------------------------------------------------------------------------

    def change(
        self,
        record: JobRecord,
        kind: str | None,
        *,
        pid: int | None = None,
        insert: bool = False,
        extra: Callable[[Store], None] | None = None,
        first: Callable[[], None] | None = None,
        then: Callable[[JobRecord], None] | None = None,
        told: Callable[[Job], None] | None = None,
        refused: Callable[[StoreError], None] | None = None,
    ) -> JobRecord:
        """Note new facts for this turn's commit; returns them."""
        self._changes.append(
            Change(
                record=record,
                kind=kind,
                pid=pid,
                insert=insert,
                extra=extra,
                first=first,
                then=then,
                told=told,
                refused=refused,
            )
        )
        self._overlay[record.id] = record
        if insert and record.key is not None:
            self._keys[record.user, record.key] = record.id
        if insert and record.request is not None:
            self._requests[record.request] = record.id
        return record

    def purge(self, job_id: str, *, then: Callable[[bool], None], refused: Callable[[StoreError], None]) -> None:
        """Delete a final job with this turn's commit, or one of the next.

        Its events stay: the log of them has no gaps, and a limit of its own.
        """
        self._purges.append(Purge(job_id, then, refused))

    def put_off(self, error: StoreError, now: float) -> None:
        """Come back to a store that could not be used: `retry_at` says when."""
        self.retry_at = now + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        if not self._failures or self._failures % 60 == 0:
            _log.error("%s; %d facts wait to be written", error, len(self._changes), extra={"action": "store"})
        self._failures += 1

    def afterwards(self, act: Callable[[], None]) -> None:
        """Do this after the turn's commit, whether it succeeded or not: reads, and what must not wait for a disk."""
        self._afterwards.append(act)

    def commit(self, now: float, *, unwritten: Callable[[], None] = lambda: None) -> None:
        """End the turn: write, then do what was waiting for it, then tell. Never raises StoreError.

        `unwritten`: called where the store took nothing, before anything is answered.
        """
        changes, self._changes = self._changes, []
        purges, self._purges = self._purges, []
        if changes or purges:
            self._commit(changes, purges, now)
            if self.retry_at is not None:
                unwritten()
        elif self.retry_at is not None and now >= self.retry_at:
            self.retry_at = None  # only requests had been refused; an admission among them has had its second turn
        acts, self._afterwards = self._afterwards, []
        for act in acts:
            act()

    @property
    def waiting(self) -> bool:
        """Whether there is something for `commit` to do."""
        return bool(self._changes or self._purges or self._afterwards)

    def _commit(self, changes: list[Change], purges: list[Purge], now: float) -> None:
        seq, oldest = self.last_event, self.oldest_event
        counts: dict[str, int] = {}
        told: list[tuple[Change, Event | None, bytes]] = []
        events: list[tuple[int, str, bytes]] = []
        conflicts: list[tuple[Change, StoreError]] = []
        try:
            for change in changes:
                event, body = None, b""
                count = counts.get(change.record.id, self._counts.get(change.record.id, change.record.events))
                try:
                    self._write(change, count + 1)
                except StoreConflictError as error:  # this one never will be; the others are not to wait for it
                    conflicts.append((change, error))
                    continue
                if change.kind is not None:
                    seq, counts[change.record.id] = seq + 1, count + 1
                    event = self._event(seq, count + 1, change)
                    body = _encode(event)
                    events.append((seq, change.record.id, body))
                told.append((change, event, body))
            self._store.insert_events(events)
            if seq // _TRIM_EVERY > self.last_event // _TRIM_EVERY:
                self._store.trim_events(seq - self._keep)
                oldest, _ = self._store.event_bounds()
            gone = self._delete(purges)
            self._store.commit()
        except StoreError as error:
            self._store.rollback()
            self._put_back(changes, error, now)
            for purge in purges:
                purge.refused(error)
            return
        if self._failures:
            _log.warning("the store takes writes again", extra={"action": "store"})
        self._failures, self.retry_at = 0, None
        self.last_event, self.oldest_event = seq, oldest or min(seq, 1)
        self._counts.update(counts)
        self._forget_overlay()
        for change, conflict in conflicts:
            self._refuse(change, conflict)
        for change, _, _ in told:
            if change.first is not None:
                change.first()
        for change, event, body in told:
            if change.record.state.final:
                self._counts.pop(change.record.id, None)
            if change.then is not None:
                change.then(change.record)
            if event is not None:
                if change.told is not None:
                    change.told(event.job)
                self._tell(event, body)
        self._purges = purges[len(gone) :] + self._purges
        for purge, was_there in zip(purges, gone, strict=False):
            purge.then(was_there)

    def _delete(self, purges: list[Purge]) -> list[bool]:
        """Delete the first of these, for a bounded time: a job with a big result takes as long as a thousand others."""
        gone: list[bool] = []
        until = time.monotonic() + _PURGE_S
        for purge in purges:
            gone.append(self._store.delete(purge.job_id))
            if time.monotonic() > until:
                break
        return gone

    def _write(self, change: Change, count: int) -> None:
        """All of a change, or, where it contradicts what is stored, nothing of it."""
        if change.extra is None:
            self._write_job(change, count)  # one statement is whole by itself
        else:
            with self._store.whole():
                self._write_job(change, count)
                change.extra(self._store)

    def _write_job(self, change: Change, count: int) -> None:
        if change.insert:
            self._store.insert(change.record.with_(events=count))
        elif change.kind is not None:
            self._store.update(change.record.with_(events=count))

    def _refuse(self, change: Change, error: StoreError) -> None:
        """A change that the store will never take."""
        if change.refused is not None:
            change.refused(error)
            return
        _log.error(
            "a fact of job %s was not written: %s",
            change.record.id,
            error,
            extra={"action": "store", "job_id": change.record.id},
        )
        record = change.record.with_(result=None, files=[], published=True)
        if change.record.result is not None:  # without what may be too big for it, at least how it ended
            info = ErrorInfo(code="result", message=f"its result could not be stored: {error}"[:500])
            self.change(record.with_(state=State.FAILED, error=info), State.FAILED, then=change.then)
        elif change.then is not None:
            change.then(record)  # what it holds is to be freed all the same

    def _forget_overlay(self) -> None:
        self._overlay.clear()
        self._keys.clear()
        self._requests.clear()

    def _put_back(self, changes: list[Change], error: StoreError, now: float) -> None:
        facts = [change for change in changes if change.refused is None]
        self._forget_overlay()
        self._overlay.update((change.record.id, change.record) for change in facts)
        for change in reversed(changes):  # the last first: what a job's admission has done is undone before its submit
            if change.refused is not None:
                change.refused(error)
        # A `refused` may note changes of its own; facts that waited go first.
        self._changes = facts + self._changes
        self.put_off(error, now)  # also where no fact waits: a refused admission is to be tried again

    def _event(self, seq: int, job_seq: int, change: Change) -> Event:
        return Event(
            seq=seq,
            job_seq=job_seq,
            at=datetime.now(UTC),
            kind=change.kind or "",
            job=view(change.record, outputs=self._outputs, pid=change.pid, result=False),
        )
