"""Exit codes, and which error or job ends in which."""

from __future__ import annotations

from enum import IntEnum

from annul_client import errors, wire


class Exit(IntEnum):
    """What the command line says to the shell."""

    OK = 0  # done; a job followed to its end has completed
    FAILED = 1  # the job failed, or the command line itself did
    USAGE = 2  # the command is not one that can be asked
    NO_DAEMON = 3
    CANCELLED = 4  # the job was cancelled
    NOT_FOUND = 5  # no job has this id
    TIMED_OUT = 6  # the job ran out of its time, or `wait` out of its own
    REFUSED = 7  # the daemon does not do it, and says why
    INTERRUPTED = 130  # Ctrl-C where there is no job to cancel; as shells have it


def of_job(job: wire.Job) -> Exit:
    """The exit code of a command that followed a job to its end."""
    if job.state is wire.State.COMPLETED:
        return Exit.OK
    if job.state is wire.State.CANCELLED:
        return Exit.CANCELLED
    if job.error is not None and job.error.code == "timeout":
        return Exit.TIMED_OUT
    return Exit.FAILED


def of_error(error: Exception) -> Exit:
    """The exit code for an error that ends a command."""
    match error:
        case errors.NoDaemon():
            return Exit.NO_DAEMON
        case errors.NotFound():
            return Exit.NOT_FOUND
        case errors.RequestRefused():
            return Exit.REFUSED
        case TimeoutError():
            return Exit.TIMED_OUT
        case _:
            return Exit.FAILED


def code_of(error: Exception) -> str:
    """The stable code that ``--json`` gives an error."""
    match error:
        case errors.RequestRefused():
            return error.code
        case errors.NoDaemon():
            return "no_daemon"
        case errors.EventsLost():
            return "events_lost"
        case errors.BadReply():
            return "bad_reply"
        case TimeoutError():
            return "timeout"
        case OSError():
            return "os_error"
        case _:
            return "internal"
