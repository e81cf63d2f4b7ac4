"""What the documents have a reader type works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from annul_client import State
from harness import TESTS, TIMEOUT_S, DaemonProcess

DOCS = TESTS.parent / "docs"


def blocks(name: str) -> list[str]:
    """The Python in a document, piece by piece."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


def test_the_job_of_the_documents_runs(make_daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    """With its module on the daemon's path; it publishes, fails by its code, and is cancelled within its loop."""
    (tmp_path / "reports.py").write_text(blocks("writing-a-job.md")[0])
    daemon = make_daemon("--jobs", "reports", env={"PYTHONPATH": f"{tmp_path}:{TESTS}"})
    daemon.start()
    with daemon.client() as client:
        done = client.wait(client.submit("report", {"year": 2026}, inputs={"data": b"a\nb\n"}).id, TIMEOUT_S)
        assert (done.state, done.result) == (State.COMPLETED, {"rows": 2})
        assert Path(done.files[0]).read_text() == "a\nb"
        failed = client.wait(client.submit("report", {"year": 2101}).id, TIMEOUT_S)
        assert failed.error is not None
        assert failed.error.code == "too_early"
        job = client.submit("report", {"year": 2026}, inputs={"data": b"a\n" * 100_000})
        client.cancel(job.id)
        assert client.wait(job.id, TIMEOUT_S).state is State.CANCELLED


def test_the_client_of_the_documents_runs(daemon: DaemonProcess, tmp_path: Path) -> None:
    """As a script, with the daemon's address in its environment."""
    (script,) = blocks("getting-started.md")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ANNUL_ENDPOINT": daemon.endpoint},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
