"""`annul doctor`, one finding at a time, with real directories, mounts, limits and processes."""

from __future__ import annotations

import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul import doctor, landlock, seccomp, tree
from annul.config import Config
from annul.doctor import Finding, Level
from annul.store import Store
from harness import PREFIX, DaemonProcess, processes_with, wait_until

NOBODY = 65534
AS_NOBODY = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else or to mount")


@pytest.fixture
def config(short_dir: Path) -> Iterator[Callable[..., Config]]:
    """Makes configurations; the runtime directory is on tmpfs, nothing exists yet."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir="/dev/shm") as shm:

        def make(**values: Any) -> Config:
            state = values.setdefault("state_dir", short_dir / "state")
            return Config(**{"runtime_dir": Path(shm, "run"), "outputs_dir": state / "users", **values})

        yield make


def one(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def examined(*options: str, first: str = "", become: str = "", env: dict[str, str] | None = None) -> dict[str, Finding]:
    """By a doctor of its own, the last finding of each check.

    `first`: what a shell does before, its mounts being its own. `become`: a command that the doctor is run by.
    """
    command = f"{first}\nexec {become} {shlex.join([sys.executable, '-m', 'annul', 'doctor', '--json', *options])}"
    done = subprocess.run(
        [*(["unshare", "--mount"] if first else []), "sh", "-ec", command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if AS_NOBODY in become and done.returncode == 127:  # of the loader: its libraries are somebody's own
        pytest.skip("this Python cannot be run by another user")
    assert done.returncode in (0, 1), done
    report = msgspec.json.decode(done.stdout)
    found = msgspec.convert(report["checks"], list[Finding])
    assert report["ok"] is (done.returncode == 0) is all(finding.level is not Level.ERROR for finding in found)
    assert all(finding.advice for finding in found if finding.level is Level.WARNING)
    return {finding.check: finding for finding in found}


# --- places -------------------------------------------------------------------------------------------------


def test_directories_that_are_not_there_yet_are_fine_and_stay_so(config: Callable[..., Config]) -> None:
    """They would be made; the doctor does not make them."""
    asked = config()
    assert [one(check(asked)).level for check in (doctor._runtime, doctor._state, doctor._store)] == [Level.OK] * 3
    assert "to be made" in one(doctor._state(asked)).found
    assert not asked.state_dir.exists()
    assert not asked.runtime_dir.exists()


def test_directories_that_are_there_are_left_as_they_are(config: Callable[..., Config]) -> None:
    """A store is tried in the state directory, and nothing of that is left."""
    asked = config()
    asked.state_dir.mkdir(mode=0o700)
    asked.runtime_dir.mkdir(mode=0o700)
    assert [one(check(asked)).level for check in (doctor._runtime, doctor._state)] == [Level.OK] * 2
    assert not files(asked.state_dir)
    assert not files(asked.runtime_dir)


def test_a_runtime_directory_on_a_disk_is_a_warning(config: Callable[..., Config], short_dir: Path) -> None:
    """Boards are shared memory: on a disk they are written out now and then."""
    if doctor._file_system(short_dir) == "tmpfs":
        pytest.skip("the temporary directory is on tmpfs")
    found = one(doctor._runtime(config(runtime_dir=short_dir / "run")))
    assert found.level is Level.WARNING
    assert "tmpfs" in found.advice


def test_a_runtime_path_too_long_for_sockets_is_an_error(config: Callable[..., Config]) -> None:
    """It is said before any socket is tried."""
    found = one(doctor._runtime(config(runtime_dir=Path("/dev/shm", "x" * 100))))
    assert (found.level, "too long" in found.found) == (Level.ERROR, True)


@pytest.mark.parametrize("what", ["state_dir", "runtime_dir", "outputs_dir"])
def test_a_directory_others_can_write_to_is_an_error(config: Callable[..., Config], short_dir: Path, what: str) -> None:
    """The daemon refuses it, so the doctor says it in the same words."""
    path = short_dir / "open"
    path.mkdir()
    path.chmod(0o770)
    asked = config(**{what: path})
    found = one(doctor._runtime(asked) if what == "runtime_dir" else doctor._state(asked))
    assert (found.level, "mode 770" in found.found) == (Level.ERROR, True)


@AS_ROOT
def test_a_directory_of_somebody_else_is_an_error(config: Callable[..., Config], short_dir: Path) -> None:
    """Whose it is is said."""
    os.chown(short_dir, NOBODY, NOBODY)
    found = one(doctor._state(config(state_dir=short_dir)))
    assert (found.level, f"uid {NOBODY}" in found.found) == (Level.ERROR, True)
    os.chown(short_dir, 0, 0)


def test_a_file_in_the_way_is_an_error(config: Callable[..., Config], short_dir: Path) -> None:
    """Nothing can be made below a file."""
    (short_dir / "file").touch()
    found = one(doctor._state(config(state_dir=short_dir / "file" / "state")))
    assert (found.level, "no directory" in found.found) == (Level.ERROR, True)


def test_outputs_on_another_file_system_are_an_error(config: Callable[..., Config], short_dir: Path) -> None:
    """They are published by rename. It is seen also before the directories are made."""
    if os.stat("/dev/shm").st_dev == short_dir.stat().st_dev:
        pytest.skip("/dev/shm and the temporary directory are on one file system")
    found = next(doctor._state(config(outputs_dir=Path("/dev/shm", f"{PREFIX}never-made"))))
    assert (found.level, "one file system" in found.found) == (Level.ERROR, True)


@AS_ROOT
def test_a_state_directory_that_is_full_is_an_error(short_dir: Path) -> None:
    """A store cannot be made in it."""
    full = f"mount -t tmpfs -o size=64k,mode=700 tmpfs {short_dir}; head -c 64k /dev/zero > {short_dir}/fill || true"
    found = examined("--state-dir", str(short_dir), first=full)
    assert (found["state"].level, "no store can be made" in found["state"].found) == (Level.ERROR, True)


@AS_ROOT
def test_little_room_is_a_warning(short_dir: Path) -> None:
    """In either directory."""
    small = f"mount -t tmpfs -o size=8m,mode=700 tmpfs {short_dir}; mkdir {short_dir}/state"
    found = examined("--state-dir", f"{short_dir}/state", "--runtime-dir", f"{short_dir}/run", first=small)
    for check in ("state", "runtime"):
        assert (found[check].level, "8 MiB are free" in found[check].found) == (Level.WARNING, True)


# --- the store ----------------------------------------------------------------------------------------------


def test_a_store_is_read_and_not_changed(config: Callable[..., Config]) -> None:
    """Its schema is told; not a byte of it, or beside it, is another one afterwards."""
    asked = config()
    asked.state_dir.mkdir()
    Store(asked.state_dir / "annul.db").close()
    before = files(asked.state_dir)
    found = one(doctor._store(asked))
    assert (found.level, "readable" in found.found) == (Level.OK, True)
    assert files(asked.state_dir) == before


def test_a_store_with_the_log_of_a_crash_is_left_as_it_is(config: Callable[..., Config]) -> None:
    """The log is read, not folded in. Where its index is missing, reading it would make one: it is not read."""
    asked = config()
    asked.state_dir.mkdir()
    path = asked.state_dir / "annul.db"
    crash = (
        f"from annul.store import Store; from pathlib import Path; import os; Store(Path({str(path)!r})); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash], check=True)
    before = files(asked.state_dir)
    assert path.with_name("annul.db-wal").stat().st_size
    assert "readable" in one(doctor._store(asked)).found
    assert files(asked.state_dir) == before
    path.with_name("annul.db-shm").unlink()
    assert one(doctor._store(asked)).level is Level.INFO
    assert not path.with_name("annul.db-shm").exists()


def _newer(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_newer, "newer annul"),
        (_foreign, "another program's"),
        (lambda path: path.write_bytes(b"no database"), "no SQLite database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5000), "cannot open the store"),
        (Path.mkdir, "cannot open the store"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error(
    config: Callable[..., Config], make: Callable[[Path], object], said: str
) -> None:
    """Newer, another program's, or damaged: as the daemon would say it, and nothing is changed."""
    asked = config()
    asked.state_dir.mkdir()
    make(asked.state_dir / "annul.db")
    before = files(asked.state_dir)
    found = one(doctor._store(asked))
    assert (found.level, said in found.found) == (Level.ERROR, True), found
    assert files(asked.state_dir) == before


