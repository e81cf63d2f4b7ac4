"""The clients in examples/ against a real daemon: in JavaScript, in bare Python, from a shell, and a web service."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from annul_client import Client, State
from harness import TIMEOUT_S, DaemonProcess, processes_with
from openai_server import OpenAIServer, hang
from pdf import CV_LINES, make_pdf

EXAMPLES = Path(__file__).parents[2] / "examples"


def environment(daemon: DaemonProcess) -> dict[str, str]:
    """With the daemon's address, and this Python and what is installed beside it first in the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "ANNUL_ENDPOINT": daemon.endpoint}


def run(daemon: DaemonProcess, *command: str) -> list[str]:
    """What it prints, once it has ended well."""
    done = subprocess.run(
        command, env=environment(daemon), cwd=EXAMPLES, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def assert_cancelled(client: Client, reason: str) -> None:
    """There was one job, and it is cancelled: by the daemon's word, and with none of its processes left."""
    (job,) = client.list()
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.reason == reason
    assert not processes_with(f"ANNUL_MARK={job.id}.")


# --- other languages ----------------------------------------------------------------------------------------


def test_bare_pyzmq(daemon: DaemonProcess, client: Client) -> None:
    """It cancels the job that it has seen running."""
    outcome, *events = run(daemon, sys.executable, "bare_pyzmq.py")
    assert outcome == "cancelling"
    assert [line.split()[1] for line in events] == ["queued", "starting", "running", "cancelling", "cancelled"]
    assert_cancelled(client, "seen enough")


def test_a_shell_with_the_command_line(daemon: DaemonProcess, client: Client, tmp_path: Path) -> None:
    """By what it prints as JSON."""
    if not shutil.which("jq"):
        pytest.skip("there is no jq")
    assert run(daemon, "sh", "cli.sh") == ["cancelling", "cancelled", "sigterm"]
    assert_cancelled(client, "seen enough")


def test_a_shell_without_it(daemon: DaemonProcess, client: Client) -> None:
    """With the protocol's JSON as it is."""
    cancel, wait = map(json.loads, run(daemon, "sh", "bare.sh"))
    assert cancel["ok"]["outcome"] in ("cancelling", "cancelled_before_start")
    assert wait["ok"]["job"]["state"] == "cancelled"
    assert_cancelled(client, "seen enough")


@pytest.fixture
def node(short_dir: Path) -> Path:
    """The example for Node, in a directory where what it needs is installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no node, or no npm")
    place = short_dir / "node"
    place.mkdir()
    for name in ("package.json", "package-lock.json", "job.js"):
        shutil.copy(EXAMPLES / "node" / name, place)
    # Its binaries come with the package; nothing is compiled, and no script of it is run.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install what it needs here: {done.stderr.strip()[-300:]}")
    return place / "job.js"


def test_node(node: Path, daemon: DaemonProcess, client: Client) -> None:
    """It follows one job to its end; it cancels another at Ctrl-C, and sees that too."""
    quick = run(daemon, "node", str(node), "quick")
    assert [line.split()[0] for line in quick] == ["queued", "starting", "running", "completed"]
    with subprocess.Popen(
        ["node", str(node), "exec", json.dumps({"argv": ["sleep", "1000"]})],
        env=environment(daemon),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.strip() == "running":
                    process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 1
        finally:
            process.kill()
    assert "cancel: cancelling" in lines
    lines.remove("cancel: cancelling")
    assert lines == ["queued", "starting", "running", "cancelling", "cancelled"]
    client.purge(type="quick")
    assert_cancelled(client, "Ctrl-C")


# --- a web service ------------------------------------------------------------------------------------------


@contextmanager
def serving(daemon: DaemonProcess) -> Iterator[int]:
    """The service, ready; its port on the loopback."""
    pytest.importorskip("starlette", reason="the extra `examples` is not installed")
    pytest.importorskip("uvicorn", reason="the extra `examples` is not installed")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        command = ["uvicorn", "web_service:app", "--app-dir", str(EXAMPLES), "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--log-level", "warning", "--timeout-graceful-shutdown", "5"],
            env=environment(daemon),
            pass_fds=[listening.fileno()],
        )
        port: int = listening.getsockname()[1]
    try:
        yield port
    finally:
        process.terminate()
        assert process.wait(TIMEOUT_S) in (0, -signal.SIGTERM)


@contextmanager
def posting(port: int, body: bytes) -> Iterator[http.client.HTTPConnection]:
    """A browser that has sent a CV, and has no answer yet; it goes away at the end."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as browser:
        browser.request("POST", "/cvs?user=u1", body)
        yield browser


def test_a_web_service_imports_and_says_what_is_wrong(daemon: DaemonProcess, client: Client) -> None:
    """The CV comes back as JSON Resume; what is none is an error with a code."""
    with serving(daemon) as port:
        with posting(port, make_pdf([CV_LINES])) as browser:
            answer = browser.getresponse()
            assert (answer.status, json.load(answer)["basics"]["name"]) == (200, "Camille Durand")
        with posting(port, b"no PDF") as browser:
            answer = browser.getresponse()
            assert (answer.status, json.load(answer)["code"]) == (422, "not_a_pdf")
    assert [job.state for job in client.list(user="u1")] == [State.FAILED, State.COMPLETED]


def test_a_web_service_cancels_when_the_browser_goes_away(make_daemon: Callable[..., DaemonProcess]) -> None:
    """The import hangs in a request to its model; the connection is closed, and the job is gone."""
    with OpenAIServer(hang()) as server:
        daemon = make_daemon(env={"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url})
        daemon.start()
        with serving(daemon) as port, daemon.client() as client:
            with posting(port, make_pdf([CV_LINES])):
                server.wait_request()
                (job,) = client.list()
                assert job.state is State.RUNNING
            job = client.wait(job.id, TIMEOUT_S)
            assert job.cancel is not None
            assert job.cancel.by == "web"
            assert_cancelled(client, "the browser went away")
            server.wait_closed()
