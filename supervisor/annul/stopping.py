"""Carrying out the ladder: notice and flag, SIGTERM, SIGKILL of the whole tree, and the record of all that.

What is due when is decided in `cancel`; here it is done. In the loop thread; nothing in here waits.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from annul import cancel, ending, lifecycle, pausing, proc, regular
from annul.board import Notice
from annul.cancel import Ladder, Step
from annul.lifecycle import Action, Event, StopKind
from annul.registry import Active
from annul.runtime.entry import DUMP_SIGNAL, STACKS
from annul.runtime.outcome import Outcome
from annul.store.record import utc
from annul.tree import send, send_by
from annul_client.wire import CancelRecord, Stage

if TYPE_CHECKING:
    from annul.supervision import Supervision

_log = logging.getLogger(__name__)
_OWN_FRAMES = (  # below every job's own
    *("/annul/runtime/entry.py", "/annul/runtime/zygote.py", "/annul/runtime/task.py", "<frozen runpy>"),
    "in _bootstrap",  # and of every thread's
)
_STACKS_MAX = 64 * 1024  # bytes of Python stacks in a cancel record
_STUCK_SHOWN = 10  # processes that the kernel does not end, in a cancel record
_STUCK_FRAMES = 8  # of the kernel stack of each


def begin(
    sup: Supervision,
    active: Active,
    event: Event,
    kind: StopKind,
    *,
    reason: str,
    by: str,
    grace_s: float | None = None,
) -> None:
    """A cancel (which is accepted, whatever the store says: C1), a time-out or the shutdown, of an attempt."""
    state, action = lifecycle.step(active.record.state, event)
    if action is Action.STOP:
        stop(sup, active, kind, reason=reason, by=by, grace_s=grace_s)
    sup.enter(active, state)


def stop(sup: Supervision, active: Active, kind: StopKind, *, reason: str, by: str, grace_s: float | None) -> None:
    """Begin the ladder, or let this request take over the one that runs; `carry_out` climbs it after the commit.

    Race: the job may end in this very turn, by itself. The ladder is there from now on, so that an accepted
    cancel wins (C2).
    """
    grace = active.known.type.grace_s if grace_s is None else grace_s
    asked = Ladder(
        kind=kind,
        reason=reason,
        by=by,
        grace_s=grace,
        asked=sup.clock.monotonic(),
        asked_at=sup.clock.wall(),
    )
    if active.ladder is None:
        active.ladder, active.stuck_told = asked, False
    else:
        active.ladder = cancel.take_over(active.ladder, asked)
    _log.info(
        "stopping job %s (%s), by %s, grace %g s%s",
        active.name,
        kind,
        by or "somebody",
        grace,
        f": {reason}" if reason and reason != kind else "",
        extra={"action": "stop-job", "job_id": active.record.id},
    )
    active.intent_noted = False
    sup.intents.append(active)


def take_up(sup: Supervision, active: Active) -> StopKind | None:
    """Have the ladder that the board tells of, with what is left of its grace: begun by a daemon before this one, or by
    a guardian. Why that was; None: there is none.
    """
    found = active.board.ladder(sup.clock.monotonic())
    active.ladder = found or active.ladder
    return found.kind if found else None


def keep_intents(sup: Supervision) -> None:
    """The store took nothing: the boards are the durable record of this turn's intents, before any is answered (C1)."""
    for active in sup.intents:
        if not active.over and active.ladder is not None:
            write_notice(active, active.ladder)


def carry_out(sup: Supervision) -> None:
    """Climb the ladders whose intent was noted in this turn: it is committed now and, where the store refused it, on
    the board next, before any signal (C1).
    """
    intents, sup.intents = sup.intents, []
    for active in intents:
        if not active.over:  # it may have ended in the very turn in which it was cancelled
            active.intent_noted = True
            sup.guarded(active, lambda one: _go_on(sup, one))


