"""The daemon by itself: starting, refusing, stopping, dying and coming back."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import zmq

from annul.board import Board
from annul_client import Client, RequestRefused, State, wire
from harness import TIMEOUT_S, DaemonProcess, alive, processes_with, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]


def serve(
    *arguments: str, env: dict[str, str] | None = None, descriptors: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`descriptors`: how many it may have."""

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return subprocess.run(
        [sys.executable, "-m", "annul", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **(env or {})},
        preexec_fn=limit,
    )


# --- starting ---------------------------------------------------------------------------------------------------


def test_second_daemon_on_one_state_directory_refuses(daemon: DaemonProcess, short_dir: Path) -> None:
    """Two daemons never share a state or a runtime directory; the second says who has it, and the first goes on."""
    other = short_dir / "other"
    for options in (
        ["--state-dir", str(daemon.state_dir), "--runtime-dir", str(other)],
        ["--state-dir", str(other), "--runtime-dir", str(daemon.runtime_dir)],
    ):
        done = serve(*options)
        assert done.returncode == 1
        assert daemon.process is not None
        assert f"pid {daemon.process.pid}" in done.stderr
    with daemon.client() as client:
        assert client.ping().pid == daemon.process.pid


def test_newer_or_damaged_store_is_not_touched(short_dir: Path) -> None:
    """A store that is newer, or no store at all, stops the daemon with an instruction and stays as it is."""
    state = short_dir / "state"
    state.mkdir(mode=0o700)
    path = state / "annul.db"
    options = ["--state-dir", str(state), "--runtime-dir", str(short_dir / "run")]
    path.write_bytes(b"this is no database, but somebody may want it back" * 100)
    before = path.read_bytes()
    done = serve(*options)
    assert (done.returncode, path.read_bytes()) == (1, before)
    assert "restore a backup" in done.stderr
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    before = path.read_bytes()
    done = serve(*options)
    assert (done.returncode, path.read_bytes()) == (1, before)
    assert "newer annul" in done.stderr


def test_directory_of_others_is_refused(short_dir: Path) -> None:
    """A directory that others may write to is no place for sockets and state."""
    (short_dir / "run").mkdir()
    (short_dir / "run").chmod(0o777)
    done = serve("--state-dir", str(short_dir / "state"), "--runtime-dir", str(short_dir / "run"))
    assert done.returncode == 1
    assert "writable by nobody else" in done.stderr


def test_too_long_a_runtime_directory_is_said(short_dir: Path) -> None:
    """A path too long for a socket is refused with what to do."""
    done = serve("--state-dir", str(short_dir / "state"), "--runtime-dir", str(short_dir / ("x" * 120)))
    assert done.returncode == 1
    assert "--runtime-dir" in done.stderr


def test_stop_ends_everything(make_daemon: MakeDaemon) -> None:
    """SIGTERM: running jobs are stopped, by their type queued again or cancelled; no process or socket is left."""
    daemon = make_daemon()
    daemon.start()
    mark = daemon.base / "attempts"
    with daemon.client() as client:
        again = client.submit("again", {"mark": str(mark)})
        asleep = client.submit("sleepy", {})
        wait_until(lambda: client.get(asleep.id).progress.stage == "sleeping" and mark.exists(), "both to run")
    assert daemon.stop() == 0
    assert not processes_with(str(daemon.base))
    assert not list(daemon.runtime_dir.glob("*.sock"))
    assert not list((daemon.runtime_dir / "jobs").iterdir())
    daemon.start()
    with daemon.client() as client:
        job = client.wait(again.id, 20)
        assert (job.state, job.attempt, job.result) == (State.COMPLETED, 2, 2)
        job = client.get(asleep.id)
        assert job.state is State.CANCELLED
        assert job.cancel is not None
        assert job.cancel.kind == "shutdown"


# --- dying ------------------------------------------------------------------------------------------------------


