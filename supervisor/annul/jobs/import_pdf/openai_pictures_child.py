"""The program that draws a PDF's pages with pdfium: PATH MAX_PAGES LONGEST_SIDE, JSON lines on standard output.

A process of its own, since pdfium aborts on a few hostile files. It imports nothing of annul, and is run by its path.
First line: `{"pages": n}`; then, unless that is beyond MAX_PAGES, one a page: `{"jpeg": "<base64>"}`, empty for a page
of one colour. No side has more than LONGEST_SIDE pixels. A file that it cannot open: `{"error": why}`.
"""

from __future__ import annotations

import base64
import io
import json
import resource
import sys
from typing import Any

import pypdfium2
from PIL import Image

# Bounds of its own, below what the job may have: a bomb ends the child only.
SECONDS = 120  # of processor time
MEMORY = 400 * 1024 * 1024  # bytes of data; a colour scan of A4 at 600 dpi needs 140 MB
SHARPEST = 300 / 72  # pixels a point: small pages are not blown up beyond 300 dpi
QUALITY = 80  # of a JPEG; letters of 8 points are as they were


def main(path: str, max_pages: int, longest_side: int) -> None:
    """Print the pages of the file as pictures."""
    for what, limit in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (most, most))
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        say({"error": str(error)})
        return
    count = len(document)
    say({"pages": count})
    if count > max_pages:
        return
    for number in range(count):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:  # listed, and not there
            say({"jpeg": ""})
            continue
        image = draw(page, longest_side)
        say({"jpeg": "" if is_blank(image) else base64.b64encode(jpeg(image)).decode()})
        page.close()


def draw(page: pypdfium2.PdfPage, longest_side: int) -> Image.Image:
    """The page as a viewer shows it, turned as it says, on white."""
    # pdfium rounds the sides up, hence the 1.
    scale = min(SHARPEST, (longest_side - 1) / max(*page.get_size(), 1.0))
    image: Image.Image = page.render(scale=scale).to_pil()
    return image.convert("RGB")


def is_blank(image: Image.Image) -> bool:
    """It has one colour only."""
    return image.getcolors(maxcolors=1) is not None


def jpeg(image: Image.Image) -> bytes:
    """The picture as a JPEG file."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def say(value: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
