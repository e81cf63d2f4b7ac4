"""A scan's pages as pictures, which a model that sees can read.

Pictures, and not the file as a content part: servers other than OpenAI's (vLLM, llama.cpp, Ollama) take only pictures,
their `detail` can be asked for, and the model gets what a person sees, without hidden text, metadata and attachments.

pdfium draws them in a child process (openai_pictures_child.py), whose death is told from its exit, and the job goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from annul.errors import JobError
from annul.jobs.import_pdf.engine import Progress
from annul.jobs.pdf.failures import corrupt, too_many_pages

# Pixels. OpenAI's models see at most 768 x 2000 or 2,500 squares of 32; an A4 page has 170 dpi then.
LONGEST_SIDE = 2000
# Bytes of all pictures in base64: OpenAI takes 50 MB, and the job holds them three times while it sends them.
MOST_BYTES = 32_000_000
LONGEST_LINE = 2 * MOST_BYTES  # bytes of the child's
CHILD = Path(__file__).with_name("openai_pictures_child.py")


class Picture(msgspec.Struct, frozen=True):
    """What stands on one page."""

    page: int  # from 1
    jpeg: str  # base64


class _Opened(msgspec.Struct):
    pages: int = 0
    error: str = ""


class _Drawn(msgspec.Struct):
    jpeg: str


def draw_pages(path: Path, *, max_pages: int, progress: Progress) -> tuple[list[Picture], int]:
    """Pictures of all pages that are not blank, and how many pages there are.

    Raises JobError ``no_text`` (all are blank, or the extra [pdf] is not installed), ``too_many_pages``,
    ``too_large`` (the pictures are more than a request can hold), ``corrupt_pdf`` (pdfium cannot open it, or died of
    it). No child is left, whatever is raised.
    """
    if not (find_spec("pypdfium2") and find_spec("PIL")):
        raise JobError(
            "no_text",
            f"reading {path.name}: it has no text layer, and the pages cannot be drawn for the openai engine without "
            "pdfium. Install it: pip install 'annul[pdf]'.",
        )
    # What it draws is a stranger's: it is not given the job's secrets.
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    # -P: this folder's modules do not stand in for the library's.
    command = [sys.executable, "-P", str(CHILD), str(path), str(max_pages), str(LONGEST_SIDE)]
    pictures: list[Picture] = []
    size = 0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as child:
        try:
            assert child.stdout is not None
            opened = msgspec.json.decode(child.stdout.readline(LONGEST_LINE), type=_Opened)
            if opened.error:
                raise corrupt(path, opened.error)
            if opened.pages > max_pages:
                raise too_many_pages(path, opened.pages, max_pages)
            for number in range(1, opened.pages + 1):
                progress((number - 1) / opened.pages, f"drawing page {number} of {opened.pages}")
                jpeg = msgspec.json.decode(child.stdout.readline(LONGEST_LINE), type=_Drawn).jpeg
                size += len(jpeg)
                if size > MOST_BYTES:
                    raise JobError(
                        "too_large",
                        f"reading {path.name}: the pictures of its first {number} pages have {size:,} bytes, the limit "
                        f"of a request is {MOST_BYTES:,}. Give only the pages of the CV.",
                    )
                if jpeg:
                    pictures.append(Picture(number, jpeg))
        except msgspec.DecodeError as error:  # half a line, or none: it died
            raise corrupt(path, "its pages cannot be drawn") from error
        finally:
            child.kill()
    if not pictures:
        raise JobError(
            "no_text",
            f"reading {path.name}: its {opened.pages} pages are blank. Export the CV as a PDF again.",
        )
    return pictures, opened.pages
