"""The openai engine and scans: pictures of the pages to a real HTTP server on loopback."""

from __future__ import annotations

import base64
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

import openai_server as server_side
from annul.errors import Cancelled, JobError
from annul.jobs.chat.ask import Limits
from annul.jobs.import_pdf import openai_pictures
from annul.jobs.import_pdf.engine import Extraction
from annul.jobs.import_pdf.openai_engine import extract_scan, is_scan
from annul.jobs.import_pdf.openai_pictures import LONGEST_SIDE, draw_pages
from annul.jobs.pdf.document import Document, Page
from harness import SHARED
from openai_server import SCAN_ANSWER, Behaviour, OpenAIServer
from pdf import CV_LINES, make_pdf

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed: pip install 'annul[pdf]'")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed: pip install 'annul[pdf]'")

from scans import make_scan  # noqa: E402 (needs pillow)

KEY = "sk-test-4f9a0c0ffee1234567890"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets itself: no key or proxy of the machine's."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """However it ends, the process that draws is gone."""
    yield
    assert psutil.Process().children() == []


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan(CV_LINES))
    return path


def run(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, path: Path, **options: Any) -> Extraction:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    options = {"max_pages": 50, "model": None, "level": "rapid", "progress": lambda f, s: None, **options}
    log = logging.getLogger("test-import-openai")
    return extract_scan(path, log=log, limits=Limits(retry_base_s=0.001), **options)


def pictures_of(body: Any) -> list[Any]:
    """The pictures in a request, opened."""
    parts = body["messages"][1]["content"]
    found = []
    for part in parts:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            found.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
    return found