# --- a daemon that runs -------------------------------------------------------------------------------------


def test_a_running_daemon_says_how_it_finds_trees(make_daemon: Callable[..., DaemonProcess]) -> None:
    """That may differ from what the doctor would find from its own place."""
    daemon = make_daemon("--tree", "session")
    daemon.start()
    found = examined(*daemon.arguments()[:4])
    assert daemon.process is not None
    assert found["daemon"].level is Level.OK
    assert f"pid {daemon.process.pid}, " in found["daemon"].found
    assert "trees by session" in found["daemon"].found
    assert found["store"].level is Level.OK


def test_a_daemon_that_does_not_answer_is_an_error(make_daemon: Callable[..., DaemonProcess]) -> None:
    """It holds the directories, so no other can start there."""
    daemon = make_daemon()
    daemon.start()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    found = examined(*daemon.arguments()[:4])["daemon"]
    daemon.process.send_signal(signal.SIGCONT)
    assert found.level is Level.ERROR
    assert f"the state directory (pid {daemon.process.pid})" in found.found


def test_the_state_directory_of_a_daemon_elsewhere_is_an_error(
    make_daemon: Callable[..., DaemonProcess], short_dir: Path
) -> None:
    """Two daemons cannot share one directory, though each has another of its own."""
    daemon = make_daemon()
    daemon.start()
    state, runtime = ["--state-dir", str(daemon.state_dir)], ["--runtime-dir", str(daemon.runtime_dir)]
    found = examined(*state, "--runtime-dir", f"{short_dir}/other")["daemon"]
    assert (found.level, "state directory" in found.found) == (Level.ERROR, True)
    found = examined(*runtime, "--state-dir", f"{short_dir}/other")["daemon"]
    assert (found.level, str(daemon.state_dir) in found.found) == (Level.ERROR, True)


