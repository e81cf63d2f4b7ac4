"""A job's parameters from the command line: options, a file of parameters, and the files they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from annul_client import wire
from annul_client.errors import TooBig

from .schema import Field


def read_params(source: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for ``-``. Raises click's UsageError where it is none."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        params = msgspec.json.decode(data)
    except OSError as error:
        raise click.UsageError(f"--params: cannot read {source}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--params: {source} is not JSON: {error}") from error
    if not isinstance(params, dict):
        raise click.UsageError(f"--params: {source} must hold one JSON object")
    return params


def collect(
    fields: list[Field], values: dict[str, Any], source: str | None
) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """A job's parameters, its input files, and a title made of the first file's name.

    An option wins over the same parameter in the file of parameters. Raises UsageError for a required
    parameter that is nowhere and for a file that cannot be read, and `TooBig` for one that fits in no
    message.
    """
    params = read_params(source) if source else {}
    for field in fields:
        value = field.value(values.get(field.given))
        if value is not None:
            params[field.name] = value
    missing = [field.name.upper() for field in fields if field.required and field.name not in params]
    if missing:
        raise click.UsageError(f"missing {' and '.join(missing)}")
    inputs = {}
    title = ""
    for field in fields:
        path = params.get(field.name)
        if field.is_input and isinstance(path, str):
            del params[field.name]
            inputs[field.name] = _read_file(field.name, path)
            title = title or ("" if path == "-" else Path(path).name)
    return params, inputs, title


def collect_each(
    fields: list[Field], values: dict[str, Any], source: str | None
) -> list[tuple[dict[str, Any], dict[str, bytes], str]]:
    """As `collect`, for each of the files where an option for a file was given several times: as many jobs.

    They are called by the names of these files. Raises UsageError where more than one option was.
    """
    several = [field for field in fields if field.each and len(values.get(field.given) or ()) > 1]
    if not several:
        return [collect(fields, values, source)]
    if len(several) > 1:
        names = " and ".join(f"--{field.name.replace('_', '-')}" for field in several)
        raise click.UsageError(f"only one of {names} may be given several times")
    field = several[0]
    first, *others = values[field.given]
    params, inputs, _ = collect(fields, {**values, field.given: (first,)}, source)
    jobs = [(params, inputs, Path(first).name)]
    jobs += [(params, {**inputs, field.name: _read_file(field.name, path)}, Path(path).name) for path in others]
    return jobs


def _read_file(name: str, path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with Path(path).open("rb") as file:
            # One byte more than a message holds shows that it is too big, whatever its size is said to be.
            data = file.read(wire.MAX_MESSAGE + 1)
    except OSError as error:
        raise click.UsageError(f"{name.upper()}: cannot read {path}: {error.strerror}") from error
    if len(data) > wire.MAX_MESSAGE:
        raise TooBig("too_big", f"{path} is too big to be sent: {wire.MAX_MESSAGE:,} bytes fit in a message", name)
    return data
