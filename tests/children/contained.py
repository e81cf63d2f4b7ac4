"""Job types that look how far they come: `--jobs children.contained`."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from annul import JobContext, job


class Tries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tries: list[tuple[str, str]] = []  # what, with what
    confined: bool = True
    network: bool = False
    read: list[str] = []
    write: list[str] = []
    by_child: bool = False  # a program that the job starts does them


def _connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as one:
        one.settimeout(10)
        one.connect(address)
        one.send(b"x")


WAYS = {
    "read": lambda it: Path(it).read_bytes(),
    "list": os.listdir,
    "write": lambda it: Path(it).open("ab").close(),
    "create": lambda it: Path(it).touch(),
    "cut": lambda it: os.truncate(it, 0),
    "remove": os.unlink,
    "folder": os.mkdir,
    "move out": lambda it: (Path("mine").touch(), Path("mine").rename(it)),
    "link in": lambda it: Path("linked").hardlink_to(it),
    "run": lambda it: subprocess.run([it], check=True, stdout=subprocess.DEVNULL),
    "tcp": lambda it: _connect(socket.AF_INET, ("127.0.0.1", int(it))),
    "listen": lambda it: socket.create_server(("127.0.0.1", int(it))).close(),
    "udp": lambda it: _connect(socket.AF_INET, ("127.0.0.1", int(it)), socket.SOCK_DGRAM),
    "unix": lambda it: _connect(socket.AF_UNIX, it),
    "netlink": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "pair": lambda _: [one.close() for one in socket.socketpair()],
    "signal": lambda it: os.kill(int(it), 0),
    "look into": lambda it: Path(f"/proc/{it}/environ").read_bytes(),
    "resolve": lambda it: socket.getaddrinfo(it, 80),
    "trust": lambda it: ssl.create_default_context(cafile=it),
    "thread": lambda _: threading.Thread(target=int).start(),
}


def tried(tries: list[tuple[str, str]]) -> list[str]:
    """Of each "ok", or the name of the error."""
    found = []
    for what, it in tries:
        try:
            WAYS[what](it)
            found.append("ok")
        except OSError as error:
            found.append(errno.errorcode.get(error.errno or 0, repr(error)))
    return found


@job("try", on_shutdown="cancel")
def attempt(ctx: JobContext, params: Tries) -> dict[str, Any]:
    """Try things, confined or not, and tell how it went."""
    whole = None
    if params.confined:
        whole = ctx.confine(network=params.network, read=params.read, write=params.write)
    ctx.output("out.txt").write_text("done")
    if params.by_child:
        given = json.dumps(params.tries)
        said = subprocess.run([sys.executable, __file__, given], check=True, stdout=subprocess.PIPE, text=True).stdout
        return {"whole": whole, "found": json.loads(said)}
    return {"whole": whole, "found": tried(params.tries)}


@job("try-async", on_shutdown="cancel")
async def attempt_async(ctx: JobContext, params: Tries) -> dict[str, Any]:
    """The same in a coroutine, and in a thread of its pool."""
    whole = ctx.confine(network=params.network, read=params.read)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return {"whole": whole, "found": await asyncio.to_thread(tried, params.tries)}


@job("confined-late", on_shutdown="cancel")
def confined_late(ctx: JobContext, params: Tries) -> dict[str, Any]:
    """Be confined when a thread runs already."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    whole = ctx.confine(network=False)
    done.set()
    thread.join()
    return {"whole": whole, "found": []}


class Stays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stubborn: bool = False
    confined: bool = True


@job("stays", grace_s=0.3, on_shutdown="cancel")
def stays(ctx: JobContext, params: Stays) -> None:
    """Be confined, and wait with a child in a session of its own; stubborn: both ignore SIGTERM."""
    if params.confined:
        ctx.confine(network=False)
    script = "while :; do sleep 1; done"
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; " * params.stubborn + script], start_new_session=True)
    if params.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.progress(None, f"waiting with {child.pid}")
    time.sleep(3600)


@job("spends", cpu_s=1, on_shutdown="cancel")
def spends(ctx: JobContext, params: Tries) -> None:
    """Take more processor time than it may, and swallow whatever can be swallowed."""
    while True:
        try:
            sum(range(100_000))
        except Exception:
            continue


@job("eats", memory_bytes=256 * 1024 * 1024, on_shutdown="cancel")
def eats(ctx: JobContext, params: Tries) -> int:
    """Need more memory than it may have, confined."""
    ctx.confine(network=False)
    return len(bytearray(1024 * 1024 * 1024))


@job("eats-together", memory_bytes=128 * 1024 * 1024, on_shutdown="cancel")
def eats_together(ctx: JobContext, params: Tries) -> None:
    """Need more memory than it may have, in processes of which each needs less."""
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(b"x") * (64 * 1024 * 1024)
            time.sleep(3600)
            os._exit(len(held))
    os.wait()


@job("opens", max_open_files=32, on_shutdown="cancel")
def opens(ctx: JobContext, params: Tries) -> int:
    """Open files until it cannot; how many."""
    held = []
    try:
        while len(held) < 1000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for fd in held:
        os.close(fd)
    return len(held)


@job("may-sudo", no_new_privs=False, on_shutdown="cancel")
def may_sudo(ctx: JobContext, params: Tries) -> None:
    """Wait, with what set-user-id programs give."""
    ctx.progress(None, "waiting")
    time.sleep(3600)


if __name__ == "__main__":
    print(json.dumps(tried(json.loads(sys.argv[1]))))
