"""Key files: what a client needs to reach a daemon by TCP, and the daemon to know it.

CURVE keys of ZeroMQ (https://rfc.zeromq.org/spec/26/), Z85-encoded, in JSON: any language with ZeroMQ can use them.
A file with a secret is made with mode 0600, not given that afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

Z85 = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key. Raises nothing of itself; `__repr__` shows no secret."""

    name: str
    public_key: Z85
    secret_key: Z85
    server_key: Z85  # the daemon's public key: the client talks to no other
    endpoint: str = ""  # where the daemon listens, if it was known when the key was made

    def __repr__(self) -> str:
        return f"KeyFile({self.name!r})"


def load(path: str | os.PathLike[str]) -> KeyFile:
    """Raises OSError, and ValueError for what is no key file. Neither has anything of its contents."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=KeyFile)
    except msgspec.MsgspecError:
        raise ValueError(f"{path} is no key file of annul's: make one with `annul keys new`") from None


def key_of(key: str | os.PathLike[str] | KeyFile | None) -> KeyFile | None:
    """The key that a client was given, or the one in ``$ANNUL_KEY``. Raises as `load` does."""
    if isinstance(key, KeyFile):
        return key
    path = key or os.environ.get("ANNUL_KEY")
    return load(path) if path else None


def write(path: Path, value: msgspec.Struct, *, owner: tuple[int, int] | None = None) -> None:
    """Make a file that only its owner can read. Raises FileExistsError: no key is ever written over.

    `owner`: uid and gid to give it to, before anything is in it.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            os.fchown(fd, *owner)
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        file.flush()
        os.fsync(fd)
