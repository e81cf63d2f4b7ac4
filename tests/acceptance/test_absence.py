"""While no daemon runs: jobs go on, for a while; and one daemon hands over to the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from annul.tree import find_cgroup
from annul_client import CancelOutcome, Client, Job, State
from harness import TIMEOUT_S, DaemonProcess, alive, processes_with, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]


@pytest.fixture(params=["session", "cgroup"])
def tree(request: pytest.FixtureRequest) -> str:
    if request.param == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    return str(request.param)


def zygotes(daemon: DaemonProcess) -> list[psutil.Process]:
    assert daemon.process is not None
    return psutil.Process(daemon.process.pid).children()


def kill(daemon: DaemonProcess, *, zygotes_too: bool) -> None:
    """SIGKILL, the zygotes in the same breath: stopped, they do not even hear of the daemon's end."""
    victims = zygotes(daemon) if zygotes_too else []
    for one in victims:
        one.suspend()
    daemon.kill()
    for one in victims:
        one.kill()
    wait_until(lambda: not any(alive(one.pid) for one in victims), "the zygotes to end")


@pytest.mark.parametrize("zygotes_too", [False, True])
@pytest.mark.parametrize("type_", ["sleepy", "stubborn", "escaper", "exec"])
def test_a_job_without_a_daemon_ends_itself(
    make_daemon: MakeDaemon, tmp_path: Path, tree: str, type_: str, zygotes_too: bool
) -> None:
    """Its whole tree; and the next daemon is told why."""
    daemon = make_daemon("--tree", tree, "--orphan-grace", "0")
    daemon.start()
    mark = tmp_path / "beat"
    with daemon.client() as client:
        if type_ == "exec":
            script = f"while :; do echo . >> {mark}; sleep 0.01; done"
            job = client.submit("exec", {"argv": ["sh", "-c", script]})
            wait_until(mark.exists, "the command to beat")
            job = client.get(job.id)
        else:
            stage = {"sleepy": "sleeping", "stubborn": "ignoring", "escaper": "escaped"}[type_]
            job = started(client, type_, stage, {} if type_ == "sleepy" else {"mark": str(mark)})
    kill(daemon, zygotes_too=zygotes_too)
    wait_until(lambda: not alive(job.pid or 0) and not processes_with(str(mark)), "it to end")
    daemon.start()
    with daemon.client() as client:
        job = client.wait(job.id, TIMEOUT_S)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == "orphaned"
    assert job.cancel is not None
    assert job.cancel.kind == "orphaned"


@pytest.mark.parametrize("zygotes_too", [False, True])
def test_a_job_goes_on_while_its_daemon_is_away(make_daemon: MakeDaemon, tree: str, zygotes_too: bool) -> None:
    """And is adopted: same process, and a cancel ends it."""
    daemon = make_daemon("--tree", tree, "--orphan-grace", "600")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
    kill(daemon, zygotes_too=zygotes_too)
    assert job.pid is not None
    assert alive(job.pid)
    daemon.start()
    with daemon.client() as client:
        assert client.get(job.id).pid == job.pid
        assert client.cancel(job.id).outcome is CancelOutcome.CANCELLING
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
    assert not processes_with(f"ANNUL_MARK={job.id}.")


@pytest.mark.parametrize("zygotes_too", [False, True])
def test_an_adopted_job_is_as_any(make_daemon: MakeDaemon, short_dir: Path, tree: str, zygotes_too: bool) -> None:
    """Its progress, its log and its result are passed on, and its slot is taken until it has ended."""
    daemon = make_daemon("--tree", tree, "--max-running", "2")
    daemon.start()
    mark = short_dir / "go"
    script = f"echo before; touch {mark}.ready; until [ -e {mark} ]; do sleep 0.01; done; echo after; exit 3"
    with daemon.client() as client:
        reporter = started(client, "reporter", "ready", {"mark": str(mark)})
        command = client.submit("exec", {"argv": ["sh", "-c", script]})
        wait_until(Path(f"{mark}.ready").exists, "the command to run")
        queued = client.submit("quick")
        before = client.get(command.id).pid
    kill(daemon, zygotes_too=zygotes_too)
    daemon.start()
    with daemon.client() as client:
        assert (client.ping().running, client.ping().queued) == (2, 1)
        assert client.get(queued.id).state is State.QUEUED
        assert client.get(command.id).pid == before
        mark.touch()
        for event in client.events(since=0, job_id=reporter.id):
            if event.job.progress.stage == "reported":
                break
        ended = client.wait(command.id, TIMEOUT_S)
        assert ended.error is not None
        assert (ended.state, ended.error.code, ended.result["exit_code"]) == (State.FAILED, "exec_status", 3)
        assert client.logs(command.id).startswith(b"before\nafter\n")
        assert client.wait(queued.id, TIMEOUT_S).state is State.COMPLETED
        assert client.get(reporter.id).state is State.RUNNING
        client.cancel(reporter.id)
        assert client.wait(reporter.id, TIMEOUT_S).state is State.CANCELLED