def test_jobs_outlive_a_killed_daemon_and_are_adopted(make_daemon: MakeDaemon) -> None:
    """kill -9 of the daemon: the job goes on; the next daemon adopts the same process, and can cancel it."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        pid = job.pid
    assert pid is not None
    daemon.kill()
    assert alive(pid)
    daemon.start()
    with daemon.client() as client:
        assert (client.get(job.id).state, client.get(job.id).pid) == (State.RUNNING, pid)
        client.cancel(job.id)
        assert client.wait(job.id, 20).state is State.CANCELLED
    assert not alive(pid)


def test_a_daemon_with_too_few_descriptors_leaves_the_jobs_alone(make_daemon: MakeDaemon) -> None:
    """Whom it cannot look at is unknown, never dead: it refuses to start, says what to do, and the next adopts all."""
    count = 12
    daemon = make_daemon("--max-running", str(count))
    daemon.start()
    with daemon.client() as client:
        jobs = [started(client, "sleepy", "sleeping") for _ in range(count)]
    assert daemon.process is not None
    needed = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
    daemon.kill()
    for descriptors in (needed - 8, needed - 4, needed - 2, needed):
        done = serve(*daemon.arguments(), descriptors=descriptors, env={"PYTHONPATH": daemon._path()})
        assert done.returncode == 1
        assert "LimitNOFILE" in done.stderr
        assert all(alive(job.pid) for job in jobs if job.pid)
        assert len(list((daemon.runtime_dir / "jobs").glob("*/board"))) == count
    daemon.start()
    with daemon.client() as client:
        assert [(client.get(job.id).state, client.get(job.id).pid) for job in jobs] == [
            (State.RUNNING, job.pid) for job in jobs
        ]


def test_a_daemon_that_runs_out_of_descriptors_concludes_nothing(make_daemon: MakeDaemon) -> None:
    """Neither of the job that ended meanwhile nor of the one whose turn it is; with descriptors again, both go on."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    assert daemon.process is not None
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        after = client.submit("sleepy", {})
        before = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (12, before[1]))  # it has more than that
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
        wait_until(lambda: daemon.said().count("Too many open files") > 1, "it to look again")
        assert (client.get(job.id).state, client.get(after.id).state) == (State.RUNNING, State.QUEUED)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, before)
        ended = client.wait(job.id, 20)
        assert ended.error is not None
        assert (ended.state, ended.error.code) == (State.FAILED, "crashed")
        wait_until(lambda: client.get(after.id).progress.stage == "sleeping", "the next to run")


def test_cancel_goes_on_after_the_daemon_was_killed(make_daemon: MakeDaemon) -> None:
    """A ladder under way is taken up by the next daemon, with its deadline."""
    daemon = make_daemon()
    daemon.start()
    mark = daemon.base / "beat"
    with daemon.client() as client:
        job = started(client, "stubborn", "ignoring", {"mark": str(mark)})
        client.cancel(job.id, grace_s=3, reason="mine", by="me")
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        job = client.wait(job.id, 20)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert (job.cancel.reason, job.cancel.by, job.cancel.stage) == ("mine", "me", "sigkill")
    assert job.cancel.sigkill_s is not None
    assert job.cancel.sigkill_s > 2.9
    assert not processes_with(str(mark))


