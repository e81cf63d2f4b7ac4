"""Process trees that jobs grow, and the heartbeat that every process of them writes.

A process writes to a file of its own, ``<beats>/<job id>/<pid>.<start time>.<how>``, and holds it open: so a witness
finds it by its name as well as among the open files in /proc. `how` is ``ns`` where each beat is 8 bytes, the wall
clock in nanoseconds (Python), and ``sh`` where a beat is just a line (shells).
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

BEAT_S = 0.01
READY = "ready"  # made in the job's directory once its tree stands
BEAT = struct.Struct("=Q")
SHELL_BEAT = (
    'read -r s </proc/self/stat; d=$1; set -- $s; exec 9>>"$d/$1.${22}.sh"; while :; do echo . >&9; sleep 0.02; done'
)

# How a shell starts one more beating process: with "$2", the script above, and "$d", the job's directory.
_SHELL_SHAPES = {
    "none": "",
    "child": 'sh -c "$2" sh "$d" &',
    "double-fork": '(sh -c "$2" sh "$d" &)',
    "setsid": 'setsid sh -c "$2" sh "$d" &',
    "new-group": 'timeout 3600 sh -c "$2" sh "$d" &',
    "nohup": 'nohup sh -c "$2" sh "$d" >/dev/null &',
    "fork-bomb": 'for i in 1 2 3; do (sh -c "$2" sh "$d" & setsid sh -c "$2" sh "$d" &); done',
    "env-cleared": '(setsid env -i /bin/sh -c "$2" sh "$d" &)',
}


def command(beats: str, shape: str, *, stubborn: bool, ends_after_s: float | None) -> list[str]:
    """An argv for `exec` that grows such a tree. `stubborn`: what it starts ignores SIGTERM."""
    grow = _SHELL_SHAPES[shape]
    if stubborn:
        grow = f"trap '' TERM\n{grow}\ntrap - TERM"
    end = f"sleep {ends_after_s:.3f}; exit 0" if ends_after_s is not None else 'set -- "$d"; eval "$beat"'
    script = f'beat=$2; d=$1/$ANNUL_JOB_ID; mkdir -p "$d"; {grow}\n: >"$d/{READY}"; {end}'
    return ["sh", "-c", script, "sh", beats, SHELL_BEAT]


class Heart:
    """The heartbeat of this process."""

    def __init__(self, folder: Path) -> None:
        start_time = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        path = folder / f"{os.getpid()}.{start_time}.ns"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.set_inheritable(self._fd, True)  # what is exec'ed from here can be told by it
        self.beat()

    def beat(self) -> None:
        os.write(self._fd, BEAT.pack(time.time_ns()))

    def beat_forever(self) -> NoReturn:
        while True:
            self.beat()
            time.sleep(BEAT_S)

    def start(self) -> None:
        """Beat in a thread, while this process does something else."""
        threading.Thread(target=self.beat_forever, daemon=True).start()


def ready(folder: Path, text: str = "") -> None:
    """Tell who wants to cancel the job that it is where it wants to be, and `text`."""
    part = folder / f"{READY}.part"
    part.write_text(text)
    part.rename(folder / READY)


def grow(folder: Path, shape: str, *, exec_: bool, stubborn: bool) -> None:
    """Grow a tree below this process, and wait until all of it beats. `exec_`: its members are shells."""
    member = _Member(folder, exec_=exec_, stubborn=stubborn)
    before = len(os.listdir(folder))
    _SHAPES[shape](member)
    while len(os.listdir(folder)) < before + _SIZES.get(shape, 1):
        time.sleep(0.002)


class _Member:
    """What becomes of a forked process in the end."""

    def __init__(self, folder: Path, *, exec_: bool, stubborn: bool) -> None:
        self.folder = folder
        self.exec_ = exec_
        self.stubborn = stubborn

    def run(self, *via: str, env: dict[str, str] | None = None) -> NoReturn:
        if self.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.exec_:
            argv = [*via, "/bin/sh", "-c", SHELL_BEAT, "sh", str(self.folder)]
            os.execvpe(argv[0], argv, os.environ if env is None else env)
        Heart(self.folder).beat_forever()


def fork(run: Callable[[], object]) -> int:
    """Run something in a child that ends with it."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def _child(member: _Member) -> None:
    fork(member.run)


def _double_fork(member: _Member) -> None:
    os.waitpid(fork(lambda: fork(member.run)), 0)


def _setsid(member: _Member) -> None:
    fork(lambda: (os.setsid(), member.run()))


def _new_group(member: _Member) -> None:
    fork(lambda: (os.setpgid(0, 0), member.run()))


def _nohup(member: _Member) -> None:
    def run() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        member.run("nohup")

    fork(run)


def _fork_bomb(member: _Member, depth: int = 2) -> None:
    """Each forks two, one of them in a session of its own: six in all."""

    def run(session: bool) -> None:
        if session:
            os.setsid()
        if depth > 1:
            _fork_bomb(member, depth - 1)
        member.run()

    for session in (False, True):
        fork(lambda session=session: run(session))


def _env_cleared(member: _Member) -> None:
    """Orphaned, in a new session, exec'ed with nothing in its environment: no mark is left on it."""
    member.exec_ = True
    os.waitpid(fork(lambda: (os.setsid(), fork(lambda: member.run(env={})))), 0)


def _chain(member: _Member) -> None:
    """Each beats once, forks the next and ends."""

    def run() -> None:
        os.setsid()
        if member.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            Heart(member.folder)
            time.sleep(0.004)
            if os.fork():
                os._exit(0)

    os.waitpid(fork(run), 0)


_SHAPES: dict[str, Callable[[_Member], None]] = {
    "none": lambda _: None,
    "child": _child,
    "double-fork": _double_fork,
    "setsid": _setsid,
    "new-group": _new_group,
    "nohup": _nohup,
    "fork-bomb": _fork_bomb,
    "env-cleared": _env_cleared,
    "chain": _chain,
}
_SIZES = {"none": 0, "fork-bomb": 6, "chain": 2}
SHAPES = list(_SHAPES)
COMMAND_SHAPES = list(_SHELL_SHAPES)
