"""`import-pdf`: a CV in PDF to JSON Resume v1.0.0.

    ../pdf/          the PDF to a Document: text with places, fonts, columns
    europass/        the XML that Europass PDFs carry, instead of an engine
    offline/         the engine that works by rules, on this machine
    openai_engine.py the engine that asks a model (openai_prompt.py, openai_schema.py; ../chat/), and shows it scans
                     (openai_pictures.py)
    engine.py        what both engines give back: a ../resume.py

Only light modules are imported here: the daemon imports this one to check parameters.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from annul.errors import JobError
from annul.jobs.import_pdf.engine import Report
from annul.jobs.preload import CV_JOBS
from annul.jobs.resume import Resume
from annul.jobtype import InputFile, job
from annul.runtime.context import JobContext

READ = 0.6  # of the progress bar: reading; the engine has the rest, but for writing the file
ENGINE = 0.98


class ImportPdf(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Parameters of `import-pdf`."""

    pdf: Annotated[str, InputFile.MARK]  # path
    engine: Literal["auto", "openai", "offline"] = "auto"  # auto: openai where OPENAI_API_KEY is set
    level: Literal["rapid", "medium", "deep"] = "medium"  # of the openai engine: how much care, and cost
    model: str | None = None  # of the openai engine; None: the level's
    max_pages: Annotated[int, Meta(ge=1, le=10_000)] = 50
    max_bytes: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 10_000_000
    max_chars: Annotated[int, Meta(ge=1, le=50_000_000)] = 200_000


class ImportResult(msgspec.Struct, kw_only=True):
    """What `import-pdf` gives back."""

    cv: Resume
    files: list[str]  # absolute path of the JSON file
    engine: str  # "openai" or "offline": which one it was
    usage: dict[str, Any]  # of the openai engine: tokens, model, seconds
    report: Report


@job(
    "import-pdf",
    grace_s=5,
    timeout_s=600,
    preload=CV_JOBS,
    on_shutdown="queue",
    memory_bytes=512 * 1024 * 1024,
    cpu_s=300,
    max_open_files=256,
    max_processes=64,
    env=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
)
def import_pdf(ctx: JobContext, params: ImportPdf) -> ImportResult:
    """Import a CV from a PDF as JSON Resume."""
    from annul.jobs.pdf.document import Document
    from annul.jobs.pdf.reader import read

    engine = params.engine
    if engine == "auto":
        engine = "openai" if os.environ.get("OPENAI_API_KEY") else "offline"
    ctx.confine(network=engine == "openai", read=[params.pdf])  # what it parses is a stranger's

    def reading(fraction: float, stage: str) -> None:
        ctx.progress(READ * fraction, stage)

    def thinking(fraction: float, stage: str) -> None:
        ctx.progress(READ + (ENGINE - READ) * fraction, stage)

    try:
        document = read(
            Path(params.pdf),
            max_pages=params.max_pages,
            max_bytes=params.max_bytes,
            max_chars=params.max_chars,
            progress=reading,
        )
    except JobError as error:
        if error.code != "no_text":
            raise
        if engine != "openai":
            raise JobError("no_text", f"{error.message} The openai engine can read scans (OPENAI_API_KEY).") from None
        document = Document(pages=[], reader="")
    try:
        from annul.jobs.import_pdf import europass

        attached, unread = europass.extract(Path(params.pdf), document)
        if attached is not None:
            engine, extraction = "offline", attached  # nothing is to be told by rules, nor asked
        elif engine == "openai":
            from annul.jobs.import_pdf import openai_engine as ask

            asked: Any = {"model": params.model, "level": params.level, "progress": thinking, "log": ctx.log}
            if ask.is_scan(document):
                extraction = ask.extract_scan(Path(params.pdf), max_pages=params.max_pages, **asked)
            else:
                extraction = ask.extract(document, **asked)
        else:
            from annul.jobs.import_pdf.offline import extract

            extraction = extract(document, progress=thinking)
        if unread:
            extraction.report.uncertain.insert(0, unread)
    except MemoryError as error:
        raise JobError(
            "out_of_memory",
            f"importing {Path(params.pdf).name} took more memory than a job may have. Give only the pages of the CV.",
        ) from error

    name = f"cvs/{ctx.job_id}.json"
    data = msgspec.json.encode(extraction.cv)
    try:
        msgspec.json.decode(data, type=Resume)  # the schema's patterns are checked when it is read, not when it is made
    except msgspec.ValidationError as error:
        raise JobError("invalid_cv", f"what the {engine} engine made of the CV is no JSON Resume: {error}") from error
    file = ctx.output(name)
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.format(data, indent=2) + b"\n")
    ctx.progress(1.0, "done")
    return ImportResult(
        cv=extraction.cv,
        files=[str(ctx.published(name))],
        engine=engine,
        usage=extraction.usage,
        report=extraction.report,
    )
