"""docs/protocol.md says what the code does: verbs, fields, types, defaults, values and codes."""

from __future__ import annotations

import ast
import inspect
import json
import re
from enum import EnumType
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as mi
import pytest

import annul
import protocol
from annul_client import core, errors, wire

VERBS = {str(request.__struct_config__.tag): request for request in wire.REPLY_OF}
OBJECTS = [
    thing
    for _, thing in inspect.getmembers(wire, inspect.isclass)
    if issubclass(thing, wire.Model) and thing is not wire.Model and thing not in wire.REPLY_OF.values()
]
ENUMS = [thing for _, thing in inspect.getmembers(wire, inspect.isclass) if isinstance(thing, EnumType) and list(thing)]


def type_name(of: mi.Type) -> str:
    """As the page writes it."""
    match of:
        case mi.EnumType(cls=cls) | mi.StructType(cls=cls):
            return cls.__name__
        case mi.ListType(item_type=item):
            return f"list of {type_name(item)}"
        case mi.DictType(value_type=value):
            return f"map of {type_name(value)}"
        case mi.UnionType(types=types):
            return " or ".join(map(type_name, types))
        case _:
            return NAMES[type(of)]


NAMES = {
    mi.StrType: "text",
    mi.IntType: "integer",
    mi.FloatType: "number",
    mi.BoolType: "boolean",
    mi.BytesType: "bytes",
    mi.DateTimeType: "time",
    mi.NoneType: "null",
    mi.AnyType: "any",
}


def fields_of(struct: type[msgspec.Struct]) -> list[mi.Field]:
    about = mi.type_info(struct)
    assert isinstance(about, mi.StructType)
    return [field for field in about.fields if field.name not in ("v", "rid")]


def default(field: mi.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return json.dumps(msgspec.to_builtins(value))


def test_every_verb_has_a_section() -> None:
    """No more and no fewer, and each has a struct for its answer."""
    assert set(VERBS) == wire.VERBS
    page = protocol.PAGE.read_text()
    verbs = page[page.index("\n## Verbs\n") : page.index("\n## Objects\n")]
    assert [line.removeprefix("### ") for line in verbs.splitlines() if line.startswith("### ")] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_fields_of_a_request_are_those_of_the_code(verb: str) -> None:
    """Names, types and defaults, in order."""
    written = [row[:3] for row in protocol.table(verb, "field")]
    assert written == [[f.encode_name, type_name(f.type), default(f)] for f in fields_of(VERBS[verb])]


@pytest.mark.parametrize("verb", VERBS)
def test_the_fields_of_an_answer_are_those_of_the_code(verb: str) -> None:
    """Names and types, in order."""
    written = [row[:2] for row in protocol.table(verb, "answer")]
    assert written == [[f.encode_name, type_name(f.type)] for f in fields_of(wire.REPLY_OF[VERBS[verb]])]


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: thing.__name__)
def test_the_fields_of_an_object_are_those_of_the_code(thing: type[wire.Model]) -> None:
    """Names and types, in order."""
    written = [row[:2] for row in protocol.table(thing.__name__, "field")]
    assert written == [[f.encode_name, type_name(f.type)] for f in fields_of(thing)]


@pytest.mark.parametrize("thing", ENUMS, ids=lambda thing: thing.__name__)
def test_the_values_are_those_of_the_code(thing: EnumType) -> None:
    """Every one, in order."""
    assert [row[0] for row in protocol.table(thing.__name__, "value")] == [str(value) for value in thing]


# --- codes --------------------------------------------------------------------------------------------------


