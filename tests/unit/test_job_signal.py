"""The job's signal beyond the web: who asked and until when, delivery by SIGTERM, shields, threads, asyncio."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import ctypes
import gc
import io
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from annul.abort import AbortController, AbortSignal
from annul.board import Board, Notice
from annul.errors import Cancelled
from annul.runtime import task
from annul.runtime.signal import JobSignal
from annul_client.wire import Stage
from harness import TESTS, TIMEOUT_S, wait_until

Make = Callable[..., JobSignal]


class Desk:
    """The daemon's side: it writes the cancel, then sends SIGTERM to this process."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def flag(self, *, grace_s: float = 5.0, by: str = "alice", kind: str = "cancel") -> None:
        self.board.set_cancel(
            Notice(kind, "changed my mind", by, grace_s, 0.0), int((time.monotonic() + grace_s) * 1e9)
        )

    def term(self) -> None:
        signal.raise_signal(signal.SIGTERM)

    def cancel(self) -> None:
        self.flag()
        self.term()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    board = Board.create(tmp_path / "board")
    yield Desk(board)
    board.close()


@pytest.fixture
def make(desk: Desk) -> Iterator[Make]:
    """Makes the signal of a job in this process, armed; handlers are as before afterwards."""
    handler = signal.getsignal(signal.SIGTERM)
    wakeup = signal.set_wakeup_fd(-1)
    made: list[JobSignal] = []

    def make_one(interrupt: Any = "raise") -> JobSignal:
        found = JobSignal.install(Board.open(desk.board.path), interrupt)
        made.append(found)
        found.arm()
        return found

    yield make_one
    signal.signal(signal.SIGTERM, handler)
    signal.set_wakeup_fd(wakeup)
    for one in made:
        one.disarm()
        one._memory = bytes([1]) * 64  # its watcher ends
        os.write(one._wake_write, b"\0")
        # No `join`: interrupted in the middle of starting it, the main thread does not know that it runs.
        wait_until(lambda one=one: one._watcher is None or not one._watcher.is_alive(), "the watcher to end")  # type: ignore[misc]


@pytest.fixture
def ctx_signal(make: Make) -> JobSignal:
    return make()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


# --- asking -------------------------------------------------------------------------------------------------


def test_nothing_is_known_before_a_cancel(ctx_signal: JobSignal) -> None:
    """Everything about it is None, and nothing is raised."""
    assert ctx_signal.aborted is False
    assert (ctx_signal.reason, ctx_signal.kind, ctx_signal.requested_by) == (None, None, None)
    assert (ctx_signal.deadline, ctx_signal.time_left()) == (None, None)
    ctx_signal.throw_if_aborted()
    with ctx_signal.shield():
        pass


def test_the_job_knows_why_and_until_when_before_sigterm(ctx_signal: JobSignal, desk: Desk) -> None:
    """All of it is read from the board, as soon as the flag is set."""
    before = time.monotonic()
    desk.flag(grace_s=7, by="bob", kind="timeout")
    after = time.monotonic()
    assert ctx_signal.aborted
    assert (ctx_signal.kind, ctx_signal.requested_by) == ("timeout", "bob")
    assert ctx_signal.reason.args == ("changed my mind",)
    assert ctx_signal.deadline is not None
    assert before + 7 <= ctx_signal.deadline + 1e-6 <= after + 7 + 1e-5
    left = ctx_signal.time_left()
    assert left is not None
    assert 6 < left <= 7


def test_the_deadline_may_come_nearer(ctx_signal: JobSignal, desk: Desk) -> None:
    """It is read anew each time; past, it is 0 seconds away."""
    desk.flag(grace_s=100)
    desk.flag(grace_s=-1, by="root")
    assert ctx_signal.time_left() == 0.0
    assert ctx_signal.requested_by == "root"


def test_the_reason_is_one_object_while_somebody_has_it(ctx_signal: JobSignal, desk: Desk) -> None:
    """The same everywhere, also in what is made of the signal and in what is raised."""
    desk.flag()
    reason = ctx_signal.reason
    assert ctx_signal.reason is reason
    assert AbortSignal.any([ctx_signal]).reason is reason
    with pytest.raises(Cancelled) as raised:
        ctx_signal.throw_if_aborted()
    assert raised.value is reason
    assert ctx_signal.stage is Stage.FLAG


