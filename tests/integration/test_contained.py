"""What jobs give up by `ctx.confine`, and what their types allow them: a real daemon, and witnesses outside."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annul import landlock, seccomp, tree
from annul_client import Client, Job, State
from harness import PREFIX, DaemonProcess, alive, processes_with, started, wait_until
from pdf import big_pdf

MakeDaemon = Callable[..., DaemonProcess]
CONFINES = landlock.abi() >= landlock.SCOPED_ABI and seccomp.available()
confines = pytest.mark.skipif(
    not CONFINES, reason="this kernel cannot confine wholly: it has no Landlock, or an old one"
)
REFUSED = ("EACCES", "EPERM", "EXDEV")  # a link from elsewhere would leave its device, says Landlock


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> DaemonProcess:
    found = make_daemon("--jobs", "children.contained")
    found.start()
    return found


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with daemon.client() as found:
        yield found


@pytest.fixture
def another(daemon: DaemonProcess) -> Path:
    """A file that another user's job has published."""
    with daemon.client() as client:
        job = client.wait(client.submit("try", {"confined": False}, user="bob").id, 20)
    path = daemon.state_dir / "users" / "bob" / "out.txt"
    assert job.state is State.COMPLETED
    assert path.read_text() == "done"
    return path


def ran(client: Client, type_: str, tries: list[tuple[str, object]], **params: Any) -> tuple[bool, list[str]]:
    """Whether it was wholly confined, and how each went."""
    given = [(what, str(it)) for what, it in tries]
    job = client.wait(client.submit(type_, {"tries": given, **params}, user="ann").id, 30)
    assert job.state is State.COMPLETED, job.error
    assert isinstance(job.result, dict)
    return job.result["whole"], job.result["found"]


def harmful(another: Path, daemon: DaemonProcess) -> list[tuple[str, object]]:
    """What works without being confined, and changes nothing (the file that is read last is still there)."""
    own = another.parents[2]
    return [
        ("read", another),
        ("list", another.parent),
        ("read", own / "annul.db"),
        ("write", another),
        ("create", own / "new"),
        ("folder", own / "new.d"),
        ("move out", own / "moved"),
        ("link in", another),
        ("write", "/proc/self/oom_score_adj"),
        ("unix", daemon.runtime_dir / "annul.sock"),
        ("udp", 9),
        ("netlink", ""),
        ("signal", daemon.process.pid if daemon.process else 0),
        ("look into", daemon.process.pid if daemon.process else 0),
        ("cut", another),
        ("remove", another),
    ]


def test_without_it_a_job_may_do_what_its_user_may(daemon: DaemonProcess, client: Client, another: Path) -> None:
    """So that the others here are about `confine`."""
    tries = harmful(another, daemon)
    _, found = ran(client, "try", tries, confined=False)
    assert dict(zip(tries, found, strict=True)) == dict.fromkeys(tries, "ok")


@confines
@pytest.mark.parametrize("by_child", [False, True], ids=["itself", "child"])
@pytest.mark.parametrize("network", [False, True], ids=["offline", "online"])
def test_a_confined_job_comes_nowhere(
    daemon: DaemonProcess, client: Client, another: Path, network: bool, by_child: bool
) -> None:
    """Nor does a program that it starts, whether it may use the network or not; and its outputs are published."""
    tries = [one for one in harmful(another, daemon) if not (network and one[0] in ("udp", "netlink"))]
    if os.geteuid() == 0:
        tries += [("read", "/etc/shadow"), ("list", "/root")]
    whole, found = ran(client, "try", tries, network=network, by_child=by_child)
    assert whole is True
    assert {one: how for one, how in zip(tries, found, strict=True) if how not in REFUSED} == {}
    assert another.read_text() == "done"
    assert (another.parents[1] / "ann" / "out.txt").read_text() == "done"


@confines
@pytest.mark.parametrize("type_", ["try", "try-async"])
def test_a_confined_job_has_what_it_needs(client: Client, tmp_path: Path, type_: str) -> None:
    """Its input, its own files, programs, the system's names and certificates; and what it asks for."""
    given = tmp_path / "input"
    given.write_text("x")
    tries: list[tuple[str, object]] = [
        ("read", given),
        ("create", "mine.txt"),
        ("folder", "mine.d"),
        ("move out", "mine.d/moved"),
        ("cut", "mine.txt"),
        ("remove", "mine.txt"),
        ("run", "/bin/true"),
        ("read", "/etc/passwd"),
        ("write", "/dev/null"),
        ("read", "/proc/self/status"),
        ("pair", ""),
        ("thread", ""),
    ]
    whole, found = ran(client, type_, tries, read=[str(given)])
    assert whole is True
    assert {one: how for one, how in zip(tries, found, strict=True) if how != "ok"} == {}


