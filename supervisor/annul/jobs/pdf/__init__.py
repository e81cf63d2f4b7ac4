"""Reading a PDF: its text with places and fonts, in lines and columns.

reader.py    the file to a `Document`, within limits, by the reader that understands it · failures.py: how it fails
document.py  what that is
by_pypdf.py  reading with pypdf: content.py, a page's operators to glyphs · fonts.py, their codes to text
by_pdfium.py reading with pdfium, in a process of its own: pdfium_child.py
runs.py      glyphs to items · turn.py: a page of them, upright
lines.py columns.py  items to lines in reading order · headings.py: the words that head a CV's sections
"""
