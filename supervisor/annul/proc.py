"""/proc, read as the kernel writes it: who is alive, whose child, which session. See proc(5).

Everything here is a snapshot: by the time it is read a process may be gone. One that is gone, or not ours to see, is
reported as None. A look that fails for any other reason (no descriptor is left, say) is no answer and raises OSError.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import time
from pathlib import Path

import msgspec

from annul.blake2 import blake2b

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR, errno.ENODEV, errno.EACCES, errno.EPERM})


def expect_gone(error: OSError) -> None:
    """Raises the error of a look again, unless it says that what was looked at is gone, or not ours to see."""
    if error.errno not in _GONE:
        raise error


class Stat(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The part of /proc/PID/stat that supervising needs."""

    pid: int
    state: str  # R S D T t Z X …
    ppid: int
    group: int  # process group
    session: int
    threads: int
    start_time: int  # clock ticks since boot; with the boot id it tells a process from one that reuses its pid

    @property
    def alive(self) -> bool:
        """A zombie is dead: it only waits for its parent to read its status. But a main thread that has ended while
        others of its process run shows as one too.
        """
        return self.state not in "ZXx" or (self.state == "Z" and self.threads > 1)


def stat(pid: int) -> Stat | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        expect_gone(error)
        return None
    try:
        data = os.read(fd, 1024)
    except OSError as error:
        expect_gone(error)
        return None
    finally:
        os.close(fd)
    # The second field is the command in parentheses and may hold anything, also parentheses and spaces.
    fields = data[data.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode(),
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        threads=int(fields[17]),
        start_time=int(fields[19]),
    )


def pidfd(pid: int) -> int | None:
    """A pidfd on whoever has that pid now, or None where no process has."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the number is only a thread's, group's or session's by now
            expect_gone(error)
        return None


def open_pidfd(pid: int, start_time: int) -> int | None:
    """A pidfd on exactly that process, or None where it is gone (or its pid is a stranger's by now: C8)."""
    fd = pidfd(pid)
    if fd is None:
        return None
    try:
        one = stat(pid)
    except OSError:
        os.close(fd)
        raise
    if one is None or one.start_time != start_time or not one.alive:
        os.close(fd)
        return None
    return fd


def everyone() -> dict[int, Stat]:
    """All processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (names are all that is wanted, a few hundred of them)
        if name.isdigit() and (one := stat(int(name))) is not None:
            found[one.pid] = one
    return found


def children(pid: int) -> list[int]:
    """Direct children of all of a process's threads, from /proc/PID/task/TID/children.

    Non-guarantee (proc(5)): while children come and go it may miss some; read it until it is stable.
    """
    try:
        # A link for each thread, and two as any directory has. (To list it takes twice as long as to read it.)
        if os.stat(f"/proc/{pid}/task").st_nlink == 3:  # noqa: PTH116 (thrice as fast)
            return _children_of_thread(pid, pid)
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError as error:
        expect_gone(error)
        return []
    return [child for thread in threads for child in _children_of_thread(pid, thread)]


def _children_of_thread(pid: int, thread: int | str) -> list[int]:
    try:
        return [int(one) for one in whole(f"/proc/{pid}/task/{thread}/children").split()]
    except OSError as error:
        expect_gone(error)
        return []


def whole(path: str) -> bytes:
    """All of a file that the kernel makes up. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
        return data
    finally:
        os.close(fd)


def age_s(start_time: int) -> float:
    """How long ago a process with that start time started, seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_time / os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def marks(pid: int) -> frozenset[bytes]:
    """What a process carries of attempts: ``ANNUL_MARK=…`` in its environment (survives exec), and the paths of the
    boards that it maps (survive fork). Nothing where it is gone, or another user's, and not ours to see.
    """
    found: set[bytes] = set()
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (hot: once for each process there is)
            found.update(one for one in file.read().split(b"\0") if one.startswith(b"ANNUL_MARK="))
        with open(f"/proc/{pid}/maps", "rb") as file:  # noqa: PTH123
            for line in file.read().splitlines():
                path = line.removesuffix(b" (deleted)")
                if path.endswith(b"/board"):
                    found.add(path[path.index(b"/") :])
    except OSError as error:
        expect_gone(error)
    return frozenset(found)


_BRAND = 1 << 62  # microseconds: as good as no limit


@functools.lru_cache(maxsize=1024)
def brand_of(attempt: str) -> int:
    """The number that marks the processes of an attempt, by its name: in ``RLIMIT_RTTIME``, microseconds."""
    return _BRAND + (int.from_bytes(blake2b(attempt.encode(), digest_size=8).digest()) >> 2)


def resident() -> int:
    """What this process has in memory, bytes."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def forked_by(zygote: int) -> str:
    """In place of an attempt's name: the mark of those that a zygote has forked and that run nothing yet."""
    return f"zygote.{zygote}"


def brand(attempt: str, over: str = "") -> None:
    """Mark this process, and all that descend from it, in a resource limit that has no effect. It survives fork, exec,
    another session, another environment and closed files.

    Where there is such a limit already it stays: it may be the mark of a job in which this daemon runs. `over`: a mark
    that may be replaced.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    if soft == resource.RLIM_INFINITY or (over and soft == brand_of(over)):
        resource.setrlimit(resource.RLIMIT_RTTIME, (brand_of(attempt), hard))


def branded(pid: int) -> int | None:
    """The number that a process (also a zombie) was marked with; None where it has no such mark, or is gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
            line = next((line for line in file if line.startswith(b"Max realtime timeout")), b"")
    except OSError as error:
        expect_gone(error)
        return None
    soft = line.split()[3:4]
    return int(soft[0]) if soft and soft[0].isdigit() and int(soft[0]) >= _BRAND else None
