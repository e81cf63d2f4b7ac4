"""Cancel is never blocked (C10): behind a flood, among thousands, a thousand at once."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import pytest
import zmq

from annul.tree import find_cgroup
from annul_client import CancelOutcome, Stage, State
from harness import TIMEOUT_S, DaemonProcess, wait_until

MakeDaemon = Callable[..., DaemonProcess]


@contextmanager
def pipeline(daemon: DaemonProcess) -> Iterator[zmq.Socket[bytes]]:
    """A client without any bounds that does not wait for answers."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.SNDHWM, 0)
    dealer.setsockopt(zmq.RCVHWM, 0)
    dealer.setsockopt(zmq.RCVTIMEO, int(TIMEOUT_S * 1000))
    dealer.connect(daemon.endpoint)
    try:
        yield dealer
    finally:
        dealer.close(linger=0)
        context.term()


def send(dealer: zmq.Socket[bytes], rid: str, verb: str, **fields: object) -> None:
    dealer.send(msgspec.msgpack.encode({"v": 1, "rid": rid, "verb": verb, **fields}))


def test_cancel_behind_a_flood_of_its_own_client(make_daemon: MakeDaemon) -> None:
    """Of 10,000 submits sent before it on the same connection, most are still to be answered when it is."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with daemon.client() as client, pipeline(daemon) as dealer:
        job = client.submit("sleepy")
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGSTOP)  # so that all of it is there when it looks
        for number in range(10_000):
            send(dealer, f"s{number}", "submit", type="sleepy")
        send(dealer, "cancel", "cancel", id=job.id)
        os.kill(daemon.process.pid, signal.SIGCONT)
        before = 0
        while (reply := msgspec.msgpack.decode(dealer.recv()))["rid"] != "cancel":
            before += 1
        assert reply["ok"]["outcome"] == "cancelling"
        assert before < 5000
        for _ in range(before, 10_000):
            assert "ok" in msgspec.msgpack.decode(dealer.recv())
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
        assert client.cancel(type="sleepy").count == 10_000


def test_cancels_without_end_hold_up_no_submit(make_daemon: MakeDaemon) -> None:
    """Turns that have cancels handle nothing else, but not two after each other."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with daemon.client() as client, ThreadPoolExecutor(1) as pool, pipeline(daemon) as dealer:
        over = threading.Event()

        def cancels() -> None:
            for _ in range(100):  # so many wait at any time
                send(dealer, "c", "cancel", id="unknown")
            while not over.is_set():
                dealer.recv()
                send(dealer, "c", "cancel", id="unknown")

        cancelling = pool.submit(cancels)
        try:
            assert [client.submit("sleepy").state for _ in range(50)] == [State.QUEUED] * 50
        finally:
            over.set()
        cancelling.result(TIMEOUT_S)


@pytest.mark.parametrize("tree", ["session", "cgroup"])
def test_a_thousand_cancels_at_once(make_daemon: MakeDaemon, tree: str) -> None:
    """Running, stubborn and queued ones, in one burst: each is accepted, and ends as it would alone."""
    if tree == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    running = 60
    daemon = make_daemon("--tree", tree, "--max-running", str(running))
    daemon.start()
    with daemon.client() as client, pipeline(daemon) as dealer:
        types = ["stubborn", "sleepy"]
        batch = [
            {"type": types[number % 2], "params": {"mark": "/dev/null"} if number % 2 == 0 else {}}
            for number in range(500)
        ]
        jobs = [one.job for one in (*client.submit_many(batch), *client.submit_many(batch)) if one.job]
        assert len(jobs) == 1000
        wait_until(
            lambda: sum(job.progress.stage != "" for job in client.list(state=State.RUNNING, limit=1000)) == running,
            "all slots to be taken",
        )
        for job in reversed(jobs):  # those that wait first, so that none of them gets a slot meanwhile
            send(dealer, job.id, "cancel", id=job.id)
        replies = [msgspec.msgpack.decode(dealer.recv()) for _ in jobs]
        outcomes = Counter(reply["ok"]["outcome"] for reply in replies)
        assert outcomes == {CancelOutcome.CANCELLING: running, CancelOutcome.CANCELLED_BEFORE_START: 1000 - running}
        ended = [client.wait(job.id, TIMEOUT_S) for job in jobs]
        assert {job.state for job in ended} == {State.CANCELLED}
        stages = Counter((job.type, job.cancel.stage) for job in ended if job.cancel and job.attempt)
        assert stages == {("stubborn", Stage.SIGKILL): running // 2, ("sleepy", Stage.SIGTERM): running // 2}
