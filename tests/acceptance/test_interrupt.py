"""How a cancel reaches the code of a job, wherever it is: real daemon, real signals, awkward places.

Each job has half a minute of grace (a few have less, and say so), so one that is `cancelled` by ``sigterm`` was
interrupted, and one that was not shows as ``sigkill``.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annul_client import Client, Job, Stage, State
from children.libraries import WAYS
from harness import TESTS, DaemonProcess, processes_with, wait_until
from openai_server import Behaviour, OpenAIServer, hang, stall, trickle

CLEAN_UP = ["generator", "except", "finally", "stack"]


@pytest.fixture
def client(make_daemon: Callable[..., DaemonProcess]) -> Client:
    """A client of a daemon that has the jobs of `children.signals` and `children.libraries`."""
    daemon = make_daemon("--jobs", "children.signals", "--jobs", "children.libraries")
    daemon.start()
    with daemon.client() as found:
        yield found


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def ready(client: Client, type_: str, mark: Path, how: str = "", **params: str) -> Job:
    job = client.submit(type_, {"mark": str(mark), "how": how, **params})
    wait_until(lambda: client.get(job.id).progress.stage == "ready" or client.get(job.id).state.final, f"{type_} {how}")
    job = client.get(job.id)
    assert job.state is State.RUNNING, job.error
    return job


def cancelled(client: Client, type_: str, mark: Path, how: str = "") -> list[str]:
    """Cancel such a job when it is ready; it must end by the signal. What it wrote to its mark."""
    job = ready(client, type_, mark, how)
    client.cancel(job.id)
    assert_interrupted(client, job)
    return mark.read_text().splitlines() if mark.exists() else []


def assert_interrupted(client: Client, job: Job) -> None:
    """It ends as `cancelled`, by the signal, and nothing is left of it."""
    job = client.wait(job.id, 30)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.sigkill_s is None
    assert job.cancel.stage in {Stage.SIGTERM, Stage.FLAG}
    assert not processes_with(f"ANNUL_MARK={job.id}.")


@pytest.mark.parametrize("how", ["", "look"])
def test_a_job_cleans_up_under_a_storm_of_signals(client: Client, mark: Path, how: str) -> None:
    """Nothing is raised again in finally, in an except inside it, in an exit stack, in a generator being dropped."""
    assert cancelled(client, "cleaner", mark, how) == CLEAN_UP


@pytest.mark.parametrize("how", ["gather", "group"])
def test_an_async_job_cleans_up_under_a_storm_of_signals(client: Client, mark: Path, how: str) -> None:
    """It is not cancelled again in its children's clean-up, nor in its own."""
    assert cancelled(client, "cleaner-task", mark, how) == ["child", "finally", "stack"]


def test_a_flag_job_is_never_interrupted(client: Client, mark: Path) -> None:
    """However many signals come; its own look raises."""
    assert cancelled(client, "cleaner-flag", mark) == ["woken", "finally"]


@pytest.mark.parametrize("how", ["del", "ctypes", "sqlite", "sorted"])
def test_a_swallowed_cancel_comes_again(client: Client, mark: Path, how: str) -> None:
    """Lost in a destructor, in callbacks that C calls, or by the job itself: once more, and then never again."""
    assert cancelled(client, "swallowed", mark, how) == ["swallowed", "cleaned up"]


def test_an_async_job_that_swallows_its_cancel_gets_it_again(client: Client, mark: Path) -> None:
    """With the next SIGTERM after it is done with the first."""
    assert cancelled(client, "swallowed-task", mark) == ["swallowed 0", "swallowed 1", "cleaned up"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("asyncio", {"background", "coroutine True", "coroutine False"}),
        ("taskgroup", set()),
        ("sqlite", set()),
        ("any", {"True Cancelled"}),
        ("thread", {"thread [True]"}),
        ("subprocess", set()),
        ("process", set()),
    ],
)
def test_other_peoples_code_is_interrupted(client: Client, mark: Path, how: str, said: set[str]) -> None:
    """asyncio.run in a sync job, a query (by its listener), waits in threads, subprocesses; and clean-up runs once."""
    lines = cancelled(client, "between", mark, how)
    assert lines[-1] == "cleaned up"
    assert set(lines[:-1]) <= said
    assert bool(lines[:-1]) is bool(said)


@pytest.mark.parametrize("how", WAYS)
def test_waits_of_the_standard_library_are_interrupted(client: Client, mark: Path, how: str) -> None:
    """Also those in C; its children are gone too."""
    assert cancelled(client, "inside", mark, how) == ["cleaned up"]


