"""``annul run TYPE …``: queue a job, follow it, print its result; Ctrl-C cancels it."""

from __future__ import annotations

from annul_client.cli.display import display_for
from annul_client.cli.finish import finish
from annul_client.cli.follow import Inbox, follow
from annul_client.cli.typed import Submit, TypedGroup
from annul_client.sync import Client


def _run(client: Client, submit: Submit, as_json: bool) -> int:
    display = display_for(as_json=as_json)
    with Inbox() as inbox:
        (submitted,) = submit()
        job = submitted.job
        assert job is not None  # one that is refused raises
        try:
            job = follow(client, job, inbox, display)
        finally:
            display.stop()
    return finish(client, job, as_json=as_json)


command = TypedGroup(
    "run",
    _run,
    may_embed=True,
    short_help="Run a job, follow it and print its result.",
    help="""Run a job, follow it and print its result.

    Ctrl-C cancels it and waits until all of it is gone; a second Ctrl-C kills it at once.

    `annul run TYPE --help` lists the parameters of a type. With --embedded no daemon is needed: one is
    started for this job and stopped after it.

    \b
    annul run --embedded import-pdf cv.pdf
    annul run import-pdf cv.pdf --user u1 --engine offline > cv.json""",
)
