"""Reading a base CV: JSON Resume as it is found, and the ids of a user's CVs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul.errors import JobError
from annul.jobs.generate_cv.base import MAX_BYTES, BaseCv, from_file, from_id, is_id, parse
from annul.jobs.resume import Resume

EXAMPLE = Path(__file__).parents[2] / "examples/cv-en.json"


def read(**fields: Any) -> BaseCv:
    return parse(json.dumps({"skills": [{"name": "x"}], **fields}).encode(), "the base CV")


def failure(data: bytes | dict[str, Any]) -> JobError:
    with pytest.raises(JobError) as caught:
        parse(data if isinstance(data, bytes) else json.dumps(data).encode(), "the base CV")
    return caught.value


def test_a_valid_file_is_read_whole() -> None:
    """Nothing of a valid JSON Resume is lost or changed."""
    got = from_file(EXAMPLE)
    assert got.dropped == []
    assert msgspec.to_builtins(got.cv) == json.loads(EXAMPLE.read_text(encoding="utf-8"))


def test_the_wild() -> None:
    """null, unknown keys, numbers for texts, old names, one text for a list: read, and what is left out is said."""
    got = read(
        basics={"name": "Éva", "phone": 33612345678, "website": "https://e.example", "picture": None, "x": 1,

                "label": None, "location": None, "profiles": None},
        work=[{"company": "Acme", "position": "Dev", "highlights": "one", "keywords": ["a"], "endDate": None}, None],
        education=[{"institution": "INSA", "gpa": 3.8, "courses": [None, "", "Maths"]}],
        skills=["Python", {"name": "SQL", "keywords": None}],
        interests=None,
        custom={"a": 1},
    )  # fmt: skip
    cv = msgspec.to_builtins(got.cv)
    assert cv["basics"] == {"name": "Éva", "phone": "33612345678", "url": "https://e.example"}
    assert cv["work"] == [{"name": "Acme", "position": "Dev", "highlights": ["one"]}]
    assert cv["education"] == [{"institution": "INSA", "score": "3.8", "courses": ["Maths"]}]
    assert cv["skills"] == [{"name": "Python"}, {"name": "SQL"}]
    said = " ".join(got.dropped)
    assert all(where in said for where in ("basics.x", "work[0].keywords", "custom"))
    assert len(got.dropped) == 3


@pytest.mark.parametrize(
    ("given", "read_as"),
    [("2019", "2019"), ("2019-3", "2019-03"), ("2019-03-31", "2019-03-31"), ("2019/03/01", "2019-03-01"),
     ("2019-03-01T00:00:00.000Z", "2019-03-01"), (2019, "2019"), ("Jan 2021", "2021-01"), ("mars 2020", "2020-03"),
     ("03/2017", "2017-03")],
)  # fmt: skip
def test_dates_of_the_wild(given: Any, read_as: str) -> None:
    """Dates in other spellings are the dates that they are."""
    got = read(work=[{"startDate": given}])
    assert (got.cv.work[0].start_date, got.dropped) == (read_as, [])


@pytest.mark.parametrize("given", ["soon", "2019-13", "20199", {}, [], True, "2019 - 2020", "0000", "9999-99-99"])
def test_dates_that_are_none(given: Any) -> None:
    """They are left out, and said; the CV is still a valid JSON Resume."""
    got = read(work=[{"name": "A", "startDate": given}])
    assert got.cv.work[0].start_date is None
    assert len(got.dropped) == 1
    assert "work[0].startDate" in got.dropped[0]


@pytest.mark.parametrize("given", [None, "", "Present", "aujourd'hui"])
def test_dates_that_are_open(given: Any) -> None:
    """ "Present" is no end, and nothing is lost by it."""
    got = read(work=[{"name": "A", "endDate": given}])
    assert (got.cv.work[0].end_date, got.dropped) == (None, [])


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"work": "none"}, "work should be a list, not a text"),
        ({"work": ["x", 3]}, "work[1] should be an object, not a number"),
        ({"work": [{"highlights": 3}]}, "work[0].highlights should be a list"),
        ({"work": [{"highlights": [["x"]]}]}, "work[0].highlights[0] should be a text, not a list"),
        ({"basics": []}, "basics should be an object"),
        ({"basics": {"name": ["x"]}}, "basics.name should be a text"),
        ({"skills": [{"keywords": [{"a": 1}]}]}, "skills[0].keywords[0]"),
        ({}, "sections"),
        ({"basics": {"name": "Ana"}}, "sections"),
        ([1], "an object, not a list"),
        (b"", "not JSON"),
        (b'{"work": [\n  {"name": oops}]}', "line 2"),
        (b"%PDF-1.7", "import-pdf"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 200_000, "JSON"),
        (b'{"a":' * 100_000, "JSON"),
        ({"skills": ["x"] * 3000}, "skills has more than"),
    ],
)
def test_what_is_no_json_resume(data: bytes | dict[str, Any], where: str) -> None:
    """It is said what is wrong, and where."""
    error = failure(data)
    assert error.code == "invalid_cv"
    assert where in error.message


def test_a_result_of_ours_is_a_base() -> None:
    """The whole result of a job holds the CV; a byte order mark does no harm."""
    cv = {"skills": [{"name": "Python"}]}
    for data in (json.dumps({"cv": cv, "files": [], "report": {}}).encode(), b"\xef\xbb\xbf" + json.dumps(cv).encode()):
        assert msgspec.to_builtins(parse(data, "it").cv)["skills"] == cv["skills"]


def test_many_unknown_keys_are_told_briefly() -> None:
    """The report stays readable, and says that there was more."""
    got = read(**{f"k{number}": 1 for number in range(500)})
    assert len(got.dropped) == 51
    assert "More" in got.dropped[-1]


def test_controls_are_no_text() -> None:
    """U+0000 and the like are dropped from texts."""
    assert read(basics={"name": "A\x00n\x1ba"}).cv.basics.name == "Ana"


def test_what_is_read_can_be_written() -> None:
    """Read leniently, what comes out is a strict JSON Resume."""
    got = read(work=[{"name": "A", "startDate": "Jan 2021", "x": None}], basics={"location": {"city": 3}})
    assert msgspec.json.decode(msgspec.json.encode(got.cv), type=Resume) == got.cv


# --- files and ids ---


@pytest.mark.parametrize(
    "cv_id",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "A.json",
        "x" * 65,
        "é",
        "-a",
        "a b",
        "%2e%2e",
        "a\n",
    ],
)
def test_ids_are_no_paths(tmp_path: Path, cv_id: str) -> None:
    """What is no id is no CV, whatever lies at the path."""
    there = tmp_path / "x.json"
    there.write_bytes(EXAMPLE.read_bytes())
    assert not is_id(cv_id)
    with pytest.raises(JobError) as caught:
        from_id(cv_id, there)
    assert caught.value.code == "no_such_cv"


def test_a_published_cv(tmp_path: Path) -> None:
    """An id of the user's leads to the CV; one that is not there does not, and a link leads nowhere."""
    path = tmp_path / "0000abc.json"
    with pytest.raises(JobError) as caught:
        from_id("0000abc", path)
    assert caught.value.code == "no_such_cv"
    path.symlink_to(EXAMPLE)
    with pytest.raises(JobError) as caught:
        from_id("0000abc", path)
    assert caught.value.code == "unreadable_file"
    path.unlink()
    path.write_bytes(EXAMPLE.read_bytes())
    assert from_id("0000abc", path).cv.basics.name == "Maren Aldous"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a directory, a pipe that nobody writes to, too large: each is said, and none is waited for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    large = tmp_path / "large"
    large.write_bytes(b" " * (MAX_BYTES + 1))
    cases = {
        tmp_path / "none": "no_such_file",
        tmp_path: "unreadable_file",
        fifo: "unreadable_file",
        large: "cv_too_large",
    }
    for path, code in cases.items():
        with pytest.raises(JobError) as caught:
            from_file(path)
        assert caught.value.code == code
    assert "1,000,000" in str(caught.value)
