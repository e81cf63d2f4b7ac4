"""Zygotes that die: what is known of them afterwards."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import records
from annul import proc
from annul.launcher import SPARE_AGE_S, Launcher, Listener
from annul.zygote import Process, Terms, Zygote
from harness import alive, no_descriptors, wait_until

LAUNCH = records.launch()  # it has no directories: so it runs nothing


def terms_in(folder: Path, **more: Any) -> Terms:
    return Terms(
        notify=str(folder / "notify.sock"),
        orphan_grace_s=60.0,
        zygotes_dir=folder,
        rehearsal=folder / "r",
        rooms=folder / "o",
        **more,
    )


def test_a_dead_zygote_is_forgotten(tmp_path: Path) -> None:
    """Its pid may be that of any process soon, and means no zygote any more: an orphan with it must not be left out."""
    terms = terms_in(tmp_path)
    launcher = Launcher({(): []}, Listener(*[lambda *_: None] * 5), terms)
    try:
        launcher.warm()
        (zygote,) = launcher._zygotes.values()
        zygote.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not alive(zygote.process.pid), "the zygote to end")
        launcher.reap()  # SIGCHLD comes before its socket is read
        ((fd, events),) = launcher.fds()
        while launcher._zygotes:
            launcher.handle(fd, events, now=0.0)
        assert launcher.pids() == set()
        assert list(tmp_path.iterdir()) == []
    finally:
        launcher.stop()


def test_the_note_of_one_that_was_dead_already_goes_too(tmp_path: Path) -> None:
    """Nobody had noticed yet, and there is nothing to be waited for any more."""
    launcher = Launcher({(): []}, Listener(*[lambda *_: None] * 5), terms_in(tmp_path))
    launcher.warm()
    (zygote,) = launcher._zygotes.values()
    zygote.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(zygote.process.pid), "the zygote to end")
    launcher.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_pidfd_that_could_not_be_received_is_not_the_next_ones(tmp_path: Path) -> None:
    """Where no descriptor is left, the kernel drops what was sent: the order of those that come must not shift (C8)."""
    zygote = Zygote((), [], terms_in(tmp_path))
    ours, theirs = socket.socketpair()
    zygote.socket.close()
    zygote.socket = ours
    ours.setblocking(False)
    try:
        socket.send_fds(theirs, [b"\0\0"], [theirs.fileno()])
        with no_descriptors():
            zygote.read()
        with Path("/dev/null").open() as null:
            socket.send_fds(theirs, [b"\0\0"], [null.fileno()])
            zygote.read()
            assert zygote.take_fds() == []
            (got,) = zygote.take_fds()
            assert os.path.sameopenfile(got, null.fileno())
            os.close(got)
    finally:
        theirs.close()
        zygote.close()
        zygote.process.kill()
        zygote.process.wait()


def test_a_zygote_that_the_next_daemon_could_not_find_is_not_kept(tmp_path: Path) -> None:
    """Where its note cannot be written."""
    before = _own_children()
    with pytest.raises(FileNotFoundError):
        Zygote((), [], terms_in(tmp_path / "absent"))
    assert _own_children() == before


def _own_children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


# --- spares -----------------------------------------------------------------------------------------------------


class Bench:
    """A launcher with real zygotes, and a clock that only the test moves."""

    def __init__(self, folder: Path, spares: int) -> None:
        (folder / "r").mkdir()
        self.now = 1000.0
        self.launched: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.exited: list[int] = []
        listener = Listener(
            launched=self._launched,
            not_launched=self.failed.__setitem__,
            no_room=self.failed.__setitem__,
            exited=lambda pid, _: self.exited.append(pid),
            guardian_ended=lambda: None,
        )
        self.launcher = Launcher({(): []}, listener, terms_in(folder, spares=spares))
        self.launcher.warm()
        self.run_until(lambda: self.zygote.ready, "the zygote to be ready")

    def _launched(self, name: str, process: Process) -> None:
        self.launched[name] = process.pid
        os.close(process.pidfd)

    @property
    def zygote(self) -> Zygote:
        (found,) = self.launcher._zygotes.values()
        return found

    def turn(self, *, hurry: bool = False) -> None:
        """As the loop does, without waiting."""
        poller = select.poll()
        for fd, events in self.launcher.fds():
            poller.register(fd, events)
        for fd, events in poller.poll(0):
            self.launcher.handle(fd, events, self.now)
        self.launcher.reap()
        self.launcher.act_on_deadlines(self.now)
        self.launcher.step(self.now, hurry=hurry)

    def run_until(self, condition: Callable[[], object], what: str, *, hurry: bool = False) -> None:
        def look() -> object:
            self.turn(hurry=hurry)
            return condition()

        wait_until(look, what)

    def ask(self, name: str) -> None:
        job_id, _, attempt = name.partition(".")
        launch = msgspec.structs.replace(LAUNCH, job_id=job_id, attempt=int(attempt))
        self.launcher.launch(launch, (), self.now)

    def spares(self) -> set[int]:
        return {spare.pid for spare in self.zygote.spares}


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[[int], Bench]]:
    made: list[Bench] = []

    def make(spares: int) -> Bench:
        made.append(Bench(tmp_path, spares))
        return made[0]

    yield make
    for one in made:
        one.launcher.stop()


def test_a_spare_is_replaced_when_its_job_has_got_going(make_bench: Callable[[int], Bench]) -> None:
    """Not in the moment in which that begins; unless more wait."""
    bench = make_bench(1)
    bench.run_until(bench.spares, "the spare")
    (first,) = bench.spares()
    bench.ask("a.1")
    assert bench.launched == {"a.1": first}
    bench.turn()
    assert (bench.zygote.asked, bench.spares()) == (0, set())
    due = bench.launcher.next_due()
    assert due is not None
    assert 0 < due - bench.now < 0.05
    bench.turn(hurry=True)
    assert bench.zygote.asked == 1
    bench.run_until(bench.spares, "another")
    (second,) = bench.spares()
    bench.ask("b.1")
    bench.turn()
    bench.now = bench.launcher.next_due() or 0.0
    bench.run_until(bench.spares, "a third")
    assert len({first, second, *bench.spares()}) == 3


def test_old_spares_are_replaced(make_bench: Callable[[int], Bench]) -> None:
    """And until then nobody needs to wake up."""
    bench = make_bench(2)
    bench.run_until(lambda: len(bench.spares()) == 2, "the spares")
    old = bench.spares()
    assert bench.launcher.next_due() == bench.now + SPARE_AGE_S
    bench.now += SPARE_AGE_S
    bench.turn()
    assert not bench.spares() & old
    bench.run_until(lambda: len(bench.spares()) == 2, "others")
    wait_until(lambda: not any(map(alive, old)), "the old ones to be gone")
    bench.run_until(lambda: not bench.launcher._dropped, "their ends to be known")
    assert not old & set(bench.exited)  # which are of jobs, or of what another test has left to this process


def test_a_launch_that_was_withdrawn_is_never_handed_over(make_bench: Callable[[int], Bench]) -> None:
    """What was forked for it serves the next, or goes."""
    bench = make_bench(0)
    bench.ask("a.1")
    bench.turn()
    assert bench.launcher.withdraw("a.1")
    assert not bench.launcher.withdraw("a.1")
    bench.run_until(lambda: bench.zygote.asked == 0, "the zygote's answer")
    bench.run_until(lambda: not bench.zygote.children, "what it forked to be gone")
    assert (bench.launched, bench.failed, bench.spares()) == ({}, {}, set())


def test_processes_that_end_at_once_are_not_asked_for_without_end(make_bench: Callable[[int], Bench]) -> None:
    """The launch is handed back; spares are asked for again a while later."""
    bench = make_bench(2)
    bench.run_until(lambda: len(bench.spares()) == 2, "the spares")
    for pid in bench.spares():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, bench.spares())), "them to be gone")
    bench.ask("a.1")
    assert list(bench.failed) == ["a.1"]
    bench.turn(hurry=True)
    assert bench.zygote.asked == 0
    due = bench.launcher.next_due()
    assert due is not None
    assert 0.5 < due - bench.now <= 1.0
    bench.now = due
    bench.run_until(lambda: len(bench.spares()) == 2, "others")


def test_a_stopped_zygote_is_replaced_and_a_busy_one_is_not(make_bench: Callable[[int], Bench]) -> None:
    """What it was to fork for goes back; its spares go with it."""
    bench = make_bench(0)
    zygote = bench.zygote
    os.kill(zygote.process.pid, signal.SIGSTOP)
    wait_until(lambda: (one := proc.stat(zygote.process.pid)) is not None and one.state == "T", "it to stop")
    bench.ask("a.1")
    bench.turn()
    bench.now += 0.4
    bench.turn()
    assert bench.zygote is zygote
    bench.now += 0.2
    bench.turn()
    assert list(bench.failed) == ["a.1"]
    assert zygote.profile not in bench.launcher._zygotes
    bench.ask("a.2")
    bench.run_until(lambda: bench.zygote.ready, "its successor")
    bench.run_until(lambda: bench.launched, "a process")
    assert list(bench.launched) == ["a.2"]
