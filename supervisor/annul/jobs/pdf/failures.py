"""How reading a PDF fails: each kind as a `JobError` with a stable code and what to do."""

from __future__ import annotations

from pathlib import Path

from annul.errors import JobError


def corrupt(path: Path, why: str) -> JobError:
    return JobError(
        "corrupt_pdf",
        f"reading {path.name}: it is damaged and cannot be read ({why[:300]}). "
        "Open it in a viewer, print it to a new PDF and import that.",
    )


def encrypted(path: Path, why: str) -> JobError:
    return JobError(
        "encrypted_pdf",
        f"reading {path.name}: it is encrypted ({why[:200]}). Save a copy without a password and import that.",
    )


def out_of_memory(path: Path) -> JobError:
    return JobError(
        "out_of_memory",
        f"reading {path.name} took more memory than a job may have. Print it to a new PDF and import that.",
    )


def too_many_pages(path: Path, count: int, limit: int) -> JobError:
    return JobError(
        "too_many_pages",
        f"reading {path.name}: it has {count:,} pages, the limit is {limit:,} (max_pages). "
        "Give only the pages of the CV or raise the limit.",
    )


def too_much_text(path: Path, characters: int, limit: int, page: int, count: int) -> JobError:
    """`characters`: how many there are at least, by `page`."""
    return JobError(
        "too_much_text",
        f"reading {path.name}: it has at least {characters:,} characters by page {page} "
        f"of {count}, the limit is {limit:,} (max_chars). Give only the pages of the CV or raise the "
        "limit.",
    )


def no_text(path: Path, count: int, characters: int) -> JobError:
    return JobError(
        "no_text",
        f"reading {path.name}: there is no text layer on its {count} pages ({characters} characters found); it "
        "is blank or made of images. Run text recognition (OCR) on it, or export the CV as a PDF again.",
    )
