"""Each entry of the daemon's log in the three forms it can have."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from annul import logs
from annul.errors import StartError

NASTY = "wrong file\n2026-01-01 00:00:00 info cancelled: job x\x1b[2J\u2028end"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The logger that `set_up` changes, as it was afterwards."""
    found = logging.getLogger("annul")
    before = found.level, found.handlers[:], found.propagate
    yield found
    for handler in set(found.handlers) - set(before[1]):
        handler.close()
    found.level, found.handlers[:], found.propagate = before


def write(root: logging.Logger) -> None:
    """Two entries: one with what a user wrote, one of an error inside."""
    log = root.getChild("stopping")
    log.info("stopping job %s: %s", "j1", NASTY, extra={"action": "stop-job", "job_id": "j1"})
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("an error inside", extra={"action": "internal"})
    log.debug("not at this level")


def written(monkeypatch: pytest.MonkeyPatch, root: logging.Logger, form: logs.Format) -> str:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.set_up("INFO", form)
    write(root)
    return stderr.getvalue()


def test_text_is_a_line_whatever_a_user_wrote(monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    """Nobody can forge an entry, or talk to the terminal of who reads it."""
    first, second, *trace = written(monkeypatch, root, "text").split("\n")
    assert " info stop-job: stopping job j1: wrong file\\n2026" in first
    assert first.endswith("\\x1b[2J\\u2028end")
    assert " error internal: an error inside" in second
    assert trace[0].startswith("Traceback")


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    """The fields have names of their own; an error's trace is one of them."""
    first, second = [json.loads(line) for line in written(monkeypatch, root, "json").splitlines()]
    assert (first["level"], first["action"], first["job_id"]) == ("info", "stop-job", "j1")
    assert first["message"] == f"stopping job j1: {NASTY}"
    assert datetime.fromisoformat(first["at"]).tzinfo is not None
    assert "job_id" not in second
    assert "ValueError: two" in second["trace"]


def fields_of(data: bytes) -> dict[str, str]:
    """A datagram read as journald reads it."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
    return found


def test_the_journal_gets_fields(tmp_path: Path, root: logging.Logger) -> None:
    """By journald's native protocol; a value with newlines goes by its length."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        root.addHandler(logs.Journal(path))
        root.setLevel("INFO")
        write(root)
        first, second = fields_of(journald.recv(65536)), fields_of(journald.recv(65536))
    assert (first["ACTION"], first["JOB_ID"], first["PRIORITY"]) == ("stop-job", "j1", "6")
    assert first["MESSAGE"] == f"stopping job j1: {NASTY}"
    assert first["SYSLOG_IDENTIFIER"] == "annul"
    assert second["PRIORITY"] == "3"
    assert "ValueError: two" in second["TRACE"]


def test_a_journal_that_takes_nothing_holds_nobody_up(tmp_path: Path, root: logging.Logger) -> None:
    """What is lost is counted, and told when the journal is there again, also where that is another one."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        root.addHandler(logs.Journal(path))
        root.setLevel("INFO")
        for number in range(2000):  # far more than the kernel queues for one socket
            root.info("entry %d", number, extra={"action": "try"})
    path.unlink()
    root.info("nobody there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        root.info("again")
        found = fields_of(journald.recv(65536))
    assert found["MESSAGE"] == "again"
    assert 1000 < int(found["LOST"]) <= 2001


def test_no_journal_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    """Instead of a daemon whose log goes nowhere."""
    monkeypatch.setattr(logs, "JOURNAL", tmp_path / "none")
    with pytest.raises(StartError, match="take json or text"):
        logs.set_up("INFO", "journal")
