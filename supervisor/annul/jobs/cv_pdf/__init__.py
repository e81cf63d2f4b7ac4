"""A JSON Resume as a PDF, made by typst's compiler, offline.

    view.py      the resume as what is printed: lines, links and bullets in order · words.py: headings and dates
    compiler.py  that and a template to a PDF
    common.typ   what both templates start with · classic.typ sidebar.typ

Only light modules are imported here: the daemon imports what checks parameters. A job type that renders names
``annul.jobs.cv_pdf.compiler`` in its `preload`.
"""

from __future__ import annotations

import msgspec

from annul.jobs.resume import Resume

TEMPLATES = ("classic", "sidebar")  # one column with serifs; skills and languages in a column of their own, without
PAPERS = ("a4", "letter")


class Rendered(msgspec.Struct, frozen=True):
    """A resume as a PDF."""

    pdf: bytes
    pages: int
    notes: tuple[str, ...] = ()  # what a person should look at, a sentence each: say, letters that no font has


def render(resume: Resume, *, template: str, paper: str, language: str) -> Rendered:
    """Print a resume. Runs in the job's process, in one call of a C library: a cancel is noticed when it returns.

    `template`: of `TEMPLATES`. `paper`: of `PAPERS`. `language`: a BCP 47 tag ("fr", "pt-BR"), for headings and dates
    (English, French, German, Spanish, Italian, Portuguese; English for others) and for who reads it aloud.

    All sections are printed, empty ones left out; not `basics.image` and `meta`. The same arguments give the same
    bytes, with the same version of typst, and of the machine's fonts where the built-in ones lack a character. The
    text is data: nothing in it is run, and no file is read for it.

    Raises JobError: ``no_renderer`` (typst is not installed), ``too_large`` (beyond what a CV may hold),
    ``empty_cv`` (nothing to print), ``bad_language``, ``render_failed``. ValueError: another template or paper.
    """
    from annul.jobs.cv_pdf.compiler import compile_pdf
    from annul.jobs.cv_pdf.view import view_of

    if template not in TEMPLATES:
        raise ValueError(f"the templates are {', '.join(TEMPLATES)}: {template!r} is none")
    if paper not in PAPERS:
        raise ValueError(f"the papers are {', '.join(PAPERS)}: {paper!r} is none")
    pdf, pages, notes = compile_pdf(view_of(resume, language=language), template=template, paper=paper)
    return Rendered(pdf=pdf, pages=pages, notes=notes)
