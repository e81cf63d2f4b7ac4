"""The openai engine of `import-pdf`: a CV to a model, its answer to a Resume.

Its text goes, in numbered lines; of a scan, which has none, the pages go as pictures.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from annul.errors import JobError
from annul.jobs.chat.ask import Level, Limits, ask
from annul.jobs.chat.schema import decode_answer, strict_schema
from annul.jobs.import_pdf.engine import Extraction, Progress, Report
from annul.jobs.import_pdf.openai_pictures import draw_pages
from annul.jobs.import_pdf.openai_prompt import (
    NumberedText,
    about_pictures,
    about_text,
    number_lines,
    speaks_to_programs,
)
from annul.jobs.import_pdf.openai_schema import Copied, Written, answer_type, to_resume
from annul.jobs.pdf.document import Document
from annul.jobs.resume import Resume

# Letters and digits a page, on average; fewer are the stamp of a scanner. A page of a CV has 500 and more.
SCAN = 50
DRAWING = 0.2  # of this step's progress
EXPECTED = 1500  # characters of an answer: what a CV without long texts has; of a scan, also what a page adds
SEEN = (
    "The model read this from pictures of the pages, and it cannot be checked against the document: compare names, "
    "dates and addresses yourself."
)


def is_scan(document: Document) -> bool:
    """It has next to no text, or no pages that could be read."""
    letters = sum(char.isalnum() for page in document.pages for char in page.text)
    return letters <= SCAN * len(document.pages)


def extract(
    document: Document,
    *,
    model: str | None,
    level: Level,
    progress: Progress,
    log: logging.Logger,
    limits: Limits | None = None,
) -> Extraction:
    """The CV in `document`, read by a model. Runs in the job's process and blocks.

    `model`, `level`, `progress` and what is raised: as of `annul.jobs.chat.ask.ask`; also ``no_text`` for a document
    without text.
    """
    text = number_lines(document)
    if not text.lines:
        raise JobError("no_text", "the document has no text to read")
    cv, usage, notes = _ask(
        about_text(text),
        text,
        model=model,
        level=level,
        expected_chars=EXPECTED + sum(map(len, text.lines)) // 2,
        progress=progress,
        log=log,
        limits=limits,
    )
    to_programs = [
        f"The document speaks to programs that read it: “{line[:80]}”. It was sent as text of the CV; see that nothing "
        "in the result comes from it."
        for line in [line for line in text.lines if speaks_to_programs(line)][:3]
    ]
    without = [str(page.number) for page in document.pages if not page.text.strip()]
    unread = [f"No text on page {', '.join(without)}: if that is a picture, it was not read."] if without else []
    report = _report(cv, document.reader, len(document.pages), [*to_programs, *unread, *notes])
    report.characters = sum(len(page.text) for page in document.pages)
    return Extraction(cv=cv, usage=usage, report=report)


def extract_scan(
    path: Path,
    *,
    max_pages: int,
    model: str | None,
    level: Level,
    progress: Progress,
    log: logging.Logger,
    limits: Limits | None = None,
) -> Extraction:
    """The CV in the PDF at `path`, seen by a model. Runs in the job's process and blocks.

    Raises as `extract` does, and as `annul.jobs.import_pdf.openai_pictures.draw_pages`.
    """

    def drawing(fraction: float, stage: str) -> None:
        progress(DRAWING * fraction, stage)

    def asking(fraction: float, stage: str) -> None:
        progress(DRAWING + (1 - DRAWING) * fraction, stage)

    pictures, pages = draw_pages(path, max_pages=max_pages, progress=drawing)
    try:
        cv, usage, notes = _ask(
            about_pictures(pictures),
            None,
            model=model,
            level=level,
            expected_chars=EXPECTED * (1 + len(pictures)),
            progress=asking,
            log=log,
            limits=limits,
        )
    except JobError as error:
        # llama.cpp says 500 to a picture that its model cannot see, others say 400.
        if error.code not in ("openai_bad_request", "openai_server_error"):
            raise
        hint = "The CV is a scan and went as pictures: `model` must be one that can see."
        raise JobError(error.code, f"{error.message}. {hint}", retryable=error.retryable) from None
    return Extraction(cv=cv, usage=usage, report=_report(cv, "model", pages, [SEEN, *notes]))


def _ask(
    messages: list[dict[str, Any]],
    text: NumberedText | None,
    *,
    model: str | None,
    level: Level,
    expected_chars: int,
    progress: Progress,
    log: logging.Logger,
    limits: Limits | None,
) -> tuple[Resume, dict[str, Any], list[str]]:
    """The CV that the model makes of `messages`, what it cost, and what a person should check."""
    answer = answer_type(Copied if text else Written)
    said = ask(
        messages,
        name="cv",
        schema=strict_schema(answer),
        model=model,
        level=level,
        expected_chars=expected_chars,
        progress=progress,
        log=log,
        limits=limits,
    )
    cv, notes = to_resume(decode_answer(said.content, answer, "a CV"), text)
    progress(1.0, "read")
    return cv, said.usage, notes


def _report(cv: Resume, reader: str, pages: int, notes: list[str]) -> Report:
    counts = {
        name: len(value) for name, value in msgspec.structs.asdict(cv).items() if value and isinstance(value, list)
    }
    unplaced = cv.meta.annul.get("unplaced", []) if cv.meta else []
    return Report(reader=reader, pages=pages, counts=counts, unplaced=len(unplaced), uncertain=notes)
