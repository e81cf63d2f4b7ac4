"""The life of a job's process, from the fork to its exit.

The order matters: own session and cgroup; then it waits to be told what to run, makes room for that, and waits until it
is committed; then the SIGTERM handler, then the pid on the board, then a look at the flag, and only then code of the
user's. So a cancel at any moment is either seen here or is delivered to a process that is already where the whole of it
can be found. Until its handler is there a SIGTERM simply ends it.

A forked process copies each page of memory that it writes to for the first time, which Python does to nearly all that
it uses: hence plain strings and calls of `os` here, where elsewhere there would be a Path.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import inspect
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec

from annul import prctl, proc
from annul.board import BOARD, Board
from annul.errors import Cancelled, JobError
from annul.jobtype import JobType, job
from annul.lifecycle import Verdict
from annul.runtime import at_fork, guardian, outcome
from annul.runtime.context import JobContext, Notifier
from annul.runtime.launch import Launch, await_go, await_launch, give_go, hand_over
from annul.runtime.limits import Limits, impose
from annul.runtime.outcome import Outcome
from annul.runtime.sigaction import SIG_DFL, set_handler
from annul.runtime.signal import JobSignal
from annul.tree import own_group
from annul_client.wire import ErrorInfo, Stage

_FIRST = "1"  # the name of a first attempt's directory
_WORK = "work"  # in the attempt's directory: the job's current directory, and its TMPDIR
STACKS = "stacks"  # its name in the run directory: where the job was when it had to be killed
_WARM = 8  # runs until Python writes next to nothing any more
_FILES = 1024  # select(2) takes no more; jobs may raise it
DUMP_SIGNAL = signal.SIGRTMIN  # makes the interpreter write them, from C, also while it is stuck in a call


def load(target: str) -> JobType:
    """The JobType behind "module:attribute". Raises ImportError, AttributeError or whatever the module raises."""
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, JobType):
        raise TypeError(f"{target} is no job type; is @job missing?")
    return found


class Origin(msgspec.Struct, frozen=True):
    """What a process has from the zygote that forked it."""

    types: dict[str, JobType]  # by target: those that it has imported
    zygote: int  # its pid
    cgroup: str | None  # where to make a cgroup of its own
    rehearsal: str  # a directory to rehearse in
    rooms: str  # another, in the file system of the jobs' directories


def warm_up(origin: Origin) -> None:
    """Run a job that does nothing a few times in the zygote, before it forks any. Nothing of it is left.

    Python rewrites code to what it is found to do, and notes where each attribute was found, the first times that it
    runs: what the zygote has learnt, those that it forks need not write, and so not copy: a sixth of their pages. What
    was noted while all was imported is forgotten before: a child that needs its place would write to that name, too.
    """
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()  # noqa: SLF001 - its name since 3.13
    here = msgspec.structs.replace(origin, zygote=os.getppid(), cgroup=None)
    folder = f"{origin.rehearsal}/{os.getpid()}"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # one that comes meanwhile ends it afterwards
    try:
        os.mkdir(folder)
        with at_fork.nothing_registered(), _as_it_was(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            nobody.bind(f"{folder}/nobody")
            nobody.setblocking(False)  # nothing here is waited for: a run that sent no nudge has failed
            for number in range(_WARM):
                _be_forked()
                _Process(here).run_here(_rehearsal(folder, f"{folder}/{number}/{_FIRST}"))
                nobody.recv(64)
    except Exception:  # noqa: BLE001 (jobs only start slower: the log says why)
        traceback.print_exc()
    shutil.rmtree(folder, ignore_errors=True)
    _rest()


def _be_forked() -> None:
    """What a forked process does before `run_here`, as far as it changes nothing in a zygote."""
    at_fork.register()
    signal.set_wakeup_fd(-1)
    set_handler(signal.SIGCHLD, SIG_DFL)
    prctl.set_child_subreaper()
    random: Any = sys.modules.get("random")
    if random is not None:
        random.seed()  # it has that called at each fork


def _rest() -> None:
    """Be as before a run."""
    guardian.Alone.unwatch()
    set_handler(signal.SIGTERM, SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def set_terms() -> None:
    """What every process inherits from its zygote: called there, after all imports."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dumping core would delay its death
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, files), files))
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True
    )


