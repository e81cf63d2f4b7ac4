"""The catalog: job types are found, and parameters that do not fit are refused by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from annul import InputFile, JobContext, job
from annul.catalog import Catalog, Known
from annul.errors import Refused, StartError


class Page(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    title: str = ""


class Params(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1)]
    page: Page | None = None
    pages: list[Page] = []
    weights: dict[str, float] = {}
    pdf: Annotated[str, InputFile.MARK] = ""
    extra: Annotated[str | None, InputFile.MARK] = None
    kind: str = "plain"

    def __post_init__(self) -> None:
        if self.kind == "odd":
            raise ValueError("odd ones are not made")


class Camel(msgspec.Struct, rename="camel"):
    the_file: Annotated[str, InputFile.MARK] = ""
    maybe: Annotated[str, InputFile.MARK] | None = None
    by_number: dict[int, str] = {}
    kind: Literal["a", "b"] = "a"


class Branch(msgspec.Struct):
    children: list[Branch] = []


@job("sample", grace_s=1.5, timeout_s=9, on_shutdown="cancel")
def sample(ctx: JobContext, params: Params) -> None:
    """Show what there is.

    And more.
    """


@job("camel")
def camel(ctx: JobContext, params: Camel) -> None: ...


@job("tree")
def tree(ctx: JobContext, params: Branch) -> None: ...


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    made = Catalog([])
    for one in (sample, camel, tree):
        made._add(one, f"here:{one.name}")
    return made


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


A_TYPE = """
import msgspec
from annul import job

class P(msgspec.Struct):
    x: int = 3

@job({name!r})
def run(ctx, params: P):
    '''One line.'''
"""


# --- finding types ------------------------------------------------------------------------------------------


def test_installed_types_are_known_with_where_to_import_them() -> None:
    """Built-in jobs come in by the entry points, as anyone's."""
    catalog = Catalog([])
    assert catalog.broken == {}
    assert catalog.get("exec").target == "annul.jobs.exec:exec_command"
    assert catalog.get("import-pdf").type.name == "import-pdf"


def test_types_of_a_named_module_are_known_too(module: Callable[[str, str], str]) -> None:
    """By the name of the type, which need not be that of the function."""
    catalog = Catalog([module("annul_test_mine", A_TYPE.format(name="mine"))])
    known = catalog.get("mine")
    assert known.target == "annul_test_mine:run"
    assert known.type.summary == "One line."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("x = 1", "has no job type"),
        (
            "import annul\nclass Odd: ...\n@annul.job('x')\ndef run(ctx, params: Odd): ...",
            "params annotated with a msgspec.Struct",
        ),
    ],
)
def test_a_named_module_that_gives_no_type_stops_the_start(
    module: Callable[[str, str], str], text: str, why: str
) -> None:
    """It was asked for by name; the message names it and says why."""
    name = module("annul_test_broken", text)
    with pytest.raises(StartError, match=why) as raised:
        Catalog([name])
    assert repr(name) in str(raised.value)


def test_two_types_of_one_name_stop_the_start(module: Callable[[str, str], str]) -> None:
    """Which of the two a submit means must not depend on an order of imports; the message names both."""
    one = module("annul_test_one", A_TYPE.format(name="mine"))
    two = module("annul_test_two", A_TYPE.format(name="mine"))
    with pytest.raises(StartError, match=r"annul_test_two:run.*'mine'.*annul_test_one:run"):
        Catalog([one, two])
    assert Catalog([one, one]).get("mine").target == "annul_test_one:run"


@pytest.mark.parametrize("name", ["annul_test_absent", "", ".relative", "a b"])
def test_a_module_that_is_not_there_stops_the_start(name: str) -> None:
    """Whatever is given as its name."""
    with pytest.raises(StartError, match="loading job types from module"):
        Catalog([name])


def test_an_unknown_type_is_refused_with_what_is_known(catalog: Catalog) -> None:
    """The answer helps to correct a misspelling."""
    with pytest.raises(Refused, match=r"import-pdf.*sample") as raised:
        catalog.get("smaple")
    assert (raised.value.code, raised.value.field) == ("unknown_type", "type")


def test_a_type_that_cannot_be_loaded_is_refused_with_the_reason() -> None:
    """One broken package does not take the others along, and is not simply unknown."""
    catalog = Catalog([])
    catalog.broken["theirs"] = "ImportError: no module named x"
    with pytest.raises(Refused, match="installed, but cannot be loaded: ImportError: no module named x"):
        catalog.get("theirs")
    assert catalog.get("exec")


def test_what_is_no_job_type_is_not_taken(catalog: Catalog) -> None:
    """A plain function behind an entry point is a forgotten decorator."""
    with pytest.raises(TypeError, match="is @job missing"):
        catalog._add(print, "builtins:print")


def test_types_tell_their_terms(catalog: Catalog) -> None:
    """Sorted by name, with the first line of the docstring."""
    infos = catalog.infos()
    assert [one.name for one in infos] == sorted(catalog.known)
    (mine,) = [one for one in infos if one.name == "sample"]
    assert (mine.summary, mine.grace_s, mine.timeout_s, mine.on_shutdown) == ("Show what there is.", 1.5, 9, "cancel")
    assert json.loads(msgspec.json.encode(mine))["params"] == mine.params


def test_a_schema_stands_on_its_own(catalog: Catalog) -> None:
    """What it refers to is inside it, so that any JSON Schema validator can use it."""
    schema = catalog.get("sample").schema
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid({"count": 1, "page": {"number": 1}})
    assert not check.is_valid({"count": 1, "page": {"number": "1"}})
    assert not check.is_valid({"count": 1, "nope": 1})
    assert catalog.get("sample").inputs == ["pdf", "extra"]


