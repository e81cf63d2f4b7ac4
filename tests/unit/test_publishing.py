"""Publishing: outputs appear where their user finds them, by rename, once, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from annul.ending import _checked
from annul.lifecycle import Verdict
from annul.publishing import publish, unfit
from annul.runtime.outcome import Outcome, staged
from harness import no_descriptors


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    (path / "cvs" / "deep").mkdir(parents=True)
    (path / "top.txt").write_text("top")
    (path / "cvs" / "a b.json").write_text("a")
    (path / "cvs" / "deep" / "ü.pdf").write_text("u")
    return path


@pytest.fixture
def user(tmp_path: Path) -> Path:
    return tmp_path / "users" / "ann"


NAMES = ["cvs/a b.json", "cvs/deep/ü.pdf", "top.txt"]


def found(path: Path) -> dict[str, str]:
    return {str(one.relative_to(path)): one.read_text() for one in path.rglob("*") if one.is_file()}


def test_what_is_staged_is_named_relative_and_in_order(staging: Path) -> None:
    """Regular files only: a link, a pipe or a directory is no output."""
    (staging / "link").symlink_to("/etc/passwd")
    (staging / "folder").symlink_to("/etc")
    (staging / "empty").mkdir()
    assert staged(str(staging)) == NAMES
    assert staged(str(staging / "empty")) == []


def test_files_are_moved_whole_and_private(staging: Path, user: Path) -> None:
    """Each is the very file that was staged, readable by its owner only; folders are made."""
    (staging / "top.txt").chmod(0o666)
    number = (staging / "top.txt").stat().st_ino
    publish(staging.parent, user, staged(str(staging)))
    assert found(user) == {"top.txt": "top", "cvs/a b.json": "a", "cvs/deep/ü.pdf": "u"}
    assert (user / "top.txt").stat().st_ino == number
    assert (user / "top.txt").stat().st_mode & 0o777 == 0o600
    assert found(staging) == {}


def test_what_is_not_named_stays(staging: Path, user: Path) -> None:
    """Only the files that were committed are published."""
    publish(staging.parent, user, ["top.txt"])
    assert found(user) == {"top.txt": "top"}
    assert found(staging).keys() == {"cvs/a b.json", "cvs/deep/ü.pdf"}


def test_publishing_twice_changes_nothing_more(staging: Path, user: Path) -> None:
    """As after a crash between the last rename and the note of it."""
    publish(staging.parent, user, NAMES)
    before = found(user)
    publish(staging.parent, user, NAMES)
    assert found(user) == before


def test_a_file_that_its_user_has_taken_since_is_published(staging: Path, user: Path) -> None:
    """Moved, then deleted by its user, then (after a crash) to be published again: that is done, not an error."""
    publish(staging.parent, user, NAMES)
    (user / "top.txt").unlink()
    publish(staging.parent, user, NAMES)
    assert found(user).keys() == set(NAMES) - {"top.txt"}


@pytest.mark.parametrize("done", range(len(NAMES)))
def test_publishing_goes_on_where_it_was_interrupted(staging: Path, user: Path, done: int) -> None:
    """A crash between any two renames loses nothing."""
    publish(staging.parent, user, NAMES[:done])
    publish(staging.parent, user, NAMES)
    assert found(user).keys() == set(NAMES)


def test_a_new_output_replaces_the_old_one_of_its_name(staging: Path, user: Path) -> None:
    """Whole: a reader sees the old file or the new one."""
    user.mkdir(parents=True)
    (user / "top.txt").write_text("old")
    with (user / "top.txt").open() as reader:
        publish(staging.parent, user, ["top.txt"])
        assert reader.read() == "old"
    assert (user / "top.txt").read_text() == "top"


def test_an_output_that_cannot_be_moved_is_an_error_and_stays_staged(staging: Path, user: Path) -> None:
    """A directory of the user's is in the way: doing it again, once it is not, does the rest."""
    (user / "top.txt" / "mine").mkdir(parents=True)
    with pytest.raises(OSError):
        publish(staging.parent, user, NAMES)
    assert (staging / "top.txt").read_text() == "top"
    assert (user / "top.txt" / "mine").is_dir()
    (user / "top.txt" / "mine").rmdir()
    (user / "top.txt").rmdir()
    publish(staging.parent, user, NAMES)
    assert found(user).keys() == set(NAMES)


def test_nothing_to_publish_makes_nothing(staging: Path, user: Path) -> None:
    """Not even the user's directory."""
    publish(staging.parent, user, [])
    assert not user.exists()


OUTSIDE = ["../bob/x", "a/../../x", "/etc/x", ".", "", "..", "cvs/..", "../ann", "../annette/x", "out/x", "out/b/x"]