@pytest.mark.parametrize("interrupt", ["raise", "flag"])
def test_a_sigterm_from_outside_is_an_abort_too(make: Make, desk: Desk, interrupt: str) -> None:
    """Also where only the signal can be seen; the board, which is the daemon's, stays as it is."""
    found = make(interrupt)
    heard = threading.Event()
    found.add_listener(lambda _: heard.set())
    with pytest.raises(Cancelled, match="from outside") if interrupt == "raise" else contextlib.nullcontext():
        desk.term()
    assert found.aborted
    assert "outside" in str(found.reason)
    assert (found.kind, found.deadline) == (None, None)
    assert heard.wait(TIMEOUT_S)
    assert not desk.board.flag
    desk.flag(kind="shutdown")
    assert found.kind == "shutdown"


# --- raised once --------------------------------------------------------------------------------------------


def test_before_it_is_armed_and_after_nothing_is_raised(ctx_signal: JobSignal, desk: Desk) -> None:
    """annul's own code is not interrupted; what came meanwhile is raised by `arm`."""
    ctx_signal.disarm()
    desk.cancel()
    with pytest.raises(Cancelled):
        ctx_signal.arm()
    ctx_signal.disarm()
    desk.term()


def test_raised_once_while_the_job_cleans_up(ctx_signal: JobSignal, desk: Desk) -> None:
    """In finally, in an except for something else inside it, in an exit stack, in functions called from there."""
    done: list[str] = []

    def again(name: str) -> None:
        for _ in range(3):
            desk.term()
        done.append(name)

    def clean_up() -> None:
        try:
            {}["missing"]  # type: ignore[var-annotated]
        except KeyError:
            again("inner except")
        finally:
            again("inner finally")

    def job() -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(again, "stack")
            stack.callback(clean_up)
            try:
                desk.cancel()
                done.append("never")
            except Cancelled:
                again("except")
                raise
            finally:
                again("finally")

    with pytest.raises(Cancelled) as raised:
        job()
    assert done == ["except", "finally", "inner except", "inner finally", "stack"]
    assert raised.value.__context__ is None


@pytest.mark.parametrize("how", ["close", "drop", "throw_if_aborted, drop"])
def test_raised_once_while_generators_are_closed(ctx_signal: JobSignal, desk: Desk, how: str) -> None:
    """Also by being dropped, when nothing says any more that a `Cancelled` is on its way."""
    done: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            desk.term()
            desk.term()
            done.append("closed")

    def job() -> None:
        if how == "close":
            with contextlib.closing(numbers()) as kept:  # type: ignore[type-var]
                next(kept)
                desk.cancel()
        for _ in numbers():
            if how == "drop":
                desk.cancel()
            desk.flag()
            ctx_signal.throw_if_aborted()
        done.append("never")

    with pytest.raises(Cancelled):
        job()
    assert done == ["closed"]


def test_swallowed_it_is_raised_again(ctx_signal: JobSignal, desk: Desk) -> None:
    """By a destructor, by a callback from C, by an ``except`` that is over: as often as it takes."""

    class Destroyed:
        def __del__(self) -> None:
            desk.cancel()

    callback = ctypes.CFUNCTYPE(None)(desk.term)
    with swallowing_unraisable() as lost:
        Destroyed()
        callback()
        with contextlib.suppress(Cancelled):
            desk.term()
    assert lost == [Cancelled, Cancelled]
    with pytest.raises(Cancelled):
        desk.term()


@contextlib.contextmanager
def swallowing_unraisable() -> Iterator[list[type[BaseException] | None]]:
    """The kinds of what cannot be raised in here; the errors themselves are not kept, as the real hook does not."""
    lost: list[type[BaseException] | None] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda args: lost.append(args.exc_type)
    try:
        yield lost
    finally:
        sys.unraisablehook = before


CV = (TESTS.parent / "examples" / "cv-en.pdf").read_bytes()


