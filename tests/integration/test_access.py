"""Who is let in, and to what: by the kernel's word on this machine, by keys over TCP. The real daemon, real sockets."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from annul import keys
from annul.access import Role
from annul.server import new_pair
from annul_client import AsyncClient, CancelOutcome, Client, NotFound, RequestRefused, State
from annul_client.errors import Forbidden
from annul_client.keys import KeyFile, load
from harness import DaemonProcess, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]
NOBODY, STRANGER = 65534, 65533
GROUP = 54321  # of no user: whoever is in it is so by what the test gave it


# --- by TCP ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def far(make_daemon: MakeDaemon) -> DaemonProcess:
    """A daemon that listens on a port of its own."""
    daemon = make_daemon("--listen", "tcp://127.0.0.1:*")
    daemon.start()
    return daemon


def listening(daemon: DaemonProcess) -> str:
    found = re.search(r"and (tcp://127\.0\.0\.1:\d+) ", daemon.said())
    assert found is not None
    return found[1]


def annul_keys(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "annul",
        "keys",
        arguments[0],
        "--state-dir",
        str(daemon.state_dir),
        *arguments[1:],
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def new_key(daemon: DaemonProcess, name: str, role: str, **more: Any) -> KeyFile:
    """As `annul keys new` makes one."""
    server = keys.server_key(daemon.state_dir, new_pair())
    public, secret = new_pair()
    keys.add(daemon.state_dir, keys.Key(name=name, public_key=public, role=Role(role), created_at=0.0, **more))
    return KeyFile(
        name=name,
        public_key=public,
        secret_key=secret,
        server_key=server.public_key,
        endpoint=listening(daemon),
    )


@pytest.fixture
def web(far: DaemonProcess) -> Iterator[Client]:
    """May submit, for the user u1 only."""
    with Client(key=new_key(far, "web", "submit", user="u1")) as client:
        yield client


def test_a_key_submits_follows_and_cancels(far: DaemonProcess, web: Client) -> None:
    """All that a web service does, by TCP, with events by asking."""
    pong = web.ping()
    assert (pong.you, pong.role, pong.events) == ("key:web", "submit", "")
    assert pong.requests == listening(far)
    job = web.submit("quick")
    assert job.user == "u1"
    seen = [event.kind for event in web.events(since=0, job_id=job.id)]
    assert seen[0] == "queued"
    assert seen[-1] == "completed"
    assert web.output(job.id, f"{job.id}.txt") == b"done"
    assert web.output(job.id, web.get(job.id).files[0]) == b"done"
    sleeper = started(web, "sleepy", "sleeping")
    assert web.cancel(sleeper.id, by="ann").outcome is CancelOutcome.CANCELLING
    ended = web.wait(sleeper.id, 30)
    assert ended.state is State.CANCELLED
    assert ended.cancel is not None
    assert ended.cancel.by == "ann (key:web)"


def test_another_users_jobs_do_not_exist_for_a_bound_key(far: DaemonProcess, web: Client) -> None:
    """Neither to see nor to stop, by id or in any list; and not by what the answer says."""
    with far.client() as local:
        other = started(local, "sleepy", "sleeping", user="u2")
        own = started(local, "sleepy", "sleeping", user="u1")
        moves = (web.pause, web.unpause, web.retry, lambda job_id: web.reprioritize(job_id, 1))
        for ask in (web.get, web.wait, web.logs, web.result, lambda job_id: web.output(job_id, "f"), *moves):
            with pytest.raises(NotFound) as refused:
                ask(other.id)
            with pytest.raises(NotFound) as unknown:
                ask("nobody")
            assert str(refused.value).replace(other.id, "X") == str(unknown.value).replace("nobody", "X")
        with pytest.raises(NotFound):
            next(web.events(job_id=other.id))
        assert web.cancel(other.id).outcome is CancelOutcome.NOT_FOUND
        assert web.cancel(user="u2").outcome is CancelOutcome.NOT_FOUND
        assert [job.id for job in web.list()] == [own.id]
        assert web.list(user="u2") == []
        assert web.purge(other.id) == 0
        with pytest.raises(Forbidden):
            web.submit("quick", user="u2")
        # Its events are those of its user, however many of others' lie between.
        assert {event.job.user for event in _some(web, 3)} == {"u1"}
        reply = web.cancel(type="sleepy", reason="all that are mine")
        assert [job.id for job in reply.jobs] == [own.id]
        assert local.get(other.id).state is State.RUNNING
        assert web.wait(own.id, 30).state is State.CANCELLED


def _some(client: Client, count: int) -> list[Any]:
    stream = client.events(since=0)
    return [next(stream) for _ in range(count)]


def test_events_of_a_bound_key_arrive_while_it_waits(far: DaemonProcess, web: Client) -> None:
    """Also where others' happen first, which end its wait for news without there being any for it."""
    seen: list[Any] = []

    def follow() -> None:
        for event in web.events(since=0):
            seen.append(event)
            if event.job.state.final:
                return

    follower = threading.Thread(target=follow)
    follower.start()
    with far.client() as local:
        for _ in range(3):
            local.wait(local.submit("quick", user="u2").id, 30)
        assert seen == []
        job = local.submit("quick", user="u1")
        follower.join(30)
    assert not follower.is_alive()
    assert {event.job.id for event in seen} == {job.id}
    assert [event.job_seq for event in seen] == list(range(1, len(seen) + 1))


