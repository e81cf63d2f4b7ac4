"""Command-line parameters out of a job type's JSON Schema.

Required parameters are positional, in the schema's order; the others are options. The daemon has the last
word on every value; what is checked here is what a shell can only say as text: numbers, truth values,
choices, lists.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from .options import KeyValue, ParamType

Schema = dict[str, Any]


class Json(ParamType):
    """A value in JSON; with `loose`, text that is not JSON stands for itself."""

    name = "json"

    def __init__(self, *, loose: bool = False) -> None:
        self._loose = loose

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            if self._loose:
                return value
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


class Field(msgspec.Struct, frozen=True):
    """One parameter of a job type, as the command line takes it."""

    name: str  # in the job's parameters
    given: str  # in click's values
    is_input: bool  # names a file whose bytes are sent
    required: bool
    parameter: click.Parameter
    is_list: bool = False
    is_map: bool = False
    each: bool = False  # given several times it is several jobs, one for each

    def value(self, given: Any) -> Any:
        """What click made of it, as the job's parameter; None where it was not given."""
        if given is None or (given == () and (self.is_list or self.is_map or self.each)):
            return None
        if self.each:
            return given[-1]  # `collect_each` sees to several
        if self.is_map:
            return dict(given)
        return list(given) if self.is_list else given


def fields_of(schema: Schema, taken: set[str]) -> list[Field]:
    """The parameters of a type. An option whose name is `taken` is called ``--param-NAME``."""
    root = _resolve(schema, schema)
    required = list(root.get("required", []))
    fields = []
    has_rest = False
    for number, (name, raw) in enumerate(root.get("properties", {}).items()):
        one = _plain(raw, schema)
        given = f"p{number}"
        is_input = bool(one.get("x-annul-input"))
        is_list = one.get("type") == "array"
        is_map = (
            one.get("type") == "object"
            and _plain(one.get("additionalProperties") or {}, schema).get("type") == "string"
        )
        parameter: click.Parameter
        # Only the last of the positional ones can take all that is left.
        positional = name in required and not is_map and (not is_list or name == required[-1])
        if positional:
            has_rest = has_rest or is_list
            parameter = click.Argument(
                [given],
                metavar=name.upper() + ("..." if is_list else ""),
                type=_click_type(one, schema),
                nargs=-1 if is_list else 1,
                required=False,  # it may come from --params; asked for by `missing`
            )
        else:
            parameter = _option(name, given, one, schema, taken, repeated=is_list or is_map or is_input)
        fields.append(
            Field(
                name=name,
                given=given,
                is_input=is_input,
                required=name in required,
                parameter=parameter,
                is_list=is_list,
                is_map=is_map,
                each=is_input and not (positional or is_list or is_map),
            )
        )
    return fields


def described(schema: Schema) -> list[tuple[str, str]]:
    """Each parameter's name and what it is, for help and for `annul types NAME`."""
    root = _resolve(schema, schema)
    rows = []
    for name, raw in root.get("properties", {}).items():
        rows.append((name, _help(_plain(raw, schema), name in root.get("required", []))))
    return rows


def _option(name: str, given: str, one: Schema, schema: Schema, taken: set[str], *, repeated: bool) -> click.Option:
    dashed = name.replace("_", "-")
    if dashed in taken:
        dashed = f"param-{dashed}"
    flag = one.get("type") == "boolean"
    return click.Option(
        [given, f"--{dashed}/--no-{dashed}" if flag else f"--{dashed}"],
        type=None if flag else _click_type(one, schema),
        default=None,
        multiple=repeated,
        help=_help(one, required=False),
    )


def _help(one: Schema, required: bool) -> str:
    said = [str(one.get("description") or ("a file, read here and sent" if one.get("x-annul-input") else ""))]
    if required:
        said.append("(required)")
    elif one.get("default") not in (None, [], {}, ""):
        default = one["default"]
        said.append(f"[{default if isinstance(default, str) else msgspec.json.encode(default).decode()}]")
    return " ".join(part for part in said if part)


def _click_type(one: Schema, schema: Schema) -> ParamType:
    if "enum" in one and all(isinstance(value, str) for value in one["enum"]):
        return click.Choice(one["enum"])
    match one.get("type"):
        case "string":
            return click.STRING
        case "integer":
            return click.INT
        case "number":
            return click.FLOAT
        case "array":
            return _click_type(_plain(one.get("items") or {}, schema), schema)
        case "object":
            values = _plain(one.get("additionalProperties") or {}, schema)
            return KeyValue() if values.get("type") == "string" else Json()
        case _:
            return Json(loose=True)


def _plain(raw: Any, schema: Schema) -> Schema:
    """A parameter's schema without references and without "or null", which the shell says by saying nothing."""
    if not isinstance(raw, dict):
        return {}
    one = _resolve(raw, schema)
    kinds = [each for each in one.get("anyOf", []) if each.get("type") != "null"]
    outer = {name: value for name, value in one.items() if name != "anyOf"}
    if len(kinds) == 1:
        return {**_resolve(kinds[0], schema), **outer}
    if kinds:
        # Several kinds: text that is read as JSON where it can be. A file is a file in any of them.
        marked = any(_resolve(each, schema).get("x-annul-input") for each in kinds)
        return {**outer, "x-annul-input": True} if marked else outer
    return one


def _resolve(one: Schema, schema: Schema) -> Schema:
    """Follow ``$ref`` into the schema's own definitions."""
    for _ in range(16):  # a schema that refers to itself in a circle is left as it is
        ref = one.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/$defs/"):
            break
        beside = {name: value for name, value in one.items() if name != "$ref"}
        one = {**schema.get("$defs", {}).get(ref.removeprefix("#/$defs/"), {}), **beside}
    return one
