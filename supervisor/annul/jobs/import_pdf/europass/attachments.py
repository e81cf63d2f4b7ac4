"""The XML files that a PDF carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader, apply_configuration
from pypdf.errors import PyPdfError

LARGEST = 20_000_000  # bytes once decompressed; one with a photograph has a few millions
MOST = 20  # files looked at


def xml_of(path: Path) -> Iterator[bytes]:
    """The attached files that are XML. A damaged or an oversized attachment is passed over."""
    with (
        path.open("rb") as file,
        apply_configuration(
            zlib_maximum_output_length=LARGEST,
            lzw_maximum_output_length=LARGEST,
            run_length_maximum_output_length=LARGEST,
            stream_decoding_work_maximum_length=2 * LARGEST,
        ),
    ):
        try:
            pdf = PdfReader(file)
            if pdf.is_encrypted:
                pdf.decrypt("")
            for count, attached in enumerate(pdf.attachment_list):
                if count == MOST:
                    return
                try:
                    data = attached.content
                except (PyPdfError, ValueError, KeyError, TypeError, AttributeError):
                    continue
                if len(data) <= LARGEST and data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
                    yield data
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # no list of attachments, or a damaged one: the text is read