def test_end_while_no_daemon_watched_is_concluded(make_daemon: MakeDaemon) -> None:
    """A job that completes while there is no daemon is `completed` once there is one, its output published."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        job = client.submit("quick", {"seconds": 0.3})
        crashed = started(client, "sleepy", "sleeping")
        pids = [client.get(one.id).pid for one in (job, crashed)]
    daemon.kill()
    assert pids[1] is not None
    os.kill(pids[1], signal.SIGKILL)
    wait_until(lambda: not any(pid is not None and alive(pid) for pid in pids), "both to end")
    daemon.start()
    with daemon.client() as client:
        done = client.get(job.id)
        assert done.state is State.COMPLETED
        assert Path(done.files[0]).read_text() == "done"
        lost = client.get(crashed.id)
        assert lost.state is State.FAILED
        assert lost.error is not None
        assert lost.error.code == "lost"


def test_killed_zygote_is_replaced(daemon: DaemonProcess, client: Client) -> None:
    """kill -9 of the zygote: its job goes on and is cancelled as any; the next job gets a new one."""
    job = started(client, "escaper", "escaped", {"mark": str(daemon.base / "beat")})
    (zygote,) = [pid for pid in processes_with("annul.runtime.zygote") if _parent(pid) == client.ping().pid]
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: not alive(zygote), "the zygote to die")
    assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    client.cancel(job.id, grace_s=0.2)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert not processes_with(str(daemon.base / "beat"))


def test_stopped_zygote_holds_up_nobody(make_daemon: MakeDaemon) -> None:
    """With its zygote stopped (SIGSTOP) a job waits; it is cancelled at once, and never runs; the next gets another."""
    daemon = make_daemon("--spares", "0")
    daemon.start()
    with daemon.client() as client:
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
        (zygote,) = [pid for pid in processes_with("annul.runtime.zygote") if _parent(pid) == client.ping().pid]
        os.kill(zygote, signal.SIGSTOP)
        job = client.submit("sleepy", {})
        assert client.get(job.id).state is State.STARTING
        assert client.cancel(job.id).outcome == "cancelling"
        job = client.wait(job.id, 20)
        assert job.state is State.CANCELLED
        assert job.cancel is not None
        assert job.cancel.stage == "before_start"
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
        assert not alive(zygote)
        assert not processes_with(f"ANNUL_MARK={job.id}.")


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1  # gone since it was listed


# --- the store --------------------------------------------------------------------------------------------------


def test_locked_store_refuses_submits_but_not_cancels(daemon: DaemonProcess, client: Client) -> None:
    """While another program locks the store: a submit is refused clearly, a cancel works, and is recorded later."""
    job = started(client, "sleepy", "sleeping")
    pid = job.pid
    assert pid is not None
    db = sqlite3.connect(daemon.state_dir / "annul.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(RequestRefused) as refused:
            client.submit("quick", {})
        assert refused.value.code == "store_unavailable"
        assert client.ping().queued == 0  # its place in the queue went with it, though a slot was free
        assert client.cancel(job.id).outcome == "cancelling"
        wait_until(lambda: not alive(pid), "the job to end")
        assert not client.get(job.id).state.final
    finally:
        db.execute("ROLLBACK")
        db.close()
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    assert "was in the queue" not in daemon.said()


def test_a_cancel_that_a_locked_store_refuses_leaves_a_queued_job_whole(make_daemon: MakeDaemon) -> None:
    """With its input; and whoever cancels many is told how many of them are cancelled all the same."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with daemon.client() as client:
        runs = started(client, "sleepy", "sleeping")
        queued = client.submit("measure", inputs={"file": b"abc"})
        db = sqlite3.connect(daemon.state_dir / "annul.db", isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        try:
            for target, told in (
                ({"job_id": queued.id}, "nothing was changed"),
                ({"user": "default"}, "of 2 jobs, 1 "),
            ):
                with pytest.raises(RequestRefused, match=told) as refused:
                    client.cancel(**target)
                assert refused.value.code == "store_unavailable"
            wait_until(lambda: not alive(runs.pid or 0), "the one that runs to end")
        finally:
            db.execute("ROLLBACK")
            db.close()
        assert client.wait(runs.id, 20).state is State.CANCELLED
        done = client.wait(queued.id, 20)
        assert (done.state, done.result) == (State.COMPLETED, 3)


# --- requests ---------------------------------------------------------------------------------------------------


def ask_raw(daemon: DaemonProcess, frames: list[bytes], *, kind: int = zmq.DEALER) -> bytes | None:
    """Send frames as they are; the answer's last frame, or None where none comes."""
    context = zmq.Context()
    sock = context.socket(kind)
    sock.setsockopt(zmq.LINGER, 0)
    try:
        sock.connect(daemon.endpoint)
        sock.send_multipart(frames)
        return sock.recv_multipart()[-1] if sock.poll(10_000) else None
    finally:
        sock.close()
        context.term()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_request"),
        (b"\xc1\xff\x00garbage", "bad_request"),
        (b"{not json", "bad_request"),
        (b"[" * 100_000, "bad_request"),
        (b"{" * 5_000, "bad_request"),
        (b"\x81" * 100_000, "bad_request"),
        (b'{"verb": "explode"}', "unknown_verb"),
        (b'{"verb": "ping", "v": 99}', "unsupported_version"),
        (b'{"verb": "ping", "pong": 1}', "invalid_request"),
        (b'{"verb": "cancel", "idd": "x"}', "invalid_request"),
        (b'{"verb": "get"}', "invalid_request"),
        (b'{"verb": "submit", "type": 7}', "invalid_request"),
        (b'{"verb": "submit", "type": "nope"}', "unknown_type"),
        (b'{"verb": "submit", "type": "quick", "user": "../../x"}', "invalid_user"),
        (b'{"verb": "submit", "type": "quick", "user": ".hidden"}', "invalid_user"),
        (b'{"verb": "submit", "type": "quick", "params": {"seconds": "long"}}', "invalid_params"),
        (b'{"verb": "submit", "type": "quick", "params": {"speed": 1}}', "invalid_params"),
        (b'{"verb": "submit", "type": "quick", "timeout_s": -1}', "invalid_request"),
        (b'{"verb": "submit", "type": "measure", "params": {"file": "relative"}}', "invalid_params"),
        (b'{"verb": "submit", "type": "quick", "inputs": {"x": "AAAA"}}', "invalid_params"),
        (b'{"verb": "get", "id": "nosuchjob"}', "not_found"),
        (b'{"verb": "result", "id": "nosuchjob"}', "not_found"),
        (b'{"verb": "cancel"}', "invalid_request"),
        (b'{"verb": "list", "limit": 0}', "invalid_request"),
        (b'{"verb": "wait", "id": "nosuchjob"}', "not_found"),
    ],
)
def test_bad_request_is_answered(daemon: DaemonProcess, body: bytes, code: str) -> None:
    """Whatever arrives is answered with a stable code, and the daemon is unmoved."""
    answer = ask_raw(daemon, [body])
    assert answer is not None
    decode = msgspec.json.decode if wire.is_json(body) else msgspec.msgpack.decode
    reply = decode(answer, type=wire.Reply)
    assert reply.error is not None
    assert reply.error.code == code
    assert reply.error.message
    with daemon.client() as client:
        assert client.ping().running == 0


