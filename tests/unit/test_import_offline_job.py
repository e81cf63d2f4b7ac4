"""The `import-pdf` job with the offline engine: what it writes and gives back, on the example CVs."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from annul.errors import Cancelled
from annul.jobs.import_pdf import ImportPdf, ImportResult, import_pdf
from annul.runtime.context import JobContext

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED = ROOT.parent / "shared"


class Context:
    """What the job uses of a JobContext, with a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job_id = "j-1"
        self.log = logging.getLogger("test")
        self.told: list[tuple[float | None, str]] = []

    def progress(self, fraction: float | None, stage: str = "") -> None:
        self.told.append((fraction, stage))

    def confine(self, *, network: bool, read: list[str]) -> bool:
        """Not in the process of the tests, for which it would be for good."""
        assert all(Path(one).is_absolute() for one in read)
        return network

    def output(self, name: str) -> Path:
        path = self.root / "staging" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def published(self, name: str) -> Path:
        return self.root / "user" / name


def run(ctx: Context, **params: Any) -> ImportResult:
    result = import_pdf(cast("JobContext", ctx), msgspec.convert(params, ImportPdf))
    assert isinstance(result, ImportResult)
    return result


@pytest.mark.parametrize(("name", "person", "posts"), [("cv-en", "Maren Aldous", 3), ("cv-fr", "Amélie Kerouédan", 3)])
def test_an_example_cv(tmp_path: Path, name: str, person: str, posts: int) -> None:
    """The result holds the CV; the staged file holds the same, for its owner only."""
    ctx = Context(tmp_path)
    result = run(ctx, pdf=str(EXAMPLES / f"{name}.pdf"), engine="offline")
    assert result.engine == "offline"
    assert result.files == [str(tmp_path / "user/cvs/j-1.json")]
    staged = tmp_path / "staging/cvs/j-1.json"
    assert stat.S_IMODE(staged.stat().st_mode) & 0o077 == 0
    cv = json.loads(staged.read_text(encoding="utf-8"))
    assert cv == json.loads(msgspec.json.encode(result.cv))
    assert cv["basics"]["name"] == person
    assert len(cv["work"]) == posts
    assert len(cv["education"]) == 2
    assert result.report.uncertain == []


def test_progress_never_falls_and_ends_at_one(tmp_path: Path) -> None:
    """Reading is the first part of the bar, the engine the next, writing the last."""
    ctx = Context(tmp_path)
    run(ctx, pdf=str(EXAMPLES / "cv-en.pdf"), engine="offline")
    fractions = [fraction for fraction, _ in ctx.told if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert all(stage for _, stage in ctx.told)


def test_auto_is_offline_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OPENAI_API_KEY nothing leaves the machine, and the result says which engine it was."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(Context(tmp_path), pdf=str(EXAMPLES / "cv-fr.pdf")).engine == "offline"


@pytest.mark.parametrize("at", range(6))
def test_a_cancelled_import_writes_nothing(tmp_path: Path, at: int) -> None:
    """Cancelled at any step: it comes through, and no file was begun."""
    ctx = Context(tmp_path)

    def cancel(fraction: float | None, stage: str = "") -> None:
        ctx.told.append((fraction, stage))
        if len(ctx.told) > at:
            raise Cancelled

    ctx.progress = cancel  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        run(ctx, pdf=str(EXAMPLES / "cv-en.pdf"), engine="offline")
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize(
    "params",
    [{}, {"pdf": "x", "engine": "guess"}, {"pdf": "x", "max_pages": 0}, {"pdf": "x", "unknown": 1}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    """Before the job is queued: a missing path, an unknown engine, a limit of 0, an unknown name."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(params, import_pdf.params)


def test_the_daemon_imports_no_heavy_library() -> None:
    """Checking parameters needs neither pypdf nor openai nor phonenumbers."""
    program = (
        "import sys, annul.jobs.import_pdf; "
        "print([name for name in ('pypdf', 'openai', 'phonenumbers', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not (SHARED / "tools/score_cv.py").exists(), reason="the corpus and its scorer are not here")
def test_the_corpus_is_read_as_well_as_the_readme_says() -> None:
    """Micro-F1 of at least 0.90 on contacts and 0.75 on posts and degrees (exit status 0 of the measurement)."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/eval_cv.py")], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
