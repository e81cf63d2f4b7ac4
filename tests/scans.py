"""Scans for the tests: PDFs whose pages are pictures."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

A4 = (595, 842)  # points; also the pixels of a page at 72 dpi


def make_scan(*pages: list[str] | str, size: tuple[int, int] = A4) -> bytes:
    """A PDF of one picture a page: with these lines of text, or of one colour and a black frame ("white": blank)."""
    images = []
    for page in pages:
        image = Image.new("RGB", size, page if isinstance(page, str) else "white")
        draw = ImageDraw.Draw(image)
        if isinstance(page, list):
            for number, line in enumerate(page):
                draw.text((60, 40 + 20 * number), line, fill="black")
        elif page != "white":
            draw.rectangle((5, 5, size[0] - 5, size[1] - 5), outline="black")
        images.append(image)
    out = io.BytesIO()
    images[0].save(out, "PDF", save_all=True, append_images=images[1:])
    return out.getvalue()