def test_a_reader_only_looks(far: DaemonProcess, web: Client) -> None:
    job = web.submit("quick")
    with Client(key=new_key(far, "eye", "read")) as reader:
        assert reader.wait(job.id, 30).state is State.COMPLETED
        for ask in (
            lambda: reader.submit("quick"),
            lambda: reader.cancel(job.id),
            lambda: reader.purge(job.id),
            lambda: reader.pause(job.id),
            lambda: reader.unpause(job.id),
            lambda: reader.reprioritize(job.id, 1),
            lambda: reader.retry(job.id),
            reader.drain,
            reader.resume,
            lambda: reader.submit_many([{"type": "quick"}]),
        ):
            with pytest.raises(Forbidden, match="key:eye may read only"):
                ask()


def test_types_of_a_key(far: DaemonProcess, web: Client) -> None:
    """`exec` is open to keys that name it only, an admin's too."""
    with pytest.raises(Forbidden, match="exec"):
        web.submit("exec", {"argv": ["true"]})
    with Client(key=new_key(far, "boss", "admin")) as boss, pytest.raises(Forbidden, match="exec"):
        boss.submit("exec", {"argv": ["true"]})
    with Client(key=new_key(far, "ops", "submit", types=["exec"])) as ops:
        assert ops.wait(ops.submit("exec", {"argv": ["true"]}).id, 30).state is State.COMPLETED
        with pytest.raises(Forbidden, match="quick"):
            ops.submit("quick")


def test_unbound_submitters_stop_their_own_only(far: DaemonProcess, web: Client) -> None:
    with Client(key=new_key(far, "other", "submit")) as other:
        job = started(web, "sleepy", "sleeping")
        own = started(other, "sleepy", "sleeping")
        assert {job.id, own.id} == {one.id for one in other.list()}
        for ask in (
            other.cancel,
            other.pause,
            other.unpause,
            other.retry,
            lambda job_id: other.reprioritize(job_id, 1),
        ):
            with pytest.raises(Forbidden, match="submitted by key:web"):
                ask(job.id)
        assert other.pause(own.id).paused
        for rule in (other.drain, other.resume):
            with pytest.raises(Forbidden, match="needs the role admin"):
                rule()
        with pytest.raises(Forbidden):
            other.purge(state="completed")
        assert [one.id for one in other.cancel(type="sleepy").jobs] == [own.id]
        assert web.get(job.id).state is State.RUNNING
        with Client(key=new_key(far, "boss", "admin")) as boss:
            assert boss.cancel(job.id).outcome is CancelOutcome.CANCELLING
            assert boss.drain().draining
            assert not boss.resume().draining


