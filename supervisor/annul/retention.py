"""Which finished jobs are kept no longer: each user's beyond `keep_jobs`, and all that ended `keep_days` ago.

A step finds a few of the oldest by an index and has the ledger delete them with the next turn's commit, which is made
for requests too: nobody waits for a purge. What was published stays the user's, and the event log has its own limit.

Owned by the loop thread.
"""

from __future__ import annotations

from collections.abc import Callable

from annul.clock import Clock
from annul.errors import StoreError
from annul.ledger import Ledger
from annul.store import Store

_STEP = 50  # jobs
_RETRY_S = 1.0  # after the store has refused
_DAY_S = 86_400.0


class Retention:
    """Finds what to purge, and purges; also what somebody asks to be purged."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        *,
        keep_jobs: int,
        keep_days: float,
        deleted: Callable[[str], None],
    ) -> None:
        """`keep_jobs`, `keep_days`: 0 for no limit. `deleted`: called with each job's id once its row is gone."""
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._deleted = deleted
        self._over: dict[str, None] = {}  # users who may have too many
        self._finished: dict[str, int] = {}  # how many a user has, where that was counted
        self._under_way = 0  # jobs that the next commit deletes
        self._retry_at: float | None = None
        self.keep(keep_jobs, keep_days)

    def keep(self, jobs: int, days: float) -> None:
        """From now on; 0 for no limit. All users are looked at again."""
        self._keep_jobs = jobs
        self._keep_s = days * _DAY_S
        self._user: str | None = "" if jobs else None  # those after it in the alphabet are still to be looked at
        self._too_old_at: float | None = 0.0 if days else None  # unix seconds; when the oldest one is
        if not jobs:
            self._over.clear()  # nobody has too many any more

    def note_finished(self, user: str) -> None:
        """One of this user's jobs has become final, and that is durable."""
        if self._keep_s and self._too_old_at is None:
            self._too_old_at = self._clock.wall() + self._keep_s
        if user in self._finished:
            self._finished[user] += 1
        if self._keep_jobs and self._finished.get(user, self._keep_jobs + 1) > self._keep_jobs:
            self._over[user] = None

    def next_due(self) -> float | None:
        """Monotonic seconds at which there is something to look at; None: not before a job ends."""
        now = self._clock.monotonic()
        if self._retry_at is not None:
            return self._retry_at
        if self._over or self._user is not None:
            return now
        return None if self._too_old_at is None else now + max(0.0, self._too_old_at - self._clock.wall())

    def step(self) -> None:
        """Find some more that are to go, if it is time."""
        due = self.next_due()
        if self._under_way or due is None or due > self._clock.monotonic():
            return
        self._retry_at = None
        try:
            self._find()
        except StoreError:
            self._retry_at = self._clock.monotonic() + _RETRY_S

    def purge(
        self, job_id: str, user: str, *, then: Callable[[bool], None], refused: Callable[[StoreError], None]
    ) -> None:
        """Delete a final job with this turn's commit, or one soon. `then`: with whether it was still there."""

        def gone(was_there: bool) -> None:
            if was_there:
                self._deleted(job_id)
                if user in self._finished:
                    self._finished[user] -= 1
            then(was_there)

        self._ledger.purge(job_id, then=gone, refused=refused)

    def _find(self) -> None:
        if self._too_old_at is not None and self._too_old_at <= self._clock.wall():
            self._find_too_old()
        elif self._over:
            self._find_too_many(next(iter(self._over)))
        elif self._user is not None:
            self._user = self._store.next_user(self._user)
            if self._user is not None:
                self._over[self._user] = None

    def _find_too_old(self) -> None:
        until = self._clock.wall() - self._keep_s
        found = self._store.oldest_finished(None, _STEP)
        self._discard([(job_id, user) for job_id, user, at in found if at <= until])
        young = [at for _, _, at in found if at > until]
        if young:
            self._too_old_at = young[0] + self._keep_s
        elif len(found) < _STEP:
            self._too_old_at = None

    def _find_too_many(self, user: str) -> None:
        count = self._finished.get(user)
        if count is None:
            most = self._keep_jobs + _STEP
            count = self._store.count_finished(user, most)
            if count < most:
                self._finished[user] = count
        more = min(count - self._keep_jobs, _STEP)
        found = self._store.oldest_finished(user, more) if more > 0 else []
        if not found:
            del self._over[user]
        self._discard([(job_id, user) for job_id, user, _ in found])

    def _discard(self, jobs: list[tuple[str, str]]) -> None:
        for job_id, user in jobs:
            self._under_way += 1
            self.purge(job_id, user, then=self._done, refused=self._refused)

    def _done(self, was_there: bool) -> None:  # noqa: ARG002 - somebody else may have been faster
        self._under_way -= 1

    def _refused(self, error: StoreError) -> None:  # noqa: ARG002 - the ledger has logged it
        self._under_way -= 1
        self._retry_at = self._clock.monotonic() + _RETRY_S
        if self._keep_s:
            self._too_old_at = 0.0
