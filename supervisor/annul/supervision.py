"""The hands of the loop: starting attempts, stopping them, noticing their end, concluding.

What is to happen is decided elsewhere (`lifecycle`, `cancel`, `scheduling`, all pure); here it is done, to processes
and files. Owned by the loop thread; nothing in here waits.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from pathlib import Path

import msgspec

from annul import cancel, lifecycle, proc, publishing
from annul.board import Board, Notice
from annul.cancel import Ladder, Step
from annul.catalog import Catalog, Known
from annul.clock import Clock
from annul.config import Config
from annul.errors import StoreError
from annul.launcher import Launcher, Listener, Profile
from annul.ledger import Ledger
from annul.lifecycle import Action, Conclusion, Event, StopKind, Verdict
from annul.registry import Active, Registry
from annul.runtime import outcome
from annul.runtime.entry import BOARD
from annul.runtime.launch import Launch
from annul.runtime.outcome import Outcome
from annul.scheduling import Entry
from annul.store import JobRecord, Store
from annul.store.record import utc
from annul.sweeper import Sweeper
from annul.tree import CgroupTree, Reaper, SessionTree, Tree, send
from annul_client.wire import CancelRecord, ErrorInfo, Progress, Stage, State

_log = logging.getLogger(__name__)

# What a job may know of the daemon's environment; its type adds names of its own (`env`).
_ENV = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
)
GIVEN_UP = "given_up"  # kind of the notice on the board of a launch that no process may follow any more
_PROGRESS_EVERY_S = 0.25
_STATUS_WAIT_S = 0.5  # for the zygote's word on how a leader without outcome ended
_LAUNCH_WAIT_S = 10.0  # for a ready zygote's answer
_LOOK_AGAIN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


class Supervision:
    """Acts on the registry's attempts."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        catalog: Catalog,
        registry: Registry,
        ledger: Ledger,
        sweeper: Sweeper,
        cgroup: Path | None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._catalog = catalog
        self._registry = registry
        self._ledger = ledger
        self._sweeper = sweeper
        self._cgroup = cgroup
        targets: dict[Profile, list[str]] = {}
        for known in catalog.known.values():
            targets.setdefault(known.type.preload, []).append(known.target)
        self.launcher = Launcher(
            targets, Listener(launched=self._launched, not_launched=self._not_launched, exited=self._exited)
        )
        self._boot_id = proc.boot_id()

    # --- places -------------------------------------------------------------------------------------------------

    def run_dir(self, name: str) -> Path:
        """In shared memory or at least in the runtime directory: board and cancel.json of an attempt."""
        return self._config.runtime_dir / "jobs" / name

    def job_dir(self, job_id: str) -> Path:
        return self._config.state_dir / "jobs" / job_id

    def attempt_dir(self, record: JobRecord) -> Path:
        return self.job_dir(record.id) / str(record.attempt)

    # --- starting -----------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Give free slots to those whose turn it is."""
        registry = self._registry
        while (entry := registry.queue.admit(registry.running, registry.limits, self._clock.wall())) is not None:
            self._admit(entry)

    def _admit(self, entry: Entry) -> None:
        record = self._ledger.newest(entry.id)
        if record is None or record.state is not State.QUEUED:
            _log.error(
                "job %s was in the queue, but is %s", entry.id, record and record.state, extra={"action": "admit"}
            )
            return
        known = self._catalog.known.get(record.type)
        if known is None:  # submitted to a daemon that had this type
            self._fail(record, "unknown_type", f"this daemon has no job type {record.type!r} any more")
            return
        state, _ = lifecycle.step(record.state, Event.ADMITTED)
        begun = record.with_(
            state=state,
            attempt=record.attempt + 1,
            started_at=self._clock.wall(),
            progress=Progress(),
            cancel=None,
        )
        try:
            active = self._prepare(begun, known)
        except OSError as error:
            self._fail(record, "launch_failed", f"preparing the job's run directory: {error}")
            return
        self._registry.hold(active)

        def undo(_: StoreError) -> None:
            if active.record.state is not State.STARTING:  # cancelled in this very turn: that stands (C1)
                active.ended = True
                self.look(active)
                return
            self._registry.free(active)
            self._discard(active)
            self._registry.queue.add(entry, self._clock.wall())

        active.record = self._ledger.change(begun, state, then=lambda: self._launch(active), refused=undo)

    def _fail(self, record: JobRecord, code: str, message: str) -> None:
        """A queued job that can never start."""
        self._ledger.change(
            record.with_(
                state=State.FAILED,
                finished_at=self._clock.wall(),
                error=ErrorInfo(code=code, message=message),
            ),
            State.FAILED,
        )

    def _prepare(self, record: JobRecord, known: Known) -> Active:
        name = f"{record.id}.{record.attempt}"
        run_dir = self.run_dir(name)
        run_dir.mkdir(mode=0o700)
        return Active(
            record,
            known,
            Board.create(run_dir / BOARD),
            self.tree(name, run_dir / BOARD, make=True),
            run_dir,
            self.attempt_dir(record),
        )

    def tree(self, name: str, board: Path, *, make: bool) -> Tree:
        """The tree of an attempt. `make`: it is new; else it was begun under a daemon that is gone."""
        if self._cgroup is not None:
            path = self._cgroup / name
            if make:
                return CgroupTree.create(path)
            if path.exists():
                return CgroupTree(path)
        return SessionTree(
            mark=f"ANNUL_MARK={name}".encode(),
            board=board,
            reapers=self._reapers,
            leaders=self._leaders,
            chain_intact=make,
        )

    def _reapers(self) -> list[Reaper]:
        # The daemon itself is one too: what zygotes leave behind when they die comes to it.
        return [*self.launcher.reapers(), Reaper(os.getpid(), settled=True)]

    def _leaders(self) -> list[int]:
        return [*self._registry.leaders(), *self.launcher.pids()]

    def _launch(self, active: Active) -> None:
        record, job_type = active.record, active.known.type
        now = self._clock.monotonic()
        timeout_s = record.timeout_s if record.timeout_s is not None else job_type.timeout_s
        active.timeout_at = None if timeout_s is None else now + timeout_s
        active.launch_by = now + _LAUNCH_WAIT_S
        env = {name: os.environ[name] for name in (*_ENV, *job_type.env) if name in os.environ}
        env |= {
            "ANNUL_JOB_ID": record.id,
            "ANNUL_ATTEMPT": str(record.attempt),
            "ANNUL_RUN_DIR": str(active.run_dir),
            "ANNUL_MARK": active.name,
            "TMPDIR": str(active.attempt_dir / "tmp"),
        }
        launch = Launch(
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
            user_dir=str(self._config.outputs_dir / record.user),
            notify=str(self._config.runtime_dir / "notify.sock"),
            cgroup=str(active.tree.path) if isinstance(active.tree, CgroupTree) else None,
            env=env,
            memory_bytes=job_type.memory_bytes,
        )
        self.launcher.launch(launch, job_type.preload, now)

    def _launched(self, name: str, pid: int, pidfd: int) -> None:
        active = self._registry.by_name(name)
        if active is None:  # given up and replaced: its board is gone, so it runs nothing; make sure of it
            send(pid, signal.SIGKILL)
            os.close(pidfd)
            return
        active.pid, active.pidfd, active.launch_by = pid, pidfd, None
        self._climb(active)

    def _not_launched(self, name: str, why: str) -> None:
        """The zygote is gone, or could not fork. Whether there is a process is unknown: the board tells."""
        active = self._registry.by_name(name)
        if active is None:
            return
        active.launch_by = None
        registered = active.board.process()
        if registered is None:
            self.give_up_launch(active, why)
            return
        active.pid = registered[0]
        active.pidfd = open_pidfd(*registered)
        if active.pidfd is not None:
            self._climb(active)
        else:
            active.ended = True
            self.look(active)

    def give_up_launch(self, active: Active, why: str) -> None:
        """No process has registered on the board: see to it that none ever will, and let the job start anew."""
        # Race: a child may be about to register. It looks at the flag after that and before any code of the user's,
        # and we look for it after setting the flag: so one of the two sees the other.
        active.board.set_cancel(Notice(GIVEN_UP, "this launch was given up", "annul", 0.0, 0.0), 0)
        (active.run_dir / BOARD).unlink(missing_ok=True)
        late = active.board.process()
        if late is not None and (fd := open_pidfd(*late)) is not None:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        active.ended = True
        if active.ladder is None:
            _log.warning("job %s was not launched (%s): queued again", active.name, why, extra={"action": "launch"})
            self._queue_again(active)
        else:
            self.look(active)

    def _queue_again(self, active: Active) -> None:
        self._registry.free(active)
        self._discard(active)
        record = active.record.with_(state=State.QUEUED, started_at=None)
        self._ledger.change(record, State.QUEUED)
        self.enqueue(record)

    def enqueue(self, record: JobRecord) -> None:
        self._registry.queue.add(entry_of(record), self._clock.wall())

    # --- hearing of it ------------------------------------------------------------------------------------------

    def nudged(self, name: str) -> None:
        """The job says that there is news on its board."""
        active = self._registry.by_name(name)
        if active is None:
            return
        if active.board.running_at:
            state, _ = lifecycle.step(active.record.state, Event.RUNNING)
            self._enter(active, state)
        self._note_progress(active)

    def _note_progress(self, active: Active) -> None:
        seq, fraction, stage = active.board.progress()
        if seq == active.progress_seen:
            return
        now = self._clock.monotonic()
        if now < active.progress_told + _PROGRESS_EVERY_S:
            active.progress_at = active.progress_told + _PROGRESS_EVERY_S
            return
        active.progress_seen, active.progress_told, active.progress_at = seq, now, None
        active.record = self._ledger.change(
            active.record.with_(progress=Progress(fraction=fraction, stage=stage)), "progress", pid=active.pid
        )

    def leader_ended(self, active: Active) -> None:
        """Its pidfd became readable."""
        if active.pidfd is not None:
            os.close(active.pidfd)
            active.pidfd = None
        active.ended = True
        self.look(active)

    def _exited(self, pid: int, status: int) -> None:
        active = self._registry.by_pid(pid)
        if active is not None:
            active.status = status
            if active.status_by is not None:
                self.look(active)

    def pidfds(self) -> dict[int, Active]:
        """What to poll for: leaders, and survivors of leaders."""
        found = {}
        for active in self._registry.active.values():
            if active.pidfd is not None:
                found[active.pidfd] = active
            found.update(dict.fromkeys(active.members.values(), active))
        return found

    # --- stopping -----------------------------------------------------------------------------------------------

    def stop(self, active: Active, kind: StopKind, *, reason: str, by: str, grace_s: float | None) -> None:
        """Begin the ladder, or let this request take over the one that runs; climbing it waits for the commit (C1).

        Race: the job may end in this very turn, by itself. The ladder is there from now on, so that an accepted
        cancel wins (C2).
        """
        grace = active.known.type.grace_s if grace_s is None else grace_s
        asked = Ladder(
            kind=kind,
            reason=reason,
            by=by,
            grace_s=grace,
            asked=self._clock.monotonic(),
            asked_at=self._clock.wall(),
        )
        active.ladder = cancel.take_over(active.ladder, asked) if active.ladder else asked
        active.intent_noted = False
        self._ledger.afterwards(lambda: self._stop_now(active))

    def _stop_now(self, active: Active) -> None:
        if active.over:
            return  # it ended in the turn in which it was cancelled
        active.intent_noted = True
        if active.ladder is not None and active.ladder.flag is not None:
            self._write_notice(active, active.ladder)  # it climbs already, for another reason or with a longer grace
        self._climb(active)

    def _climb(self, active: Active) -> None:
        """Do what is due on the ladder."""
        while active.ladder is not None and active.intent_noted and not active.over:
            active.ladder, step = cancel.climb(active.ladder, active.seen(), self._clock.monotonic())
            if step is None:
                return
            self._take(active, active.ladder, step)

    def _take(self, active: Active, ladder: Ladder, step: Step) -> None:
        match step:
            case Step.BEGIN:
                self._write_notice(active, ladder)
                if ladder.sigterm is not None:
                    self._terminate(active, whole_tree=active.known.type.signal_tree)
            case Step.TERM_LEADER:
                self._terminate(active, whole_tree=False)
            case Step.TERM_SURVIVORS:
                self._terminate(active, whole_tree=True)
            case Step.KILL:
                self._kill(active)
                if ladder.stuck and not active.stuck_told and not active.over:
                    self._tell_stuck(active)

    def _write_notice(self, active: Active, ladder: Ladder) -> None:
        notice = Notice(ladder.kind, ladder.reason, ladder.by, ladder.grace_s, ladder.asked_at)
        try:
            part = active.run_dir / "cancel.json.part"
            part.write_bytes(msgspec.json.encode({**msgspec.to_builtins(notice), "deadline": ladder.deadline}))
            part.rename(active.run_dir / "cancel.json")
        except OSError as error:  # the board has it too; a full disk must not keep the cancel
            _log.warning("writing cancel.json of %s: %s", active.name, error, extra={"action": "cancel"})
        active.board.set_cancel(notice, int(ladder.deadline * 1e9))

    def _terminate(self, active: Active, *, whole_tree: bool) -> None:
        """SIGTERM, then SIGCONT so that a stopped job can react."""
        if active.pidfd is not None:
            for signum in (signal.SIGTERM, signal.SIGCONT):
                try:
                    signal.pidfd_send_signal(active.pidfd, signum)
                except ProcessLookupError:
                    break
        if whole_tree:
            for pid in active.tree.look(active.pid, leader_alive=active.leader_alive).pids:
                if pid != active.pid:
                    send(pid, signal.SIGTERM)
                    send(pid, signal.SIGCONT)

    def _kill(self, active: Active) -> None:
        found = active.tree.kill(active.pid, leader_alive=active.leader_alive)
        active.swept.update(pid for pid in found.pids if pid != active.pid)
        active.watch(found.pids)
        if not active.leader_alive:
            self.look(active)

    def _tell_stuck(self, active: Active) -> None:
        active.stuck_told = True
        left = active.tree.look(active.pid, leader_alive=active.leader_alive).pids
        where = "; ".join(_where(pid) for pid in left)
        _log.warning("job %s does not end after SIGKILL: %s", active.name, where, extra={"action": "stuck"})
        active.record = self._ledger.change(
            active.record.with_(cancel=self._cancel_record(active, None, gone=False, stuck_at=where)),
            "stuck",
            pid=active.pid,
        )

    # --- noticing the end ---------------------------------------------------------------------------------------

    def look(self, active: Active) -> None:
        """The leader has ended: is anything left? If not, conclude; if so, see that it ends."""
        found = active.tree.look(active.pid, leader_alive=False)
        if found.empty:
            self._conclude_soon(active)
            return
        if active.ladder is None and found.pids:
            # Left behind by a job that ended by itself: it was told to be whole, so the rest goes at once.
            found = active.tree.kill(active.pid, leader_alive=False)
            active.swept.update(found.pids)
        active.watch(found.pids)
        active.look_at = self._clock.monotonic() + _LOOK_AGAIN_S[min(active.looks, len(_LOOK_AGAIN_S) - 1)]
        active.looks += 1
        if active.ladder is not None and not active.ladder.kills:
            self._climb(active)  # survivors get their SIGTERM at once

    def _conclude_soon(self, active: Active) -> None:
        """Conclude, but give the zygote a moment to say how a leader ended that said nothing itself."""
        try:
            ended = outcome.read(active.attempt_dir)
        except (OSError, ValueError) as error:
            _log.error("reading the outcome of %s: %s", active.name, error, extra={"action": "outcome"})
            ended = Outcome(
                verdict=Verdict.FAILED,
                error=ErrorInfo(code="outcome", message=f"its outcome cannot be read: {error}"),
            )
        expects_status = active.pid is not None and not active.unseen and active.ladder is None
        if ended is None and active.status is None and expects_status:
            now = self._clock.monotonic()
            active.status_by = active.status_by or now + _STATUS_WAIT_S
            if now < active.status_by:
                active.look_at = None
                return
        self._conclude(active, ended)

    def _conclude(self, active: Active, ended: Outcome | None) -> None:
        """Nothing of it is alive: the attempt is over."""
        _, action = lifecycle.step(active.record.state, Event.GONE)
        assert action is Action.CONCLUDE, (active.name, active.record.state)
        self._note_last_progress(active)
        stop = active.ladder.kind if active.ladder else None
        conclusion = lifecycle.conclude(
            StopKind.CANCEL if active.record.state is State.CANCELLING else stop,
            ended.verdict if ended else Verdict.NONE,
            queue_again=active.known.type.on_shutdown == "queue",
        )
        record = active.record.with_(
            state=conclusion.state,
            finished_at=self._clock.wall(),
            result=ended.result
            if ended and bytes(ended.result) and conclusion.state.final and not conclusion.late_result
            else None,
            files=ended.files if ended and conclusion.publish else [],
            published=not (ended and conclusion.publish and ended.files),
            error=self._error(active, conclusion, ended),
            cancel=self._cancel_record(active, ended, gone=True, late_result=conclusion.late_result),
        )
        if conclusion.state is State.QUEUED:
            record = record.with_(started_at=None, finished_at=None)
        self._registry.free(active)
        _log.info(
            "job %s %s%s",
            active.name,
            record.state,
            f" ({record.error.code})" if record.error else "",
            extra={"action": str(record.state), "job_id": record.id},
        )

        def settle() -> None:
            if not record.published:
                self.publish(record)
            self._discard(active)
            if record.state is State.QUEUED:
                self.enqueue(record)

        self._ledger.change(record, str(record.state), then=settle)

    def _note_last_progress(self, active: Active) -> None:
        seq, fraction, stage = active.board.progress()
        if seq:
            active.record = active.record.with_(progress=Progress(fraction=fraction, stage=stage))

    def _error(self, active: Active, conclusion: Conclusion, ended: Outcome | None) -> ErrorInfo | None:
        if conclusion.state is not State.FAILED:
            return None
        match conclusion.code:
            case "":
                return ended.error if ended else None
            case "timeout":
                grace = active.ladder.grace_s if active.ladder else 0
                message = f"the job ran into its time limit and was stopped (SIGTERM, {grace:g} s of grace, SIGKILL)"
            case "terminated":
                message = "the job got a SIGTERM that did not come from annul"
            case _ if active.unseen:
                return ErrorInfo(
                    code="lost", message="the job ended without an outcome while no daemon ran; see its log"
                )
            case _:
                message = f"the job's process ended without an outcome: {_how(active.status)}; see its log"
        return ErrorInfo(code=conclusion.code, message=message)

    def cancel_so_far(self, active: Active) -> CancelRecord | None:
        """The cancel record of an attempt that is being stopped; None where it is not."""
        return self._cancel_record(active, None, gone=False) if active.ladder else active.record.cancel

    def _cancel_record(
        self, active: Active, ended: Outcome | None, *, gone: bool, late_result: bool = False, stuck_at: str = ""
    ) -> CancelRecord | None:
        ladder = active.ladder
        if ladder is None:
            return None
        now = self._clock.monotonic()

        def since(at: float | None) -> float | None:
            return None if at is None else round(max(0.0, at - ladder.asked), 6)

        asked_at = utc(ladder.asked_at)
        assert asked_at is not None
        noticed = active.board.noticed_at
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
            stuck=bool(stuck_at),
            stuck_at=stuck_at,
        )

    def publish(self, record: JobRecord) -> None:
        """Rename a completed job's outputs into place; also again after a crash in the middle of it."""
        staging = self.attempt_dir(record) / "staging"
        try:
            publishing.publish(staging, self._config.outputs_dir / record.user, record.files)
        except OSError as error:
            _log.error(
                "publishing the outputs of %s: %s; they stay in %s and are tried again at the next start",
                record.id,
                error,
                staging,
                extra={"action": "publish", "job_id": record.id},
            )
            return
        self._ledger.change(record.with_(published=True), None, extra=lambda store: store.set_published(record.id))

    def _discard(self, active: Active) -> None:
        """Free what the attempt occupied. Its log and outcome stay."""
        active.tree.remove()
        shutil.rmtree(active.run_dir, ignore_errors=True)
        for name in ("work", "tmp", "staging"):
            self._sweeper.add(active.attempt_dir / name)

    # --- deadlines ----------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        times = (active.next_due() for active in self._registry.active.values())
        return min((at for at in times if at is not None), default=None)

    def act_on_deadlines(self) -> None:
        now = self._clock.monotonic()
        for active in list(self._registry.active.values()):
            self._act_on(active, now)

    def _act_on(self, active: Active, now: float) -> None:
        def reached(at: float | None) -> bool:
            return at is not None and at <= now

        if reached(active.progress_at):
            active.progress_at = None
            self._note_progress(active)
        if reached(active.timeout_at):
            active.timeout_at = None
            self.begin_stop(active, Event.TIMEOUT, StopKind.TIMEOUT, reason="timeout", by="annul")
        if reached(active.launch_by):
            if self.launcher.ready(active.name):
                self.launcher.give_up(active.name)  # comes back as `not_launched`
                return
            active.launch_by = now + _LAUNCH_WAIT_S  # still importing: that may take what it takes
        if reached(active.look_at) or reached(active.status_by):
            active.look_at = None
            self.look(active)
        if not active.over:
            self._climb(active)

    # --- events of the lifecycle --------------------------------------------------------------------------------

    def _enter(self, active: Active, state: State) -> None:
        """Note an attempt's new state, and with it who its process is: evidence for the next daemon."""
        if state is active.record.state:
            return
        record = active.record.with_(state=state, cancel=self.cancel_so_far(active))
        registered = active.board.process()

        def note_process(store: Store) -> None:
            if registered is not None:
                store.insert_attempt(record.id, record.attempt, self._boot_id, *registered)

        active.record = self._ledger.change(record, str(state), pid=active.pid, extra=note_process)

    def begin_stop(
        self, active: Active, event: Event, kind: StopKind, *, reason: str, by: str, grace_s: float | None = None
    ) -> None:
        """A cancel (which is accepted, whatever the store says: C1), a time-out or the shutdown, of an attempt."""
        state, action = lifecycle.step(active.record.state, event)
        if action is Action.STOP:
            self.stop(active, kind, reason=reason, by=by, grace_s=grace_s)
        self._enter(active, state)


def entry_of(record: JobRecord) -> Entry:
    return Entry(record.seq, record.id, record.user, record.type, record.priority, record.not_before)


def open_pidfd(pid: int, start_time: int) -> int | None:
    """A pidfd on exactly that process, or None where it is gone (or its pid is a stranger's by now: C8)."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    one = proc.stat(pid)
    if one is None or one.start_time != start_time or not one.alive:
        os.close(fd)
        return None
    return fd


def _how(status: int | None) -> str:
    if status is None:
        return "nobody saw how"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _where(pid: int) -> str:
    """For people: which process, in what state, and where in the kernel it waits."""
    import psutil

    try:
        process = psutil.Process(pid)
        about = f"{process.name()}, {process.status()}"
        channel = Path(f"/proc/{pid}/wchan").read_text() or "?"
    except (psutil.Error, OSError) as error:
        return f"pid {pid} (cannot be asked: {error})"
    return f"pid {pid} ({about}) in {channel}"
