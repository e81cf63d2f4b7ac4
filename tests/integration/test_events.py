"""The event log and who follows it: slow, stopped, cut off, or never reading."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import zmq

from annul_client import Client, EventsLost
from harness import TIMEOUT_S, DaemonProcess, wait_until

MakeDaemon = Callable[..., DaemonProcess]

FOLLOW = """
import sys
from annul_client import Client, EventsLost

with Client(sys.argv[1], timeout_s=60) as client:
    try:
        for event in client.events(since=int(sys.argv[2])):
            print(event.seq, flush=True)
    except EventsLost as error:
        print("lost", error.since, error.oldest, error.last, flush=True)
"""


class Follower:
    """A process that prints the number of each event it sees."""

    def __init__(self, daemon: DaemonProcess, path: Path, since: int = 0) -> None:
        self._path = path
        with path.open("wb") as out:
            command = [sys.executable, "-c", FOLLOW, daemon.endpoint, str(since)]
            self.process = subprocess.Popen(command, stdout=out)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()

    def saw(self, last: int) -> list[int]:
        """All it has seen, once it has seen this one."""
        wait_until(lambda: self.lines()[-1:] == [str(last)], f"event {last} to be seen")
        return [int(line) for line in self.lines()]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)


@contextmanager
def following(daemon: DaemonProcess, name: str, since: int = 0) -> Iterator[Follower]:
    follower = Follower(daemon, daemon.base / name, since)
    try:
        yield follower
    finally:
        follower.close()


def make_events(client: Client, count: int, **terms: Any) -> int:
    """Two for each of `count` jobs that are queued and cancelled; the number of the last."""
    later = datetime.now(UTC) + timedelta(days=1)
    client.submit_many([{"type": "quick", "user": "events", "not_before": later, **terms}] * count)
    assert client.cancel(user="events").count == count
    return last_event(client)


def last_event(client: Client) -> int:
    """Where the log ends: a job of its own makes the last entry."""
    job = client.submit("quick", {}, not_before=datetime.now(UTC) + timedelta(days=1))
    client.cancel(job.id)
    return [event.seq for event in client.events(since=0, job_id=job.id)][-1]


def rss(pid: int) -> int:
    """Resident memory, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) * 1024


def test_a_stopped_subscriber_sees_every_event_once(daemon: DaemonProcess, client: Client) -> None:
    """Stopped for longer than anything is kept for it, it catches up from the log, in order; over a restart too."""
    with following(daemon, "follower") as follower:
        follower.saw(make_events(client, 1))
        follower.process.send_signal(signal.SIGSTOP)
        make_events(client, 1500)
        daemon.kill()
        daemon.start()
        last = make_events(client, 10)
        follower.process.send_signal(signal.SIGCONT)
        assert follower.saw(last) == list(range(1, last + 1))


def test_a_subscriber_that_was_killed_goes_on_where_it_was(daemon: DaemonProcess, client: Client) -> None:
    """The next one asks for what came `since`: nothing twice, nothing missing."""
    with following(daemon, "first") as first:
        seen = first.saw(make_events(client, 20))
    make_events(client, 20)
    with following(daemon, "second", since=seen[-1]) as second:
        last = make_events(client, 20)
        seen += second.saw(last)
    assert seen == list(range(1, last + 1))


def test_a_subscriber_that_never_reads_costs_bounded_memory(daemon: DaemonProcess, client: Client) -> None:
    """What is kept for it does not grow with what it misses, and others see every event meanwhile."""
    assert daemon.process is not None
    context = zmq.Context()
    mute = context.socket(zmq.SUB)
    mute.set_hwm(1)
    mute.subscribe(b"")
    mute.connect(client.ping().events)
    try:
        big = {f"label{number}": "x" * 490 for number in range(32)}  # 16 kB an event
        with following(daemon, "follower") as follower:
            follower.saw(make_events(client, 10, labels=big))
            assert mute.poll(TIMEOUT_S * 1000)  # it is connected; nothing is ever taken
            make_events(client, 1000, labels=big)  # beyond what is kept for it
            before = rss(daemon.process.pid)
            last = make_events(client, 3000, labels=big)  # 96 MB
            after = rss(daemon.process.pid)
            assert follower.saw(last) == list(range(1, last + 1))
        print(f"RSS {before / 2**20:.0f} -> {after / 2**20:.0f} MiB")
        assert after - before < 48 * 2**20
    finally:
        context.destroy(linger=0)


@pytest.fixture
def forgetful(make_daemon: MakeDaemon, short_dir: Path) -> DaemonProcess:
    """A daemon that keeps 100 events."""
    config = short_dir / "annul.toml"
    config.write_text("keep_events = 100\n")
    daemon = make_daemon("--config", str(config))
    daemon.start()
    return daemon


def test_events_that_are_no_longer_kept_are_told_to_be_lost(forgetful: DaemonProcess) -> None:
    """Who asks for trimmed events is told what the log holds, before and after a restart; from there on it has all."""
    with forgetful.client() as client:
        last = make_events(client, 600)
        for _ in range(2):
            with pytest.raises(EventsLost) as lost:
                next(client.events(since=0))
            assert (lost.value.since, lost.value.last) == (0, last)
            assert 1 < lost.value.oldest <= last - 100
            seqs = [event.seq for event in islice(client.events(since=lost.value.oldest - 1), last - lost.value.oldest)]
            assert seqs == list(range(lost.value.oldest, last))
            forgetful.kill()
            forgetful.start()


def test_a_subscriber_stopped_for_too_long_is_told_so(forgetful: DaemonProcess) -> None:
    """It never skips in silence: what it has seen has no gap, and its last word is that events are lost."""
    with forgetful.client() as client, following(forgetful, "follower") as follower:
        first = make_events(client, 1)
        follower.saw(first)
        follower.process.send_signal(signal.SIGSTOP)
        make_events(client, 1500)
        follower.process.send_signal(signal.SIGCONT)
        wait_until(lambda: follower.process.poll() is not None, "it to give up")
        *seen, word = follower.lines()
    assert [int(line) for line in seen] == list(range(1, len(seen) + 1))
    assert word.split()[:2] == ["lost", str(len(seen))]