def main(origin: Origin, orders: socket.socket, *, spare: bool) -> NoReturn:
    """Wait for a launch, run that one attempt and exit. `spare`: there is time until then.

    Called in the forked child. Never returns and never raises.
    """
    status = 70  # EX_SOFTWARE: only where annul's own code fails
    try:
        os.setsid()
        prctl.set_name("annul-spare")
        prctl.set_child_subreaper()
        process = _Process(origin)
        if spare:
            process.rehearse()
        status = 0
        launch = await_launch(orders)
        if launch is not None:
            process.make_room(launch)
            if await_go(orders):  # all that the daemon takes back after that has its flag set before
                orders.close()
                prctl.set_name(f"annul:{launch.type}")
                status = process.run(launch, origin.types.get(launch.target))
    except BaseException:  # noqa: BLE001 (the process ends here, whatever it was; the log says what)
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)  # the zygote's atexit handlers are not this process's


class _Process:
    """One that runs one attempt, and has made beforehand what does not depend on which."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        own = proc.stat(os.getpid())
        assert own is not None
        self._pid, self._start_time = own.pid, own.start_time
        self._cgroup = own_group(origin.cgroup, self._pid, self._start_time) if origin.cgroup is not None else None
        if self._cgroup is not None:
            _enter(self._cgroup)
        self._signals = JobSignal.prepare()
        self._stacks: int | None = None
        self._board: Board | None = None
        self._notifier: Notifier | None = None
        self._room: str | None = None  # a job's directory made beforehand, in which this process is

    def rehearse(self) -> None:
        """Run a job that does nothing, while nobody waits. Its directory is then ready for the one that comes.

        A forked process copies each page that it writes to for the first time, and then takes four times as long for
        the way to a job's first line as it does the second time. And some file systems take their time to make a file.
        """
        folder, room = f"{self._origin.rehearsal}/{self._pid}", f"{self._origin.rooms}/{self._pid}"
        attempt_dir = f"{room}/{_FIRST}"
        rehearsal = _rehearsal(folder, attempt_dir)
        try:
            os.mkdir(folder)
            Board.create(f"{folder}/{BOARD}").close()
            self.make_room(rehearsal)
            self.run(rehearsal, _nothing)
            self._close_notifier()
            os.unlink(f"{attempt_dir}/{outcome.NAME}")
            self._room = room
            for name in (BOARD, STACKS):
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
        except OSError:  # the daemon removes what is left
            if self._room is None:  # it will take longer; and where the disk is full, this would be the last of it
                os.chdir("/")
                shutil.rmtree(room, ignore_errors=True)
        _set_environment({})
        _rest()

    def run_here(self, launch: Launch) -> None:
        """All that `main` does with a launch."""
        Board.create(f"{launch.run_dir}/{BOARD}").close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            hand_over(ours, launch)
            give_go(ours)
            found = await_launch(theirs)
            assert found is not None
            self.make_room(found)
            assert await_go(theirs)
            self.run(found, _nothing)
        os.unlink(f"{launch.run_dir}/{BOARD}")
        faulthandler.unregister(DUMP_SIGNAL)
        assert self._stacks is not None
        os.close(self._stacks)
        self._close_notifier()
        self._signals.close()

    def _close_notifier(self) -> None:
        """To free it without that takes a while."""
        if self._notifier is not None:
            self._notifier.close()

    def make_room(self, launch: Launch) -> None:
        """All that leaves nothing but empty folders and files where the launch is not run after all. It is done while
        the daemon commits that launch.
        """
        attempt_dir = launch.attempt_dir
        if launch.attempt:  # no rehearsal
            proc.brand(launch.name, over=proc.forked_by(self._origin.zygote))
        if not self._move_in(attempt_dir):
            for path in (os.path.dirname(attempt_dir), attempt_dir, f"{attempt_dir}/{_WORK}"):
                try:
                    os.mkdir(path, mode=0o700)
                except FileExistsError:
                    pass
            _redirect(f"{attempt_dir}/log")
            os.chdir(f"{attempt_dir}/{_WORK}")
        _set_environment(launch.env)
        self._notifier = Notifier(launch.notify, launch.name)
        try:
            self._board = Board.open(f"{launch.run_dir}/{BOARD}")
        except FileNotFoundError:
            self._board = None  # the daemon gave this launch up
        time.tzset()  # TZ is read once, which was in the zygote
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile.tempdir = None  # a module that was imported beforehand may have asked where that is

    def _move_in(self, attempt_dir: str) -> bool:
        """Have the room that was made beforehand take its place: current directory and log go with it. False: there is
        none, or the attempt has a directory already.
        """
        room, self._room = self._room, None
        if room is None:
            return False
        job_dir, name = os.path.split(attempt_dir)
        try:
            if name == _FIRST and not os.path.exists(job_dir):
                os.rename(room, job_dir)
            else:  # it has input files, or was tried before
                os.rename(f"{room}/{_FIRST}", attempt_dir)
        except OSError:
            return False  # the daemon removes it
        return True

    def run(self, launch: Launch, job_type: JobType | None) -> int:
        """The exit status. `job_type`: where the zygote has imported it already."""
        signals, board, notifier = self._signals, self._board, self._notifier
        if board is None or notifier is None:
            return 0
        signals.connect(board, job_type.interrupt if job_type else "raise")
        board.set_process(self._pid, self._start_time)
        if signals.aborted:
            return 0
        self._dump_on_signal(f"{launch.run_dir}/{STACKS}")
        alone = guardian.Alone.watch(launch, self._origin.zygote)
        impose(launch.limits, self._cgroup)

        ended = _guarded(launch, job_type, board, signals, notifier)
        if os.getpid() != self._pid:  # a child of the job's that came up all the way here: it has no say
            return 1
        board.stamp_unwound(time.monotonic_ns())
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if ended.verdict is Verdict.COMPLETED:
            try:
                ended = msgspec.structs.replace(ended, files=outcome.staged(f"{launch.attempt_dir}/staging"))
            except (OSError, ValueError) as error:
                ended = _failed("output", f"writing the job's outputs to disk: {error}")
        outcome.write(launch.attempt_dir, ended)
        alone.sweep(board)
        return 0 if ended.verdict is Verdict.COMPLETED else 1

    def _dump_on_signal(self, path: str) -> None:
        before, self._stacks = self._stacks, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        faulthandler.register(DUMP_SIGNAL, file=self._stacks, all_threads=True)
        if before is not None:
            os.close(before)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what a launch changes of the process that runs it."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    streams = [os.dup(number) for number in range(3)]
    env = dict(os.environ)
    try:
        yield
    finally:
        _set_environment(env)
        os.fchdir(here)
        os.close(here)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)


def _rehearsal(folder: str, attempt_dir: str) -> Launch:
    return Launch(
        job_id=str(os.getpid()),
        attempt=0,
        type=_nothing.name,
        target="",
        params=b"{}",
        user="",
        title="",
        labels={},
        run_dir=folder,
        attempt_dir=attempt_dir,
        user_dir=folder,
        notify=f"{folder}/nobody",
        env={**os.environ, "TMPDIR": attempt_dir},
        limits=Limits(),
        grace_s=0.0,
        signal_tree=False,
        orphan_grace_s=-1.0,
        daemon=os.getppid(),
    )


class _Nothing(msgspec.Struct, frozen=True):
    pass


@job("rehearsal")
def _nothing(ctx: JobContext, params: _Nothing) -> None:
    """The job of a rehearsal."""


def _guarded(launch: Launch, job_type: JobType | None, board: Board, signals: JobSignal, notifier: Notifier) -> Outcome:
    """Run the job's code, and make whatever comes out of it an outcome."""
    try:
        try:
            try:
                signals.arm()
                return _completed(_call(launch, job_type, board, signals, notifier))
            finally:
                signals.disarm()
        except JobError as error:
            # Foreseen: its words say enough, a traceback would only hide them.
            logging.getLogger("annul.job").error("failed (%s): %s", error.code, error.message)  # noqa: TRY400
            return Outcome(
                verdict=Verdict.FAILED,
                error=ErrorInfo(code=error.code, message=error.message),
                retryable=error.retryable,
                result=outcome.NO_RESULT if error.result is None else _as_json(error.result),
            )
        except MemoryError:
            gc.collect()
            memory = launch.limits.memory_bytes
            limit = f"{memory // 2**20} MiB" if memory else "the machine's"
            return _failed("out_of_memory", f"the job needed more memory than it may have ({limit})")
        except SystemExit as error:
            return _failed("exit", f"the job called sys.exit({error.code!r}) instead of returning or raising")
        except Exception as error:  # noqa: BLE001 (any error of the job's is its outcome)
            traceback.print_exc()
            return _failed("exception", f"{type(error).__name__}: {error}"[:2000])
    except BaseException as error:
        # Race: raised also between the job's return and `disarm`, or in one of the handlers above: hence out here.
        signals.disarm()
        if not _is_cancel(error):
            raise
        stage = (
            signals.stage if board.running_at and (signals.entered or _entered(job_type, error)) else Stage.BEFORE_START
        )
        return Outcome(verdict=Verdict.CANCELLED, stage=stage)