def test_the_end_of_one_job_meanwhile_is_not_the_others(make_daemon: MakeDaemon, tree: str) -> None:
    """Whoever is taken up first: the leaders of the others are not what it has left behind."""
    daemon = make_daemon("--tree", tree, "--max-running", "3")
    daemon.start()
    with daemon.client() as client:
        jobs = [started(client, "sleepy", "sleeping") for _ in range(3)]
    daemon.kill()
    ended, *others = jobs
    assert ended.pid is not None
    os.kill(ended.pid, signal.SIGKILL)
    wait_until(lambda: not alive(ended.pid or 0), "one of them to end")
    daemon.start()
    with daemon.client() as client:
        job = client.wait(ended.id, TIMEOUT_S)
        assert job.error is not None
        assert job.error.code == "lost"
        assert [client.get(job.id).pid for job in others] == [job.pid for job in others]
        assert all(alive(job.pid or 0) for job in others)


def test_a_guardian_stays_only_as_long_as_its_jobs(make_daemon: MakeDaemon) -> None:
    """Those without jobs end with the daemon, the others with the last process."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        client.wait(client.submit("slow-import").id, TIMEOUT_S)  # another profile's
    before = zygotes(daemon)
    daemon.kill()
    assert job.pid is not None
    guardian = psutil.Process(job.pid).ppid()
    wait_until(lambda: [one.pid for one in before if alive(one.pid)] == [guardian], "the others to end")
    daemon.start()
    with daemon.client() as client:
        client.cancel(job.id)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
    wait_until(lambda: not alive(guardian), "the guardian to end")


def test_a_retry_follows_where_a_job_was_orphaned(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """If its type allows retries: never two attempts at once."""
    daemon = make_daemon("--orphan-grace", "0")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "insistent", "beating", {"mark": str(tmp_path / "beat")})
    daemon.kill()
    wait_until(lambda: not alive(job.pid or 0), "it to end")
    daemon.start()
    with daemon.client() as client:
        job = client.wait(job.id, TIMEOUT_S)
    assert (job.state, job.result, job.attempt) == (State.COMPLETED, "second attempt", 2)


@pytest.mark.parametrize("how", ["signal", "takeover"])
def test_a_hand_over_costs_jobs_and_clients_nothing(make_daemon: MakeDaemon, tree: str, how: str) -> None:
    """The same process goes on; a `wait` under way does not notice; a key makes no second job."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    answered: list[Job] = []
    with daemon.client() as client, daemon.client() as other:
        job = started(client, "sleepy", "sleeping")
        queued = client.submit("quick", {"seconds": 0.2}, key="one")
        other.ping()  # one that has never met a daemon does not wait for it
        waiting = threading.Thread(target=lambda: answered.append(other.wait(queued.id, TIMEOUT_S)))
        waiting.start()
        old = daemon.process
        assert old is not None
        if how == "signal":
            old.send_signal(signal.SIGUSR2)
            assert old.wait(TIMEOUT_S) == 0
        else:
            daemon.options = (*daemon.options, "--takeover")
        daemon.start()
        assert old.wait(TIMEOUT_S) == 0
        assert client.get(job.id).pid == job.pid
        assert client.submit("quick", {"seconds": 0.2}, key="one").id == queued.id
        waiting.join(TIMEOUT_S)
        assert [one.state for one in answered] == [State.COMPLETED]
        assert client.cancel(job.id).outcome is CancelOutcome.CANCELLING
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
    assert not processes_with(f"ANNUL_MARK={job.id}.")


def test_what_is_asked_while_daemons_hand_over_is_answered_once(make_daemon: MakeDaemon) -> None:
    """Submits without a key, one after another, across three daemons: each makes one job. A cancel is accepted."""
    daemon = make_daemon("--max-running", "3")
    daemon.start()
    ids: list[str] = []
    enough = threading.Event()

    def ask(client: Client) -> None:
        while not enough.is_set():
            job = client.submit("quick", {"seconds": 0.001}, labels={"nth": str(len(ids))})
            ids.append(job.id)
            if len(ids) % 7 == 0:
                client.cancel(job.id)

    with daemon.client() as client, daemon.client() as other:
        asking = threading.Thread(target=ask, args=[other])
        asking.start()
        for handed_over in range(1, 4):
            wait_until(lambda n=handed_over: len(ids) >= 15 * n, "submits to be answered")
            old = daemon.process
            assert old is not None
            old.send_signal(signal.SIGUSR2)
            assert old.wait(TIMEOUT_S) == 0
            daemon.start()
        answered = len(ids)
        wait_until(lambda: len(ids) > answered, "another submit to be answered")
        enough.set()
        asking.join(TIMEOUT_S)
        assert not asking.is_alive()
        assert len(set(ids)) == len(ids)
        assert {job.id for job in client.list(limit=1000)} == set(ids)
        ended = [client.wait(job_id, TIMEOUT_S) for job_id in ids]
    assert {job.state for job in ended} == {State.COMPLETED, State.CANCELLED}
    assert "Traceback" not in daemon.said()


