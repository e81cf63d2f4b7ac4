"""An OpenAI-compatible server on loopback that behaves, or misbehaves, as told; and remembers what it saw.

    with OpenAIServer(stream_cv()) as server:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.base_url}
        ...
        server.wait_request()           # a request is there
        server.wait_closed()            # every connection so far is closed; says when

Each argument is the behaviour of one request, in the order in which they come; the last one goes on for ever.
`trickle`, `stall` and `hang` hold the answer until `release()`; then it is completed.

Raw sockets and a thread for each connection, which polls its socket whenever it does not write: a close is
seen the moment the kernel knows of it, and not at the next write. Times are `time.monotonic()`, on Linux one
clock for all processes. Leaving the ``with`` ends all threads and sockets.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

WAIT_S = 20.0  # how long a test waits for a condition before it fails; nothing takes near as long

# What a model answers about SAMPLE_TEXT: recorded shapes, with lines to copy.
SAMPLE_TEXT = """\
Éloïse Durand
Ingénieure logiciel
eloise.durand@example.org
Expérience
Développeuse – Société Générale
janv. 2021 – présent
• Réduction du temps de réponse de 40 % grâce à un dévelop-
pement incrémental
• Migration vers PostgreSQL
Formation
INSA Lyon, diplôme d'ingénieur, 2018"""
SAMPLE_ANSWER: dict[str, Any] = {
    "isCv": True,
    "basics": {
        "name": "Éloïse Durand",
        "label": "Ingénieure logiciel",
        "email": "eloise.durand@example.org",
        "phone": "",
        "url": "",
        "summary": [],
        "location": {"address": "", "postalCode": "", "city": "", "countryCode": "", "region": ""},
        "profiles": [],
    },
    "work": [
        {
            "name": "Société Générale",
            "location": "",
            "description": [],
            "position": "Développeuse",
            "url": "",
            "startDate": "2021-01",
            "endDate": "",
            "summary": [],
            "highlights": [{"from": 7, "to": 8, "text": ""}, {"from": 9, "to": 9, "text": ""}],
        }
    ],
    "volunteer": [],
    "education": [
        {
            "institution": "INSA Lyon",
            "url": "",
            "area": "",
            "studyType": "diplôme d'ingénieur",
            "startDate": "",
            "endDate": "2018",
            "score": "",
            "courses": [],
        }
    ],
    "awards": [],
    "certificates": [],
    "publications": [],
    "skills": [],
    "languages": [],
    "interests": [],
    "references": [],
    "projects": [],
    "unplaced": [],
}
# The same about a scan: without lines, long texts are words.
SCAN_ANSWER: dict[str, Any] = {
    **SAMPLE_ANSWER,
    "work": [
        {
            **SAMPLE_ANSWER["work"][0],
            "highlights": [{"text": "Migration vers PostgreSQL"}, {"text": "Mise en place de l'intégration continue"}],
        }
    ],
    "unplaced": [{"text": "Permis B"}],
}


def empty_answer(answer: Any) -> Any:
    """An answer of the shape of `answer` that says nothing."""
    if isinstance(answer, dict):
        return {key: empty_answer(value) for key, value in answer.items()}
    return type(answer)()


class Gone(Exception):
    """The client closed its connection, or the server stops: the behaviour ends here."""


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: Any  # parsed JSON; None where there is none
    at: float  # monotonic seconds when its last byte was here
    connection: Connection


@dataclass
class Connection:
    """One connection of a client."""

    opened_at: float
    closed_at: float | None = None  # monotonic seconds when the client's close was seen, or ours made


@dataclass
class Exchange:
    """A request and the means to answer it; what a behaviour gets. Used in the connection's thread only."""

    request: Request
    _sock: socket.socket
    _stop: int  # eventfd, readable once the server stops
    _released: int  # eventfd, readable once the test released the answers
    _chunked: bool = False

    def hold(self, seconds: float | None = None) -> bool:
        """Wait until released (True) or for `seconds` (False). Raises `Gone` when the client closes first."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLRDHUP)
        poll.register(self._stop, select.POLLIN)
        poll.register(self._released, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if self._sock.fileno() in ready or self._stop in ready:
            # No client here sends anything while it waits for an answer.
            raise Gone
        return self._released in ready

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        self._chunked = headers.get("transfer-encoding") == "chunked"
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        self._send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer of JSON."""
        data = json.dumps(body).encode()
        head = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        self.head(status, head)
        self._send(data)

    def event(self, data: Any) -> None:
        """Send one server-sent event."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        self.raw(f"data: {text}\n\n".encode())

    def raw(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._send(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is complete."""
        if self._chunked:
            self._send(b"0\r\n\r\n")

    def close(self) -> None:
        """Close the connection from this side, whatever was promised."""
        raise _Cut

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone from error