def colour_of(image: Any) -> str:
    red, green, blue = image.getpixel((image.width // 2, image.height // 2))
    return max((red, "red"), (green, "lime"), (blue, "blue"))[1]


def code_of(path: Path, **options: Any) -> str:
    with pytest.raises(JobError) as caught:
        draw_pages(path, **{"max_pages": 50, "progress": lambda f, s: None, **options})
    return caught.value.code


# --- what is sent, and what comes of it ---


def test_a_scan_goes_as_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One request with all pages, in order and by number, in JPEG and in detail; nothing is uploaded before it."""
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan("red", "white", "blue"))
    with OpenAIServer(server_side.stream_cv(SCAN_ANSWER)) as server:
        extraction = run(server, monkeypatch, path)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    parts = request.body["messages"][1]["content"]
    assert {part["image_url"]["detail"] for part in parts if part["type"] == "image_url"} == {"high"}
    images = pictures_of(request.body)
    assert [image.format for image in images] == ["JPEG", "JPEG"]
    assert [colour_of(image) for image in images] == ["red", "blue"]  # the blank page costs nothing
    assert [part["text"] for part in parts if part["type"] == "text"][1:3] == ["(page 1)", "(page 3)"]
    assert extraction.report.pages == 3
    schema = request.body["response_format"]["json_schema"]["schema"]
    assert '"from"' not in str(schema).replace("'", '"'), "there are no lines to refer to"
    jsonschema.Draft202012Validator(schema).validate(SCAN_ANSWER)


def test_the_cv_of_a_scan(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    """The answer's words are the CV's; the report says that nothing checks them; usage is told."""
    with OpenAIServer(server_side.stream_cv(SCAN_ANSWER)) as server:
        extraction = run(server, monkeypatch, scan)
    cv = extraction.cv
    assert (cv.basics.name, cv.work[0].start_date) == ("Éloïse Durand", "2021-01")
    assert cv.work[0].highlights == ["Migration vers PostgreSQL", "Mise en place de l'intégration continue"]
    assert cv.meta is not None
    assert cv.meta.annul == {"unplaced": ["Permis B"]}
    report = extraction.report
    assert (report.reader, report.pages, report.unplaced) == ("model", 1, 1)
    (note,) = report.uncertain
    assert "pictures" in note
    assert "cannot be checked against the document" in note
    assert extraction.usage["total_tokens"] == 608
    assert extraction.usage["seconds"] > 0


def test_what_a_picture_says_is_data(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    """The pictures stand between markers that are new each time and that the rules name; metadata is not sent."""
    marks = set()
    with OpenAIServer(server_side.stream_cv(SCAN_ANSWER)) as server:
        for _ in range(2):
            run(server, monkeypatch, scan)
    for request in server.requests:
        system, user = (message["content"] for message in request.body["messages"])
        first, last = user[0]["text"], user[-1]["text"]
        assert first.startswith("<cv ")
        assert last.startswith(f"</{first[1:]}\n")
        assert first in system
        assert "never an instruction" in system
        assert {part["type"] for part in user[1:-1]} == {"text", "image_url"}
        marks.add(first)
    assert len(marks) == 2


def test_progress_of_a_scan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It tells the pages drawn, then the answer; it never falls, and ends at 1."""
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan("red", "blue"))
    seen: list[tuple[float, str]] = []
    with OpenAIServer(server_side.stream_cv(SCAN_ANSWER)) as server:
        run(server, monkeypatch, path, progress=lambda fraction, stage: seen.append((fraction, stage)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert [stage for _, stage in seen][:2] == ["drawing page 1 of 2", "drawing page 2 of 2"]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (server_side.cannot_see(), "openai_bad_request"),
        (server_side.cannot_see(500), "openai_server_error"),
    ],
)
def test_a_model_that_cannot_see(monkeypatch: pytest.MonkeyPatch, scan: Path, behaviour: Behaviour, code: str) -> None:
    """Where the server refuses pictures, the error says what to do, and does not repeat them."""
    with OpenAIServer(behaviour) as server, pytest.raises(JobError) as caught:
        run(server, monkeypatch, scan)
    assert caught.value.code == code
    assert "`model` must be one that can see" in caught.value.message
    assert len(caught.value.message) < 500
    assert KEY not in caught.value.message


def test_a_model_that_is_blind_and_silent(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    """A server that drops pictures gets an answer that says so, as the rules ask; a person is told."""
    answer = {**server_side.empty_answer(SCAN_ANSWER), "isCv": False}
    with OpenAIServer(server_side.stream_cv(answer)) as server:
        extraction = run(server, monkeypatch, scan)
    assert "where you can see no page" in server.requests[0].body["messages"][0]["content"]
    assert "The model says that this is not a CV." in extraction.report.uncertain


def test_next_to_no_text_is_a_scan() -> None:
    """A scanner's stamp on each page is not the CV's text; a short CV's text is."""

    def document(*texts: str) -> Document:
        return Document([Page(i, 595.0, 842.0, [], text) for i, text in enumerate(texts, 1)], "pypdf")

    assert is_scan(document("Scanned with CamScanner", "Scanned with CamScanner"))
    assert is_scan(Document([], ""))
    assert not is_scan(document("\n".join(CV_LINES)))


# --- drawing, and its limits ---


def test_what_is_drawn_is_what_is_seen(tmp_path: Path) -> None:
    """A page as it stands on paper: its text is there, black on white, in its shape."""
    path = tmp_path / "cv.pdf"
    path.write_bytes(make_pdf([["A heading"]]))
    (picture,), count = draw_pages(path, max_pages=1, progress=lambda f, s: None)
    image = Image.open(io.BytesIO(base64.b64decode(picture.jpeg))).convert("L")
    assert count == 1
    assert image.width / image.height == pytest.approx(595 / 842, abs=0.01)
    box = image.point(lambda value: 255 if value < 128 else 0).getbbox()
    scale = image.height / 842
    assert box[0] / scale == pytest.approx(60, abs=3)
    assert box[3] / scale == pytest.approx(842 - 800, abs=8)


@pytest.mark.parametrize("size", [(72, 72), (842, 595), (10, 14_000), (14_400, 14_400)])
def test_no_picture_is_larger_than_a_model_sees(tmp_path: Path, size: tuple[int, int]) -> None:
    """Posters and strips are made smaller; a tiny page is not blown up beyond 300 dpi."""
    path = tmp_path / "odd.pdf"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R >>" % size
    path.write_bytes(_pdf(page, b"0 0 5 5 re f"))
    (picture,), _ = draw_pages(path, max_pages=1, progress=lambda f, s: None)
    image = Image.open(io.BytesIO(base64.b64decode(picture.jpeg)))
    assert max(image.size) <= LONGEST_SIDE
    assert max(image.size) <= max(size) * 300 / 72 + 1


def _pdf(page: bytes, content: bytes) -> bytes:
    from pdf import assemble

    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            page,
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    )


def test_blank_pages_are_not_asked_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of blank pages costs no request: it has no text, and nothing to see."""
    path = tmp_path / "blank.pdf"
    path.write_bytes(make_scan("white", "white"))
    with OpenAIServer() as server, pytest.raises(JobError) as caught:
        run(server, monkeypatch, path)
    assert (caught.value.code, server.requests) == ("no_text", [])
    assert "blank" in caught.value.message


def test_limits_of_a_scan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pages are counted before one is drawn, and pictures beyond what a request holds are refused."""
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_scan("red", "lime", "blue"))
    stages: list[str] = []
    assert code_of(path, max_pages=2, progress=lambda f, s: stages.append(s)) == "too_many_pages"
    assert stages == []
    one = len(draw_pages(path, max_pages=3, progress=lambda f, s: None)[0][0].jpeg)
    monkeypatch.setattr(openai_pictures, "MOST_BYTES", 2 * one)
    assert code_of(path) == "too_large"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    """Without pdfium there is no text, and the error says what to install."""
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(JobError) as caught:
        draw_pages(scan, max_pages=50, progress=lambda f, s: None)
    assert caught.value.code == "no_text"
    assert "annul[pdf]" in caught.value.message


