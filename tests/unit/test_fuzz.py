"""Whatever comes in is answered with a result or a refusal: never `internal`, never an exception of another kind.

Random, and the same each time. ANNUL_FUZZ=100 makes a hundred times as many tries (`make fuzz`), other ones each time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annul import InputFile, handlers, job, keys
from annul.access import Grant, Role
from annul.catalog import Catalog
from annul.config import Config
from annul.daemon import Daemon
from annul.errors import JobError, KeyProblem, Refused, StartError
from annul.jobs.pdf import reader
from annul.server import Caller, _read, _rid
from annul.settings import read as read_settings
from annul_client import keys as key_files
from annul_client import wire
from pdf import CV_LINES, make_pdf

TIMES = int(os.environ.get("ANNUL_FUZZ", "1"))


def tries(count: int) -> Callable[[Any], Any]:
    """So many examples, in a run of the tests."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# --- what is sent ----------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "\0", "a\0b", "a\nb", "../..", "/", "/etc/\0", ".", "é" * 300, "x" * 5000, "%s{}", "'; --", "$"]
    ),
)
INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 10**40, -(10**400)]),
)
NUMBERS = INTEGERS | st.floats() | st.sampled_from([0.0, -0.0, 1e-320, 1e308, math.inf, -math.inf, math.nan])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.binary(max_size=20)
WILD = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
TIMES_OF_DAY = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1970-01-01T00:00:00Z", "2026-02-30"]),
)


def fitting(name: str) -> st.SearchStrategy[Any]:
    """Values that come far, for a field of that name."""
    if name.endswith("_s"):
        return NUMBERS | st.floats(0, 1e4)
    if name in ("limit", "offset", "since", "after", "attempt", "priority", "v"):
        return INTEGERS
    if name in ("params", "labels", "label", "inputs"):
        known = st.sampled_from(["argv", "file", "count", "batch", "path"])
        paths = st.sampled_from(["/opened", "/opened/", "/opened/\0", "/opened/../x", "/opened/" + "x/" * 3000])
        return st.dictionaries(TEXTS | known, st.lists(TEXTS, max_size=2) | SCALARS | paths, max_size=3)
    exact: dict[str, Any] = {
        "type": ["fuzzed", "exec", "import-pdf", "generate-cv", ""],
        "id": ["known", "ended", "knowm", "", None],
        "job_id": ["known", "", None],
        "user": ["u1", "u2", "default", "", None],
        "state": ["queued", "running", "completed", "gone", None],
        "rid": ["r", "5f0c2a9e71d34b86", "r" * 70_000],
        "key": ["k", "", None],
        "name": ["", "a", "a/b", "/", "b"],
    }
    if name == "not_before":
        return TIMES_OF_DAY
    return st.sampled_from(exact[name]) | TEXTS if name in exact else TEXTS


@functools.cache
def request_of(struct: type[wire.Request]) -> st.SearchStrategy[dict[str, Any]]:
    """A map for a verb: most fields of the right kind, or at least in the right place."""
    fields: dict[str, Any] = {}
    required = {"verb": st.just(struct.__struct_config__.tag)}
    for field in msgspec.structs.fields(struct):
        if field.name == "jobs":
            required["jobs"] = st.lists(request_of(wire.Submit) | SCALARS, max_size=4)
        elif field.required:
            required[field.name] = fitting(field.name)
        else:
            fields[field.name] = fitting(field.name) if field.name != "v" else st.sampled_from([1, 0, -1, 2])
    wild = st.fixed_dictionaries(required, optional=dict.fromkeys(fields, WILD) | {"extra": WILD})
    return st.fixed_dictionaries(required, optional=fields) | wild


REQUESTS = st.one_of([request_of(struct) for struct in wire.REPLY_OF])


def as_json(message: dict[str, Any]) -> bytes:
    """With NaN and Infinity, with lone surrogates, and bytes as text: what other writers of JSON let out."""
    return json.dumps(message, default=lambda data: data.decode("latin-1")).encode("utf-8", "surrogatepass")


def as_msgpack(message: Any) -> bytes:
    """Any integer, by msgspec where it can, cut to 64 bits where it cannot."""
    if isinstance(message, dict):
        message = {key: msgspec.Raw(as_msgpack(value)) for key, value in message.items()}
    elif isinstance(message, list):
        message = [msgspec.Raw(as_msgpack(one)) for one in message]
    elif isinstance(message, int) and not -(2**63) <= message < 2**64:
        message %= 2**64
    return msgspec.msgpack.encode(message)


