"""Whether a PDF is a CV: what is plainly something else is refused, what may be is read and flagged."""

from __future__ import annotations

import pytest

from annul.errors import JobError
from cv_sheet import Sheet, cv_of, extraction_of

LETTER = """Clara Jensen, Vestergade 12, 8000 Aarhus|clara@example.org|3 May 2023|Dear Ms Holm,
    |I am writing to apply for the position of coordinator that you advertised.
    |For four years I have worked at a small agency, where I planned campaigns.|Yours sincerely,|Clara Jensen"""
INVOICE = """INVOICE|Northfield Plumbing Ltd|Invoice no. 2023-0417|Boiler service 1 £95.00 £95.00
    |Thermostat 2 £48.50 £97.00|Labour 3 £45.00 £135.00|Subtotal £327.00|VAT 20 % £65.40|Total £392.40"""
FORM = """Application for a permit|Name ____________|Address ____________|Telephone ____________
    |Signature ____________ Date ____________"""
STORY = "Chapter One|" + "|".join(
    f"The harvest of the {number} came late and the rain did not stop for many days and nights."
    for number in ("first year", "second year", "third year", "fourth year", "fifth year", "sixth year")
)


def written(text: str) -> Sheet:
    sheet = Sheet()
    for line in text.split("|"):
        sheet.put(" ".join(line.split()))
    return sheet


@pytest.mark.parametrize("text", [LETTER, INVOICE, FORM, STORY], ids=["letter", "invoice", "form", "story"])
def test_what_is_no_cv_is_refused(text: str) -> None:
    """With one code, and a message that says what it looks like."""
    with pytest.raises(JobError, match="does not look like one") as raised:
        cv_of(written(text))
    assert raised.value.code == "not_a_cv"


def test_a_doubtful_one_is_read_and_flagged() -> None:
    """A list of skills without posts, degrees or dates may be a CV."""
    done = extraction_of(written("Ada Holm|ada@example.org").head("Skills").put("Welding, Plumbing"))
    assert any("may be no CV" in line for line in done.report.uncertain)


def test_a_cv_with_prices_and_greetings_is_one() -> None:
    """Posts with dates outweigh what bills and letters have."""
    sheet = written("Ada Holm|ada@example.org").head("Experience").put("Buyer, Bay Foods Ltd").put("2015 - 2020")
    sheet.put("Saved £1,200.00, then £3,400.00, then £5,600.00 and £7,800.00 in total, with VAT.")
    sheet.put("Dear Sir was how each letter began; Yours sincerely, how it ended.")
    done = extraction_of(sheet)
    assert len(done.cv.work) == 1
    assert not any("may be no CV" in line for line in done.report.uncertain)
