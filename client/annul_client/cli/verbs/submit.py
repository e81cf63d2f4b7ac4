"""``annul submit TYPE …``: queue a job and go on."""

from __future__ import annotations

from annul_client.cli.exits import Exit
from annul_client.cli.out import document, hint, line
from annul_client.cli.typed import Submit, TypedGroup
from annul_client.sync import Client


def _submit(_client: Client, submit: Submit, as_json: bool) -> int:
    job = submit()
    if as_json:
        document(job)
    else:
        line(job.id)
        hint(f"{job.type} is {job.state}; follow it with: annul wait {job.id}")
    return Exit.OK


command = TypedGroup(
    "submit",
    _submit,
    may_embed=False,
    short_help="Queue a job and print its id.",
    help="""Queue a job and print its id. It is safe with the daemon when this returns.

    `annul submit TYPE --help` lists the parameters of a type.

    \b
    annul submit import-pdf cv.pdf --user u1
    annul submit import-pdf --params params.json --key cv-2026""",
)
