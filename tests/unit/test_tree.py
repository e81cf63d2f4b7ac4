"""Process trees, with real processes: whoever belongs to an attempt is found and ended, and nobody else is.

A scene is as in the daemon: a zygote (a subreaper) forks leaders (subreapers in sessions of their own), and each leader
has descendants that try to get away.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from annul import prctl, proc
from annul import tree as tree_module
from annul.board import Board
from annul.tree import (
    Census,
    CgroupTree,
    Look,
    Reaper,
    SessionTree,
    children_of,
    controllers,
    find_cgroup,
    pass_on_controllers,
    remove_old_probes,
    send,
)
from harness import alive, wait_until

# pytest's own threads wait; the children use nothing of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

ATTEMPT = "job.1"
MARK = b"ANNUL_MARK=job.1"


def fork(act: Callable[[], object]) -> int:
    """A process that does `act` and then waits to be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            _wait_for_the_end()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def _wait_for_the_end() -> NoReturn:
    while True:
        signal.pause()


class Scene:
    """A zygote, its leaders and their descendants, who all say their names and pids on one pipe."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self._known: list[tuple[int, int]] = []  # (pid, start time)
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._text = b""

    # In the processes of the scene.

    def say(self, name: str) -> None:
        os.write(self._write, f"{name} {os.getpid()}\n".encode())

    def member(self, name: str, act: Callable[[], object] = lambda: None) -> int:
        """A child that says its name and stays."""
        return fork(lambda: (act(), self.say(name)))

    def daemonize(self, name: str, act: Callable[[], object] = lambda: None) -> None:
        """The classic escape: fork, new session, fork again, the one in the middle exits."""

        def middle() -> None:
            os.setsid()
            self.member(name, act)
            os._exit(0)

        os.waitpid(fork(middle), 0)

    # In the test.

    def start(self, **leaders: Callable[[], object]) -> Scene:
        """`leaders`: what each of them does, once it is in its own session; one called "forked" is not there yet."""

        def leader(act: Callable[[], object], name: str) -> None:
            if name != "forked":
                os.setsid()
            prctl.set_child_subreaper()
            act()
            self.say(name)

        def zygote() -> None:
            os.setsid()
            prctl.set_child_subreaper()
            for name, act in leaders.items():
                fork(lambda act=act, name=name: leader(act, name))
            self.say("zygote")
            while True:  # reap, and end only when the test does
                try:
                    os.wait()
                except ChildProcessError:
                    _wait_for_the_end()

        self._known.append((fork(zygote), 0))
        self.meet("zygote", *leaders)
        return self

    def meet(self, *names: str) -> None:
        """Wait until these have said their pids."""
        wait_until(lambda: self._listen() or set(names) <= set(self.pids), f"{names} to say their pids")

    def _listen(self) -> None:
        try:
            self._text += os.read(self._read, 65536)
        except BlockingIOError:
            return
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            name, _, pid = line.decode().rpartition(" ")
            self.pids[name] = int(pid)
            if (one := proc.stat(int(pid))) is not None:
                self._known.append((one.pid, one.start_time))

    def named(self, pids: list[int]) -> list[str]:
        """Who these are; strangers by their numbers."""
        names = {pid: name for name, pid in self.pids.items()}
        return sorted(names.get(pid, str(pid)) for pid in pids)

    def tree(self, *others: str, leaders: tuple[str, ...] = ("leader",), settled: bool = True) -> SessionTree:
        return SessionTree(
            attempt=ATTEMPT,
            board=Path("/no/board"),
            census=lambda: Census(
                [Reaper(self.pids["zygote"], settled=settled)], [self.pids[name] for name in (*leaders, *others)]
            ),
        )

    def end(self, name: str) -> None:
        """Kill one, and wait until it is dead."""
        os.kill(self.pids[name], signal.SIGKILL)
        wait_until(lambda: not alive(self.pids[name]), f"{name} to end")

    def close(self) -> None:
        self._listen()
        zygote = self._known[0][0]
        for pid, started in self._known[1:]:
            # Not a stranger who got the pid of one that was reaped.
            if (one := proc.stat(pid)) is not None and one.start_time == started and pid != zygote:
                send(pid, signal.SIGKILL)
        send(zygote, signal.SIGKILL)
        os.waitpid(zygote, 0)
        for fd in (self._read, self._write):
            os.close(fd)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def killed(tree: SessionTree | CgroupTree, leader: int) -> int:
    """Kill until one look finds nobody, as the ladder does; how many times that was."""
    times = 0

    def again() -> bool:
        nonlocal times
        times += 1
        living = alive(leader)
        tree.kill(leader, leader_alive=living)
        return tree.look(leader, leader_alive=alive(leader)).empty

    wait_until(again, "the tree to be empty")
    return times


# --- sessions and subreapers --------------------------------------------------------------------------------


FAMILY = sorted(["child", "grandchild", "own session", "daemon", "daemon's daemon", "inner"])


def family(scene: Scene) -> None:
    """Every way to get away from a parent."""
    scene.member("child", lambda: scene.member("grandchild"))
    scene.member("own session", os.setsid)
    scene.daemonize("daemon")
    scene.daemonize("daemon's daemon", lambda: scene.daemonize("inner"))


def test_everyone_below_a_living_leader_is_found(scene: Scene) -> None:
    """Children, grandchildren, double-forked ones, those in sessions of their own; and nobody else."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    found = scene.tree().look(scene.pids["leader"], leader_alive=True)
    assert scene.named(found.pids) == sorted([*FAMILY, "leader"])
    assert not found.empty