@pytest.mark.parametrize(
    "child",
    [
        "import os; os.abort()",
        "print('{\"pages\": 2}', flush=True); import os; os.abort()",
        'print(\'{"pages": 2}\'); print(\'{"jpeg": "abc\')',
        'print(\'{"error": "Failed to load document"}\')',
    ],
)
def test_the_death_of_pdfium_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Path, child: str
) -> None:
    """pdfium aborts on some files, at once or half-way: the job goes on, and says that the file is damaged."""
    program = tmp_path / "child.py"
    program.write_text(child)
    monkeypatch.setattr(openai_pictures, "CHILD", program)
    assert code_of(scan) == "corrupt_pdf"


def test_the_process_that_draws_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    """What parses a stranger's file is not given the key, nor an address that may hold a password."""
    seen = tmp_path / "environment"
    program = tmp_path / "child.py"
    program.write_text(f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(str(dict(os.environ)))")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:secret@127.0.0.1/v1")
    monkeypatch.setattr(openai_pictures, "CHILD", program)
    assert code_of(scan) == "corrupt_pdf"
    assert "PATH" in seen.read_text()
    assert KEY not in seen.read_text()
    assert "secret" not in seen.read_text()


def test_a_cancel_while_drawing_leaves_no_child(scan: Path) -> None:
    """Cancelled, raised between two pages, flies through; the fixture sees that the child is gone."""

    def cancel(_fraction: float, _stage: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        draw_pages(scan, max_pages=50, progress=cancel)


@pytest.mark.parametrize("name", ["bomb-flate-triple-16gib.pdf", "xobject-self-loop.pdf", "evil-xobjects.pdf"])
def test_bombs_end_the_child_only(name: str) -> None:
    """What is made to exhaust its reader ends in pictures within the limits, or in an error of the file."""
    path = SHARED / "corpus" / name
    if not path.exists():
        pytest.skip(f"the corpus is not here: {path}")
    size, code = 0, "drawn"
    try:
        pictures, _ = draw_pages(path, max_pages=50, progress=lambda f, s: None)
        size = sum(len(picture.jpeg) for picture in pictures)
    except JobError as error:
        code = error.code
    assert code in {"drawn", "corrupt_pdf", "no_text", "too_many_pages"}
    assert size <= openai_pictures.MOST_BYTES
