"""Noticing that an attempt is over, and concluding it.

The leader's end is not the job's: `look` asks the tree, and only when nobody is left is the outcome read, the state
decided (`lifecycle.conclude`), committed, and what was staged published. In the loop thread; nothing in here waits.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from annul import cancel, lifecycle, pausing, publishing, starting, stopping
from annul.lifecycle import Action, Conclusion, Event, StopKind, Verdict
from annul.registry import Active
from annul.runtime import outcome
from annul.runtime.outcome import Outcome
from annul.store import JobRecord
from annul_client.wire import ErrorInfo, Progress, State

if TYPE_CHECKING:
    from annul.supervision import Supervision

_log = logging.getLogger(__name__)
START_TIMEOUT = "start_timeout"  # the reason, and the code of the error
_STATUS_WAIT_S = 0.5  # for the zygote's word on how a leader without outcome ended
_LOOK_AGAIN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25)  # at survivors, who have their grace


def note_end(sup: Supervision, active: Active) -> None:
    """Its pidfd was readable in the poll. To be looked at when all such ends of a turn are noted."""
    # Race: the poll was of descriptor numbers, and one may have been closed and given out again since.
    if active.pidfd is not None and _readable(active.pidfd):
        os.close(active.pidfd)
        active.pidfd = None
        sup.leader_is_gone(active)


def exited(sup: Supervision, pid: int, status: int) -> None:
    active = sup.registry.by_pid(pid)
    if active is not None:
        active.status = status
        active.out_of_memory = active.tree.ran_out_of_memory()  # now: the launcher removes its empty cgroup next
        if active.status_by is not None:
            sup.guarded(active, lambda one: look(sup, one))


def look(sup: Supervision, active: Active) -> None:
    """The leader has ended: is anything left? If not, conclude; if so, see that it ends."""
    if active.adopted and active.ladder is None:
        stopping.take_up(sup, active)  # Race: a guardian may have begun as this daemon came, and told the board since
    found = active.tree.look(active.pid, leader_alive=False)
    if found.empty:
        _conclude_soon(sup, active)
        return
    active.looks += 1
    if active.ladder is None:
        # Left behind by a job that ended by itself: it was told to be whole, so the rest goes at once.
        found = active.tree.kill(active.pid, leader_alive=False)
        active.swept.update(found.pids)
        again_s = cancel.kill_again_s(active.looks)
        if cancel.is_stuck(active.looks) and not active.stuck_told:
            stopping.tell_stuck(sup, active)
    else:
        again_s = _LOOK_AGAIN_S[min(active.looks, len(_LOOK_AGAIN_S)) - 1]
    active.watch(found.pids)
    active.look_at = sup.clock.monotonic() + again_s
    if active.ladder is not None and not active.ladder.kills:
        stopping.climb(sup, active)  # survivors get their SIGTERM at once
        if active.ladder.survivors_told:
            stopping.terminate_others(active, found.pids)  # also those who are seen only now


def _conclude_soon(sup: Supervision, active: Active) -> None:
    """Conclude, but give the zygote a moment to say how a leader ended that said nothing itself."""
    if active.launch_error:
        _conclude(sup, active, None)
        return
    try:
        ended = outcome.read(active.attempt_dir)
    except (OSError, ValueError) as error:
        if starting.may_pass(error):
            raise
        _log.error(
            "reading the outcome of %s: %s", active.name, error, extra={"action": "outcome", "job_id": active.record.id}
        )
        ended = Outcome(
            verdict=Verdict.FAILED,
            error=ErrorInfo(code="outcome", message=f"its outcome cannot be read: {error}"),
        )
    if ended is None and active.ladder is None and active.board.process() is None:
        starting.give_up(sup, active, "its process ended before it registered")
        return
    expects_status = active.pid is not None and not active.unseen and active.ladder is None
    if ended is None and active.status is None and expects_status:
        now = sup.clock.monotonic()
        active.status_by = active.status_by or now + _STATUS_WAIT_S
        if now < active.status_by:
            active.look_at = None
            return
    _conclude(sup, active, ended)


def _conclude(sup: Supervision, active: Active, ended: Outcome | None) -> None:
    """Nothing of it is alive: the attempt is over."""
    _, action = lifecycle.step(active.record.state, Event.GONE)
    assert action is Action.CONCLUDE, (active.name, active.record.state)
    if active.ladder is not None and not active.intent_noted:
        # It ended in the turn in which it was cancelled; should the store refuse that, the board has it (C1).
        stopping.write_notice(active, active.ladder)
    ended = _checked(sup, active, ended)
    _note_last_progress(active)
    stop = active.ladder.kind if active.ladder else None
    conclusion = lifecycle.conclude(
        StopKind.CANCEL if active.record.state is State.CANCELLING else stop,
        ended.verdict if ended else Verdict.NONE,
        queue_again=active.known.type.on_shutdown == "queue",
        unseen=active.unseen,
    )
    code = "launch_failed" if active.launch_error else conclusion.code
    error = _error(active, conclusion, ended)
    conclusion = lifecycle.retried(
        conclusion,
        retryable=code in lifecycle.RETRYABLE or bool(ended and ended.retryable),
        failures=active.record.failures,
        retries=active.known.type.retries,
    )
    record = pausing.after(active.record, conclusion.state).with_(
        finished_at=sup.clock.wall(),
        result=_result(ended, conclusion),
        files=ended.files if ended and conclusion.publish else [],
        published=not (ended and conclusion.publish and ended.files),
        error=error,
        cancel=stopping.cancel_record(sup, active, ended, gone=True, late_result=conclusion.late_result),
        swept=len(active.swept),
    )
    if conclusion.state is State.QUEUED:
        record = record.with_(started_at=None, finished_at=None)
    delay_s = 0.0
    if conclusion.retry:
        record, delay_s = starting.after_failure(sup, record, active.known)
    sup.registry.free(active)
    if record.state is not State.QUEUED:
        sup.registry.forget_failed_launches(record.id)
    # Now, not after the commit: on a full disk the commit may be waiting for just this room.
    sweep(sup, active.attempt_dir, keep_staging=conclusion.publish)
    _log.info(
        "job %s %s%s%s",
        active.name,
        record.state,
        f" ({record.error.code})" if record.error else "",
        f", swept {record.swept}" if record.swept else "",
        extra={"action": str(record.state), "job_id": record.id},
    )

    def settle(written: JobRecord) -> None:
        published = written.published or publish(sup, written)
        discard(sup, active, keep_staging=not published)
        if written.state is State.QUEUED:
            starting.enqueue(sup, written, delay_s=delay_s)

    sup.ledger.change(record, str(record.state), then=settle)


def _checked(sup: Supervision, active: Active, ended: Outcome | None) -> Outcome | None:
    """An outcome with files that are not staged, or would leave the user's directory, is a failure."""
    if ended is None or not ended.files:
        return ended
    user_dir = sup.config.outputs_dir / active.record.user
    names = publishing.unfit(active.attempt_dir, user_dir, ended.files, perhaps_moved=active.unseen)
    if not names:
        return ended
    message = f"the output {names[0]!r} is no file that the job has staged, or would leave its user's directory"
    return Outcome(verdict=Verdict.FAILED, error=ErrorInfo(code="output", message=message))