@confines
def test_what_it_may_change_is_said(client: Client, tmp_path: Path) -> None:
    """Below a folder in `write`, not beside it; what is in `read` can only be read; what is not there is left out."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("x")
    tries: list[tuple[str, object]] = [
        ("create", tmp_path / "a" / "x"),
        ("create", tmp_path / "y"),
        ("read", tmp_path / "b"),
        ("write", tmp_path / "b"),
        ("remove", tmp_path / "b"),
    ]
    allowed = {"write": [str(tmp_path / "a")], "read": [str(tmp_path / "b"), str(tmp_path / "c"), "a\0b"]}
    _, found = ran(client, "try", tries, **allowed)
    assert found == ["ok", "EACCES", "ok", "EACCES", "EACCES"]


@confines
@pytest.mark.parametrize("by_child", [False, True], ids=["itself", "child"])
def test_the_network_is_there_where_it_is_asked_for(client: Client, by_child: bool) -> None:
    """And only there: no connection arrives otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        tries: list[tuple[str, object]] = [("tcp", port), ("listen", 0), ("udp", port)]
        assert ran(client, "try", tries, by_child=by_child) == (True, ["EACCES"] * 3)
        with pytest.raises(BlockingIOError):
            server.accept()
        tries += [("resolve", "localhost")]
        tries += [("trust", trusted)] if (trusted := ssl.get_default_verify_paths().cafile) else []
        assert ran(client, "try", tries, by_child=by_child, network=True)[1] == ["ok"] * len(tries)
        server.accept()[0].close()


@confines
def test_what_does_not_hold_is_said(client: Client) -> None:
    """A thread that ran before is not confined: False, and the job's log says so."""
    job = client.wait(client.submit("confined-late").id, 20)
    assert isinstance(job.result, dict)
    assert job.result["whole"] is False
    assert b"not wholly confined: 1 threads that were started before" in client.logs(job.id)


# --- what goes on ---------------------------------------------------------------------------------------------------


def waiting(client: Client, **params: object) -> tuple[Job, int]:
    """One of type `stays`, and the pid of its child."""
    job = client.submit("stays", params)
    wait_until(lambda: client.get(job.id).progress.stage.startswith("waiting"), "it to wait")
    job = client.get(job.id)
    return job, int(job.progress.stage.rpartition(" ")[2])


@confines
@pytest.mark.parametrize(("stubborn", "stage"), [(False, "sigterm"), (True, "sigkill")])
def test_a_confined_job_is_cancelled_as_any(client: Client, stubborn: bool, stage: str) -> None:
    """With the child in another session; its progress was told."""
    job, child = waiting(client, stubborn=stubborn)
    assert job.pid is not None
    client.cancel(job.id)
    ended = client.wait(job.id, 20)
    assert (ended.state, ended.cancel and ended.cancel.stage) == (State.CANCELLED, stage)
    assert not alive(job.pid)
    assert not alive(child)


@confines
def test_a_confined_job_that_is_left_alone_ends_itself_and_its_children(make_daemon: MakeDaemon) -> None:
    """Where neither daemon nor zygote lives it has to see to that from within."""
    daemon = make_daemon("--jobs", "children.contained", "--orphan-grace", "0", "--tree", "session")
    daemon.start()
    with daemon.client() as client:
        job, child = waiting(client, stubborn=True)
    assert job.pid is not None
    assert daemon.process is not None
    zygotes = [pid for pid in processes_with("annul.runtime.zygote") if child_of(pid) == daemon.process.pid]
    daemon.kill()
    for pid in zygotes:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(child) and not alive(job.pid or 0), "both to be gone")


def child_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@confines
def test_an_import_is_confined(client: Client, tmp_path: Path) -> None:
    """A witness sees it in /proc while it reads."""
    path = tmp_path / "cv.pdf"
    path.write_bytes(big_pdf(60))
    job = client.submit("import-pdf", {"pdf": str(path), "engine": "offline", "max_pages": 60})
    wait_until(lambda: client.get(job.id).progress.stage, "it to read")
    seen = status(client.get(job.id).pid or 0)
    client.cancel(job.id)
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", "1")
    assert client.wait(job.id, 20).state is State.CANCELLED


# --- limits of types ------------------------------------------------------------------------------------------------


