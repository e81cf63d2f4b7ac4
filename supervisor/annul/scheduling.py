"""Who starts next: priority, then users in turn, then first in, first out; blocked heads are skipped. Pure.

The queue keeps, for each priority and user, one line per job type: a type at its limit blocks its own line only.
Adding, removing and choosing cost no more with 100,000 waiting than with ten (they grow with the number of
priorities, users and types, not of jobs).

Owned by the loop thread.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterator

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A queued job, as much of it as choosing needs."""

    seq: int  # order of submission
    id: str
    user: str
    type: str
    priority: int
    not_before: float | None  # unix seconds
    paused: bool = False  # it counts as queued, and is not chosen


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs may run at once. None: no such limit."""

    total: int
    per_user: int | None = None
    per_type: dict[str, int] = {}


class Running:
    """How many jobs hold a slot. Owned by the loop thread."""

    def __init__(self) -> None:
        self.total = 0
        self.by_user: Counter[str] = Counter()
        self.by_type: Counter[str] = Counter()

    def add(self, user: str, type_: str) -> None:
        self.total += 1
        self.by_user[user] += 1
        self.by_type[type_] += 1

    def remove(self, user: str, type_: str) -> None:
        self.total -= 1
        for counter, name in ((self.by_user, user), (self.by_type, type_)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]


class _Line:
    """Waiting jobs of one priority, user and type, the oldest first. Those taken out are skipped when they come up."""

    __slots__ = ("heap", "waiting")

    def __init__(self) -> None:
        self.heap: list[tuple[int, str]] = []  # (seq, id)
        self.waiting: set[str] = set()

    def add(self, entry: Entry) -> None:
        heapq.heappush(self.heap, (entry.seq, entry.id))
        self.waiting.add(entry.id)

    def head(self) -> tuple[int, str]:
        """The oldest. Only of a line in which somebody waits."""
        while self.heap[0][1] not in self.waiting:
            heapq.heappop(self.heap)
        return self.heap[0]


_Users = OrderedDict[str, dict[str, _Line]]  # in the order of their turn


class Queue:
    """The waiting jobs. Owned by the loop thread."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._levels: dict[int, _Users] = {}
        self._delayed: list[tuple[float, int, str]] = []  # heap of (not_before, seq, id), also of some that do not wait
        self._waits: set[str] = set()  # ids of those that do
        self.by_type: Counter[str] = Counter()
        self.by_user: Counter[str] = Counter()
        self.paused = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def add(self, entry: Entry, wall: float) -> None:
        self._entries[entry.id] = entry
        self._count(entry, 1)
        if entry.paused:
            return
        if entry.not_before is not None and entry.not_before > wall:
            heapq.heappush(self._delayed, (entry.not_before, entry.seq, entry.id))
            self._waits.add(entry.id)
        else:
            self._line_up(entry)

    def remove(self, job_id: str) -> Entry | None:
        """Take a job out, wherever it stands. None where it is not queued."""
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            self._count(entry, -1)
            self._step_out(entry)
        return entry

    def replace(self, job_id: str, wall: float, *, paused: bool | None = None, priority: int | None = None) -> None:
        """Give a job that is queued another place, or none for as long as it is paused. Nothing where it is not."""
        entry = self.remove(job_id)
        if entry is not None:
            paused = entry.paused if paused is None else paused
            priority = entry.priority if priority is None else priority
            self.add(msgspec.structs.replace(entry, paused=paused, priority=priority), wall)

    def _count(self, entry: Entry, step: int) -> None:
        self.paused += step * entry.paused
        for counter, name in ((self.by_type, entry.type), (self.by_user, entry.user)):
            counter[name] += step
            if not counter[name]:
                del counter[name]

    def next_due(self) -> float | None:
        """Unix seconds at which the next delayed job may start."""
        while self._delayed and self._delayed[0][2] not in self._waits:
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def admit(self, running: Running, limits: Limits, wall: float) -> Entry | None:
        """Take out the job that may start now, or None. The caller counts it in `running`, then asks again."""
        while (due := self.next_due()) is not None and due <= wall:
            _, _, job_id = heapq.heappop(self._delayed)
            self._waits.remove(job_id)
            self._line_up(self._entries[job_id])
        if running.total >= limits.total:
            return None
        for priority in sorted(self._levels, reverse=True):
            for user, lines in self._levels[priority].items():
                if limits.per_user is not None and running.by_user[user] >= limits.per_user:
                    continue
                first = _first_unblocked(lines, running, limits)
                if first is not None:
                    self._levels[priority].move_to_end(user)
                    return self.remove(first)
        return None

    def _line_up(self, entry: Entry) -> None:
        lines = self._levels.setdefault(entry.priority, OrderedDict()).setdefault(entry.user, {})
        line = lines.get(entry.type)
        if line is None:
            line = lines[entry.type] = _Line()
        line.add(entry)

    def _step_out(self, entry: Entry) -> None:
        users = self._levels.get(entry.priority, OrderedDict())
        line = users.get(entry.user, {}).get(entry.type)
        if line is None or entry.id not in line.waiting:
            # Paused, or still delayed: its place in that heap is skipped when it comes up, or goes with many like it.
            self._waits.discard(entry.id)
            if len(self._delayed) > 2 * len(self._waits) + 64:
                self._delayed = [one for one in self._delayed if one[2] in self._waits]
                heapq.heapify(self._delayed)
            return
        line.waiting.remove(entry.id)
        if len(line.heap) > 2 * len(line.waiting) + 64:  # as above: those behind a head that stands
            line.heap = [one for one in line.heap if one[1] in line.waiting]
            heapq.heapify(line.heap)
        if not line.waiting:
            del users[entry.user][entry.type]
        if not users[entry.user]:
            del users[entry.user]
        if not users:
            del self._levels[entry.priority]


def _first_unblocked(lines: dict[str, _Line], running: Running, limits: Limits) -> str | None:
    best: tuple[int, str] | None = None
    for type_, line in lines.items():
        limit = limits.per_type.get(type_)
        if limit is not None and running.by_type[type_] >= limit:
            continue
        head = line.head()
        if best is None or head < best:
            best = head
    return None if best is None else best[1]
