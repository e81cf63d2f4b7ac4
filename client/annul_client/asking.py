"""Calls that one caller has under way, and when their answers are overdue. No I/O: the clock is all it looks at.

A DEALER reconnects by itself but does not say so, and a request that the old daemon took with it into its
grave would wait for ever. So connections are counted, and what is not answered when a new one stands is sent again
(its id makes that safe, see `core.Call`). Nothing is sent while there is none: a request whose caller gave up must not
be waiting for a daemon that comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any, Protocol, TypeVar

import msgspec

from . import wire
from .core import Call
from .errors import Forbidden, NoDaemon
from .keys import KeyFile

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

AHEAD = 4
"""Calls that are under way at once, where many are made: enough for the daemon to find the next one when it looks."""


class Reconnected(Exception):
    """The connection broke and came back while a call that must not simply be repeated was under way."""


@dataclass(frozen=True)
class Ask:
    """Calls to be made, whose answers are wanted in their order, and how long for.

    The next ones are made and sent before the last is answered, so that both sides have something to do. Where
    one raises, those sent before it were or will be carried out, and a few after it may be.
    """

    calls: Iterable[Call[Any]]
    answer_s: float | None = None
    """Seconds for the next answer, from when something was last sent or answered; None: the client's `timeout_s`."""
    absence_s: float | None = None
    """Seconds that the daemon may be away in one piece; None: the client's `timeout_s`."""
    repeat: bool = True
    """False: a connection that broke raises `Reconnected` once it stands again."""


Answer = Generator[Ask, list[Any], T]
"""What becomes a T, by asking: yields each `Ask`, and is sent its answers or thrown its error."""


def ask(request: wire.Request, reply: type[R], *, answer_s: float | None = None) -> Answer[R]:
    """The answer to one request; `answer_s` as of `Ask`."""
    (answer,) = yield Ask([Call(request, reply)], answer_s=answer_s)
    return answer  # type: ignore[no-any-return] # `Call` has checked it


class Link(Protocol):
    """What is to be known of a connection; see `channel.Watch`."""

    connected: bool
    refused: bool
    made: int
    lost_at: float


@dataclass(frozen=True)
class OtherEnd:
    """Whom a connection is to, and by which key."""

    endpoint: str
    key: KeyFile | None = None

    def not_let_in(self) -> Forbidden:
        if self.key is None:
            return Forbidden("forbidden", f"{self.endpoint} serves holders of a key only: name its file with --key")
        return Forbidden(
            "forbidden",
            f"{self.endpoint} refuses the key {self.key.name!r}: it was revoked, or is another daemon's. Have a new "
            "one made with `annul keys new`",
        )


def asking(
    wanted: Ask, link: Link, to: OtherEnd, timeout_s: float, send: Callable[[Call[Any]], None]
) -> Generator[float, list[bytes], list[Any]]:
    """Carry out an `Ask` over one connection: yields until when to wait, on the monotonic clock, and is sent what came.

    To be resumed too when `link` has news, and when the time is over. `send` is called with what is to be sent.

    Raises `NoDaemon` when a time is over, `Forbidden` where it is not let in, `Reconnected`, and what `Call.answer`
    raises.
    """
    answer_s = timeout_s if wanted.answer_s is None else wanted.answer_s
    absence_s = timeout_s if wanted.absence_s is None else wanted.absence_s
    begun = monotonic()
    answer_by = begun + answer_s
    rest = iter(wanted.calls)
    waiting: list[Call[Any]] = []
    answers: dict[str, Any] = {}  # by request id, in the order of the calls
    over = None  # the number of the connection that the ones that wait were sent over
    while True:
        if link.connected and over != link.made:
            if over is not None and not wanted.repeat:
                raise Reconnected
            over = link.made
            for call in waiting:
                send(call)
                answer_by = monotonic() + answer_s
        # One is made to see whether there is any; the others where they can be sent at once, before the next may raise.
        for call in islice(rest, max(0, (AHEAD if link.connected else 1) - len(waiting))):
            waiting.append(call)
            answers[call.rid] = None
            if link.connected:
                send(call)
                answer_by = monotonic() + answer_s
        if not waiting:
            return list(answers.values())
        if link.refused:
            raise to.not_let_in()
        until = answer_by
        if not link.connected:
            # An old break counts from the beginning: the daemon gets its full time for these calls.
            until = min(until, max(link.lost_at, begun) + absence_s)
        if until <= monotonic():
            raise NoDaemon(to.endpoint, _silence(waiting[0], answer_s, absence_s, connected=link.connected))
        for frame in (yield until):
            for call in waiting:
                found = call.answer(frame)
                if found is not None:
                    answers[call.rid] = found
                    waiting.remove(call)
                    answer_by = monotonic() + answer_s
                    break


def _silence(call: Call[Any], answer_s: float, absence_s: float, *, connected: bool) -> str:
    if connected:
        return f"it is connected but did not answer `{call.verb}` within {answer_s:g} s"
    return f"nothing there for {min(answer_s, absence_s):g} s, asked for `{call.verb}`"
