"""Peers that mean harm, on bare sockets: what ZeroMQ's own would not let out."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"


def connected(runtime_dir: Path, name: str = "annul.sock") -> socket.socket:
    """A connection on which nothing has been said."""
    found = socket.socket(socket.AF_UNIX)
    found.connect(str(runtime_dir / name))  # without a time-out: that would not wait for room in the backlog
    found.settimeout(10)
    return found


def dealer(runtime_dir: Path) -> socket.socket:
    """One whose handshake (ZMTP 3, NULL) is over: https://rfc.zeromq.org/spec/23/"""
    found = connected(runtime_dir)
    try:
        found.sendall(GREETING)
        got = b""
        while len(got) < len(GREETING):
            got += found.recv(len(GREETING) - len(got))
        found.sendall(b"\x04" + bytes([len(_READY)]) + _READY)
        found.recv(1000)
    except OSError:
        found.close()
        raise
    return found


def frame(body: bytes, *, more: bool = False) -> bytes:
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 | more]) + struct.pack(">Q", len(body)) + body


@contextlib.contextmanager
def flooded(runtime_dir: Path, body: bytes) -> Iterator[None]:
    """Another process sends this frame, as fast as it can, for as long as this lasts."""
    command = [sys.executable, __file__, str(runtime_dir), body.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as peer:
        try:
            assert peer.stdout is not None
            assert peer.stdout.readline() == b"begun\n"
            yield
            assert peer.poll() is None, "the flood has ended before the test"
        finally:
            peer.kill()


def _flood(runtime_dir: Path, body: bytes) -> None:
    """For ever, on 20 connections, without reading a word."""
    data = frame(body) * 500
    floods = [dealer(runtime_dir) for _ in range(20)]
    for one in floods:
        one.setblocking(False)
    print("begun", flush=True)
    while True:
        for one in floods:
            with contextlib.suppress(BlockingIOError):
                one.send(data)


if __name__ == "__main__":
    _flood(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]))
