"""What the documents say is what the code does."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

from annul import __version__

ROOT = Path(__file__).parents[2]


def test_the_lifecycle_table_in_the_architecture_is_the_codes() -> None:
    """`make docs` would change nothing."""
    render = runpy.run_path(str(ROOT / "docs" / "render.py"))
    page = (ROOT / "ARCHITECTURE.md").read_text()
    assert render["rendered"](page) == page


def test_the_version_is_one() -> None:
    """The package's version is the distribution's."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_the_changelog_knows_the_version_to_come() -> None:
    """Changes are told before they are released."""
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
