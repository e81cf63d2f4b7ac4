"""What the documents say is what the code does."""

from __future__ import annotations

import re
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


DOCUMENTS = ("getting-started", "writing-a-job", "operating", "protocol", "security", "design")


def anchors(page: str) -> set[str]:
    """The fragments that lead to a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page))
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    return {*slugs, *(f"{slug}-{slugs[:number].count(slug)}" for number, slug in enumerate(slugs))}


def test_every_link_leads_somewhere() -> None:
    """From page to page, and to headings in them; the README leads to each document."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    found = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if ":" in target:
                continue  # of the web
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there.read_text()), f"{page.name}: {target}"
            found.append((page.name, there.name))
    assert {("README.md", f"{name}.md") for name in DOCUMENTS} <= set(found)
