"""A real daemon, scraped as Prometheus does it."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from prometheus_client.parser import text_string_to_metric_families

from annul_client import State
from harness import DaemonProcess, started, wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(daemon: DaemonProcess) -> Samples:
    found = re.findall(r"metrics at (http\S+)", daemon.said())
    with urllib.request.urlopen(found[-1], timeout=10) as answer:
        page = answer.read().decode()
    families = text_string_to_metric_families(page)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_a_life_is_told(make_daemon: Callable[..., DaemonProcess]) -> None:
    """Starts, ends and cancels of real jobs, and those that the next daemon adopts."""
    daemon = make_daemon("--metrics", "127.0.0.1:0")
    daemon.start()
    with daemon.client() as client:
        for _ in range(3):
            client.wait(client.submit("exec", {"argv": ["true"]}).id)
        job = client.submit("exec", {"argv": ["sleep", "1000"]})
        wait_until(lambda: client.get(job.id).state is State.RUNNING, "it to run")
        samples = scraped(daemon)
        assert value(samples, "annul_jobs", state="running", type="exec") == 1
        assert value(samples, "annul_jobs_finished_total", state="completed", type="exec") == 3
        assert value(samples, "annul_start_seconds_count", type="exec") == 4
        assert 0 < value(samples, "annul_start_seconds_sum", type="exec") < 30
        daemon.kill()
        daemon.start()
        samples = scraped(daemon)
        assert value(samples, "annul_adopted_total") == 1
        assert value(samples, "annul_jobs", state="running", type="exec") == 1
        client.cancel(job.id)
        ended = client.wait(job.id)
        assert ended.cancel is not None
        assert ended.cancel.stage is not None
        samples = scraped(daemon)
        assert value(samples, "annul_cancel_seconds_count", kind="cancel", stage=ended.cancel.stage) == 1
        assert (
            value(samples, "annul_cancel_seconds_sum", kind="cancel", stage=ended.cancel.stage) == ended.cancel.gone_s
        )
        assert value(samples, "process_resident_memory_bytes") > 2**20


def test_scraping_holds_up_no_cancel_and_an_idle_daemon_sleeps(make_daemon: Callable[..., DaemonProcess]) -> None:
    """Somebody scrapes without a pause, another connects and says nothing: cancels are answered all the same."""
    daemon = make_daemon("--metrics", "127.0.0.1:0")
    daemon.start()
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            scraped(daemon)

    with daemon.client() as client:
        job = started(client, "reporter", "ready", {"mark": str(daemon.base / "never")})
        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            took = []
            for _ in range(100):
                begin = monotonic()
                client.ping()
                took.append(monotonic() - begin)
            assert sorted(took)[50] < 0.1, took
        finally:
            stop.set()
            thread.join()
        port = int(re.findall(r"metrics at http://127.0.0.1:(\d+)", daemon.said())[-1])
        with socket.create_connection(("127.0.0.1", port)):
            begin = monotonic()
            client.cancel(job.id, grace_s=0)
            assert client.wait(job.id, 20).state is State.CANCELLED
            assert monotonic() - begin < 4  # the silent one is dropped after 5 s
    assert daemon.process is not None
    wait_until(lambda: sleeps(daemon.process.pid), "the daemon and its thread to sleep")  # type: ignore[union-attr]


def sleeps(pid: int) -> bool:
    """Whether no thread of it wakes up for a second."""

    def switches() -> list[str]:
        tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
        return [line for task in tasks for line in (task / "status").read_text().splitlines() if "ctxt" in line]

    before, end = switches(), monotonic() + 1.0
    wait_until(lambda: monotonic() > end, "a second to pass")
    return switches() == before


def test_a_port_that_is_taken_is_no_reason_not_to_look_after_jobs(make_daemon: Callable[..., DaemonProcess]) -> None:
    """The daemon says so, and serves."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = make_daemon("--metrics", f"127.0.0.1:{taken.getsockname()[1]}")
        daemon.start()
        assert "no metrics at" in daemon.said()
        with daemon.client() as client:
            assert client.wait(client.submit("exec", {"argv": ["true"]}).id).state is State.COMPLETED


def test_another_address_is_refused(make_daemon: Callable[..., DaemonProcess]) -> None:
    """The network is not to read what nobody is asked a key for."""
    daemon = make_daemon("--metrics", "0.0.0.0:9464")
    assert not daemon.try_start()
    assert "loopback" in daemon.said()


def test_a_takeover_takes_the_port_too(make_daemon: Callable[..., DaemonProcess]) -> None:
    """The old daemon frees it before it lets go of its directories."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    first = make_daemon("--metrics", f"127.0.0.1:{port}")
    first.start()
    second = DaemonProcess(first.base, *first.options, "--takeover")
    second.start()
    try:
        assert value(scraped(second), "annul_max_running") >= 1
        assert "no metrics" not in second.said()
    finally:
        second.stop()
