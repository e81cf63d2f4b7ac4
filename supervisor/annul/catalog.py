"""The job types this daemon knows: those installed (entry points ``annul.jobs``) and those of named modules."""

from __future__ import annotations

import importlib
import logging
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from annul.errors import Refused, StartError
from annul.jobtype import JobType, job
from annul_client.wire import TypeInfo

_log = logging.getLogger(__name__)
GROUP = "annul.jobs"
_AT = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_NAMED = re.compile(r"(?:required|unknown) field `(.*)`")


class Known(msgspec.Struct, frozen=True):
    """A job type and where to import it from."""

    type: JobType
    target: str  # "module:attribute"
    schema: dict[str, Any]  # JSON Schema of the parameters, with the definitions it refers to inside
    inputs: list[str] = []  # the parameters that name an input file


class Catalog:
    """Owned by the loop thread; never changes once loaded."""

    def __init__(self, modules: list[str]) -> None:
        """Raises StartError where one of `modules`, which were asked for by name, has no usable job type."""
        self.known: dict[str, Known] = {}
        self.broken: dict[str, str] = {}
        for point in entry_points(group=GROUP):
            try:
                self._add(point.load(), point.value)
            except (Exception, SystemExit) as error:  # noqa: BLE001 (somebody's package is broken; the other types work)
                self.broken[point.name] = f"{type(error).__name__}: {error}"
                _log.warning("cannot load job type %s: %s", point.name, error, extra={"action": "load"})
        for name in modules:
            try:
                module = importlib.import_module(name)
                found = {key: value for key, value in vars(module).items() if isinstance(value, JobType)}
                for key, value in found.items():
                    self._add(value, f"{name}:{key}")
            except (Exception, SystemExit) as error:
                raise StartError(f"loading job types from module {name!r}: {type(error).__name__}: {error}") from error
            if not found:
                raise StartError(f"module {name!r} has no job type: mark a function of it with @annul.job(...)")

    def _add(self, job_type: object, target: str) -> None:
        if not isinstance(job_type, JobType):
            raise TypeError(f"{target} is no job type; is @job missing?")
        before = self.known.get(job_type.name)
        if before is not None and before.target != target:
            raise TypeError(f"{target}: there is a job type {job_type.name!r} already, {before.target}")
        schema = _schema(job_type.params)
        fields = schema.get("properties", {})
        inputs = [name for name, about in fields.items() if _inputs(about)]
        if _marks(schema) > sum(map(_inputs, fields.values())):
            # Whoever may not name any file could do so there.
            raise TypeError(f"{target}: an input file is a field of the parameters itself, not inside of another")
        self.known[job_type.name] = Known(job_type, target, schema, inputs)

    def get(self, name: str) -> Known:
        """Raises Refused(unknown_type)."""
        known = self.known.get(name)
        if known is None:
            why = f" (it is installed, but cannot be loaded: {self.broken[name]})" if name in self.broken else ""
            raise Refused(
                "unknown_type",
                f"there is no job type {name!r}{why}; known: {', '.join(sorted(self.known))}",
                "type",
            )
        return known

    def check(self, known: Known, params: dict[str, Any]) -> msgspec.Raw:
        """The parameters as JSON, complete with defaults. Raises Refused(invalid_params), naming the field."""
        try:
            value = msgspec.convert(params, known.type.params)
        except msgspec.ValidationError as error:
            at = _AT.search(str(error))
            message = str(error)[: at.start()] if at else str(error)
            field = "params" + (at[1] if at else "")
            named = _NAMED.search(message)  # what is missing or unknown is named in the text only
            if named is not None:
                field += f".{named[1]}"
            raise Refused("invalid_params", f"{known.type.name}: {message} (at {field})", field) from error
        for name in known.inputs:
            path = msgspec.to_builtins(value).get(name)
            if path and not Path(path).is_absolute():
                raise Refused(
                    "invalid_params",
                    f"{known.type.name}: {name} must be an absolute path (or send the file's bytes): {path!r} is not",
                    f"params.{name}",
                )
        return msgspec.Raw(msgspec.json.encode(value))

    def infos(self) -> list[TypeInfo]:
        return [
            TypeInfo(
                name=known.type.name,
                summary=known.type.summary,
                params=known.schema,
                grace_s=known.type.grace_s,
                timeout_s=known.type.timeout_s,
                on_shutdown=known.type.on_shutdown,
            )
            for _, known in sorted(self.known.items())
        ]


def stand_in(name: str) -> Known:
    """For a job that runs though this daemon has no such type any more: terms to stop it by."""

    @job(name, on_shutdown="cancel")
    def gone(ctx: object, params: _NoParams) -> None:
        """Never called."""

    return Known(gone, "", {})


class _NoParams(msgspec.Struct, frozen=True):
    pass


def _schema(params: type[msgspec.Struct]) -> dict[str, Any]:
    (schema,), definitions = msgspec.json.schema_components([params], ref_template="#/$defs/{name}")
    name = schema["$ref"].rpartition("/")[2]
    top = dict(definitions[name])
    if f'"#/$defs/{name}"'.encode() not in msgspec.json.encode(definitions):
        del definitions[name]  # nothing refers to it: it is not recursive
    return {**top, "$defs": definitions} if definitions else top


def _inputs(about: dict[str, Any]) -> int:
    """How many marks there are of a field that is an input file."""
    return bool(about.get("x-annul-input")) + sum(map(_inputs, about.get("anyOf", ())))


def _marks(about: Any) -> int:
    """How many there are in a schema."""
    if isinstance(about, list):
        return sum(map(_marks, about))
    if not isinstance(about, dict):
        return 0
    return (about.get("x-annul-input") is True) + sum(map(_marks, about.values()))