def _note_last_progress(active: Active) -> None:
    seq, fraction, stage = active.board.progress()
    if seq:
        active.record = active.record.with_(progress=Progress(fraction=fraction, stage=stage))


def _error(active: Active, conclusion: Conclusion, ended: Outcome | None) -> ErrorInfo | None:
    if conclusion.state is not State.FAILED:
        return None
    if active.launch_error:
        message = f"its process could not be started: {active.launch_error}"
        return ErrorInfo(code="launch_failed", message=message)
    job_type = active.known.type
    match conclusion.code:
        case "":
            return ended.error if ended else None
        case "timeout" if active.ladder and active.ladder.reason == START_TIMEOUT:
            message = "the job did not reach its first line within its start time limit, and was stopped"
            return ErrorInfo(code=START_TIMEOUT, message=message)
        case "timeout":
            grace = active.ladder.grace_s if active.ladder else 0
            message = f"the job ran into its time limit and was stopped (SIGTERM, {grace:g} s of grace, SIGKILL)"
        case "terminated":
            message = "the job got a SIGTERM that did not come from annul"
        case "lost" | "crashed" if active.board.unwound_at:
            message = (
                "the job's own code had ended, but how could not be written to its outcome file (is the disk full?): "
                f"{_how(active.status)}"
            )
            return ErrorInfo(code="outcome", message=message)
        case "lost" | "crashed" if active.out_of_memory or active.tree.ran_out_of_memory():
            most = (job_type.memory_bytes or 0) // 2**20
            message = f"the job's processes together needed more memory than they may have ({most} MiB)"
            return ErrorInfo(code="out_of_memory", message=message)
        case "crashed" if _signal(active.status) == signal.SIGXCPU and job_type.cpu_s is not None:
            message = f"the job took more processor time than a process of it may have ({job_type.cpu_s} s)"
            return ErrorInfo(code="cpu_limit", message=message)
        case "lost":
            message = "the job ended without an outcome while no daemon ran; see its log"
        case "orphaned":
            message = "the job was stopped because no daemon ran for longer than it may be without (orphan_grace_s)"
        case _:
            message = f"the job's process ended without an outcome: {_how(active.status)}; see its log"
    return ErrorInfo(code=conclusion.code, message=message)


