"""The client without I/O: requests become frames, frames answers, and lost events are made up for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annul_client import core, errors, places, wire
from annul_client.feed import EventFeed

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(job_id: str = "a", state: wire.State = wire.State.RUNNING) -> wire.Job:
    return wire.Job(id=job_id, type="t", state=state, user="u", created_at=AT)


def reply(rid: str, ok: object = None, error: wire.ErrorInfo | None = None) -> bytes:
    raw = None if ok is None else msgspec.Raw(msgspec.msgpack.encode(ok))
    return msgspec.msgpack.encode(wire.Reply(rid=rid, ok=raw, error=error))


# --- calls --------------------------------------------------------------------------------------------------


def test_a_request_says_its_verb_version_and_an_id_of_its_own() -> None:
    """A request carries what the daemon needs to answer it, and no two carry the same id."""
    one, two = (core.Call(wire.Get(id="a"), wire.JobReply) for _ in range(2))
    sent = msgspec.msgpack.decode(one.frame)
    assert sent["verb"] == "get"
    assert sent["id"] == "a"
    assert sent["rid"] == one.rid != two.rid
    assert msgspec.msgpack.decode(one.frame, type=wire.Get).v == wire.VERSION


def test_an_answer_is_matched_by_its_request_id() -> None:
    """The late answer to an earlier call is passed over."""
    call = core.Call(wire.Get(id="a"), wire.JobReply)
    assert call.answer(reply("another", wire.JobReply(job=job("b")))) is None
    found = call.answer(reply(call.rid, wire.JobReply(job=job("a"))))
    assert found is not None
    assert found.job.id == "a"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", errors.NotFound),
        ("not_completed", errors.NotCompleted),
        ("key_conflict", errors.KeyConflict),
        ("queue_full", errors.QueueFull),
        ("a_code_of_next_year", errors.RequestRefused),
    ],
)
def test_a_refusal_is_raised_with_code_message_and_field(code: str, kind: type[errors.RequestRefused]) -> None:
    """What the daemon refuses is raised by its kind, and says all that the daemon said."""
    call = core.Call(wire.Get(id="a"), wire.JobReply)
    with pytest.raises(kind, match="no such") as raised:
        call.answer(reply(call.rid, error=wire.ErrorInfo(code=code, message="no such", field="id")))
    assert (raised.value.code, raised.value.field) == (code, "id")


def test_a_refusal_without_an_id_is_about_the_call_under_way() -> None:
    """A daemon that could not read the request's id refuses without one."""
    call = core.Call(wire.Get(id="a"), wire.JobReply)
    with pytest.raises(errors.RequestRefused, match="newer"):
        call.answer(reply("", error=wire.ErrorInfo(code="unsupported_version", message="newer")))


@given(st.binary(max_size=200))
def test_any_frame_is_an_answer_to_another_call_or_an_error_of_the_clients(frame: bytes) -> None:
    """No frame whatever raises anything else."""
    call = core.Call(wire.Ping(), wire.Pong)
    try:
        assert call.answer(frame) is None
    except errors.AnnulClientError:
        pass


@pytest.mark.parametrize("ok", [{"job": 3}, {}, [1], None])
def test_an_answer_of_another_shape_is_a_bad_reply(ok: object) -> None:
    """What cannot be read is said to be that, naming the verb."""
    call = core.Call(wire.Get(id="a"), wire.JobReply)
    with pytest.raises(errors.BadReply, match="get"):
        call.answer(reply(call.rid, ok))


def test_unknown_fields_of_a_newer_daemon_are_ignored() -> None:
    """An older client reads a newer daemon."""
    call = core.Call(wire.Get(id="a"), wire.JobReply)
    newer = msgspec.to_builtins(wire.JobReply(job=job())) | {"colour": "blue"}
    assert call.answer(reply(call.rid, newer)) is not None


