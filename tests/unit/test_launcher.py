"""Zygotes that die: what is known of them afterwards."""

from __future__ import annotations

import signal

from annul.launcher import Launcher, Listener
from harness import alive, wait_until


def test_a_dead_zygote_is_forgotten() -> None:
    """Its pid may be that of any process soon, and means no zygote any more: an orphan with it must not be left out."""
    launcher = Launcher({(): []}, Listener(lambda *_: None, lambda *_: None, lambda *_: None))
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
    finally:
        launcher.stop()
