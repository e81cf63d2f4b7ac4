"""`generate-cv` against the real daemon: it completes, it stops whenever it is told, and bad input ends clearly.

The witnesses are outside of it: /proc, the file system, and what loopback servers see.
"""

from __future__ import annotations

import json
import random
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from annul.jobs.resume import Resume
from annul_client import CancelOutcome, Client, Job, State
from annul_client.errors import RequestRefused
from generating import BASE, OFFER
from harness import PREFIX, DaemonProcess, processes_with, wait_until
from openai_server import OpenAIServer, hang, stream_cv, trickle, unauthorized
from pdf import CV_LINES, make_pdf

CANCELS = 30
FILES = {"cv": BASE.read_bytes(), "offer_file": OFFER.read_bytes()}
HTML = (
    b"<html><body><main><h1>Engineer</h1><p>Requirements:</p><ul><li>Python, Kubernetes</li></ul></main></body></html>"
)


def files_of(daemon: DaemonProcess, user: str = "*") -> list[Path]:
    """Every file in a user's directory, or in all of them."""
    return [path for path in (daemon.state_dir / "users").glob(f"{user}/**/*") if path.is_file()]


def finished(client: Client, params: dict[str, Any], **terms: Any) -> Job:
    return client.wait(client.submit("generate-cv", params, **terms).id, 60)


def failed(job: Job) -> str:
    assert job.state is State.FAILED, job
    assert job.error is not None
    assert len(job.error.message) > 20
    return job.error.code


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """One for all tests here, without a key, and without leave to fetch from private addresses.

    A user's jobs leave files, so a test counts those of its own users or jobs.
    """
    base = Path(tempfile.mkdtemp(prefix=PREFIX))
    found = DaemonProcess(base, "--no-warm", env={"OPENAI_API_KEY": "", "ANNUL_ALLOW_PRIVATE_ADDRESSES": ""})
    found.start()
    yield found
    found.stop()
    shutil.rmtree(base)


# --- it completes -----------------------------------------------------------------------------------------------


