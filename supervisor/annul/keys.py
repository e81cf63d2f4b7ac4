"""The keys by which clients are known that come by TCP: one file each in the state directory, and the daemon's own.

A key counts for as long as its file is there: every request looks, so one that is revoked ends at once, also on
connections that stand.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from annul.access import USER, USER_RULE, Grant, Role
from annul.errors import KeyProblem
from annul_client.keys import Z85, write

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
_FOLDER = "keys"
_SERVER = "server.key"
_SUFFIX = ".json"
_MOST = 1_000_000  # bytes of a file that is read


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the daemon knows of a client's key. Nothing in it is secret."""

    name: str
    public_key: Z85
    role: Role
    user: str | None = None  # bound to this one
    types: list[str] | None = None  # job types that it may submit; None: all but the privileged ones
    created_at: float  # unix seconds

    def grant(self) -> Grant:
        types = None if self.types is None else frozenset(self.types)
        return Grant(name=f"key:{self.name}", role=self.role, user=self.user, types=types)


class ServerKey(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's own pair."""

    public_key: Z85
    secret_key: Z85

    def __repr__(self) -> str:
        return "ServerKey()"


class Keys:
    """The keys of one state directory, as its daemon sees them. Owned by the loop thread."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / _FOLDER
        self._known: dict[str, tuple[Path, tuple[int, ...], Key]] = {}  # by public key

    def grant(self, public_key: str) -> Grant | None:
        """What the holder of a key may do now; None: nothing, it is unknown or revoked."""
        found = self._known.get(public_key)
        if found is None or _signature(found[0]) != found[1]:
            self._read_all()
            found = self._known.get(public_key)
        return found[2].grant() if found else None

    def _read_all(self) -> None:
        self._known.clear()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            signature = _signature(path)
            try:
                key = _read(path)
            except KeyProblem:
                continue  # `annul keys list` and the doctor tell of it
            if signature is not None:
                self._known[key.public_key] = (path, signature, key)


def server_key(state_dir: Path, make: tuple[str, str]) -> ServerKey:
    """The daemon's own pair; `make` (public, secret) becomes it where there is none yet. Raises KeyProblem."""
    path = state_dir / _SERVER
    try:
        write(path, ServerKey(public_key=make[0], secret_key=make[1]), owner=_owner(state_dir))
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyProblem(f"making the daemon's key {path}: {error}") from error
    try:
        if path.stat().st_mode & 0o077:
            raise KeyProblem(f"the daemon's key {path} can be read by others: chmod 600 it, or remove it for a new one")
        return msgspec.json.decode(path.read_bytes(), type=ServerKey)
    except (OSError, msgspec.MsgspecError) as error:
        raise KeyProblem(f"reading the daemon's key {path}: {_why(error)}") from error


def add(state_dir: Path, key: Key) -> None:
    """Make a key known. Raises KeyProblem where its name is no name, or taken."""
    if not _NAME.fullmatch(key.name):
        raise KeyProblem(
            f"a key's name is 1 to 64 letters, digits and ._@-, not starting with a dot; {key.name!r} is not"
        )
    _check_user(key)
    if key.user is not None and key.role is Role.ADMIN:
        raise KeyProblem("an admin sees every user's jobs: a key with --user has the role submit or read")
    folder = state_dir / _FOLDER
    owner = _owner(state_dir)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner != (os.geteuid(), os.getegid()):
            os.chown(folder, *owner)
        write(folder / f"{key.name}{_SUFFIX}", key, owner=owner)
    except FileExistsError as error:
        raise KeyProblem(f"there is a key {key.name!r} already: revoke it first, or choose another name") from error
    except OSError as error:
        raise KeyProblem(f"making the key {key.name!r} known in {folder}: {error}") from error


def revoke(state_dir: Path, name: str) -> None:
    """From now on nobody is served who has it. Raises KeyProblem where there is none."""
    path = state_dir / _FOLDER / f"{name}{_SUFFIX}"
    try:
        if not _NAME.fullmatch(name):
            raise FileNotFoundError
        path.unlink()
    except FileNotFoundError as error:
        raise KeyProblem(f"there is no key {name!r} in {state_dir}: see `annul keys list`") from error
    except OSError as error:
        raise KeyProblem(f"revoking the key {name!r}: {error}") from error


def known(state_dir: Path) -> list[Key | KeyProblem]:
    """All, by name; what cannot be read in its place."""
    found: list[Key | KeyProblem] = []
    for path in sorted((state_dir / _FOLDER).glob(f"*{_SUFFIX}")):
        try:
            found.append(_read(path))
        except KeyProblem as error:
            found.append(error)
    return found


def _read(path: Path) -> Key:
    try:
        key = msgspec.json.decode(path.read_bytes()[:_MOST], type=Key)
    except (OSError, msgspec.MsgspecError) as error:
        raise KeyProblem(f"reading the key {path}: {_why(error)}") from error
    if key.name != path.name.removesuffix(_SUFFIX):
        raise KeyProblem(f"the key {path} calls itself {key.name!r}")
    _check_user(key)
    return key


def _check_user(key: Key) -> None:
    """ "" would be the user of those that name none."""
    if key.user is not None and not USER.fullmatch(key.user):
        raise KeyProblem(f"the user that the key {key.name} is bound to has no user's name: {key.user!r} ({USER_RULE})")


def _signature(path: Path) -> tuple[int, ...] | None:
    """Changes with the file; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _owner(state_dir: Path) -> tuple[int, int]:
    """Of what is made in there, also where root makes it for a daemon that runs as another."""
    found = state_dir.stat()
    return found.st_uid, found.st_gid


def _why(error: Exception) -> str:
    """Without what stands in the file."""
    return str(error) if isinstance(error, OSError) else "it is not what annul writes there"