def publish(sup: Supervision, record: JobRecord) -> bool:
    """Rename a completed job's outputs into place; also again after a crash in the middle of it. False: it failed."""
    attempt_dir = sup.attempt_dir(record)
    try:
        publishing.publish(attempt_dir, sup.config.outputs_dir / record.user, record.files)
    except OSError as error:
        _log.error(
            "publishing the outputs of %s: %s; they stay in %s and are tried again at the next start",
            record.id,
            error,
            attempt_dir / publishing.STAGING,
            extra={"action": "publish", "job_id": record.id},
        )
        return False
    sup.ledger.change(record.with_(published=True), None, extra=lambda store: store.set_published(record.id))
    return True


def discard(sup: Supervision, active: Active, *, keep_staging: bool = False) -> None:
    """Free what the attempt occupied. Its log and outcome stay."""
    active.tree.remove()
    forget(sup, active.run_dir, active.attempt_dir, keep_staging=keep_staging)


def forget(sup: Supervision, run_dir: Path, attempt_dir: Path, *, keep_staging: bool) -> None:
    """Delete what an attempt that is over needs no more; its run directory last: as long as that is there, the next
    daemon does it all again after a crash.
    """
    sweep(sup, attempt_dir, keep_staging=keep_staging)
    if sup.sweeper.waiting and attempt_dir.exists():
        sup.sweeper.add(run_dir)  # behind the others, which are deleted a little each turn
    else:  # at once where it never ran, and was perhaps never committed: the next launch may be this very attempt
        _remove(run_dir)


def _remove(run_dir: Path) -> None:
    """A run directory has a few files, nothing else; where a job has put something there, that takes longer."""
    try:
        for name in os.listdir(run_dir):  # noqa: PTH208 (names are all that is wanted)
            (run_dir / name).unlink()
        run_dir.rmdir()
    except OSError:
        shutil.rmtree(run_dir, ignore_errors=True)


def sweep(sup: Supervision, attempt_dir: Path, *, keep_staging: bool) -> None:
    """Delete what an attempt that is over needs no more. An empty working directory stays for as long as the job is
    kept: to delete one takes time, and on ext4 without a journal to make the next one takes more.
    """
    if not _is_empty(attempt_dir / "work"):
        sup.sweeper.add(attempt_dir / "work")
    if not keep_staging:
        sup.sweeper.add(attempt_dir / publishing.STAGING)


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing in it, or it is not there."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:  # a job may have made it unreadable, or put a file in its place
        return False


def _result(ended: Outcome | None, conclusion: Conclusion) -> msgspec.Raw | None:
    counts = conclusion.state in (State.COMPLETED, State.FAILED) and not conclusion.late_result
    return ended.result if ended is not None and counts and bytes(ended.result) else None


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _signal(status: int | None) -> int | None:
    """What ended it; None: nothing did, or nobody saw how."""
    return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None


def _how(status: int | None) -> str:
    if status is None:
        return "nobody saw how"
    if (signum := _signal(status)) is not None:
        return f"killed by {signal.Signals(signum).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
