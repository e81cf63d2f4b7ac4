"""The four scenarios of the system that annul replaces, and bad input, against the real daemon.

The witnesses are outside of it: /proc, the file system, and what a loopback OpenAI-compatible server sees.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from annul.jobs.resume import Resume
from annul_client import Client, Job, State
from harness import SHARED, DaemonProcess, processes_with, wait_until
from openai_server import OpenAIServer, cut, hang, invalid_json, quota, server_error, stream_cv, trickle, unauthorized
from pdf import CV_LINES, assemble, big_pdf, make_pdf

WHOLE = {"max_pages": 1000, "max_chars": 50_000_000}


@pytest.fixture
def cv(tmp_path: Path) -> Path:
    path = tmp_path / "cv.pdf"
    path.write_bytes(make_pdf([CV_LINES]))
    return path


def files_of(daemon: DaemonProcess) -> list[Path]:
    """Every file in the users' directories."""
    return [path for path in (daemon.state_dir / "users").rglob("*") if path.is_file()]


def assert_gone(daemon: DaemonProcess, job: Job) -> None:
    assert job.state is State.CANCELLED, job
    assert job.pid is None
    assert not processes_with(f"ANNUL_MARK={job.id}.")
    assert files_of(daemon) == []
    assert job.files == []


# --- the four scenarios -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [0, 20, 40, 60, 80, 100])
def test_1_cancel_within_100_ms_of_an_import(
    daemon: DaemonProcess, client: Client, tmp_path: Path, delay_ms: int
) -> None:
    """A cancel within 100 ms of the submit: `cancelled`, its process gone, no file."""
    path = tmp_path / "big.pdf"
    path.write_bytes(big_pdf(60))
    client.wait(client.submit("import-pdf", {"pdf": str(path), "max_pages": 1}).id, 60)  # its zygote is warm now
    job = client.submit("import-pdf", {"pdf": str(path), **WHOLE})
    try:
        client.wait(job.id, delay_ms / 1000)
    except TimeoutError:
        pass  # it still runs: what this test is about
    client.cancel(job.id)
    assert_gone(daemon, client.wait(job.id, 20))