class _Cut(Exception):
    """The behaviour wants the connection closed."""


Behaviour = Callable[[Exchange], None]


class OpenAIServer:
    """The server. Its methods may be called from any thread; the lists are only appended to."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self._behaviours = behaviours or (stream_cv(),)
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._released = os.eventfd(0, os.EFD_CLOEXEC)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.eventfd_write(self._stop, 1)
        # The accepting thread is the first: after it no thread is added.
        for thread in self._threads:
            thread.join()
        self._listener.close()
        os.close(self._stop)
        os.close(self._released)

    def release(self) -> None:
        """Let all held answers, and those to come, go on to their end."""
        os.eventfd_write(self._released, 1)

    def wait_request(self, count: int = 1, timeout_s: float = WAIT_S) -> Request:
        """The `count`th request (from 1), as soon as it is there."""
        self._wait(lambda: len(self.requests) >= count, f"no request {count}", timeout_s)
        return self.requests[count - 1]

    def wait_closed(self, timeout_s: float = WAIT_S) -> float:
        """When the last of all connections so far was closed (by the client; or by a `cut`), monotonic."""
        self._wait(
            lambda: bool(self.connections) and all(c.closed_at is not None for c in self.connections),
            "a connection is still open",
            timeout_s,
        )
        return max(c.closed_at for c in self.connections if c.closed_at is not None)

    def _wait(self, condition: Callable[[], bool], problem: str, timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise AssertionError(f"the OpenAI server waited {timeout_s} s: {problem}")

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="openai-server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._stop in ready:
                return
            sock, _ = self._listener.accept()
            connection = Connection(time.monotonic())
            with self._changed:
                self.connections.append(connection)
                self._changed.notify_all()
            self._start(self._serve, sock, connection)

    def _serve(self, sock: socket.socket, connection: Connection) -> None:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that reads no more must not hold up the end of the test.
            sock.settimeout(WAIT_S)
            try:
                while (request := self._read(sock, connection)) is not None:
                    with self._changed:
                        self.requests.append(request)
                        turn = min(len(self.requests), len(self._behaviours)) - 1
                        self._changed.notify_all()
                    exchange = Exchange(request, sock, self._stop, self._released)
                    if (request.method, request.path) == ("POST", "/v1/chat/completions"):
                        self._behaviours[turn](exchange)
                    else:
                        exchange.json(404, {"error": {"message": f"no {request.path}", "code": None}})
            except (Gone, _Cut):
                pass
            finally:
                with self._changed:
                    connection.closed_at = time.monotonic()
                    self._changed.notify_all()

    def _read(self, sock: socket.socket, connection: Connection) -> Request | None:
        """The next request; None once the client has closed, or the server stops."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self._receive(sock)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            if not (more := self._receive(sock)):
                return None
            body += more
        method, path, _ = first.split(" ")
        content = json.loads(body) if body else None
        return Request(method, path, headers, content, time.monotonic(), connection)

    def _receive(self, sock: socket.socket) -> bytes:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        if self._stop in {fd for fd, _ in poll.poll()}:
            return b""
        try:
            return sock.recv(65536)
        except ConnectionResetError:
            return b""


# --- behaviours ---


@dataclass
class _Stream:
    """The chunks of one streamed chat completion, in OpenAI's shapes."""

    exchange: Exchange
    usage: dict[str, Any] = field(
        default_factory=lambda: {"prompt_tokens": 421, "completion_tokens": 187, "total_tokens": 608}
    )

    def begin(self, *, chunked: bool = True) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_test"}
        headers |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        self.exchange.head(200, headers)
        self.delta({"role": "assistant", "content": "", "refusal": None})

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self.exchange.event({**self._chunk(), "choices": [choice], "usage": None})

    def content(self, text: str, *, interval_s: float = 0.0, size: int = 24) -> None:
        for i in range(0, len(text), size):
            if interval_s:
                self.exchange.hold(interval_s)
            self.delta({"content": text[i : i + size]})

    def end(self, finish: str = "stop") -> None:
        self.delta({}, finish)
        self.exchange.event({**self._chunk(), "choices": [], "usage": self.usage})
        self.exchange.event("[DONE]")
        self.exchange.end()

    def _chunk(self) -> dict[str, Any]:
        model = self.exchange.request.body.get("model")
        return {
            "id": "chatcmpl-BTest0000000000000000000000000",
            "object": "chat.completion.chunk",
            "created": 1767225600,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_test",
        }