def test_a_request_that_fits_in_no_message_is_not_made() -> None:
    """Too big is said before sending, and which input it is."""
    big = core.submission("t", {"pdf": bytes(wire.MAX_MESSAGE), "logo": b"x"})
    with pytest.raises(errors.TooBig) as raised:
        core.Call(big, wire.JobReply)
    assert raised.value.field == "inputs.pdf"


# --- submissions --------------------------------------------------------------------------------------------


def test_bytes_among_the_parameters_become_inputs() -> None:
    """A file's bytes travel beside the parameters, and a path stays a parameter."""
    made = core.submission("t", {"pdf": b"%PDF", "logo": bytearray(b"x"), "pages": 3}, user="u1")
    assert made.inputs == {"pdf": b"%PDF", "logo": b"x"}
    assert made.params == {"pages": 3}
    assert made.user == "u1"


def test_a_path_object_is_sent_as_its_text() -> None:
    """A pathlib.Path among the parameters needs no str()."""
    call = core.Call(core.submission("t", {"pdf": Path("/a/cv.pdf")}), wire.JobReply)
    assert msgspec.msgpack.decode(call.frame)["params"] == {"pdf": "/a/cv.pdf"}


def test_a_time_without_a_zone_is_not_guessed() -> None:
    """`not_before` must say which time zone it means."""
    with pytest.raises(ValueError, match="time zone"):
        core.submission("t", {}, not_before=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_many_jobs_are_cut_by_number_and_by_size() -> None:
    """Every batch fits in a message and in the daemon's limit, and order is kept."""
    small = [core.submission("t", {"n": n}) for n in range(wire.MAX_SUBMIT_MANY + 1)]
    big = [core.submission("t", {"pdf": bytes(wire.MAX_MESSAGE // 3)}) for _ in range(3)]
    cut = list(core.batches(small + big))
    assert [len(batch) for batch in cut] == [wire.MAX_SUBMIT_MANY, 3, 1]
    flat = [each for batch in cut for each in batch]
    assert [each.params.get("n") for each in flat] == [*range(wire.MAX_SUBMIT_MANY + 1), None, None, None]
    for batch in cut:
        core.Call(wire.SubmitMany(jobs=batch), wire.SubmitManyReply)
    assert list(core.batches([])) == []


def test_both_kinds_of_a_submit_many_reply_are_read() -> None:
    """A reply that mixes jobs and refusals comes back as the structs of the protocol."""
    call = core.Call(wire.SubmitMany(jobs=[]), wire.SubmitManyReply)
    refused = wire.ErrorInfo(code="bad_params", message="no", field="params.n")
    answered = wire.SubmitManyReply(jobs=[wire.Submitted(job=job(), created=False), wire.Submitted(error=refused)])
    found = call.answer(reply(call.rid, answered))
    assert found == answered


# --- events -------------------------------------------------------------------------------------------------


def log_of(pattern: list[int], first_seq: int = 1) -> list[wire.Event]:
    """A log whose n-th event is of the job that the n-th number names."""
    counts: dict[int, int] = {}
    events = []
    for offset, name in enumerate(pattern):
        counts[name] = counts.get(name, 0) + 1
        events.append(
            wire.Event(seq=first_seq + offset, job_seq=counts[name], at=AT, kind="progress", job=job(f"job{name}"))
        )
    return events


def ask(log: list[wire.Event], request: wire.Events, limit: int, oldest: int = 1) -> wire.EventsReply:
    """Answer as the daemon does; `limit` stands for whatever cuts an answer short."""
    last = log[-1].seq if log else 0
    if request.since is None:
        return wire.EventsReply(events=[], last=last, oldest=oldest)
    found = [e for e in log if e.seq > request.since and request.job_id in (None, e.job.id)]
    return wire.EventsReply(events=found[:limit], last=last, oldest=oldest)


@settings(max_examples=300, deadline=None)
@given(
    pattern=st.lists(st.integers(0, 2), max_size=30),
    one_job=st.booleans(),
    start=st.one_of(st.none(), st.integers(0, 30)),
    known=st.integers(0, 30),
    limit=st.integers(1, 7),
    moves=st.lists(st.one_of(st.sampled_from(["grow", "ask", "check"]), st.integers(0, 30)), max_size=80),
)
def test_whatever_is_lost_doubled_or_late_every_event_is_given_once_in_order(
    *,
    pattern: list[int],
    one_job: bool,
    start: int | None,
    known: int,
    limit: int,
    moves: list[str | int],
) -> None:
    """Any pattern of drops, duplicates, reordering and askings between gives each event exactly once."""
    log = log_of(pattern)
    known = min(known, len(log))  # how much of the log there is when the reader comes
    since = None if start is None else min(start, known)
    feed = EventFeed(since, "job1" if one_job else None)
    given_out: list[wire.Event] = []

    first = feed.request()
    assert first is not None
    given_out += feed.replied(ask(log[:known], first, limit))
    begin = known if since is None else since
    for move in moves:
        if move == "grow":
            known = min(known + 1, len(log))
        elif move == "check":
            feed.check()
        elif isinstance(move, int):  # hear any event that exists by now, old or new
            given_out += feed.published(log[move]) if move < known else []
        elif (request := feed.request()) is not None:
            given_out += feed.replied(ask(log[:known], request, limit))
    # The silence at the end: what was lost last leaves no gap, so the log is asked.
    feed.check()
    while (request := feed.request()) is not None:
        given_out += feed.replied(ask(log, request, limit))

    assert given_out == [e for e in log if e.seq > begin and (not one_job or e.job.id == "job1")]


def test_the_next_event_is_given_out_without_asking() -> None:
    """A stream without losses costs no request."""
    log = log_of([1, 1, 2])
    feed = EventFeed(0)
    feed.replied(wire.EventsReply(events=[], last=0, oldest=1))
    assert [feed.published(event) for event in log] == [[event] for event in log]
    assert feed.request() is None


def test_a_gap_makes_the_feed_ask_for_what_came_after_the_last_event() -> None:
    """The request names the reader's own place, so that nothing in between is passed over."""
    log = log_of([1, 1, 2])
    feed = EventFeed(0)
    feed.replied(wire.EventsReply(events=[], last=0, oldest=1))
    feed.published(log[0])
    assert feed.published(log[2]) == []
    assert feed.request() == wire.Events(since=1)


def test_events_of_an_id_that_begins_alike_are_not_this_jobs() -> None:
    """A subscription is by prefix; the feed looks at the whole id."""
    feed = EventFeed(0, "job1")
    feed.replied(wire.EventsReply(events=[], last=0, oldest=1))
    assert feed.published(log_of([11])[0]) == []
    assert feed.request() is None


@pytest.mark.parametrize(("oldest", "last"), [(7, 9), (1, 3)])
def test_a_log_that_cannot_be_followed_is_said_to_be_lost(oldest: int, last: int) -> None:
    """Purged entries, or the log of another state directory, are not skipped in silence."""
    feed = EventFeed(5)
    with pytest.raises(errors.EventsLost) as raised:
        feed.replied(wire.EventsReply(events=[], last=last, oldest=oldest))
    assert (raised.value.since, raised.value.oldest, raised.value.last) == (5, oldest, last)


def test_of_a_single_job_only_its_own_entries_can_be_lost() -> None:
    """That older events of other jobs were purged does not matter to the reader of one job."""
    log = log_of([1, 1], first_seq=50)
    feed = EventFeed(0, "job1")
    assert feed.replied(wire.EventsReply(events=log, last=51, oldest=50)) == log
    cut = EventFeed(0, "job1")
    with pytest.raises(errors.EventsLost):
        cut.replied(wire.EventsReply(events=log[1:], last=51, oldest=51))


@pytest.mark.parametrize("frames", [[], [b"job.a"], [b"other", b""], [b"job.a", b"\xc1"]])
def test_a_publication_that_cannot_be_read_is_none(frames: list[bytes]) -> None:
    """A broken publication is one more lost one; the log makes up for it."""
    assert core.read_event(frames) is None


# --- places and imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        (
            {"ANNUL_RUNTIME_DIR": "/a", "RUNTIME_DIRECTORY": "/b", "XDG_RUNTIME_DIR": "/c"},
            "ipc:///a/annul.sock",
        ),
        ({"RUNTIME_DIRECTORY": "/b:/b2", "XDG_RUNTIME_DIR": "/c"}, "ipc:///b/annul.sock"),
        ({"XDG_RUNTIME_DIR": "/c"}, "ipc:///c/annul/annul.sock"),
        ({"ANNUL_ENDPOINT": "tcp://127.0.0.1:7000", "ANNUL_RUNTIME_DIR": "/a"}, "tcp://127.0.0.1:7000"),
    ],
)
def test_the_endpoint_follows_the_environment(env: dict[str, str], wanted: str) -> None:
    """annul's own variables win over systemd's, and those over the desktop's."""
    assert places.endpoint(env) == wanted


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"ANNUL_STATE_DIR": "/a", "STATE_DIRECTORY": "/b"}, "/a"),
        ({"STATE_DIRECTORY": "/b", "XDG_STATE_HOME": "/c"}, "/b"),
        ({"XDG_STATE_HOME": "/c"}, "/c/annul"),
        ({"XDG_STATE_HOME": "relative"}, str(Path.home() / ".local/state/annul")),
    ],
)
def test_the_state_directory_follows_the_environment(env: dict[str, str], wanted: str) -> None:
    """A relative XDG path is ignored, as its specification says."""
    assert places.state_dir(env) == Path(wanted)


