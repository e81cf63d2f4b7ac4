"""Both clients against a real daemon: over restarts, from many threads or tasks, and when nobody is there.

Each test runs with the blocking client, and with that of asyncio behind the same face.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from annul_client import (
    CancelOutcome,
    Client,
    ClientClosed,
    Event,
    EventsLost,
    KeyConflict,
    NoDaemon,
    NotCompleted,
    NotFound,
    RequestRefused,
    Stage,
    State,
    TooBig,
    wire,
)
from asynced import Asynced, event_loop
from harness import TIMEOUT_S, wait_until

Connect = Callable[..., Any]

SLEEPER = {"argv": ["sleep", "1000"]}


def shell(script: str) -> dict[str, Any]:
    return {"argv": ["sh", "-c", script]}


def reach(client: Client, job_id: str, *states: State) -> None:
    """Wait until a job is, or has been, in one of these states, by its events."""
    for event in client.events(since=0, job_id=job_id):
        if event.job.state in states:
            return
    raise AssertionError(f"job {job_id} ended as {client.get(job_id).state}, and was never one of {states}")


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of the one and of the other kind."""
    if request.param == "blocking":
        yield Client
    else:
        with event_loop() as loop:
            yield lambda *args, **options: Asynced(loop, *args, **options)


@pytest.fixture
def client(daemon: Any, connect: Connect) -> Iterator[Any]:
    with connect(daemon.endpoint) as found:
        yield found


# --- jobs ---------------------------------------------------------------------------------------------------


def test_a_job_goes_from_submit_to_result(client: Client) -> None:
    """What is submitted runs, and its result and its log can be had."""
    job = client.submit("exec", shell("echo hello"), user="u1", title="greet", labels={"a": "b"}, key="k1", priority=3)
    assert (job.user, job.title, job.labels, job.key, job.priority) == ("u1", "greet", {"a": "b"}, "k1", 3)
    done = client.wait(job.id)
    assert done.state is State.COMPLETED
    assert client.result(job.id).result["exit_code"] == 0
    assert client.logs(job.id) == b"hello\n"
    assert client.logs(job.id, offset=-3) == b"lo\n"
    assert [each.id for each in client.list(user="u1", state=State.COMPLETED, type="exec")] == [job.id]
    assert client.list(user="nobody") == []


def test_a_cancelled_job_is_cancelled_and_says_how(client: Client) -> None:
    """A cancel is accepted at once, ends as cancelled, and a repeat says that it is over."""
    job = client.submit("exec", SLEEPER)
    reach(client, job.id, State.RUNNING)
    reply = client.cancel(job.id, reason="the user went away", by="ann")
    assert reply.outcome is CancelOutcome.CANCELLING
    done = client.wait(job.id)
    assert done.state is State.CANCELLED
    assert done.cancel is not None
    assert (done.cancel.reason, done.cancel.by) == ("the user went away", "ann")
    assert done.cancel.stage in (Stage.FLAG, Stage.SIGTERM)
    again = client.cancel(job.id)
    assert again.outcome is CancelOutcome.ALREADY_FINAL
    assert again.job is not None
    assert again.job.state is State.CANCELLED
    with pytest.raises(NotCompleted):
        client.result(job.id)


def test_many_jobs_are_cancelled_by_label(client: Client) -> None:
    """A cancel by label reaches exactly the jobs that carry it."""
    ours = [client.submit("exec", SLEEPER, labels={"batch": "7"}) for _ in range(2)]
    other = client.submit("exec", SLEEPER, labels={"batch": "8"})
    reply = client.cancel(label={"batch": "7"}, grace_s=0)
    assert {job.id for job in reply.jobs} == {job.id for job in ours}
    assert {client.wait(job.id).state for job in ours} == {State.CANCELLED}
    assert not client.get(other.id).state.final
    client.cancel(other.id, grace_s=0)


