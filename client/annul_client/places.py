"""Where annul keeps its things when nobody says otherwise. Used by the client and by the daemon.

The runtime directory holds the sockets and the shared memory, and is gone after a reboot. The state directory
holds the store, the logs and the outputs. Each function reads the environment it is given, creates nothing,
and gives an absolute path.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keys import KeyFile

MAX_SOCKET_PATH = 107
"""Bytes in the path of a UNIX socket at most: sockaddr_un has 108 with the closing zero."""


def runtime_dir(env: Mapping[str, str] = os.environ) -> Path:
    """The directory of the sockets.

    ``$ANNUL_RUNTIME_DIR``, else ``$RUNTIME_DIRECTORY`` (systemd), else ``$XDG_RUNTIME_DIR/annul``, else
    ``annul-<uid>`` in the temporary directory.
    """
    if named := env.get("ANNUL_RUNTIME_DIR") or _first(env.get("RUNTIME_DIRECTORY")):
        return Path(named).absolute()
    if xdg := _absolute(env.get("XDG_RUNTIME_DIR")):
        return xdg / "annul"
    return _in_tmp()


def state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """The directory of the store, the logs and the outputs.

    ``$ANNUL_STATE_DIR``, else ``$STATE_DIRECTORY`` (systemd), else ``$XDG_STATE_HOME/annul``, else
    ``~/.local/state/annul``.
    """
    if named := env.get("ANNUL_STATE_DIR") or _first(env.get("STATE_DIRECTORY")):
        return Path(named).absolute()
    if xdg := _absolute(env.get("XDG_STATE_HOME")):
        return xdg / "annul"
    return Path.home() / ".local" / "state" / "annul"


def endpoint(env: Mapping[str, str] = os.environ, key: KeyFile | None = None) -> str:
    """The address for requests: ``$ANNUL_ENDPOINT``, else the one in the key, else ``annul.sock`` in the runtime
    directory.

    Raises PermissionError where that is in the temporary directory and somebody else's: there anyone could have put a
    socket under the expected name, to be sent other people's files.
    """
    if named := env.get("ANNUL_ENDPOINT"):
        return named
    if key is not None and key.endpoint:
        return key.endpoint
    runtime = runtime_dir(env)
    if runtime == _in_tmp():
        _check_ours(runtime)
    return requests_endpoint(runtime)


def requests_endpoint(runtime: Path) -> str:
    """The address for requests of a daemon with this runtime directory."""
    return f"ipc://{runtime / 'annul.sock'}"


def events_endpoint(runtime: Path) -> str:
    """The address of the events of a daemon with this runtime directory. Clients learn it by `ping`."""
    return f"ipc://{runtime / 'events.sock'}"


def _check_ours(directory: Path) -> None:
    """Raise PermissionError where an existing directory, in a place where anyone can make one, is another user's."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"{directory} must be a directory of yours that nobody else can write to; it is not, so who listens there "
            "is anyone's guess. Remove it, or name another place with $ANNUL_RUNTIME_DIR"
        )


def _in_tmp() -> Path:
    return Path(tempfile.gettempdir()) / f"annul-{os.getuid()}"


def _first(paths: str | None) -> str | None:
    """The first of the paths in a systemd directory variable, which separates them by colons."""
    return paths.partition(":")[0] if paths else None


def _absolute(path: str | None) -> Path | None:
    """A path of the XDG base directories; the specification says to ignore a relative one."""
    return Path(path) if path and Path(path).is_absolute() else None
