"""Opening below a directory: nothing that somebody puts there leads out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from annul import beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "file").write_text("yours")
    return root


def test_files_below_are_opened(root: Path, tmp_path: Path) -> None:
    with beneath.opened(root, "inner/file") as file:
        assert file.read() == b"yours"
    link = tmp_path / "link"
    link.symlink_to(root)  # how the operator names it is the operator's
    with beneath.opened(link, "inner/file") as file:
        assert file.read() == b"yours"


@pytest.mark.parametrize(
    "name", ["", ".", "/", "/etc/passwd", "..", "../secret", "inner/../../secret", "inner", "gone"]
)
def test_what_leaves_it_or_is_no_file_is_refused(root: Path, name: str) -> None:
    with pytest.raises(OSError):
        beneath.opened(root, name)


def test_no_link_is_followed(root: Path) -> None:
    (root / "to-file").symlink_to("../secret")
    (root / "to-folder").symlink_to("..")
    (root / "within").symlink_to("inner/file")
    for name in ("to-file", "to-folder/secret", "within"):
        with pytest.raises(OSError):
            beneath.opened(root, name)


def test_a_fifo_and_a_device_are_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        beneath.opened(root, "fifo")
    with pytest.raises(OSError, match="no regular file"):
        beneath.opened(Path("/dev"), "zero")


def test_no_descriptor_is_left(root: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for name in ("gone", "inner", "to/gone", "inner/gone/more"):
        with pytest.raises(OSError):
            beneath.opened(root, name)
    assert os.listdir("/proc/self/fd") == before