def test_refusals_name_the_field(client: Client) -> None:
    """A parameter that does not fit is named."""
    for type_, params, field in (
        ("quick", {"seconds": "long"}, "params.seconds"),
        ("quick", {"speed": 1}, "params.speed"),
        ("measure", {}, "params.file"),
        ("exec", {"argv": ["x"], "env": {"A": 1}}, "params.env"),
    ):
        with pytest.raises(RequestRefused) as refused:
            client.submit(type_, params)
        assert refused.value.field is not None
        assert refused.value.field.startswith(field)


def test_req_client_and_json(daemon: DaemonProcess) -> None:
    """A REQ socket and JSON are enough: a request in JSON is answered in JSON."""
    answer = ask_raw(daemon, [b'{"verb": "ping", "rid": "7"}'], kind=zmq.REQ)
    assert answer is not None
    found = msgspec.json.decode(answer)
    assert found["rid"] == "7"
    assert found["ok"]["requests"] == daemon.endpoint


def test_odd_frames_are_refused(daemon: DaemonProcess) -> None:
    """More frames than a request has are refused, not guessed at."""
    answer = ask_raw(daemon, [b"a", b"b", b'{"verb": "ping"}'])
    assert answer is not None
    assert b"bad_request" in answer


def test_input_file_as_bytes(daemon: DaemonProcess, client: Client) -> None:
    """An input file's bytes travel with the request; the job sees a path, and the file is gone after a cancel."""
    data = os.urandom(300_000)
    job = client.wait(client.submit("measure", {"file": data}).id, 20)
    assert (job.state, job.result) == (State.COMPLETED, len(data))


def test_key_makes_one_job(client: Client) -> None:
    """The same key and content is the same job; other content is `key_conflict`; another user's key is another's."""
    first = client.submit("quick", {}, user="u1", key="k")
    assert client.submit("quick", {}, user="u1", key="k").id == first.id
    assert client.submit("quick", {}, user="u2", key="k").id != first.id
    with pytest.raises(RequestRefused) as refused:
        client.submit("quick", {"seconds": 1}, user="u1", key="k")
    assert refused.value.code == "key_conflict"


def test_limits_hold_and_users_take_turns(make_daemon: MakeDaemon) -> None:
    """At most so many at once in all and per user; priority first, then users in turn, then first come."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    with daemon.client() as client:
        blocker = client.submit("sleepy", {}, user="z")
        order = [
            client.submit("quick", {}, user="a"),
            client.submit("quick", {}, user="a"),
            client.submit("quick", {}, user="b"),
            client.submit("quick", {}, user="c", priority=5),
        ]
        client.cancel(blocker.id)
        done = [client.wait(job.id, 20) for job in order]
        starts = sorted(done, key=lambda job: str(job.started_at))
        assert [order.index(next(o for o in order if o.id == job.id)) for job in starts] == [3, 0, 2, 1]


# --- how jobs end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        ("crasher", "crashed"),
        ("raiser", "my_code"),
        ("bug", "exception"),
        ("hog", "out_of_memory"),
        ("self-cancel", "terminated"),
        ("big", "result"),
        ("deep", "result"),
        ("odd-name", "output"),
    ],
)
def test_failures_say_what_happened(client: Client, type_: str, code: str) -> None:
    """A job that fails is `failed` with a code; its outputs are not published."""
    job = client.wait(client.submit(type_, {}).id, 20)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code == code
    assert job.files == []


def test_crash_names_the_signal(client: Client) -> None:
    """A leader that was killed is told from one that exited."""
    job = client.wait(client.submit("crasher", {}).id, 20)
    assert job.error is not None
    assert "SIGKILL" in job.error.message


def test_output_may_not_leave_the_users_directory(client: Client) -> None:
    """An output's name that leaves the directory is refused to the job."""
    assert client.wait(client.submit("out-of-bounds", {}).id, 20).result == "refused"


