"""A takeover that cannot succeed is refused before the daemon that runs is asked to leave."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul_client import State
from harness import TIMEOUT_S, DaemonProcess, alive, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]


@pytest.fixture
def running(make_daemon: MakeDaemon) -> DaemonProcess:
    """Its jobs end at once when it leaves and nobody follows."""
    daemon = make_daemon("--orphan-grace", "0", "--tree", "session")
    daemon.start()
    return daemon


def take_over(daemon: DaemonProcess, *options: str, first: str = "") -> str:
    """Try it, with a job running; what it was refused with. The other daemon, and the job, are as before.

    `first`: code that is run before, in the process that tries.
    """
    code = f"import sys\n{first}\nfrom annul.__main__ import daemon\ndaemon(['serve', '--takeover', *sys.argv[1:]])"
    assert daemon.process is not None
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        done = subprocess.run(
            [sys.executable, "-c", code, *daemon.arguments(), *options],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": daemon._path()},
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert daemon.process.poll() is None
        assert "handing over" not in daemon.said()
        assert client.ping().pid == daemon.process.pid
        assert client.get(job.id).state is State.RUNNING
        assert alive(job.pid or 0)
        client.cancel(job.id)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
    return done.stderr


@pytest.fixture
def elsewhere(short_dir: Path) -> Iterator[Path]:
    """A directory on another file system."""
    path = Path("/dev/shm", short_dir.name)
    path.mkdir(mode=0o700)
    if path.stat().st_dev == short_dir.stat().st_dev:
        path.rmdir()
        pytest.skip("/dev/shm is on the same file system")
    yield path
    path.rmdir()


def test_job_modules_that_cannot_be_loaded(running: DaemonProcess) -> None:
    """The ordinary failed upgrade."""
    assert "loading job types from module 'no_such_module'" in take_over(running, "--jobs", "no_such_module")


def test_outputs_on_another_file_system(running: DaemonProcess, elsewhere: Path) -> None:
    """They could not be published."""
    assert "must be on one file system" in take_over(running, "--outputs-dir", str(elsewhere))


def test_a_directory_of_others(running: DaemonProcess, short_dir: Path) -> None:
    """Or one that cannot be made."""
    (short_dir / "open").mkdir()
    (short_dir / "open").chmod(0o777)
    assert "writable by nobody else" in take_over(running, "--outputs-dir", str(short_dir / "open"))
    assert "cannot be made" in take_over(running, "--outputs-dir", str(running.log / "users"))


def test_too_long_a_runtime_directory(running: DaemonProcess, short_dir: Path) -> None:
    """No socket could be bound in it."""
    assert "too long for sockets" in take_over(running, "--runtime-dir", str(short_dir / ("x" * 120)))


def test_cgroups_where_there_are_none(running: DaemonProcess) -> None:
    """Where they are insisted on."""
    no_mounts = "import os; os.path.relpath = lambda *_: '/no/such/directory'"
    assert "--tree cgroup: no cgroup" in take_over(running, "--tree", "cgroup", first=no_mounts)


def test_a_store_of_a_newer_release(running: DaemonProcess) -> None:
    """A downgrade: it is looked at beside the daemon that uses it."""
    db = sqlite3.connect(running.state_dir / "annul.db", isolation_level=None)
    (before,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version = 999")
    assert "newer annul" in take_over(running)
    db.execute(f"PRAGMA user_version = {before}")
    db.close()


def test_the_runtime_directory_of_a_third_daemon(running: DaemonProcess, make_daemon: MakeDaemon) -> None:
    """Its lock could not be had."""
    third = make_daemon(name="third")
    third.start()
    assert third.process is not None
    assert f"pid {third.process.pid}" in take_over(running, "--runtime-dir", str(third.runtime_dir))


# --- another runtime directory ----------------------------------------------------------------------------------


def test_another_runtime_directory_while_jobs_run(running: DaemonProcess, short_dir: Path) -> None:
    """The jobs would look for a daemon in the one that they were started with."""
    said = take_over(running, "--runtime-dir", str(short_dir / "other"))
    assert f"--runtime-dir {running.runtime_dir}" in said


def move(daemon: DaemonProcess, runtime_dir: Path) -> None:
    daemon.runtime_dir = runtime_dir
    daemon.endpoint = f"ipc://{runtime_dir}/annul.sock"


def test_another_runtime_directory_while_no_job_runs(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """Nothing is in the old one that anybody needs."""
    daemon = make_daemon("--takeover")
    daemon.start()
    with daemon.client() as client:
        client.wait(client.submit("quick").id, TIMEOUT_S)
    old = daemon.process
    assert old is not None
    move(daemon, short_dir / "other")
    daemon.start()
    assert old.wait(TIMEOUT_S) == 0
    with daemon.client() as client:
        assert client.wait(client.submit("quick").id, TIMEOUT_S).state is State.COMPLETED


def test_another_runtime_directory_after_a_crash(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """It is refused until the jobs are over, of which nobody has cleared the old one."""
    daemon = make_daemon("--orphan-grace", "600")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
    daemon.kill()
    old = daemon.runtime_dir
    move(daemon, short_dir / "other")
    assert not daemon.try_start()
    assert f"--runtime-dir {old}" in daemon.said()
    assert job.pid is not None
    assert alive(job.pid)
    os.kill(job.pid, signal.SIGKILL)
    wait_until(lambda: not alive(job.pid or 0), "the job to end")
    assert list((old / "jobs").iterdir())
    daemon.start()
    with daemon.client() as client:
        assert client.get(job.id).state is State.FAILED


def test_a_runtime_directory_with_another_name_is_the_same(running: DaemonProcess, short_dir: Path) -> None:
    """A symbolic link to it, say."""
    assert running.process is not None
    with running.client() as client:
        job = started(client, "sleepy", "sleeping")
    link = short_dir / "link"
    link.symlink_to(running.runtime_dir)
    old, real = running.process, running.runtime_dir
    running.runtime_dir, running.options = link, (*running.options, "--takeover")
    running.start()
    assert old.wait(TIMEOUT_S) == 0
    running.runtime_dir = real
    with running.client() as client:
        assert client.get(job.id).pid == job.pid
        client.cancel(job.id)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
