"""The blocking client."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import msgspec
import zmq

from . import places, wire
from .channel import Channel, Reconnected, probe
from .core import WAIT_PIECE_S, Call, batches, submission
from .errors import ClientClosed, NoDaemon
from .feed import EventFeed
from .keys import KeyFile, key_of
from .subscription import Polling, Subscription

R = TypeVar("R", bound=msgspec.Struct)

# `list` is a method below, and hides the builtin from the annotations that follow it.
Submissions = list[wire.Submitted]
Jobs = list[wire.Job]

CLOSE_S = 1.0
"""Seconds that `close` gives other threads to notice. One that is busy with what `events` gave it closes later."""


class Client:
    """A client of the daemon at one endpoint.

    Thread-safe: any number of threads may use one client at once. Each call under way has a connection of its
    own for as long as it lasts; idle connections are kept for the next call. An iterator from `events`
    belongs to the thread that iterates. A process forked from one that uses a client may use it too: it
    connects anew.

    Connects with the first call. Every call may raise `NoDaemon` (at once, where the endpoint is a UNIX
    socket on which nobody listens and this client never had a connection; else after `timeout_s`),
    `BadReply`, `ClientClosed`, and `RequestRefused` or one of its kinds. A daemon that restarts in the middle
    of a call is waited for up to `timeout_s`, and the call is sent again: no job is submitted twice by that.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        timeout_s: float = 10.0,
        *,
        key: str | os.PathLike[str] | KeyFile | None = None,
    ) -> None:
        """Connects to nothing yet.

        `key`: the key file for a daemon that listens by TCP, or its content; None for ``$ANNUL_KEY``, where that is
        set. Without an `endpoint` it is the one in there. Raises OSError and ValueError for what is no key file.

        `endpoint`: None for ``$ANNUL_ENDPOINT``, else the default place; see `places.endpoint`, also for the
        PermissionError that it may raise. `timeout_s`: seconds for the answer to every request except `wait`, and for
        a daemon that is away.
        """
        self._key = key_of(key)
        self.endpoint = endpoint or places.endpoint(key=self._key)
        self.timeout_s = timeout_s
        self._lock = threading.Lock()  # guards everything below
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._idle: list[Channel] = []
        self._streams: WeakSet[Generator[wire.Event, None, None]] = WeakSet()
        self._in_use = 0
        self._all_back = threading.Condition(self._lock)
        self._was_there = False  # the daemon answered once: from then on an absence is a restart
        self._closed = False
        self._closed_fd = os.eventfd(0, os.EFD_CLOEXEC)  # readable once the client is closed

    # --- jobs -----------------------------------------------------------------------------------------------

    def submit(
        self,
        type: str,  # noqa: A002 - the field's name in the protocol
        params: Mapping[str, Any] | None = None,
        *,
        user: str = "",
        title: str = "",
        labels: Mapping[str, str] | None = None,
        key: str | None = None,
        priority: int = 0,
        timeout_s: float | None = None,
        not_before: datetime | None = None,
        inputs: Mapping[str, bytes] | None = None,
    ) -> wire.Job:
        """Queue a job; it is durable when this returns. With a `key` that the user has used, the job it made.

        A parameter whose value is bytes is sent as that input file, so that the daemon need not be able to
        read the caller's files; a path is read by the job, as the daemon sees it. `timeout_s` is the job's,
        per attempt, None for its type's. `not_before` needs a time zone.

        Raises `TooBig`, `QueueFull`, `KeyConflict`, and `RequestRefused` for an unknown type or a parameter
        that does not fit, which `field` names.
        """
        request = submission(
            type,
            params or {},
            user=user,
            title=title,
            labels=dict(labels or {}),
            key=key,
            priority=priority,
            timeout_s=timeout_s,
            not_before=not_before,
            inputs=inputs,
        )
        return self._ask(request, wire.JobReply).job

    def submit_many(self, jobs: Iterable[Mapping[str, Any]]) -> Submissions:
        """Queue many jobs, each given as the arguments of `submit`; one that is refused does not stop the others.

        Returns, in the same order, the job or the error of each. Sent in batches of at most
        `wire.MAX_SUBMIT_MANY`, each committed on its own, and the next ones before the last is answered: where one
        raises, the batches before it are queued, and perhaps a few after it.
        """
        requests = []
        for job in jobs:
            fields = dict(job)
            requests.append(submission(fields.pop("type"), fields.pop("params", {}), **fields))
        calls = (Call(wire.SubmitMany(jobs=batch), wire.SubmitManyReply) for batch in batches(requests))
        with self._channel() as channel:
            replies = channel.ask_all(calls, answer_s=self.timeout_s, absence_s=self.timeout_s)
        return [one for reply in replies for one in reply.jobs]

    def get(self, job_id: str) -> wire.Job:
        """The job as it is now, with its result. Raises `NotFound`."""
        return self._ask(wire.Get(id=job_id), wire.JobReply).job

    def list(
        self,
        user: str | None = None,
        state: wire.State | str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name in the protocol
        limit: int = 100,
        label: Mapping[str, str] | None = None,
    ) -> Jobs:
        """Jobs that match all that is given, newest first, without their results."""
        wanted = wire.State(state) if state is not None else None
        request = wire.List(user=user, state=wanted, type=type, limit=limit, label=dict(label or {}))
        return self._ask(request, wire.ListReply).jobs

    def cancel(
        self,
        job_id: str | None = None,
        *,
        user: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name in the protocol
        label: Mapping[str, str] | None = None,
        grace_s: float | None = None,
        reason: str = "",
        by: str = "",
    ) -> wire.CancelReply:
        """Cancel one job, or all live jobs that match every one of `user`, `type` and `label`.

        When this returns the cancel is durable and has begun; it does not wait for the end, `wait` does. An
        unknown id is the outcome ``not_found``. `grace_s`: seconds between SIGTERM and SIGKILL, None for the
        type's, 0 to kill at once; a repeat may shorten it, never lengthen it.

        Raises ValueError when nothing says which jobs: that must not mean all of them.
        """
        if job_id is None and user is None and type is None and not label:
            raise ValueError("cancel: name a job, or a user, type or label")
        request = wire.Cancel(
            id=job_id, user=user, type=type, label=dict(label or {}), grace_s=grace_s, reason=reason, by=by
        )
        return self._ask(request, wire.CancelReply)

    def purge(
        self,
        job_id: str | None = None,
        *,
        user: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name in the protocol
        label: Mapping[str, str] | None = None,
        state: wire.State | str | None = None,
        older_than_s: float | None = None,
    ) -> int:
        """Forget one final job, or all final ones that match all that is given; how many those were.

        Their logs go with them, their ids are unknown then, their keys free; what they published stays, and so do
        their entries in the event log. `older_than_s`: seconds since they ended. Very many are purged by several
        requests: where one raises, those before it have done their part.

        Raises `NotFinal` for a live `job_id`, and ValueError when nothing says which jobs: that must not mean all.
        """
        if job_id is None and user is None and type is None and not label and state is None and older_than_s is None:
            raise ValueError("purge: name a job, or a user, type, label, state or age")
        wanted = wire.State(state) if state is not None else None
        request = wire.Purge(
            id=job_id, user=user, type=type, label=dict(label or {}), state=wanted, older_than_s=older_than_s
        )
        count = 0
        while True:
            reply = self._ask(request, wire.PurgeReply)
            count += reply.count
            if reply.next is None:
                return count
            request = msgspec.structs.replace(request, after=reply.next)

    def wait(self, job_id: str, timeout: float | None = None) -> wire.Job:
        """The job, once it is in a final state. `timeout`: seconds, None for as long as it takes.

        Goes on over a restart of the daemon, but for one that is away for more than the client's `timeout_s`.
        Raises TimeoutError, `NotFound` and `NoDaemon`.
        """
        deadline = None if timeout is None else monotonic() + max(0.0, timeout)
        while True:
            left_s = WAIT_PIECE_S if deadline is None else max(0.0, deadline - monotonic())
            piece_s = min(WAIT_PIECE_S, left_s)
            call = Call(wire.Wait(id=job_id, timeout_s=piece_s), wire.WaitReply)
            try:
                with self._channel() as channel:
                    reply = channel.ask(
                        call,
                        answer_s=piece_s + self.timeout_s,
                        # Away for longer than the caller wants to wait is a time-out, not a missing daemon.
                        absence_s=self.timeout_s if deadline is None else min(self.timeout_s, left_s + 0.1),
                        repeat=False,
                    )
            except Reconnected:
                continue  # with what is left of the time
            except NoDaemon:
                if self._was_there and deadline is not None and monotonic() >= deadline:
                    raise TimeoutError(
                        f"job {job_id} is not known to be over after {timeout:g} s: the daemon is away"
                    ) from None
                raise
            if reply.done:
                return reply.job
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(f"job {job_id} is {reply.job.state} after {timeout:g} s")

    def result(self, job_id: str) -> wire.ResultReply:
        """The result of a completed job, and the paths of its files. Raises `NotFound` and `NotCompleted`."""
        return self._ask(wire.Result(id=job_id), wire.ResultReply)

    def logs(self, job_id: str, offset: int = 0, attempt: int | None = None) -> bytes:
        """What the job has written to its log up to now, from `offset` (below 0: from the end). Raises `NotFound`.

        Reads all of it into memory; `read_log` reads in pieces.
        """
        data = b""
        while True:
            piece = self.read_log(job_id, offset, attempt=attempt)
            data += piece.data
            offset = piece.offset + len(piece.data)
            if not piece.data or offset >= piece.size:
                return data

    def read_log(
        self, job_id: str, offset: int = 0, limit: int = 1024 * 1024, attempt: int | None = None
    ) -> wire.LogsReply:
        """One piece of the job's log: at most `limit` bytes from `offset`. Raises `NotFound`."""
        request = wire.Logs(id=job_id, offset=offset, limit=limit, attempt=attempt)
        return self._ask(request, wire.LogsReply)

    def output(self, job_id: str, name: str) -> bytes:
        """A file that a completed job has published, whole, for callers that cannot read it where it lies.

        `name`: the last part of one of the job's `files`, or more of it. `read_output` reads in pieces. Raises
        `NotFound`, and `RequestRefused` (``no_output``, ``unreadable_output``).
        """
        data = b""
        while True:
            piece = self.read_output(job_id, name, len(data))
            data += piece.data
            if not piece.data or len(data) >= piece.size:
                return data

    def read_output(self, job_id: str, name: str, offset: int = 0, limit: int = 1024 * 1024) -> wire.OutputReply:
        """One piece of it: at most `limit` bytes from `offset`. Raises as `output` does."""
        request = wire.Output(id=job_id, name=name, offset=offset, limit=limit)
        return self._ask(request, wire.OutputReply)

    def types(self) -> wire.TypesReply:
        """The job types that the daemon knows, and those it could not load."""
        return self._ask(wire.Types(), wire.TypesReply)

    def ping(self) -> wire.Pong:
        """What the daemon says of itself."""
        return self._ask(wire.Ping(), wire.Pong)

    def events(self, since: int | None = None, job_id: str | None = None) -> Generator[wire.Event, None, None]:
        """Events as they happen: each exactly once, in order, without gaps, over restarts of the daemon too.

        `since`: begin after that event number; None: with the first one after this iterator began to run,
        which is at its first `next`. With a `job_id` only that job's, and the iterator ends with its final
        state; it never ends otherwise. To go on later, pass the `seq` of the last event as `since`.

        Guarantees nothing about how soon: a lost publication is made up for within seconds. The daemon keeps the
        newest `keep_events` entries (100,000): who asks for older ones, or was away for longer than that, gets
        `EventsLost`, and never a gap. Raises also `NotFound`, and `NoDaemon` for a daemon that is away for more than
        `timeout_s`.
        """
        stream = self._follow(EventFeed(since, job_id))
        with self._lock:
            self._streams.add(stream)
        return stream

    # --- the connections ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections, at once. Calls and iterators under way in other threads raise `ClientClosed`.

        Repeatable, and callable from any thread.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._pid != os.getpid():
                return  # the sockets are those of the process that this one was forked from
            os.eventfd_write(self._closed_fd, 1)
            idle, self._idle = self._idle, []
            streams = list(self._streams)
        for channel in idle:
            channel.close()
        for stream in streams:
            try:
                stream.close()
            except ValueError:
                pass  # it runs in another thread, which finds out by `_closed_fd`
        with self._all_back:
            if self._all_back.wait_for(lambda: self._in_use == 0, timeout=CLOSE_S):
                if self._context is not None:
                    self._context.term()
                os.close(self._closed_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: wire.Request, reply: type[R]) -> R:
        call = Call(request, reply)
        with self._channel() as channel:
            return channel.ask(call, answer_s=self.timeout_s, absence_s=self.timeout_s)

    def _ask_events(self, request: wire.Events) -> wire.EventsReply:
        call = Call(request, wire.EventsReply)
        with self._channel() as channel:
            return channel.ask(call, answer_s=request.wait_s + self.timeout_s, absence_s=self.timeout_s)

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        """A connection for one call: an idle one, else a new one."""
        with self._borrowed() as context:
            with self._lock:
                channel = self._idle.pop() if self._idle else None
            if channel is None:
                if not self._was_there:
                    probe(self.endpoint)
                channel = Channel(context, self.endpoint, self._closed_fd, self._key)
            good = False
            try:
                yield channel
                good = True
            except NoDaemon:
                raise
            except Exception:
                good = True  # a refusal or an unreadable answer: the connection itself is in order
                raise
            finally:
                # Anything else, such as KeyboardInterrupt, may have struck in the middle of a socket call.
                with self._lock:
                    self._was_there = self._was_there or good
                    keep = good and not self._closed
                    if keep:
                        self._idle.append(channel)
                if not keep:
                    channel.close()

    @contextmanager
    def _borrowed(self) -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
        """The context, for the time that a socket of it is in use, so that `close` can wait for that."""
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._pid != os.getpid():
                # Forked: the parent's sockets and threads are not this process's. pyzmq leaves them alone
                # when they are collected here.
                self._pid, self._context, self._idle, self._in_use = os.getpid(), None, [], 0
                self._streams = WeakSet()
                self._closed_fd = os.eventfd(0, os.EFD_CLOEXEC)
            if self._context is None:
                self._context = zmq.Context()
            context = self._context
            self._in_use += 1
        try:
            yield context
        finally:
            with self._all_back:
                self._in_use -= 1
                self._all_back.notify_all()

    def _follow(self, feed: EventFeed) -> Generator[wire.Event, None, None]:
        endpoint = self.ping().events
        with self._borrowed() as context:
            subscription: Subscription | Polling
            if endpoint:
                subscription = Subscription(context, endpoint, feed, self._ask_events, self._closed_fd)
            else:
                subscription = Polling(feed, self._ask_events)
            try:
                if feed.job_id is None:
                    yield from subscription
                    return
                if feed.position is None:
                    # Only finds the log's end. Race: looking at the job before would miss a job that ends between.
                    yield from subscription.catch_up()
                over = self.get(feed.job_id).state.final
                feed.check()
                for event in subscription.catch_up() if over else subscription:
                    yield event
                    if event.job.state.final:
                        return
            finally:
                subscription.close()
