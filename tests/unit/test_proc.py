"""A look at a process that fails is no answer; only one that finds nobody is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from annul import proc, tree
from annul.tree import Census, CgroupTree, Reaper, SessionTree
from harness import no_descriptors

ME = os.getpid()
GONE = 2**22 + 1  # more than the kernel gives out

LOOKS: dict[str, Callable[[int], object]] = {
    "stat": proc.stat,
    "pidfd": proc.pidfd,
    "open_pidfd": lambda pid: proc.open_pidfd(pid, 1),
    "children": proc.children,
    "marks": proc.marks,
    "branded": proc.branded,
    "below": lambda pid: tree.below([pid])[1:],
    "send": lambda pid: tree.send(pid, 0),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_without_descriptors_is_no_answer(name: str) -> None:
    """Not that nobody is there."""
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        LOOKS[name](ME)


@pytest.mark.parametrize("name", LOOKS)
def test_who_is_gone_is_gone(name: str) -> None:
    """That is an answer."""
    assert not LOOKS[name](GONE)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM])
def test_what_is_not_ours_to_see_is_as_gone(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may say so at the open."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    assert proc.stat(ME) is None
    assert proc.children(ME) == []


def test_a_failed_look_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else failing for want of one would make it worse."""

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    own = proc.stat(ME)
    assert own is not None
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="Too many"):
            proc.open_pidfd(ME, own.start_time)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_tree_that_cannot_be_looked_at_is_not_empty(tmp_path: Path) -> None:
    """Neither by session nor by cgroup, whether its leader lives or not."""
    census = Census([Reaper(ME, settled=True)], [])
    session = SessionTree(attempt="job.1", board=tmp_path / "board", census=lambda: census)
    (tmp_path / "cgroup.procs").write_text(f"{ME}\n")
    cgroup = CgroupTree(tmp_path)
    for leader_alive in (True, False):
        for one in (session, cgroup):
            with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
                one.look(ME, leader_alive=leader_alive)
    with no_descriptors():
        cgroup.remove()  # frees what it can, and is not a look
