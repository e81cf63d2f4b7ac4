"""The openai engine of `import-pdf`: the CV's text in numbered lines to a model, its answer to a Resume."""

from __future__ import annotations

import logging

import msgspec

from annul.errors import JobError
from annul.jobs.chat.ask import Level, Limits, ask
from annul.jobs.chat.schema import decode_answer, strict_schema
from annul.jobs.import_pdf.engine import Extraction, Progress, Report
from annul.jobs.import_pdf.openai_prompt import instructions_and_text, number_lines
from annul.jobs.import_pdf.openai_schema import answer_type, to_resume
from annul.jobs.pdf.document import Document


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
    answer = answer_type()
    system, user = instructions_and_text(text)
    said = ask(
        [{"role": "system", "content": system}, {"role": "user", "content": user}],
        name="cv",
        schema=strict_schema(answer),
        model=model,
        level=level,
        expected_chars=1500 + sum(map(len, text.lines)) // 2,
        progress=progress,
        log=log,
        limits=limits,
    )
    cv, notes = to_resume(decode_answer(said.content, answer, "a CV"), text)
    progress(1.0, "read")
    counts = {
        name: len(value) for name, value in msgspec.structs.asdict(cv).items() if value and isinstance(value, list)
    }
    unplaced = cv.meta.annul.get("unplaced", []) if cv.meta else []
    return Extraction(
        cv=cv,
        usage=said.usage,
        report=Report(
            reader=document.reader,
            pages=len(document.pages),
            characters=sum(len(page.text) for page in document.pages),
            counts=counts,
            unplaced=len(unplaced),
            uncertain=notes,
        ),
    )