def test_what_a_leader_leaves_behind_is_found_below_its_zygote(scene: Scene) -> None:
    """Orphans come to the subreaper above, whatever session or environment they have."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    scene.end("leader")
    found = scene.tree().look(scene.pids["leader"], leader_alive=False)
    assert scene.named(found.pids) == FAMILY
    assert found.sure


@pytest.mark.parametrize("leader_ends_first", [False, True])
def test_a_whole_tree_is_killed(scene: Scene, leader_ends_first: bool) -> None:
    """Nobody of it is alive afterwards, by the witness of /proc."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    if leader_ends_first:
        scene.end("leader")
    assert killed(scene.tree(), scene.pids["leader"]) < 100
    assert [name for name in (*FAMILY, "leader") if alive(scene.pids[name])] == []
    assert alive(scene.pids["zygote"])


def test_where_the_chain_is_broken_the_leader_is_stopped_at_once_and_killed_last(scene: Scene) -> None:
    """There it is the only reaper that keeps the tree together; stopped it forks no more."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    leader = scene.pids["leader"]
    tree = scene.tree()
    tree.chain_intact = False
    first = tree.kill(leader, leader_alive=True)
    assert scene.named(first.pids) == sorted([*FAMILY, "leader"])
    wait_until(lambda: not any(alive(scene.pids[name]) for name in FAMILY), "the family to end")
    wait_until(lambda: (one := proc.stat(leader)) is not None and one.state == "T", "the leader to stop")
    second = tree.kill(leader, leader_alive=True)
    assert second.pids == [leader]
    wait_until(lambda: not alive(leader), "the leader to end")


def test_where_the_chain_is_intact_all_are_killed_at_once(scene: Scene) -> None:
    """What loses its leader is found at the zygote."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    assert scene.named(scene.tree().kill(scene.pids["leader"], leader_alive=True).pids) == sorted([*FAMILY, "leader"])
    wait_until(lambda: not any(alive(scene.pids[name]) for name in (*FAMILY, "leader")), "all to end")


def test_a_leader_alone_is_killed_at_the_first_try(scene: Scene) -> None:
    """Most jobs are one process."""
    scene.start(leader=lambda: None)
    assert scene.tree().kill(scene.pids["leader"], leader_alive=True).pids == [scene.pids["leader"]]
    wait_until(lambda: not alive(scene.pids["leader"]), "the leader to end")
    assert scene.tree().look(scene.pids["leader"], leader_alive=False) == Look([])


def test_a_stopped_tree_is_killed_all_the_same(scene: Scene) -> None:
    """SIGKILL needs nobody's cooperation."""
    scene.start(leader=lambda: family(scene))
    scene.meet(*FAMILY)
    for name in (*FAMILY, "leader"):
        os.kill(scene.pids[name], signal.SIGSTOP)
    killed(scene.tree(), scene.pids["leader"])
    assert [name for name in (*FAMILY, "leader") if alive(scene.pids[name])] == []


