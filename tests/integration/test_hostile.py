"""Peers that mean harm, and a daemon that goes on: alive, quiet, bounded, and there for the others."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import resource
import select
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

import hostile
from annul import keys
from annul.access import Role
from annul.server import new_pair
from annul_client import Client, RequestRefused
from annul_client.keys import KeyFile
from harness import DaemonProcess, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]
MIB = 1024 * 1024
_pack = msgspec.msgpack.Encoder().encode


def resident(daemon: DaemonProcess) -> int:
    """Bytes."""
    assert daemon.process is not None
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def is_quiet(daemon: DaemonProcess) -> bool:
    """Whether its log has nothing unexpected."""
    return "Traceback" not in daemon.said() and "internal" not in daemon.said()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """For this process, which plays many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip("needs 6,000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_garbage_on_the_sockets(daemon: DaemonProcess, client: Client) -> None:
    """Before the handshake, in it and after it; many connections; then all is as it was."""
    client.ping()
    before, least = descriptors(daemon), resident(daemon)
    dice = random.Random(7)
    requests = [
        hostile.frame(b""),
        hostile.frame(b"", more=True) * 300 + hostile.frame(b'{"verb":"ping"}'),
        hostile.frame(b"{" * 200),
        hostile.frame(_pack({"verb": "submit", "type": "exec", "params": {"argv": 7}})),
        hostile.frame(_pack({"verb": "cancel", "id": "x" * 100_000})),
        hostile.frame(b'{"verb":"ping","rid":"' + b"r" * 100_000 + b'"}'),
        hostile.frame(b"\x91" * MIB),
        b"\x02" + b"\xff" * 8,  # a frame of 2**64 - 1 bytes
        b"\x02" + (17 * MIB).to_bytes(8, "big") + bytes(100),
        b"\x04\x05\x04PING",
        b"\x06" + b"\x7f" * 8,
    ]
    for number in range(150):
        if number % 3:
            one = hostile.dealer(daemon.runtime_dir)
            data = b"".join(dice.choice(requests) for _ in range(5))
            data += hostile.frame(dice.randbytes(dice.randrange(300)))
        else:
            one = hostile.connected(daemon.runtime_dir, dice.choice(["annul.sock", "events.sock"]))
            data = dice.choice([dice.randbytes(200), hostile.GREETING[:30], hostile.GREETING + bytes(50), b"\x01\0"])
        with one, contextlib.suppress(OSError):  # it may be closed in the middle
            one.sendall(data)
    assert client.ping().pid == daemon.process.pid  # type: ignore[union-attr]
    assert client.wait(client.submit("quick").id, 30).state.value == "completed"
    wait_until(lambda: descriptors(daemon) <= before + 8, "the connections to be gone")  # and what the job needed
    assert resident(daemon) < least + 100 * MIB
    assert is_quiet(daemon)


@pytest.mark.parametrize(
    "body",
    [b"\xc1" * 10, b'{"verb":"ping"}', b'{"verb":"cancel","id":"nobody"}'],
    ids=["garbage", "requests", "cancels"],
)
def test_others_are_served_in_a_flood(daemon: DaemonProcess, client: Client, body: bytes) -> None:
    """It has no end, and comes from one whom nothing limits: also where it is no request, and is never counted."""
    with hostile.flooded(daemon.runtime_dir, body):
        for _ in range(10):
            assert client.ping().you == f"uid:{os.getuid()}"
        assert client.wait(client.submit("quick").id, 30).state.value == "completed"
        job = started(client, "sleepy", "sleeping")
        assert client.cancel(job.id).outcome.value == "cancelling"
        assert client.wait(job.id, 30).state.value == "cancelled"
    assert is_quiet(daemon)


def test_long_answers_do_not_keep_others_waiting(make_daemon: MakeDaemon) -> None:
    """Hundreds of lists, asked for at once: whoever asks for less has that before."""
    daemon = make_daemon("--max-running", "1")
    daemon.start()
    context = zmq.Context()
    try:
        with daemon.client() as client:
            for _ in range(2):
                client.submit_many([{"type": "sleepy"}] * 500)
            lists = context.socket(zmq.DEALER)
            lists.connect(f"ipc://{daemon.runtime_dir}/annul.sock")
            for number in range(200):
                lists.send(_pack({"verb": "list", "rid": str(number), "limit": 1000}))
            assert msgspec.msgpack.decode(lists.recv())["rid"] == "0"
            client.ping()
            job = client.submit("sleepy")
            assert client.cancel(job.id).outcome.value == "cancelled_before_start"
            assert client.get(job.id).state.value == "cancelled"
            answered = 1
            while lists.poll(0):
                lists.recv()
                answered += 1
            assert answered < 200
            for number in range(answered, 200):
                assert msgspec.msgpack.decode(lists.recv())["rid"] == str(number)
            client.cancel(type="sleepy")
    finally:
        context.destroy()


def test_answers_that_nobody_reads_are_bounded(make_daemon: MakeDaemon, short_dir: Path) -> None:
    """In bytes: who asks for much and does not read is shown out, before it fills the machine's memory."""
    config = short_dir / "annul.toml"
    config.write_text(f"max_memory_bytes = {200 * MIB}\n")
    daemon = make_daemon("--config", str(config))
    daemon.start()
    with daemon.client() as client:
        job = client.wait(client.submit("exec", {"argv": ["head", "-c", str(8 * MIB), "/dev/zero"]}).id, 60)
        asks = hostile.frame(_pack({"verb": "logs", "id": job.id, "limit": 8 * MIB}))
        sizes: list[int] = []

        def is_shown_out(greedy: socket.socket) -> bool:
            sizes.append(resident(daemon))
            return _is_closed(greedy)

        for _ in range(3):  # one after the other: each would have 2 GiB waiting for it
            with hostile.dealer(daemon.runtime_dir) as greedy:
                greedy.sendall(asks * 250)
                wait_until(functools.partial(is_shown_out, greedy), "it to be shown out")
                client.ping()
        assert max(sizes) < 700 * MIB
        wait_until(lambda: resident(daemon) < 200 * MIB, "what it did not read to be gone")
        assert len(client.logs(job.id)) == 8 * MIB
    assert "does not read, and memory is short" in daemon.said()
    assert is_quiet(daemon)


def _is_closed(one: socket.socket) -> bool:
    """Whether the other end is; without reading."""
    poller = select.poll()
    poller.register(one, select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))


