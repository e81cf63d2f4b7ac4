"""``annul cancel``: stop a job, or many."""

from __future__ import annotations

import click

from annul_client import wire
from annul_client.cli.exits import Exit
from annul_client.cli.options import KeyValue, json_option, whoami
from annul_client.cli.out import document, hint, line, printable
from annul_client.cli.session import Session
from annul_client.cli.words import ending


@click.command("cancel", short_help="Cancel a job, or all of a user, type or label.")
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--user", default=None, help="All live jobs of this user.")
@click.option("--type", "type_name", default=None, help="All live jobs of this type.")
@click.option("--label", type=KeyValue(), multiple=True, metavar="K=V", help="All live jobs with this label.")
@click.option("--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="0 kills at once.")
@click.option("--reason", default="", help="Kept with the job, and told to it.")
@click.option("--wait", "waits", is_flag=True, help="Return when nothing of it is left.")
@json_option
@click.pass_obj
def command(
    session: Session,
    *,
    job_id: str | None,
    user: str | None,
    type_name: str | None,
    label: tuple[tuple[str, str], ...],
    grace: float | None,
    reason: str,
    waits: bool,
    as_json: bool,
) -> int:
    """Cancel a job. When this returns the cancel is durable: the job will end as cancelled, and as nothing else.

    With --user, --type or --label, all live jobs that match each of them. Exits 5 for an unknown id, else 0:
    also where the job was over already, which is said.
    """
    many = bool(user is not None or type_name is not None or label)
    if (job_id is None) != many:
        raise click.UsageError("name one job, or a --user, --type or --label")
    client = session.client()
    reply = client.cancel(
        job_id, user=user, type=type_name, label=dict(label), grace_s=grace, reason=reason, by=whoami()
    )
    if waits:
        reply = wire.CancelReply(
            outcome=reply.outcome,
            job=client.wait(reply.job.id) if reply.job is not None else None,
            jobs=[client.wait(job.id) for job in reply.jobs],
        )
    if as_json:
        document(reply)
    elif many:
        for job in reply.jobs:
            line(f"{job.id} {printable(_said(job, reply.outcome))}")
        if not reply.jobs:
            hint("no live job matches")
    elif reply.job is not None:
        line(f"{reply.job.id} {printable(_said(reply.job, reply.outcome))}")
    else:
        hint(f"annul: no job {job_id}")
    missing = reply.outcome is wire.CancelOutcome.NOT_FOUND and not many
    return Exit.NOT_FOUND if missing else Exit.OK


def _said(job: wire.Job, outcome: wire.CancelOutcome) -> str:
    if outcome is wire.CancelOutcome.ALREADY_FINAL:
        return f"was over already: {ending(job)}"
    return ending(job)