def test_a_revoked_key_ends_at_once(far: DaemonProcess) -> None:
    """On the connection that stands, and for a new one; made, listed and revoked as the operator does it."""
    path = far.base / "web.key"
    arguments = ["web", "--role", "submit", "--user", "u1", "--endpoint", listening(far), "--out", str(path)]
    done = annul_keys(far, "new", *arguments)
    assert done.returncode == 0, done.stderr
    old = load(path)
    assert old.secret_key not in done.stdout + done.stderr
    assert annul_keys(far, "new", *arguments).returncode == 1  # nothing is written over
    with Client(key=old, timeout_s=20) as client:
        assert client.ping().role == "submit"
        assert annul_keys(far, "revoke", "web").returncode == 0
        with pytest.raises(Forbidden):
            client.ping()
        with Client(key=old, timeout_s=20) as again, pytest.raises(Forbidden, match="refuses the key 'web'"):
            again.ping()
        with Client(key=new_key(far, "web", "read")) as renewed:  # the name is free again; the old key stays out
            assert renewed.ping().role == "read"
            with pytest.raises(Forbidden):
                client.ping()
    assert annul_keys(far, "revoke", "nobody").returncode == 1
    assert annul_keys(far, "list").stdout == "web: read\n"


def test_without_the_right_key_nobody_talks(far: DaemonProcess) -> None:
    """No key, and one that nobody has made known."""
    endpoint = listening(far)
    with Client(listening(far), timeout_s=20) as client, pytest.raises(Forbidden, match="holders of a key only"):
        client.ping()
    good = new_key(far, "web", "submit")
    public, secret = (one.decode() for one in zmq.curve_keypair())
    made_up = KeyFile(name="x", public_key=public, secret_key=secret, server_key=good.server_key)
    with Client(endpoint, key=made_up, timeout_s=20) as client, pytest.raises(Forbidden, match="the key 'x'"):
        client.ping()
    assert good.secret_key not in far.said()


def test_a_restart_is_survived_by_tcp_too(far: DaemonProcess, web: Client) -> None:
    """With the same port, and the same key of the daemon's."""
    endpoint = listening(far)
    job = started(web, "sleepy", "sleeping")
    far.kill()
    far.options = tuple(endpoint if one == "tcp://127.0.0.1:*" else one for one in far.options)
    far.log.unlink()
    far.start()
    assert web.get(job.id).state is State.RUNNING
    web.cancel(job.id)
    assert web.wait(job.id, 30).state is State.CANCELLED


@pytest.mark.parametrize(
    "endpoint", ["ipc:///tmp/x", "127.0.0.1:7473", "tcp://nowhere.invalid:1", "tcp://127.0.0.1:99999"]
)
def test_addresses_that_are_none(make_daemon: MakeDaemon, endpoint: str) -> None:
    daemon = make_daemon("--listen", endpoint)
    assert not daemon.try_start()
    assert endpoint in daemon.said()
    assert "Traceback" not in daemon.said()


