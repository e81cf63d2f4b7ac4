"""Reading a PDF: its text with places and fonts, in lines and columns.

reader.py    the file to a `Document`, within limits
document.py  what that is
content.py   a page's operators to items · fonts.py: their codes to text · turn.py: upright
lines.py columns.py  items to lines in reading order · headings.py: the words that head a CV's sections
"""