def test_pypdf_swallows_none(ctx_signal: JobSignal, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised 400 times, anywhere in an extraction, which has many an `except Exception` of its own.

    What is raised in a callback from C (of the garbage collector, of a weak reference; other tests' libraries have
    some) is lost and told to the unraisable hook; nothing else is.
    """
    desk.flag()
    rng = random.Random(4)
    raised = returned = lost = 0

    def unraisable(_: Any) -> None:
        nonlocal lost
        lost += 1

    monkeypatch.setattr(sys, "unraisablehook", unraisable)

    def deliver(signum: int, frame: Any) -> None:
        nonlocal raised
        raised += 1
        ctx_signal._on_sigterm(signal.SIGTERM, frame)

    def extract_until(number: int) -> None:
        nonlocal returned
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 0.02))
        while raised < number:
            PdfReader(io.BytesIO(CV)).pages[0].extract_text()
        returned += 1

    handler = signal.signal(signal.SIGALRM, deliver)
    try:
        for number in range(400):
            with contextlib.suppress(Cancelled):
                extract_until(number + 1)  # a call: the jumps of a loop are not within the `with` around it
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert (raised, returned) == (400, lost)
    assert lost < 40


# --- shield -------------------------------------------------------------------------------------------------


def test_shields_nest_and_deliver_on_the_way_out(ctx_signal: JobSignal, desk: Desk) -> None:
    """Of the outermost one, and not twice."""
    done: list[str] = []

    def job() -> None:
        with ctx_signal.shield():
            with ctx_signal.shield():
                desk.cancel()
                ctx_signal.throw_if_aborted()
                assert ctx_signal.shielded
            desk.term()
            done.append("outer")
        done.append("never")

    with pytest.raises(Cancelled):
        job()
    assert done == ["outer"]
    assert not ctx_signal.shielded


def test_a_shield_ends_with_the_exception_that_leaves_it(ctx_signal: JobSignal, desk: Desk) -> None:
    """Without a cancel that goes on as it is; with one it is the context of the `Cancelled`."""
    with pytest.raises(ValueError, match="mine"), ctx_signal.shield():
        raise ValueError("mine")
    assert not ctx_signal.shielded

    def job() -> None:
        with ctx_signal.shield():
            desk.cancel()
            raise ValueError("mine")

    with pytest.raises(Cancelled) as raised:
        job()
    assert isinstance(raised.value.__context__, ValueError)


def test_a_shield_inside_clean_up_does_not_raise(ctx_signal: JobSignal, desk: Desk) -> None:
    """The cancel has been delivered already."""
    done: list[str] = []

    def job() -> None:
        try:
            desk.cancel()
        finally:
            with ctx_signal.shield():
                desk.term()
            done.append("cleaned up")

    with pytest.raises(Cancelled) as raised:
        job()
    assert done == ["cleaned up"]
    assert raised.value.__context__ is None


def test_a_generator_gives_its_shield_back_when_it_is_closed(ctx_signal: JobSignal, desk: Desk) -> None:
    """Suspended it holds it; closed, dropped or used up it does not, whatever the order."""

    def shielded() -> Iterator[int]:
        with ctx_signal.shield():
            yield 1

    one, two, three = shielded(), shielded(), shielded()
    for generator in (one, two, three):
        next(generator)
    one.close()  # type: ignore[attr-defined]
    assert list(two) == []
    assert ctx_signal.shielded
    desk.cancel()
    with swallowing_unraisable() as lost:
        del generator, three
        gc.collect()
    assert not ctx_signal.shielded
    assert lost == [Cancelled]  # where it was dropped it could not be raised
    with pytest.raises(Cancelled):
        desk.term()


def test_a_shield_in_a_thread_holds_nothing_back(ctx_signal: JobSignal, desk: Desk) -> None:
    """Nothing is ever raised there; an explicit look raises inside a shield too, and the main thread is free."""
    inside, leave = threading.Event(), threading.Event()
    found: list[BaseException] = []

    def run() -> None:
        with ctx_signal.shield():
            inside.set()
            leave.wait(TIMEOUT_S)
            try:
                ctx_signal.throw_if_aborted()
            except Cancelled as error:
                found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(TIMEOUT_S)
    assert not ctx_signal.shielded
    try:
        with pytest.raises(Cancelled):
            desk.cancel()
    finally:
        leave.set()
        thread.join(TIMEOUT_S)
    assert len(found) == 1


# --- listeners, threads, any --------------------------------------------------------------------------------


def test_wait_is_woken_in_every_thread(make: Make, desk: Desk) -> None:
    """By the daemon's SIGTERM; in main thread and threads alike; with a time-out it tells False."""
    found = make("flag")
    assert found.wait(0) is False
    assert found.wait(0.001) is False
    results: list[bool] = []
    waiters = [threading.Thread(target=lambda: results.append(found.wait(TIMEOUT_S))) for _ in range(3)]
    for thread in waiters:
        thread.start()
    wait_until(lambda: len(found._listeners) == 3, "the threads to wait")
    threading.Thread(target=lambda: (wait_until(lambda: len(found._listeners) == 4, "all"), desk.cancel())).start()
    assert found.wait(TIMEOUT_S)
    for thread in waiters:
        thread.join(TIMEOUT_S)
    assert results == [True] * 3
    assert not found._listeners


def test_wait_in_the_main_thread_is_interrupted(ctx_signal: JobSignal, desk: Desk) -> None:
    """And leaves no listener behind."""
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        wait_until(lambda: ctx_signal._listeners, "the main thread to wait")
        desk.flag()
        signal.pthread_kill(main, signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(Cancelled):
        ctx_signal.wait(TIMEOUT_S)
    thread.join(TIMEOUT_S)
    assert not ctx_signal._listeners


def test_listeners_hear_of_the_flag_without_a_signal(make: Make, desk: Desk) -> None:
    """Where the job has taken SIGTERM or its wake-up descriptor away, the watcher looks now and then."""
    found = make("flag")
    signal.set_wakeup_fd(-1)
    heard = threading.Event()
    found.add_listener(lambda _: heard.set())
    desk.flag()
    assert heard.wait(TIMEOUT_S)


def test_listeners_run_on_the_watcher_thread_in_order(make: Make, desk: Desk, capfd: Any) -> None:
    """One that raises stops no other, whatever it raises: also those of dependents, which are all marked by then."""
    found = make("flag")
    either = AbortSignal.any([found, AbortController().signal])
    calls: list[object] = []
    done = threading.Event()
    found.add_listener(lambda one: calls.append(threading.current_thread().name))
    found.add_listener(lambda _: calls.append(either._reason is found.reason))
    found.add_listener(lambda one: one.throw_if_aborted())
    found.add_listener(lambda _: 1 / 0)
    either.add_listener(lambda one: (calls.append(one), done.set()))
    before = sys.unraisablehook
    sys.unraisablehook = sys.__unraisablehook__  # as in a real process, where pytest's is not there
    try:
        desk.cancel()
        assert done.wait(TIMEOUT_S)
        assert found._watcher is not None
        found._watcher.join(TIMEOUT_S)
    finally:
        sys.unraisablehook = before
    assert calls == ["annul-watcher", True, either]
    said = capfd.readouterr().err
    assert "ZeroDivisionError" in said
    assert "Cancelled: changed my mind" in said


def test_what_is_made_of_it_is_aborted_at_the_same_moment(make: Make, desk: Desk) -> None:
    """Not when the watcher comes round: any look at it looks at the flag. Nobody listens: there is no thread."""
    found = make("flag")
    controller = AbortController()
    either = AbortSignal.any([AbortSignal.any([found]), controller.signal])
    assert either.aborted is False
    assert found._watcher is None
    desk.flag()
    controller.abort("too late")
    assert either.aborted
    assert type(either.reason) is Cancelled
    assert either.reason is found.reason
    with pytest.raises(Cancelled):
        either.throw_if_aborted()


def test_any_with_a_time_out(make: Make, desk: Desk) -> None:
    """Whichever comes first: here the time-out, and the job goes on."""
    found = make("flag")
    either = AbortSignal.any([found, AbortSignal.timeout(0.005)])
    assert either.wait(TIMEOUT_S)
    assert type(either.reason) is TimeoutError
    assert not found.aborted
    assert not found._listened
    later = AbortSignal.any([found, AbortSignal.timeout(1000)])
    desk.cancel()
    assert later.wait(TIMEOUT_S)
    assert type(later.reason) is Cancelled


def test_a_dependent_that_another_source_aborted_is_let_go() -> None:
    """A long-lived signal does not keep what was made of it and a time-out, once that has passed."""
    controller, other = AbortController(), AbortController()
    AbortSignal.any([controller.signal, other.signal]).add_listener(lambda _: None)
    assert len(controller.signal._listened) == 1
    other.abort()
    assert not controller.signal._listened
    gc.collect()
    assert not controller.signal._dependents


def test_the_far_future_is_no_error() -> None:
    """A time-out of for ever is waited for in pieces, and does not stop the others."""
    for seconds in (math.inf, 1e11):
        signal_ = AbortSignal.timeout(seconds)
        assert AbortSignal.timeout(0.001).wait(TIMEOUT_S)
        assert not signal_.aborted


def test_what_is_no_exception_comes_out_of_abort_after_all_have_been_called() -> None:
    """A KeyboardInterrupt, or the job's own `Cancelled`, is for whoever runs."""
    controller = AbortController()
    dependent = AbortSignal.any([controller.signal])
    calls: list[AbortSignal] = []

    def interrupted(_: AbortSignal) -> None:
        raise KeyboardInterrupt

    controller.signal.add_listener(interrupted)
    controller.signal.add_listener(calls.append)
    dependent.add_listener(calls.append)
    with pytest.raises(KeyboardInterrupt):
        controller.abort()
    assert calls == [controller.signal, dependent]


# --- forks --------------------------------------------------------------------------------------------------


def in_child(check: Callable[[], object]) -> int:
    """The exit status of a forked child that runs this; 0: nothing was raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_dies_of_sigterm_and_does_not_speak_for_the_job(make: Make, desk: Desk) -> None:
    """It sees the signal, and can wait for it, but calls no listener of the parent's and stamps nothing."""
    found = make("raise")
    called = os.pipe2(os.O_NONBLOCK)
    found.add_listener(lambda _: os.write(called[1], b"x"))
    AbortSignal.any([found]).add_listener(lambda _: os.write(called[1], b"x"))

    assert in_child(desk.term) == -signal.SIGTERM

    def wait() -> None:
        assert not found.wait(0)
        either = AbortSignal.any([found, AbortSignal.timeout(1000)])
        desk.flag()
        assert found.wait(TIMEOUT_S)
        assert either.wait(TIMEOUT_S)
        with pytest.raises(Cancelled):
            found.throw_if_aborted()

    assert in_child(wait) == 0
    assert not desk.board.noticed_at
    assert found._watcher is not None
    found._watcher.join(TIMEOUT_S)  # the flag is set: the parent's own listeners have been called
    assert os.read(called[0], 10) == b"xx"
    for fd in called:
        os.close(fd)


def test_a_sigterm_that_meets_a_fork_is_not_lost(make: Make, desk: Desk) -> None:
    """The child is ended by one that comes before its handlers are reset; the parent gets its own afterwards."""
    hit = ""
    forked: list[int] = []

    def at_fork(moment: str) -> None:
        if hit == moment:
            desk.term()

    os.register_at_fork(after_in_child=lambda: at_fork("child"), after_in_parent=lambda: at_fork("parent"))
    make("raise")
    desk.flag()
    hit = "child"
    assert in_child(lambda: None) == -signal.SIGTERM
    hit = "parent"
    with pytest.raises(Cancelled):
        forked.append(os.fork() or os._exit(0))
    hit = ""
    os.wait()
    assert desk.board.noticed_at
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("moment", ["before", "after_in_parent"])
def test_nothing_is_raised_in_the_hooks_of_a_fork(make: Make, desk: Desk, moment: str) -> None:
    """Where another thread took the SIGTERM: Python would swallow it, and leave the locks of hooks in disorder."""
    hit = False
    came_through: list[bool] = []

    def hook() -> None:
        if hit:
            _thread.interrupt_main(signal.SIGTERM)
            came_through.append(True)

    os.register_at_fork(**{moment: hook})  # type: ignore[arg-type]
    make("raise")
    desk.flag()
    hit = True
    with pytest.raises(Cancelled):
        _ = os.fork() or os._exit(0)
    hit = False
    os.wait()
    assert came_through == [True]


def test_a_signal_handler_may_fork_in_the_middle_of_a_fork(make: Make) -> None:
    """Nobody waits for anybody, and the signal mask is as before."""
    hit = False
    forked: list[int] = []

    def handle(*_: object) -> None:
        forked.append(in_child(lambda: None))

    def hook() -> None:
        nonlocal hit
        if hit:
            hit = False
            signal.raise_signal(signal.SIGUSR1)

    os.register_at_fork(before=hook, after_in_parent=hook)
    make("raise")
    handler = signal.signal(signal.SIGUSR1, handle)
    try:
        hit = True
        assert in_child(lambda: None) == 0
        assert forked == [0]
    finally:
        hit = False
        signal.signal(signal.SIGUSR1, handler)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_fork_leaves_the_signal_mask_as_it_was(make: Make) -> None:
    """In the parent and in the child, whether the job has blocked SIGTERM or not."""
    make("raise")
    for blocked in (set[int](), {signal.SIGTERM}, {signal.SIGUSR1}):
        before = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        try:
            assert in_child(lambda: os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, []) != blocked)) == 0  # noqa: B023
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_threads_that_fork_at_once_do_not_mix_up_their_masks(make: Make) -> None:
    """Each goes on with its own."""
    make("raise")
    wrong: list[set[int]] = []

    def churn(mask: set[int]) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for _ in range(20):
            in_child(lambda: None)
            if (found := signal.pthread_sigmask(signal.SIG_BLOCK, [])) != mask:
                wrong.append(found)

    threads = [threading.Thread(target=churn, args=[mask]) for mask in (set[int](), {signal.SIGTERM}) * 2]
    for one in threads:
        one.start()
    for one in threads:
        one.join(TIMEOUT_S)
    assert not wrong