def stage(staging: Path, *names: str) -> None:
    for name in names:
        path = staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_would_land_elsewhere_is_unfit(staging: Path, user: Path, tmp_path: Path, name: str) -> None:
    """Through dots, as an absolute path, as the directory itself, or through a link in it; it is named."""
    user.mkdir(parents=True)
    (user / "out").symlink_to(tmp_path)
    stage(staging, "fine.txt", "also/fine", "out/x", "out/b/x")
    assert unfit(staging.parent, user, [name]) == [name]
    assert unfit(staging.parent, user, ["fine.txt", name, "also/fine"]) == [name]


def test_what_lands_inside_is_fit(staging: Path, user: Path, tmp_path: Path) -> None:
    """Also where the directory is not there yet, or is itself reached through a link."""
    names = ["x", "a/b", "..x", "a..b/c"]
    stage(staging, *names, "inner/x")
    assert unfit(staging.parent, user, names) == []
    user.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "users")
    (user / "inner").symlink_to(user)
    assert unfit(staging.parent, tmp_path / "link" / "ann", [*names, "inner/x"]) == []
    assert unfit(staging.parent, user, []) == []


def lie(staging: Path, secrets: Path, how: str) -> str:
    """The name under which a job would have the secret moved to its user."""
    match how:
        case "a folder":
            (staging / "d").symlink_to(secrets)
            return "d/secret"
        case "a folder in a folder":
            (staging / "cvs" / "d").symlink_to(secrets)
            return "cvs/d/secret"
        case "a file":
            (staging / "f").symlink_to(secrets / "secret")
            return "f"
        case "a link to a folder":
            (staging / "d").symlink_to(secrets)
            return "d"
        case "a folder itself":
            return "cvs"
        case "a pipe":
            os.mkfifo(staging / "p")
            return "p"
        case "what is not there":
            return "absent"
        case _:  # staging itself
            staging.rename(staging.with_name("away"))
            staging.symlink_to(secrets)
            return "secret"


LIES = [
    *("a folder", "a folder in a folder", "a file", "a link to a folder", "a folder itself", "a pipe"),
    *("what is not there", "staging itself"),
]


@pytest.mark.parametrize("how", LIES)
def test_what_a_job_says_that_it_has_staged(staging: Path, user: Path, tmp_path: Path, how: str) -> None:
    """No link is followed, and nothing but a regular file is moved: the daemon may do more than a confined job."""
    secrets = tmp_path / "users" / "bob"
    secrets.mkdir(parents=True, mode=0o755)
    (secrets / "secret").write_text("bob's")
    before = secrets.stat().st_mode
    name = lie(staging, secrets, how)
    assert unfit(staging.parent, user, [name]) == [name]
    if how == "what is not there":  # or has been moved before
        publish(staging.parent, user, [name])
    else:
        with pytest.raises(OSError):
            publish(staging.parent, user, [name])
    assert not user.exists()
    assert (secrets / "secret").read_text() == "bob's"
    assert secrets.stat().st_mode == before


def test_what_was_moved_before_is_fit_where_that_may_be(staging: Path, user: Path) -> None:
    """A regular file of the user's, and nothing else that has that name."""
    names = ["top.txt", "missing", "folder", "link"]
    user.mkdir(parents=True)
    (staging / "top.txt").rename(user / "top.txt")
    (user / "folder").mkdir()
    (user / "link").symlink_to("top.txt")
    assert unfit(staging.parent, user, names) == names
    assert unfit(staging.parent, user, names, perhaps_moved=True) == names[1:]


def test_what_cannot_be_looked_at_is_not_unfit(staging: Path, user: Path) -> None:
    """Where no descriptor is left for it: the job has done its work, and the next look tells."""
    with no_descriptors(), pytest.raises(OSError):
        unfit(staging.parent, user, ["top.txt"])
    assert unfit(staging.parent, user, ["top.txt"]) == []


def test_a_job_whose_output_is_unfit_has_failed_and_publishes_nothing(staging: Path, user: Path) -> None:
    """Whatever it said of itself; one that stays inside is what it said."""
    sup: Any = SimpleNamespace(config=SimpleNamespace(outputs_dir=user.parent))
    active: Any = SimpleNamespace(record=SimpleNamespace(user=user.name), attempt_dir=staging.parent, unseen=False)
    stage(staging, "fine.txt")
    said = Outcome(verdict=Verdict.COMPLETED, files=["fine.txt", "../bob/x"], result=msgspec.Raw(b"1"))
    checked = _checked(sup, active, said)
    assert checked is not None
    assert checked.error is not None
    assert (checked.verdict, checked.files, checked.error.code) == (Verdict.FAILED, [], "output")
    assert "'../bob/x'" in checked.error.message
    fine = Outcome(verdict=Verdict.COMPLETED, files=["fine.txt"])
    assert _checked(sup, active, fine) is fine
    assert _checked(sup, active, None) is None
