"""What the daemon tells systemd, and is given by it. The service itself: tests/systemd."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul import systemd
from harness import DaemonProcess, wait_until

MakeDaemon = Callable[..., DaemonProcess]


@pytest.fixture
def listening(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(short_dir / "notify"))
        found.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_dir / "notify"))
        yield found


def heard(listening: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listening.recv(256).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts the handlers of fatal signals back as they were."""
    before = faulthandler.is_enabled()
    yield
    if not before:
        faulthandler.disable()


@pytest.mark.usefixtures("handlers")
def test_a_turn_is_told_twice_in_a_period(listening: socket.socket) -> None:
    """Not more often, however often the loop turns; at once when more time has passed."""
    dog = systemd.Watchdog(100.0, {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
    told = []
    for now in (100.0, 100.1, 104.9, 105.0, 109.9, 120.0, 124.9):
        dog.turned(now, stopping=False)
        told.append(heard(listening))
    assert told == [["WATCHDOG=1"], [], [], ["WATCHDOG=1"], [], ["WATCHDOG=1"], []]
    assert dog.due == 125.0


@pytest.mark.usefixtures("handlers")
def test_while_stopping_more_time_is_asked_for(listening: socket.socket) -> None:
    """Of the stop, as much as the watchdog gives."""
    dog = systemd.Watchdog(0.0, {"WATCHDOG_USEC": "10000000"})
    dog.turned(0.0, stopping=True)
    assert heard(listening) == ["EXTEND_TIMEOUT_USEC=10000000"]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"},  # it is another process that is watched
    ],
)
def test_who_is_not_watched_says_nothing(listening: socket.socket, env: dict[str, str]) -> None:
    """And need not wake up for it."""
    dog = systemd.Watchdog(0.0, env)
    dog.turned(1e9, stopping=False)
    assert dog.due is None
    assert heard(listening) == []


def test_systemd_holds_nobody_up(listening: socket.socket) -> None:
    """Where its queue is full, a message is lost."""
    for _ in range(10_000):
        systemd.notify("STATUS=again")
    said = heard(listening)
    assert 0 < len(said) < 10_000


def test_an_idle_daemon_tells_that_its_loop_turns(make_daemon: MakeDaemon) -> None:
    """By itself, again and again; a stopped one does not."""
    daemon = make_daemon(env={"WATCHDOG_USEC": "200000"})
    daemon.start()
    assert daemon.process is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        (daemon.base / "notify").unlink()
        listening.bind(str(daemon.base / "notify"))
        listening.settimeout(10)
        assert [listening.recv(64) for _ in range(5)] == [b"WATCHDOG=1"] * 5
        daemon.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _state(daemon.process.pid) == "T", "it to be stopped")
        listening.setblocking(False)
        heard(listening)
        listening.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listening.recv(64)
        daemon.process.send_signal(signal.SIGCONT)
        listening.settimeout(10)
        assert listening.recv(64) == b"WATCHDOG=1"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# --- credentials ------------------------------------------------------------------------------------------------


def test_a_setting_is_a_variable_or_else_a_credential(tmp_path: Path) -> None:
    """A variable is what it is; a credential is a file, of which the white space around does not count."""
    (tmp_path / "KEY").write_text("from a file\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert systemd.credential("KEY", env) == "from a file"
    assert systemd.credential("KEY", {**env, "KEY": "set"}) == "set"
    assert systemd.credential("OTHER", env) is None
    assert systemd.credential("KEY", {}) is None


def test_a_credential_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By its name only."""
    (tmp_path / "KEY").write_bytes(b"\xff\xfe secret")
    with caplog.at_level(logging.WARNING, "annul"):
        assert systemd.credential("KEY", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) is None
    assert "reading the credential KEY" in caplog.text
    assert "secret" not in caplog.text
