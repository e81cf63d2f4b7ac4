"""Zygotes that die: what is known of them afterwards."""

from __future__ import annotations

import signal
from pathlib import Path

from annul.launcher import Launcher, Listener, Terms
from harness import alive, wait_until


def test_a_dead_zygote_is_forgotten(tmp_path: Path) -> None:
    """Its pid may be that of any process soon, and means no zygote any more: an orphan with it must not be left out."""
    terms = Terms(notify=str(tmp_path / "notify.sock"), orphan_grace_s=60.0, zygotes_dir=tmp_path)
    launcher = Launcher({(): []}, Listener(*[lambda *_: None] * 4), terms)
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
