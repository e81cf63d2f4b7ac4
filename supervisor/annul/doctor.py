"""`annul doctor`: what there is on this machine, and in the configured places, that the daemon's promises rest on.

It looks with the daemon's own eyes (`places`, `tree`, `store`, `catalog`) and leaves everything as it was: what it has
to try (a cgroup, a store in the state directory) is made under a name of its own and removed at once. Run it as the
user, and in the unit or container, that the daemon is to run in: it tells what `annul serve` would find from there.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from annul import landlock, places, prctl, proc, server, store, tree
from annul._version import __version__
from annul.catalog import Catalog
from annul.config import Config
from annul.errors import StartError
from annul.runtime import confine
from annul_client.wire import Pong

_PACKAGES = ("pyzmq", "msgspec", "psutil", "click", "pypdf", "openai")
_NETWORK = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
    )
)
_STATE_BYTES = 512 * 2**20  # less free space than this is worth a warning
_RUNTIME_BYTES = 16 * 2**20
_FILES = 4096
_RESTORE = (
    "stop the daemon, keep a copy of annul.db, annul.db-wal and jobs/, restore a backup (docs/operating.md: Backups); "
    "without one, `sqlite3 annul.db .recover` saves what can be read"
)
_DELEGATE = "run it under systemd with Delegate=yes (or as root) to have cgroups"
_NOT_CAUGHT = (
    "a process is missed if zygote and daemon died during its job, and it was orphaned meanwhile, has another session "
    "and was exec'ed with another environment"
)


class Level(StrEnum):
    """What a finding means."""

    OK = "ok"
    INFO = "info"  # worth knowing, nothing to do
    WARNING = "warning"  # the daemon starts and keeps its promises, but less well than it could
    ERROR = "error"  # keeps `annul serve` from starting, or from keeping its promises


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str  # what was looked at; several findings may have the same
    level: Level
    found: str
    advice: str = ""  # what to do about it


def examine(config: Config, *, check_store: bool = False) -> Iterator[Finding]:
    """Everything there is to say, in the order in which it is read best. Takes up to a few seconds.

    `check_store`: read all of the store too, which takes seconds for each gigabyte.
    """
    yield _versions()
    yield from _kernel()
    yield from _proc_files()
    yield from _tree(config)
    yield from _containment(config)
    yield from _runtime(config)
    yield from _state(config)
    yield from _store(config, whole=check_store)
    yield from _daemon(config)
    yield from _limits(config)
    yield from _job_types(config)
    yield _openai()


def _versions() -> Finding:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    about = f"{__version__} on Python {platform.python_version()}, Linux {platform.release()}; {', '.join(found)}"
    if missing:
        return Finding("annul", Level.ERROR, f"{about}; not installed: {', '.join(missing)}", "install annul with pip")
    return Finding("annul", Level.OK, about)


# --- the kernel ---------------------------------------------------------------------------------------------------


def _kernel() -> Iterator[Finding]:
    failed = []
    for what, attempt in (("pidfd", _signal_by_pidfd), ("subreaper", prctl.set_child_subreaper)):
        try:
            attempt()
        except OSError as error:
            failed.append(f"{what} ({error.strerror})")
    if failed:
        advice = "annul needs Linux 5.3, and a container whose seccomp profile lets these calls through"
        yield Finding("kernel", Level.ERROR, f"refused: {', '.join(failed)}", advice)
    else:
        yield Finding("kernel", Level.OK, "processes can be signalled by pidfd, and orphans are handed to annul")


def _signal_by_pidfd() -> None:
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def _proc_files() -> Iterator[Finding]:
    own = os.getpid()
    if proc.stat(own) is None:
        yield Finding("/proc", Level.ERROR, "it cannot be read", "mount proc there: annul looks for processes in it")
    elif not Path(f"/proc/{own}/task/{own}/children").exists():
        advice = "a kernel with CONFIG_PROC_CHILDREN is needed to find descendants"
        yield Finding("/proc", Level.ERROR, "it does not list the children of a process", advice)
    elif proc.stat(1) is None:
        yield Finding(
            "/proc",
            Level.WARNING,
            "it shows this user's processes only (hidepid): of a job that changes its user, by sudo say, they are not "
            "found by session",
            f"mount /proc without hidepid, or {_DELEGATE}",
        )
    else:
        yield Finding("/proc", Level.OK, "all processes can be seen, and their children")


def _tree(config: Config) -> Iterator[Finding]:
    try:
        parent = tree.choose_cgroup(config.tree)
    except StartError as error:
        yield Finding("tree", Level.ERROR, str(error))
        return
    if parent is not None:
        yield Finding("tree", Level.OK, f"by cgroup, below {parent}: nothing escapes")
    elif config.tree == tree.SessionTree.name:
        yield Finding(
            "tree", Level.INFO, f"by session, as asked for: {_NOT_CAUGHT}", "--tree auto takes cgroups if it can"
        )
    else:
        why = _why(tree.usable_cgroup)
        yield Finding("tree", Level.WARNING, f"by session, since {why}: {_NOT_CAUGHT}", _DELEGATE)


def _containment(config: Config) -> Iterator[Finding]:
    version = landlock.abi()
    lacks = confine.lacking(version)
    if lacks:
        advice = (
            "jobs that call ctx.confine do without that (docs/security.md): a newer kernel, or a container's seccomp"
        )
        yield Finding("confined", Level.WARNING, "; ".join(lacks), f"{advice} profile that allows it, has it")
    else:
        yield Finding("confined", Level.OK, f"files, signals and sockets can be refused (Landlock ABI {version})")
    parent = tree.find_cgroup() if config.tree != tree.SessionTree.name else None
    found = tree.controllers(parent) if parent is not None else []
    missing = [name for name in tree.CONTROLLERS if name not in found]
    if missing:
        about = (
            f"not delegated: {', '.join(missing)}; memory_bytes is counted for each process, max_processes not at all"
        )
        advice = "Delegate=yes and DelegateSubgroup=daemon in the unit (systemd 254) have them"
        yield Finding("cgroup", Level.INFO, about, advice)
    else:
        yield Finding("cgroup", Level.OK, f"{' and '.join(found)} of a job can be limited as a whole")


def _why(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except StartError as error:
        return str(error)
    return ""


# --- places -------------------------------------------------------------------------------------------------------


def _runtime(config: Config) -> Iterator[Finding]:
    path = config.runtime_dir
    problem = (
        _why(lambda: places.check_socket_path(path))
        or _unusable(path, "runtime")
        or _why(lambda: places.check_same_runtime(config.state_dir, path))
    )
    if problem:
        yield Finding("runtime", Level.ERROR, problem)
        return
    if (free := _free_bytes(path)) < _RUNTIME_BYTES:
        yield Finding("runtime", Level.WARNING, f"{path}: {_size(free)} are free", "make room: every job needs some")
    elif (kind := _file_system(path)) != "tmpfs":
        advice = "name one on tmpfs, such as /run/annul, by --runtime-dir: else a slow disk slows jobs down"
        yield Finding("runtime", Level.WARNING, f"{path}: its shared memory lies on a disk ({kind})", advice)
    else:
        yield Finding("runtime", Level.OK, f"{path}: {_made(path)}, on tmpfs")


def _state(config: Config) -> Iterator[Finding]:
    path, outputs = config.state_dir, config.outputs_dir
    for one, what in ((path, "state"), (outputs, "output")):
        if problem := _unusable(one, what):
            yield Finding("state", Level.ERROR, problem)
            return
    if problem := _why(lambda: places.check_same_file_system(_existing(path), _existing(outputs))):
        yield Finding("state", Level.ERROR, problem)
        return
    kind = _file_system(path)
    if kind in _NETWORK:
        advice = "name one on a local disk by --state-dir: SQLite's log and locks need it"
        yield Finding("state", Level.ERROR, f"{path}: it is on a network file system ({kind})", advice)
    elif problem := _cannot_store(path):
        yield Finding("state", Level.ERROR, f"{path}: {problem}")
    elif (free := _free_bytes(path)) < _STATE_BYTES:
        advice = "make room: on a full disk cancels go on, but nothing else does"
        yield Finding("state", Level.WARNING, f"{path}: {_size(free)} are free", advice)
    else:
        yield Finding("state", Level.OK, f"{path}: {_made(path)}, on {kind}, {_size(free)} free; outputs in {outputs}")


def _unusable(path: Path, what: str) -> str:
    """Why the daemon could not use, or make, this directory; "" where it can."""
    existing = _existing(path)
    if not existing.is_dir():
        return f"the {what} directory {path} cannot be made: {existing} is no directory"
    if existing == path and (problem := _why(lambda: places.check_private(path, what=what))):
        return problem
    return _why(lambda: places.check_writable(path, existing, what=what))


def _existing(path: Path) -> Path:
    """The path, or that above it which exists and in which it would be made."""
    while not os.path.lexists(path):
        path = path.parent
    return path


def _made(path: Path) -> str:
    return f"mode {path.stat().st_mode & 0o777:o}" if path.exists() else "to be made"


def _cannot_store(state_dir: Path) -> str:
    """Why SQLite does not work there as the daemon uses it; "" where it does, or the directory is not there yet."""
    if not state_dir.exists():
        return ""
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=state_dir) as probe:
            store.Store(Path(probe, "annul.db")).close()
    except (StartError, OSError) as error:
        return f"no store can be made in it: {error}"
    return ""


def _file_system(path: Path) -> str:
    import psutil

    real = _existing(path).resolve()
    mounts = [one for one in psutil.disk_partitions(all=True) if real.is_relative_to(one.mountpoint)]
    # Of two that are mounted at one place the later one hides the other.
    found = max(enumerate(mounts), key=lambda one: (len(one[1].mountpoint), one[0]), default=None)
    return found[1].fstype if found else "an unknown file system"


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(_existing(path)).free


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


# --- what is there already ----------------------------------------------------------------------------------------


def _store(config: Config, *, whole: bool = False) -> Iterator[Finding]:
    path = config.state_dir / "annul.db"
    log, index = (path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))
    if _unusable(config.state_dir, "state"):
        return  # said already
    if log.exists() and log.stat().st_size and not index.exists():
        yield Finding(
            "store", Level.INFO, f"{path} was copied with its log: it can be read by a start of the daemon only"
        )
        return
    try:
        schema = store.check(path)
    except (StartError, OSError) as error:
        yield Finding("store", Level.ERROR, str(error))
        return
    known = len(store.migrations())
    if schema is None:
        yield Finding("store", Level.OK, f"{path}: to be made")
    elif schema < known:
        yield Finding("store", Level.INFO, f"{path}: schema {schema}; the next start of the daemon makes it {known}")
    else:
        yield Finding("store", Level.OK, f"{path}: schema {schema}, readable")
    if whole and schema is not None:
        yield from _whole_store(config, path)


def _whole_store(config: Config, path: Path) -> Iterator[Finding]:
    found = False
    try:
        for problem in store.problems(path, jobs_dir=config.state_dir / "jobs", outputs_dir=config.outputs_dir):
            found = True
            yield Finding("store", Level.ERROR, problem, _RESTORE)
    except StartError as error:
        yield Finding("store", Level.ERROR, str(error), _RESTORE)
        return
    if not found:
        yield Finding("store", Level.OK, f"{path}: all of it was read, and is in order")


def _daemon(config: Config) -> Iterator[Finding]:
    holders = {
        what: places.holder(path) for what, path in (("state", config.state_dir), ("runtime", config.runtime_dir))
    }
    pids = {pid for pid in holders.values() if pid is not None}
    pong = server.ping(config.runtime_dir)
    if pong is None:
        if pids:
            at = ", ".join(f"the {what} directory (pid {pid})" for what, pid in holders.items() if pid is not None)
            advice = "stop it, or name its directories (both) here"
            yield Finding("daemon", Level.ERROR, f"one holds {at}, and does not answer in {config.runtime_dir}", advice)
        else:
            yield Finding("daemon", Level.INFO, "none runs here", "annul serve starts one")
        return
    yield from _running(config, pong, holders)


def _running(config: Config, pong: Pong, holders: dict[str, int | None]) -> Iterator[Finding]:
    about = f"pid {pong.pid}, version {pong.version}, trees by {pong.tree}, at {pong.requests}"
    if Path(pong.state_dir) != config.state_dir:
        advice = "two daemons cannot share a runtime directory: name both directories of the one you mean"
        yield Finding("daemon", Level.ERROR, f"{about}: its state is in {pong.state_dir}", advice)
    elif other := [what for what, pid in holders.items() if pid not in (None, pong.pid)]:
        advice = "stop the other one: it was started while the directory was emptied or moved"
        yield Finding("daemon", Level.ERROR, f"{about}: another holds the {other[0]} directory", advice)
    elif pong.version != __version__:
        yield Finding("daemon", Level.WARNING, about, f"restart it to have {__version__}; running jobs are adopted")
    else:
        yield Finding("daemon", Level.OK, about)


# --- limits, and what jobs need -----------------------------------------------------------------------------------


def _limits(config: Config) -> Iterator[Finding]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    needed = 256 + 16 * config.max_running
    if files < _FILES:
        advice = "raise it (LimitNOFILE=, ulimit -Hn): every client and every running job needs a few"
        yield Finding("limits", Level.WARNING, f"at most {files} open files", advice)
    elif os.geteuid() != 0 and processes != resource.RLIM_INFINITY and processes < needed:
        advice = "raise it (LimitNPROC=, ulimit -u): jobs cannot be started beyond it"
        yield Finding("limits", Level.WARNING, f"at most {processes} processes of this user", advice)
    else:
        yield Finding("limits", Level.OK, f"{files:,} open files")


def _job_types(config: Config) -> Iterator[Finding]:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what they print is not part of the report
            catalog = Catalog(config.jobs)
    except StartError as error:
        yield Finding("job types", Level.ERROR, str(error))
        return
    for name, why in catalog.broken.items():
        advice = "mend or uninstall the package it comes from; all other types work"
        yield Finding("job types", Level.WARNING, f"{name} cannot be loaded: {why}", advice)
    yield Finding("job types", Level.OK, ", ".join(sorted(catalog.known)))


def _openai() -> Finding:
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return Finding("openai", Level.INFO, "OPENAI_API_KEY is set: import-pdf uses it")
    return Finding("openai", Level.INFO, "OPENAI_API_KEY is not set here: import-pdf goes by its offline rules")
