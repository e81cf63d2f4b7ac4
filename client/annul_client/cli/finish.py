"""The last words of a command that followed a job: its result on stdout, how it ended on stderr."""

from __future__ import annotations

from annul_client import wire
from annul_client.errors import AnnulClientError
from annul_client.sync import Client

from .exits import Exit, of_job
from .out import document, hint, printable
from .words import ending

TAIL = 2000
"""Bytes of a failed job's log that are shown, at most."""

UNEXPLAINED = frozenset({"exception", "crashed", "exit", "outcome", "internal"})
"""Errors that the job did not foresee: its log may say more. A foreseen one says itself what to do."""


def finish(client: Client, job: wire.Job, *, as_json: bool, show_result: bool = True) -> Exit:
    """Print how a job ended; a CV alone where its result holds one. Returns the exit code that says the same."""
    if as_json:
        document(job)
        return of_job(job)
    completed = job.state is wire.State.COMPLETED
    if completed and show_result:
        print_result(job.result)
    if show_result or not completed:
        hint(f"{job.id} {printable(ending(job))}")
        for path in job.files:
            hint(path)
    unexplained = job.error is not None and job.error.code in UNEXPLAINED
    if unexplained and show_result:
        _show_log(client, job.id)
    return of_job(job)


def print_result(result: object) -> None:
    """A result as indented JSON; of an import the CV, and the rest of it as hints."""
    if isinstance(result, dict) and "cv" in result:
        document(result["cv"])
        if isinstance(result.get("engine"), str):
            hint(f"engine: {printable(result['engine'])}")
    elif result is not None:
        document(result)


def _show_log(client: Client, job_id: str) -> None:
    try:
        tail = client.logs(job_id, offset=-TAIL)
    except AnnulClientError:
        return  # it only explains; the failure itself is told
    for line in tail.decode(errors="replace").splitlines()[-15:]:
        hint(f"  | {printable(line)}")