def _call(launch: Launch, job_type: JobType | None, board: Board, signals: JobSignal, notifier: Notifier) -> Any:
    if signals.aborted:  # also where nothing is raised (`interrupt` flag and task)
        raise Cancelled("before its first line")
    if job_type is None:
        job_type = load(launch.target)
        signals.interrupt_by(job_type.interrupt)
    params = msgspec.json.decode(launch.params, type=job_type.params)
    context = JobContext(launch, params, board, signals, notifier)
    board.stamp_running(time.monotonic_ns())
    notifier.nudge(wait_s=0.2)
    returned = job_type.function(context, params)
    signals.entered = True
    if not inspect.iscoroutine(returned):
        return returned
    # Not before: it imports concurrent.futures.thread, after which a signal handler that forks may wait for itself.
    from annul.runtime import task

    return task.run(returned, signals)


def _entered(job_type: JobType | None, error: BaseException) -> bool:
    """Whether the job's function can have been entered: a cancel may come between the stamp and the call."""
    code = getattr(job_type.function, "__code__", None) if job_type else None
    if code is None or code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_cancel(error: BaseException) -> bool:
    """Also in a group: an `asyncio.TaskGroup` makes one of what comes out of its tasks."""
    tasks = sys.modules.get("asyncio.exceptions")  # 7 MiB that jobs which do not use it need not have
    kinds = (Cancelled, tasks.CancelledError) if tasks else (Cancelled,)
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds) is not None
    return isinstance(error, kinds)