def _go_on(sup: Supervision, active: Active) -> None:
    if active.ladder is not None and active.ladder.flag is not None:
        write_notice(active, active.ladder)  # it climbs already, for another reason or with a longer grace
    climb(sup, active)


def climb(sup: Supervision, active: Active) -> None:
    """Do what is due on the ladder."""
    while active.ladder is not None and active.intent_noted and not active.over:
        before = active.ladder
        active.ladder, step = cancel.climb(before, active.seen(), sup.clock.monotonic())
        if step is None:
            return
        try:
            _take(sup, active, active.ladder, step)
        except OSError:
            active.ladder = before  # the step is to be taken again
            raise


def _take(sup: Supervision, active: Active, ladder: Ladder, step: Step) -> None:
    match step:
        case Step.BEGIN:
            write_notice(active, ladder)
            if active.pid is None and sup.launcher.withdraw(active.name):  # no process of it will ever be
                sup.leader_is_gone(active)
                ending.look(sup, active)
                return
            active.tree.look(active.pid, leader_alive=active.leader_alive)  # whom it sees now it knows again later
            if ladder.terms:
                _terminate(active, ladder, whole_tree=active.known.type.signal_tree)
        case Step.TERM_LEADER:
            _terminate(active, ladder, whole_tree=False)
        case Step.TERM_SURVIVORS:
            _terminate(active, ladder, whole_tree=True)
        case Step.DUMP:
            if active.pidfd is not None:
                send_by(active.pidfd, DUMP_SIGNAL)
        case Step.KILL:
            _kill(sup, active)
            if ladder.stuck and not active.stuck_told and not active.over:
                tell_stuck(sup, active)


def write_notice(active: Active, ladder: Ladder) -> None:
    """Tell the job, and the next daemon: on the board and, for commands, in a file."""
    notice = Notice(ladder.kind, ladder.reason, ladder.by, ladder.grace_s, ladder.asked_at)
    try:
        active.board.tell(notice, ladder.deadline)
    except OSError as error:  # the board has it all the same: a full disk must not keep the cancel
        _log.warning(
            "writing cancel.json of %s: %s", active.name, error, extra={"action": "cancel", "job_id": active.record.id}
        )


def _terminate(active: Active, ladder: Ladder, *, whole_tree: bool) -> None:
    """SIGTERM, then SIGCONT, and the end of a pause, so that a stopped job can react, and nothing of it runs on before
    it is told; the first that reaches anybody is noted.
    """
    sent = False
    if active.pidfd is not None:
        sent = send_by(active.pidfd, signal.SIGTERM)
        send_by(active.pidfd, signal.SIGCONT)
    if whole_tree:
        found = active.tree.look(active.pid, leader_alive=active.leader_alive).pids
        sent = terminate_others(active, found) or sent
    pausing.thaw(active)
    if sent and ladder.sigterm is None:
        active.ladder = msgspec.structs.replace(ladder, sigterm=ladder.last)


def terminate_others(active: Active, pids: list[int]) -> bool:
    """SIGTERM and SIGCONT, once, to those of a tree who are not its leader. Whether any was there to get it."""
    others = [pid for pid in pids if pid != active.pid and pid not in active.told]
    sent = []
    for pid in others:
        sent.append(send(pid, signal.SIGTERM))
        active.told.add(pid)
    for pid in others:
        send(pid, signal.SIGCONT)
    return any(sent)


def _kill(sup: Supervision, active: Active) -> None:
    found = active.tree.kill(active.pid, leader_alive=active.leader_alive)
    active.swept.update(pid for pid in found.pids if pid != active.pid)
    active.watch(found.pids)
    if not active.leader_alive:
        ending.look(sup, active)


