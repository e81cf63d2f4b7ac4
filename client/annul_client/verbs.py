"""What a client can be asked, and how: once for the blocking client and for the one of asyncio.

Each method below is a generator that yields the requests (`asking.Ask`) and is sent their answers. Its class carries it
out: `Client` by blocking, `AsyncClient` in a coroutine.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from . import wire
from .asking import Answer, Ask, Reconnected, ask
from .core import WAIT_PIECE_S, Call, batches, submission
from .errors import NoDaemon

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .sync import Client

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_MANY_S = 120.0  # for a cancel of many: thousands a second, hundreds where the disk is busy

# `list` is a method below, and hides the builtin from the annotations that follow it.
Submissions = list[wire.Submitted]
Jobs = list[wire.Job]


class Verb(Protocol[P, T_co]):
    """A method as its class has it: of the blocking client it returns a T, of the one of asyncio a coroutine."""

    @overload
    def __get__(self, client: Client, kind: type[Client]) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: AsyncClient, kind: type[AsyncClient]) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def verb(asks: Callable[Concatenate[Any, P], Answer[T]]) -> Verb[P, T]:
    """A method that carries out what this generator asks for, in the way of its class."""

    @functools.wraps(asks)
    def call(client: Verbs, *args: P.args, **kwargs: P.kwargs) -> Any:
        return client._run(asks(client, *args, **kwargs))  # noqa: SLF001 - of the class that this is for

    return cast("Verb[P, T]", call)


class Verbs(ABC):
    """The methods that both clients have."""

    timeout_s: float
    _was_there: bool  # the daemon answered once: from then on an absence is a restart

    @abstractmethod
    def _run(self, asks: Answer[Any]) -> Any:
        """Carry out what is asked for, and give what comes of it."""

    # --- jobs -----------------------------------------------------------------------------------------------

    @verb
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
    ) -> Answer[wire.Job]:
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
        return (yield from ask(request, wire.JobReply)).job

    @verb
    def submit_many(self, jobs: Iterable[Mapping[str, Any]]) -> Answer[Submissions]:
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
        replies: Iterable[wire.SubmitManyReply] = yield Ask(calls)
        return [one for reply in replies for one in reply.jobs]

    @verb
    def get(self, job_id: str) -> Answer[wire.Job]:
        """The job as it is now, with its result. Raises `NotFound`."""
        return (yield from ask(wire.Get(id=job_id), wire.JobReply)).job

    @verb
    def list(
        self,
        user: str | None = None,
        state: wire.State | str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name in the protocol
        limit: int = 100,
        label: Mapping[str, str] | None = None,
    ) -> Answer[Jobs]:
        """Jobs that match all that is given, newest first, without their results."""
        wanted = wire.State(state) if state is not None else None
        request = wire.List(user=user, state=wanted, type=type, limit=limit, label=dict(label or {}))
        return (yield from ask(request, wire.ListReply)).jobs

    @verb
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
    ) -> Answer[wire.CancelReply]:
        """Cancel one job, or all live jobs that match every one of `user`, `type` and `label`.

        When this returns the cancel is durable and has begun; it does not wait for the end, `wait` does. An
        unknown id is the outcome ``not_found``. `grace_s`: seconds between SIGTERM and SIGKILL, None for the
        type's, 0 to kill at once; a repeat may shorten it, never lengthen it. Many jobs are answered for together, once
        the last one's cancel has begun: that is waited for longer than `timeout_s`, for two minutes.

        Raises ValueError when nothing says which jobs: that must not mean all of them.
        """
        if job_id is None and user is None and type is None and not label:
            raise ValueError("cancel: name a job, or a user, type or label")
        request = wire.Cancel(
            id=job_id, user=user, type=type, label=dict(label or {}), grace_s=grace_s, reason=reason, by=by
        )
        many_s = None if job_id is not None else max(self.timeout_s, _MANY_S)
        return (yield from ask(request, wire.CancelReply, answer_s=many_s))

    @verb
    def purge(
        self,
        job_id: str | None = None,
        *,
        user: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's name in the protocol
        label: Mapping[str, str] | None = None,
        state: wire.State | str | None = None,
        older_than_s: float | None = None,
    ) -> Answer[int]:
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
            reply = yield from ask(request, wire.PurgeReply)
            count += reply.count
            if reply.next is None:
                return count
            request = msgspec.structs.replace(request, after=reply.next)

    @verb
    def pause(self, job_id: str) -> Answer[wire.Job]:
        """Hold a job: a queued one does not start, all processes of a running one are frozen where they are.

        It keeps its slot, and its time-outs go on; `cancel` thaws it. Repeatable. When this returns it is durable, and
        nothing new of it starts; what runs in the kernel stops within moments. Raises `NotFound`, and `RequestRefused`
        (``not_pausable``) for one that is over, or being stopped.
        """
        return (yield from ask(wire.Pause(id=job_id), wire.JobReply)).job

    @verb
    def unpause(self, job_id: str) -> Answer[wire.Job]:
        """Let a paused job go on. Repeatable. Raises as `pause` does."""
        return (yield from ask(wire.Unpause(id=job_id), wire.JobReply)).job

    @verb
    def reprioritize(self, job_id: str, priority: int) -> Answer[wire.Job]:
        """Give a queued job another priority. Raises `NotFound`, and `RequestRefused` (``not_queued``)."""
        return (yield from ask(wire.Reprioritize(id=job_id, priority=priority), wire.JobReply)).job

    @verb
    def retry(self, job_id: str) -> Answer[wire.Job]:
        """Do a failed or cancelled job again: a new job, with the same parameters and input files, and no key.

        Its `retry_of` is the old one's id. Raises `NotFound`, `QueueFull`, and `RequestRefused` (``not_retryable``,
        ``inputs_gone``).
        """
        return (yield from ask(wire.Retry(id=job_id), wire.JobReply)).job

    @verb
    def wait(self, job_id: str, timeout: float | None = None) -> Answer[wire.Job]:
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
                found: Iterable[wire.WaitReply] = yield Ask(
                    [call],
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
            (reply,) = found
            if reply.done:
                return reply.job
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(f"job {job_id} is {reply.job.state} after {timeout:g} s")

    @verb
    def result(self, job_id: str) -> Answer[wire.ResultReply]:
        """The result of a completed job, and the paths of its files. Raises `NotFound` and `NotCompleted`."""
        return (yield from ask(wire.Result(id=job_id), wire.ResultReply))

    @verb
    def logs(self, job_id: str, offset: int = 0, attempt: int | None = None) -> Answer[bytes]:
        """What the job has written to its log up to now, from `offset` (below 0: from the end). Raises `NotFound`.

        Reads all of it into memory; `read_log` reads in pieces.
        """
        data = b""
        while True:
            request = wire.Logs(id=job_id, offset=offset, attempt=attempt)
            piece = yield from ask(request, wire.LogsReply)
            data += piece.data
            offset = piece.offset + len(piece.data)
            if not piece.data or offset >= piece.size:
                return data

    @verb
    def read_log(
        self, job_id: str, offset: int = 0, limit: int = 1024 * 1024, attempt: int | None = None
    ) -> Answer[wire.LogsReply]:
        """One piece of the job's log: at most `limit` bytes from `offset`. Raises `NotFound`."""
        request = wire.Logs(id=job_id, offset=offset, limit=limit, attempt=attempt)
        return (yield from ask(request, wire.LogsReply))

    @verb
    def output(self, job_id: str, name: str) -> Answer[bytes]:
        """A file that a completed job has published, whole, for callers that cannot read it where it lies.

        `name`: the last part of one of the job's `files`, or more of it. `read_output` reads in pieces. Raises
        `NotFound`, and `RequestRefused` (``no_output``, ``unreadable_output``).
        """
        data = b""
        while True:
            piece = yield from ask(wire.Output(id=job_id, name=name, offset=len(data)), wire.OutputReply)
            data += piece.data
            if not piece.data or len(data) >= piece.size:
                return data

    @verb
    def read_output(
        self, job_id: str, name: str, offset: int = 0, limit: int = 1024 * 1024
    ) -> Answer[wire.OutputReply]:
        """One piece of it: at most `limit` bytes from `offset`. Raises as `output` does."""
        request = wire.Output(id=job_id, name=name, offset=offset, limit=limit)
        return (yield from ask(request, wire.OutputReply))

    @verb
    def last_event(self) -> Answer[int]:
        """The number of the newest event. Who asks for this, then for jobs, then for `events` since it, misses none."""
        return (yield from ask(wire.Events(), wire.EventsReply)).last

    @verb
    def types(self) -> Answer[wire.TypesReply]:
        """The job types that the daemon knows, and those it could not load."""
        return (yield from ask(wire.Types(), wire.TypesReply))

    @verb
    def drain(self) -> Answer[wire.DrainReply]:
        """Have the daemon start no more jobs, until `resume`, also over its restarts. Raises `Forbidden`.

        Submits are still queued, cancels still work, and running jobs go on.
        """
        return (yield from ask(wire.Drain(), wire.DrainReply))

    @verb
    def resume(self) -> Answer[wire.DrainReply]:
        """Have it start jobs again. Raises `Forbidden`."""
        return (yield from ask(wire.Resume(), wire.DrainReply))

    @verb
    def stats(self) -> Answer[wire.StatsReply]:
        """How many jobs are in which state, and what the daemon has done since it started."""
        return (yield from ask(wire.Stats(), wire.StatsReply))

    @verb
    def ping(self) -> Answer[wire.Pong]:
        """What the daemon says of itself."""
        return (yield from ask(wire.Ping(), wire.Pong))