def test_a_cancel_of_many_has_its_time(daemon: Any, connect: Connect) -> None:
    """It is one request for all of them: a daemon that is not done with it yet is no daemon that is not there."""
    assert daemon.process is not None
    with connect(daemon.endpoint, timeout_s=0.5) as client, Client(daemon.endpoint, timeout_s=0.5) as other:
        later = datetime.now(UTC) + timedelta(days=1)
        jobs = [client.submit("quick", labels={"batch": "8"}, not_before=later) for _ in range(3)]
        other.ping()
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                cancelling = pool.submit(lambda: client.cancel(label={"batch": "8"}))
                for _ in range(3):  # each takes all of a time-out
                    with pytest.raises(NoDaemon):
                        other.ping()
                daemon.process.send_signal(signal.SIGCONT)
                assert cancelling.result(TIMEOUT_S).count == len(jobs)
        finally:
            daemon.process.send_signal(signal.SIGCONT)


def test_a_cancel_of_an_unknown_id_is_an_outcome(client: Client) -> None:
    """Cancelling what is not there raises nothing; asking for it does."""
    assert client.cancel("nosuchjob").outcome is CancelOutcome.NOT_FOUND
    for ask in (client.get, client.wait, client.result, client.logs):
        with pytest.raises(NotFound):
            ask("nosuchjob")
    with pytest.raises(NotFound):
        next(client.events(job_id="nosuchjob"))


def test_a_cancel_that_names_nothing_does_not_mean_everything(client: Client) -> None:
    """Without an id and without a filter no request is made."""
    with pytest.raises(ValueError, match="name a job"):
        client.cancel()


def test_a_wait_that_is_over_before_the_job_raises_timeout_error(client: Client) -> None:
    """The builtin TimeoutError, and the job goes on."""
    job = client.submit("exec", SLEEPER)
    for timeout in (0, 0.1):
        with pytest.raises(TimeoutError, match=job.id):
            client.wait(job.id, timeout=timeout)
    assert not client.get(job.id).state.final
    client.cancel(job.id, grace_s=0)
    assert client.wait(job.id, timeout=60).state is State.CANCELLED


@pytest.mark.parametrize(
    ("type_name", "params", "field"),
    [
        ("no-such-type", {}, "type"),
        ("exec", {"argv": "not a list"}, "argv"),
        ("exec", {}, "argv"),
        ("exec", {"argv": ["ls"], "color": 1}, "color"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    client: Client, type_name: str, params: dict[str, Any], field: str
) -> None:
    """An unknown type or a wrong parameter is refused when it is submitted, naming it."""
    with pytest.raises(RequestRefused) as raised:
        client.submit(type_name, params)
    assert field in (raised.value.field or "")


def test_a_key_makes_one_job_and_other_content_is_a_conflict(client: Client) -> None:
    """The same key and content is the same job; the same key with other content is refused."""
    first = client.submit("exec", shell("true"), key="k")
    assert client.submit("exec", shell("true"), key="k").id == first.id
    with pytest.raises(KeyConflict):
        client.submit("exec", shell("false"), key="k")


def test_one_refused_job_of_many_does_not_stop_the_others(client: Client) -> None:
    """`submit_many` answers for each job, in order."""
    replies = client.submit_many(
        [
            {"type": "exec", "params": shell("true"), "user": "m"},
            {"type": "no-such-type"},
            {"type": "exec", "params": shell("true"), "user": "m"},
        ]
    )
    assert [reply.error and reply.error.code for reply in replies] == [None, "unknown_type", None]
    assert {client.wait(r.job.id).state for r in replies if r.job is not None} == {State.COMPLETED}


def test_one_list_that_is_refused_does_not_confuse_the_others(client: Client) -> None:
    """The lists before it are queued; what is asked next gets its own answer, not one of theirs."""
    small = {"type": "exec", "params": shell("true"), "user": "n"}
    big = {"type": "exec", "params": {"argv": ["true"], "stdin": b"x" * wire.MAX_MESSAGE}}
    with pytest.raises(TooBig):
        client.submit_many([small] * 1200 + [big])
    assert client.submit("exec", shell("true"), user="n").user == "n"
    wait_until(lambda: len(client.list(user="n", limit=1000)) == 1000, "the lists before it")


def test_the_daemon_says_what_it_is_and_what_it_knows(client: Client) -> None:
    """`ping` and `types`."""
    assert client.ping().pid > 0
    assert {"exec"} <= {info.name for info in client.types().types}


# --- events -------------------------------------------------------------------------------------------------


def test_events_of_one_job_end_with_its_final_state(client: Client) -> None:
    """The iterator over one job ends by itself, also for a job that is over already."""
    job = client.submit("exec", shell("true"))
    events = list(client.events(since=0, job_id=job.id))
    assert events[-1].job.state is State.COMPLETED
    assert [event.job_seq for event in events] == list(range(1, len(events) + 1))
    assert list(client.events(job_id=job.id)) == []
    assert list(client.events(since=0, job_id=job.id)) == events
    assert list(client.events(since=events[0].seq, job_id=job.id)) == events[1:]


def test_events_beyond_the_end_of_the_log_are_lost_events(client: Client) -> None:
    """A place that the log never reached belongs to another log."""
    with pytest.raises(EventsLost):
        next(client.events(since=10**9))


class Follower:
    """Reads all events in a thread, until it is closed with its client."""

    def __init__(self, client: Client, since: int | None = 0) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(client, since))
        self._thread.start()

    def _run(self, client: Client, since: int | None) -> None:
        try:
            for event in client.events(since=since):
                with self._moved:
                    self.events.append(event)
                    self._moved.notify_all()
        except Exception as error:
            self.error = error

    def saw_final(self, job_ids: set[str], timeout_s: float = 60) -> bool:
        def over() -> bool:
            return job_ids <= {event.job.id for event in self.events if event.job.state.final}

        with self._moved:
            return self._moved.wait_for(over, timeout_s)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_follower_sees_every_event_once_and_many_threads_share_a_client(connect: Connect, daemon: Any) -> None:
    """Eight threads and a follower use one client; every number comes once, in order."""

    def work(client: Client, number: int) -> str:
        job = client.submit("exec", shell("true"), user=f"u{number}")
        assert client.wait(job.id).state is State.COMPLETED
        assert client.get(job.id).id == job.id
        return job.id

    with connect(daemon.endpoint) as client:
        follower = Follower(client)
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda number: work(client, number), range(16)))
        assert follower.saw_final(ids)
    follower.join()
    assert isinstance(follower.error, ClientClosed)
    assert [event.seq for event in follower.events] == list(range(1, len(follower.events) + 1))


