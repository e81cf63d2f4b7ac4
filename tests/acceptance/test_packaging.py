"""The wheel that is built from the source distribution works in an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness import TESTS

ROOT = TESTS.parent


def run(*command: str | Path, cwd: Path, timeout_s: float = 110) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANNUL_", "PYTHON"))}
    env |= {"ANNUL_STATE_DIR": str(cwd / "state"), "ANNUL_RUNTIME_DIR": str(cwd / "run")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Made by way of the source distribution, as `pip install annul` would."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e '.[dev]'")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT), cwd=tmp_path)
    (found,) = (tmp_path / "dist").glob("*.whl")
    return found


def test_the_wheel_has_all_that_it_needs_and_runs(wheel: Path, short_dir: Path) -> None:
    """Templates, queries and types are in it; a job runs from it, in an interpreter that sees no checkout."""
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {path.relative_to(ROOT / "supervisor") for path in (ROOT / "supervisor" / "annul").rglob("*")}
    data |= {path.relative_to(ROOT / "client") for path in (ROOT / "client" / "annul_client").rglob("*")}
    wanted = {str(path) for path in data if path.suffix in (".py", ".typ", ".sql", ".typed")}
    assert {"annul/store/queries.sql", "annul_client/py.typed"} <= wanted <= names
    # The dependencies are this interpreter's: what is tested is the wheel.
    run(sys.executable, "-m", "venv", "--system-site-packages", str(short_dir / "venv"), cwd=short_dir)
    python = short_dir / "venv" / "bin" / "python"
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (short_dir / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "deps.pth").write_text(
        str(site)
    )
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel), cwd=short_dir)
    where = run(python, "-c", "import annul, annul_client; print(annul.__file__, annul_client.__file__)", cwd=short_dir)
    assert where.count(str(short_dir)) == 2, where
    annul = short_dir / "venv" / "bin" / "annul"
    assert run(annul, "--version", cwd=short_dir).startswith("annul")
    assert run(annul, "exec", "--embedded", "--", "echo", "done", cwd=short_dir).strip() == "done"


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "annul re", "COMP_CWORD": "1"}),
        ("zsh", {"COMP_WORDS": "annul re", "COMP_CWORD": "1"}),
        ("fish", {"COMP_WORDS": "annul re", "COMP_CWORD": "re"}),
    ],
)
def test_shells_complete_verbs(short_dir: Path, shell: str, words: dict[str, str]) -> None:
    """As `eval "$(_ANNUL_COMPLETE=bash_source annul)"` has it do; and that is there to be evaluated."""
    annul = Path(sys.executable).with_name("annul")

    def said(how: str, **more: str) -> str:
        env = {**os.environ, "_ANNUL_COMPLETE": f"{shell}_{how}", **more}
        return subprocess.run([annul], env=env, cwd=short_dir, capture_output=True, text=True, timeout=60).stdout

    assert "_ANNUL_COMPLETE" in said("source")
    verbs = re.findall(r"(?m)(?:^plain,|^)(re[a-z]+)", said("complete", **words))
    assert {"result", "resume", "retry", "reprioritize"} <= set(verbs)
