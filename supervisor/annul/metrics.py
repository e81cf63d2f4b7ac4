"""What Prometheus is told. Imported only where `metrics` is configured, and prometheus-client with it.

The loop notes here what it tells others (events, after the commit); the thread that answers a scrape reads the
library's own values, each behind a lock that is held for a few instructions. So neither waits for the other's work,
and nothing is computed, nor anybody woken, while nobody asks. No user, title or id is in it, only states and job types.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, make_wsgi_app

from annul._version import __version__
from annul.clock import Clock
from annul.errors import StoreError
from annul.registry import Active, Registry
from annul.scrape import WsgiApp
from annul.store import JobRecord
from annul_client.wire import Event, Job, State

_SHORT_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LONG_S = (0.01, 0.1, 1, 10, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)


class Metrics:
    """Owned by the loop thread, but for `app`, which belongs to the one that serves it."""

    def __init__(self, clock: Clock, limits: Registry, *, tree: str, newest: Callable[[str], JobRecord | None]) -> None:
        """`newest`: a job's facts by its id; may raise StoreError."""
        self._clock = clock
        self._newest = newest
        self._live: dict[str, tuple[str, str]] = {}  # job id -> (state, type)
        self._waiting: OrderedDict[str, float | None] = OrderedDict()  # id -> unix time of its submission, once known
        self._oldest: float | None = None  # the first of those times; read by the other thread
        self._stuck_now: set[str] = set()
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("annul_info", "1, for this version.", ["version", "tree"], registry=registry).labels(
            __version__, tree
        ).set(1)
        Gauge("annul_max_running", "Jobs that may run at once.", registry=registry).set_function(
            lambda: limits.limits.total
        )
        self._jobs = Gauge("annul_jobs", "Jobs that are not over.", ["state", "type"], registry=registry)
        self._submitted = Counter("annul_jobs_submitted", "Jobs accepted.", ["type"], registry=registry)
        self._finished = Counter("annul_jobs_finished", "Jobs that ended.", ["state", "type"], registry=registry)
        self._queue = Histogram(
            "annul_queue_seconds",
            "From when a job was submitted, or was to start, to its slot.",
            ["type"],
            buckets=_LONG_S,
            registry=registry,
        )
        Gauge(
            "annul_queue_oldest_seconds",
            "Since the submission of the oldest job that waits; not of those with a not_before, retries among them.",
            registry=registry,
        ).set_function(self._age)
        self._start = Histogram(
            "annul_start_seconds", "From a job's slot to its first line.", ["type"], buckets=_SHORT_S, registry=registry
        )
        self._cancel = Histogram(
            "annul_cancel_seconds",
            "From when a stop was asked for until nothing of the job was left; by what ended it.",
            ["kind", "stage"],
            buckets=_SHORT_S,
            registry=registry,
        )
        self._stuck = Counter("annul_stuck_told", "Attempts that did not end after SIGKILL.", registry=registry)
        self._stuck_gauge = Gauge("annul_stuck", "Jobs that do not end after SIGKILL, now.", registry=registry)
        self._adopted = Counter(
            "annul_adopted", "Jobs found running that an earlier daemon started.", registry=registry
        )

    def app(self) -> WsgiApp:
        """Answers every scrape, in Prometheus's text format or OpenMetrics."""
        app: WsgiApp = make_wsgi_app(self._registry)
        return app

    # --- what the loop notes ------------------------------------------------------------------------------------

    def recovered(self, actives: Iterable[Active], queued: Iterable[tuple[str, str, bool]]) -> None:
        """What an earlier daemon left; once, before any event. `queued`: id, type, and whether it is to start later."""
        for active in actives:
            self._enter(active.record.id, str(active.record.state), active.record.type)
            if active.adopted and active.leader_alive:
                self._adopted.inc()
        for job_id, type_name, later in queued:
            self._enter(job_id, State.QUEUED, type_name)
            if not later:
                self._waiting[job_id] = None
        self._find_oldest()

    def running(self, active: Active) -> None:
        """It has reached its first line just now."""
        board = active.board
        if board.launched_at and board.running_at:
            self._start.labels(active.record.type).observe(max(0.0, (board.running_at - board.launched_at) / 1e9))

    def told(self, event: Event) -> None:
        """An event, after its commit."""
        job = event.job
        if event.kind == "stuck":
            self._stuck.inc()
            self._stuck_now.add(job.id)
            self._stuck_gauge.set(len(self._stuck_now))
        before = self._live.get(job.id)
        if before is not None and before[0] == job.state:
            return  # progress and the like
        if job.state is State.QUEUED and before is None:
            self._submitted.labels(job.type).inc()
        if job.state is State.STARTING and job.started_at is not None:
            due = max(job.created_at, job.not_before or job.created_at)
            self._queue.labels(job.type).observe(max(0.0, (job.started_at - due).total_seconds()))
        self._note_waiting(job)
        if job.state.final or job.state is State.QUEUED:
            self._over(job)
        if job.state.final:
            self._finished.labels(job.state, job.type).inc()
            self._leave(job.id)
        else:
            self._enter(job.id, str(job.state), job.type)

    # --- details ------------------------------------------------------------------------------------------------

    def _enter(self, job_id: str, state: str, type_name: str) -> None:
        self._leave(job_id)
        self._live[job_id] = state, type_name
        self._jobs.labels(state, type_name).inc()

    def _leave(self, job_id: str) -> None:
        before = self._live.pop(job_id, None)
        if before is not None:
            self._jobs.labels(*before).dec()

    def _over(self, job: Job) -> None:
        """An attempt is over, or a job that waited."""
        if job.id in self._stuck_now:
            self._stuck_now.discard(job.id)
            self._stuck_gauge.set(len(self._stuck_now))
        stop = job.cancel
        if stop is not None and stop.gone_s is not None and stop.stage is not None:
            self._cancel.labels(stop.kind, stop.stage).observe(stop.gone_s)

    def _note_waiting(self, job: Job) -> None:
        if job.state is State.QUEUED and job.not_before is None:
            self._waiting[job.id] = job.created_at.timestamp()
        else:
            self._waiting.pop(job.id, None)
        self._find_oldest()

    def _find_oldest(self) -> None:
        """The first in the order in which they came; one that an earlier daemon left is looked up when it is first."""
        oldest = next(iter(self._waiting.items()), None)
        if oldest is not None and oldest[1] is None:
            try:
                record = self._newest(oldest[0])
            except StoreError:
                record = None
            oldest = oldest[0], record.created_at if record is not None else self._clock.wall()
            self._waiting[oldest[0]] = oldest[1]
        self._oldest = oldest[1] if oldest is not None else None

    def _age(self) -> float:
        """Seconds. In the thread that serves."""
        oldest = self._oldest
        return 0.0 if oldest is None else max(0.0, self._clock.wall() - oldest)
