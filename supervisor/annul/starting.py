"""Giving a job its slot and its process.

The order: a spare process is told what it is to run, so that it makes room for that while `starting` is committed, and
then is given its go; so no attempt runs that the store does not know of. Without a spare, one has no process until its
zygote has forked it. Whether one that was handed over by an older daemon runs is told by the board: either a process
has registered there, or none ever will. In the loop thread; nothing in here waits.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import signal
from typing import TYPE_CHECKING

from annul import ending, lifecycle, proc, stopping, systemd
from annul.board import BOARD, GIVEN_UP, Board, Notice
from annul.catalog import Known
from annul.errors import StoreError
from annul.lifecycle import Conclusion, Event, Leader
from annul.registry import Active, Registry
from annul.runtime.launch import Launch
from annul.runtime.limits import Limits
from annul.scheduling import Entry
from annul.store import JobRecord
from annul.tree import send_by
from annul.zygote import Process
from annul_client.wire import ErrorInfo, Progress, State

if TYPE_CHECKING:
    from annul.supervision import Supervision

_log = logging.getLogger(__name__)

# What a job may know of the daemon's environment; its type adds names of its own (`env`).
_ENV = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV", "PYTHONPATH"),
)

_REGISTER_S = 10.0  # for a process that knows what to run, to write its pid on its board
_ROOM_AGAIN_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # as for the store
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def may_pass(error: Exception) -> bool:
    """Whether it is for want of something that there may be again in a moment: room, descriptors, memory."""
    return isinstance(error, OSError) and error.errno in _PASSING


def admit(sup: Supervision) -> None:
    """Give free slots to those whose turn it is. Where the store cannot be read, or there is no room, they keep their
    place.
    """
    registry, now = sup.registry, sup.clock.monotonic()
    if registry.admit_at is not None and now < registry.admit_at:
        return
    registry.admit_at = None
    while (entry := registry.queue.admit(registry.running, registry.limits, sup.clock.wall())) is not None:
        try:
            _admit(sup, entry)
        except StoreError as error:
            registry.queue.add(entry, sup.clock.wall())
            sup.ledger.put_off(error, now)
            return
        except OSError as error:
            registry.queue.add(entry, sup.clock.wall())
            _put_off(registry, error, now)
            return


def _put_off(registry: Registry, error: OSError, now: float) -> None:
    """Come back to the queue when there may be room again."""
    registry.admit_at = now + _ROOM_AGAIN_S[min(registry.admit_failures, len(_ROOM_AGAIN_S) - 1)]
    if registry.admit_failures % 60 == 0:
        _log.error("preparing a job's run directory: %s; jobs wait for that", error, extra={"action": "admit"})
    registry.admit_failures += 1


def _admit(sup: Supervision, entry: Entry) -> None:
    record = sup.ledger.newest(entry.id)
    if record is None or record.state is not State.QUEUED:
        _log.error(
            "job %s was in the queue, but is %s",
            entry.id,
            record and record.state,
            extra={"action": "admit", "job_id": entry.id},
        )
        return
    known = sup.catalog.known.get(record.type)
    if known is None:  # submitted to a daemon that had this type
        _fail(sup, record, "unknown_type", f"this daemon has no job type {record.type!r} any more")
        return
    state, _ = lifecycle.step(record.state, Event.ADMITTED)
    begun = record.with_(
        state=state,
        attempt=record.attempt + 1,
        started_at=sup.clock.wall(),
        progress=Progress(),
        cancel=None,
        error=None,
        swept=0,
    )
    try:
        active = _prepare(sup, begun, known)
    except OSError as error:
        if may_pass(error):
            raise
        _not_prepared(sup, record, known, f"preparing the job's run directory: {error}")
        return
    sup.registry.admit_failures = 0
    sup.registry.hold(active)

    def undo(_: StoreError) -> None:
        sup.launcher.withdraw(active.name)
        if active.record.state is not State.STARTING:  # cancelled in this very turn: that stands (C1)
            sup.leader_is_gone(active)
            sup.guarded(active, lambda one: ending.look(sup, one))
            return
        sup.registry.free(active)
        ending.discard(sup, active)
        sup.registry.queue.add(entry, sup.clock.wall())

    launch = _launch_of(sup, active)
    sup.launcher.prepare(launch, known.type.preload, sup.clock.monotonic())
    active.record = sup.ledger.change(begun, state, first=lambda: _launch(sup, active, launch), refused=undo)


def _fail(sup: Supervision, record: JobRecord, code: str, message: str) -> None:
    """A queued job that can never start."""
    sup.ledger.change(
        record.with_(
            state=State.FAILED,
            finished_at=sup.clock.wall(),
            error=ErrorInfo(code=code, message=message),
        ),
        State.FAILED,
    )


def _not_prepared(sup: Supervision, record: JobRecord, known: Known, message: str) -> None:
    """It fails, or waits for its next try, as one does whose process could not be made."""
    ended = lifecycle.retried(
        Conclusion(State.FAILED, code="launch_failed"),
        retryable=True,
        failures=record.failures,
        retries=known.type.retries,
    )
    if not ended.retry:
        _fail(sup, record, ended.code, message)
        return
    waiting, delay_s = after_failure(sup, record, known)
    sup.ledger.change(
        waiting.with_(error=ErrorInfo(code=ended.code, message=message)),
        State.QUEUED,
        then=lambda written: enqueue(sup, written, delay_s=delay_s),
    )


def after_failure(sup: Supervision, record: JobRecord, known: Known) -> tuple[JobRecord, float]:
    """The facts of a job that is to be tried again, and how long it waits for that, seconds."""
    failures = record.failures + 1
    chance = random.random()  # noqa: S311 (no secret)
    delay_s = lifecycle.retry_delay_s(failures, known.type.retry_delay_s, chance)
    return record.with_(failures=failures, not_before=sup.clock.wall() + delay_s), delay_s


def _prepare(sup: Supervision, record: JobRecord, known: Known) -> Active:
    name = f"{record.id}.{record.attempt}"
    run_dir = sup.run_dir(name)
    if run_dir.exists():
        shutil.rmtree(run_dir)  # made by a daemon that ended before it had committed this attempt
    run_dir.mkdir(mode=0o700)
    try:
        board = Board.create(run_dir / BOARD)
    except OSError:
        run_dir.rmdir()
        raise
    return Active(record, known, board, sup.tree(name, run_dir / BOARD), run_dir, sup.attempt_dir(record))


def _launch_of(sup: Supervision, active: Active) -> Launch:
    record, job_type = active.record, active.known.type
    env = {name: value for name in (*_ENV, *job_type.env) if (value := systemd.credential(name)) is not None}
    env |= {
        "ANNUL_JOB_ID": record.id,
        "ANNUL_ATTEMPT": str(record.attempt),
        "ANNUL_RUN_DIR": str(active.run_dir),
        "ANNUL_MARK": active.name,
        "TMPDIR": str(active.attempt_dir / "work"),  # its own /tmp: with PrivateTmp that of the daemon ends with it
    }
    return Launch(
        job_id=record.id,
        attempt=record.attempt,
        type=record.type,
        target=active.known.target,
        params=bytes(record.params),
        user=record.user,
        title=record.title,
        labels=record.labels,
        run_dir=str(active.run_dir),
        attempt_dir=str(active.attempt_dir),
        user_dir=str(sup.config.outputs_dir / record.user),
        notify=str(sup.config.runtime_dir / "notify.sock"),
        env=env,
        limits=Limits(
            memory_bytes=job_type.memory_bytes,
            cpu_s=job_type.cpu_s,
            max_open_files=job_type.max_open_files,
            max_processes=job_type.max_processes,
            no_new_privs=job_type.no_new_privs,
        ),
        grace_s=job_type.grace_s,
        signal_tree=job_type.signal_tree,
        orphan_grace_s=sup.config.orphan_grace_s,
        daemon=os.getpid(),
    )


def _launch(sup: Supervision, active: Active, launch: Launch) -> None:
    now = sup.clock.monotonic()
    active.board.stamp_launched(int(now * 1e9), grace_s=launch.grace_s, signal_tree=launch.signal_tree)
    limit_time(active, now)
    active.log_at = now
    sup.launcher.launch(launch, active.known.type.preload, now)


def launched(sup: Supervision, name: str, process: Process) -> None:
    """That process has its launch now."""
    active = sup.registry.by_name(name)
    if active is None:  # it finds no board and runs nothing; make sure of it
        send_by(process.pidfd, signal.SIGKILL)
        os.close(process.pidfd)
        return
    active.pid, active.pidfd = process.pid, process.pidfd
    active.tree = sup.tree(name, active.board.path, (process.pid, process.start_time))
    active.register_by = sup.clock.monotonic() + _REGISTER_S


def not_launched(sup: Supervision, name: str, why: str) -> None:
    """No process of it was ever made, or will be."""
    active = sup.registry.by_name(name)
    if active is not None:
        active.not_launched, active.register_by = why, sup.clock.monotonic()
        sup.guarded(active, lambda one: check_registered(sup, one))


def no_room(sup: Supervision, name: str, why: str) -> None:
    """No process of it was made, for want of something that there may be again in a moment: that is no failed launch.

    It goes back to the queue, so that what it holds itself (a board takes a descriptor) is the others'.
    """
    active = sup.registry.by_name(name)
    if active is None or active.ladder is not None:
        not_launched(sup, name, why)
        return
    _log.warning(
        "job %s was not launched (%s): queued again", name, why, extra={"action": "launch", "job_id": active.record.id}
    )
    sup.registry.admit_at = sup.clock.monotonic() + _ROOM_AGAIN_S[-1]
    sup.guarded(active, lambda one: _queue_again(sup, one))


def check_registered(sup: Supervision, active: Active) -> None:
    """Its process, if it has one, has had its time to begin: one that was stopped, say, is replaced."""
    if active.board.process() is None and (active.pid is None or active.ladder is None):
        give_up(sup, active, active.not_launched or "its process did not begin")
    active.register_by = None


def find_leader(sup: Supervision, active: Active) -> Leader:
    """Get hold of the process that has registered on the board, of an attempt that an older daemon began."""
    registered = active.board.process()
    if active.pid is None and registered is not None:
        active.pidfd = proc.open_pidfd(*registered)
        active.pid = registered[0]
        active.tree = sup.tree(active.name, active.board.path, registered, whole=False)
        if active.pidfd is None:
            sup.leader_is_gone(active)
    if active.pid is None:
        return Leader.NONE
    return Leader.ENDED if active.ended else Leader.ALIVE


def give_up(sup: Supervision, active: Active, why: str) -> None:
    """No process has registered on the board: see to it that none ever will, and let the job start anew."""
    # Race: a child may be about to register. It looks at the flag after that and before any code of the user's,
    # and we look for it after setting the flag: so one of the two sees the other.
    if active.ladder is None:
        active.board.set_cancel(Notice(GIVEN_UP, "this launch was given up", "annul", 0.0, 0.0), 0)
        (active.run_dir / BOARD).unlink(missing_ok=True)
    else:  # why it is to stop stays there: the store may not have taken that yet (C1)
        stopping.write_notice(active, active.ladder)
    if find_leader(sup, active) is Leader.ALIVE and active.pidfd is not None:
        send_by(active.pidfd, signal.SIGKILL)
        if active.ladder is not None:
            return  # its end is noticed as any leader's
        os.close(active.pidfd)
        active.pidfd = None
    sup.leader_is_gone(active)
    failures = sup.registry.count_failed_launch(active.record.id)
    if lifecycle.starts_anew(active.ladder.kind if active.ladder else None, failures):
        _log.warning(
            "job %s was not launched (%s): queued again",
            active.name,
            why,
            extra={"action": "launch", "job_id": active.record.id},
        )
        _queue_again(sup, active)
        return
    if active.ladder is None:
        active.launch_error = f"{why} ({failures} tries)"
    ending.look(sup, active)


def limit_time(active: Active, launched: float) -> None:
    """Set its time-outs. `launched`: when that was, monotonic seconds."""
    record, job_type = active.record, active.known.type
    timeout_s = record.timeout_s if record.timeout_s is not None else job_type.timeout_s
    active.timeout_at = None if timeout_s is None else launched + timeout_s
    active.start_by = None if job_type.start_timeout_s is None else launched + job_type.start_timeout_s


def _queue_again(sup: Supervision, active: Active) -> None:
    sup.registry.free(active)
    ending.discard(sup, active)
    record = active.record.with_(state=State.QUEUED, started_at=None)
    sup.ledger.change(record, State.QUEUED)
    enqueue(sup, record)


def enqueue(sup: Supervision, record: JobRecord, *, delay_s: float = 0.0) -> None:
    """Line a job up; with a delay, when that is over on the monotonic clock, whatever the wall clock does."""
    if delay_s:
        sup.registry.line_up_later(record.id, sup.clock.monotonic() + delay_s)
        return
    entry = Entry(
        record.seq, record.id, record.user, record.type, record.priority, record.not_before, paused=record.paused
    )
    sup.registry.queue.add(entry, sup.clock.wall())


def line_up_due(sup: Supervision) -> None:
    """Line up those whose delay is over and who were not cancelled meanwhile."""
    now = sup.clock.monotonic()
    for job_id in sup.registry.due(now):
        try:
            record = sup.ledger.newest(job_id)
        except StoreError as error:
            sup.ledger.put_off(error, now)
            sup.registry.line_up_later(job_id, now + 1.0)
            continue
        if record is not None and record.state is State.QUEUED and job_id not in sup.registry.queue:
            enqueue(sup, record.with_(not_before=None))