def test_offline(daemon: DaemonProcess, client: Client) -> None:
    """`completed`: the CV in the result and in the user's directory, for its owner only, as valid JSON Resume."""
    job = finished(client, FILES, user="u1")
    assert job.state is State.COMPLETED, job
    assert job.result["engine"] == "offline"
    file = daemon.state_dir / "users" / "u1" / "cvs" / f"{job.id}.json"
    assert job.files[0] == job.result["files"][0] == str(file)
    assert sorted(job.files) == sorted(str(path) for path in files_of(daemon, "u1"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    written = json.loads(file.read_text())
    assert written == job.result["cv"]
    assert msgspec.convert(written, Resume).basics.name == "Maren Aldous"
    assert job.result["report"]["score"]["before"] < job.result["report"]["score"]["after"]
    assert job.progress.fraction == 1.0


def test_from_an_import(daemon: DaemonProcess, client: Client) -> None:
    """The base by the id of this user's job, also of one of this type; another user's id is no CV."""
    imported = client.wait(client.submit("import-pdf", {"pdf": make_pdf([CV_LINES])}, user="u2").id, 60)
    assert imported.state is State.COMPLETED, imported
    offer = OFFER.read_text()
    first = finished(client, {"cv_id": imported.id, "offer": offer}, user="u2")
    assert first.result["cv"]["basics"]["name"] == "Camille Durand"
    second = finished(client, {"cv_id": first.id, "offer": offer}, user="u2")
    assert second.state is State.COMPLETED
    for cv_id in (imported.id, f"../../u2/cvs/{imported.id}", f"../{imported.id}", str(daemon.state_dir)):
        assert failed(finished(client, {"cv_id": cv_id, "offer": offer}, user="u3")) == "no_such_cv"
    assert files_of(daemon, "u3") == []


def test_openai(make_daemon: Callable[..., DaemonProcess]) -> None:
    """What the model proposed and the gates let pass is in the CV, what it cost in the result, the key nowhere."""
    text = "Docker on a Kubernetes cluster of 12 nodes, all of it described in Terraform"
    edit = {"path": "/work/0/highlights/3", "action": "replace", "text": text, "order": [], "why": "first"}
    evil = {"path": "/work/0/name", "action": "replace", "text": "Google", "order": [], "why": "better"}
    with OpenAIServer(stream_cv({"edits": [edit, evil]}), unauthorized()) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test-secret", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            job = finished(client, FILES)
            assert job.state is State.COMPLETED, job
            assert job.result["engine"] == "openai"
            assert job.result["cv"]["work"][0]["highlights"][0] == text
            assert job.result["cv"]["work"][0]["name"] == "Tramlijn Analytics B.V."
            assert [one["path"] for one in job.result["report"]["rejected"]] == ["/work/0/name"]
            assert job.result["usage"]["total_tokens"] == 608
            kept = files_of(daemon)
            assert failed(finished(client, FILES)) == "openai_unauthorized"
            assert files_of(daemon) == kept
            assert "sk-test-secret" not in client.logs(job.id).decode()
        assert "sk-test-secret" not in daemon.said()


def annul(daemon: DaemonProcess, *args: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from annul_client.cli import main; main()"
    command = [sys.executable, "-c", program, "--endpoint", daemon.endpoint, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_several_offers_in_one_call(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    """One `submit_many`, a job for each offer; from the terminal too, where jobs are called by their offers."""
    texts = [f"Requirements\n- {skill} and Snowflake, every day" for skill in ("Python", "Rust", "Ansible")]
    jobs = [{"type": "generate-cv", "user": "u4", "params": {"cv": FILES["cv"], "offer": text}} for text in texts]
    for skill, one in zip(("Python", "Rust", "Ansible"), client.submit_many(jobs), strict=True):
        assert one.job is not None
        job = client.wait(one.job.id, 60)
        assert job.result["report"]["keywords"]["found"] == [skill]
    assert len({path.stem for path in files_of(daemon, "u4")}) == 3
    page = tmp_path / "page.html"
    page.write_bytes(HTML)
    offers = ["--offer-file", str(OFFER), "--offer-file", str(page)]
    options = ["generate-cv", "--cv", str(BASE), *offers, "--engine", "offline"]
    done = annul(daemon, "submit", *options, "--user", "u1")
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) == 2
    jobs = [client.wait(one, 60) for one in ids]
    assert [(job.state, job.title, job.user) for job in jobs] == [
        (State.COMPLETED, "offer-en.md", "u1"),
        (State.COMPLETED, "page.html", "u1"),
    ]
    told = json.loads(annul(daemon, "submit", "--json", *options).stdout)
    assert [one["job"]["title"] for one in told] == ["offer-en.md", "page.html"]
    for refused in (["run", *options], ["submit", *options, "--key", "k"], ["submit", *options, "--cv", str(page)]):
        done = annul(daemon, *refused)
        assert done.returncode == 2, done.stdout
    done = annul(daemon, "submit", "generate-cv", "--cv", str(BASE), *offers, "--offer", "x")
    assert done.returncode == 7
    assert done.stderr.count("exactly one of offer") == 2


# --- it stops ---------------------------------------------------------------------------------------------------


def assert_gone(daemon: DaemonProcess, job: Job) -> None:
    assert job.state is State.CANCELLED, job
    assert job.pid is None
    assert job.files == []
    assert not processes_with(f"ANNUL_MARK={job.id}.")
    assert not [path for path in files_of(daemon) if job.id in path.name]


def cancel_at_random(
    daemon: DaemonProcess, client: Client, params: dict[str, Any], within_s: float, seed: int
) -> Iterator[Job]:
    """30 jobs whose cancel was accepted, each at a moment of its own; a few may have completed before theirs."""
    moments = random.Random(seed)
    accepted = 0
    for _ in range(2 * CANCELS):
        if accepted == CANCELS:
            return
        job = client.submit("generate-cv", params, user="hasty")
        try:
            client.wait(job.id, moments.uniform(0, within_s))
        except TimeoutError:
            pass  # it still runs: what this is about
        reply = client.cancel(job.id)
        job = client.wait(job.id, 20)
        if reply.outcome is CancelOutcome.ALREADY_FINAL:
            assert job.state is State.COMPLETED
            continue
        assert_gone(daemon, job)
        accepted += 1
        yield job


def timed(client: Client, params: dict[str, Any]) -> float:
    began = time.monotonic()
    assert finished(client, params).state is State.COMPLETED
    return time.monotonic() - began


def big_offer() -> str:
    """One that takes a while: 30,000 characters of requirements."""
    skills = ("Python", "Kubernetes", "bookkeeping", "gestion de projet", "SolidWorks", "patience")
    return "Requirements\n" + "\n".join(f"- {skills[n % 6]} and thing {n} in context {n * 7}" for n in range(800))


def test_cancels_offline(daemon: DaemonProcess, client: Client) -> None:
    """30 cancels at random moments of an offline job: `cancelled`, and nothing in the user's directory."""
    params = {"cv": FILES["cv"], "offer": big_offer()}
    took = min(timed(client, params) for _ in range(4))  # at the first its zygote is started
    gone = [job.cancel.gone_s or 0 for job in cancel_at_random(daemon, client, params, 0.7 * took, 6) if job.cancel]
    assert len(gone) == CANCELS
    print(
        f"offline: a job takes {1000 * took:.0f} ms; {len(gone)} cancels, gone after {1000 * max(gone):.1f} ms at most"
    )


def test_cancels_openai(make_daemon: Callable[..., DaemonProcess]) -> None:
    """30 cancels at random moments of a job that asks a model, which streams, or has said nothing yet.

    `cancelled`, nothing left, each connection closed, no request made again.
    """
    with OpenAIServer(*[trickle(), hang()] * CANCELS) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test-secret", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with daemon.client() as client:
            for number in (1, 2):  # at the first its zygote is started
                began = time.monotonic()
                first = client.submit("generate-cv", FILES)
                server.wait_request(number)
                asked_s = time.monotonic() - began
                client.cancel(first.id)
            jobs = list(cancel_at_random(daemon, client, FILES, 2.5 * asked_s, 7))
            assert len(jobs) == CANCELS
            assert files_of(daemon) == []
        server.wait_closed()
        assert len(server.requests) <= CANCELS + 2
        gone = max((job.cancel.gone_s or 0) for job in jobs if job.cancel)
        print(f"openai: {len(server.requests) - 2} of {CANCELS} had asked; gone after {1000 * gone:.1f} ms at most")
        assert "sk-test-secret" not in daemon.said()


# --- URLs -------------------------------------------------------------------------------------------------------


class Site:
    """A site on loopback with one page, or none that ever comes."""

    def __init__(self, page: bytes | None) -> None:
        self.page = page
        self.requests = 0
        self.closed = threading.Event()

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/offer"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.requests += 1
                if self.page is not None:
                    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(self.page)}\r\n\r\n"
                    connection.sendall(head.encode() + self.page)
                    continue
                if select.select([connection], [], [], 20)[0] and not connection.recv(1):
                    self.closed.set()


def test_an_offer_from_the_web(
    make_daemon: Callable[..., DaemonProcess], daemon: DaemonProcess, client: Client
) -> None:
    """Loopback is refused, and nothing sent there; where who runs the daemon allows it the page is read."""
    with Site(HTML) as site:
        assert failed(finished(client, {"cv": FILES["cv"], "offer_url": site.url}, user="u5")) == "address_refused"
        assert site.requests == 0
        assert files_of(daemon, "u5") == []
        open_to_all = make_daemon(env={"OPENAI_API_KEY": "", "ANNUL_ALLOW_PRIVATE_ADDRESSES": "1"}, name="open")
        open_to_all.start()
        with open_to_all.client() as other, Site(None) as silent:
            job = finished(other, {"cv": FILES["cv"], "offer_url": site.url})
            # Cancelled while it fetches: the site sees the connection close.
            waiting = other.submit("generate-cv", {"cv": FILES["cv"], "offer_url": silent.url})
            wait_until(lambda: silent.requests, "the site to be asked")
            other.cancel(waiting.id)
            assert silent.closed.wait(20)
            assert_gone(open_to_all, other.wait(waiting.id, 20))
        assert job.state is State.COMPLETED, job
        assert job.result["report"]["offer"]["source"] == site.url
        assert job.result["report"]["offer"]["title"] == "Engineer"
        assert job.result["report"]["keywords"]["found"] == ["Python"]
        assert site.requests == 1


# --- bad input --------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no JSON": ({"cv": b"oops"}, "invalid_cv"),
    "no JSON Resume": ({"cv": b"[]"}, "invalid_cv"),
    "a wrong shape": ({"cv": b'{"work": 3}'}, "invalid_cv"),
    "a PDF as the base": ({"cv": make_pdf([CV_LINES])}, "invalid_cv"),
    "a large base": ({"cv": b" " * 1_000_001}, "cv_too_large"),
    "a deep base": ({"cv": b'{"work":' * 100_000}, "invalid_cv"),
    "no such file": ({"cv": "/nowhere/cv.json"}, "no_such_file"),
    "an empty offer": ({"offer_file": b""}, "empty_offer"),
    "a picture": ({"offer_file": b"\x89PNG\0\0\0\0"}, "not_an_offer"),
    "a long offer": ({"offer_file": b"word " * 50_000}, "offer_too_long"),
    "a large offer": ({"offer_file": b" " * 10_000_001}, "offer_too_large"),
    "a large page": ({"offer_file": b"<html><p>" + b"<p>x" * 2_000_000}, "out_of_memory|offer_too_long"),
    "many pages": ({"offer_file": make_pdf([["Welder"]] * 51)}, "too_many_pages"),
    "an empty PDF": ({"offer_file": make_pdf([[]])}, "no_text"),
    "a broken PDF": ({"offer_file": b"%PDF-1.4 oops"}, "corrupt_pdf"),
    "another scheme": ({"offer_url": "file:///etc/passwd"}, "bad_url"),
    "credentials": ({"offer_url": "http://user:secret@example.org/"}, "bad_url"),
    "metadata": ({"offer_url": "http://169.254.169.254/latest/meta-data/"}, "address_refused"),
    "a private address": ({"offer_url": "https://[::ffff:10.0.0.1]/"}, "address_refused"),
}


WRONG: tuple[dict[str, Any], ...] = (
    {},
    {"cv": b"x"},
    {"offer": "x"},
    {**FILES, "offer": "x"},
    {**FILES, "cv_id": "x"},
    {**FILES, "pages": 9},
    {**FILES, "x": 1},
    {**FILES, "allow_private_addresses": True},  # that is for who runs the daemon to say
    {"cv": "relative.json", "offer": "x"},
)


def test_bad_input_ends_clearly(daemon: DaemonProcess, client: Client) -> None:
    """Wrong parameters make no job; each kind of bad input ends as `failed` with its own code and words.

    Nothing is written, and the daemon goes on.
    """
    for params in WRONG:
        with pytest.raises(RequestRefused) as caught:
            client.submit("generate-cv", params)
        assert caught.value.code == "invalid_params"
    with pytest.raises(RequestRefused, match="exactly one of cv, cv_id"):
        client.submit("generate-cv", {"offer": "x"})
    for case, (params, code) in BAD.items():
        cv = {} if "cv" in params else {"cv": FILES["cv"]}
        offer = {} if "offer_file" in params or "offer_url" in params else {"offer": OFFER.read_text()}
        job = finished(client, {**params, **cv, **offer, "engine": "offline"}, user="u6")
        assert failed(job) in code.split("|"), (case, job.error)
        assert "secret" not in (job.error.message if job.error else ""), case
    assert files_of(daemon, "u6") == []
    assert client.ping().running == 0
