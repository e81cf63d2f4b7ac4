"""Process trees of every shape: ways in which descendants of a job get away from it.

    shapes.py SHAPE FOLDER MANNER THEN

Only the standard library, so that it also runs as a script, with any environment. Each member of a tree is a witness of
its own life: it has a file "NAME.PID.START" in the folder (the start time tells it from one that got its pid later), to
which it appends as long as it lives. Its `manner`: "deaf" ignores SIGTERM, "polite" ends by it. What the leader does
`then`: "wait" or "end".
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
NOBODY = 65534
_libc = ctypes.CDLL(None)


class Tree:
    """Makes the members of one tree."""

    def __init__(self, folder: str, manner: str) -> None:
        self.folder = folder
        self.manner = manner

    def register(self, name: str) -> int:
        """Become a witness; the descriptor to write to."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self.manner == "deaf" else signal.SIG_DFL)
        start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        path = f"{self.folder}/{name}.{os.getpid()}.{start}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def live(self, name: str) -> NoReturn:
        """Be a member, for ever."""
        self.beat(self.register(name))

    @staticmethod
    def beat(file: int) -> NoReturn:
        while True:
            os.write(file, b".")
            time.sleep(0.01)

    def meet(self, count: int) -> None:
        """Wait until there are that many."""
        while len(members(Path(self.folder))) < count:
            time.sleep(0.001)

    def fork(self, name: str, before: Callable[[], object] = lambda: None) -> None:
        """A child that does something, and then is a member."""
        forked(lambda: (before(), self.live(name)))


def forked(act: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid


def prctl(option: int, value: object) -> None:
    assert _libc.prctl(option, value, 0, 0, 0) == 0


def daemonized(act: Callable[[], object]) -> None:
    """The classic escape: fork, new session, fork again, the one in the middle exits."""
    os.waitpid(forked(lambda: (os.setsid(), forked(act))), 0)


def child(tree: Tree) -> None:
    tree.fork("child")


def grandchild(tree: Tree) -> None:
    """The parent of it stays and is a member, too."""
    tree.fork("child", lambda: tree.fork("grandchild"))


def double_fork(tree: Tree) -> None:
    daemonized(lambda: tree.live("orphan"))


def double_fork_deep(tree: Tree) -> None:
    """A daemon that starts daemons."""
    daemonized(lambda: (daemonized(lambda: tree.live("inner")), tree.live("outer")))


def own_session(tree: Tree) -> None:
    tree.fork("child", os.setsid)


def own_group(tree: Tree) -> None:
    tree.fork("child", lambda: os.setpgid(0, 0))


def nohup(tree: Tree) -> None:
    tree.fork("child", lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))


def stopped(tree: Tree) -> None:
    """Members that are stopped, one of them as a daemon."""
    tree.fork("child")
    daemonized(lambda: tree.live("orphan"))
    tree.meet(2)
    for pid, _ in members(Path(tree.folder)):
        os.kill(pid, signal.SIGSTOP)


def nameless(tree: Tree) -> None:
    """It has another name, and no descriptor open."""

    def hide() -> NoReturn:
        prctl(_PR_SET_NAME, b"kworker/0:1")
        tree.register("nameless")
        os.closerange(0, 1024)
        while True:
            time.sleep(3600)

    daemonized(hide)


def reaper(tree: Tree) -> None:
    """A child that is a subreaper itself, and is handed the orphans of the job in the leader's place."""

    def act() -> NoReturn:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        for name in ("one", "two"):
            daemonized(lambda name=name: tree.live(name))
        tree.live("reaper")

    forked(act)


def parting(tree: Tree) -> None:
    """Told of its parent's death it leaves a successor in another session, and ends."""

    def leave() -> NoReturn:
        daemonized(lambda: tree.live("successor"))
        os._exit(0)

    def act() -> NoReturn:
        signal.signal(signal.SIGUSR1, lambda *_: leave())
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1))
        tree.live("heir")

    forked(act)


