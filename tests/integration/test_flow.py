"""Pause and unpause, drain and resume, reprioritize, retry, stats, and a configuration that is read again.

The witnesses are outside the daemon: /proc, the kernel's word on a cgroup, and files that grow for as long as anybody
of a tree runs.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annul.board import Board, Notice
from annul.tree import find_cgroup
from annul_client import AsyncClient, Client, Job, QueueFull, RequestRefused, Stage, State
from harness import TIMEOUT_S, DaemonProcess, alive, processes_with, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]
TREES = [
    "session",
    pytest.param("cgroup", marks=pytest.mark.skipif(find_cgroup() is None, reason="no cgroup v2 can be made here")),
]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def frozen(pid: int) -> bool:
    """Whether the kernel says that a process does not run: stopped, or of a cgroup that is frozen as a whole. Also a
    zombie whose parent does not read its status for now, and one that waits in vfork(2) for a child that is stopped.
    """
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    own = next(line[3:] for line in groups if line.startswith("0::"))
    parent = find_cgroup()
    if parent is not None and "/annul-" in own:
        events = Path(f"{parent}/annul-{own.partition('/annul-')[2]}/cgroup.events")
        if "frozen 1" in events.read_text():
            return True
    state = state_of(pid)
    return state in "TZ" or (state == "D" and "T" in map(state_of, children(pid)))


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid: int) -> list[int]:
    """It and its descendants."""
    return [pid, *(one for child in children(pid) for one in below(child))]


def has_children(job: Job) -> bool:
    """Whether the command below its leader, and two of its own, run what they are to run."""
    comms = [Path(f"/proc/{pid}/comm").read_text() for pid in below(job.pid)] if job.pid is not None else []
    return comms.count("sleep\n") == 2


def stands_still(job: Job) -> bool:
    assert job.pid is not None
    try:
        return all(frozen(pid) for pid in below(job.pid))
    except (FileNotFoundError, ProcessLookupError):
        return False  # somebody has ended meanwhile: so they do not all stand still


def escaped(client: Client, mark: Path) -> Job:
    """A job whose double-forked grandchild, in a session of its own, makes that file grow."""
    job = started(client, "escaper", "escaped", {"mark": str(mark)})
    grows(mark)
    return job


def grows(mark: Path) -> None:
    before = mark.stat().st_size if mark.exists() else 0
    wait_until(lambda: mark.exists() and mark.stat().st_size > before, "the tree to run")


def grows_no_more(client: Client, mark: Path) -> None:
    """Not while another job, which takes much longer than a beat, comes and goes."""
    before = mark.stat().st_size
    client.wait(client.submit("quick", {"seconds": 0.1}).id, TIMEOUT_S)
    assert mark.stat().st_size == before


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(RequestRefused) as refused:
        act()
    return refused.value.code


# --- pause ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tree", TREES)
def test_all_of_a_paused_job_stands_still_and_goes_on(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """Also what has left its session; it keeps its slot, and the events tell."""
    daemon = make_daemon("--tree", tree, "--max-running", "2")
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = escaped(client, mark)
        paused = client.pause(job.id)
        assert (paused.paused, paused.state) == (True, State.RUNNING)
        assert client.pause(job.id).paused  # repeatable
        wait_until(lambda: stands_still(job), "its tree to stand still")
        grows_no_more(client, mark)
        assert (client.stats().paused, client.ping().running) == (1, 1)
        assert not client.unpause(job.id).paused
        grows(mark)
        assert not frozen(job.pid or 0)
        assert not client.unpause(job.id).paused
        client.cancel(job.id, grace_s=0)
        client.wait(job.id, TIMEOUT_S)
        kinds = [event.kind for event in client.events(since=0, job_id=job.id) if event.kind != "progress"]
        assert kinds == ["queued", "starting", "running", "paused", "unpaused", "cancelling", "cancelled"]
        assert code_of(lambda: client.pause(job.id)) == "not_pausable"
        assert code_of(lambda: client.unpause(job.id)) == "not_pausable"
        assert code_of(lambda: client.pause("nosuchjob")) == "not_found"


@pytest.mark.parametrize("tree", TREES)
def test_a_cancel_thaws(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """A paused job has its grace as any other, cleans up in it, and ends by SIGTERM within milliseconds."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        for type_, stage in (("tidy", Stage.SIGTERM), ("stubborn", Stage.SIGKILL)):
            job = client.submit(type_, {"mark": str(mark)})
            wait_until(lambda job=job: client.get(job.id).state is State.RUNNING, "it to run")  # type: ignore[misc]
            wait_until(lambda job=job: client.get(job.id).progress.stage, "it to work")  # type: ignore[misc]
            job = client.pause(job.id)
            wait_until(lambda job=job: stands_still(job), "its tree to stand still")  # type: ignore[misc]
            client.cancel(job.id)
            done = client.wait(job.id, TIMEOUT_S)
            assert (done.state, done.paused) == (State.CANCELLED, False)
            assert done.cancel is not None
            assert done.cancel.gone_s is not None
            assert done.cancel.stage is stage
            late_s = done.cancel.gone_s - (done.cancel.grace_s if stage is Stage.SIGKILL else 0.0)
            assert 0 <= late_s < 1.0
            assert job.pid is not None
            assert not alive(job.pid)


