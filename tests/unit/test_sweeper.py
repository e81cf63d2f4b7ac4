"""The sweeper: directories go, a bounded number of files at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from annul.sweeper import Sweeper


def count(path: Path) -> int:
    """Everything below, and the path itself."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(path)) + path.exists()


def swept(sweeper: Sweeper) -> int:
    """Step until nothing waits; how many steps that took."""
    steps = 0
    while sweeper.waiting:
        sweeper.step()
        steps += 1
        assert steps < 1000, "it does not come to an end"
    return steps


def fill(path: Path, files: int) -> Path:
    path.mkdir()
    for number in range(files):
        (path / f"{number}").touch()
    return path


def test_what_is_empty_or_absent_is_done_at_once(tmp_path: Path) -> None:
    """Most attempts leave nothing behind, and cost no turn."""
    sweeper = Sweeper()
    (tmp_path / "empty").mkdir()
    sweeper.add(tmp_path / "empty")
    sweeper.add(tmp_path / "absent")
    assert not sweeper.waiting
    assert not (tmp_path / "empty").exists()
    sweeper.step()


def test_everything_below_goes(tmp_path: Path) -> None:
    """Files, folders, pipes, names in any bytes, read-only ones; and nothing beside it."""
    top = fill(tmp_path / "top", 3)
    (tmp_path / "beside").touch()
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "b" / "file").chmod(0)
    os.mkfifo(top / "a" / "pipe")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\n")).touch()
    sweeper = Sweeper()
    sweeper.add(top)
    assert sweeper.waiting
    swept(sweeper)
    assert [one.name for one in tmp_path.iterdir()] == ["beside"]


def test_a_link_inside_is_removed_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    """To a file, to a directory, to nothing, to itself or to its own parent."""
    kept = fill(tmp_path / "kept", 3)
    top = fill(tmp_path / "top", 0)
    (top / "inner").mkdir()
    for name, target in {"f": kept / "0", "d": kept, "n": "nowhere", "s": "s", "p": "..", "inner/d": kept}.items():
        (top / name).symlink_to(target)
    sweeper = Sweeper()
    sweeper.add(top)
    swept(sweeper)
    assert not top.exists()
    assert count(kept) == 4


def test_a_link_in_a_directorys_place_is_removed_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    """A job may have put a link where its working directory was."""
    kept = fill(tmp_path / "kept", 3)
    (tmp_path / "work").symlink_to(kept)
    sweeper = Sweeper()
    sweeper.add(tmp_path / "work")
    swept(sweeper)
    assert not (tmp_path / "work").is_symlink()
    assert count(kept) == 4


def test_a_file_in_a_directorys_place_goes(tmp_path: Path) -> None:
    """Whatever it is, it was to be deleted."""
    (tmp_path / "work").touch()
    os.mkfifo(tmp_path / "tmp")
    sweeper = Sweeper()
    sweeper.add(tmp_path / "work")
    sweeper.add(tmp_path / "tmp")
    swept(sweeper)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_took_a_directorys_place_since_is_not_followed(tmp_path: Path) -> None:
    """Also where it was a directory when it was added, and its turn comes later."""
    kept = fill(tmp_path / "kept", 3)
    top = fill(tmp_path / "top", 3)
    sweeper = Sweeper()
    sweeper.add(top)
    top.rename(tmp_path / "elsewhere")
    top.symlink_to(kept)
    swept(sweeper)
    assert not top.is_symlink()
    assert count(kept) == 4


@contextmanager
def unprivileged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As somebody whom permissions hold up (root they do not), in a folder of theirs."""
    monkeypatch.chdir(folder)  # what is above need not be theirs
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_the_job_made_unreadable_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the daemon's user's: its permissions are given back, and its siblings go in any case."""
    with unprivileged(tmp_path, monkeypatch):
        top = fill(Path("top"), 3)
        fill(top / "closed", 3).chmod(0)
        fill(top / "read-only", 3).chmod(0o500)
        fill(top / "open", 3)
        top.chmod(0o500)
        sweeper = Sweeper()
        sweeper.add(top)
        swept(sweeper)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_one_made_read_only_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is around it was the job's to close, too."""
    with unprivileged(tmp_path, monkeypatch):
        attempt = fill(Path("attempt"), 0)
        fill(attempt / "work", 3)
        attempt.chmod(0o500)
        sweeper = Sweeper()
        sweeper.add(attempt / "work")
        swept(sweeper)
        assert list(attempt.iterdir()) == []