def test_a_daemon_that_was_killed_is_none(make_daemon: Callable[..., DaemonProcess]) -> None:
    """What it leaves behind, socket and lock file, is not taken for one."""
    daemon = make_daemon()
    daemon.start()
    daemon.kill()
    assert daemon.runtime_dir.joinpath("annul.sock").exists()
    assert examined(*daemon.arguments()[:4])["daemon"].level is Level.INFO
    wait_until(lambda: not processes_with(str(daemon.base)), "its zygotes to end")


# --- kernel, trees, limits ----------------------------------------------------------------------------------


def test_a_forced_session_tree_says_what_it_cannot_catch(config: Callable[..., Config]) -> None:
    """It was asked for: nothing to be warned of, but to be known."""
    found = one(doctor._tree(config(tree="session")))
    assert found.level is Level.INFO
    assert "a process is missed if" in found.found


@AS_ROOT
def test_without_cgroups_the_session_is_taken_or_the_start_refused() -> None:
    """Why there is none, what is missed then, and how to get them."""
    without = "for at in $(awk '$3 == \"cgroup2\" {print $2}' /proc/mounts); do umount -l $at; done"
    found = examined(first=without)["tree"]
    assert found.level is Level.WARNING
    assert "no cgroup v2 file system is mounted" in found.found
    assert "Delegate=yes" in found.advice
    found = examined("--tree", "cgroup", first=without)["tree"]
    assert (found.level, "Delegate=yes" in found.found) == (Level.ERROR, True)


def test_what_jobs_can_give_up_is_told() -> None:
    """And what of that this kernel lacks."""
    found = examined()["confined"]
    whole = landlock.abi() >= landlock.SCOPED_ABI and seccomp.available()
    assert found.level is (Level.OK if whole else Level.WARNING)
    assert f"ABI {landlock.abi()}" in found.found or not whole


def test_controllers_that_are_not_delegated_are_named() -> None:
    """Without cgroups there are none."""
    found = examined("--tree", "session")["cgroup"]
    assert (found.level, "memory, pids" in found.found, "DelegateSubgroup" in found.advice) == (Level.INFO, True, True)