def tell_stuck(sup: Supervision, active: Active) -> None:
    """What is left of an attempt does not end: event, warning and, where it is being stopped, record say so."""
    left = active.tree.look(active.pid, leader_alive=active.leader_alive).pids
    where = [_where(pid) for pid in left[:_STUCK_SHOWN]]
    if len(left) > _STUCK_SHOWN:
        where.append(f"and {len(left) - _STUCK_SHOWN} more")
    _log.warning(
        "job %s does not end after SIGKILL: %s",
        active.name,
        "; ".join(where),
        extra={"action": "stuck", "job_id": active.record.id},
    )
    active.stuck_told = True
    record = cancel_record(sup, active, None, gone=False, stuck_at="\n".join(where))
    active.record = sup.ledger.change(
        active.record.with_(cancel=record or active.record.cancel),
        "stuck",
        pid=active.pid,
    )


def cancel_so_far(sup: Supervision, active: Active) -> CancelRecord | None:
    """The cancel record of an attempt that is being stopped; None where it is not."""
    return cancel_record(sup, active, None, gone=False) if active.ladder else active.record.cancel


def cancel_record(
    sup: Supervision,
    active: Active,
    ended: Outcome | None,
    *,
    gone: bool,
    late_result: bool = False,
    stuck_at: str = "",
) -> CancelRecord | None:
    ladder = active.ladder
    if ladder is None:
        return None
    now = sup.clock.monotonic()

    def since(at: float | None) -> float | None:
        return None if at is None else round(max(0.0, at - ladder.asked), 6)

    asked_at = utc(ladder.asked_at)
    assert asked_at is not None
    noticed = active.board.noticed_at
    before = active.record.cancel
    if before is not None and before.stuck and not stuck_at:
        stuck_at = before.stuck_at  # evidence, also of what an older daemon saw: it stays when the kernel gives in
    stuck = bool(stuck_at)
    if gone and ladder.sigkill is not None and (stacks := _stacks(active)):
        stuck_at = f"{stuck_at}\n{stacks}" if stuck else stacks
    told = ended.stage if ended else None
    if told is None and not active.board.running_at:
        told = Stage.BEFORE_START
    return CancelRecord(
        reason=ladder.reason,
        kind=ladder.kind,
        by=ladder.by,
        grace_s=ladder.grace_s,
        asked_at=asked_at,
        flag_s=since(ladder.flag),
        sigterm_s=since(ladder.sigterm),
        noticed_s=since(noticed / 1e9 if noticed else None),
        sigkill_s=since(ladder.sigkill),
        gone_s=since(now) if gone else None,
        stage=cancel.stage(ladder, told) if gone else None,
        swept=len(active.swept),
        late_result=late_result,
        stuck=stuck,
        stuck_at=stuck_at,
    )


def _stacks(active: Active) -> str:
    """The Python stacks that the leader wrote before it was killed; where there are some, its log gets them too."""
    try:
        lines = regular.read(active.run_dir / STACKS, _STACKS_MAX).decode(errors="replace").splitlines()
        stacks = "\n".join(line for line in lines if not any(one in line for one in _OWN_FRAMES))
        if stacks:
            with regular.opened(active.attempt_dir / "log", "ab") as log:
                log.write(f"annul: killed; it was stuck here:\n{stacks}\n".encode())
    except OSError:
        return ""
    return stacks


def _where(pid: int) -> str:
    """For people: which process, in what state, and where in the kernel it is: its wait channel, and its stack if we
    may read that.

    Nothing is asked of its memory (as its command line is): reading that can wait for as long as the process does.
    """
    one = proc.stat(pid)
    if one is None:
        return f"pid {pid} (gone meanwhile)"
    stack = [line.partition("] ")[2] for line in _said(pid, "stack").splitlines()[:_STUCK_FRAMES]]
    where = f"pid {pid} ({_said(pid, 'comm')}, state {one.state}) in {_said(pid, 'wchan') or '?'}"
    return f"{where}: {' < '.join(stack)}" if stack else where


def _said(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
    except OSError:
        return ""  # gone, or not for us to see