def test_files_of_others_are_not_read_for_a_key(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """Bytes are taken, and files below the user's outputs and the roots that the operator opened, by no link."""
    opened = short_dir / "open"
    opened.mkdir()
    (opened / "cv.txt").write_text("open")
    (opened / "link").symlink_to("/etc/hostname")
    config = short_dir / "annul.toml"
    config.write_text(f'allowed_roots = ["{opened}"]\n')
    daemon = make_daemon("--listen", "tcp://127.0.0.1:*", "--config", str(config))
    daemon.start()
    with Client(key=new_key(daemon, "web", "submit", user="u1")) as web:
        assert _read_by(web, b"bytes") == "bytes"
        assert _read_by(web, str(opened / "cv.txt")) == "open"
        mine = web.wait(web.submit("quick").id, 30).files[0]
        assert _read_by(web, mine) == "done"
        with pytest.raises(RequestRefused, match="as a path and as bytes"):
            web.submit("reads-file", {"file": mine}, inputs={"file": b"bytes"})
        for path in ("/etc/hostname", str(opened / ".." / "annul.toml"), str(daemon.state_dir / "server.key"), "rel"):
            with pytest.raises(RequestRefused) as refused:
                _read_by(web, path)
            assert refused.value.code in ("forbidden", "invalid_params")
            assert refused.value.field == "params.file"
        with pytest.raises(RequestRefused, match="link"):
            _read_by(web, str(opened / "link"))
        with daemon.client() as local:
            assert _read_by(local, "/etc/hostname") == Path("/etc/hostname").read_text()
            # Nor by a retry of what somebody else has submitted for its user.
            failed = local.submit("reads-file", {"file": "/nowhere"}, user="u1")
            assert local.wait(failed.id, 30).state is State.FAILED
            with pytest.raises(Forbidden, match="/nowhere is in none of the directories"):
                web.retry(failed.id)
            late = opened / "late.txt"
            failed = local.submit("reads-file", {"file": str(late)}, user="u1")
            assert local.wait(failed.id, 30).state is State.FAILED
            late.write_text("now it is there")
            assert web.wait(web.retry(failed.id).id, 30).result == "now it is there"


def _read_by(client: Client, file: bytes | str) -> str:
    job = client.wait(client.submit("reads-file", {"file": file}).id, 30)
    assert job.state is State.COMPLETED, job.error
    return str(job.result)


def test_who_asks_too_often_is_told_so(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """A local admin is not; and whoever waits for news holds a bounded number of answers."""
    config = short_dir / "annul.toml"
    config.write_text("max_requests_per_s = 1\nmax_waiting = 2\n")
    daemon = make_daemon("--listen", "tcp://127.0.0.1:*", "--config", str(config))
    daemon.start()
    with Client(key=new_key(daemon, "web", "submit")) as web, daemon.client() as local:
        with pytest.raises(RequestRefused) as refused:
            _ping(web, 100)
        assert refused.value.code == "rate_limited"
        _ping(local, 100)
    with Client(key=new_key(daemon, "slow", "submit")) as slow:
        job = slow.submit("sleepy")
        said: list[str] = []
        waits = [threading.Thread(target=_wait, args=(slow, job.id, said)) for _ in range(3)]
        for one in waits:
            one.start()
        wait_until(lambda: said, "one too many to be refused")
        slow.cancel(job.id)
        for one in waits:
            one.join(30)
        assert sorted(said) == ["cancelled", "cancelled", "too_many_waiting"]


def test_who_goes_on_though_it_was_told_is_not_heard(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """Until it may ask again; the others do not wait for it."""
    config = short_dir / "annul.toml"
    config.write_text("max_requests_per_s = 1\n")
    daemon = make_daemon("--listen", "tcp://127.0.0.1:*", "--config", str(config))
    daemon.start()
    context = zmq.Context()
    flood = _dealer(context, new_key(daemon, "web", "submit"))
    try:
        for number in range(100):
            flood.send(b'{"verb":"ping","rid":"%d"}' % number if number % 2 else b'{"verb":')
        flood.send(b'{"verb":"ping","rid":"last"}')
        said: list[str] = []

        def heard(what: str) -> bool:
            """Asks again and again."""
            flood.send(b'{"verb":"ping","rid":"again"}')
            while flood.poll(100):
                answer = msgspec.json.decode(flood.recv())
                said.append("ok" if "ok" in answer else answer["error"]["code"])
            return what in said

        wait_until(lambda: heard("rate_limited"), "it to be told")
        with daemon.client() as local:
            _ping(local, 100)
        assert len(said) < 50
        said.clear()
        wait_until(lambda: heard("ok"), "it to be served again")
    finally:
        context.destroy()


def _dealer(context: zmq.Context[zmq.Socket[bytes]], key: KeyFile) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.curve_publickey, dealer.curve_secretkey = key.public_key.encode(), key.secret_key.encode()
    dealer.curve_serverkey = key.server_key.encode()
    dealer.linger = 0
    dealer.connect(key.endpoint)
    return dealer


def _ping(client: Client, count: int) -> None:
    for _ in range(count):
        client.ping()


def _wait(client: Client, job_id: str, said: list[str]) -> None:
    try:
        said.append(client.wait(job_id, 30).state.value)
    except RequestRefused as error:
        said.append(error.code)


def test_the_client_of_asyncio_takes_a_key_too(far: DaemonProcess) -> None:
    """It follows a job by asking, and is told where it is not let in."""
    key = new_key(far, "web", "submit")

    async def work() -> None:
        async with AsyncClient(key=key) as client:
            job = await client.submit("quick")
            kinds = [event.kind async for event in client.events(since=0, job_id=job.id)]
            assert kinds == ["queued", "starting", "running", "completed"]
            assert (await client.ping()).you == "key:web"
        async with AsyncClient(listening(far), timeout_s=60) as stranger:
            found = await asyncio.gather(stranger.ping(), stranger.types(), return_exceptions=True)
            assert [type(one) for one in found] == [Forbidden, Forbidden]

    asyncio.run(asyncio.wait_for(work(), 30))


# --- on this machine -------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(make_daemon: MakeDaemon, short_dir: Path) -> DaemonProcess:
    """A daemon whose runtime directory a group may enter."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    daemon = make_daemon()
    short_dir.chmod(0o755)
    daemon.runtime_dir.mkdir(mode=0o750)
    os.chown(daemon.runtime_dir, 0, GROUP)
    daemon.start()
    return daemon


def as_user(uid: int, groups: list[int], task: Callable[[], Any]) -> Any:
    """What `task` returns, in a process of that user's; an AssertionError that tells of the error it raised."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups[1:])
            os.setresgid(groups[0], groups[0], groups[0])
            os.setresuid(uid, uid, uid)
            try:
                said = task()
            except Exception as error:
                said = AssertionError(f"{type(error).__name__}: {error}")
            os.write(write, pickle.dumps(said))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        data = answer.read()
    os.waitpid(pid, 0)
    found = pickle.loads(data)
    if isinstance(found, AssertionError):
        raise found
    return found


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_the_group_submits_and_nobody_else_comes_in(shared: DaemonProcess) -> None:
    def submit() -> tuple[str, str, str]:
        with Client(shared.endpoint) as client:
            pong = client.ping()
            return pong.you, pong.role, client.wait(client.submit("quick").id, 30).state.value

    assert as_user(NOBODY, [GROUP], submit) == (f"uid:{NOBODY}", "submit", "completed")
    assert as_user(0, [0], lambda: Client(shared.endpoint).ping().role) == "admin"
    with pytest.raises(AssertionError, match="not allowed to connect"):
        as_user(STRANGER, [STRANGER], submit)


def test_the_group_stops_its_own_and_runs_no_commands(shared: DaemonProcess) -> None:
    with shared.client() as admin:
        job = started(admin, "sleepy", "sleeping")

        def outcomes() -> list[str]:
            said = []
            with Client(shared.endpoint) as client:
                for ask in (
                    lambda: client.cancel(job.id),
                    lambda: client.submit("exec", {"argv": ["true"]}),
                    lambda: client.submit("reads-file", {"file": "/etc/hostname"}),
                ):
                    try:
                        ask()
                        said.append("done")
                    except RequestRefused as error:
                        said.append(error.code)
                own = client.submit("sleepy")
                said.append(client.cancel(own.id, by="root").outcome.value)
                cancelled = client.wait(own.id, 30).cancel
                said.append(cancelled.by if cancelled else "")
            return said

        said = as_user(NOBODY, [GROUP], outcomes)
        assert said[:3] == ["forbidden"] * 3
        assert said[3] in ("cancelling", "cancelled_before_start")
        assert said[4] == f"root (uid:{NOBODY})"
        assert admin.get(job.id).state is State.RUNNING


def test_the_configuration_names_others(make_daemon: MakeDaemon, short_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    config = short_dir / "annul.toml"
    config.write_text(f'admins = ["nobody"]\nreaders = ["{STRANGER}"]\n')
    daemon = make_daemon("--config", str(config))
    short_dir.chmod(0o755)
    daemon.runtime_dir.mkdir(mode=0o750)
    os.chown(daemon.runtime_dir, 0, GROUP)
    daemon.start()

    def role() -> str:
        with Client(daemon.endpoint) as client:
            return client.ping().role

    assert as_user(NOBODY, [NOBODY, GROUP], role) == "admin"
    assert as_user(STRANGER, [STRANGER, GROUP], role) == "read"