def _completed(value: Any) -> Outcome:
    try:
        return Outcome(verdict=Verdict.COMPLETED, result=_as_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("result", f"what the job returned cannot be its result: {error}")


def _as_json(value: Any) -> msgspec.Raw:
    """Raises TypeError for what JSON has no form for, ValueError for what is too big or too deep."""
    data = msgspec.json.encode(value)
    if len(data) > outcome.MAX_RESULT:
        raise ValueError(f"it has {len(data)} bytes as JSON, {outcome.MAX_RESULT} may be; write it to ctx.output(...)")
    if data.count(b"[") + data.count(b"{") > outcome.MAX_DEPTH:
        level = [msgspec.json.decode(data)]
        for _ in range(outcome.MAX_DEPTH + 1):
            inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
            level = [one for group in inner for one in group]
        if level:
            raise ValueError(f"it is nested more than {outcome.MAX_DEPTH} deep")
    return msgspec.Raw(data)


def _failed(code: str, message: str) -> Outcome:
    return Outcome(verdict=Verdict.FAILED, error=ErrorInfo(code=code, message=message))


def _enter(cgroup: str) -> None:
    os.mkdir(cgroup)
    fd = os.open(f"{cgroup}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")  # "the process that writes"
    finally:
        os.close(fd)


def _set_environment(env: dict[str, str]) -> None:
    """What differs only: each change is one of C's environment, too."""
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _redirect(log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(null)
    os.close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the disk is full, or the job closed it: nobody is left to tell