def test_a_restart_in_the_middle_of_wait_events_and_requests_is_only_a_delay(
    connect: Connect, daemon: Any, tmp_path: Path
) -> None:
    """After kill -9 and a new start the same calls go on: no event twice, none missing, no job twice."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with connect(daemon.endpoint, timeout_s=60) as client:
        job = client.submit("exec", shell(f"cat {gate}"))
        reach(client, job.id, State.RUNNING)
        follower = Follower(client)
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(client.wait, job.id)
            daemon.kill()
            submitted = pool.submit(client.submit, "exec", shell("true"))
            daemon.start()
            gate.open("wb").close()  # lets the job end
            assert waiting.result(60).state is State.COMPLETED
            second = submitted.result(60)
        assert follower.saw_final({job.id, second.id})
        assert len(client.list()) == 2
    follower.join()
    assert [event.seq for event in follower.events] == list(range(1, len(follower.events) + 1))


def test_a_restart_in_the_middle_of_submit_many_makes_every_job_once(
    connect: Connect, make_daemon: Callable[..., Any]
) -> None:
    """Lists that were on their way are sent again, and those that had been taken make no second job."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with connect(daemon.endpoint, timeout_s=60) as client, ThreadPoolExecutor(1) as pool:
        client.ping()
        jobs = [{"type": "exec", "params": SLEEPER, "title": str(number)} for number in range(6000)]
        submitted = pool.submit(client.submit_many, jobs)
        wait_until(lambda: client.ping().queued, "the first of them")
        daemon.kill()
        assert not submitted.done()
        daemon.start()
        found = [one.job for one in submitted.result(60)]
        assert [job and job.title for job in found] == [job["title"] for job in jobs]
        assert len({job.id for job in found if job}) == len(jobs)
        assert client.cancel(type="exec").count == len(jobs)


# --- nobody there -------------------------------------------------------------------------------------------


