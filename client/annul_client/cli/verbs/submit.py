"""``annul submit TYPE …``: queue a job and go on."""

from __future__ import annotations

from annul_client.cli.exits import Exit
from annul_client.cli.out import document, hint, line, printable
from annul_client.cli.typed import Submit, TypedGroup
from annul_client.sync import Client


def _submit(_client: Client, submit: Submit, as_json: bool) -> int:
    submitted = submit()
    refused = [one.error for one in submitted if one.error is not None]
    if as_json:
        document(submitted if len(submitted) > 1 else submitted[0].job)
        return Exit.REFUSED if refused else Exit.OK
    for one in submitted:
        if one.job is not None:
            line(one.job.id)
            hint(f"{one.job.type} is {one.job.state}; follow it with: annul wait {one.job.id}")
        elif one.error is not None:
            hint(f"refused: {printable(one.error.message)}")
    return Exit.REFUSED if refused else Exit.OK


command = TypedGroup(
    "submit",
    _submit,
    may_embed=False,
    several=True,
    short_help="Queue a job and print its id.",
    help="""Queue a job and print its id. It is safe with the daemon when this returns.

    `annul submit TYPE --help` lists the parameters of a type. An option for a file may be given several
    times: one job for each, in one request.

    \b
    annul submit import-pdf cv.pdf --user u1
    annul submit import-pdf --params params.json --key cv-2026
    annul submit generate-cv --cv cv.json --offer-file one.md --offer-file two.pdf""",
)
