"""`import-pdf` of a scan against the real daemon: with a model that sees, cancelled, and without one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annul_client import Client, Job, State
from harness import DaemonProcess, processes_with, wait_until
from openai_server import SCAN_ANSWER, OpenAIServer, hang, stream_cv, trickle
from pdf import CV_LINES

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed: pip install 'annul[pdf]'")
pytest.importorskip("PIL", reason="pillow is not installed: pip install 'annul[pdf]'")

from scans import make_scan


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan(CV_LINES, CV_LINES))
    return path


def assert_gone(daemon: DaemonProcess, job: Job) -> None:
    assert job.state is State.CANCELLED, job
    assert not processes_with(f"ANNUL_MARK={job.id}.")
    assert [path for path in (daemon.state_dir / "users").rglob("*") if path.is_file()] == []
    assert job.files == []


def test_a_scan_is_imported(make_daemon: Callable[..., DaemonProcess], scan: Path) -> None:
    """`auto` with a key: the CV is in the result and in the user's file, with what it cost and how it was got."""
    with OpenAIServer(stream_cv(SCAN_ANSWER)) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.wait(client.submit("import-pdf", {"pdf": str(scan)}, user="u1").id, 60)
    assert job.state is State.COMPLETED, job
    (file,) = map(Path, job.files)
    assert json.loads(file.read_text()) == job.result["cv"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert job.result["cv"]["basics"]["name"] == "Éloïse Durand"
    assert (job.result["engine"], job.result["report"]["reader"]) == ("openai", "model")
    assert job.result["usage"]["total_tokens"] == 608
    assert "cannot be checked" in job.result["report"]["uncertain"][0]
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]


@pytest.mark.parametrize("behaviour", [trickle, hang], ids=["streaming", "before the first byte"])
def test_a_cancel_while_a_model_looks(
    make_daemon: Callable[..., DaemonProcess], scan: Path, behaviour: Callable[..., object]
) -> None:
    """The server sees the connection close, no second request reaches it, no process and no file is left."""
    with OpenAIServer(behaviour(SCAN_ANSWER)) as server:  # type: ignore[arg-type]
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test-secret", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.submit("import-pdf", {"pdf": str(scan)})
            server.wait_request()
            if behaviour is trickle:
                wait_until(lambda: client.get(job.id).progress.stage == "reading the answer", "some tokens to arrive")
            asked = time.monotonic()
            client.cancel(job.id)
            closed_at = server.wait_closed()
            job = client.wait(job.id, 20)
        assert_gone(daemon, job)
        assert job.cancel is not None
        assert len(server.requests) == 1
        closed_ms, gone_ms = 1000 * (closed_at - asked), 1000 * (job.cancel.gone_s or 0)
        print(f"scan: cancel asked to connection closed {closed_ms:.1f} ms; accepted to gone {gone_ms:.1f} ms")
        assert "sk-test-secret" not in daemon.said()


def test_a_cancel_while_pages_are_drawn(make_daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    """The process that draws goes with the job, and no request is made."""
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan(*[CV_LINES] * 40))
    with OpenAIServer(stream_cv(SCAN_ANSWER)) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.submit("import-pdf", {"pdf": str(path)})
            wait_until(lambda: "drawing page" in (client.get(job.id).progress.stage or ""), "pages to be drawn")
            client.cancel(job.id)
            job = client.wait(job.id, 20)
        assert_gone(daemon, job)
        assert server.requests == []


@pytest.mark.parametrize("engine", ["auto", "offline"])
def test_without_a_model_a_scan_has_no_text(client: Client, scan: Path, engine: str) -> None:
    """The error stays, and says who could read it."""
    job = client.wait(client.submit("import-pdf", {"pdf": str(scan), "engine": engine}).id, 60)
    assert job.error is not None
    assert job.error.code == "no_text"
    assert "The openai engine can read scans" in job.error.message


@pytest.mark.parametrize(("limit", "code"), [("max_pages", "too_many_pages"), ("max_bytes", "too_large")])
def test_limits_hold_for_scans(make_daemon: Callable[..., DaemonProcess], scan: Path, limit: str, code: str) -> None:
    """A scan of more pages or bytes than allowed is refused before anything is sent."""
    with OpenAIServer() as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.wait(client.submit("import-pdf", {"pdf": str(scan), limit: 1}).id, 60)
        assert job.error is not None
        assert job.error.code == code
        assert limit in job.error.message
        assert server.requests == []
