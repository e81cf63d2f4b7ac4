"""`AsyncClient` behind the face of `Client`, so that one suite of tests is for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self
from weakref import WeakSet

from annul_client import AsyncClient, Event
from harness import TIMEOUT_S


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One that runs in a thread of its own. Fails where tasks are left in it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
        left = asyncio.run_coroutine_threadsafe(_others(), loop).result(TIMEOUT_S)
        assert not left
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT_S)
        loop.close()


async def _others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


class Asynced:
    """Each call is a task of the loop, and blocks the calling thread until it is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: str | None = None, timeout_s: float = 10.0) -> None:
        self._loop = loop
        self._client = AsyncClient(endpoint, timeout_s)
        self._streams: WeakSet[Generator[Event, None, None]] = WeakSet()

    @property
    def timeout_s(self) -> float:
        return self._client.timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        self._client.timeout_s = seconds

    def close(self) -> None:
        for stream in list(self._streams):
            with suppress(ValueError):  # it runs in another thread, which finds out
                stream.close()
        self._result(self._client.close())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._result(method(*args, **options))

    def events(self, since: int | None = None, job_id: str | None = None) -> Generator[Event, None, None]:
        stream = self._follow(self._client.events(since, job_id))
        self._streams.add(stream)
        return stream

    def _follow(self, stream: AsyncGenerator[Event, None]) -> Generator[Event, None, None]:

        async def following() -> Event | None:
            return await anext(stream, None)

        try:
            while (event := self._result(following())) is not None:
                yield event
        finally:
            self._result(stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _result(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
