"""Peers that mean harm, on bare sockets: what ZeroMQ's own would not let out."""

from __future__ import annotations

import socket
import struct
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