BODIES = st.builds(lambda encode, message: encode(message), st.sampled_from([as_json, as_msgpack]), REQUESTS)
DEEP = [
    b'{"verb":"submit","type":"exec","params":{"argv":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    b'{"verb":"submit","type":"exec","params":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    b"\x82\xa4verb\xa4ping\xa1x" + b"\x91" * 100_000 + b"\xc0",
    b"\x91" * 100_000,
    b'{"verb":"ping","verb":"cancel","id":"x","rid":"a","rid":"b"}',
    b'{"verb":"ping","rid":"\\ud800"}',
    b'{"verb":"ping","rid":"\xed\xa0\x80"}',
    b"\x82\xa4verb\xa4ping\xa3rid\xa2\xed\xa0",
    b"\xdf\xff\xff\xff\xff\xa4verb",
    b"\xde\xff\xff",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b'{"v":1e400,"verb":"ping"}',
    b'{"v":' + b"9" * 5000 + b',"verb":"ping"}',
    b"\x82\xa4verb\xa6submit\xaanot_before\xc7\x0c\xff" + b"\xff" * 12,
    b'{"verb":"' + b"x" * 10**6 + b'"}',
    b'{"verb":"get","id":"' + b"x" * 10**6 + b'"}',
    b'{"verb":"ping","' + b"x" * 10**6 + b'":1}',
    b'{"verb":"submit","type":"fuzzed","params":{"' + b"x" * 10**6 + b'":1}}',
    b'{"verb":"ping","rid":"' + b"x" * 10**6 + b'"}',
    b"",
    b"{",
    b" ",
    b"\xc1",
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A request of which some bytes are others."""
    body = bytearray(draw(BODIES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


# --- whom it is sent to ----------------------------------------------------------------------------------------------


class FuzzedParams(msgspec.Struct, forbid_unknown_fields=True):
    count: int = 0
    ratio: float | None = None
    tags: dict[str, list[str]] = {}
    at: wire.datetime | None = None
    argv: list[str] | bool = False
    file: Annotated[str, InputFile.MARK] = ""


@job("fuzzed")
def fuzzed(ctx: Any, params: FuzzedParams) -> None:
    """Take anything."""


GRANTS = [
    Grant(name="uid:0", role=Role.ADMIN, local=True),
    Grant(name="uid:7", role=Role.SUBMIT, local=True),
    Grant(name="key:web", role=Role.SUBMIT, user="u1", types=frozenset({"fuzzed", "exec", "import-pdf"})),
    Grant(name="key:eye", role=Role.READ),
]


class Asked:
    """A daemon that does not run: each request is handled at once, no job of it starts."""

    def __init__(self, base: Path) -> None:
        opened = base / "open"
        opened.mkdir()
        config = Config(
            state_dir=base / "s",
            runtime_dir=base / "r",
            outputs_dir=base / "s" / "users",
            allowed_roots=[opened],
            max_requests_per_s=0,
            warm=False,
        )
        self.daemon = Daemon(config)
        self.daemon.catalog._add(fuzzed, "here:fuzzed")
        self.opened = str(opened)
        self.known, self.ended = self.submit(), self.submit()
        self.complete(self.ended, ["a/b", "b"])

    def submit(self) -> str:
        """The id of a job that waits."""
        answer = self.ask(GRANTS[0], b'{"verb":"submit","type":"fuzzed","user":"u1"}')
        return str(answer["ok"]["job"]["id"])

    def complete(self, job_id: str, files: list[str]) -> None:
        """As if it had run, and published these."""
        self.daemon.registry.queue.remove(job_id)
        record = self.daemon.store.job(job_id)
        assert record is not None
        for name in files:
            path = self.daemon.config.outputs_dir / record.user / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("done")
        ended = record.with_(state=wire.State.COMPLETED, result=msgspec.Raw(b"1"), files=files, published=True)
        self.daemon.ledger.change(ended, wire.State.COMPLETED)
        self.daemon.supervision.commit()

    def ask(self, grant: Grant, body: bytes, envelope: list[bytes] | None = None) -> dict[str, Any]:
        """The one answer, decoded; {} for one that waits for news."""
        answers: list[bytes] = []
        envelope = [b"peer"] if envelope is None else envelope

        def caller(rid: str) -> Caller:
            return Caller(lambda _, frame: answers.append(frame), envelope, grant, rid, json=wire.is_json(body))

        try:
            header, request = _read(envelope, body)
        except Refused as error:
            caller(_rid(body)).refuse(error)
        else:
            asks = caller(header.rid)
            if handlers.may_ask(self.daemon, request, asks):
                (handlers.look_up if handlers.only_looks(request) else handlers.write)(self.daemon, request, asks)
            for _ in range(100):
                self.daemon.supervision.commit()
                self.daemon._take_bulk()
                self.daemon.sweeper.step()
        if not answers:
            assert isinstance(request, wire.Wait | wire.Events)
            return {}
        (answer,) = answers
        assert len(answer) < 200_000, "much comes back for little"
        found = msgspec.json.decode(answer) if wire.is_json(body) else msgspec.msgpack.decode(answer)
        return dict(found)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = Asked(tmp_path_factory.mktemp("f"))
    yield made
    made.daemon.close()


@pytest.fixture(autouse=True)
def no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing unexpected is logged either."""
    yield
    assert [record for record in caplog.records if record.exc_info] == []


def check(answer: dict[str, Any]) -> None:
    refusals = [answer.get("error"), *(one.get("error") for one in (answer.get("ok") or {}).get("jobs", ()))]
    for error in filter(None, refusals):
        assert error["code"] != "internal", error
        assert len(error["message"]) < 2_000, "a refusal says no more than it needs to"


@tries(250)
@given(body=BODIES, grant=st.sampled_from(GRANTS))
def test_requests(asked: Asked, body: bytes, grant: Grant) -> None:
    """Wild values in all the places."""
    for written, real in (("known", asked.known), ("ended", asked.ended), ("/opened", asked.opened)):
        if wire.is_json(body):
            body = body.replace(written.encode(), real.encode())
        else:
            texts = (msgspec.msgpack.encode(one) for one in (written, real))
            body = body.replace(*texts)
    check(asked.ask(grant, body))


@tries(150)
@given(body=mangled() | st.binary(max_size=60), grant=st.sampled_from(GRANTS))
def test_frames(asked: Asked, body: bytes, grant: Grant) -> None:
    """Bytes that are hardly a request."""
    check(asked.ask(grant, body))


@pytest.mark.parametrize("number", range(len(DEEP)))
def test_frames_made_to_hurt(asked: Asked, number: int) -> None:
    check(asked.ask(GRANTS[0], DEEP[number]))


def test_a_path_with_a_nul(asked: Asked) -> None:
    body = as_msgpack({"verb": "submit", "type": "fuzzed", "params": {"file": f"{asked.opened}/\0"}})
    assert asked.ask(GRANTS[1], body)["error"]["code"] == "invalid_params"


def test_outputs_are_found_by_their_names(asked: Asked) -> None:
    """Exactly, where one has that name; and from any offset."""
    ended = asked.submit()  # the others' may have been purged
    asked.complete(ended, ["a/b", "b"])

    def output(**fields: Any) -> dict[str, Any]:
        return asked.ask(GRANTS[0], as_msgpack({"verb": "output", "id": ended, **fields}))["ok"]

    assert output(name="b") == {"data": b"done", "offset": 0, "size": 4}
    assert output(name="a/b", offset=2**63 - 1) == {"data": b"", "offset": 4, "size": 4}


def test_a_request_id_of_another_users_job(asked: Asked) -> None:
    """Its job is not shown to a key that was made again, for somebody else."""
    body = b'{"verb":"submit","type":"fuzzed","rid":"0123456789abcdef"}'
    first = Grant(name="key:one", role=Role.SUBMIT, user="u1")
    job_id = asked.ask(first, body)["ok"]["job"]["id"]
    assert asked.ask(first, body)["ok"]["created"] is False
    answer = asked.ask(msgspec.structs.replace(first, user="u2"), body)
    assert answer["error"]["code"] == "key_conflict"
    assert job_id not in str(answer)
    second = msgspec.structs.replace(first, user="u2")
    own = asked.ask(second, b'{"verb":"submit","type":"fuzzed","rid":"another-of-its-own"}')["ok"]["job"]["id"]
    answer = asked.ask(second, f'{{"verb":"retry","id":"{own}","rid":"0123456789abcdef"}}'.encode())
    assert answer["error"]["code"] == "key_conflict"
    assert job_id not in str(answer)


@tries(50)
@given(envelope=st.lists(st.binary(max_size=3), min_size=1, max_size=6))
def test_envelopes(asked: Asked, envelope: list[bytes]) -> None:
    """A DEALER's or a REQ's, or it is refused."""
    answer = asked.ask(GRANTS[0], b'{"verb":"ping"}', envelope)
    good = len(envelope) == 1 or (len(envelope) == 2 and not envelope[1])
    assert ("ok" in answer) is good


# --- what is not sent, but read --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    made = Catalog([])
    made._add(fuzzed, "here:fuzzed")
    return made


@tries(150)
@given(data=st.data())
def test_parameters(catalog: Catalog, data: st.DataObject) -> None:
    """Of every type: checked, or refused by name."""
    known = catalog.known[data.draw(st.sampled_from(sorted(catalog.known)))]
    names = st.sampled_from([*known.schema.get("properties", {}), "other"])
    params = data.draw(st.dictionaries(names, WILD | st.lists(TEXTS, max_size=2), max_size=5))
    try:
        msgspec.json.decode(catalog.check(known, params))
    except Refused as error:
        found = error.info
    else:
        return
    assert found.code == "invalid_params"
    assert found.field is not None


NAMES = st.sampled_from([field.name for field in msgspec.structs.fields(Config)]) | st.text("abc_", min_size=1)
TOML_VALUES = st.one_of(
    st.sampled_from(
        ['""', '"x"', "[]", '["@x", "0"]', '["/", "rel", ""]', "{}", "{a = -1}", "nan", "inf", "-inf", "1e400"]
    ),
    st.sampled_from(["true", "2026-01-01", "07:30:00", "[[1]]", "'\\u0000'", '"\\u0000"', "99999999999999999999"]),
    INTEGERS.map(str),
    st.text(max_size=8).map(lambda text: json.dumps(text)),
)


@tries(150)
@given(
    lines=st.lists(
        st.builds(lambda name, value: f"{name} = {value}", NAMES, TOML_VALUES) | st.text(max_size=10), max_size=3
    )
)
def test_configurations(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """Read, or refused in words."""
    path = tmp_path_factory.getbasetemp() / "annul.toml"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(StartError):
        read_settings(path, {})


KEY_TEXTS = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda fields: as_json(fields),
        st.fixed_dictionaries(
            {
                "name": st.just("k") | SCALARS,
                "public_key": st.just("x" * 40) | TEXTS,
                "role": st.sampled_from(list(Role)) | WILD,
            },
            optional={"created_at": NUMBERS, "user": WILD, "types": WILD, "secret_key": WILD, "server_key": WILD},
        ),
    ),
)


@tries(150)
@given(data=KEY_TEXTS)
def test_key_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Of the daemon's and of clients': a key, or a problem that does not tell what is in the file."""
    folder = tmp_path_factory.getbasetemp() / "state" / "keys"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "k.json").write_bytes(data)
    for one in keys.known(folder.parent):
        assert isinstance(one, keys.Key | KeyProblem)
    assert isinstance(keys.Keys(folder.parent).grant("x" * 40), Grant | None)
    with contextlib.suppress(ValueError):
        key_files.load(folder / "k.json")


PDF = make_pdf([CV_LINES, ["second page"]], compress=True)
PLAIN = make_pdf([CV_LINES])
PIECES = st.sampled_from(
    [
        *b"<< >> [ ] /Kids 99999999999 /LZWDecode ( obj endobj stream xref Tj BT ET - \0".split(),
        *(b"1 0 R", b"5 0 R", b"/Length -1", b"/Prev 0", b"/Encrypt 1 0 R", b"/ToUnicode 3 0 R", b"q " * 500),
    ]
)


@st.composite
def broken_pdf(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([PDF, PLAIN])))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 12))] = draw(PIECES | st.binary(max_size=6))
    return bytes(data)


@tries(80)
@given(data=broken_pdf())
def test_pdfs(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Read, or a JobError."""
    path = tmp_path_factory.getbasetemp() / "cv.pdf"
    path.write_bytes(data)
    with contextlib.suppress(JobError):
        reader.read(path, max_pages=20, max_bytes=10**6, max_chars=10**6, progress=lambda *_: None)