@pytest.mark.parametrize("tree", TREES)
def test_a_command_with_children_is_cancelled_while_it_is_paused(make_daemon: MakeDaemon, tree: str) -> None:
    """All of them get SIGTERM and go on with that: nobody is left for SIGKILL."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    with daemon.client() as client:
        job = client.submit("exec", {"argv": ["sh", "-c", "sleep 1000 & sleep 1000 & wait"]})
        wait_until(lambda: has_children(client.get(job.id)), "its children")
        job = client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        client.cancel(job.id, grace_s=20)
        done = client.wait(job.id, TIMEOUT_S)
        assert done.cancel is not None
        assert (done.state, done.cancel.stage) == (State.CANCELLED, Stage.SIGTERM)
        assert done.cancel.gone_s is not None
        assert done.cancel.gone_s < 1.0


@pytest.mark.parametrize("tree", TREES)
def test_the_next_daemon_knows_who_is_paused(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """SIGKILL of the daemon: the tree stands still all along, until somebody lets it go on, or cancels it."""
    daemon = make_daemon("--tree", tree, "--orphan-grace", "600")
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = escaped(client, mark)
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        before = mark.stat().st_size
        daemon.kill()
        assert stands_still(job)
        daemon.start()
        found = client.get(job.id)
        assert (found.paused, found.state, found.pid) == (True, State.RUNNING, job.pid)
        assert client.stats().adopted == 1
        grows_no_more(client, mark)
        assert mark.stat().st_size == before
        client.unpause(job.id)
        grows(mark)
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        daemon.kill()
        daemon.start()
        client.cancel(job.id, grace_s=0.2)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
    assert not processes_with(str(mark))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("said", ["in the store", "on the board", "nowhere"])
def test_a_daemon_that_died_before_it_thawed(make_daemon: MakeDaemon, tmp_path: Path, tree: str, said: str) -> None:
    """A cancel that is committed, or that the board tells of, goes on, and nobody stays frozen.

    What is frozen though nothing says so cannot come about by a crash (see `pausing`); it can be cancelled, too.
    """
    daemon = make_daemon("--tree", tree, "--orphan-grace", "600")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "tidy", "working", {"mark": str(tmp_path / "mark")})
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        daemon.kill()
        state = "cancelling" if said == "in the store" else "running"
        with sqlite3.connect(daemon.state_dir / "annul.db") as db:
            db.execute("UPDATE job SET paused = 0, state = ? WHERE id = ?", (state, job.id))
        db.close()
        if said == "on the board":
            board = Board.open(daemon.runtime_dir / "jobs" / f"{job.id}.1" / "board")
            board.tell(Notice("cancel", "why", "me", 30.0, time.time()), time.monotonic() + 30.0)
            board.close()
        daemon.start()
        if said == "nowhere":
            client.cancel(job.id)
        done = client.wait(job.id, TIMEOUT_S)
        assert done.state is State.CANCELLED
        assert done.cancel is not None
        assert done.cancel.stage is Stage.SIGTERM
    assert "tidied up" in (tmp_path / "mark").read_text()


@pytest.mark.parametrize("tree", TREES)
def test_without_a_daemon_a_paused_job_ends_as_any_other(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """Its guardian thaws it: it cleans up in its grace, and is not killed."""
    daemon = make_daemon("--tree", tree, "--orphan-grace", "0")
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = started(client, "tidy", "working", {"mark": str(mark)})
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        daemon.kill()
        wait_until(lambda: not alive(job.pid or 0), "it to end")
        assert "tidied up" in mark.read_text()
        daemon.start()
        done = client.wait(job.id, TIMEOUT_S)
        assert done.error is not None
        assert (done.state, done.error.code, done.paused) == (State.FAILED, "orphaned", False)


@pytest.mark.parametrize("tree", TREES)
def test_a_pause_that_the_store_refuses_never_was(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """Nothing is frozen that the store does not know of, and what it says is paused stays frozen."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = escaped(client, mark)
        queued = client.submit("quick", not_before=datetime.now(UTC) + timedelta(hours=1))
        for paused in (False, True):
            if paused:
                client.pause(job.id)
                wait_until(lambda: stands_still(job), "its tree to stand still")
                client.pause(queued.id)
            other = sqlite3.connect(daemon.state_dir / "annul.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            act = client.unpause if paused else client.pause
            for one in (job, queued):
                assert code_of(lambda one=one, act=act: act(one.id)) == "store_unavailable"  # type: ignore[misc]
            other.execute("ROLLBACK")
            other.close()
            for one in (job, queued):
                assert client.get(one.id).paused is paused
            if paused:
                wait_until(lambda: stands_still(job), "its tree to stand still again")
                grows_no_more(client, mark)
            else:
                grows(mark)
        client.unpause(job.id)
        grows(mark)
        assert client.stats().paused == 1
        client.cancel(job.id, grace_s=0)
        client.wait(job.id, TIMEOUT_S)


def test_time_goes_on_for_a_paused_job(client: Client) -> None:
    """Its time-out thaws it and ends it by SIGTERM."""
    job = started(client, "sleepy", "sleeping", timeout_s=5)
    client.pause(job.id)
    done = client.wait(job.id, TIMEOUT_S)
    assert done.error is not None
    assert done.cancel is not None
    assert (done.error.code, done.cancel.stage, done.paused) == ("timeout", Stage.SIGTERM, False)


@pytest.mark.parametrize("tree", TREES)
def test_a_paused_job_whose_leader_is_killed_is_over(make_daemon: MakeDaemon, tmp_path: Path, tree: str) -> None:
    """What it leaves behind is swept, frozen or not."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = escaped(client, mark)
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        os.kill(job.pid or 0, signal.SIGKILL)
        done = client.wait(job.id, TIMEOUT_S)
        assert done.error is not None
        assert (done.state, done.error.code, done.paused) == (State.FAILED, "crashed", False)
        assert done.swept >= 1
    assert not processes_with(str(mark))


def test_a_paused_job_that_a_shutdown_queues_again_stays_paused(daemon: DaemonProcess, tmp_path: Path) -> None:
    """It is thawed for its end; the next attempt begins when somebody says so."""
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job = client.submit("again", {"mark": str(mark)})
        wait_until(mark.exists, "it to run")
        client.pause(job.id)
        daemon.stop()
        daemon.start()
        found = client.get(job.id)
        assert (found.state, found.paused, found.attempt) == (State.QUEUED, True, 1)
        client.wait(client.submit("quick").id, TIMEOUT_S)
        assert client.get(job.id).state is State.QUEUED
        client.unpause(job.id)
        assert client.wait(job.id, TIMEOUT_S).result == 2


def test_a_queued_job_that_is_paused_is_passed_by(daemon: DaemonProcess) -> None:
    """Also over a crash, and where its time has come; the cancel of one needs no process."""
    with daemon.client() as client:
        client.drain()
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        jobs = [client.submit("quick"), client.submit("quick", not_before=soon), client.submit("quick")]
        for job in jobs[:2]:
            assert client.pause(job.id).paused
        client.resume()
        client.wait(jobs[2].id, TIMEOUT_S)
        daemon.kill()
        daemon.start()
        wait_until(lambda: datetime.now(UTC) > soon, "the time of the delayed one")
        client.wait(client.submit("quick").id, TIMEOUT_S)
        assert [client.get(job.id).state for job in jobs] == [State.QUEUED, State.QUEUED, State.COMPLETED]
        assert client.stats().paused == 2
        client.unpause(jobs[1].id)
        assert client.wait(jobs[1].id, TIMEOUT_S).state is State.COMPLETED
        answer = client.cancel(jobs[0].id)
        assert answer.outcome == "cancelled_before_start"
        assert answer.job is not None
        assert not answer.job.paused
        assert not client.get(jobs[0].id).paused


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("seed", range(2))
def test_pause_cancel_timeout_and_restart_in_any_order(
    make_daemon: MakeDaemon, tmp_path: Path, tree: str, seed: int
) -> None:
    """Whatever came when: who was cancelled, or ran out of time, is gone; all others go on once they are unpaused."""
    chance = random.Random(seed)
    daemon = make_daemon("--tree", tree, "--max-running", "8")
    daemon.start()
    with daemon.client() as client:
        marks = [tmp_path / f"mark-{number}" for number in range(8)]
        jobs = [client.submit("escaper", {"mark": str(mark)}) for mark in marks]
        short = client.submit("escaper", {"mark": str(tmp_path / "short")}, timeout_s=1.5)
        cancelled: set[str] = set()
        for act in chance.sample(["pause"] * 14 + ["unpause"] * 10 + ["cancel"] * 4 + ["kill", "hand over"] * 2, 32):
            job = chance.choice(jobs)
            if act in ("kill", "hand over"):
                assert daemon.process is not None
                daemon.process.send_signal(signal.SIGKILL if act == "kill" else signal.SIGUSR2)
                daemon.process.wait(TIMEOUT_S)
                daemon.start()
            elif act == "cancel":
                client.cancel(job.id)
                cancelled.add(job.id)
            else:
                try:
                    client.pause(job.id) if act == "pause" else client.unpause(job.id)
                except RequestRefused:
                    assert job.id in cancelled  # and over, or ending
        for job, mark in zip(jobs, marks, strict=True):
            if job.id in cancelled:
                assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED
                assert not processes_with(f"ANNUL_MARK={job.id}.")
            else:
                client.unpause(job.id)
                grows(mark)
                assert not client.get(job.id).paused
        ended = client.wait(short.id, TIMEOUT_S)
        assert ended.error is not None
        assert (ended.state, ended.error.code) == (State.FAILED, "timeout")
        assert not processes_with(f"ANNUL_MARK={short.id}.")


def test_a_job_that_is_paused_while_it_starts_is_frozen_when_it_runs(client: Client) -> None:
    """It has its time to register first: a launch that stands still would be taken for one that failed."""
    job = client.submit("slow-sleeper")
    wait_until(lambda: client.get(job.id).state is State.STARTING, "it to start")
    client.pause(job.id)
    wait_until(lambda: client.get(job.id).state is State.RUNNING, "it to run")
    wait_until(lambda: stands_still(client.get(job.id)), "it to stand still")
    client.cancel(job.id)
    assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED


@pytest.mark.parametrize("tree", TREES)
def test_what_somebody_else_has_stopped_is_another_matter(make_daemon: MakeDaemon, tree: str) -> None:
    """A job with a process stopped by hand is not paused, and the end of a pause does not let that one go on."""
    daemon = make_daemon("--tree", tree)
    daemon.start()
    with daemon.client() as client:
        job = client.submit("exec", {"argv": ["sh", "-c", "sleep 1000 & sleep 1000 & wait"]})
        wait_until(lambda: has_children(client.get(job.id)), "its children")
        job = client.get(job.id)
        leader, *others = below(job.pid or 0)
        os.kill(others[-1], signal.SIGSTOP)
        wait_until(lambda: state_of(others[-1]) == "T", "it to stop")
        assert not client.get(job.id).paused
        client.pause(job.id)
        wait_until(lambda: stands_still(job), "its tree to stand still")
        client.unpause(job.id)
        wait_until(lambda: not frozen(leader), "it to go on")
        wait_until(lambda: state_of(others[0]) == "S", "the others too")
        assert state_of(others[-1]) == "T"
        client.cancel(job.id)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED


# --- drain ------------------------------------------------------------------------------------------------------


def test_a_drained_daemon_starts_nothing_until_it_is_resumed(daemon: DaemonProcess) -> None:
    """Submits are taken, running jobs go on, both kinds of cancel work; a crash in between changes nothing."""
    with daemon.client() as client:
        running = started(client, "sleepy", "sleeping", {"seconds": 1000})
        reply = client.drain()
        assert (reply.draining, reply.running) == (True, 1)
        jobs = [client.submit("quick") for _ in range(2)]
        late = client.submit("quick", not_before=datetime.now(UTC) + timedelta(seconds=0.05))
        with pytest.raises(TimeoutError):
            client.wait(late.id, 0.3)
        assert client.get(running.id).state is State.RUNNING
        assert client.cancel(jobs[0].id).outcome == "cancelled_before_start"
        assert client.cancel(running.id).outcome == "cancelling"
        assert client.wait(running.id, TIMEOUT_S).state is State.CANCELLED
        daemon.kill()
        daemon.start()
        assert client.ping().draining
        assert "no job is started" in daemon.said()
        # It waits, and does not spin at what is due: less than a tenth of that time on the processor.
        assert daemon.process is not None
        stat = Path(f"/proc/{daemon.process.pid}/stat")
        before = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
        with pytest.raises(TimeoutError):
            client.wait(late.id, 1.0)
        spent = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) - before
        assert spent / os.sysconf("SC_CLK_TCK") < 0.3
        assert client.stats().queued == 2
        assert not client.resume().draining
        assert {client.wait(job.id, TIMEOUT_S).state for job in (jobs[1], late)} == {State.COMPLETED}
        assert not client.resume().draining  # repeatable
        daemon.kill()
        daemon.start()
        assert not client.ping().draining


# --- the queue --------------------------------------------------------------------------------------------------


def test_another_priority_is_another_place(make_daemon: MakeDaemon) -> None:
    """At once, and over a crash; one that has its slot has no place to change."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with daemon.client() as client:
        client.drain()
        jobs = [client.submit("quick", priority=priority) for priority in (5, 0, 0)]
        assert client.reprioritize(jobs[2].id, 9).priority == 9
        assert client.reprioritize(jobs[0].id, -9).priority == -9
        daemon.kill()
        daemon.start()
        assert client.reprioritize(jobs[1].id, 1).priority == 1
        assert client.get(jobs[2].id).priority == 9
        client.resume()
        done = [client.wait(job.id, TIMEOUT_S) for job in jobs]
        order = sorted(done, key=lambda job: job.started_at or datetime.max.replace(tzinfo=UTC))
        assert [job.id for job in order] == [jobs[2].id, jobs[1].id, jobs[0].id]
        assert code_of(lambda: client.reprioritize(jobs[0].id, 1)) == "not_queued"
        assert code_of(lambda: client.reprioritize("nosuchjob", 1)) == "not_found"
        assert code_of(lambda: client.reprioritize(jobs[0].id, 2**31)) == "invalid_request"


def test_a_user_has_so_many_places_in_the_queue(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """The others' are not affected."""
    (short_dir / "annul.toml").write_text("max_queued_per_user = 1")
    daemon = make_daemon("--config", str(short_dir / "annul.toml"))
    daemon.start()
    with daemon.client() as client:
        client.drain()
        first = client.submit("quick", user="ann")
        with pytest.raises(QueueFull, match="1 jobs of user ann"):
            client.submit("quick", user="ann")
        client.submit("quick", user="bob")
        client.cancel(first.id)
        client.submit("quick", user="ann")


# --- retry ------------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_job_with_the_same_parameters_and_files(client: Client) -> None:
    """The old one stays as it ended, and keeps its key; what it had read may be purged with it."""
    old = client.submit(
        "reads-file", {"file": b"\xff no text"}, key="k", user="ann", title="it", labels={"a": "b"}, priority=3
    )
    assert client.wait(old.id, TIMEOUT_S).state is State.FAILED
    new = client.retry(old.id)
    same = ("type", "user", "title", "labels", "priority", "timeout_s")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]
    assert (new.retry_of, new.key, new.id != old.id) == (old.id, None, True)
    done = client.wait(new.id, TIMEOUT_S)
    assert done.error is not None
    assert "decode byte 0xff" in done.error.message
    assert client.get(old.id).key == "k"
    client.purge(old.id)
    assert client.wait(client.retry(new.id).id, TIMEOUT_S).error == done.error
    assert code_of(lambda: client.retry(old.id)) == "not_found"


def test_what_cannot_be_retried_is_refused(client: Client) -> None:
    """A completed job, a live one, and one whose input files are gone."""
    done = client.wait(client.submit("quick").id, TIMEOUT_S)
    assert code_of(lambda: client.retry(done.id)) == "not_retryable"
    client.drain()
    queued = client.submit("measure", {"file": b"abc"})
    assert code_of(lambda: client.retry(queued.id)) == "not_retryable"
    client.cancel(queued.id)
    wait_until(lambda: _refused(client, queued.id) == "inputs_gone", "its input to be swept")


def _refused(client: Client, job_id: str) -> str:
    try:
        client.cancel(client.retry(job_id).id)
    except RequestRefused as error:
        return error.code
    return ""


# --- stats ------------------------------------------------------------------------------------------------------


def test_stats_count_what_lives_and_what_was_done(daemon: DaemonProcess) -> None:
    """By the blocking client and by the one of asyncio."""
    with daemon.client() as client:
        client.wait(client.submit("quick").id, TIMEOUT_S)
        job = started(client, "sleepy", "sleeping")
        client.cancel(job.id)
        client.wait(job.id, TIMEOUT_S)
        runs = started(client, "sleepy", "sleeping")
        client.drain()
        client.pause(client.submit("measure", {"file": b"x"}).id)
        found = client.stats()

        async def ask() -> object:
            async with AsyncClient(daemon.endpoint) as other:
                await other.pause(runs.id)
                await other.unpause(runs.id)
                return await other.stats()

        assert type(asyncio.run(ask())) is type(found)
    assert (found.queued, found.running, found.cancelling, found.paused) == (1, 1, 0, 1)
    assert found.by_type == {"measure": {"queued": 1}, "sleepy": {"running": 1}}
    assert (found.submitted, found.draining, found.stuck, found.adopted) == (4, True, 0, 0)
    assert found.ended == {"completed": 1, "failed": 0, "cancelled": 1}
    assert found.stages == {"before_start": 0, "flag": 0, "sigterm": 1, "sigkill": 0}
    assert (found.start.count, found.cancel.count) == (3, 1)
    assert 0 < found.cancel.sum_s == found.cancel.max_s < 5
    assert 0 < found.start.max_s <= found.start.sum_s < 10
    assert found.oldest_queued_s is not None
    assert 0 <= found.oldest_queued_s < 10


def test_stats_count_each_start(client: Client) -> None:
    """Also of jobs that are over before it is told that they run."""
    jobs = [client.submit("exec", {"argv": ["true"]}) for _ in range(60)]
    for job in jobs:
        client.wait(job.id, TIMEOUT_S)
    assert client.stats().start.count == len(jobs)


# --- SIGHUP -----------------------------------------------------------------------------------------------------


def test_sighup_reads_the_configuration_again(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """Limits take effect at once; a file that is wrong changes nothing; what needs a restart is said."""
    file = short_dir / "annul.toml"
    file.write_text("max_running = 1\nmax_queued = 10")
    daemon = make_daemon("--config", str(file))
    daemon.start()
    assert daemon.process is not None

    def hup(text: str, answer: str) -> None:
        assert daemon.process is not None
        told = len(daemon.said())
        file.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: answer in daemon.said()[told:], answer)

    with daemon.client() as client:
        jobs = [client.submit("sleepy") for _ in range(2)]
        wait_until(lambda: client.get(jobs[0].id).state is State.RUNNING, "the first to run")
        assert client.get(jobs[1].id).state is State.QUEUED
        hup("max_runing = 2", "no setting 'max_runing'; is it max_running?")
        hup('max_running = "2"', "all stays as it was")
        assert client.ping().max_running == 1
        hup(
            "max_running = 1\nmax_queued = 10\nmax_running_per_type = { slepy = 1 }",
            "no job type 'slepy' here; is it sleepy?",
        )
        hup("max_running = 2\nmax_queued = 1\nspares = 7", "spares: needs a restart")
        assert "max_running 1 -> 2" in daemon.said()
        wait_until(lambda: client.get(jobs[1].id).state is State.RUNNING, "the second to run")
        client.submit("quick")
        with pytest.raises(QueueFull):
            client.submit("quick")
        hup('max_running = 1\nmax_queued = 1\nlog_level = "WARNING"\nspares = 7', "max_running 2 -> 1")
        assert client.ping().max_running == 1
        assert {client.get(job.id).state for job in jobs} == {State.RUNNING}  # nobody is stopped for a lower limit