def test_another_job_of_the_same_zygote_is_left_alone(scene: Scene) -> None:
    """Also by a leader that has ended, whose orphans are among its siblings."""

    def other() -> None:
        scene.member("their child", os.setsid)
        scene.daemonize("their daemon")

    scene.start(leader=lambda: family(scene), other=other)
    scene.meet(*FAMILY, "their child", "their daemon")
    tree = scene.tree("other")
    assert scene.named(tree.look(scene.pids["leader"], leader_alive=True).pids) == sorted([*FAMILY, "leader"])
    scene.end("leader")
    assert scene.named(tree.look(scene.pids["leader"], leader_alive=False).pids) == FAMILY
    killed(tree, scene.pids["leader"])
    assert all(alive(scene.pids[name]) for name in ("other", "their child", "their daemon"))


def test_a_leader_that_is_not_in_its_own_session_yet_is_ended_alone(scene: Scene) -> None:
    """Session and group are still its zygote's, and so are those of the next one that is forked."""
    scene.start(forked=lambda: None, leader=lambda: None)
    tree = scene.tree(leaders=("leader",), settled=False)
    forked = scene.pids["forked"]
    assert tree.kill(forked, leader_alive=True).pids == [forked]
    wait_until(lambda: not alive(forked), "it to end")
    assert alive(scene.pids["zygote"])
    unannounced = proc.stat(scene.pids["leader"])
    assert unannounced is not None
    assert not tree.owns(msgspec.structs.replace(unannounced, session=scene.pids["zygote"]), Census([], []))


def test_a_group_whose_members_were_reaped_is_left_alone(scene: Scene) -> None:
    """Its number may be another group's by now (C8)."""
    tree = scene.start(leader=lambda: None).tree()
    leader = scene.pids["leader"]
    tree.look(leader, leader_alive=True)
    (group,) = tree._groups
    seen = tree._groups[group][0]
    assert tree_module._still_in(group, seen)
    assert not tree_module._still_in(group, msgspec.structs.replace(seen, start_time=seen.start_time + 1))
    assert not tree_module._still_in(group + 1, seen)
    scene.end("leader")
    wait_until(lambda: not Path(f"/proc/{leader}").exists(), "the leader to be reaped")
    assert not tree_module._still_in(group, seen)


def test_a_tree_that_grows_while_it_is_killed_comes_to_an_end(scene: Scene) -> None:
    """Each of these is replaced by its parent as soon as it dies; more calls end them all."""

    def hydra() -> None:
        while True:
            os.waitpid(fork(lambda: None), 0)

    def act() -> None:
        for _ in range(3):
            fork(hydra)

    scene.start(leader=act)
    leader = scene.pids["leader"]
    wait_until(lambda: len(scene.tree().look(leader, leader_alive=True).pids) >= 7, "the hydras to grow")
    killed(scene.tree(), leader)
    wait_until(lambda: scene.tree().look(leader, leader_alive=False).empty, "those who have ended to be reaped")
    assert proc.children(scene.pids["zygote"]) == [] or not any(map(alive, proc.children(scene.pids["zygote"])))


def test_children_of_other_threads_are_found(scene: Scene) -> None:
    """The kernel lists them with the thread that forked them."""

    def act() -> None:
        ready = threading.Event()

        def in_thread() -> None:
            scene.member("thread's child")
            ready.set()
            threading.Event().wait()

        threading.Thread(target=in_thread, daemon=True).start()
        ready.wait()

    scene.start(leader=act)
    scene.meet("thread's child")
    found = scene.tree().look(scene.pids["leader"], leader_alive=True)
    assert scene.named(found.pids) == ["leader", "thread's child"]
    killed(scene.tree(), scene.pids["leader"])
    assert not alive(scene.pids["thread's child"])


def test_a_zombie_is_nobody(scene: Scene) -> None:
    """Who only waits to be reaped is not alive, and does not keep a tree from being empty."""

    scene.start(leader=lambda: scene.member("child"))
    scene.meet("child")
    scene.end("child")  # and its parent does not wait for it
    leader = scene.pids["leader"]
    assert scene.tree().look(leader, leader_alive=True).pids == [leader]
    assert proc.children(leader) == [scene.pids["child"]]


