"""The outcome: how an attempt ended, by its own word. A file, so that it outlives the daemon."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from annul import regular
from annul.lifecycle import Verdict
from annul_client.wire import ErrorInfo, Stage

NAME = "outcome.json"
MAX_RESULT = 8 * 1024 * 1024  # bytes of a result as JSON: it travels in one message
MAX_DEPTH = 100  # of a result's nesting: whoever reads it does so recursively
MAX_BYTES = MAX_RESULT + 4 * 1024 * 1024  # of an outcome: the rest is the names of its files
NO_RESULT = msgspec.Raw()  # this very object is left out when encoded


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Written once, by rename, as the last thing the attempt does."""

    verdict: Verdict
    result: msgspec.Raw = NO_RESULT  # JSON
    files: list[str] = []  # staged outputs, relative to the staging directory, fsynced
    error: ErrorInfo | None = None
    retryable: bool = False
    stage: Stage | None = None  # of a cancel: what delivered it


def write(attempt_dir: str, outcome: Outcome) -> None:
    """All of it or nothing, whoever is killed meanwhile. Raises OSError (disk full).

    Not fsynced: what it says is durable once the daemon has committed it, and after a reboot it does not count.
    """
    path = f"{attempt_dir}/{NAME}"
    part = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = msgspec.json.encode(outcome)
        while data:
            data = data[os.write(part, data) :]
    finally:
        os.close(part)
    os.rename(f"{path}.part", path)


def read(attempt_dir: Path) -> Outcome | None:
    """The outcome, or None where the attempt wrote none.

    Raises ValueError where the file is none, OSError where it could not be read: unknown, not absent.
    """
    try:
        data = regular.read(attempt_dir / NAME, MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Outcome)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"{attempt_dir / NAME} is no outcome: {error}") from error


def staged(folder: str) -> list[str]:
    """The names of all regular files staged, fsynced with the folders they are in. Links and devices are not outputs.

    Raises OSError, and ValueError for a name that is not UTF-8.
    """
    if not os.path.lexists(folder):
        return []
    names, staging = [], Path(folder)
    for path in sorted(staging.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            fsync_dir(path)
        elif path.is_file():
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            name = str(path.relative_to(staging))
            name.encode()  # raises UnicodeEncodeError, a ValueError: JSON could not hold it
            names.append(name)
    if names:
        fsync_dir(staging)
        fsync_dir(staging.parent)
    return names


def fsync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
