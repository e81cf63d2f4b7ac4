"""PDFs for the tests, made as they are needed: the smallest that a reader takes."""

from __future__ import annotations

import zlib


def make_pdf(pages: list[list[str]], *, compress: bool = False) -> bytes:
    """A PDF with these lines of text on its pages, in Helvetica, WinAnsi."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    kids = []
    for lines in pages:
        text = b"".join(
            b"BT /F1 %d Tf 1 0 0 1 60 %d Tm (%s) Tj ET\n" % (18 if not number else 10, 800 - 14 * number, _escape(line))
            for number, line in enumerate(lines)
        )
        how = b""
        if compress:
            text, how = zlib.compress(text), b" /Filter /FlateDecode"
        objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(text), how, text))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % len(objects)
        )
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    return assemble(objects)


def assemble(objects: list[bytes]) -> bytes:
    """Objects 1, 2, … (the first is the catalog) as a file, with its cross-reference table."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _escape(line: str) -> bytes:
    data = line.encode("cp1252")
    return data.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")


CV_LINES = [
    "Camille Durand",
    "camille.durand@example.org",
    "+33 6 12 34 56 78",
    "",
    "Experience",
    "Data Engineer, Harbour Data, Lyon",
    "Jan 2021 - present",
    "",
    "Education",
    "MSc Computer Science, University of Lyon",
    "2016 - 2018",
    "",
    "Skills",
    "Python, SQL, Linux",
    "",
    "Languages",
    "French (native), English (fluent)",
]


def big_pdf(pages: int = 400) -> bytes:
    """A CV of so many dense pages that reading it takes seconds."""
    filler = [
        f"Line {number}: built, measured and documented the pipeline of harbour {number}." for number in range(55)
    ]
    return make_pdf([CV_LINES, *([filler] * (pages - 1))])