def test_a_schema_that_refers_to_itself_stands_on_its_own(catalog: Catalog) -> None:
    """A recursive parameter type keeps its own definition."""
    check = jsonschema.Draft202012Validator(catalog.get("tree").schema)
    assert check.is_valid({"children": [{"children": []}]})
    assert not check.is_valid({"children": [{"children": [3]}]})


@pytest.mark.parametrize("name", ["exec", "import-pdf"])
def test_built_in_types_refuse_what_they_do_not_know(catalog: Catalog, name: str) -> None:
    """A misspelt option must not pass in silence."""
    known = catalog.get(name)
    jsonschema.Draft202012Validator.check_schema(known.schema)
    assert known.schema["additionalProperties"] is False


# --- checking parameters ------------------------------------------------------------------------------------


def test_parameters_come_back_complete(catalog: Catalog) -> None:
    """Defaults are written down when a job is submitted: a newer daemon with other ones does not change it."""
    found = msgspec.json.decode(catalog.check(catalog.get("sample"), {"count": 2, "page": {"number": 1}}))
    assert found == {
        "count": 2,
        "page": {"number": 1, "title": ""},
        "pages": [],
        "weights": {},
        "pdf": "",
        "extra": None,
        "kind": "plain",
    }


def refused(catalog: Catalog, known: Known, params: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as raised:
        catalog.check(known, params)
    assert raised.value.code == "invalid_params"
    assert str(raised.value).startswith(f"{known.type.name}: ")
    return raised.value


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({}, "params.count", "missing required field `count`"),
        ({"count": 1, "cuont": 2}, "params.cuont", "unknown field `cuont`"),
        ({"count": "1"}, "params.count", "Expected `int`, got `str`"),
        ({"count": None}, "params.count", "got `null`"),
        ({"count": 1.5}, "params.count", "got `float`"),
        ({"count": 0}, "params.count", "`int` >= 1"),
        ({"count": 1, "page": []}, "params.page", "got `array`"),
        ({"count": 1, "page": {"number": "x"}}, "params.page.number", "Expected `int`"),
        ({"count": 1, "page": {}}, "params.page.number", "missing required field `number`"),
        ({"count": 1, "page": {"number": 1, "titel": ""}}, "params.page.titel", "unknown field `titel`"),
        ({"count": 1, "pages": [{"number": 1, "title": 2}]}, "params.pages[0].title", "Expected `str`"),
        ({"count": 1, "weights": {"a": "b"}}, "params.weights[...]", "Expected `float`"),
        ({"count": 1, "pdf": b"bytes"}, "params.pdf", "Expected `str`"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(
    catalog: Catalog, params: dict[str, Any], field: str, message: str
) -> None:
    """The path of the field, nested ones too, for programs; the text for people says both."""
    error = refused(catalog, catalog.get("sample"), params)
    assert error.field == field
    assert message in error.message
    assert field in error.message


@pytest.mark.parametrize(
    ("params", "field"), [({"byNumber": {"x": "y"}}, "params.byNumber"), ({"kind": "x - at `$.y"}, "params.kind")]
)
def test_a_field_is_named_also_where_its_key_or_its_value_is_what_is_odd(
    catalog: Catalog, params: dict[str, Any], field: str
) -> None:
    """A key that does not fit is its dictionary's fault, and a value cannot pass for a path."""
    assert refused(catalog, catalog.get("camel"), params).field == field


def test_a_types_own_check_is_a_refusal_in_its_own_words(catalog: Catalog) -> None:
    """A ValueError of `__post_init__` is about the parameters, not about annul."""
    error = refused(catalog, catalog.get("sample"), {"count": 1, "kind": "odd"})
    assert "odd ones are not made" in error.message


@pytest.mark.parametrize("name", ["pdf", "extra"])
@pytest.mark.parametrize("path", ["cv.pdf", "./cv.pdf", "../cv.pdf", "~/cv.pdf", " /cv.pdf"])
def test_an_input_file_is_named_by_an_absolute_path(catalog: Catalog, name: str, path: str) -> None:
    """The daemon's current directory is nobody's: a relative path would be another file."""
    error = refused(catalog, catalog.get("sample"), {"count": 1, name: path})
    assert error.field == f"params.{name}"
    assert repr(path) in error.message
    catalog.check(catalog.get("sample"), {"count": 1, name: "/cv.pdf"})


@pytest.mark.parametrize("name", ["theFile", "maybe"])
def test_an_input_file_is_one_however_it_is_declared(catalog: Catalog, name: str) -> None:
    """With a name of its own in JSON, and marked inside a union as well as around it."""
    known = catalog.get("camel")
    assert known.inputs == ["theFile", "maybe"]
    assert refused(catalog, known, {name: "x"}).field == f"params.{name}"
    catalog.check(known, {name: "/x"})


class Many(msgspec.Struct):
    files: list[Annotated[str, InputFile.MARK]] = []


class Inner(msgspec.Struct):
    file: Annotated[str, InputFile.MARK] = ""


class Outer(msgspec.Struct):
    inner: Inner | None = None
    file: Annotated[str, InputFile.MARK] = ""


@pytest.mark.parametrize("params", [Many, Outer])
def test_an_input_file_inside_of_another_field_is_refused(params: type[msgspec.Struct]) -> None:
    """There nobody would look at what a caller may read."""
    catalog = Catalog([])
    with pytest.raises(TypeError, match="not inside of another"):
        catalog._add(msgspec.structs.replace(camel, name="nested", params=params), "here:nested")
    assert "nested" not in catalog.known
