"""Which jobs are shown, in which order, and which of them is selected. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from annul_client import wire
from annul_client.sync import Client

FINISHED = 50
"""Finished jobs that are shown, the latest."""

LOADED = 1000
"""Jobs of each live state that are asked for at the beginning; others come with their next event."""

_RANK = {wire.State.CANCELLING: 0, wire.State.RUNNING: 1, wire.State.STARTING: 1, wire.State.QUEUED: 2}


class Watched:
    """The jobs of one user and type, or of all. Owned by the main thread."""

    def __init__(self, user: str | None = None, type_name: str | None = None) -> None:
        self._chosen: str | None = None  # the id of the job that somebody went to; None: whichever is on top
        self._user = user
        self._type = type_name
        self._jobs: dict[str, wire.Job] = {}
        self._order: list[wire.Job] | None = None  # None: to be sorted again

    def replace(self, jobs: Iterable[wire.Job]) -> None:
        """These, and no others."""
        self._jobs.clear()
        for job in jobs:
            self.put(job)
        self._order = None

    def put(self, job: wire.Job) -> None:
        """What an event tells of a job."""
        if self._user in (None, job.user) and self._type in (None, job.type):
            self._jobs[job.id] = job
            self._order = None

    def all(self) -> list[wire.Job]:
        """Those that are being stopped first, then those that run, those that wait, and the latest to end."""
        if self._order is None:
            live = sorted(
                (job for job in self._jobs.values() if not job.state.final),
                key=lambda job: (_RANK[job.state], job.created_at, job.id),
            )
            over = sorted(
                (job for job in self._jobs.values() if job.state.final),
                key=lambda job: (job.finished_at or job.created_at, job.id),
                reverse=True,
            )
            for job in over[FINISHED:]:
                del self._jobs[job.id]
            self._order = live + over[:FINISHED]
        return self._order

    def selected(self) -> wire.Job | None:
        """The one that keys are for; None where there are none at all."""
        order = self.all()
        return order[self.row()] if order else None

    def move(self, by: int) -> None:
        """Select the job that many rows further down."""
        order = self.all()
        if order:
            row = max(0, min(len(order) - 1, self.row() + by))
            self._chosen = order[row].id if row else None

    def row(self) -> int:
        """Where the selected job stands."""
        return next((at for at, job in enumerate(self.all()) if job.id == self._chosen), 0)

    def counts(self) -> Counter[wire.State]:
        return Counter(job.state for job in self.all())


def snapshot(client: Client, user: str | None, type_name: str | None) -> tuple[int, list[wire.Job]]:
    """The jobs as they are, and the number of an event after which all news of them come. Raises as `Client.list`."""
    since = client.last_event()
    found = {job.id: job for job in client.list(user, None, type_name, FINISHED)}
    for state in _RANK:  # the queued last: one that starts meanwhile is seen with the event, if not here
        found |= {job.id: job for job in client.list(user, state, type_name, LOADED)}
    return since, list(found.values())