def test_a_child_of_a_zygote_that_is_just_forking_is_not_taken_for_an_orphan(scene: Scene) -> None:
    """It may be the next leader: until the zygote has said so, nobody can be sure; its own it knows."""
    scene.start(leader=lambda: scene.member("same session"), unannounced=lambda: None)
    scene.meet("same session")
    scene.end("leader")
    leader = scene.pids["leader"]
    found = scene.tree(settled=False).look(leader, leader_alive=False)
    assert scene.named(found.pids) == ["same session"]
    assert not found.sure
    assert not found.empty
    scene.end("same session")
    still = scene.tree(settled=False).look(leader, leader_alive=False)
    assert (still.pids, still.sure, still.empty) == ([], False, False)
    announced = scene.tree("unannounced", settled=False)
    wait_until(lambda: announced.look(leader, leader_alive=False).empty, "those who have ended to be reaped")
    assert alive(scene.pids["unannounced"])


@pytest.mark.parametrize("settled", [True, False])
def test_a_process_that_runs_nothing_yet_keeps_no_tree_waiting(scene: Scene, settled: bool) -> None:
    """Its zygote's mark says so, before the zygote does; it is not killed either."""
    scene.start(leader=lambda: None, fresh=lambda: proc.brand(proc.forked_by(os.getppid())))
    leader, fresh = scene.pids["leader"], scene.pids["fresh"]
    mark = proc.brand_of(proc.forked_by(scene.pids["zygote"]))
    wait_until(lambda: proc.branded(fresh) == mark, "its mark")
    scene.end("leader")
    tree = scene.tree(settled=settled)
    wait_until(lambda: tree.look(leader, leader_alive=False).empty, "the leader to be reaped")
    tree.kill(leader, leader_alive=False)
    assert alive(fresh)


def test_what_a_reaper_had_before_any_job_is_left_alone(scene: Scene) -> None:
    """It is nobody's orphan, and nobody waits for it."""
    scene.start(leader=lambda: scene.member("child"), stranger=lambda: None)
    scene.meet("child")
    leader, stranger = scene.pids["leader"], scene.pids["stranger"]
    scene.end("leader")
    before = frozenset(one for one in children_of(scene.pids["zygote"]) if one[0] == stranger)
    assert len(before) == 1
    reaper = Reaper(scene.pids["zygote"], settled=True, strangers=before)
    tree = SessionTree(attempt=ATTEMPT, board=Path("/no/board"), census=lambda: Census([reaper], [leader]))
    assert scene.named(tree.look(leader, leader_alive=False).pids) == ["child"]
    killed(tree, leader)
    wait_until(lambda: tree.look(leader, leader_alive=False).empty, "those who have ended to be reaped")
    assert alive(stranger)


def test_an_init_takes_for_a_jobs_only_what_is_seen_to_be(scene: Scene) -> None:
    """The orphans of everybody in its PID namespace come to it."""
    scene.start(leader=lambda: scene.member("child"), stranger=lambda: None)
    scene.meet("child")
    leader = scene.pids["leader"]
    reaper = Reaper(scene.pids["zygote"], settled=True, shared=True)
    tree = SessionTree(attempt=ATTEMPT, board=Path("/no/board"), census=lambda: Census([reaper], [leader]))
    tree.look(leader, leader_alive=True)
    scene.end("leader")
    killed(tree, leader)
    wait_until(lambda: tree.look(leader, leader_alive=False).empty, "its own to be gone")
    assert not alive(scene.pids["child"])
    assert alive(scene.pids["stranger"])


def test_without_a_leader_there_is_nobody(scene: Scene) -> None:
    """It was never launched."""
    scene.start(other=lambda: None)
    tree = scene.tree(leaders=("other",))
    assert tree.look(None, leader_alive=False).empty
    assert tree.kill(None, leader_alive=True).empty
    assert alive(scene.pids["other"])