def codes_in(folder: Path, function: str, place: int) -> set[str]:
    """The codes that calls of this function are given at this place, or by the name `code`."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                given = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg == "code")]
                parts = (part for one in given for part in ast.walk(one))  # of `a if … else b`, say
                found |= {part.value for part in parts if isinstance(part, ast.Constant) and part.value}
    return found


DAEMON = Path(annul.__file__).parent


def test_the_codes_of_refusals_are_those_of_the_code() -> None:
    """What the daemon may answer, and so what the client has classes for."""
    written = {row[0] for row in protocol.table("Errors", "refusal")}
    assert written == codes_in(DAEMON, "Refused", 0)
    assert set(errors.REFUSALS) - written == {"too_big"}  # which the client says itself


def test_the_codes_of_failures_are_those_of_the_code() -> None:
    """Those that annul gives; the types of jobs have their own."""
    from annul.ending import START_TIMEOUT

    written = {row[0] for row in protocol.table("Errors", "failure")}
    ours = {START_TIMEOUT} | codes_in(DAEMON, "_fail", 2) | codes_in(DAEMON / "runtime", "_failed", 0)
    for function, place in (("ErrorInfo", 99), ("Conclusion", 99)):
        ours |= codes_in(DAEMON, function, place)
    assert written == ours


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("16 MiB; libzmq", wire.MAX_MESSAGE),
        ("16 characters or more", wire.UNIQUE_RID),
        ("| 500 jobs |", wire.MAX_SUBMIT_MANY),
    ],
)
def test_the_limits_are_those_of_the_code(said: str, limit: int) -> None:
    """As the page writes them: MiB where they are bytes."""
    assert said in protocol.PAGE.read_text()
    number = int(said.strip("| ").split()[0])
    assert limit in (number, number * 2**20)


# --- examples -----------------------------------------------------------------------------------------------


def test_the_examples_are_the_frames_that_are_kept() -> None:
    """Each verb has one, and so has each way in which a newer client can be refused."""
    written = {one.json: one for one in protocol.examples()}
    assert written == {one.json: one for one in protocol.golden()}
    assert {json.loads(one.json)["verb"] for one in protocol.golden()} >= set(VERBS)


@pytest.mark.parametrize("example", protocol.golden(), ids=lambda one: one.json[:40])
def test_an_example_is_the_same_request_in_both_encodings(example: protocol.Example) -> None:
    """And what our client sends, to the byte, where it can say it."""
    frame = bytes.fromhex(example.hex)
    assert msgspec.msgpack.decode(frame) == json.loads(example.json)
    try:
        request: wire.Request = msgspec.json.decode(example.json, type=wire.ANY_REQUEST)
    except msgspec.ValidationError:
        assert "error" in example.answer
        return
    if request.v == wire.VERSION:
        assert core.Call(request, wire.REPLY_OF[type(request)]).frame == frame
        assert msgspec.json.encode(request) == example.json.encode()


def test_the_answer_in_hex_is_one() -> None:
    """The one on the page is that of the example."""
    (text,) = re.findall(r"^`(82 [0-9a-f ]+)`", protocol.section("Verbs"), re.MULTILINE)
    (example,) = [one for one in protocol.golden() if "purge" in one.json]
    assert msgspec.msgpack.decode(bytes.fromhex(text)) == example.answer


def test_the_published_event_is_one() -> None:
    """The frames on the page are read by our client, as far as the page shows them."""
    block = protocol.section("Events").partition("```frames\n")[2].partition("```")[0]
    topic, start = (line.strip(" ⇠…") for line in block.splitlines())
    job_id = json.loads(protocol.golden()[2].json)["id"]
    assert bytes.fromhex(topic) == core.topic(job_id)
    job = wire.Job(
        id=job_id,
        type="exec",
        state=wire.State.QUEUED,
        user="u1",
        created_at=msgspec.convert("2026-11-24T04:42:47.851212Z", wire.datetime),
    )
    event = wire.Event(seq=1, job_seq=1, at=job.created_at, kind="queued", job=job)
    frame = msgspec.msgpack.encode(event)
    assert frame.startswith(bytes.fromhex(start))
    assert core.read_event([bytes.fromhex(topic), frame]) == event