def test_a_forked_child_keeps_a_handler_that_the_job_made(make: Make, desk: Desk) -> None:
    """Only annul's own is taken away."""
    make("raise")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    assert in_child(desk.term) == 7


def test_time_outs_work_in_a_forked_child() -> None:
    """Whose parent's thread for them it has not, whether that was waiting or at work."""
    assert AbortSignal.timeout(0.001).wait(TIMEOUT_S)

    def both() -> None:
        long = AbortSignal.timeout(1000)
        assert AbortSignal.timeout(0.001).wait(TIMEOUT_S)
        assert AbortSignal.timeout(0.001).wait(TIMEOUT_S)
        assert not long.aborted

    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            AbortSignal.timeout(0)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert [in_child(both) for _ in range(10)] == [0] * 10
    finally:
        stop.set()
        thread.join(TIMEOUT_S)


# --- asyncio ------------------------------------------------------------------------------------------------


def test_wait_async_takes_no_thread_and_leaves_nothing_behind(make: Make, desk: Desk) -> None:
    """Cancelled a hundred times or come to its end, on a plain signal and on the job's."""
    found = make("flag")
    controller = AbortController()
    before = threads()

    async def main() -> None:
        for waited in (controller.signal, found, AbortSignal.any([found, controller.signal])):
            tasks = [asyncio.create_task(waited.wait_async()) for _ in range(100)]
            await asyncio.sleep(0)
            assert len(waited._listeners) == 100
            for one in tasks:
                one.cancel()
            assert all(isinstance(result, asyncio.CancelledError) for result in await gathered(tasks))
            assert not waited._listeners
        assert threads() <= before | {"annul-watcher"}
        waiting = [asyncio.create_task(waited.wait_async()) for waited in (controller.signal, found)]
        await asyncio.sleep(0)
        controller.abort()
        desk.cancel()
        assert await gathered(waiting) == [None, None]
        await controller.signal.wait_async()
        await found.wait_async()

    asyncio.run(main())