def test_where_the_chain_of_reapers_was_broken_marks_tell(scene: Scene, tmp_path: Path) -> None:
    """By session, by the mark in the environment, by the mapped board, and what is below any of these."""
    path = tmp_path / "board"
    Board.create(path).close()

    def marked(env: dict[str, str]) -> None:
        os.setsid()
        scene.say("marked" if env else "bare")
        os.execve("/bin/sleep", ["sleep", "3600"], env)

    def act() -> None:
        mapped = Board.open(path)
        scene.member("same session")
        scene.daemonize("mapped", lambda: mapped.flag and None)
        fork(lambda: marked({"ANNUL_MARK": "job.1", "A": "b"}))

    def other() -> None:
        fork(lambda: marked({}))

    scene.start(leader=act, other=other)
    scene.meet("same session", "mapped", "marked", "bare")
    wait_until(lambda: MARK in proc.marks(scene.pids["marked"]), "the mark")
    scene.end("zygote")
    scene.end("leader")
    tree = SessionTree(
        attempt=ATTEMPT,
        board=path,
        census=lambda: Census([], [scene.pids["leader"], scene.pids["other"]]),
        chain_intact=False,
    )
    found = tree.look(scene.pids["leader"], leader_alive=False)
    assert scene.named(found.pids) == ["mapped", "marked", "same session"]
    killed(tree, scene.pids["leader"])
    # One that is exiting has no environment and no maps any more, a moment before it is a zombie.
    ended = ("mapped", "marked", "same session")
    wait_until(lambda: not any(alive(scene.pids[name]) for name in ended), "all of them to end")
    assert alive(scene.pids["bare"])
    assert alive(scene.pids["other"])


def test_a_stranger_who_got_the_leaders_pid_is_left_alone(tmp_path: Path) -> None:
    """Also where it leads a session, which then has the number that the leader's had (C8)."""
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    tree = SessionTree(
        attempt=ATTEMPT,
        board=tmp_path / "board",
        census=lambda: Census([], []),
        chain_intact=False,
    )
    try:
        assert tree.kill(stranger.pid, leader_alive=False) == Look([])
        assert alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_mark_is_not_found_in_a_stranger() -> None:
    """Neither in a process that is gone."""
    assert proc.marks(os.getpid()).isdisjoint({MARK, b"/no/board"})
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    assert proc.marks(gone) == set()
    assert proc.stat(gone) is None
    assert proc.children(gone) == []
    assert send(gone, signal.SIGKILL) is False


def test_a_process_is_read_whatever_its_name() -> None:
    """Parentheses and spaces in it do not shift the fields behind it."""
    pid = fork(lambda: Path("/proc/self/comm").write_text("a) Z (b 1 2"))
    try:
        wait_until(lambda: ") Z (" in Path(f"/proc/{pid}/comm").read_text(), "the name")
        one = proc.stat(pid)
        assert one is not None
        assert (one.pid, one.ppid, one.session) == (pid, os.getpid(), os.getsid(0))
        assert one.alive
        assert proc.everyone()[pid].start_time == one.start_time > 0
        assert pid in proc.children(os.getpid())
        assert send(pid, 0) is True
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# --- cgroups ------------------------------------------------------------------------------------------------


def test_looking_for_a_cgroup_leaves_nothing_behind() -> None:
    """Whether there is one that can be written to or not."""
    parent = find_cgroup()
    assert find_cgroup() == parent
    if parent is not None:
        assert not (parent / f"annul-probe-{os.getpid()}").exists()
        assert os.access(parent, os.W_OK)


@pytest.fixture
def cgroup() -> Iterator[CgroupTree]:
    parent = find_cgroup()
    if parent is None:
        pytest.skip("there is no cgroup v2 directory that can be written to")
    made = CgroupTree.create(parent / f"annul-test-{os.getpid()}")
    yield made
    if made.path.exists():
        wait_until(lambda: made.kill(None, leader_alive=False).empty, "the cgroup to be empty")
        wait_until(lambda: made.remove() or not made.path.exists(), "the cgroup to go")


def enter(path: Path) -> None:
    fd = os.open(path / "cgroup.procs", os.O_WRONLY)
    os.write(fd, b"0")
    os.close(fd)


def test_what_a_search_for_a_cgroup_left_when_it_was_killed_is_removed_later(cgroup: CgroupTree) -> None:
    """Not that of one under way."""
    old, new = (cgroup.path / f"annul-probe-{name}" for name in ("77", "78"))
    for probe in (old, new):
        probe.mkdir()
    os.utime(old, (1.0, 1.0))
    remove_old_probes(cgroup.path)
    assert (old.exists(), new.exists()) == (False, True)
    new.rmdir()


