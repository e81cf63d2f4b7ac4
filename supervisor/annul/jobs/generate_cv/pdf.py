"""The PDF of a tailored CV, where the renderer (the extra `annul[pdf]`) is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import msgspec

from annul.errors import JobError
from annul.jobs.generate_cv import fit
from annul.jobs.resume import Resume


_TOO_MANY = 10_000  # pages: of what is beyond what the renderer takes


class Printer:
    """Renders versions of a CV and remembers the last; without a renderer it estimates.

    `wanted`: True, the job fails where there is no renderer; None, it goes without; False, none is used.
    Raises JobError ``no_renderer``, ``bad_template``, ``bad_paper``, and what `annul.jobs.cv_pdf.render` raises.
    """

    def __init__(
        self,
        *,
        wanted: bool | None,
        template: str | None,
        paper: str | None,
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
        self._check()

    def _check(self) -> None:
        """Wrong names before any work is done."""
        try:
            cv_pdf = importlib.import_module("annul.jobs.cv_pdf")
        except ImportError:
            self._without("the renderer (annul[pdf]) is not installed")
            return
        for what, given, known in (
            ("template", self._template, cv_pdf.TEMPLATES),
            ("paper", self._paper, cv_pdf.PAPERS),
        ):
            if given is not None and given not in known:
                raise JobError(
                    f"bad_{what}", f"making the PDF: there is no {what} {given[:40]!r}; known: {', '.join(known)}"
                )
        self._template = self._template or next(iter(cv_pdf.TEMPLATES))
        self._paper = self._paper or next(iter(cv_pdf.PAPERS))

    def _without(self, why: str, error: JobError | None = None) -> None:
        """Go on without a PDF; not where one was asked for."""
        if self._wanted:
            if error is not None:
                raise error
            raise JobError("no_renderer", f"making the PDF: {why}. Install annul[pdf], or ask for none (pdf: false).")
        self.missing = self.missing or why

    def pages(self, document: dict[str, Any]) -> int:
        """How many pages a CV takes."""
        if not self.missing:
            render = importlib.import_module("annul.jobs.cv_pdf").render
            self._count += 1
            self._rendering(self._count)
            cv = msgspec.convert(document, Resume)
            assert self._template is not None
            assert self._paper is not None
            try:
                rendered = render(cv, template=self._template, paper=self._paper, language=self._language)
            except JobError as error:
                if error.code == "too_large" and document != self._final:
                    return _TOO_MANY  # with more cut it may not be
                self._without(error.message, error)
            else:
                self._last = (msgspec.json.encode(document), rendered.pdf)
                self.notes = tuple(rendered.notes)
                return int(rendered.pages)
        return fit.estimate(document)

    def pdf(self, document: dict[str, Any]) -> bytes | None:
        """The PDF of a CV, the last there is; None where none is made."""
        if self._last is None or self._last[0] != msgspec.json.encode(document):
            self._final = document
            self.pages(document)
        return self._last[1] if self._last is not None and not self.missing else None