def status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_set_user_id_programs_give_a_job_nothing_but_for_commands(client: Client) -> None:
    """no_new_privs, of the job and what it starts; not of `exec`, and of types that say so."""
    job, child = waiting(client, confined=False)
    assert [status(pid)["NoNewPrivs"] for pid in (job.pid or 0, child)] == ["1", "1"]
    client.cancel(job.id)
    job = started(client, "may-sudo", "waiting")
    assert status(job.pid or 0)["NoNewPrivs"] == "0"
    job = client.submit("exec", {"argv": ["grep", "NoNewPrivs", "/proc/self/status"]})
    assert client.wait(job.id, 20).state is State.COMPLETED
    assert client.logs(job.id).split() == [b"NoNewPrivs:", b"0"]


def test_a_job_that_takes_too_much_processor_time_fails_by_that_name(client: Client) -> None:
    """Also one that swallows what can be swallowed; it is not tried again."""
    job = client.wait(client.submit("spends").id, 20)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.code, "1 s" in job.error.message) == ("cpu_limit", True)
    assert job.attempt == 1


def test_a_confined_job_that_needs_too_much_memory_fails_by_that_name(client: Client) -> None:
    """And writes its outcome itself."""
    job = client.wait(client.submit("eats").id, 20)
    assert (job.state, job.error and job.error.code) == (State.FAILED, "out_of_memory")


def test_a_job_opens_as_many_files_as_its_type_says(client: Client) -> None:
    """Those that annul has open in its process count."""
    job = client.wait(client.submit("opens").id, 20)
    assert isinstance(job.result, int)
    assert 16 < job.result < 32


def test_processes_that_need_too_much_memory_together_fail_by_that_name(make_daemon: MakeDaemon) -> None:
    """Where the memory controller is delegated: each of them is below the limit."""
    parent = tree.find_cgroup()
    if parent is None or "memory" not in tree.controllers(parent):
        pytest.skip("no memory controller of cgroup v2 is delegated to the daemon here")
    daemon = make_daemon("--jobs", "children.contained")
    daemon.start()
    with daemon.client() as client:
        job = client.wait(client.submit("eats-together").id, 30)
    assert (job.state, job.error and job.error.code) == (State.FAILED, "out_of_memory")


def test_in_a_leaf_of_what_is_delegated_jobs_have_theirs_beside_it(make_daemon: MakeDaemon) -> None:
    """As under systemd with DelegateSubgroup=: only a cgroup without processes passes controllers on."""
    parent = tree.find_cgroup()
    if parent is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    unit = parent / f"{PREFIX}unit"
    leaf = unit / "daemon"
    daemon = make_daemon("--jobs", "children.contained", "--tree", "cgroup")
    daemon.before = f"echo $$ > {leaf}/cgroup.procs"
    unit.mkdir()
    try:
        os.setxattr(unit, "user.delegate", b"1")
        leaf.mkdir()
        daemon.start()
        with daemon.client() as client:
            job, child = waiting(client, stubborn=True, confined=False)
            own = unit / tree.daemons_group(daemon.state_dir)
            members = [(path / "cgroup.procs").read_text().split() for path in own.iterdir() if path.is_dir()]
            assert any({str(job.pid), str(child)} <= set(pids) for pids in members)
            client.cancel(job.id)
            assert client.wait(job.id, 20).state is State.CANCELLED
        assert not alive(child)
    finally:
        daemon.stop()
        for path in sorted(unit.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        unit.rmdir()


def test_where_no_process_can_enter_a_cgroup_trees_are_found_by_session(make_daemon: MakeDaemon) -> None:
    """A cgroup with processes that passes threaded controllers on, or has threads of its own below it, is no place."""
    parent = tree.find_cgroup()
    if parent is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    unit = parent / f"{PREFIX}threaded" / "inner"  # what it is in is not delegated
    threads = unit / "threads"
    daemon = make_daemon("--jobs", "children.contained")
    daemon.before = f"echo $$ > {unit}/cgroup.procs"
    unit.mkdir(parents=True)
    try:
        threads.mkdir()
        (threads / "cgroup.type").write_text("threaded")
        daemon.start()
        with daemon.client() as client:
            assert client.ping().tree == tree.SessionTree.name
            job = client.wait(client.submit("try", {"confined": False}).id, 20)
        assert job.state is State.COMPLETED, job.error
        daemon.stop()
        daemon.options = (*daemon.options, "--tree", "cgroup")
        assert not daemon.try_start()
        assert "domain invalid" in daemon.said()
    finally:
        daemon.stop()
        threads.rmdir()
        unit.rmdir()
        unit.parent.rmdir()