@pytest.mark.parametrize(("inside", "passed_on"), [("", True), ("17\n", False)])
def test_controllers_are_passed_on_only_where_no_process_is(tmp_path: Path, inside: str, passed_on: bool) -> None:
    """The kernel takes +pids from a cgroup with processes, and has it threaded then: no job could enter its own."""
    own = tmp_path / "own"
    own.mkdir()
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    for group in (tmp_path, own):
        (group / "cgroup.subtree_control").touch()
    (tmp_path / "cgroup.controllers").write_text("memory pids\n")
    (tmp_path / "cgroup.procs").write_text(inside)
    pass_on_controllers(tmp_path, own)
    assert bool((tmp_path / "cgroup.subtree_control").read_text()) is passed_on
    assert (own / "cgroup.subtree_control").read_text()
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert bool(controllers(tmp_path)) is passed_on


def test_nothing_leaves_a_cgroup(scene: Scene, cgroup: CgroupTree) -> None:
    """Everybody is found in it, with the leader and without, and killed by the kernel."""
    scene.start(leader=lambda: (enter(cgroup.path), family(scene)), other=lambda: scene.member("theirs"))
    scene.meet(*FAMILY, "theirs")
    leader = scene.pids["leader"]
    assert scene.named(cgroup.look(leader, leader_alive=True).pids) == sorted([*FAMILY, "leader"])
    scene.end("leader")
    assert scene.named(cgroup.look(leader, leader_alive=False).pids) == FAMILY
    assert scene.named(cgroup.kill(leader, leader_alive=False).pids) == FAMILY
    wait_until(lambda: cgroup.look(leader, leader_alive=False).empty, "the cgroup to be empty")
    assert not any(alive(scene.pids[name]) for name in FAMILY)
    assert alive(scene.pids["other"])
    assert alive(scene.pids["theirs"])


@pytest.mark.parametrize("way", ["down", "up"])
def test_who_moves_while_a_cgroup_is_listed_is_seen(
    cgroup: CgroupTree, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into one below that is made just before it is listed, or out of one that is removed just after."""
    inner = cgroup.path / "inner"
    with subprocess.Popen(["sleep", "3600"]) as process:

        def move(to: Path) -> None:
            (to / "cgroup.procs").write_text(str(process.pid))

        def listed(group: Path) -> list[int]:
            monkeypatch.undo()  # only the first time
            if way == "down":
                inner.mkdir()
                move(inner)
            found = listed_before(group)
            if way == "up":
                move(cgroup.path)
                inner.rmdir()
            return found

        if way == "up":
            inner.mkdir()
            move(inner)
        else:
            move(cgroup.path)
        listed_before = tree_module._listed
        monkeypatch.setattr(tree_module, "_listed", listed)
        try:
            assert set(cgroup.members()) == {process.pid}
        finally:
            process.kill()


def test_a_cgroup_below_belongs_to_the_tree(scene: Scene, cgroup: CgroupTree) -> None:
    """A job may divide its own; it is found, killed and removed with the rest."""
    inner = cgroup.path / "a" / "b"
    inner.mkdir(parents=True)
    scene.start(leader=lambda: (enter(cgroup.path), scene.member("deep", lambda: enter(inner))))
    scene.meet("deep")
    leader = scene.pids["leader"]
    assert scene.named(cgroup.look(leader, leader_alive=True).pids) == ["deep", "leader"]
    cgroup.remove()
    assert inner.exists(), "one that is in use stays"
    cgroup.kill(leader, leader_alive=True)
    wait_until(lambda: cgroup.look(leader, leader_alive=alive(leader)).empty, "the cgroup to be empty")
    wait_until(lambda: cgroup.remove() or not cgroup.path.exists(), "the cgroup to go")


def test_a_leader_that_has_not_moved_in_yet_is_counted_and_killed(scene: Scene, cgroup: CgroupTree) -> None:
    """Between the fork and the move no code of the user's runs, but the process is there."""
    scene.start(leader=lambda: None)
    leader = scene.pids["leader"]
    assert cgroup.look(leader, leader_alive=True).pids == [leader]
    assert cgroup.look(leader, leader_alive=False).empty
    assert cgroup.kill(leader, leader_alive=True).pids == [leader]
    wait_until(lambda: not alive(leader), "the leader to end")


def test_a_cgroup_that_is_gone_is_empty(cgroup: CgroupTree) -> None:
    """Removing it twice is no trouble."""
    assert CgroupTree.create(cgroup.path).path == cgroup.path
    cgroup.remove()
    cgroup.remove()
    assert cgroup.look(None, leader_alive=False).empty
    assert cgroup.kill(None, leader_alive=False).empty