def test_no_socket_is_no_daemon_at_once(connect: Connect, short_dir: Path) -> None:
    """Where no socket is, the first request says so, without its time-out passing, and how to start one."""
    with connect(f"ipc://{short_dir}/none.sock", timeout_s=1000) as client, pytest.raises(NoDaemon) as raised:
        client.ping()
    assert "annul serve" in str(raised.value)


def test_a_socket_that_nobody_listens_on_is_no_daemon_at_once(connect: Connect, short_dir: Path) -> None:
    """What a killed daemon leaves behind is not taken for a daemon."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short_dir / "annul.sock"))
    with connect(f"ipc://{short_dir}/annul.sock", timeout_s=1000) as client, pytest.raises(NoDaemon):
        client.ping()


def test_a_listener_that_never_answers_is_no_daemon_after_the_time_out(connect: Connect, short_dir: Path) -> None:
    """`timeout_s` bounds a request to something that accepts connections and is no daemon of annul's."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(short_dir / "annul.sock"))
        mute.listen()
        with connect(f"ipc://{short_dir}/annul.sock", timeout_s=0.2) as client, pytest.raises(NoDaemon):
            client.ping()


def test_a_daemon_that_does_not_come_back_ends_the_wait(connect: Connect, daemon: Any) -> None:
    """A wait bears an absence of `timeout_s`, not more; with a shorter time of its own it is a TimeoutError."""
    with connect(daemon.endpoint, timeout_s=0.5) as client:
        job = client.submit("exec", SLEEPER)
        reach(client, job.id, State.RUNNING)
        with ThreadPoolExecutor(2) as pool:
            long = pool.submit(client.wait, job.id)
            short = pool.submit(client.wait, job.id, 0.3)
            daemon.kill()
            with pytest.raises(NoDaemon):
                long.result(60)
            with pytest.raises(TimeoutError):
                short.result(60)
        with pytest.raises(NoDaemon):
            client.ping()
    daemon.start()
    with connect(daemon.endpoint) as client:
        client.cancel(job.id, grace_s=0)
        assert client.wait(job.id).state is State.CANCELLED


def test_what_was_given_up_is_not_carried_out_later(connect: Connect, daemon: Any) -> None:
    """A submit that ended as NoDaemon while there was none does not wait for the next one."""
    with connect(daemon.endpoint, timeout_s=0.2) as client:
        client.ping()
        daemon.kill()
        with pytest.raises(NoDaemon):
            client.submit("exec", SLEEPER)
        daemon.start()
        client.timeout_s = 60
        assert client.submit("exec", shell("true")).id
        assert len(client.list()) == 1


def test_closing_ends_a_wait_and_an_idle_iterator_and_leaves_nothing(connect: Connect, daemon: Any) -> None:
    """`close` is quick, wakes other threads with ClientClosed, and gives back every descriptor and thread."""
    with connect(daemon.endpoint) as other:
        before = (set(os.listdir("/proc/self/fd")), threading.active_count())
        client = connect(daemon.endpoint)
        job = client.submit("exec", SLEEPER)
        idle = client.events(since=0)
        next(idle)
        follower = Follower(client)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.wait, job.id)
            reach(client, job.id, State.RUNNING)
            started = monotonic()
            client.close()
            assert monotonic() - started < 5
            with pytest.raises(ClientClosed):
                waiting.result(30)
        follower.join()
        assert isinstance(follower.error, ClientClosed)
        with pytest.raises(ClientClosed):
            client.ping()
        client.close()
        assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before
        other.cancel(job.id, grace_s=0)
        assert other.wait(job.id).state is State.CANCELLED


FORKS = """
import os, sys
from annul_client import Client

client = Client(sys.argv[1])
client.ping()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        code = 0 if client.ping().pid > 0 else 2
        client.close()
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert client.ping().pid > 0
client.close()
"""


def test_one_that_nobody_closed_goes_with_its_connections(daemon: Any) -> None:
    """Also where the collector takes it apart in any order, as it does with a failed test's."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        client = Client(daemon.endpoint)
        client.ping()
        client.itself = client  # type: ignore[attr-defined]
        del client
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_forked_child_may_use_its_parents_client(daemon: Any) -> None:
    """A service that forks its workers after the first request gets connections that are its own."""
    # In a process of its own: Python warns of a fork in one that has threads, as this one may.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, daemon.endpoint], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
