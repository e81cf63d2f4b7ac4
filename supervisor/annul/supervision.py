"""The hands of the loop, and what they share: config, clock, registry, ledger, launcher.

What is to happen is decided elsewhere (`lifecycle`, `cancel`, `scheduling`, all pure). It is done, to processes and
files, in `starting`, `stopping` and `ending`; here are what those share, news of running attempts, and deadlines. Owned
by the loop thread; nothing in here waits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from annul import ending, lifecycle, pausing, proc, regular, starting, stopping
from annul.catalog import Catalog
from annul.clock import Clock
from annul.config import Config
from annul.launcher import Launcher, Listener
from annul.ledger import Ledger
from annul.lifecycle import Event, StopKind
from annul.registry import Active, Registry
from annul.store import JobRecord, Store
from annul.sweeper import Sweeper
from annul.tally import Tally
from annul.tree import Census, CgroupTree, Reaper, SessionTree, Tree, children_of, own_group
from annul.zygote import Profile, Terms
from annul_client.wire import Progress, State

if TYPE_CHECKING:
    from annul.metrics import Metrics

_log = logging.getLogger(__name__)
REHEARSAL = "rehearsal"  # in the runtime directory: see `runtime.entry`
ROOMS = "rooms"  # in the state directory: the same
_PROGRESS_EVERY_S = 0.25
_LOG_EVERY_S = 1.0
_REST_S = 1.0  # after an error, before it is tried again


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
        self.config = config
        self.clock = clock
        self.catalog = catalog
        self.registry = registry
        self.ledger = ledger
        self.sweeper = sweeper
        self.cgroup = cgroup
        self.metrics: Metrics | None = None  # where they are wanted
        self.tally = Tally()
        self.intents: list[Active] = []  # attempts whose ladder begins, or changes, with this turn's commit
        self._census: Census | None = None
        self._strangers = children_of(os.getpid())
        self.boot_id = proc.boot_id()
        targets: dict[Profile, list[str]] = {}
        for known in catalog.known.values():
            targets.setdefault(known.type.preload, []).append(known.target)
        self.launcher = Launcher(
            targets,
            Listener(
                launched=lambda name, process: starting.launched(self, name, process),
                not_launched=lambda name, why: starting.not_launched(self, name, why),
                no_room=lambda name, why: starting.no_room(self, name, why),
                exited=lambda pid, status: ending.exited(self, pid, status),
                guardian_ended=self._chain_is_broken,
            ),
            Terms(
                notify=str(config.runtime_dir / "notify.sock"),
                orphan_grace_s=config.orphan_grace_s,
                zygotes_dir=config.runtime_dir / "zygotes",
                rehearsal=config.runtime_dir / REHEARSAL,
                rooms=config.state_dir / ROOMS,
                spares=config.spares,
                cgroup=cgroup,
            ),
        )

    # --- places -------------------------------------------------------------------------------------------------

    def run_dir(self, name: str) -> Path:
        """In shared memory or at least in the runtime directory: board and cancel.json of an attempt."""
        return self.config.runtime_dir / "jobs" / name

    def job_dir(self, job_id: str) -> Path:
        return self.config.state_dir / "jobs" / job_id

    def attempt_dir(self, record: JobRecord) -> Path:
        return self.job_dir(record.id) / str(record.attempt)

    # --- trees --------------------------------------------------------------------------------------------------

    def tree(self, name: str, board: Path, process: tuple[int, int] | None = None, *, whole: bool = True) -> Tree:
        """The tree of an attempt. `process`: (pid, start time) of its leader. `whole`: no daemon or zygote has died
        since it began.
        """
        session = SessionTree(attempt=name, board=board, census=self.census, chain_intact=whole)
        if self.cgroup is None or process is None:
            return session
        return CgroupTree(Path(own_group(self.cgroup, *process)), session)

    def keeps_together(self, active: Active) -> None:
        """An adopted attempt's tree is as whole as ever where its zygote is its guardian."""
        session = _session_of(active.tree)
        if session is not None:
            session.chain_intact = self.launcher.guards(active.pid)

    def _chain_is_broken(self) -> None:
        """A guardian has died: what its jobs leave behind goes to nobody that can be asked."""
        for active in self.registry.active.values():
            session = _session_of(active.tree)
            if session is not None and active.adopted:
                session.chain_intact = False

    def census(self) -> Census:
        """Who is there. One serves a whole turn, unless the end of a leader is noted meanwhile."""
        if self._census is None:
            # The daemon is a reaper too: what zygotes leave behind when they die comes to it.
            own = Reaper(os.getpid(), settled=True, shared=os.getpid() == 1, strangers=self._strangers)
            reapers = [*self.launcher.reapers(), own]
            leaders = [*self.registry.leaders(), *self.launcher.pids()]
            attempts = [active.name for active in self.registry.active.values()]
            self._census = Census(reapers, leaders, attempts=attempts, rivals=self._patient)
        return self._census

    def forget_census(self) -> None:
        self._census = None

    def leader_is_gone(self, active: Active) -> None:
        """Note that the process that runs the job has ended, or will never be."""
        active.ended = True
        self.forget_census()

    def _patient(self) -> list[SessionTree]:
        """Trees that have lost their leader, and whose survivors still have their grace."""
        now = self.clock.monotonic()
        trees = (
            _session_of(active.tree)
            for active in self.registry.active.values()
            if active.ladder is not None
            and now < active.ladder.deadline
            and (active.ended or not _lives(active.pid))  # Race: it may have ended in this very turn
        )
        return [tree for tree in trees if tree is not None]

    def commit(self) -> None:
        """End a turn: what it has changed is durable and told, and then what it is to stop is stopped (C1)."""
        self.ledger.commit(self.clock.monotonic(), unwritten=lambda: stopping.keep_intents(self))
        stopping.carry_out(self)
        self.launcher.step(self.clock.monotonic(), hurry=len(self.registry.queue) > 0)

    # --- news of attempts ---------------------------------------------------------------------------------------

    def pidfds(self) -> dict[int, Active]:
        """What to poll for: leaders, and survivors of leaders."""
        found = {}
        for active in self.registry.active.values():
            if active.pidfd is not None:
                found[active.pidfd] = active
            found.update(dict.fromkeys(active.members.values(), active))
        return found

    def news(self, active: Active) -> None:
        """The job says that there is news on its board."""
        if active.board.running_at:
            active.start_by = active.register_by = None
            self.registry.forget_failed_launches(active.record.id)
            state, _ = lifecycle.step(active.record.state, Event.RUNNING)
            if state is not active.record.state:
                self.tally.started(active.board.start_s)
                if self.metrics is not None:
                    self.metrics.running(active)
            self.enter(active, state)
            if active.freeze_at is None:
                pausing.freeze(self, active)  # it was paused before it ran, or under an earlier daemon
        self._note_progress(active)

    def _note_progress(self, active: Active) -> None:
        seq, fraction, stage = active.board.progress()
        if seq == active.progress_seen:
            return
        now = self.clock.monotonic()
        if now < active.progress_told + _PROGRESS_EVERY_S:
            active.progress_at = active.progress_told + _PROGRESS_EVERY_S
            return
        active.progress_seen, active.progress_told, active.progress_at = seq, now, None
        active.record = self.ledger.change(
            active.record.with_(progress=Progress(fraction=fraction, stage=stage)), "progress", pid=active.pid
        )

    def _cap_log(self, active: Active) -> None:
        """Keep a job that writes without end from filling the disk: its log keeps its first half and the newest."""
        path, limit = f"{active.attempt_dir}/log", self.config.max_log_bytes
        try:
            if os.lstat(path).st_size <= limit:
                return
            with regular.opened(Path(path), "ab") as log:
                size = os.fstat(log.fileno()).st_size
                if size > limit:
                    log.truncate(limit // 2)  # its writers append: they go on from there
                    log.write(b"\nannul: %d bytes were dropped here, a log may have %d\n" % (size - limit // 2, limit))
        except OSError:
            pass  # not there yet, or the disk is full: there is a next time

    def enter(self, active: Active, state: State) -> None:
        """Note an attempt's new state, and with it who its process is: evidence for the next daemon."""
        if state is active.record.state:
            return
        record = pausing.after(active.record, state).with_(cancel=stopping.cancel_so_far(self, active))
        registered = active.board.process()

        def note_process(store: Store) -> None:
            if registered is not None:
                store.insert_attempt(record.id, record.attempt, self.boot_id, *registered)

        active.record = self.ledger.change(record, str(state), pid=active.pid, extra=note_process)

    # --- deadlines ----------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        times = [active.next_due() for active in self.registry.active.values()]
        return min((at for at in (*times, self.launcher.next_due()) if at is not None), default=None)

    def act_on_deadlines(self) -> None:
        now = self.clock.monotonic()
        self.launcher.act_on_deadlines(now)
        for active in list(self.registry.active.values()):
            due = active.next_due()
            if due is not None and due <= now:
                self.guarded(active, self._act_on)

    def guarded(self, active: Active, act: Callable[[Active], None]) -> None:
        """Do something to one attempt. An error in that is logged and tried again; it is not the others' error."""
        try:
            act(active)
        except Exception:  # noqa: BLE001 (a bug shown by one job must not take the others' supervisor down)
            _log.exception(
                "job %s: an error inside the daemon",
                active.name,
                extra={"action": "internal", "job_id": active.record.id},
            )
            if not active.over:
                active.rest_until = self.clock.monotonic() + _REST_S
                active.look_at = active.rest_until if active.ended else None

    def _act_on(self, active: Active) -> None:
        now = self.clock.monotonic()

        def reached(at: float | None) -> bool:
            return at is not None and at <= now

        if reached(active.progress_at):
            active.progress_at = None
            self._note_progress(active)
        if reached(active.timeout_at):
            active.timeout_at = None
            stopping.begin(self, active, Event.TIMEOUT, StopKind.TIMEOUT, reason="timeout", by="annul")
        if reached(active.start_by):
            active.start_by = None
            stopping.begin(self, active, Event.TIMEOUT, StopKind.TIMEOUT, reason=ending.START_TIMEOUT, by="annul")
        if reached(active.register_by):
            starting.check_registered(self, active)
            if active.over:
                return
        if reached(active.log_at):
            active.log_at = now + _LOG_EVERY_S
            self._cap_log(active)
        if reached(active.freeze_at):
            pausing.freeze(self, active)
        if reached(active.look_at) or reached(active.status_by):
            active.look_at = None
            ending.look(self, active)
        if not active.over:
            stopping.climb(self, active)


def _session_of(tree: Tree) -> SessionTree | None:
    found = tree.outside if isinstance(tree, CgroupTree) else tree
    return found if isinstance(found, SessionTree) else None


def _lives(pid: int | None) -> bool:
    return pid is None or ((one := proc.stat(pid)) is not None and one.alive)