@AS_ROOT
def test_cgroups_are_found_below_the_root_too() -> None:
    """As under systemd, where the daemon is in a cgroup of its own."""
    parent = tree.find_cgroup()
    if parent is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    own = parent / f"{PREFIX}doctor"
    own.mkdir()
    try:
        found = examined(first=f"echo 0 > {own}/cgroup.procs")["tree"]
        assert (found.level, str(own) in found.found) == (Level.OK, True)
    finally:
        own.rmdir()


@AS_ROOT
def test_processes_that_cannot_be_seen_are_a_warning() -> None:
    """With hidepid a job's processes of another user are hidden from the daemon."""
    found = examined(first="mount -t proc -o hidepid=2 proc /proc", become=AS_NOBODY)["/proc"]
    assert (found.level, "hidepid" in found.found) == (Level.WARNING, True)


@AS_ROOT
def test_as_nobody_it_says_what_is_not_nobodys(short_dir: Path) -> None:
    """The directories of root are errors, cgroups cannot be made; the rest can be looked at."""
    short_dir.chmod(0o755)
    (short_dir / "state").mkdir(mode=0o755)
    found = examined("--state-dir", f"{short_dir}/state", "--runtime-dir", f"{short_dir}/run", become=AS_NOBODY)
    assert (found["state"].level, f"belong to uid {NOBODY}" in found["state"].found) == (Level.ERROR, True)
    assert (found["runtime"].level, "not writable" in found["runtime"].found) == (Level.ERROR, True)
    assert found["tree"].level is Level.WARNING
    assert found["/proc"].level is Level.OK


def test_few_open_files_are_a_warning() -> None:
    """libzmq ends the daemon where it is out of them."""
    found = examined(become="prlimit --nofile=1000:1000")["limits"]
    assert (found.level, "1000 open files" in found.found) == (Level.WARNING, True)


@AS_ROOT
def test_few_processes_are_a_warning() -> None:
    """For anybody but root, whom no limit holds."""
    few = "prlimit --nofile=9999:9999 --nproc=200:200"
    assert examined(become=few)["limits"].level is Level.OK
    report = examined(become=f"{few} {AS_NOBODY}")
    assert (report["limits"].level, "200 processes" in report["limits"].found) == (Level.WARNING, True)


FILTERED = """
import ctypes, struct, sys
# Of the system calls, number 434 (pidfd_open) fails with EPERM, as under a seccomp profile that does not know it.
ops = [(0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in ops))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(ops), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
from annul.__main__ import daemon
daemon(["doctor", "--json"], prog_name="annul")
"""


def test_a_kernel_that_refuses_pidfds_is_an_error() -> None:
    """An old container runtime's seccomp profile does."""
    done = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    (found,) = [one for one in msgspec.json.decode(done.stdout)["checks"] if one["check"] == "kernel"]
    assert (found["level"], "pidfd" in found["found"]) == ("error", True)


# --- job types ----------------------------------------------------------------------------------------------


def test_a_job_type_that_cannot_be_loaded_is_a_warning(tmp_path: Path) -> None:
    """Somebody's package is broken; all others work. What it prints spoils no report."""
    (tmp_path / "broken_jobs.py").write_text("print('hello')\nraise ImportError('no such library')\n")
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1\n")
    (tmp_path / "broken-1.dist-info" / "entry_points.txt").write_text("[annul.jobs]\nbad = broken_jobs:bad\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    asked = [sys.executable, "-m", "annul", "doctor", "--json"]
    done = subprocess.run(asked, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    found = [one for one in msgspec.json.decode(done.stdout)["checks"] if one["check"] == "job types"]
    assert [one["level"] for one in found] == ["warning", "ok"]
    assert "no such library" in found[0]["found"]
    assert not (tmp_path / "__pycache__").exists()


def test_a_named_module_without_job_types_is_an_error(config: Callable[..., Config]) -> None:
    """The daemon would not start."""
    found = one(doctor._job_types(config(jobs=["json"])))
    assert (found.level, "no job type" in found.found) == (Level.ERROR, True)


def test_the_key_is_never_shown() -> None:
    """Only whether there is one."""
    done = subprocess.run(
        [sys.executable, "-m", "annul", "doctor"],
        env={**os.environ, "OPENAI_API_KEY": "sk-secret"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OPENAI_API_KEY is set" in done.stdout
    assert "sk-secret" not in done.stdout + done.stderr