def test_2_cancel_during_the_extraction_of_a_big_pdf(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    """It stops during the extraction, not after it: at the page where it was."""
    path = tmp_path / "big.pdf"
    path.write_bytes(big_pdf())
    job = client.submit("import-pdf", {"pdf": str(path), **WHOLE})
    wait_until(lambda: (client.get(job.id).progress.fraction or 0) > 0.05, "some pages to be read")
    client.cancel(job.id)
    job = client.wait(job.id, 20)
    assert_gone(daemon, job)
    assert job.progress.fraction is not None
    assert job.progress.fraction < 0.55
    assert job.cancel is not None
    assert job.cancel.stage == "sigterm"
    print(f"extraction: cancel to gone {1000 * (job.cancel.gone_s or 0):.1f} ms")


@pytest.mark.parametrize("behaviour", [trickle, hang], ids=["streaming", "before the first byte"])
def test_3_cancel_during_an_openai_call(
    make_daemon: Callable[..., DaemonProcess], cv: Path, behaviour: Callable[[], object]
) -> None:
    """The server sees the connection close, no second request reaches it, and the job is `cancelled`."""
    with OpenAIServer(behaviour()) as server:  # type: ignore[arg-type]
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test-secret", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.submit("import-pdf", {"pdf": str(cv)})
            server.wait_request()
            if behaviour is trickle:
                wait_until(lambda: (client.get(job.id).progress.fraction or 0) > 0.6, "some tokens to arrive")
            asked = time.monotonic()
            client.cancel(job.id)
            closed_at = server.wait_closed()
            job = client.wait(job.id, 20)
        assert_gone(daemon, job)
        assert job.cancel is not None
        assert len(server.requests) == 1
        closed_ms, gone_ms = 1000 * (closed_at - asked), 1000 * (job.cancel.gone_s or 0)
        print(f"openai: cancel asked to connection closed {closed_ms:.1f} ms; accepted to gone {gone_ms:.1f} ms")
        assert "sk-test-secret" not in daemon.said()


@pytest.mark.parametrize("engine", ["offline", "openai"])
def test_4_no_cancel(make_daemon: Callable[..., DaemonProcess], cv: Path, engine: str) -> None:
    """Without a cancel: `completed`, the CV in the result and in the user's directory, as valid JSON Resume."""
    with OpenAIServer(stream_cv()) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = client.submit("import-pdf", {"pdf": str(cv), "engine": engine}, user="u1")
            job = client.wait(job.id, 60)
        assert job.state is State.COMPLETED, job
        assert job.result["engine"] == engine
        file = daemon.state_dir / "users" / "u1" / "cvs" / f"{job.id}.json"
        assert job.files == [str(file)] == job.result["files"]
        written = json.loads(file.read_text())
        assert written == job.result["cv"]
        assert msgspec.convert(written, Resume).basics.name
        if engine == "offline":
            assert written["basics"]["name"] == "Camille Durand"
            assert written["basics"]["email"] == "camille.durand@example.org"
            assert written["work"][0]["startDate"] == "2021-01"
            assert server.requests == []
        else:
            assert job.result["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("engine", ["offline", "openai"])
def test_30_cancels_at_random_moments(make_daemon: Callable[..., DaemonProcess], tmp_path: Path, engine: str) -> None:
    """Each `cancelled`, with nothing alive and no file left; a server that was asked saw each connection close."""
    path = tmp_path / "big.pdf"
    path.write_bytes(big_pdf() if engine == "offline" else make_pdf([CV_LINES]))
    params = {"pdf": str(path), "engine": engine, **WHOLE}
    moments = random.Random(9)
    with OpenAIServer(*[trickle(), hang()] * 40) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            client.cancel(client.submit("import-pdf", params).id)  # its zygote is started
            for _ in range(30):
                job = client.submit("import-pdf", params)
                try:
                    client.wait(job.id, moments.uniform(0, 0.5))
                except TimeoutError:
                    pass  # it still runs
                client.cancel(job.id)
                assert_gone(daemon, client.wait(job.id, 20))
            if engine == "openai":
                assert server.requests, "no cancel came after the server was asked"
                server.wait_closed()
                assert len(server.requests) <= 31
            else:
                assert not server.requests


def test_auto_is_offline_without_a_key(client: Client, cv: Path) -> None:
    """`auto` without a key is the offline engine, and the result says so."""
    job = client.wait(client.submit("import-pdf", {"pdf": cv.read_bytes()}).id, 60)
    assert (job.state, job.result["engine"]) == (State.COMPLETED, "offline")


# --- bad input --------------------------------------------------------------------------------------------------


def _encrypted() -> bytes:
    from io import BytesIO

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(make_pdf([CV_LINES]))))
    writer.encrypt("secret")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def _loop() -> bytes:
    """A page tree whose node is its own child."""
    return assemble([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 2 /Kids [2 0 R 2 0 R] >>"])


BAD: dict[str, tuple[Callable[[], bytes], dict[str, object], set[str]]] = {
    "not a PDF": (lambda: b"<html>no</html>", {}, {"not_a_pdf"}),
    "empty": (lambda: b"", {}, {"not_a_pdf"}),
    "truncated": (lambda: make_pdf([CV_LINES], compress=True)[:500], {}, {"corrupt_pdf"}),
    "encrypted": (_encrypted, {}, {"encrypted_pdf"}),
    "without text": (lambda: make_pdf([[]]), {}, {"no_text"}),
    "page-tree loop": (_loop, {}, {"corrupt_pdf", "no_text"}),
    "too many pages": (lambda: make_pdf([CV_LINES] * 4), {"max_pages": 3}, {"too_many_pages"}),
    "too many bytes": (lambda: make_pdf([CV_LINES]), {"max_bytes": 100}, {"too_large"}),
    "too much text": (lambda: make_pdf([CV_LINES]), {"max_chars": 10}, {"too_much_text"}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pdf_fails_clearly(daemon: DaemonProcess, client: Client, tmp_path: Path, case: str) -> None:
    """Each kind of bad PDF ends as `failed` with its own code and words; nothing is written; the daemon goes on."""
    make, params, codes = BAD[case]
    path = tmp_path / "bad.pdf"
    path.write_bytes(make())
    job = client.wait(client.submit("import-pdf", {"pdf": str(path), "engine": "offline", **params}).id, 60)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code in codes, job.error
    assert len(job.error.message) > 20
    assert files_of(daemon) == []
    assert client.ping().running == 0


def test_missing_file_is_said(client: Client, tmp_path: Path) -> None:
    """A path without a file fails, naming it."""
    job = client.wait(client.submit("import-pdf", {"pdf": str(tmp_path / "none.pdf")}).id, 60)
    assert job.error is not None
    assert (job.error.code, "none.pdf" in job.error.message) == ("no_such_file", True)


@pytest.mark.parametrize(
    "name",
    [
        "bomb-flate-1gib.pdf",
        "bomb-flate-triple-16gib.pdf",
        "bomb-runlength-1gib.pdf",
        "bomb-predictor.pdf",
        "cmap-bfrange-4-billion.pdf",
        "count-two-billion.pdf",
        "nested-arrays-200k.pdf",
        "xobject-self-loop.pdf",
        "evil-xobjects.pdf",
        "one-page-2-million-chars.pdf",
    ],
)
def test_bombs_stay_inside_their_limits(client: Client, name: str) -> None:
    """A PDF made to exhaust its reader ends inside the job's memory and time limits, whatever its outcome."""
    path = SHARED / "corpus" / name
    if not path.exists():
        pytest.skip(f"the corpus is not here: {path}")
    other = client.submit("sleepy", {})
    job = client.wait(client.submit("import-pdf", {"pdf": str(path), "engine": "offline"}, timeout_s=20).id, 60)
    assert job.state.final
    if job.state is State.FAILED:
        assert job.error is not None
        assert job.error.code not in {"crashed", "exception"}, job.error
    assert client.get(other.id).state is State.RUNNING


@pytest.fixture
def failing(
    make_daemon: Callable[..., DaemonProcess], request: pytest.FixtureRequest
) -> Iterator[tuple[Client, OpenAIServer]]:
    with OpenAIServer(request.param()) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test-secret", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            yield client, server
        assert "sk-test-secret" not in daemon.said()


@pytest.mark.parametrize(
    ("failing", "code", "requests"),
    [
        (unauthorized, "openai_unauthorized", 1),
        (quota, "openai_quota", 1),
        (server_error, "openai_server_error", 3),
        (invalid_json, "openai_invalid_answer", 1),
        (cut, "openai_truncated", 1),
    ],
    indirect=["failing"],
)
def test_openai_failures_are_told_apart(
    failing: tuple[Client, OpenAIServer], cv: Path, code: str, requests: int
) -> None:
    """401, quota (not retried), 500 (retried a little), invalid JSON and a cut stream each have their own code."""
    client, server = failing
    job = client.wait(client.submit("import-pdf", {"pdf": str(cv)}).id, 60)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == code
    assert "sk-test-secret" not in job.error.message
    assert "sk-test-secret" not in client.logs(job.id).decode()
    assert len(server.requests) == requests