def of_thread(tree: Tree) -> None:
    """Its parent is a thread, not the main one, that lives on."""
    done = threading.Event()
    threading.Thread(target=lambda: (tree.fork("child"), done.set(), time.sleep(3600)), daemon=True).start()
    done.wait()


def executed(tree: Tree) -> None:
    """posix_spawn, which is vfork and exec: another program, with the job's environment."""
    arguments = [sys.executable, "-S", __file__, "alone", tree.folder, tree.manner, "wait"]
    os.posix_spawn(sys.executable, arguments, os.environ)


def disguised(tree: Tree) -> None:
    """A daemon in a session of its own, and another program with no environment: only its brand names the job."""
    arguments = [sys.executable, "-S", __file__, "alone", tree.folder, tree.manner, "wait"]
    daemonized(lambda: os.execve(sys.executable, arguments, {}))


def unbranded(tree: Tree) -> None:
    """The same, which has taken its brand off as well: nothing of it names the job."""
    arguments = [sys.executable, "-S", __file__, "alone", tree.folder, tree.manner, "wait"]

    def become() -> None:
        resource.setrlimit(resource.RLIMIT_RTTIME, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.execve(sys.executable, arguments, {})

    daemonized(become)


def alone(tree: Tree) -> NoReturn:
    """No tree: what `executed`, `disguised` and `unbranded` become."""
    tree.live("program")


def bomb(tree: Tree) -> None:
    """200 processes, each in a session of its own."""
    for number in range(200):
        tree.fork(f"fragment-{number}", os.setsid)


def comet(tree: Tree) -> None:
    """A chain in which each process forks the next and ends. None is there for long enough to be a witness."""

    def fly() -> NoReturn:
        if tree.manner == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        trail = os.open(f"{tree.folder}/trail", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        while True:
            os.write(trail, b".")
            if os.fork():
                os._exit(0)

    forked(fly)
    while not Path(tree.folder, "trail").exists():
        time.sleep(0.001)


def other_user(tree: Tree) -> None:
    """It becomes somebody else; only root's may."""

    def act() -> NoReturn:
        file = tree.register("nobody")
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        tree.beat(file)

    forked(act)


def other_cgroup(tree: Tree) -> None:
    """A daemon that leaves the job's cgroup for the one that annul was started in, where it has one and may."""

    def leave() -> None:
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::")
        mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
        if "/annul-" in own:
            mount = next(Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2")
            (mount / own[1:]).parent.parent.joinpath("cgroup.procs").write_text("0")

    daemonized(lambda: (leave(), tree.live("orphan")))


# How many members each has.
SHAPES: dict[Callable[[Tree], None], int] = {
    child: 1,
    grandchild: 2,
    double_fork: 1,
    double_fork_deep: 2,
    own_session: 1,
    own_group: 1,
    nohup: 1,
    stopped: 2,
    nameless: 1,
    reaper: 3,
    parting: 1,
    of_thread: 1,
    executed: 1,
    disguised: 1,
    unbranded: 1,
    bomb: 200,
    comet: 0,
    other_user: 1,
    other_cgroup: 1,
}


def members(folder: Path) -> list[tuple[int, int]]:
    """(pid, start time) of every member there ever was."""
    return [(int(path.name.split(".")[1]), int(path.name.split(".")[2])) for path in folder.glob("*.*.*")]


def grow(shape: str, folder: str, manner: str) -> None:
    """Make that tree below this process, and the file "grown" when all of it is there."""
    made: Callable[[Tree], None] = globals()[shape]
    tree = Tree(folder, manner)
    made(tree)
    tree.meet(SHAPES[made])
    Path(folder, "grown").touch()


if __name__ == "__main__":
    _shape, _folder, _manner, _then = sys.argv[1:]
    grow(_shape, _folder, _manner)
    if _then == "wait":
        time.sleep(3600)