def stream_text(content: str, *, finish: str = "stop", interval_s: float = 0.0) -> Behaviour:
    """Stream `content`, whatever it is; `interval_s` between two chunks of 24 characters."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin()
        stream.content(content, interval_s=interval_s)
        stream.end(finish)

    return behave


def stream_cv(answer: dict[str, Any] | None = None, *, interval_s: float = 0.0) -> Behaviour:
    """A normal answer: the sample's, or `answer`."""
    return stream_text(_text(answer), interval_s=interval_s)


def trickle(answer: dict[str, Any] | None = None, *, interval_s: float = 0.02) -> Behaviour:
    """A slow model: a chunk of white space (valid there) each `interval_s` until released, then the rest."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin()
        text = _text(answer)
        stream.content(text[:1])
        while not exchange.hold(interval_s):
            stream.content(" ")
        stream.content(text[1:])
        stream.end()

    return behave


def stall(answer: dict[str, Any] | None = None) -> Behaviour:
    """Half an answer, then silence until released, then the rest."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin()
        text = _text(answer)
        stream.content(text[: len(text) // 2])
        exchange.hold()
        stream.content(text[len(text) // 2 :])
        stream.end()

    return behave


def hang(answer: dict[str, Any] | None = None) -> Behaviour:
    """Not one byte until released, then a normal answer."""

    def behave(exchange: Exchange) -> None:
        exchange.hold()
        stream_cv(answer)(exchange)

    return behave


def cut(*, clean: bool = False) -> Behaviour:
    """Half an answer, then the connection is closed. `clean`: in a way that looks like the end of a body."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin(chunked=not clean)
        text = _text(None)
        stream.content(text[: len(text) // 2])
        exchange.close()

    return behave


def drop() -> Behaviour:
    """The connection is closed before a byte of an answer."""
    return Exchange.close


def invalid_json() -> Behaviour:
    """A complete answer that is no JSON."""
    return stream_text('{"basics": {"name": "Éloïse", oops')


def schema_violation() -> Behaviour:
    """A complete answer of JSON, of another shape than asked for."""
    return stream_text('{"basics": {"name": ["Éloïse"]}, "work": "none"}')


def length() -> Behaviour:
    """The model's length limit in the middle of the answer."""
    text = _text(None)
    return stream_text(text[: len(text) // 2], finish="length")


def content_filter() -> Behaviour:
    """A content filter ends the answer."""
    return stream_text('{"isCv": true, ', finish="content_filter")


def refusal(text: str = "I'm sorry, I can't help with that.") -> Behaviour:
    """The model declines, in the way of structured outputs."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin()
        for word in text.split(" "):
            stream.delta({"refusal": f"{word} "})
        stream.end()

    return behave


def error_event(code: str = "server_error") -> Behaviour:
    """An error in the middle of the stream."""

    def behave(exchange: Exchange) -> None:
        stream = _Stream(exchange)
        stream.begin()
        stream.content('{"isCv": true, ')
        exchange.event({"error": {"message": "The server had an error.", "type": code, "code": code}})
        exchange.end()

    return behave


def no_stream() -> Behaviour:
    """A server that does not know streaming: the whole completion as JSON."""
    message = {"role": "assistant", "content": "{}"}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    return lambda exchange: exchange.json(200, body)


def failure(status: int, code: str | None, kind: str, message: str, headers: dict[str, str] | None = None) -> Behaviour:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return lambda exchange: exchange.json(status, {"error": error}, headers)


def unauthorized() -> Behaviour:
    """401, and like some servers it repeats the key."""

    def behave(exchange: Exchange) -> None:
        key = exchange.request.headers.get("authorization", "").removeprefix("Bearer ")
        message = f"Incorrect API key provided: {key}."
        failure(401, "invalid_api_key", "invalid_request_error", message)(exchange)

    return behave


def quota() -> Behaviour:
    """429 because the account has nothing left."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return failure(429, "insufficient_quota", "insufficient_quota", message)


def rate_limited(retry_after_s: float = 0.01) -> Behaviour:
    """429 because of too many requests, asking to wait."""
    headers = {"retry-after": str(retry_after_s)}
    return failure(429, "rate_limit_exceeded", "requests", "Rate limit reached for requests", headers)


def server_error(status: int = 500) -> Behaviour:
    """The server fails."""
    message = "The server had an error while processing your request."
    return failure(status, None, "server_error", message)


def cannot_see(status: int = 400) -> Behaviour:
    """The model takes no pictures: 400 as of vLLM, 500 as of llama.cpp; it is no error of ours to ask."""
    message = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    return failure(status, None, "BadRequestError" if status < 500 else "server_error", message)


def _text(answer: dict[str, Any] | None) -> str:
    return json.dumps(SAMPLE_ANSWER if answer is None else answer, ensure_ascii=False)
