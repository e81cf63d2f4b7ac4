"""``annul purge``: forget jobs that are over."""

from __future__ import annotations

import click

from annul_client import wire
from annul_client.cli.exits import Exit
from annul_client.cli.options import Age, KeyValue, json_option
from annul_client.cli.out import document, hint, line
from annul_client.cli.session import Session


@click.command("purge", short_help="Forget jobs that are over, and their logs.")
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--user", default=None, help="All of this user that are over.")
@click.option("--type", "type_name", default=None, help="All of this type.")
@click.option("--label", type=KeyValue(), multiple=True, metavar="K=V", help="All with this label.")
@click.option(
    "--state", type=click.Choice(sorted(map(str, wire.FINAL_STATES))), default=None, help="All that ended so."
)
@click.option("--older-than", type=Age(), metavar="AGE", help="All that ended so long ago: 90s, 10m, 2h, 30d.")
@json_option
@click.pass_obj
def command(
    session: Session,
    *,
    job_id: str | None,
    user: str | None,
    type_name: str | None,
    label: tuple[tuple[str, str], ...],
    state: str | None,
    older_than: float | None,
    as_json: bool,
) -> int:
    """Forget a job that is over, and its log; or all that match each of the options. What they published stays.

    A live job that is named is refused (exit code 7); those that match are left out. Exits 5 for an unknown id.
    """
    many = any(one is not None for one in (user, type_name, state, older_than)) or bool(label)
    if (job_id is None) != many:
        raise click.UsageError("name one job, or a --user, --type, --label, --state or --older-than")
    count = session.client().purge(
        job_id, user=user, type=type_name, label=dict(label), state=state, older_than_s=older_than
    )
    if as_json:
        document({"count": count})
    elif many:
        line(f"{count} purged")
    elif not count:
        hint(f"annul: no job {job_id}")
    return Exit.OK if many or count else Exit.NOT_FOUND
