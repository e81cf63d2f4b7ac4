"""The daemon's configuration: where its things are, how much may run at once. docs/annul.toml tells it to operators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Limit = Annotated[int, msgspec.Meta(ge=0)]  # 0: none


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `annul serve` is told. Paths are absolute; 0 means "no limit" where a limit may be absent."""

    state_dir: Path  # store, logs, staging; survives reboots
    runtime_dir: Path  # sockets and shared memory; a private directory, its path short (sockets: 107 bytes)
    outputs_dir: Path  # users' outputs: <outputs_dir>/<user>/…; on the same file system as state_dir
    max_running: Positive = msgspec.field(default_factory=lambda: os.cpu_count() or 1)  # jobs at once
    max_running_per_user: Limit = 0
    max_running_per_type: dict[str, Limit] = {}
    max_queued: Positive = 100_000  # jobs waiting; a submit beyond is refused
    max_queued_per_user: Limit = 0
    listen: str | None = None  # a TCP endpoint ("tcp://127.0.0.1:7473") for clients with keys; None: none
    metrics: str | None = None  # a loopback address ("127.0.0.1:9464") where Prometheus is answered; None: none
    admins: list[str] = []  # on this machine, beside root and the daemon's own user: user names, uids, "@group"s
    submitters: list[str] = []  # the same; members of the runtime directory's group are submitters anyway
    readers: list[str] = []  # the same
    allowed_roots: list[Path] = []  # where others than local admins may name input files, beside their user's outputs
    max_requests_per_s: Limit = 1_000  # of one peer or key that is no local admin; ten times as many in a burst
    max_waiting: Positive = 1_000  # requests of it that wait for news at a time
    max_memory_bytes: Limit = 2**30  # of the daemon itself; above, connections that do not read are closed
    jobs: list[str] = []  # further modules with job types, beside the installed ones
    orphan_grace_s: float = 60.0  # a job without a daemon for longer ends itself; 0: at once, below 0: never
    drain: bool = False  # SIGTERM waits for running jobs; a second one stops them
    tree: Literal["auto", "cgroup", "session"] = "auto"  # how trees are found; auto: by cgroup if it can
    spares: Limit = 2  # processes of each profile that wait for a job; 0: each is forked when it is needed
    warm: bool = True  # start every type's zygote at once; False: when it is first needed
    stop_on_eof: bool = False  # stop when standard input closes: the daemon of `annul run --embedded`
    max_log_bytes: Positive = 16 * 1024 * 1024  # of one attempt; looked at once a second, the middle is dropped
    keep_events: Positive = 100_000  # entries of the event log
    keep_jobs: Limit = 10_000  # finished jobs of one user; the oldest beyond are purged
    keep_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] = 0.0  # since a job ended; then it is purged
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json", "journal"] = "text"  # a line, a JSON object, or the fields of an entry, each


RELOADED = frozenset(
    {
        *("max_running", "max_running_per_user", "max_running_per_type", "max_queued", "max_queued_per_user"),
        *("max_requests_per_s", "max_waiting", "max_log_bytes", "keep_events", "keep_jobs", "keep_days"),
        *("max_memory_bytes", "allowed_roots", "drain", "log_level"),
    }
)
"""What a SIGHUP changes in a daemon that runs. All else needs a restart, over which jobs go on (SIGUSR2)."""


def reloaded(running: Config, found: Config) -> tuple[Config, list[str], list[str]]:
    """What a running daemon goes on with once `found` was read; the names that changed; and those that would have, but
    need a restart.
    """
    names = [name for name in Config.__struct_fields__ if getattr(running, name) != getattr(found, name)]
    changed = [name for name in names if name in RELOADED]
    config = msgspec.structs.replace(running, **{name: getattr(found, name) for name in changed})
    return config, changed, [name for name in names if name not in RELOADED]
