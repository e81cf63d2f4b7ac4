"""Reading an offer: what kind it is, its text without the frame of a page, its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annul.errors import JobError
from annul.jobs.generate_cv.offer import MAX_BYTES, MAX_CHARS, MAX_PAGES, Offer, from_bytes, from_file, from_text
from annul.jobs.generate_cv.page import read_page
from pdf import make_pdf

EXAMPLES = Path(__file__).parents[2] / "examples"
BODY = "We look for a welder who knows TIG and MIG, reads drawings, and likes ships. " * 4


def nothing(_fraction: float, _stage: str) -> None:
    pass


def offer(data: bytes, name: str = "offer_file", **options: Any) -> Offer:
    return from_bytes(data, Path("/nowhere") / name, source="file", progress=nothing, **options)


def failure(data: bytes, name: str = "offer_file", **options: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        offer(data, name, **options)
    return caught.value


PAGE = f"""<!DOCTYPE html><html><head><title>Jobs</title><style>p{{}}</style></head><body>
<header><nav><a href=/>Home</a> Navigation words</nav></header>
<div id="cookie-banner">We value your privacy</div><div class="x onetrust y">Consent words</div>
<main><h1>Welder &amp; fitter</h1><p>{BODY}</p><ul><li>TIG</li><li><p>MIG</p></li></ul>
<p hidden>Hidden words</p><p style="display: none">Unseen words</p><p style="font-size:0">Tiny words</p>
<script>var scripted = 1</script><!-- a comment --><noscript>Enable it</noscript></main>
<aside>Similar offers</aside><footer>Imprint words</footer></body></html>"""


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (PAGE.encode(), "offer_file", "html"),  # bytes without a name
        (PAGE.encode(), "x.html", "html"),
        (b"<p>Welder wanted: TIG, MIG, and ships</p>", "offer_file", "html"),
        ("Soudeur recherché, Zürich & Málaga".encode(), "offer_file", "text"),
        (b"# Welder\n\n- **TIG** and [MIG](http://x)\n- `ships`", "x.md", "text"),
        (b"Use <div> tags: a frontend offer in Markdown, really", "x.md", "text"),
        ("Soudeur recherché, expérimenté".encode("cp1252"), "x.txt", "text"),
        ("Soudeur recherché, expérimenté".encode("utf-16"), "x.txt", "text"),
        (b"\xef\xbb\xbfWelder wanted: TIG, MIG, and ships", "x.txt", "text"),
        (make_pdf([["Welder wanted: TIG, MIG, and ships"]]), "offer_file", "pdf"),
        (make_pdf([["Welder wanted: TIG, MIG, and ships"]]), "x.txt", "pdf"),
    ],
)
def test_kinds_are_told_by_content(tmp_path: Path, data: bytes, name: str, kind: str) -> None:
    """With a name, without one, or with a wrong one."""
    path = tmp_path / name
    path.write_bytes(data)
    got = from_file(path, nothing)
    assert got.kind == kind
    assert "oudeur recherché" in got.text or "elder" in got.text or "frontend" in got.text
    assert "<p>" not in got.text
    assert "**" not in got.text


def test_a_page_without_its_frame() -> None:
    """Navigation, consent, scripts, what is not seen and other offers are no part of the offer; lists are lines."""
    got = read_page(PAGE)
    assert got.title == "Welder & fitter"
    assert got.text.startswith("Welder & fitter\nWe look for a welder")
    assert "- TIG\n" in got.text
    assert "MIG" in got.text.split("ships.")[-1]
    for words in ("Navigation", "privacy", "Consent", "Hidden", "Unseen", "Tiny", "scripted", "comment", "Enable",
                  "Similar",
                  "Imprint"):  # fmt: skip
        assert words not in got.text


@pytest.mark.parametrize("shape", ["alone", "list", "graph", "types"])
def test_a_job_posting_as_data(shape: str) -> None:
    """JSON-LD's JobPosting is taken before the page around it, wherever it stands."""
    posting: dict[str, Any] = {
        "@type": ["Thing", "JobPosting"] if shape == "types" else "JobPosting",
        "title": "Welder",
        "hiringOrganization": {"@type": "Organization", "name": "Schiffbau &amp; Söhne"},
        "description": f"<p>{BODY}</p><ul><li>TIG</li></ul>",
        "skills": ["MIG", "drawings"],
    }
    data = {"list": [{"@type": "WebSite"}, posting], "graph": {"@graph": [posting]}}.get(shape, posting)
    broken = '<script type="application/ld+json">{oops</script>'
    page = f'{broken}<script type="application/ld+json">{json.dumps(data)}</script><body><p>Frame words</p></body>'
    got = read_page(page)
    assert (got.title, got.company) == ("Welder", "Schiffbau & Söhne")
    assert "- TIG" in got.text
    assert "MIG\ndrawings" in got.text.replace(" drawings", "\ndrawings")
    assert "<p>" not in got.text
    assert "Frame" not in got.text