def test_connections_are_bounded(make_daemon: MakeDaemon, many_descriptors: None) -> None:
    """libzmq aborts where it cannot accept one: it does not come to that; who is in stays in."""
    daemon = make_daemon()
    daemon.before = "ulimit -n 4096"
    daemon.start()
    with daemon.client() as client:
        client.ping()
        flood = [hostile.connected(daemon.runtime_dir) for _ in range(5000)]
        assert client.ping().pid == daemon.process.pid  # type: ignore[union-attr]
        assert client.wait(client.submit("quick").id, 30).state.value == "completed"
        wait_until(lambda: descriptors(daemon) < 2300, "those that are too many to be closed")
        assert "connections are closed: uid:" in daemon.said()
        for one in flood:
            one.close()
        wait_until(lambda: descriptors(daemon) < 200, "all to be gone")
    with daemon.client() as another:
        another.ping()
    assert is_quiet(daemon)


# --- who may what ----------------------------------------------------------------------------------------------------


@pytest.fixture
def far(make_daemon: MakeDaemon) -> DaemonProcess:
    daemon = make_daemon("--listen", "tcp://127.0.0.1:*", env={"OPENAI_API_KEY": "sk-not-to-be-seen"})
    daemon.start()
    return daemon


def new_key(daemon: DaemonProcess, name: str, role: str, user: str | None = None) -> KeyFile:
    server = keys.server_key(daemon.state_dir, new_pair())
    public, secret = new_pair()
    keys.add(daemon.state_dir, keys.Key(name=name, public_key=public, role=Role(role), user=user, created_at=0.0))
    found = re.search(r"and (tcp://127\.0\.0\.1:\d+) ", daemon.said())
    assert found is not None
    return KeyFile(name=name, public_key=public, secret_key=secret, server_key=server.public_key, endpoint=found[1])


def test_what_was_asked_for_before_a_key_was_revoked(far: DaemonProcess) -> None:
    """A `wait` and an `events` that outlive the key tell nothing."""
    said: list[str] = []
    with far.client() as local, Client(key=new_key(far, "web", "submit", "u1")) as web:
        job = started(web, "sleepy", "sleeping")

        def ask(request: Callable[[], object]) -> None:
            try:
                said.append(repr(request()))
            except RequestRefused as error:
                said.append(error.code)

        asks = (lambda: web.wait(job.id, 30), lambda: next(web.events(job_id=job.id)))
        waits = [threading.Thread(target=ask, args=(one,)) for one in asks]
        for one in waits:
            one.start()
        last = local.ping()
        wait_until(lambda: web.ping().pid == last.pid, "the requests to be there")
        keys.revoke(far.state_dir, "web")
        local.cancel(job.id)
        for one in waits:
            one.join(30)
    assert said == ["forbidden", "forbidden"]


