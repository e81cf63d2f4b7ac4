"""A file system that is full, and a store that another program locks: what clients are told, and what still works."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annul_client import Client, RequestRefused, State
from harness import DaemonProcess, alive, wait_until

MakeDaemon = Callable[..., DaemonProcess]
SIZE = 24 * 1024 * 1024
LATER = timedelta(days=1)


@pytest.fixture
def disk(short_dir: Path) -> Iterator[Path]:
    """A small file system."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    path = short_dir / "disk"
    path.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "annul-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip(f"this process may not mount: {mounting.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def small(disk: Path, make_daemon: MakeDaemon) -> Iterator[DaemonProcess]:
    """A running daemon whose state, outputs and runtime directory are all on it."""
    daemon = make_daemon("--max-running", "4")
    daemon.state_dir, daemon.runtime_dir = disk / "state", disk / "run"
    daemon.endpoint = f"ipc://{daemon.runtime_dir}/annul.sock"
    daemon.start()
    yield daemon
    daemon.stop()


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size = 1 << 20
        while size:
            try:
                os.write(fd, b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    finally:
        os.close(fd)


def refused(client: Client, **params: object) -> str:
    """A submit that the store cannot take; what was said of it."""
    with pytest.raises(RequestRefused) as error:
        client.submit("sleepy" if not params else "measure", params)
    assert error.value.code == "store_unavailable"
    return error.value.message


def wait_for_stage(client: Client, job_id: str, stage: str) -> int:
    wait_until(lambda: client.get(job_id).progress.stage == stage, f"{job_id} to be {stage}")
    pid = client.get(job_id).pid
    assert pid is not None
    return pid


def test_the_job_that_filled_the_disk_is_cancelled_as_any(small: DaemonProcess) -> None:
    """On a full disk submits are refused with what to do; what runs goes on, and cancels work, also of the job that
    filled it; `cancelled` shows once there is room, and then submits work again.
    """
    with small.client() as client:
        bystander = client.submit("sleepy", {})
        bystander_pid = wait_for_stage(client, bystander.id, "sleeping")
        other = client.submit("stubborn", {"mark": str(small.base / "mark")})
        other_pid = wait_for_stage(client, other.id, "ignoring")
        queued = client.submit("sleepy", {}, not_before=datetime.now(UTC) + LATER)
        filler = client.submit("filler", {})
        filler_pid = wait_for_stage(client, filler.id, "full")
        for said in (refused(client, file=b"x" * 100_000), _refused_in_the_end(client)):
            assert "make room" in said
        assert alive(bystander_pid)
        assert client.get(bystander.id).state is State.RUNNING
        assert client.cancel(other.id, grace_s=0.1).outcome == "cancelling"
        wait_until(lambda: not alive(other_pid), "the cancelled job to end")
        assert alive(filler_pid)
        assert client.cancel(filler.id).outcome == "cancelling"
        for job in (other, filler):
            assert client.wait(job.id, 20).state is State.CANCELLED
        assert alive(bystander_pid)
        assert client.cancel(queued.id).outcome == "cancelled_before_start"
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
        client.cancel(bystander.id)
        assert client.wait(bystander.id, 20).state is State.CANCELLED
        events = client.events(since=0)
        seqs = [next(events).seq]
        while seqs[-1] < _last_event(client, bystander.id):
            seqs.append(next(events).seq)
        events.close()
    assert seqs == list(range(1, len(seqs) + 1))


def _refused_in_the_end(client: Client) -> str:
    """The store may have a little room of its own left."""
    for _ in range(1000):
        try:
            job = client.submit("sleepy", {}, title="x" * 500, not_before=datetime.now(UTC) + LATER)
        except RequestRefused as error:
            if error.code != "store_unavailable":
                raise
            return error.message
        assert client.get(job.id).state is State.QUEUED
    pytest.fail("the store takes submits without end, on a full disk")


def _last_event(client: Client, job_id: str) -> int:
    return [event.seq for event in client.events(since=0, job_id=job_id)][-1]


def test_an_outcome_that_does_not_fit_is_told(small: DaemonProcess) -> None:
    """A job that ends when nothing can be written is `failed`, in words that say so; nothing of it is published."""
    gate = small.base / "gate"
    with small.client() as client:
        job = client.submit("gated", {"mark": str(gate)})
        pid = wait_for_stage(client, job.id, "waiting")
        fill(small.state_dir / "filler")
        gate.touch()
        wait_until(lambda: not alive(pid), "the job to end")
        assert client.ping().pid
        (small.state_dir / "filler").unlink()
        done = client.wait(job.id, 20)
    assert done.state is State.FAILED
    assert done.error is not None
    assert done.error.code == "outcome"
    assert "could not be written" in done.error.message
    assert done.files == []
    assert not list(small.state_dir.glob("users/*/out/*"))


def test_a_daemon_that_dies_on_a_full_disk_finds_its_cancels_again(small: DaemonProcess) -> None:
    """kill -9 while the disk is full: the next daemon starts, the cancel that was accepted goes on."""
    with small.client() as client:
        job = client.submit("stubborn", {"mark": str(small.base / "mark")})
        pid = wait_for_stage(client, job.id, "ignoring")
        fill(small.state_dir / "filler")
        _refused_in_the_end(client)
        assert client.cancel(job.id, grace_s=2).outcome == "cancelling"
    small.kill()
    assert alive(pid)
    small.start()
    with small.client() as client:
        wait_until(lambda: not alive(pid), "the cancel to go on")
        (small.state_dir / "filler").unlink()
        assert client.wait(job.id, 20).state is State.CANCELLED


def locking(daemon: DaemonProcess) -> closing[sqlite3.Connection]:
    """Another program that has the store locked, until it closes it."""
    db = sqlite3.connect(daemon.state_dir / "annul.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return closing(db)


def test_a_locked_store_leaves_jobs_as_they_are(daemon: DaemonProcess, client: Client) -> None:
    """While the store is locked a queued job is not cancelled but stays queued, which is said; one that ends is shown
    as ended, with its output, once it is stored.
    """
    gate = daemon.base / "gate"
    job = client.submit("gated", {"mark": str(gate)})
    pid = wait_for_stage(client, job.id, "waiting")
    queued = client.submit("quick", {}, not_before=datetime.now(UTC) + LATER)
    with locking(daemon):
        assert "another program" in refused(client)
        with pytest.raises(RequestRefused) as error:
            client.cancel(queued.id)
        assert error.value.code == "store_unavailable"
        assert client.get(queued.id).state is State.QUEUED
        gate.touch()
        wait_until(lambda: not alive(pid), "the job to end")
        assert not client.get(job.id).state.final
        assert not list(daemon.state_dir.glob("users/*/out/*"))
    done = client.wait(job.id, 20)
    assert done.state is State.COMPLETED
    assert Path(done.files[0]).read_text() == "done"
    assert client.cancel(queued.id).outcome == "cancelled_before_start"


def test_a_daemon_that_starts_while_its_store_is_locked_cancels_all_the_same(daemon: DaemonProcess) -> None:
    """It adopts what runs, and ends what is cancelled; it is stored when the store takes it."""
    with daemon.client() as client:
        job = client.submit("sleepy", {})
        pid = wait_for_stage(client, job.id, "sleeping")
    daemon.kill()
    with locking(daemon):
        daemon.start()
        with daemon.client() as client:
            assert client.get(job.id).pid == pid
            assert client.cancel(job.id).outcome == "cancelling"
            wait_until(lambda: not alive(pid), "the job to end")
            assert not client.get(job.id).state.final
    with daemon.client() as client:
        assert client.wait(job.id, 20).state is State.CANCELLED


def test_a_daemon_whose_store_cannot_even_be_read_says_what_to_do(daemon: DaemonProcess) -> None:
    """Where another program has the store for itself, the daemon does not start, and the running job goes on."""
    with daemon.client() as client:
        job = client.submit("sleepy", {})
        pid = wait_for_stage(client, job.id, "sleeping")
    daemon.kill()
    with closing(sqlite3.connect(daemon.state_dir / "annul.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        assert not daemon.try_start()
    assert "If another program has it open, stop that one" in daemon.said()
    assert alive(pid)
    daemon.start()
    with daemon.client() as client:
        client.cancel(job.id)
        assert client.wait(job.id, 20).state is State.CANCELLED