def test_a_stop_that_comes_with_a_hand_over_is_too_late(make_daemon: MakeDaemon) -> None:
    """The jobs stay: it is one or the other."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        assert daemon.process is not None
        for signum in (signal.SIGSTOP, signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT):
            daemon.process.send_signal(signum)
        assert daemon.process.wait(TIMEOUT_S) == 0
        daemon.start()
        assert (client.get(job.id).state, client.get(job.id).pid) == (State.RUNNING, job.pid)


def test_a_hand_over_does_not_wait_for_what_is_to_be_deleted(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """The next daemon deletes it; who hands over is waited for."""
    daemon = make_daemon()
    daemon.start()
    go = short_dir / "go"
    with daemon.client() as client:
        script = f"seq 3000 | xargs touch; touch {go}.ready; until [ -e {go} ]; do sleep 0.01; done"
        job = client.submit("exec", {"argv": ["sh", "-c", script]})
        wait_until(Path(f"{go}.ready").exists, "it to run")
        leader = client.get(job.id).pid
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        go.touch()
        wait_until(lambda: leader and not alive(leader), "it to end")
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.process.wait(TIMEOUT_S) == 0
        work = daemon.state_dir / "jobs" / job.id / "1" / "work"
        assert work.exists()
        daemon.start()
        assert client.wait(job.id, TIMEOUT_S).state is State.COMPLETED
        wait_until(lambda: not work.exists(), "it to be deleted")


def test_a_hand_over_takes_a_while_also_where_orphans_have_none(make_daemon: MakeDaemon, tree: str) -> None:
    """Between the two daemons there is none, and that is no absence."""
    daemon = make_daemon("--tree", tree, "--orphan-grace", "0")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        assert daemon.process is not None
        assert job.pid is not None
        guardian = psutil.Process(psutil.Process(job.pid).ppid())
        daemon.process.send_signal(signal.SIGUSR2)
        assert daemon.process.wait(TIMEOUT_S) == 0
        looks = guardian.num_ctx_switches().voluntary
        wait_until(lambda: guardian.num_ctx_switches().voluntary >= looks + 3, "the guardian to look around")
        daemon.start()
        assert (client.get(job.id).state, client.get(job.id).pid) == (State.RUNNING, job.pid)
    kill(daemon, zygotes_too=False)
    wait_until(lambda: not alive(job.pid or 0), "it to end, now that the daemon was killed")
    daemon.start()
    with daemon.client() as client:
        assert client.wait(job.id, TIMEOUT_S).state is State.FAILED


def test_a_takeover_where_nobody_runs_is_a_start(make_daemon: MakeDaemon) -> None:
    """So a unit file can always say it."""
    daemon = make_daemon("--takeover")
    daemon.start()
    with daemon.client() as client:
        assert client.wait(client.submit("quick").id, TIMEOUT_S).state is State.COMPLETED


def test_a_stopped_daemon_that_does_not_hand_over_is_said(daemon: DaemonProcess) -> None:
    """It is not taken over by force: it may still write to the store."""
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        code = (
            "import sys; from annul import places; places._HAND_OVER_S = 0.2; "
            "from annul.__main__ import daemon; daemon(['serve', *sys.argv[1:]])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *daemon.arguments(), "--takeover"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": daemon._path()},
        )
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert done.returncode == 1
    assert f"pid {daemon.process.pid}" in done.stderr
    assert "It still will" in done.stderr
    assert daemon.process.wait(TIMEOUT_S) == 0  # it hands over as soon as it can
    daemon.start()


def test_a_drain_waits_for_running_jobs(make_daemon: MakeDaemon) -> None:
    """What is queued stays queued, for the next daemon."""
    daemon = make_daemon("--drain", "--max-running", "1")
    daemon.start()
    with daemon.client() as client:
        job = client.submit("quick", {"seconds": 0.5})
        wait_until(lambda: client.get(job.id).state is State.RUNNING, "it to run")
        queued = client.submit("quick")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(TIMEOUT_S) == 0
        daemon.start()
        assert client.wait(job.id, TIMEOUT_S).state is State.COMPLETED
        assert client.wait(queued.id, TIMEOUT_S).state is State.COMPLETED


def test_a_second_signal_ends_a_drain(make_daemon: MakeDaemon) -> None:
    """Then running jobs get their ladder."""
    daemon = make_daemon("--drain")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "waiting for those that run" in daemon.said(), "it to drain")
        assert client.get(job.id).state is State.RUNNING
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(TIMEOUT_S) == 0
        daemon.start()
        assert client.get(job.id).state is State.CANCELLED