def test_strangers_at_the_port(far: DaemonProcess) -> None:
    """Half of a handshake, none, another mechanism, garbage; and a key that nobody knows, again and again."""
    good = new_key(far, "web", "submit")
    host, _, port = good.endpoint.removeprefix("tcp://").rpartition(":")
    openings = [
        b"",
        hostile.GREETING[:11],
        hostile.GREETING,
        hostile.GREETING.replace(b"NULL", b"PLAIN"[:4]),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    held = []
    for number in range(60):
        one = socket.create_connection((host, int(port)))
        one.sendall(openings[number % len(openings)])
        held.append(one)
    context = zmq.Context()
    strangers = []
    for _ in range(20):
        stranger = context.socket(zmq.DEALER)
        public, secret = zmq.curve_keypair()
        stranger.curve_publickey, stranger.curve_secretkey = public, secret
        stranger.curve_serverkey = good.server_key.encode()
        stranger.linger = 0
        stranger.connect(good.endpoint)
        strangers.append(stranger)
    wait_until(lambda: "refused an unknown key" in far.said(), "the strangers to be refused")
    with Client(key=good) as web:
        assert web.ping().you == "key:web"
    assert far.said().count("refused an unknown key") <= 2
    for one in (*strangers, *held):
        one.close()
    context.term()
    assert is_quiet(far)


def test_no_secret_is_shown(far: DaemonProcess) -> None:
    """Not in the log, not in refusals, not on the command line of any process."""
    good = new_key(far, "web", "submit")
    server_secret = msgspec.json.decode((far.state_dir / "server.key").read_bytes())["secret_key"]
    with Client(key=good) as web:
        for ask in (lambda: web.submit("exec", {"argv": ["env"]}), lambda: web.get("gone"), lambda: web.submit("nope")):
            with pytest.raises(RequestRefused) as refused:
                ask()
            for secret in (good.secret_key, server_secret, "sk-not-to-be-seen"):
                assert secret not in str(refused.value)
    with far.client() as local:
        env = local.logs(local.wait(local.submit("exec", {"argv": ["env"]}).id, 30).id).decode()
    shown = far.said() + env
    for secret in (good.secret_key, server_secret, "sk-not-to-be-seen"):
        assert secret not in shown
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert b"sk-not-to-be-seen" not in one.read_bytes()


def test_what_a_group_sees_of_the_runtime_directory(make_daemon: MakeDaemon) -> None:
    """The two sockets, and nothing else: it may pass through, all else is the daemon's own."""
    daemon = make_daemon()
    daemon.before = "umask 0"
    daemon.runtime_dir.mkdir(mode=0o750)
    daemon.start()
    with daemon.client() as client:
        started(client, "sleepy", "sleeping")
        open_: dict[str, str] = {}
        for root in (daemon.runtime_dir, daemon.state_dir):
            for path in (root, *root.rglob("*")):
                try:
                    found = path.lstat().st_mode
                except FileNotFoundError:  # of a spare process that has just rehearsed
                    continue
                mode = stat.S_IMODE(found)
                if mode & 0o077 and not stat.S_ISLNK(found):
                    open_[str(path.relative_to(daemon.base))] = f"{mode:o}"
    assert open_ == {"run": "750", "run/annul.sock": "660", "run/events.sock": "660"}


def test_names_do_not_write_lines_into_the_log(daemon: DaemonProcess, client: Client) -> None:
    forged = "x\n2026-01-01 00:00:00,000 info completed: forged \x1b[31m"
    job = started(client, "sleepy", "sleeping", title=forged, labels={forged: forged}, key=forged)
    client.cancel(job.id, reason=forged, by=forged)
    client.wait(job.id, 30)
    client.wait(client.submit("exec", {"argv": [forged]}, title=forged).id, 30)
    with pytest.raises(RequestRefused):
        client.submit(forged)
    with pytest.raises(RequestRefused):
        client.submit("quick", user=forged)
    assert not re.search(r"^2026-01-01", daemon.said(), re.MULTILINE)
    assert "\x1b" not in daemon.said()