def gathered(tasks: list[asyncio.Task[None]]) -> Coroutine[Any, Any, list[Any]]:
    async def gather() -> list[Any]:
        return await asyncio.gather(*tasks, return_exceptions=True)

    return gather()


def test_wait_async_in_loops_of_several_threads() -> None:
    """One abort wakes them all, each in its own loop."""
    controller = AbortController()
    done: list[None] = []
    waiters = [
        threading.Thread(target=lambda: done.append(asyncio.run(controller.signal.wait_async())))  # type: ignore[func-returns-value]
        for _ in range(3)
    ]
    for thread in waiters:
        thread.start()
    wait_until(lambda: len(controller.signal._listeners) == 3, "all loops to wait")
    controller.abort()
    for thread in waiters:
        thread.join(TIMEOUT_S)
    assert len(done) == 3


def test_cancel_task() -> None:
    """A task is cancelled once when the signal aborts; a task that is over is forgotten; a loop that is closed too."""
    controller = AbortController()
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            cleaned.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]

    async def main() -> None:
        over = asyncio.create_task(asyncio.sleep(0))
        controller.signal.cancel_task(over)
        await over
        await asyncio.sleep(0)
        assert not controller.signal._listeners
        working = asyncio.create_task(work())
        controller.signal.cancel_task(working)
        await asyncio.sleep(0)
        controller.abort()
        with pytest.raises(asyncio.CancelledError):
            await working
        late = asyncio.create_task(work())
        await asyncio.sleep(0)
        controller.signal.cancel_task(late)
        with pytest.raises(asyncio.CancelledError):
            await late

    asyncio.run(main())
    assert cleaned == [1, 1]


