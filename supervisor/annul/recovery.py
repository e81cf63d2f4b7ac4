"""What a new daemon does about what an older one left: finish publishing, adopt what runs, conclude what ended.

The evidence, in the order it is believed: the process itself (boot id, pid, start time), the outcome file, the store. A
process that cannot be asked for is unknown, never dead: only a pid that is gone, or belongs to another start time, is.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from annul import ending, lifecycle, pausing, proc, starting, stopping, tree
from annul.board import BOARD, GIVEN_UP, Board
from annul.catalog import stand_in
from annul.errors import StartError
from annul.lifecycle import Event, StopKind, TakeUp
from annul.registry import Active
from annul.store import JobRecord
from annul_client.wire import ErrorInfo, State

if TYPE_CHECKING:
    from annul.daemon import Daemon

_log = logging.getLogger(__name__)
_SPARE = 16


def recover(daemon: Daemon) -> None:
    """Bring the registry up to what the store, the boards and /proc tell. Called once, before any request.

    Raises StartError where that cannot be told; nothing was committed then.
    """
    with _needed("looking at what earlier daemons left"):
        _forget_other_boots(daemon.config.runtime_dir)
        daemon.supervision.launcher.find_guardians()
    # All are held before any is acted on: a leader that is not known yet would be taken for what another left behind.
    held = []
    for record in daemon.store.unfinished():
        with _needed(f"looking for the processes of job {record.id}"):
            held.append(_hold(daemon, record))
    with _needed(f"having {_SPARE} descriptors to spare beside those for the jobs that run"):
        _check_spare()
    for record in daemon.store.unpublished():
        if ending.publish(daemon.supervision, record):
            ending.sweep(daemon.supervision, daemon.supervision.attempt_dir(record), keep_staging=False)
    wall = daemon.clock.wall()
    for entry in daemon.store.queued(wall + lifecycle.RETRY_MAX_S):  # the wall clock may have been set meanwhile
        daemon.registry.queue.add(entry, wall)
    for active in held:
        if active is not None:
            with _needed(f"looking at the processes of job {active.record.id}"):
                _take_up(daemon, active)
    with _needed("looking for what no job accounts for"):
        _sweep(daemon)


@contextmanager
def _needed(what: str) -> Iterator[None]:
    """Without that the daemon does not start: what could not be looked at is unknown, never gone."""
    try:
        yield
    except OSError as error:
        out = error.errno in (errno.EMFILE, errno.ENFILE)
        advice = "raise the limit of open files (LimitNOFILE= of the service, or ulimit -n)" if out else "mend that"
        raise StartError(f"{what}: {error}; {advice} and start again. The jobs were left as they are.") from error


def _check_spare() -> None:
    """Raises OSError where there are not descriptors enough for zygotes, clients and looks."""
    opened: list[int] = []
    try:
        while len(opened) < _SPARE:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        for fd in opened:
            os.close(fd)


def _hold(daemon: Daemon, record: JobRecord) -> Active | None:
    """An unfinished attempt, with what its board tells; None where it has none, and is concluded."""
    sup = daemon.supervision
    known = daemon.catalog.known.get(record.type) or stand_in(record.type)
    name = f"{record.id}.{record.attempt}"
    run_dir = sup.run_dir(name)
    board = _board(daemon, record, run_dir)
    if board is None:
        _conclude_lost(daemon, record)
        return None
    tree = sup.tree(name, run_dir / BOARD, whole=False)
    active = Active(record, known, board, tree, run_dir, sup.attempt_dir(record))
    active.adopted = active.maybe_frozen = True
    sup.registry.hold(active)
    _restore_ladder(daemon, active)
    launched_ns = board.launched_at or board.running_at
    starting.limit_time(active, launched_ns / 1e9 if launched_ns else daemon.clock.monotonic())
    active.log_at = daemon.clock.monotonic()
    starting.find_leader(sup, active)
    sup.keeps_together(active)
    return active


def _take_up(daemon: Daemon, active: Active) -> None:
    sup, name, job_id = daemon.supervision, active.name, active.record.id
    notice = active.board.cancel()
    given_up = notice is not None and notice[0].kind == GIVEN_UP
    leader = starting.find_leader(sup, active)
    match lifecycle.take_up(leader, given_up=given_up):
        case TakeUp.GIVE_UP:  # its zygote ends with the daemon that asked for it, perhaps a moment later
            starting.give_up(sup, active, "its daemon ended")
        case TakeUp.LOOK:
            active.unseen = True
            _log.info("job %s ended while no daemon watched", name, extra={"action": "adopt", "job_id": job_id})
            ending.look(sup, active)
        case TakeUp.ADOPT:
            _log.info("adopted job %s (pid %d)", name, active.pid, extra={"action": "adopt", "job_id": job_id})
            if active.ladder is not None and active.ladder.flag is not None:
                pausing.thaw(active)  # the daemon that began it may have ended before it did
            sup.news(active)


def _board(daemon: Daemon, record: JobRecord, run_dir: Path) -> Board | None:
    """The attempt's board. Where the runtime directory was emptied under a job that ran in this boot, a new one: its
    flag does not reach the job, but SIGTERM does. None where no process of it is known."""
    try:
        return Board.open(run_dir / BOARD)
    except (FileNotFoundError, ValueError):
        noted = daemon.store.attempt(record.id, record.attempt)
    if noted is None or noted[0] != proc.boot_id():
        return None
    _log.warning(
        "the board of job %s is gone: making another", record.id, extra={"action": "adopt", "job_id": record.id}
    )
    if run_dir.exists():
        shutil.rmtree(run_dir)
    run_dir.mkdir(mode=0o700)
    board = Board.create(run_dir / BOARD)
    board.set_process(*noted[1:])
    board.stamp_launched(int((daemon.clock.monotonic() - proc.age_s(noted[2])) * 1e9))
    return board


def _restore_ladder(daemon: Daemon, active: Active) -> None:
    """A cancel that was under way goes on with what is left of its grace."""
    record = active.record
    told = stopping.take_up(daemon.supervision, active)
    if told is StopKind.CANCEL and record.state is not State.CANCELLING:
        # The board is the durable record of an intent that the store refused (C1).
        state, _ = lifecycle.step(record.state, Event.CANCEL)
        daemon.supervision.enter(active, state)
    elif lifecycle.untold(record.state, told):
        asked = record.cancel
        stopping.stop(
            daemon.supervision,
            active,
            StopKind.CANCEL,
            reason=asked.reason if asked else "",
            by=asked.by if asked else "",
            grace_s=asked.grace_s if asked else None,
        )


def _conclude_lost(daemon: Daemon, record: JobRecord) -> None:
    conclusion = lifecycle.lost(record.state)
    state, error = conclusion.state, None
    if conclusion.code:
        message = "the machine restarted, or its runtime directory was emptied, while it ran"
        error = ErrorInfo(code=conclusion.code, message=message)
    _log.warning(
        "job %s.%d has no board: %s", record.id, record.attempt, state, extra={"action": "adopt", "job_id": record.id}
    )
    changed = record.with_(state=state, error=error, finished_at=daemon.clock.wall() if state.final else None)
    daemon.ledger.change(changed, str(state))
    if state is State.QUEUED:
        starting.enqueue(daemon.supervision, changed)


def _forget_other_boots(runtime_dir: Path) -> None:
    """Boards of an earlier boot tell of pids that mean nothing any more."""
    mark = runtime_dir / "boot_id"
    now = proc.boot_id()
    if mark.exists() and mark.read_text() != now:
        try:
            shutil.rmtree(runtime_dir / "jobs")
        except FileNotFoundError:
            pass
    mark.write_text(now)
    (runtime_dir / "jobs").mkdir(exist_ok=True, mode=0o700)


def _finish_discarding(daemon: Daemon, run_dir: Path) -> None:
    """An attempt was concluded, and the daemon ended before it had cleaned up."""
    job_id, _, attempt = run_dir.name.rpartition(".")
    record = daemon.store.job(job_id)
    keep = record is not None and not record.published and str(record.attempt) == attempt
    ending.forget(daemon.supervision, run_dir, daemon.supervision.job_dir(job_id) / attempt, keep_staging=keep)


def _sweep(daemon: Daemon) -> None:
    """What no live attempt accounts for: left by a crash between two steps. Of whole jobs, see `leftovers`."""
    live = {active.name for active in daemon.registry.active.values()}
    for path in (daemon.config.runtime_dir / "jobs").iterdir():
        if path.name not in live:
            _finish_discarding(daemon, path)
    if daemon.cgroup is not None:
        tree.remove_old_probes(daemon.cgroup.parent)
        trees = [active.tree for active in daemon.registry.active.values()]
        groups = {one.path for one in trees if isinstance(one, tree.CgroupTree)}
        _end_groups([path for path in daemon.cgroup.iterdir() if path.is_dir() and path not in groups])


def _end_groups(paths: list[Path]) -> None:
    """Also those of spare processes, which end with their daemon, perhaps a moment later."""
    stale = [tree.CgroupTree(path) for path in paths]
    for one in stale:
        one.kill(None, leader_alive=False)
    tree.remove_soon(stale)