def test_a_posting_with_hardly_a_description() -> None:
    """Then the page says more, and is read too."""
    data = json.dumps({"@type": "JobPosting", "title": "Welder", "description": "See below"})
    got = read_page(f'<script type="application/ld+json">{data}</script><body><p>{BODY}</p></body>')
    assert got.title == "Welder"
    assert "TIG" in got.text


@pytest.mark.parametrize(
    "page",
    ["<div>" * 50_000 + "deep", "<p>" * 50_000, "<" * 50_000, "&#x41;" * 50_000, "<script>" + "x" * 100_000,
     '<a href="' * 20_000, "<!--" * 30_000, '<script type="application/ld+json">' + "[" * 100_000 + "</script>"],
)  # fmt: skip
def test_hostile_pages(page: str) -> None:
    """Deep, endless or broken HTML is read or not, in little time and without an exception of its own."""
    read_page(page)


@pytest.mark.parametrize("charset", ["punycode", "zip", "hex", "rot13", "unicode_escape", "nonsense", "utf-8", "idna"])
def test_charsets_that_a_server_may_name(charset: str) -> None:
    """Only those that texts come in are believed."""
    assert "Welder" in offer(b"Welder wanted: TIG, MIG, and ships", charset=charset).text


@pytest.mark.parametrize(
    ("data", "options", "code", "said"),
    [
        (b"", {}, "empty_offer", "hardly any text"),
        (b" \n" * 100, {}, "empty_offer", "hardly any text"),
        (b"<html><body><script>render()</script></body></html>", {}, "empty_offer", "scripts"),
        (b"\x89PNG\r\n\x1a\n\0\0\0" + b"\0" * 100, {}, "not_an_offer", "neither text"),
        (b"x " * 10, {"kind": "pdf"}, "not_an_offer", "none"),
        (b"x" * (MAX_BYTES + 1), {}, "offer_too_large", "10,000,000"),
        (b"word " * (MAX_CHARS // 5 + 1), {}, "offer_too_long", "200,000"),
    ],
)
def test_what_is_no_offer(data: bytes, options: dict[str, Any], code: str, said: str) -> None:
    """Each limit and each wrong kind has its own code, and says what to do."""
    error = failure(data, **options)
    assert error.code == code
    assert said in error.message


@pytest.mark.parametrize(
    ("pdf", "code", "said"),
    [
        (lambda: make_pdf([["Welder wanted"]] * (MAX_PAGES + 1)), "too_many_pages", "50 pages"),
        (lambda: make_pdf([[]]), "no_text", "no text layer"),
        (lambda: make_pdf([["Welder wanted"]])[:200], "corrupt_pdf", "offer"),
    ],
)
def test_pdfs_that_are_no_offer(tmp_path: Path, pdf: Any, code: str, said: str) -> None:
    """The reader's codes, in words about the offer and not about a CV."""
    path = tmp_path / "offer_file"
    path.write_bytes(pdf())
    with pytest.raises(JobError) as caught:
        from_file(path, nothing)
    assert caught.value.code == code
    assert said in caught.value.message
    assert "the offer" in caught.value.message
    assert "pages of the CV" not in caught.value.message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and a directory are told apart."""
    for path, code in ((tmp_path / "none.md", "no_such_file"), (tmp_path, "unreadable_file")):
        with pytest.raises(JobError) as caught:
            from_file(path, nothing)
        assert caught.value.code == code


def test_the_examples() -> None:
    """They are read as text, without Markdown's marks."""
    for name in ("offer-en.md", "offer-fr.md"):
        got = from_file(EXAMPLES / name, nothing)
        assert got.kind == "text"
        assert "**" not in got.text
    assert from_text("Welder wanted: TIG, MIG, and ships").source == "text"
