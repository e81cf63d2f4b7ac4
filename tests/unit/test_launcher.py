"""Zygotes that die: what is known of them afterwards."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from annul.launcher import Launcher, Listener, Terms, Zygote
from harness import alive, no_descriptors, wait_until


def terms_in(folder: Path, **more: Any) -> Terms:
    return Terms(
        notify=str(folder / "notify.sock"), orphan_grace_s=60.0, zygotes_dir=folder, rehearsal=folder / "r", **more
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
