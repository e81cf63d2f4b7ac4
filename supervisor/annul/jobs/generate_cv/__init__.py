"""`generate-cv`: a base CV and a job offer to a CV tailored to it, JSON Resume and PDF, with every change told.

    base.py      the base CV: a file, or one that annul published for this user
    offer.py     the offer to text (page.py HTML, fetch.py and addresses.py URLs)
    words.py     words that can be compared (known.py names of skills)
    terms.py     what the offer asks for · places.py what the CV has of it, and the score
    edits.py     edits and applying them · gates.py which ones invent, and are not made
    offline.py   skills to show · openai_engine.py edits by a model (openai_prompt.py; ../chat/)
    plan.py      what comes first, what may go · fit.py how much has to · tailor.py all of it together
    pdf.py       ../cv_pdf, where it is installed

Only light modules are imported here: the daemon imports this one to check parameters.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from annul.errors import JobError
from annul.jobs.generate_cv.report import Keywords, Report, Score, Source
from annul.jobs.preload import CV_JOBS
from annul.jobs.resume import Resume
from annul.jobtype import InputFile, job
from annul.runtime.context import JobContext

# Of the progress bar, at the end of each stage.
BASE, OFFER, ENGINE, FITTED = 0.05, 0.3, 0.7, 0.98
MAX_CHARS = 200_000  # of an offer
RENDERS = 14  # about as many as fitting may take: log2 of some thousand highlights


class GenerateCv(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Parameters of `generate-cv`: one base CV (`cv`, `cv_id`) and one offer (`offer`, `offer_file`, `offer_url`)."""

    cv: Annotated[str, InputFile.MARK, Meta(description="base CV: a JSON Resume file")] | None = None  # path
    cv_id: Annotated[str, Meta(min_length=1, max_length=200, description="or the id of a job that made it")] | None = (
        None
    )
    offer: Annotated[str, Meta(min_length=1, max_length=MAX_CHARS, description="the job offer's text")] | None = None
    offer_file: Annotated[str, InputFile.MARK, Meta(description="or a file: text, Markdown, HTML or PDF")] | None = (
        None  # path
    )
    offer_url: Annotated[str, Meta(min_length=1, max_length=2048, description="or its public web address")] | None = (
        None
    )
    engine: Literal["auto", "openai", "offline"] = "auto"  # auto: openai where OPENAI_API_KEY is set
    level: Literal["rapid", "medium", "deep"] = "medium"  # of the openai engine: how much care, and cost
    model: str | None = None  # of the openai engine; None: the level's
    language: Literal["auto", "en", "fr", "de", "es"] = "auto"  # of the CV; auto: told by its words
    pages: Annotated[int, Meta(ge=1, le=2)] = 2  # what does not fit is cut, the least relevant first
    pdf: bool | None = None  # None: where the renderer is installed
    template: Literal["classic", "sidebar"] = "classic"  # of the PDF
    paper: Literal["a4", "letter"] = "a4"

    def __post_init__(self) -> None:
        for names in (("cv", "cv_id"), ("offer", "offer_file", "offer_url")):
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) != 1:
                was = f"not {' and '.join(given)}" if given else "none is given"
                raise ValueError(f"give exactly one of {', '.join(names)}: {was}")


class GenerateResult(msgspec.Struct, kw_only=True):
    """What `generate-cv` gives back."""

    cv: Resume  # the tailored one
    files: list[str]  # absolute paths: the JSON file, and the PDF where one was made
    engine: str  # "openai" or "offline": which one it was
    usage: dict[str, Any]  # of the openai engine: tokens, model, seconds
    report: Report