def test_a_socket_in_a_directory_that_another_could_have_made_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the shared temporary directory only a directory of one's own, closed to others, is looked into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = tmp_path / f"annul-{os.getuid()}"
    assert places.endpoint({}) == f"ipc://{ours}/annul.sock"
    ours.mkdir(mode=0o700)
    assert places.endpoint({}) == f"ipc://{ours}/annul.sock"
    ours.chmod(0o777)
    with pytest.raises(PermissionError, match="ANNUL_RUNTIME_DIR"):
        places.endpoint({})
    ours.rmdir()
    ours.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        places.endpoint({})


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("annul_client.wire", ("zmq", "click", "rich", "annul_client.sync")),
        ("annul_client.errors", ("zmq", "msgspec", "click", "rich")),
        ("annul_client.places", ("zmq", "msgspec", "click", "rich")),
        ("annul_client.core", ("zmq", "click", "rich", "annul_client.sync")),
        ("annul_client.sync", ("click", "rich", "annul", "asyncio")),
        ("annul_client.aio", ("click", "rich", "annul", "zmq.asyncio")),
        ("annul_client.cli", ("zmq", "rich", "annul")),
    ],
)
def test_what_an_import_pulls_in(module: str, forbidden: tuple[str, ...]) -> None:
    """The wire comes without zmq, the client without click and rich, and neither with the daemon."""
    code = f"import sys, {module}; print(*(set({forbidden!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_library_needs_nothing_but_pyzmq_and_msgspec(tmp_path: Path) -> None:
    """Both clients can be imported where nothing else is installed."""
    import msgspec as one
    import zmq as other

    import annul_client

    for package in (one, other, annul_client):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        (tmp_path / folder.name).symlink_to(folder)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); from annul_client import AsyncClient, Client"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    """What the package promises by name can be had, and nothing else can."""
    import annul_client

    assert all(getattr(annul_client, name) is not None for name in annul_client.__all__)
    assert set(annul_client.__all__) <= set(dir(annul_client))
    with pytest.raises(AttributeError, match="nothing"):
        _ = annul_client.nothing
