"""The PDF of a tailored CV, where the renderer (the extra `annul[pdf]`) is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from annul.errors import JobError
from annul.jobs.cv_pdf import render
from annul.jobs.generate_cv import fit
from annul.jobs.resume import Resume

_TOO_MANY = 10_000  # pages: of what is beyond what the renderer takes


class Printer:
    """Renders versions of a CV and remembers the last; without a renderer it estimates.

    `wanted`: True, the job fails where there is no renderer; None, it goes without; False, none is used.
    Raises JobError: what `annul.jobs.cv_pdf.render` raises, where a PDF was asked for.
    """

    def __init__(
        self,
        *,
        wanted: bool | None,
        template: str,
        paper: str,
        language: str,
        rendering: Callable[[int], None],
    ) -> None:
        self._wanted = wanted
        self._template = template
        self._paper = paper
        self._language = language
        self._rendering = rendering
        self._count = 0
        self._final: dict[str, Any] | None = None  # the version that is kept
        self._last: tuple[bytes, bytes] | None = None  # the CV as JSON, and its PDF
        self.notes: tuple[str, ...] = ()  # of the renderer, on the last version
        self.missing = ""  # why there is no PDF
        if wanted is False:
            self.missing = "none was asked for"

    def _without(self, error: JobError) -> None:
        """Go on without a PDF; not where one was asked for."""
        if self._wanted:
            raise error
        self.missing = error.message

    def pages(self, document: dict[str, Any]) -> int:
        """How many pages a CV takes."""
        if not self.missing:
            self._count += 1
            self._rendering(self._count)
            cv = msgspec.convert(document, Resume)
            try:
                rendered = render(cv, template=self._template, paper=self._paper, language=self._language)
            except JobError as error:
                if error.code == "too_large" and document != self._final:
                    return _TOO_MANY  # with more cut it may not be
                self._without(error)
            else:
                self._last = (msgspec.json.encode(document), rendered.pdf)
                self.notes = rendered.notes
                return rendered.pages
        return fit.estimate(document)

    def pdf(self, document: dict[str, Any]) -> bytes | None:
        """The PDF of a CV, the last there is; None where none is made."""
        if self._last is None or self._last[0] != msgspec.json.encode(document):
            self._final = document
            self.pages(document)
        return self._last[1] if self._last is not None and not self.missing else None
