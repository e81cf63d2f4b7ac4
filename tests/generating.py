"""Running `generate-cv` in the test's own process: what it uses of a JobContext, and the examples."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, cast

import msgspec

from annul.jobs.generate_cv import GenerateCv, GenerateResult, generate_cv
from annul.runtime.context import JobContext

EXAMPLES = Path(__file__).parent.parent / "examples"
BASE = EXAMPLES / "cv-en.json"
OFFER = EXAMPLES / "offer-en.md"
DOCUMENT: dict[str, Any] = json.loads(BASE.read_text(encoding="utf-8"))


class Context:
    """What the job uses of a JobContext, with a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job_id = "j-1"
        self.workdir = root / "work"
        self.workdir.mkdir(exist_ok=True)
        self.log = logging.getLogger("test-generate")
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


def run(ctx: Context, **params: Any) -> GenerateResult:
    """The job, with the example's CV and offer where `params` does not say others."""
    if not {"cv", "cv_id"} & set(params):
        params["cv"] = str(BASE)
    if not {"offer", "offer_file", "offer_url"} & set(params):
        params["offer_file"] = str(OFFER)
    result = generate_cv(cast("JobContext", ctx), msgspec.convert(params, GenerateCv))
    assert isinstance(result, GenerateResult)
    return result