def test_a_link_that_cannot_be_removed_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may stay; what it points to keeps its content and its permissions."""
    with unprivileged(tmp_path, monkeypatch):
        kept = fill(Path("kept"), 3)
        kept.chmod(0o750)
        attempt = fill(Path("attempt"), 0)
        (attempt / "work").symlink_to("../kept")
        attempt.chmod(0o500)
        sweeper = Sweeper()
        sweeper.add(attempt / "work")
        swept(sweeper)
        assert count(kept) == 4
        assert kept.stat().st_mode & 0o777 == 0o750


def test_what_lies_deeper_than_any_path_reaches_goes(tmp_path: Path) -> None:
    """Made step by step, its path would be longer than the system takes."""
    top = fill(tmp_path / "top", 1)
    fd = os.open(top, os.O_RDONLY)
    for number in range(100):
        name = f"{number:0100}"
        os.mkdir(name, dir_fd=fd)
        os.mknod("file", dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    sweeper = Sweeper()
    sweeper.add(top)
    swept(sweeper)
    assert list(tmp_path.iterdir()) == []


def test_a_step_deletes_a_bounded_number(tmp_path: Path) -> None:
    """A cancel never waits for a big directory; every step gets on."""
    top = fill(tmp_path / "top", 450)
    (top / "deep" / "deeper").mkdir(parents=True)
    for number in range(250):
        (top / "deep" / "deeper" / f"{number}").touch()
    sweeper = Sweeper()
    sweeper.add(top)
    while sweeper.waiting:
        before = count(top)
        sweeper.step()
        assert 1 <= before - count(top) <= 200
    assert not top.exists()


def test_a_step_looks_at_a_bounded_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the whole of a big directory again for every two hundred files."""
    looked = 0
    scandir = os.scandir

    def counting(path: Path) -> Iterator[os.DirEntry[str]]:
        nonlocal looked
        with scandir(path) as entries:
            for entry in entries:
                looked += 1
                yield entry

    sweeper = Sweeper()
    sweeper.add(fill(tmp_path / "top", 3000))
    monkeypatch.setattr(os, "scandir", counting)
    while sweeper.waiting:
        before = looked
        sweeper.step()
        assert looked - before <= 200
    assert looked == 3000
    assert not (tmp_path / "top").exists()


@pytest.mark.parametrize("files", [198, 199, 200, 201, 399, 400])
def test_a_directory_of_just_about_one_step_is_finished(tmp_path: Path, files: int) -> None:
    """Whether it comes out even or not."""
    sweeper = Sweeper()
    sweeper.add(fill(tmp_path / "top", files))
    assert swept(sweeper) <= files // 200 + 2
    assert not (tmp_path / "top").exists()


def test_many_directories_share_a_step(tmp_path: Path) -> None:
    """They go in the order they were added, small ones together."""
    sweeper = Sweeper()
    for number in range(20):
        sweeper.add(fill(tmp_path / f"{number}", 3))
    sweeper.add(fill(tmp_path / "big", 500))
    sweeper.step()
    assert not any((tmp_path / f"{number}").exists() for number in range(20))
    assert (tmp_path / "big").exists()
    swept(sweeper)
    assert list(tmp_path.iterdir()) == []


def test_one_that_goes_by_itself_is_no_trouble(tmp_path: Path) -> None:
    """Somebody else may have deleted it between two steps."""
    top = fill(tmp_path / "top", 300)
    sweeper = Sweeper()
    sweeper.add(top)
    sweeper.add(fill(tmp_path / "next", 3))
    sweeper.step()
    for one in top.iterdir():
        one.unlink()
    top.rmdir()
    swept(sweeper)
    assert list(tmp_path.iterdir()) == []
