"""`@job`: how a job type is written, for built-in jobs and anyone's alike.

    @job("import-pdf", grace_s=5, timeout_s=600)
    def import_pdf(ctx: JobContext, params: ImportPdf) -> ImportResult: ...

The daemon imports the module too, to check parameters when a job is submitted: heavy libraries are named in
`preload` and imported inside the function, where the preloaded process has them already.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_type_hints

import msgspec

Interrupt = Literal["raise", "task", "flag"]
OnShutdown = Literal["queue", "cancel"]


class InputFile(msgspec.Struct, frozen=True):
    """Marks a parameter as an input file: ``pdf: Annotated[str, InputFile.MARK]``.

    Its value is a path. A client may send the file's bytes instead (``inputs`` in `submit`); the daemon then keeps
    them in the job's own directory and the job sees that path.
    """

    MARK = msgspec.Meta(extra_json_schema={"x-annul-input": True})


class JobType(msgspec.Struct, frozen=True, kw_only=True):
    """A job type: its function and its terms. Calling it calls the function."""

    name: str
    function: Callable[..., Any]
    params: type[msgspec.Struct]
    summary: str  # the first line of the function's docstring
    grace_s: float  # from SIGTERM to SIGKILL
    timeout_s: float | None  # for a whole attempt, from its start; None: none
    start_timeout_s: float | None  # from its start to the job's first line; None: none
    retries: int  # further attempts after failures that may pass
    retry_delay_s: float  # before the first of them; doubled for each further one
    interrupt: Interrupt
    preload: tuple[str, ...]  # modules that the process it is forked from has imported already
    on_shutdown: OnShutdown  # what becomes of a running job when the daemon stops
    memory_bytes: int | None  # RLIMIT_DATA of each of its processes; of all together where a controller is delegated
    cpu_s: int | None  # of processor time, for each of its processes
    max_open_files: int | None  # of each of its processes; None: 1,024, which it may raise
    max_processes: int | None  # of the job at once, threads too, where a controller is delegated
    no_new_privs: bool  # sudo and other set-user-id programs give it nothing
    max_running: int | None  # of this type at once; the daemon's configuration may set another
    env: tuple[str, ...]  # names of the daemon's environment variables that the job gets
    signal_tree: bool  # SIGTERM goes to the whole tree, not to the leader only (for commands)
    privileged: bool  # only admins on the daemon's machine may submit it, and keys that name it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def job(
    name: str,
    *,
    grace_s: float = 5.0,
    timeout_s: float | None = None,
    start_timeout_s: float | None = None,
    retries: int = 0,
    retry_delay_s: float = 1.0,
    interrupt: Interrupt | None = None,
    preload: tuple[str, ...] = (),
    on_shutdown: OnShutdown = "queue",
    memory_bytes: int | None = None,
    cpu_s: int | None = None,
    max_open_files: int | None = None,
    max_processes: int | None = None,
    no_new_privs: bool = True,
    max_running: int | None = None,
    env: tuple[str, ...] = (),
    signal_tree: bool = False,
    privileged: bool = False,
) -> Callable[[Callable[..., Any]], JobType]:
    """Make a function a job type. It takes a `JobContext` and a msgspec Struct of parameters.

    `interrupt`: how a cancel reaches the code. ``raise`` (the default) raises `Cancelled` in the main thread,
    ``task`` (the default of ``async def``) cancels the task, ``flag`` does neither: the job looks at `ctx.signal`.

    `retries`: how often a job is tried again after a `JobError` with ``retryable=True``, or after it was lost (its
    process ended without an outcome while no daemon ran, or could not be started, or no daemon came back for it). The
    n-th time after ``retry_delay_s * 2 ** (n - 1)`` seconds, an hour at the most, less up to half of that by chance. A
    job that was cancelled, or ran into its time limit, is not tried again.

    Limits: a job that needs more than `memory_bytes` fails with ``out_of_memory``; one whose main process takes more
    than `cpu_s` seconds of processor time gets SIGXCPU, which ends it without clean-up, and fails with ``cpu_limit``.
    What of this happens to a process that it has started, it sees itself. What a job gives up: `JobContext.confine`.

    `privileged`: who may submit it may do anything that the daemon's user may (run any command, say).

    Raises TypeError where the function's second parameter is not annotated with a Struct.
    """

    def make(function: Callable[..., Any]) -> JobType:
        names = list(inspect.signature(function).parameters)
        hints = get_type_hints(function)
        params = hints.get(names[1]) if len(names) == 2 else None
        if not (isinstance(params, type) and issubclass(params, msgspec.Struct)):
            raise TypeError(
                f"job {name!r}: {function.__qualname__} must take (ctx, params), params annotated with a msgspec.Struct"
            )
        is_async = inspect.iscoroutinefunction(function)
        if is_async and interrupt == "raise":
            raise TypeError(f"job {name!r}: an async function is interrupted by 'task' or 'flag', not 'raise'")
        if not is_async and interrupt == "task":
            raise TypeError(f"job {name!r}: only an async function is interrupted by 'task'")
        return JobType(
            name=name,
            function=function,
            params=params,
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
            grace_s=grace_s,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            retries=retries,
            retry_delay_s=retry_delay_s,
            interrupt=interrupt or ("task" if is_async else "raise"),
            preload=preload,
            on_shutdown=on_shutdown,
            memory_bytes=memory_bytes,
            cpu_s=cpu_s,
            max_open_files=max_open_files,
            max_processes=max_processes,
            no_new_privs=no_new_privs,
            max_running=max_running,
            env=env,
            signal_tree=signal_tree,
            privileged=privileged,
        )

    return make
