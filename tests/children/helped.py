"""A job type whose preloaded module starts a helper process, served with ``--jobs children.helped``."""

from __future__ import annotations

from annul import JobContext, job
from children.jobs import Nothing


@job("helped", preload=("children.helper",), on_shutdown="cancel")
def helped(ctx: JobContext, params: Nothing) -> None:
    """Do nothing."""
