"""The daemon: its parts, and the loop.

One thread, one poll, a computed deadline; no tick. Each turn:

    poll -> signals -> requests -> nudges -> exits -> deadlines -> admit -> commit -> tell

All that a turn's requests write is one transaction; replies and events leave after it.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import resource
import select
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import zmq

from annul import ending, handlers, keys, places, prctl, recovery, settings, starting, stopping, systemd, tree
from annul.access import Role
from annul.catalog import Catalog
from annul.clock import Clock, SystemClock
from annul.config import Config, reloaded
from annul.errors import KeyProblem, StartError
from annul.handlers import draining
from annul.inbox import Inbox, Received
from annul.ledger import Ledger
from annul.leftovers import Leftovers
from annul.lifecycle import Event, StopKind
from annul.peers import Peers
from annul.rates import Rates
from annul.registry import Active, Registry
from annul.retention import Retention
from annul.runtime.guardian import HANDED_OVER
from annul.scheduling import Limits
from annul.server import TURN_MESSAGES, Admission, Caller, Server, new_pair
from annul.store import JobRecord, Store, check
from annul.supervision import REHEARSAL, ROOMS, Supervision
from annul.sweeper import Sweeper
from annul_client import wire

if TYPE_CHECKING:
    from annul.scrape import Scrape

_log = logging.getLogger(__name__)
_TURN_S = 0.02  # in each turn, for receiving requests, and for answering those that only look
_HANDLE_S = 0.005  # for handling them; to write what they change takes longer, and the next cancels wait for both
_PUT_OFF = 25  # turns at most, half a second: then some of what waits is handled, though more is coming
_CHORES = 4  # at a time: what waits keeps its turns, and less in memory
_READS = 256  # waiting for the commit
_NUDGES = 256  # read in one turn
_GARBAGE = 50_000  # objects made before the next look for cycles: there are few, and a submit makes a dozen that stay
_WALL_LOOK_S = 60.0  # while jobs wait for a time of day
_READY_S = 10.0  # for systemd to take the word that it is ready: without it, it would be ended
_STORE_WAIT_S = 10.0  # for a store that takes no writes, when stopping


class Daemon:
    """Everything of one daemon. Made, run and closed in one thread."""

    def __init__(
        self,
        config: Config,
        clock: Clock | None = None,
        *,
        takeover: bool = False,
        read_config: Callable[[], Config] | None = None,
    ) -> None:
        """`takeover`: have the daemon that runs there hand over, once all that can be found out beside it is in order.
        `read_config`: reads the configuration again, for SIGHUP; raises StartError.

        Raises StartError where it cannot start; then nothing was changed but directories made.
        """
        self.config = config
        self._read_config = read_config or (lambda: config)
        self.clock = clock or SystemClock()
        self.started = self.clock.monotonic()
        self.stopping = False
        self._leaving = False  # handing over: jobs stay
        places.check_socket_path(config.runtime_dir)
        scrape_at = places.loopback(config.metrics) if config.metrics else None
        for path, what in (
            (config.state_dir, "state"),
            (config.runtime_dir, "runtime"),
            (config.outputs_dir, "output"),
        ):
            places.prepare(path, what=what)
        places.prepare(config.state_dir / "jobs", what="job")
        places.prepare(config.runtime_dir / "zygotes", what="zygotes'")
        places.check_same_file_system(config.state_dir, config.outputs_dir)
        prctl.set_child_subreaper()
        _raise_file_limit()
        self.catalog = Catalog(config.jobs)
        cgroups = tree.choose_cgroup(config.tree)
        if takeover:
            self._take_over()
        # Both are locked before anything is bound: a second ipc bind silently steals the socket.
        self._locks = [
            places.lock(config.state_dir, what="state"),
            places.lock(config.runtime_dir, what="runtime"),
        ]
        places.check_same_runtime(config.state_dir, config.runtime_dir)
        for path, what in ((config.runtime_dir / REHEARSAL, "rehearsal"), (config.state_dir / ROOMS, "rooms")):
            shutil.rmtree(path, ignore_errors=True)
            places.prepare(path, what=what)
        self.store = Store(config.state_dir / "annul.db")
        places.note_runtime(config.state_dir, config.runtime_dir)
        self.draining = draining.is_marked(config.state_dir)  # no job is started, until `resume`
        self.registry = Registry(self._limits())
        self.sweeper = Sweeper()
        self._wake_read, self._wake_write = socket.socketpair()
        self._notify = self._bind_notify()
        self._nudges_queued = _nudges_queued()
        self.rates = Rates(config.max_requests_per_s)
        self.server = self._serve()
        self.cgroup = self._make_cgroup(cgroups)
        self.ledger = Ledger(
            self.store, outputs_dir=str(config.outputs_dir), keep_events=config.keep_events, tell=self._tell
        )
        self.retention = Retention(
            self.store,
            self.ledger,
            self.clock,
            keep_jobs=config.keep_jobs,
            keep_days=config.keep_days,
            deleted=lambda job_id: self.sweeper.add(self.supervision.job_dir(job_id)),
        )
        self._leftovers = Leftovers(config.state_dir / "jobs", self.store, self.sweeper)
        self.supervision = Supervision(
            config=config,
            clock=self.clock,
            catalog=self.catalog,
            registry=self.registry,
            ledger=self.ledger,
            sweeper=self.sweeper,
            cgroup=self.cgroup,
        )
        self._watchdog = systemd.Watchdog(self.started)
        self._scrape: Scrape | None = None
        if scrape_at is not None:
            self._measure(scrape_at)
        self._signals: list[int] = []
        self._inbox = Inbox()
        self._news = False  # events were told in this turn
        self._put_off = 0  # turns in a row in which cancels were all that was handled
        self._reads: deque[Received] = deque()  # to be answered after the commit
        self.bulk: deque[tuple[Iterator[None], Caller]] = deque()  # cancels of many jobs, a piece a turn
        self.chores: deque[tuple[Iterator[None], Caller]] = deque()  # other long requests, when there is none of those
        self._give_up_at: float | None = None  # while stopping: when not to wait for the store any longer

    @property
    def tree(self) -> str:
        """How a job's processes are found here."""
        return tree.CgroupTree.name if self.cgroup is not None else tree.SessionTree.name

    def view(self, record: JobRecord, *, result: bool = False) -> wire.Job:
        return handlers.view_of(self, record, with_result=result)

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, and until every job has ended."""
        self._catch_signals()
        recovery.recover(self)
        if self.supervision.metrics is not None:
            self.supervision.metrics.recovered(
                self.registry.active.values(),
                ((one.id, one.type, one.not_before is not None) for one in self.registry.queue),
            )
        self.supervision.commit()
        if self.config.warm:
            self.supervision.launcher.warm()
        _log.info(
            "serving at %s (%d jobs at once, process trees by %s)",
            " and ".join(filter(None, (self.server.requests_endpoint, self.server.listening))),
            self.registry.limits.total,
            self.tree,
            extra={"action": "ready"},
        )
        if self.draining:
            _log.warning("no job is started: annul is being drained, until `annul resume`", extra={"action": "drain"})
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        systemd.notify("READY=1", wait_s=_READY_S)
        while not self._is_over():
            self._turn(self._poll())
        systemd.notify("STOPPING=1")

    def _turn(self, ready: dict[int, int]) -> None:
        self.supervision.forget_census()
        self._take_signals(ready)
        self._take_requests()
        self._take_nudges(ready)
        self._take_exits(ready)
        self._take_deadlines()
        self._take_bulk()
        if not (self.stopping or self.draining):
            starting.admit(self.supervision)
        self.supervision.commit()
        self._tell_waiting()
        self._answer_reads()
        self.server.shed(self.config.max_memory_bytes)
        self._tidy()
        self.sweeper.step()
        self._watchdog.turned(self.clock.monotonic(), stopping=self.stopping)

    def _is_over(self) -> bool:
        """Told to stop, every job has ended, and that is written; or the store has not taken it for a while. Told to
        hand over: the turn is over.
        """
        if self._leaving:
            return True
        if not self.stopping or self.registry.active:
            return False
        if not self.ledger.waiting:
            return True
        now = self.clock.monotonic()
        self._give_up_at = self._give_up_at or now + _STORE_WAIT_S
        if now < self._give_up_at:
            return False
        # Nothing is lost: boards and outcomes are still there, and the next daemon concludes from them.
        _log.error("stopping though the store does not take how the last jobs ended", extra={"action": "stop"})
        return True

    def _poll(self) -> dict[int, int]:
        """Wait for something to happen, until the next deadline; {descriptor: poll events}."""
        poller = zmq.Poller()
        for served in self.server.sockets:
            poller.register(served, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        poller.register(self._notify, zmq.POLLIN)
        if self.config.stop_on_eof and not self.stopping:
            poller.register(sys.stdin.fileno(), zmq.POLLIN)
        for fd in self.supervision.pidfds():
            poller.register(fd, zmq.POLLIN)
        for fd, events in self.supervision.launcher.fds():
            poller.register(
                fd,
                (zmq.POLLIN if events & select.POLLIN else 0) | (zmq.POLLOUT if events & select.POLLOUT else 0),
            )
        found = poller.poll(self._timeout_ms())
        return {
            (at if isinstance(at, int) else at.fileno()): (
                (select.POLLIN if events & (zmq.POLLIN | zmq.POLLERR) else 0)
                | (select.POLLOUT if events & zmq.POLLOUT else 0)
            )
            for at, events in found
            if not isinstance(at, zmq.Socket)
        }

    def _timeout_ms(self) -> int | None:
        """Milliseconds until something is due, rounded up; None: nothing is."""
        if self.sweeper.waiting or self._busy:
            return 0
        if self.ledger.waiting and self.ledger.retry_at is None:
            return 0  # noted after this turn's commit
        now = self.clock.monotonic()
        dues = [
            self.supervision.next_due(),
            self.registry.next_wait(),
            self.registry.next_later(),
            self.ledger.retry_at,
            self._watchdog.due,
        ]
        if not self.stopping:
            dues += [self.retention.next_due(), now if self._leftovers.waiting else None]
        if not (self.stopping or self.draining):
            dues.append(self.registry.admit_at)
        delayed = self.registry.queue.next_due()
        if delayed is not None and not (self.stopping or self.draining):
            # Race: the wall clock may be set meanwhile, and nobody tells.
            dues.append(now + min(max(0.0, delayed - self.clock.wall()), _WALL_LOOK_S))
        due = min((at for at in dues if at is not None), default=None)
        # At most an hour: poll(2) takes milliseconds as a C int.
        return None if due is None else max(0, int(min(due - now, 3600.0) * 1000) + 1)

    # --- what a turn takes --------------------------------------------------------------------------------------

    def _take_signals(self, ready: dict[int, int]) -> None:
        if self._wake_read.fileno() in ready:
            self._wake_read.recv(4096)
        if self.config.stop_on_eof and sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            self._signals.append(signal.SIGTERM)
        while self._signals:
            signum = self._signals.pop(0)
            if signum == signal.SIGCHLD:
                self.supervision.launcher.reap()
            elif signum == signal.SIGUSR2:
                _log.info("handing over: %d jobs stay", len(self.registry.active), extra={"action": "hand-over"})
                self._leaving = True
            elif signum == signal.SIGHUP:
                self._reload()
            elif self._leaving:
                pass  # it leaves already, and the jobs stay
            elif not self.stopping:
                self._stop(signum)
            elif self.config.drain:
                self._stop_jobs()  # the second one: it is not to be waited for

    def _reload(self) -> None:
        """Take up what the configuration says now, as far as that needs no restart."""
        try:
            config, changed, later = reloaded(self.config, self._read_config())
        except StartError as error:
            _log.error("%s; all stays as it was: mend that and send SIGHUP again", error, extra={"action": "reload"})
            return
        before = self.config
        self.config = self.supervision.config = config
        self.registry.limits = self._limits()
        self.rates.limit(config.max_requests_per_s)
        self.ledger.keep(config.keep_events)
        if {"keep_jobs", "keep_days"} & set(changed):
            self.retention.keep(config.keep_jobs, config.keep_days)
        said = ", ".join(f"{name} {getattr(before, name)!r} -> {getattr(config, name)!r}" for name in changed)
        _log.info("read the configuration again: %s", said or "no change", extra={"action": "reload"})
        if later:
            _log.warning("%s: needs a restart (SIGUSR2 keeps the jobs)", ", ".join(later), extra={"action": "reload"})
        logging.getLogger("annul").setLevel(config.log_level)

    def _stop(self, signum: int) -> None:
        what = "waiting for those that run" if self.config.drain else "stopping those that run"
        name = signal.Signals(signum).name
        _log.info("stopping (%s): no new starts, %s", name, what, extra={"action": "stop"})
        systemd.notify("STOPPING=1")
        self.stopping = True
        if not self.config.drain:
            self._stop_jobs()

    def _stop_jobs(self) -> None:
        for active in list(self.registry.active.values()):
            stopping.begin(self.supervision, active, Event.SHUTDOWN, StopKind.SHUTDOWN, reason="shutdown", by="annul")

    def _take_requests(self) -> None:
        """Receive what has arrived and handle it, cancels first, for a bounded time.

        As long as requests go on coming in, and there is room for them, cancels are all that is handled: there may be
        one behind them. That has an end, also where what comes in has none. What is mostly no requests, or is refused,
        is not waited for.
        """
        before = len(self._inbox)
        until = self.clock.monotonic() + _TURN_S
        more = True
        while more and not self._inbox.full and self.clock.monotonic() < until:
            urgent = self._inbox.urgent
            received, more = self.server.receive()
            admitted = [(caller, request) for caller, request in received if handlers.may_ask(self, request, caller)]
            self._inbox.add(admitted)
            more = more and len(admitted) > TURN_MESSAGES // 2
            if 0 < urgent == self._inbox.urgent:
                break  # no more cancels are coming: those that wait do so no longer
        # What is written with cancels, they wait for: nothing else, but in every second turn.
        most = 1 if self._inbox.urgent else 0
        grown = len(self._inbox) - self._inbox.urgent > before
        if more and not self._inbox.full and grown:
            most = _PUT_OFF
        self._put_off = self._put_off + 1 if self._put_off < most else 0
        while self._inbox.urgent and (one := self._inbox.next()):
            self._handle(*one)
        until = self.clock.monotonic() + _HANDLE_S
        while not self._put_off and self.clock.monotonic() < until:
            # What stays in the inbox keeps its turns.
            if len(self._reads) >= _READS or (one := self._inbox.next()) is None:
                break
            self._handle(*one)

    def _handle(self, caller: Caller, request: wire.Request) -> None:
        if handlers.only_looks(request):
            self._reads.append((caller, request))
        else:
            handlers.write(self, request, caller)

    def _answer_reads(self) -> None:
        """Answer what only looks, now that the turn is committed, for a bounded time; long answers after the others."""
        until = self.clock.monotonic() + _TURN_S
        while self._reads:
            caller, request = self._reads.popleft()
            handlers.look_up(self, request, caller)
            if self.clock.monotonic() > until:
                break
        until = self.clock.monotonic() + _HANDLE_S
        while not self._put_off and len(self.chores) < _CHORES and (one := self._inbox.next_long()):
            caller, request = one
            handlers.look_up(self, request, caller)
            if self.clock.monotonic() > until:
                break

    def _take_bulk(self) -> None:
        """One more piece of a request that is too big for one turn."""
        line = self.bulk or self.chores
        if line:
            work = line.popleft()
            if not handlers.piece(*work):
                line.append(work)  # behind the others

    @property
    def _busy(self) -> bool:
        """Whether somebody who has asked waits for more than news of a job."""
        return bool(self._inbox or self._reads or self.bulk or self.chores)

    def _tidy(self) -> None:
        """Look for a little of what is not to be kept, where nobody waits, and what was found before is gone."""
        if not (self._busy or self.stopping or self.sweeper.waiting):
            self.retention.step()
            self._leftovers.step()

    def _take_nudges(self, ready: dict[int, int]) -> None:
        if self._notify.fileno() not in ready:
            return
        names = []
        for _ in range(_NUDGES):
            try:
                names.append(self._notify.recv(256, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
        if len(names) >= self._nudges_queued:  # more did not fit, and were not sent: whoever has news is to be found
            found = list(self.registry.active.values())
        else:
            found = [one for name in set(names) if (one := self.registry.by_name(name.decode(errors="replace")))]
        for active in found:
            self.supervision.guarded(active, self.supervision.news)

    def _take_exits(self, ready: dict[int, int]) -> None:
        now = self.clock.monotonic()
        for fd, events in ready.items():
            self.supervision.launcher.handle(fd, events, now)
        touched: dict[str, Active] = {}
        for fd, active in self.supervision.pidfds().items():
            if fd in ready:
                touched[active.name] = active
                if fd == active.pidfd:
                    ending.note_end(self.supervision, active)
        for active in touched.values():
            if active.ended and not active.over:
                self.supervision.guarded(active, lambda one: ending.look(self.supervision, one))

    def _take_deadlines(self) -> None:
        self.supervision.act_on_deadlines()
        self.registry.expire_waits(self.clock.monotonic())
        starting.line_up_due(self.supervision)

    # --- telling ------------------------------------------------------------------------------------------------

    def _tell(self, event: wire.Event, body: bytes) -> None:
        self.server.publish(event, body)
        if self.supervision.metrics is not None:
            self.supervision.metrics.told(event)
        self._news = True
        self.supervision.tally.note(event)
        if event.job.state.final:
            self.retention.note_finished(event.job.user)
            self.registry.told_final(event.job.id)

    def _tell_waiting(self) -> None:
        if self._news:
            self._news = False
            self.registry.told_news()

    # --- setting up and taking down -----------------------------------------------------------------------------

    def _limits(self) -> Limits:
        per_type = {
            name: known.type.max_running for name, known in self.catalog.known.items() if known.type.max_running
        } | self.config.max_running_per_type
        for name in self.config.max_running_per_type.keys() - self.catalog.known.keys():
            said = settings.nearest(name, self.catalog.known)
            _log.warning("max_running_per_type: no job type %r here%s", name, said, extra={"action": "config"})
        return Limits(
            total=self.config.max_running,
            per_user=self.config.max_running_per_user or None,
            per_type={name: limit for name, limit in per_type.items() if limit},
        )

    def _take_over(self) -> None:
        """Have the daemon that runs there leave, unless something is known that would keep this one from following."""
        state_dir, runtime_dir = self.config.state_dir, self.config.runtime_dir
        pid = places.holder(state_dir)
        if pid is None:
            return
        places.check_not_held(runtime_dir, what="runtime", but_by=pid)
        places.check_same_runtime(state_dir, runtime_dir)
        check(state_dir / "annul.db")
        places.take_over(state_dir, pid)

    def _make_cgroup(self, parent: Path | None) -> Path | None:
        """The directory below which each attempt gets its cgroup; None: by session."""
        if parent is None:
            return None
        own = parent / tree.daemons_group(self.config.state_dir)
        own.mkdir(exist_ok=True)
        tree.pass_on_controllers(parent, own)
        return own

    def _serve(self) -> Server:
        config = self.config
        port = re.fullmatch(r"tcp://.+:(\d{1,5}|\*)", config.listen or "tcp://*:*")
        if port is None or (port[1] != "*" and not 0 < int(port[1]) < 65536):
            raise StartError(f"listen is a TCP endpoint such as tcp://127.0.0.1:7473, not {config.listen!r}")
        roles = {Role.ADMIN: config.admins, Role.SUBMIT: config.submitters, Role.READ: config.readers}
        peers = Peers(config.runtime_dir, roles, self.clock)
        try:
            own = keys.server_key(config.state_dir, new_pair()) if config.listen else None
        except KeyProblem as error:
            raise StartError(str(error)) from error
        by_key = keys.Keys(config.state_dir).grant
        return Server(config.runtime_dir, Admission(peers.grant, by_key, self.rates, config.listen, own))

    def _measure(self, where: tuple[str, int]) -> None:
        """Answer Prometheus. A port that is taken is no reason not to look after jobs: that is said, and no more."""
        from annul.metrics import Metrics
        from annul.scrape import Scrape

        metrics = Metrics(self.clock, self.registry, tree=self.tree, newest=self.ledger.newest)
        try:
            self._scrape = Scrape(where, metrics.app())
        except OSError as error:
            _log.error(
                "no metrics at %s: %s; name another port", self.config.metrics, error, extra={"action": "metrics"}
            )
            return
        self.supervision.metrics = metrics
        _log.info("metrics at %s", self._scrape.url, extra={"action": "metrics"})

    def _bind_notify(self) -> socket.socket:
        path = self.config.runtime_dir / "notify.sock"
        path.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        bound.bind(str(path))
        (self.config.runtime_dir / HANDED_OVER).unlink(missing_ok=True)
        return bound

    def _catch_signals(self) -> None:
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(signum, self._note_signal)

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals.append(signum)  # handlers only enqueue

    def close(self) -> None:
        """Let go of everything, in the reverse order. The jobs are gone, or live on (handed over, or a failure)."""
        signal.set_wakeup_fd(-1)
        if self._leaving:
            (self.config.runtime_dir / HANDED_OVER).touch()
            self.supervision.launcher.leave()
        else:
            self.supervision.launcher.stop()
            shutil.rmtree(self.config.runtime_dir / REHEARSAL, ignore_errors=True)
            shutil.rmtree(self.config.state_dir / ROOMS, ignore_errors=True)
        if self._scrape is not None:
            self._scrape.close()
        self._leftovers.close()
        while self.sweeper.waiting and not self._leaving:  # the next daemon finds what is left, and is waited for
            self.sweeper.step()
        self.server.close()
        self._notify.close()
        for name in ("notify.sock", "annul.sock", "events.sock"):
            (self.config.runtime_dir / name).unlink(missing_ok=True)
        self._wake_read.close()
        self._wake_write.close()
        if self.cgroup is not None and not self._leaving:
            tree.remove_soon([tree.CgroupTree(self.cgroup)])  # a process that was just being forked may be in there
        self.store.close()
        for fd in reversed(self._locks):  # a takeover waits for as long as the state's is held
            os.close(fd)


def _raise_file_limit() -> None:
    """libzmq aborts the process where it cannot accept for want of descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _nudges_queued() -> int:
    """How many datagrams the kernel keeps for a socket before it refuses more: see unix(7)."""
    try:
        return min(_NUDGES, int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()))
    except (OSError, ValueError):
        return 1
