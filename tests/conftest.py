"""Fixtures: a real daemon with directories of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul_client import Client
from harness import PREFIX, SESSION, DaemonProcess

os.environ.update(SESSION)  # every process that a test starts carries it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks for leftovers looks last."""
    items.sort(key=lambda item: "nothing_is_left" in item.name)


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
