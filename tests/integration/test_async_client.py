"""What only the client of asyncio can get wrong: tasks that are cancelled, many at once, and the loop it belongs to.

What it does as the blocking one does is tested with that, in test_client.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from annul_client import AsyncClient, ClientClosed, NoDaemon, State
from harness import TIMEOUT_S, DaemonProcess, wait_until

SLEEPER = {"argv": ["sleep", "1000"]}


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a loop of its own, where nothing may be left: no task, no descriptor, no thread."""
    before = (descriptors(), threading.active_count())
    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(work(), TIMEOUT_S))
        assert not asyncio.all_tasks(runner.get_loop())
    assert (descriptors(), threading.active_count()) == before


def descriptors() -> set[str]:
    here = "/proc/self/fd"
    return {name for name in os.listdir(here) if os.path.lexists(f"{here}/{name}")}  # not the one that read it


async def one_is_running(client: AsyncClient) -> str:
    """The id of a job that runs until it is cancelled."""
    job = await client.submit("exec", SLEEPER)
    async with aclosing(client.events(since=0, job_id=job.id)) as events:
        async for event in events:
            if event.job.state is State.RUNNING:
                return job.id
    raise AssertionError(f"job {job.id} never ran")


async def end(client: AsyncClient, job_id: str) -> None:
    await client.cancel(job_id, grace_s=0)
    assert (await client.wait(job_id)).state is State.CANCELLED


def test_a_cancelled_task_leaves_nothing_and_the_client_usable(daemon: DaemonProcess) -> None:
    """At whatever moment it strikes, in whichever call; the job itself is not cancelled by it."""
    chance = random.Random(7)

    async def work() -> None:
        async with AsyncClient(daemon.endpoint) as client:
            job_id = await one_is_running(client)
            before = descriptors()

            async def follow() -> None:
                async with aclosing(client.events(since=0)) as events:
                    async for _ in events:
                        pass

            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: client.wait(job_id),
                client.ping,
                lambda: client.logs(job_id),
                follow,
            ]
            for number in range(200):
                task = asyncio.ensure_future(calls[number % len(calls)]())
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
            assert (await client.get(job_id)).state is State.RUNNING
            # libzmq closes those of closed sockets a little later.
            await asyncio.to_thread(wait_until, lambda: descriptors() <= before, "every descriptor to be closed")
            line = client._line
            assert line is not None
            assert (line._callers, line._by_rid, client._listeners) == ({}, {}, set())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.wait(job_id)
            await end(client, job_id)

    run(work)


def test_a_thousand_tasks_wait_over_one_connection(daemon: DaemonProcess) -> None:
    """They cost no descriptors, hold up no other call, and all learn of the end."""

    async def work() -> None:
        async with AsyncClient(daemon.endpoint) as client:
            job_id = await one_is_running(client)
            before = descriptors()
            waits = [asyncio.create_task(client.wait(job_id)) for _ in range(1000)]
            await asyncio.gather(*(client.ping() for _ in range(10)))
            assert descriptors() <= before
            assert not any(wait.done() for wait in waits)
            await client.cancel(job_id, grace_s=0)
            assert {job.state for job in await asyncio.gather(*waits)} == {State.CANCELLED}

    run(work)


def test_a_daemon_that_hangs_does_not_block_the_loop(daemon: DaemonProcess) -> None:
    """However many requests it leaves unread; they time out, and when it goes on so does the client."""

    async def work() -> None:
        async with AsyncClient(daemon.endpoint, timeout_s=1) as client:
            await client.ping()
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            try:
                began = monotonic()
                calls = asyncio.gather(*(client.list(user="x" * 1000) for _ in range(5000)), return_exceptions=True)
                await asyncio.sleep(0)
                assert monotonic() - began < TIMEOUT_S / 2  # `send` took what the other side does not
                assert {type(answer) for answer in await calls} == {NoDaemon}
            finally:
                daemon.process.send_signal(signal.SIGCONT)
            client.timeout_s = TIMEOUT_S
            assert (await client.ping()).pid == daemon.process.pid

    run(work)


def test_closing_ends_what_other_tasks_await(daemon: DaemonProcess) -> None:
    """Calls and readers of events, under way or idle, raise ClientClosed; so does every later call."""

    async def work() -> None:
        client = AsyncClient(daemon.endpoint)
        job_id = await one_is_running(client)
        idle = client.events(since=0)
        await anext(idle)
        busy = client.events()
        tasks = [asyncio.create_task(client.wait(job_id)), asyncio.ensure_future(anext(busy))]
        while not (client._line and client._line._callers and len(client._listeners) == 2):
            await client.ping()
        await client.close()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [ClientClosed, ClientClosed]
        with pytest.raises(ClientClosed):
            async for _ in idle:
                pass
        with pytest.raises(ClientClosed):
            await client.ping()
        await client.close()
        async with AsyncClient(daemon.endpoint) as other:
            await end(other, job_id)

    run(work)


def test_a_client_belongs_to_one_loop(daemon: DaemonProcess) -> None:
    """In another one it says so, instead of never answering; once its own is closed it can still be closed."""
    before = descriptors()
    client = AsyncClient(daemon.endpoint)
    asyncio.run(client.ping())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(client.ping())
    asyncio.run(client.close())
    assert descriptors() == before


def test_what_is_no_daemon_is_told_from_one(short_dir: Path) -> None:
    """Where nobody speaks ZeroMQ every task is told so, each after its own time."""

    async def work() -> None:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(short_dir / "annul.sock"))
            mute.listen()
            async with AsyncClient(f"ipc://{short_dir}/annul.sock", timeout_s=0.1) as client:
                found = await asyncio.gather(client.ping(), client.types(), return_exceptions=True)
                assert [type(one) for one in found] == [NoDaemon, NoDaemon]

    run(work)


TYPED = """
import asyncio
from typing import assert_type

from annul_client import AsyncClient, CancelReply, Client, Event, Job


def blocking(client: Client) -> None:
    assert_type(client.submit("exec", {"argv": ["true"]}, user="u1"), Job)
    assert_type(client.cancel("a", grace_s=0), CancelReply)
    assert_type(client.list(), list[Job])
    for event in client.events():
        assert_type(event, Event)
    client.submit("exec", colour=1)  # type: ignore[call-arg]
    client.submit("exec", user=1)  # type: ignore[arg-type]


async def awaited(client: AsyncClient) -> None:
    assert_type(await client.submit("exec", {"argv": ["true"]}, user="u1"), Job)
    assert_type(await asyncio.create_task(client.cancel("a", grace_s=0)), CancelReply)
    assert_type(await client.list(), list[Job])
    async for event in client.events():
        assert_type(event, Event)
    client.get("a").state  # type: ignore[attr-defined]
    await client.submit("exec", colour=1)  # type: ignore[call-arg]
"""


def test_both_clients_are_typed(tmp_path: Path) -> None:
    """A type checker knows what each method takes, and that one client's answers are to be awaited."""
    import annul_client

    package = Path(annul_client.__file__).parent
    assert (package / "py.typed").exists()
    (tmp_path / "user.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(package.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
