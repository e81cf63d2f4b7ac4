"""Fixtures: a real daemon with directories of its own."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul_client import Client
from harness import PREFIX, DaemonProcess
from leftovers import Leftovers

_LEFTOVERS = pytest.StashKey[Leftovers]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # of pytest-xdist: it shares the tests with other processes
        config.stash[_LEFTOVERS] = Leftovers()


def pytest_collection_finish() -> None:
    """What all tests have made stays: to look through it at each collection takes a twentieth of the time."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where the tests have left anything behind."""
    if _LEFTOVERS not in session.config.stash:
        return
    left = session.config.stash[_LEFTOVERS].found()
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reporter.write_line(f"LEFT BEHIND by the tests: {', '.join(left)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path: those of sockets may not be long, and pytest's are."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_daemon(short_dir: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Makes (unstarted) daemons; ends whatever still runs of them and shows their log where the test fails."""
    made: list[DaemonProcess] = []

    def make(*options: str, env: dict[str, str] | None = None, name: str = "") -> DaemonProcess:
        base = short_dir / name
        base.mkdir(exist_ok=True)
        daemon = DaemonProcess(base, "--jobs", "children.jobs", "--no-warm", *options, env=env)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()
        if daemon.log.exists():
            print(daemon.said())


@pytest.fixture
def daemon(make_daemon: Callable[..., DaemonProcess]) -> DaemonProcess:
    """A running daemon with the menagerie of `children.jobs`."""
    found = make_daemon()
    found.start()
    return found


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with daemon.client() as found:
        yield found
