"""Reading the configuration: flags over the file over what the environment says of places over the defaults.

The environment says where things are, which is whoever starts the daemon's to say; all that is tuned is in the file.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from annul.config import Config
from annul.errors import StartError
from annul_client import places

# Read by `annul_client.places`, the first that is set.
_ENVIRONMENT = {
    "state_dir": ("ANNUL_STATE_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME"),
    "runtime_dir": ("ANNUL_RUNTIME_DIR", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"),
}


class Settings(msgspec.Struct, frozen=True):
    """A configuration, and where each of its values comes from."""

    config: Config
    sources: dict[str, str]  # of each key: "flag", "file", "environment ($NAME)" or "default"


def read(file: Path | None, flags: dict[str, Any]) -> Settings:
    """`flags`: None, False or empty where one was not given. Raises StartError, which names the key."""
    told = {name: value for name, value in flags.items() if value not in (None, (), {}) and value is not False}
    if flags.get("warm") is False:
        told["warm"] = False
    written = _file(file) if file is not None else {}
    values = {**written, **told}
    for name in ("state_dir", "runtime_dir", "outputs_dir"):
        if not isinstance(values.get(name, ""), str | Path):
            raise StartError(f"the configuration {file}: {name} is a path, not {values[name]!r}")
    state_dir = Path(values.get("state_dir") or places.state_dir()).absolute()
    values["state_dir"] = state_dir
    values["runtime_dir"] = Path(values.get("runtime_dir") or places.runtime_dir()).absolute()
    values["outputs_dir"] = Path(values.get("outputs_dir") or state_dir / "users").absolute()
    try:
        config = msgspec.convert(values, Config, dec_hook=lambda type_, value: type_(value))
    except msgspec.ValidationError as error:
        raise StartError(f"the configuration{f' {file}' if file else ''}: {error}") from error
    sources = dict.fromkeys(told, "flag") | {name: "file" for name in written if name not in told}
    return Settings(config, {name: sources.get(name) or _otherwise(name) for name in Config.__struct_fields__})


def _file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StartError(f"reading the configuration {path}: {error}") from error
    for name in values:
        if name not in Config.__struct_fields__:
            raise StartError(f"the configuration {path}: there is no setting {name!r}{nearest(name)}")
    return values


def nearest(name: str, known: Iterable[str] = Config.__struct_fields__) -> str:
    """``; is it max_running?``, where one is near."""
    found = difflib.get_close_matches(name, known, 1)
    return f"; is it {found[0]}?" if found else ""


def _otherwise(name: str) -> str:
    variable = next((one for one in _ENVIRONMENT.get(name, ()) if os.environ.get(one)), None)
    return f"environment (${variable})" if variable else "default"
