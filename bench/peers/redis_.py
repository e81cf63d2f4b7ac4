"""A private Redis: on a UNIX socket in a private folder, no port, nothing kept on disk unless asked for.

Where none is installed, Debian's packages are unpacked beside the peers' environment; that needs no root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path

import redis

from bench.peers import processes
from bench.peers.system import System

SOCKET = "BENCH_REDIS"  # the environment variable that tells workers of it
PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1")
CACHE = Path(sys.prefix, "redis")


def socket_path() -> str:
    return os.environ[SOCKET]


def url(scheme: str = "unix") -> str:
    return f"{scheme}://{socket_path()}"


def connect() -> redis.Redis:
    return redis.Redis(unix_socket_path=socket_path())


class RedisSystem(System):
    """A system that keeps its queue in Redis: one server for all figures, emptied before each."""

    def open(self, folder: Path) -> None:
        self._server = _serve(folder)

    def start(self, folder: Path) -> None:
        with connect() as server:
            server.config_set("appendonly", "no")
            server.flushall()
        self.start_workers(folder)

    @abstractmethod
    def start_workers(self, folder: Path) -> None:
        """Start the workers on an empty server."""

    def set_durable(self) -> None:
        with connect() as server:
            server.config_set("appendfsync", "always")
            server.config_set("appendonly", "yes")
            while server.info("persistence")["aof_rewrite_in_progress"]:
                pass  # the empty first file is being written

    def stop(self) -> None:
        processes.end_descendants(but={self._server.pid})

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


def _serve(folder: Path) -> subprocess.Popen[bytes]:
    """One that is ready. It says a few lines only: nobody need read the rest of them."""
    program, libraries = find()
    options = f"--port 0 --unixsocket {socket_path()} --unixsocketperm 700 --appendonly no --dir {folder}"
    server = subprocess.Popen(
        [str(program), *options.split(), "--save", ""],
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)} if libraries else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdout is not None
    said = []
    for line in server.stdout:
        said.append(line.decode(errors="replace"))
        if b"eady to accept connections" in line:
            return server
    raise ChildProcessError(f"redis-server ended with {server.wait()}: {''.join(said)}")


def find() -> tuple[Path, Path | None]:
    """(The server, where its libraries are if not in the system.) Raises FileNotFoundError: what to install."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed), None
    program = CACHE / "usr/bin/redis-server"
    if not program.exists():
        _unpack()
    (libraries,) = (CACHE / "usr/lib").glob("*-linux-gnu")
    return program, libraries


def _unpack() -> None:
    part = CACHE.with_suffix(".part")
    part.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=part, check=True, capture_output=True, timeout=120)
        for package in part.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, part], check=True)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(part)
        raise FileNotFoundError("there is no redis-server: install the package `redis-server`") from error
    part.rename(CACHE)