@job(
    "generate-cv",
    grace_s=5,
    timeout_s=600,
    preload=CV_JOBS,
    on_shutdown="queue",
    memory_bytes=512 * 1024 * 1024,
    env=("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANNUL_ALLOW_PRIVATE_ADDRESSES", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
def generate_cv(ctx: JobContext, params: GenerateCv) -> GenerateResult:
    """Tailor a CV to a job offer."""
    try:
        return _generate(ctx, params)
    except MemoryError as error:
        raise JobError(
            "out_of_memory", "tailoring the CV took more memory than a job may have. Give the offer's text alone."
        ) from error


def _generate(ctx: JobContext, params: GenerateCv) -> GenerateResult:
    from annul.jobs.generate_cv import gates
    from annul.jobs.generate_cv.openai_engine import propose
    from annul.jobs.generate_cv.pdf import Printer
    from annul.jobs.generate_cv.places import match
    from annul.jobs.generate_cv.tailor import tailor
    from annul.jobs.generate_cv.terms import terms
    from annul.jobs.generate_cv.words import language_of

    engine = params.engine
    if engine == "auto":
        engine = "openai" if os.environ.get("OPENAI_API_KEY") else "offline"

    ctx.progress(0.0, "reading the base CV")
    read = _base(ctx, params)
    # What comes next is a stranger's: a page, a PDF, a model's answer.
    files = [params.offer_file] if params.offer_file else []
    ctx.confine(network=engine == "openai" or params.offer_url is not None, read=files)
    document = msgspec.to_builtins(read.cv)
    language = _language(params, document)

    def rendering(count: int) -> None:
        ctx.progress(ENGINE + (FITTED - ENGINE) * min(1.0, count / RENDERS), f"rendering the PDF, version {count}")

    printer = Printer(
        wanted=params.pdf, template=params.template, paper=params.paper, language=language, rendering=rendering
    )
    ctx.progress(BASE, "reading the offer")
    offer = _offer(ctx, params)
    ctx.progress(OFFER, "comparing the CV with the offer")
    base = gates.base_of(document, language)
    wanted = terms(offer.text, language, without=offer.company)
    report = Report(dropped=read.dropped, language=language)
    proposals = None
    if engine == "openai":

        def thinking(fraction: float, stage: str) -> None:
            ctx.progress(OFFER + (ENGINE - OFFER) * fraction, stage)

        proposals, notes = propose(
            base,
            offer,
            match(base.places, wanted),
            model=params.model,
            level=params.level,
            progress=thinking,
            log=ctx.log,
        )
        report.uncertain += notes
    ctx.progress(ENGINE, "fitting the CV to its pages")
    made = tailor(base, wanted, proposals, pages=params.pages, pages_of=printer.pages)
    cv = msgspec.convert(made.document, Resume)

    report.keywords = Keywords(
        found=[term.text for term in made.before.found],
        injectable=[term.text for term in made.before.injectable],
        missing=[term.text for term in made.before.missing],
    )
    report.score = Score(before=made.before.score, after=made.after.score)
    report.edits, report.rejected = made.edits, made.rejected
    report.offer = Source(
        source=offer.source,
        kind=offer.kind,
        title=offer.title,
        company=offer.company,
        language=language_of(offer.text),
        characters=len(offer.text),
    )
    report.pages = made.pages
    report.uncertain += made.notes
    _doubts(report, wanted=len(wanted))

    pdf = printer.pdf(made.document)
    report.pdf = pdf is not None
    report.uncertain += printer.notes
    if pdf is None and params.pdf is not False:
        report.uncertain.append(f"No PDF was made: {printer.missing}. The number of pages is an estimate.")
    ctx.progress(FITTED, "writing the CV")
    outputs = {f"cvs/{ctx.job_id}.json": msgspec.json.format(msgspec.json.encode(cv), indent=2) + b"\n"}
    if pdf is not None:
        outputs[f"cvs/{ctx.job_id}.pdf"] = pdf
    for name, data in outputs.items():
        file = ctx.output(name)
        file.touch(mode=0o600)
        file.write_bytes(data)
    ctx.progress(1.0, "done")
    return GenerateResult(
        cv=cv,
        files=[str(ctx.published(name)) for name in outputs],
        engine=engine,
        usage=proposals.usage if proposals is not None else {},
        report=report,
    )


def _base(ctx: JobContext, params: GenerateCv) -> Any:
    from annul.jobs.generate_cv import base

    if params.cv is not None:
        return base.from_file(Path(params.cv))
    assert params.cv_id is not None
    # Only once it is known to be no path: `published` keeps to the user's directory, but has an error of its own.
    where = ctx.published(f"cvs/{params.cv_id}.json") if base.is_id(params.cv_id) else Path()
    return base.from_id(params.cv_id, where)


def _offer(ctx: JobContext, params: GenerateCv) -> Any:
    from annul.jobs.generate_cv import offer

    def reading(fraction: float, stage: str) -> None:
        ctx.progress(BASE + (OFFER - BASE) * fraction, stage)

    if params.offer is not None:
        return offer.from_text(params.offer)
    if params.offer_file is not None:
        return offer.from_file(Path(params.offer_file), reading)
    assert params.offer_url is not None
    return offer.from_url(params.offer_url, ctx.workdir, reading)


def _language(params: GenerateCv, document: dict[str, Any]) -> Any:
    from annul.jobs.generate_cv.places import texts
    from annul.jobs.generate_cv.words import language_of

    if params.language != "auto":
        return params.language
    return language_of("\n".join(text for path, text in texts(document) if "/url" not in path))


def _doubts(report: Report, *, wanted: int) -> None:
    """What a person should know before the CV is sent."""
    if wanted < 5:
        report.uncertain.append(f"The offer has only {wanted} terms to go by; the score says little.")
    if report.offer.language != report.language:
        report.uncertain.append(
            f"The offer seems to be in {report.offer.language!r}, the CV in {report.language!r}: only what both write "
            "alike is found, and nothing is translated."
        )
    rewritten = sum(edit.action == "replace" for edit in report.edits)
    if rewritten:
        report.uncertain.append(
            f"{rewritten} texts were put in other words by a model. Their words stand in the base CV; check what "
            "they say."
        )
