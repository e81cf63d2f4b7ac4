"""The messages between daemon and zygotes: whole again, however the stream cuts them."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import records
from annul.lifecycle import Verdict
from annul.runtime import outcome
from annul.runtime.launch import (
    LAUNCH as FILE,
)
from annul.runtime.launch import (
    Exited,
    Forked,
    FromZygote,
    NotForked,
    Ready,
    Unframer,
    await_launch,
    frame,
    hand_over,
)
from annul.runtime.outcome import Outcome
from annul_client.wire import ErrorInfo, Stage

LAUNCH = records.launch(attempt=3, params=b'{"x": "\xc3\xa9"}', title="Zoë", labels={"a": "b"}, env={"A": "b=c"})

ANSWERS = [
    Ready(),
    Ready({"m": "ImportError: no"}),
    Forked(4_194_304, 2**40),
    NotForked("ENOMEM"),
    Exited(1, 0x8B),
]


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the daemon's end, the process's end) of the socket between the two."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [1, 60_000, 3_000_000])
def test_a_launch_arrives_as_it_was_sent(
    channel: tuple[socket.socket, socket.socket], tmp_path: Path, size: int
) -> None:
    """With everything that the job's process needs to know, however long; nobody waits, and nothing is left over."""
    launch = msgspec.structs.replace(LAUNCH, params=b"x" * size, run_dir=str(tmp_path))
    hand_over(channel[0], launch)
    assert (tmp_path / FILE).exists() == (size > 64 * 1024)
    assert await_launch(channel[1]) == launch
    assert not (tmp_path / FILE).exists()
    assert launch.name == "j.3"
    channel[0].close()
    assert await_launch(channel[1]) is None


def test_a_launch_to_a_process_that_is_gone_is_refused(channel: tuple[socket.socket, socket.socket]) -> None:
    """So that another one gets it."""
    channel[1].close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        hand_over(channel[0], LAUNCH)


def test_a_long_launch_that_was_given_up_meanwhile_is_none(
    channel: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Its run directory is gone."""
    hand_over(channel[0], msgspec.structs.replace(LAUNCH, params=b"x" * 100_000, run_dir=str(tmp_path)))
    (tmp_path / FILE).unlink()
    assert await_launch(channel[1]) is None


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_an_answer_tells_its_kind(answer: FromZygote) -> None:
    """One decoder takes them all apart."""
    (body,) = Unframer().feed(frame(answer))
    assert msgspec.msgpack.decode(body, type=FromZygote) == answer


@given(
    st.lists(st.sampled_from([*ANSWERS, LAUNCH, NotForked("x" * 70_000)]), max_size=8),
    st.lists(st.integers(0, 300_000), max_size=12),
)
def test_messages_are_whole_and_in_order_wherever_the_stream_is_cut(
    messages: list[msgspec.Struct], cuts: list[int]
) -> None:
    """Also in the middle of a length, and with many in one piece."""
    stream = b"".join(frame(one) for one in messages)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    unframer = Unframer()
    found = [body for a, b in itertools.pairwise(edges) for body in unframer.feed(stream[a:b])]
    assert found == [msgspec.msgpack.encode(one) for one in messages]
    assert unframer.feed(b"") == []


def test_byte_by_byte_will_do() -> None:
    """A message comes out with its last byte, not before."""
    unframer = Unframer()
    stream = frame(Exited(1, 2)) + frame(Ready())
    out = [len(unframer.feed(stream[n : n + 1])) for n in range(len(stream))]
    assert [n for n, one in enumerate(out) if one] == [len(frame(Exited(1, 2))) - 1, len(stream) - 1]


# --- the outcome --------------------------------------------------------------------------------------------

OUTCOMES = [
    Outcome(verdict=Verdict.COMPLETED, result=msgspec.Raw(b'{"x":1}'), files=["a/b", "ü"]),
    Outcome(verdict=Verdict.COMPLETED, result=msgspec.Raw(b"null")),
    Outcome(verdict=Verdict.FAILED, error=ErrorInfo(code="c", message="m"), retryable=True),
    Outcome(verdict=Verdict.CANCELLED, stage=Stage.FLAG),
]


@pytest.mark.parametrize("one", OUTCOMES, ids=lambda one: one.verdict)
def test_an_outcome_is_read_as_it_was_written(tmp_path: Path, one: Outcome) -> None:
    """The attempt's own word, which outlives daemon and job."""
    outcome.write(str(tmp_path), one)
    found = outcome.read(tmp_path)
    assert found is not None
    assert bytes(found.result) == bytes(one.result)
    assert msgspec.structs.replace(found, result=one.result) == one
    assert [path.name for path in tmp_path.iterdir()] == [outcome.NAME]


def test_no_outcome_is_none() -> None:
    """The attempt crashed, was killed, or never began."""
    assert outcome.read(Path("/nowhere")) is None


@pytest.mark.parametrize("content", [b"", b'{"verdict":"comple', b"[]", b'{"verdict":"unheard of"}', b"\xff"])
def test_a_file_that_is_no_outcome_is_an_error(tmp_path: Path, content: bytes) -> None:
    """Unknown, which is not the same as none."""
    (tmp_path / outcome.NAME).write_bytes(content)
    with pytest.raises(ValueError, match="is no outcome"):
        outcome.read(tmp_path)


def test_an_outcome_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Here a directory stands in its place."""
    (tmp_path / outcome.NAME).mkdir()
    with pytest.raises(OSError):
        outcome.read(tmp_path)


def test_a_half_written_outcome_is_none(tmp_path: Path) -> None:
    """It counts from the rename on, and a part left by a full disk is written over by the next."""
    (tmp_path / f"{outcome.NAME}.part").write_bytes(b"{")
    assert outcome.read(tmp_path) is None
    outcome.write(str(tmp_path), OUTCOMES[0])
    assert outcome.read(tmp_path) is not None
