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
    return Path(tempfile.gettempdir()) / f"annul-{os.getuid()}"


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


def endpoint(env: Mapping[str, str] = os.environ) -> str:
    """The address for requests: ``$ANNUL_ENDPOINT``, else ``annul.sock`` in the runtime directory."""
    return env.get("ANNUL_ENDPOINT") or requests_endpoint(runtime_dir(env))


def requests_endpoint(runtime: Path) -> str:
    """The address for requests of a daemon with this runtime directory."""
    return f"ipc://{runtime / 'annul.sock'}"


def events_endpoint(runtime: Path) -> str:
    """The address of the events of a daemon with this runtime directory. Clients learn it by `ping`."""
    return f"ipc://{runtime / 'events.sock'}"


def make_private(directory: Path) -> None:
    """Make sure that a directory exists, with mode 0700 where this makes it, and belongs to this user.

    Raises PermissionError where it is someone else's, a symbolic link, or open to others for writing: below a
    directory that all may write to, such as /tmp, anyone could have made it first.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    check_private(directory)


def check_private(directory: Path) -> None:
    """Raise PermissionError unless an existing directory is safe to use; see `make_private`."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{directory} is not a directory; remove it or name another one")
    if found.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{directory} belongs to uid {found.st_uid}, not to you; name another directory")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{directory} can be written by everyone; `chmod 700` it or name another one")


def _first(paths: str | None) -> str | None:
    """The first of the paths in a systemd directory variable, which separates them by colons."""
    return paths.partition(":")[0] if paths else None


def _absolute(path: str | None) -> Path | None:
    """A path of the XDG base directories; the specification says to ignore a relative one."""
    return Path(path) if path and Path(path).is_absolute() else None
