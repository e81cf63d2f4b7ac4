"""What a client knows, without any I/O: how a request becomes a frame, and a frame an answer or an error.

The sync client moves the bytes; another one may move them in another way. Following events is in `feed`.
Nothing here keeps state between calls except the `Call` of the request itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from . import wire
from .errors import BadReply, TooBig, refusal

R = TypeVar("R", bound=msgspec.Struct)

WAIT_PIECE_S = 30.0
"""Seconds that one `wait` request asks the daemon to hold its answer; longer waits are made of pieces."""

TOPIC = b"job."
"""Every event's first frame is this and the job's id, so that a subscription can be to one job or to all."""


class Call(Generic[R]):
    """One request: its frame, and how to read its answer. Owned by whoever asks; not shared between threads.

    The frame may be sent again as it is, when the connection broke before the answer: the request id makes a
    repeated `submit` the same job, and every other verb is harmless to repeat.
    """

    def __init__(self, request: wire.Request, reply: type[R]) -> None:
        """Encode a request.

        Raises `TooBig` for more than `wire.MAX_MESSAGE` bytes (libzmq would drop the connection without a
        word), and TypeError or ValueError for a value that no message can hold.
        """
        if not request.rid:
            # Random, not counted: the daemon remembers request ids, over all clients and its own restarts.
            request = msgspec.structs.replace(request, rid=os.urandom(8).hex())
        self.rid = request.rid
        self.verb = str(request.__struct_config__.tag)
        self.frame = msgspec.msgpack.encode(request, enc_hook=_encode_path)
        self._reply = reply
        if len(self.frame) > wire.MAX_MESSAGE:
            raise TooBig(
                "too_big",
                f"{self.verb}: the request has {len(self.frame):,} bytes, {wire.MAX_MESSAGE:,} fit "
                "in a message. Name the file by its path where the daemon can read it, or send less",
                _biggest_input(request),
            )

    def answer(self, frame: bytes) -> R | None:
        """What a frame says to this call; None when it answers another, such as one that timed out before.

        Raises a `RequestRefused` when the daemon refuses, and `BadReply` when the frame cannot be read.
        """
        try:
            envelope = _ENVELOPE.decode(frame)
        except msgspec.DecodeError as error:
            raise BadReply(f"{self.verb}: the answer is not a message of annul's: {error}") from error
        # An error without an id is about a request that could not be read; such as this one, for a daemon
        # that does not speak its version.
        is_mine = envelope.rid == self.rid or (not envelope.rid and envelope.error is not None)
        if not is_mine:
            return None
        if envelope.error is not None:
            raise refusal(envelope.error.code, envelope.error.message, envelope.error.field)
        if not bytes(envelope.ok):
            raise BadReply(f"{self.verb}: the answer holds neither a result nor an error")
        try:
            return msgspec.msgpack.decode(envelope.ok, type=self._reply)
        except msgspec.DecodeError as error:
            raise BadReply(
                f"{self.verb}: cannot read the answer ({error}); is the daemon of another version?"
            ) from error


def submission(type_name: str, params: Mapping[str, Any], **fields: Any) -> wire.Submit:
    """A `submit` request. A parameter whose value is bytes is sent as an input file of that name.

    Raises ValueError for a `not_before` that does not say its time zone.
    """
    when = fields.get("not_before")
    if when is not None and when.tzinfo is None:
        raise ValueError(f"submit {type_name}: not_before needs a time zone, {when} has none")
    inputs = dict(fields.pop("inputs", None) or {})
    plain = {}
    for name, value in params.items():
        if isinstance(value, bytes | bytearray | memoryview):
            inputs[name] = bytes(value)
        else:
            plain[name] = value
    return wire.Submit(type=type_name, params=plain, inputs=inputs, **fields)


def batches(jobs: Iterable[wire.Submit]) -> Iterator[list[wire.Submit]]:
    """Jobs cut into what one `submit_many` may hold, by number and by size.

    A job without a request id of its own gets its batch's with its place in it, so that a batch sent twice makes no
    job twice. A single job that is too big stays alone in its batch, where encoding it says so.
    """
    room = wire.MAX_MESSAGE - 1024
    batch: list[wire.Submit] = []
    size = 0
    for job in jobs:
        own = len(msgspec.msgpack.encode(job, enc_hook=_encode_path))
        if batch and (size + own > room or len(batch) >= wire.MAX_SUBMIT_MANY):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += own
    if batch:
        yield batch


def topic(job_id: str | None) -> bytes:
    """What to subscribe to. The topics of one job's id are also those of ids that begin with it: ask the event."""
    return TOPIC + job_id.encode() if job_id else TOPIC


def read_event(frames: list[bytes]) -> wire.Event | None:
    """The event in the two frames of a publication; None where they hold none, which the log will make up for."""
    if len(frames) != 2 or not frames[0].startswith(TOPIC):
        return None
    try:
        return _EVENT.decode(frames[1])
    except msgspec.DecodeError:
        return None


_ENVELOPE = msgspec.msgpack.Decoder(wire.Reply)
_EVENT = msgspec.msgpack.Decoder(wire.Event)


def _encode_path(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise NotImplementedError(f"a value of type {type(value).__name__} cannot be sent")


def _biggest_input(request: wire.Request) -> str | None:
    if isinstance(request, wire.Submit) and request.inputs:
        return "inputs." + max(request.inputs, key=lambda name: len(request.inputs[name]))
    return None