def test_output_is_private(client: Client) -> None:
    """Published outputs are their owner's only: 0600 in 0700 directories."""
    job = client.wait(client.submit("quick", {}, user="u1").id, 20)
    path = Path(job.files[0])
    assert job.result["file"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


def test_progress_of_many_at_once_is_not_lost(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """They report while the daemon is stopped, more of them than the kernel keeps messages for it."""
    daemon = make_daemon("--max-running", "24")
    daemon.start()
    assert daemon.process is not None
    mark = short_dir / "go"
    with daemon.client() as client:
        jobs = [started(client, "reporter", "ready", {"mark": str(mark)}) for _ in range(24)]
        daemon.process.send_signal(signal.SIGSTOP)
        mark.touch()
        wait_until(lambda: all(Path(f"{mark}.{job.id}").exists() for job in jobs), "all to have reported")
        daemon.process.send_signal(signal.SIGCONT)
        missing = {job.id for job in jobs}
        for event in client.events(since=0):
            if event.job.progress.stage == "reported":
                missing.discard(event.job.id)
            if not missing:
                break


def test_progress_is_passed_on_and_the_last_is_kept(client: Client) -> None:
    """Of 2000 reports a few become events, in order, and the last is the job's."""
    job = client.submit("steps", {})
    job = client.wait(job.id, 20)
    assert (job.progress.fraction, job.progress.stage) == (1.0, "last")


def test_exec_results(client: Client, tmp_path: Path) -> None:
    """A command's exit status or signal, its output, its clean environment and its files."""
    script = "cat; echo out; echo err >&2; env"
    (tmp_path / "in").write_text("from stdin\n")
    job = client.submit(
        "exec",
        {
            "argv": ["sh", "-c", script],
            "env": {"MINE": "1"},
            "cwd": str(tmp_path),
            "stdin": str(tmp_path / "in"),
            "stdout": str(tmp_path / "out"),
        },
    )
    job = client.wait(job.id, 20)
    assert (job.state, job.result) == (State.COMPLETED, {"exit_code": 0, "signal": None})
    out = (tmp_path / "out").read_text()
    assert out.startswith("from stdin\nout\n")
    assert "MINE=1" in out
    assert "PYTEST_CURRENT_TEST" not in out
    assert client.logs(job.id) == b"err\n"
    failed = client.wait(client.submit("exec", {"argv": ["sh", "-c", "exit 3"]}).id, 20)
    assert failed.error is not None
    assert (failed.error.code, failed.result) == ("exec_status", {"exit_code": 3, "signal": None})
    failed = client.wait(client.submit("exec", {"argv": ["sh", "-c", "kill -SEGV $$"]}).id, 20)
    assert failed.error is not None
    assert (failed.error.code, failed.result) == ("exec_signal", {"exit_code": None, "signal": "SIGSEGV"})
    failed = client.wait(client.submit("exec", {"argv": ["/no/such/program"]}).id, 20)
    assert failed.error is not None
    assert failed.error.code == "exec_start"


def test_events_have_no_gaps(client: Client) -> None:
    """Every change is an event; the numbers have no gaps, over all jobs and within each."""
    jobs = [client.submit("quick", {}) for _ in range(5)]
    for job in jobs:
        client.wait(job.id, 20)
    seen = []
    for event in client.events(since=0):
        seen.append(event)
        if len([e for e in seen if e.job.state.final]) == 5:
            break
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    for job in jobs:
        mine = [event for event in seen if event.job.id == job.id]
        assert [event.job_seq for event in mine] == list(range(1, len(mine) + 1))
        assert [event.kind for event in mine if event.kind != "progress"][-1] == "completed"


def test_cancel_is_answered_with_its_record(client: Client) -> None:
    """The first answer to a cancel tells who asked, why, and how long the job has."""
    job = started(client, "sleepy", "sleeping")
    reply = client.cancel(job.id, reason="why", by="who", grace_s=7)
    assert reply.job is not None
    assert reply.job.cancel is not None
    record = reply.job.cancel
    assert (record.reason, record.by, record.grace_s, record.stage, record.gone_s) == ("why", "who", 7, None, None)
    client.wait(job.id, 20)


def test_job_is_found_though_its_runtime_directory_was_emptied(make_daemon: MakeDaemon) -> None:
    """Board and sockets gone, daemon killed: a job that lives is still adopted, by (boot id, pid, start time)."""
    daemon = make_daemon("--tree", "session", "--spares", "0")
    daemon.start()
    with daemon.client() as client:
        job = started(client, "sleepy", "sleeping")
        pid = job.pid
    assert pid is not None
    daemon.kill()
    shutil.rmtree(daemon.runtime_dir)
    daemon.start()
    with daemon.client() as client:
        assert (client.get(job.id).state, client.get(job.id).pid) == (State.RUNNING, pid)
        client.cancel(job.id)
        assert client.wait(job.id, 20).state is State.CANCELLED
    assert not alive(pid)


def test_what_a_leader_left_is_ended_though_its_runtime_directory_was_emptied(make_daemon: MakeDaemon) -> None:
    """Board gone, daemon and leader killed: the job is over only when the rest of it is (C3)."""
    daemon = make_daemon("--tree", "session", "--spares", "0")
    daemon.start()
    with daemon.client() as client:
        job = client.submit("exec", {"argv": ["sleep", "3600"]})
        wait_until(lambda: client.get(job.id).state is State.RUNNING, "it to run")
        pid = client.get(job.id).pid
    mark = f"ANNUL_MARK={job.id}."
    wait_until(lambda: [one for one in processes_with(mark) if one != pid], "the command")
    daemon.kill()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "the leader to end")
    assert processes_with(mark)
    shutil.rmtree(daemon.runtime_dir)
    daemon.start()
    with daemon.client() as client:
        job = client.wait(job.id, 20)
        assert not processes_with(mark)
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error.code == "lost"


@pytest.mark.parametrize("trial", range(8))
def test_job_killed_with_its_daemon_while_starting_starts_anew(make_daemon: MakeDaemon, trial: int) -> None:
    """kill -9 of the daemon around a start: the job completes, in its first or in another attempt, never twice."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        client.wait(client.submit("quick", {}).id, 20)
        job = client.submit("quick", {})
        try:
            client.wait(job.id, trial * 0.001)
        except TimeoutError:
            pass  # still on its way, which is what is wanted
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        job = client.wait(job.id, 20)
    assert job.state is State.COMPLETED, job


def test_outputs_that_cannot_be_published_are_kept_and_published_later(make_daemon: MakeDaemon) -> None:
    """Where a user's directory cannot be written, the output stays staged; the next start publishes it."""
    daemon = make_daemon()
    daemon.start()
    users = daemon.state_dir / "users"
    (users / "u1").write_text("a file where the user's directory should be")
    with daemon.client() as client:
        job = client.wait(client.submit("quick", {}, user="u1").id, 20)
        assert job.state is State.COMPLETED
        assert "publishing the outputs" in daemon.said()
        daemon.stop()
        (users / "u1").unlink()
        daemon.start()
        assert Path(client.get(job.id).files[0]).read_text() == "done"
    assert not list((daemon.state_dir / "jobs").rglob("staging"))


def test_logs_are_capped(make_daemon: MakeDaemon) -> None:
    """A job that writes without end keeps a log of bounded size, which says what is missing."""
    daemon = make_daemon("--max-log-bytes", "10000")
    daemon.start()
    with daemon.client() as client:
        job = client.submit("exec", {"argv": ["sh", "-c", "while :; do echo ............................; done"]})
        wait_until(lambda: b"bytes were dropped here" in client.logs(job.id), "the log to be cut")
        client.cancel(job.id)
        assert client.wait(job.id, 20).state is State.CANCELLED


def test_fifos_in_the_way_hold_up_nobody(client: Client) -> None:
    """A job that puts FIFOs in place of its files blocks neither who reads its log nor its own cancel."""
    job = started(client, "fifo", "waiting")
    with pytest.raises(RequestRefused) as refused:
        client.logs(job.id)
    assert refused.value.code == "unreadable_log"
    client.cancel(job.id, grace_s=0.1)
    assert client.wait(job.id, 20).state is State.CANCELLED


@pytest.mark.parametrize(
    "body",
    [
        b'{"verb": "submit", "type": "quick", "not_before": "9999-12-31T23:59:59-12:00"}',
        b'{"verb": "submit", "type": "quick", "not_before": "0001-01-01T00:00:00+12:00"}',
        b'{"verb": "submit", "type": "quick", "timeout_s": 1e300}',
        b'{"verb": "cancel", "id": "x", "grace_s": 1e300}',
        b'{"verb": "events", "since": 9223372036854775808}',
        b'{"verb": "events", "since": -1}',
        b'{"verb": "cancel", "label": {' + b", ".join(b'"%d": ""' % n for n in range(40_000)) + b"}}",
        b'{"verb": "list", "label": {' + b", ".join(b'"%d": ""' % n for n in range(40_000)) + b"}}",
        b'{"verb": "submit", "type": "quick", "labels": {"a": "\\u0000"}}',
    ],
)
def test_numbers_and_times_out_of_bounds_are_refused(daemon: DaemonProcess, body: bytes) -> None:
    """What no clock or store could hold is refused when it is asked for."""
    answer = ask_raw(daemon, [body])
    assert answer is not None
    assert b"invalid_request" in answer


def test_far_away_times_are_waited_for(daemon: DaemonProcess, client: Client) -> None:
    """A start next year, a time limit of a month and a grace of a day are nothing special."""
    later = client.submit("quick", {}, not_before=datetime.now(UTC) + timedelta(days=400))
    job = client.submit("sleepy", {}, timeout_s=30 * 86400)
    wait_until(lambda: client.get(job.id).progress.stage == "sleeping", "it to sleep")
    client.cancel(job.id, grace_s=86400)
    assert client.wait(job.id, 20).state is State.CANCELLED
    assert client.get(later.id).state is State.QUEUED


def test_job_whose_process_cannot_be_made_fails(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """A zygote that dies at its imports is tried a few times, not for ever."""
    (short_dir / "fatal.py").write_text("import os\nos._exit(1)\n")  # only a zygote imports it
    (short_dir / "fatal_jobs.py").write_text(
        "import msgspec\nfrom annul import JobContext, job\n\nclass P(msgspec.Struct):\n    pass\n\n"
        "@job('fatal', preload=('fatal',))\ndef fatal(ctx: JobContext, params: P) -> None:\n    pass\n"
    )
    daemon = make_daemon("--jobs", "fatal_jobs", env={"PYTHONPATH": f"{DaemonProcess._path()}:{short_dir}"})
    daemon.start()
    with daemon.client() as client:
        job = client.wait(client.submit("fatal", {}).id, 20)
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error.code == "launch_failed"
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED


def test_cancel_of_a_users_many_jobs_takes_them_all(client: Client) -> None:
    """More jobs than one turn takes are cancelled by one request."""
    client.submit_many([{"type": "quick", "user": "many", "not_before": datetime.now(UTC) + timedelta(days=1)}] * 1200)
    reply = client.cancel(user="many")
    assert (reply.outcome, reply.count, len(reply.jobs)) == ("cancelled_before_start", 1200, 1000)
    assert client.list(user="many", state=State.QUEUED) == []


def test_many_idle_connections_are_nothing(daemon: DaemonProcess, client: Client) -> None:
    """1,500 clients that say nothing neither end the daemon nor hold up the one that does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    try:
        for _ in range(1500):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(daemon.runtime_dir / "annul.sock"))
            held.append(one)
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    finally:
        for one in held:
            one.close()


def test_launch_that_a_killed_daemon_had_prepared_starts_anew(make_daemon: MakeDaemon) -> None:
    """A run directory from before the commit of a start does not get in the way of the job's first start."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        jobs = [client.submit("quick", {}, not_before=datetime.now(UTC) + timedelta(seconds=1)) for _ in range(5)]
    daemon.kill()
    for job in jobs:
        stale = daemon.runtime_dir / "jobs" / f"{job.id}.1"
        stale.mkdir()
        Board.create(stale / "board").close()
    daemon.start()
    with daemon.client() as client:
        assert {client.wait(job.id, 20).state for job in jobs} == {State.COMPLETED}
