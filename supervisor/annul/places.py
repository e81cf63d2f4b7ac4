"""The daemon's directories: made private, locked, refused where they are not ours; and its loopback address."""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import select
import signal
from pathlib import Path

from annul import proc
from annul.board import BOARD
from annul.errors import StartError

_log = logging.getLogger(__name__)
_LAST_RUNTIME = "runtime_dir"  # in the state directory: the path of the runtime directory that was used last
_SOCKET_PATH_MAX = 107  # bytes, sun_path less its final NUL
_HAND_OVER_S = 30.0
_LONGEST_NAME = len("/events.sock")


def prepare(path: Path, *, what: str) -> None:
    """Make a directory, for its owner only. Raises StartError where it cannot be had or is another user's."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"the {what} directory {path} cannot be made: {error}") from error
    check_private(path, what=what)
    check_writable(path, path, what=what)


def check_private(path: Path, *, what: str) -> None:
    """Raises StartError where an existing directory is another user's, or others can write to it."""
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StartError(
            f"the {what} directory {path} must belong to uid {os.geteuid()} and be writable by nobody else "
            f"(it belongs to uid {found.st_uid}, mode {found.st_mode & 0o777:o}): chown or chmod it, or name another"
        )


def check_writable(path: Path, existing: Path, *, what: str) -> None:
    """Raises StartError where nothing can be made in a directory, or in the one that it is to be made in."""
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StartError(f"the {what} directory {path}: {existing} is not writable for uid {os.geteuid()}")


def check_socket_path(runtime_dir: Path) -> None:
    if len(os.fsencode(runtime_dir)) + _LONGEST_NAME > _SOCKET_PATH_MAX:
        raise StartError(
            f"the runtime directory's path is too long for sockets ({_SOCKET_PATH_MAX} bytes with the socket's "
            f"name): {runtime_dir}. Name a shorter one with --runtime-dir."
        )


def check_same_file_system(state_dir: Path, outputs_dir: Path) -> None:
    """Raises StartError where one cannot be renamed into the other."""
    if state_dir.stat().st_dev != outputs_dir.stat().st_dev:
        raise StartError(
            f"{state_dir} and {outputs_dir} must be on one file system: outputs are published by rename. Name another "
            "--outputs-dir"
        )


def check_same_runtime(state_dir: Path, runtime_dir: Path) -> None:
    """Raises StartError where jobs of this state directory live that were started with another runtime directory.

    Their cancel flags are there, and it is there that they look whether a daemon runs.
    """
    before = _last_runtime(state_dir)
    if before is None or before == runtime_dir.resolve():
        return
    if alive := _alive_in(before):
        raise StartError(
            f"jobs still run that were started with the runtime directory {before} ({', '.join(alive[:3])}"
            f"{', …' if alive[3:] else ''}): with {runtime_dir} they would find no daemon, and end. Give that one "
            f"(--runtime-dir {before}), or wait until they are over"
        )


def note_runtime(state_dir: Path, runtime_dir: Path) -> None:
    """For the next daemon's `check_same_runtime`. A full disk does not keep this one from starting."""
    path = runtime_dir.resolve()
    if _last_runtime(state_dir) == path:
        return
    new = state_dir / f"{_LAST_RUNTIME}.new"
    try:
        new.write_bytes(os.fsencode(path))
        new.replace(state_dir / _LAST_RUNTIME)
    except OSError as error:
        _log.warning("cannot note which runtime directory is used: %s", error, extra={"action": "start"})


def _last_runtime(state_dir: Path) -> Path | None:
    try:
        return Path(os.fsdecode((state_dir / _LAST_RUNTIME).read_bytes()))
    except OSError:
        return None


def _alive_in(runtime_dir: Path) -> list[str]:
    """The attempts in a runtime directory of which processes live. Where a daemon died, others are in it too."""
    try:
        names = sorted(os.listdir(runtime_dir / "jobs"))  # noqa: PTH208 (names of attempts)
    except OSError:
        return []
    if not names:
        return []
    there = [one.pid for one in proc.everyone().values() if one.alive]
    brands = {proc.branded(pid) for pid in there}
    marks = frozenset[bytes]().union(*map(proc.marks, there))
    return [
        name
        for name in names
        if proc.brand_of(name) in brands or os.fsencode(runtime_dir / "jobs" / name / BOARD) in marks
    ]


def lock(path: Path, *, what: str) -> int:
    """Hold the directory's lock; the descriptor, to be kept. Raises StartError where another daemon holds it."""
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise _held(path, what, pid) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def check_not_held(path: Path, *, what: str, but_by: int) -> None:
    """Raises StartError where another daemon than this one holds the directory's lock. Takes none."""
    pid = holder(path)
    if pid not in (None, but_by):
        raise _held(path, what, pid)


def _held(path: Path, what: str, pid: object) -> StartError:
    return StartError(
        f"another annul daemon (pid {pid}) uses the {what} directory {path}: stop that one first, or give this one "
        "directories of its own (--state-dir, --runtime-dir)"
    )


def take_over(state_dir: Path, pid: int) -> None:
    """Have the daemon that holds a state directory hand over: leave its jobs running, and end. Returns once it has.

    Raises StartError where it does not end in time.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if holder(state_dir) != pid:
            return  # it ended, and the pid is another's
        signal.pidfd_send_signal(fd, signal.SIGUSR2)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(_HAND_OVER_S * 1000):
            raise StartError(
                f"the daemon (pid {pid}) that uses {state_dir} did not hand over within {_HAND_OVER_S:g} s of SIGUSR2. "
                "It still will, as soon as it goes on: the signal cannot be taken back. If it is stopped, let it "
                f"continue (kill -CONT {pid}) and start this one again; else look into its log"
            )
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def holder(path: Path) -> int | None:
    """The pid of the daemon that holds a directory's lock; None where none does, or another user's.

    Looks in /proc and takes no lock, not even a shared one: a daemon that starts at this moment must not be refused.
    """
    lock_file = path / "lock"
    try:
        pid = int(lock_file.read_text())
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):  # noqa: PTH208 (names of descriptors, no paths)
            at = Path(f"/proc/{pid}/fd/{fd}")
            if at.exists() and at.samefile(lock_file) and "FLOCK" in Path(f"/proc/{pid}/fdinfo/{fd}").read_text():
                return pid
    except (OSError, ValueError):
        pass  # no lock file, nobody's pid in it, or not ours to see
    return None


def loopback(text: str) -> tuple[str, int]:
    """HOST:PORT of this machine's loopback; port 0 is any that is free. Raises StartError for anything else.

    Nobody is asked who they are there, so that it is not for the network: a proxy with TLS and accounts is.
    """
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise StartError(
            f"metrics is a loopback address such as 127.0.0.1:9464, not {text!r}: nobody is asked for a key"
        )
    return host, int(port)