def test_pypdf_swallows_no_cancel(client: Client, tmp_path: Path) -> None:
    """100 times, anywhere in the extraction of a real CV."""
    rng = random.Random(7)
    mark = tmp_path / "mark"
    for _ in range(100):
        job = ready(client, "extract", mark, path=str(TESTS.parent / "examples" / "cv-en.pdf"))
        end = time.monotonic() + rng.uniform(0, 0.03)
        while time.monotonic() < end:
            pass
        client.cancel(job.id)
        assert_interrupted(client, job)
    assert mark.read_text() == "cleaned up\n" * 100


@pytest.mark.parametrize(
    ("type_", "how", "behaviour", "requests"),
    [
        ("ask", "whole", hang, 1),
        ("ask", "stream", hang, 1),
        ("ask", "stream", stall, 1),
        ("ask", "stream", trickle, 1),
        ("ask", "thread", hang, 1),
        ("ask", "thread-stream", trickle, 1),
        ("ask-async", "whole", hang, 1),
        ("ask-async", "stream", hang, 1),
        ("ask-async", "stream", stall, 1),
        ("ask-async", "stream", trickle, 1),
        ("ask-async", "three at once", hang, 3),
    ],
)
def test_an_openai_call_is_broken_off(
    client: Client, mark: Path, type_: str, how: str, behaviour: Callable[[], Behaviour], requests: int
) -> None:
    """The server sees its connections close, and no request comes after that, though this client retries."""
    with OpenAIServer(behaviour()) as server:
        job = client.submit(type_, {"mark": str(mark), "how": how, "url": server.base_url})
        server.wait_request(requests)
        client.cancel(job.id)
        server.wait_closed()
        assert_interrupted(client, job)
        assert len(server.requests) == requests
    assert mark.read_text() == "cleaned up\n"


def test_an_async_job_hears_of_it_and_hands_it_on(client: Client, mark: Path) -> None:
    """`wait_async` inside a shield, `cancel_task` for a task of its own; then the job's own task is cancelled."""
    assert cancelled(client, "waiter-task", mark) == ["heard of cancel, True"]


@pytest.mark.parametrize("how", ["", "daemon"])
def test_stuck_threads_do_not_delay_the_end(client: Client, mark: Path, how: str) -> None:
    """They end with the process, be they daemons or not, or of a pool."""
    assert cancelled(client, "stuck-thread", mark, how) == []


def test_stuck_threads_do_not_delay_completion(client: Client, mark: Path) -> None:
    """A job that returns is done."""
    job = client.wait(client.submit("stuck-thread", {"mark": str(mark), "how": "return"}).id, 30)
    assert job.state is State.COMPLETED


def test_an_async_job_does_not_wait_for_a_stuck_thread(client: Client, mark: Path) -> None:
    """`asyncio.to_thread` is given up, the thread ends with the process."""
    assert cancelled(client, "stuck-thread-task", mark) == []


def test_a_pool_of_busy_processes_is_gone_with_the_job(client: Client, mark: Path) -> None:
    """Its ``with`` block waits for them until the deadline, unless SIGTERM goes to the tree."""
    assert cancelled(client, "pool-tree", mark) == []
    job = ready(client, "pool", mark)
    client.cancel(job.id)
    job = client.wait(job.id, 30)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert job.cancel.gone_s is not None
    assert not processes_with(f"ANNUL_MARK={job.id}.")


@pytest.mark.parametrize("how", ["return", "raise", "cancelled", "exit"])
def test_a_forked_child_never_writes_the_outcome(client: Client, mark: Path, how: str) -> None:
    """Whichever way it comes out of the job's function; the parent is cancelled, or completes, as ever."""
    assert cancelled(client, "forker", mark, how) == []
    mark.touch()
    job = client.wait(client.submit("forker", {"mark": str(mark), "how": how}).id, 30)
    assert (job.state, job.result) == (State.COMPLETED, "of the parent")


@pytest.mark.parametrize("how", ["block", "replace"])
def test_a_job_that_takes_sigterm_away_dies_at_the_deadline(client: Client, mark: Path, how: str) -> None:
    """Its listeners hear of the cancel nevertheless."""
    job = ready(client, "deaf", mark, how)
    client.cancel(job.id)
    job = client.wait(job.id, 30)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert mark.read_text() == "heard\n"


def test_a_sigterm_from_outside_ends_a_flag_job_too(client: Client, mark: Path) -> None:
    """It aborts the signal, without a kind, and the job is `failed` as terminated."""
    job = ready(client, "killed", mark)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGTERM)
    job = client.wait(job.id, 30)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == "terminated"
    assert mark.read_text() == "None: SIGTERM from outside annul\n"