# --- async jobs ---------------------------------------------------------------------------------------------


def test_an_async_job_is_cancelled_once_while_it_cleans_up(make: Make, desk: Desk) -> None:
    """However often SIGTERM comes and however long its awaits there take, in its children too."""
    found = make("task")
    done: list[str] = []

    async def clean_up(name: str) -> None:
        for _ in range(5):
            desk.term()
            await asyncio.sleep(0.001)
        done.append(name)

    async def child(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await clean_up(name)

    async def streamed() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            await clean_up("generator")

    async def last(numbers: AsyncIterator[int]) -> None:
        async for _ in numbers:
            pass

    async def job() -> None:
        try:
            asyncio.get_running_loop().call_later(0.001, desk.cancel)
            await asyncio.gather(child("one"), child("two"), last(streamed()))
        finally:
            await clean_up("job")

    with pytest.raises(asyncio.CancelledError):
        task.run(job(), found)
    assert sorted(done) == ["generator", "job", "one", "two"]


def test_an_async_job_that_swallows_its_cancel_gets_it_again(make: Make, desk: Desk) -> None:
    """With the next SIGTERM, once it is no longer handling the first: as often as it takes."""
    found = make("task")
    swallowed: list[int] = []

    async def job() -> None:
        desk.flag()
        for number in range(3):
            asyncio.get_running_loop().call_later(0.001, desk.term)
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                desk.term()
                await asyncio.sleep(0.001)  # not interrupted: it is handling the first
                swallowed.append(number)
        asyncio.get_running_loop().call_later(0.001, desk.term)
        await asyncio.sleep(1000)

    with pytest.raises(asyncio.CancelledError):
        task.run(job(), found)
    assert swallowed == [0, 1, 2]


def test_a_cancel_before_the_first_step_of_an_async_job(make: Make, desk: Desk) -> None:
    """It comes at the job's first await."""
    found = make("task")
    done: list[str] = []

    async def job() -> None:
        done.append("started")
        await asyncio.sleep(1000)

    desk.cancel()
    with pytest.raises(asyncio.CancelledError):
        task.run(job(), found)
    assert done == ["started"]


def test_an_async_job_with_a_shield(make: Make, desk: Desk) -> None:
    """Nothing is cancelled inside; on the way out it is, at the next await."""
    found = make("task")
    done: list[str] = []

    async def job() -> None:
        with found.shield():
            desk.cancel()
            await asyncio.sleep(0.001)
            with found.shield():
                desk.term()
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
            done.append("shielded")
        await asyncio.sleep(1000)

    with pytest.raises(asyncio.CancelledError):
        task.run(job(), found)
    assert done == ["shielded"]


def test_an_async_job_that_looks_itself_is_not_cancelled_on_top(make: Make, desk: Desk) -> None:
    """`throw_if_aborted` has begun its clean-up already."""
    found = make("task")
    done: list[str] = []

    async def job() -> None:
        desk.flag()
        try:
            found.throw_if_aborted()
        finally:
            desk.term()
            await asyncio.sleep(0.001)
            done.append("cleaned up")

    with pytest.raises(Cancelled):
        task.run(job(), found)
    assert done == ["cleaned up"]


def test_a_cancelled_async_job_does_not_wait_for_its_threads(make: Make, desk: Desk) -> None:
    """One that is stuck in `asyncio.to_thread` ends with the process; a job that completes waits for it."""
    found = make("task")
    release, done = threading.Event(), threading.Event()

    def stuck() -> None:
        release.wait(TIMEOUT_S)
        done.set()

    async def job() -> None:
        asyncio.get_running_loop().call_later(0.001, desk.cancel)
        await asyncio.to_thread(stuck)

    with pytest.raises(asyncio.CancelledError):
        task.run(job(), found)
    assert not done.is_set()
    release.set()
    assert done.wait(TIMEOUT_S)


def test_an_async_job_returns_what_it_returns(make: Make) -> None:
    """And raises what it raises; sent values and thrown errors pass through to futures as ever."""
    found = make("task")

    async def job(error: Exception | None) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception if error else future.set_result, error or 3)  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1000)
        return await future

    assert task.run(job(None), found) == 3
    with pytest.raises(ValueError, match="mine"):
        task.run(job(ValueError("mine")), found)
