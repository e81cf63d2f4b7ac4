"""What a thousand idle connections and fifty that mean harm cost a good client's requests.

The harm comes from a process of its own: garbage, floods, unread answers, subscribers that do not read, half of a
handshake. It is that of another uid, which may submit, where that can be had (root); else it is an admin's, whom
nothing limits.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import figures

IDLE = 1000
EACH = 10  # of each of the five kinds
_STRANGER = 65534
_pack = msgspec.msgpack.Encoder().encode
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


class Found(NamedTuple):
    """Seconds of a good client's round trips, sorted."""

    alone: list[float]
    among: list[float]


def _peer(path: str, kind: bytes) -> socket.socket:
    """A connection that is through with ZMTP's handshake (https://rfc.zeromq.org/spec/23/)."""
    found = socket.socket(socket.AF_UNIX)
    found.connect(path)
    found.sendall(_GREETING)
    got = b""
    while len(got) < len(_GREETING):
        got += found.recv(len(_GREETING) - len(got))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    found.sendall(b"\x04" + bytes([len(ready)]) + ready)
    found.recv(1000)
    return found


def _frame(body: bytes) -> bytes:
    return bytes([0, len(body)]) + body if len(body) < 256 else b"\x02" + struct.pack(">Q", len(body)) + body


def _harm(runtime: str, told: Connection) -> None:
    """For ever; says when it has begun."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_STRANGER, _STRANGER, _STRANGER)
        os.setresuid(_STRANGER, _STRANGER, _STRANGER)
    requests, events = f"{runtime}/annul.sock", f"{runtime}/events.sock"
    idle = [_peer(requests, b"DEALER") for _ in range(IDLE)]
    floods = [(_peer(requests, b"DEALER"), _frame(_pack({"verb": "ping"})) * 50) for _ in range(EACH)]
    floods += [(_peer(requests, b"DEALER"), _frame(b"\xc1" * 2000)) for _ in range(EACH)]
    floods += [(_peer(requests, b"DEALER"), _frame(_pack({"verb": "list", "limit": 1000}))) for _ in range(EACH)]
    silent = []
    for _ in range(EACH):
        half = socket.socket(socket.AF_UNIX)
        half.connect(requests)
        half.sendall(_GREETING[:20])
        subscriber = _peer(events, b"SUB")
        subscriber.sendall(_frame(b"\x01"))
        silent += [half, subscriber]
    told.send(len(idle) + len(floods) + len(silent))
    for one, _ in floods:
        one.setblocking(False)
    for one, data in itertools.cycle(floods):  # none of them ever reads
        with contextlib.suppress(BlockingIOError):
            one.send(data)
        if one is floods[0][0]:
            time.sleep(0.001)  # it is the daemon that is measured, not who gets the processor


@contextlib.contextmanager
def _harmed(runtime: Path) -> Iterator[None]:
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    peer = context.Process(target=_harm, args=(str(runtime), tell), daemon=True)
    peer.start()
    tell.close()
    try:
        told.recv()
        yield
    finally:
        peer.kill()
        peer.join()


def measure(trials: int) -> Found:
    """The same daemon, the same client: alone, then among them."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(f'submitters = ["{_STRANGER}"]\n')  # 1,000 requests a second
        config.flush()
        with figures.daemon("--tree", "session", "--config", config.name) as daemon:
            if os.geteuid() == 0:
                for path in (daemon.runtime, daemon.runtime / "annul.sock", daemon.runtime / "events.sock"):
                    os.chown(path, -1, _STRANGER)
                daemon.runtime.chmod(0o750)
            alone = figures.round_trips(daemon.client, trials)
            with _harmed(daemon.runtime):
                figures.round_trips(daemon.client, trials)  # until what they may ask for in a burst is used up
                return Found(alone, figures.round_trips(daemon.client, trials))
