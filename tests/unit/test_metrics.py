"""What the metrics make of events, and who they are served to."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from annul import places
from annul.errors import StartError
from annul.metrics import Metrics
from annul.registry import Registry
from annul.scheduling import Limits
from annul.scrape import Scrape
from annul_client.wire import CancelRecord, Event, Job, Stage, State

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """Metrics, a clock that is set, and the events of jobs."""

    def __init__(self) -> None:
        self.at = BEGIN
        self.metrics = Metrics(self, Registry(Limits(total=3)), tree="session", newest=lambda _: None)
        self._seq = 0

    def monotonic(self) -> float:
        return self.wall()

    def wall(self) -> float:
        return self.at.timestamp()

    def tell(self, job_id: str, state: State, kind: str = "", **facts: Any) -> None:
        self._seq += 1
        facts = {"type": "exec", "user": "u", "created_at": BEGIN} | facts
        job = Job(id=job_id, state=state, **facts)
        self.metrics.told(Event(seq=self._seq, job_seq=1, at=self.at, kind=kind or str(state), job=job))

    def page(self) -> str:
        """As it is scraped."""
        said: list[bytes] = self.metrics.app()({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}, lambda *_: None)
        return b"".join(said).decode()

    def value(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.page()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None


@pytest.fixture
def told() -> Told:
    return Told()


def stopped(kind: str, stage: Stage | None, gone_s: float | None, *, stuck: bool = False) -> CancelRecord:
    return CancelRecord(reason="", kind=kind, by="", grace_s=1, asked_at=BEGIN, stage=stage, gone_s=gone_s, stuck=stuck)


def test_jobs_are_counted_by_state_and_type(told: Told) -> None:
    """A job is in one state at a time, progress moves nothing, and what is over is counted as that."""
    for job_id in ("a", "b"):
        told.tell(job_id, State.QUEUED)
    told.tell("a", State.STARTING, started_at=BEGIN)
    told.tell("a", State.RUNNING)
    told.tell("a", State.RUNNING, "progress")
    assert told.value("annul_jobs", state="running", type="exec") == 1
    assert told.value("annul_jobs", state="queued", type="exec") == 1
    assert told.value("annul_jobs", state="starting", type="exec") == 0
    told.tell("a", State.COMPLETED)
    assert told.value("annul_jobs", state="running", type="exec") == 0
    assert told.value("annul_jobs_finished_total", state="completed", type="exec") == 1
    assert told.value("annul_jobs_submitted_total", type="exec") == 2
    assert told.value("annul_max_running") == 3


def test_the_oldest_that_waits_tells_the_age_of_the_queue(told: Told) -> None:
    """It grows by itself, goes on to the next in line, and does not count who waits for a time of day."""
    told.tell("later", State.QUEUED, not_before=BEGIN + timedelta(hours=1))
    assert told.value("annul_queue_oldest_seconds") == 0
    told.tell("a", State.QUEUED)
    told.tell("b", State.QUEUED, created_at=BEGIN + timedelta(seconds=10))
    told.at = BEGIN + timedelta(seconds=30)
    assert told.value("annul_queue_oldest_seconds") == 30
    told.tell("a", State.STARTING, started_at=told.at)
    assert told.value("annul_queue_oldest_seconds") == 20
    assert told.value("annul_queue_seconds_sum", type="exec") == 30
    told.tell("b", State.CANCELLED)
    assert told.value("annul_queue_oldest_seconds") == 0


def test_each_stop_is_observed_once_by_what_ended_it(told: Told) -> None:
    """Also that of an attempt that is tried again, whose record the queued job keeps."""
    told.tell("a", State.RUNNING)
    told.tell("a", State.CANCELLING, cancel=stopped("cancel", None, None))
    told.tell("a", State.CANCELLED, cancel=stopped("cancel", Stage.SIGTERM, 0.25))
    assert told.value("annul_cancel_seconds_count", kind="cancel", stage="sigterm") == 1
    assert told.value("annul_cancel_seconds_sum", kind="cancel", stage="sigterm") == 0.25
    told.tell("b", State.RUNNING)
    timeout = stopped("timeout", Stage.SIGKILL, 2.0)
    told.tell("b", State.QUEUED, cancel=timeout)
    told.tell("b", State.QUEUED, "progress", cancel=timeout)
    assert told.value("annul_cancel_seconds_count", kind="timeout", stage="sigkill") == 1


def test_what_is_stuck_is_seen_for_as_long_as_it_is(told: Told) -> None:
    """The gauge goes down when the kernel gives in; the counter does not."""
    told.tell("a", State.RUNNING)
    told.tell("a", State.CANCELLING, cancel=stopped("cancel", None, None))
    told.tell("a", State.CANCELLING, "stuck", cancel=stopped("cancel", None, None, stuck=True))
    assert (told.value("annul_stuck"), told.value("annul_stuck_told_total")) == (1, 1)
    told.tell("a", State.CANCELLED, cancel=stopped("cancel", Stage.SIGKILL, 9.0, stuck=True))
    assert (told.value("annul_stuck"), told.value("annul_stuck_told_total")) == (0, 1)


def test_what_an_earlier_daemon_left_is_counted(told: Told) -> None:
    """Those that wait, from the start; the age of one that is gone from the store is that of now."""
    told.metrics.recovered([], [("a", "exec", False), ("b", "exec", True)])
    assert told.value("annul_jobs", state="queued", type="exec") == 2
    assert told.value("annul_queue_oldest_seconds") == 0
    told.tell("a", State.STARTING, started_at=BEGIN)
    assert told.value("annul_jobs", state="queued", type="exec") == 1
    assert told.value("annul_jobs_submitted_total", type="exec") is None


@pytest.mark.parametrize(
    "where", ["0.0.0.0:9464", "192.0.2.1:9464", "example.org:80", "[::]:1", "9464", "127.0.0.1:x", ""]
)
def test_none_but_loopback_is_served(where: str) -> None:
    """Nobody is asked for a key there, so that the network is not to reach it."""
    with pytest.raises(StartError, match="loopback"):
        places.loopback(where)


def test_loopback_has_several_names() -> None:
    assert places.loopback("localhost:9464") == ("127.0.0.1", 9464)
    assert places.loopback("[::1]:0") == ("::1", 0)


def test_a_daemon_without_metrics_loads_nothing_for_them() -> None:
    """Neither the library nor a web server."""
    look = "import sys, annul.daemon; sys.exit(' '.join({'prometheus_client', 'wsgiref'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "\n")


@pytest.fixture
def scrape(told: Told) -> Iterator[Scrape]:
    found = Scrape(("127.0.0.1", 0), told.metrics.app())
    yield found
    found.close()


def port_of(scrape: Scrape) -> int:
    return int(scrape.url.split(":")[2].split("/")[0])


def test_a_scrape_is_answered_and_nonsense_is_not_its_end(scrape: Scrape) -> None:
    """A client that sends no HTTP, or goes away in the middle, keeps nobody else from it."""
    for nonsense in (b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n", b""):
        with socket.create_connection(("127.0.0.1", port_of(scrape)), timeout=10) as one:
            one.sendall(nonsense)
    with urllib.request.urlopen(scrape.url, timeout=10) as answer:
        assert answer.status == 200
        assert b"annul_info{" in answer.read()


def test_closing_frees_the_port_at_once(told: Told) -> None:
    """The next daemon binds it while this process may still be there."""
    first = Scrape(("127.0.0.1", 0), told.metrics.app())
    port = port_of(first)
    first.close()
    second = Scrape(("127.0.0.1", port), told.metrics.app())
    second.close()
