"""One streamed Chat Completions request to any compatible server, answered in a given JSON schema.

Nothing is uploaded through the Files API; the text goes in the request. Cancelling is SIGTERM raising
`Cancelled` in the main thread, wherever it stands: in a connect, before the first byte, in the stream, or in
the wait before a retry. It flies through everything here, and the ``with`` blocks close the connection on its
way.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from annul.errors import JobError
from annul.jobs.chat.errors import explain, is_worth_retrying, retry_after_s

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError, Stream
    from openai.types.chat import ChatCompletionChunk

Level = Literal["rapid", "medium", "deep"]
Effort = Literal["none", "low", "medium"]

_OPENAI = "https://api.openai.com/v1"


class Choice(msgspec.Struct, frozen=True):
    """What a level stands for."""

    model: str  # names that OpenAI serves; for other servers the caller names the model
    effort: Effort  # how much the model thinks before it answers


LEVELS: dict[Level, Choice] = {
    "rapid": Choice("gpt-6-luna", "none"),
    "medium": Choice("gpt-6.1-terra", "low"),
    "deep": Choice("gpt-6.1-sol", "medium"),
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait and how often to try."""

    connect_s: float = 10.0
    silence_s: float = 120.0  # with nothing received: before the answer, and between two of its chunks
    retries: int = 2  # after the first request, and only before an answer has begun
    retry_base_s: float = 0.5  # the first wait; doubled each time, a quarter of it random
    retry_after_max_s: float = 60.0  # a server that asks for more is not waited for
    answer_chars: int = 2_000_000  # a model that never ends is cut off here


class _Received(msgspec.Struct):
    """What came of an answer so far."""

    parts: list[str] = []
    chars: int = 0
    refusal: str = ""
    finish: str = ""  # why the model stopped; empty: it did not
    model: str = ""  # the one that the server says it used
    tokens: dict[str, int | None] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said, whole."""

    content: str  # JSON of the schema, where the server keeps to it
    usage: dict[str, Any]  # model, prompt_tokens, completion_tokens, total_tokens (None: not told), seconds


def ask(
    messages: list[dict[str, Any]],
    *,
    name: str,
    schema: dict[str, Any],
    model: str | None,
    level: Level,
    expected_chars: int,
    progress: Callable[[float, str], None],
    log: logging.Logger,
    limits: Limits | None = None,
) -> Answer:
    """The model's answer to `messages`, in the strict JSON schema `schema` called `name`. Blocks.

    `model` goes before `level`, and is needed for servers other than OpenAI's. `progress` gets fractions of
    this step, never falling, from the characters received; `expected_chars` is an estimate of how many there
    will be. The environment has ``OPENAI_API_KEY`` and, for another server, ``OPENAI_BASE_URL``.

    Raises `JobError` with the codes in `annul.jobs.chat.errors`. `Cancelled` goes through at once: the connection
    is closed then and no further request is made.
    """
    limits = limits or Limits()
    choice = LEVELS[level]
    wanted = model or choice.model
    key, base_url, server = _settings()
    request: dict[str, Any] = {
        "model": wanted,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}},
    }
    if model is None:
        # Only for models known here: others, and other servers, may not take it.
        request["reasoning_effort"] = choice.effort

    progress(0.0, f"asking {wanted}")
    log.info("asking %s at %s", wanted, server, extra={"action": "openai_ask"})
    started = time.monotonic()
    with _client(key, base_url, limits) as client:
        stream = _open(client, request, key=key, server=server, limits=limits, log=log)
        with stream:
            received = _read(stream, expected_chars, key=key, server=server, limits=limits, progress=progress)
    seconds = time.monotonic() - started
    log.info(
        "%d characters in %.1f s, %s",
        received.chars,
        seconds,
        received.tokens,
        extra={"action": "openai_answer"},
    )
    usage = {"model": received.model or wanted, **received.tokens, "seconds": round(seconds, 3)}
    return Answer(content="".join(received.parts), usage=usage)


def _settings() -> tuple[str, str, str]:
    """Key, base address, and the server's host and port for messages (an address may hold a password)."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise JobError("openai_unauthorized", "OPENAI_API_KEY is not set: the openai engine needs a key")
    if not (key.isascii() and key.isprintable()):
        # httpx would refuse the header, with the key in its message.
        raise JobError("openai_unauthorized", "OPENAI_API_KEY holds characters that no key has")
    base_url = os.environ.get("OPENAI_BASE_URL", "").strip() or _OPENAI
    try:
        address = urlsplit(base_url)
        host, port = address.hostname, address.port
    except ValueError:
        host = port = None
    if host is None or address.scheme not in ("http", "https"):
        raise JobError("openai_unreachable", "OPENAI_BASE_URL is not an http or https address")
    return key, base_url, f"{host}:{port}" if port else host


def _client(key: str, base_url: str, limits: Limits) -> OpenAI:
    import openai

    # max_retries=0: the SDK retries a used-up quota as if it were a busy server; see `_open`.
    return openai.OpenAI(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=openai.Timeout(limits.silence_s, connect=limits.connect_s),
    )


def _open(
    client: OpenAI, request: dict[str, Any], *, key: str, server: str, limits: Limits, log: logging.Logger
) -> Stream[ChatCompletionChunk]:
    """The stream of an accepted request; a busy or failing server is asked again, `limits.retries` times."""
    import openai

    retries = 0
    while True:
        try:
            stream: Stream[ChatCompletionChunk] = client.chat.completions.create(**request)
            return stream
        except openai.OpenAIError as error:
            wait_s = _wait_s(error, retries, limits)
            problem = explain(error, server, key=key)
            if wait_s is None:
                # from None: the SDK's error holds the request, and with it the key and the CV.
                raise problem from None
        retries += 1
        log.warning(
            "%s; asking again in %.1f s (%d of %d)",
            problem.message,
            wait_s,
            retries,
            limits.retries,
            extra={"action": "openai_retry"},
        )
        time.sleep(wait_s)


def _wait_s(error: OpenAIError, retries: int, limits: Limits) -> float | None:
    """The seconds until the same request is worth making again; None: it is not."""
    if retries >= limits.retries or not is_worth_retrying(error):
        return None
    asked = retry_after_s(error)
    if asked is not None:
        return asked if asked <= limits.retry_after_max_s else None
    spread = random.uniform(0.75, 1.0)  # noqa: S311 (spreads retries, guards nothing)
    return limits.retry_base_s * 2.0**retries * spread


def _read(
    stream: Stream[ChatCompletionChunk],
    expected: int,
    *,
    key: str,
    server: str,
    limits: Limits,
    progress: Callable[[float, str], None],
) -> _Received:
    """The whole answer. Never retried: what was generated is paid for."""
    import openai

    received = _Received()
    chunks, shown = 0, 0.0
    try:
        for chunk in stream:
            chunks += 1
            _take(received, chunk)
            if received.chars > limits.answer_chars:
                message = f"the answer goes on after {limits.answer_chars} characters"
                raise JobError("openai_invalid_answer", message)
            # The length is an estimate: nearing 1 without reaching it, 0.8 at the estimate.
            fraction = 1 - math.exp(-1.6 * received.chars / expected)
            if fraction - shown >= 0.01:
                shown = fraction
                progress(fraction, "reading the answer")
    except openai.OpenAIError as error:
        # An answer that was complete when the connection went is complete.
        if not received.finish:
            raise explain(error, server, key=key, answering=True) from None
    except (ValueError, TypeError, AttributeError):
        # What a server sends is not checked by the SDK: other shapes show only where they are used.
        raise JobError("openai_invalid_answer", f"{server} sent events that are no chat completion") from None
    if not chunks:
        raise JobError("openai_invalid_answer", f"{server} answered without any event: it may not know streaming")
    _check_finish(received, server)
    return received


def _take(received: _Received, chunk: ChatCompletionChunk) -> None:
    received.model = chunk.model or received.model
    if chunk.usage:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        received.tokens = {name: getattr(chunk.usage, name) for name in names}
    for choice in chunk.choices or ():
        received.finish = choice.finish_reason or received.finish
        delta = choice.delta
        if not delta:
            continue  # null from some servers
        if delta.content:
            received.parts.append(delta.content)
            received.chars += len(delta.content)
        received.refusal += delta.refusal or ""


def _check_finish(received: _Received, server: str) -> None:
    if received.refusal:
        raise JobError("openai_refused", f"the model declined: {' '.join(received.refusal.split())[:200]}")
    if received.finish == "content_filter":
        raise JobError("openai_refused", "a content filter of the server stopped the answer")
    if received.finish == "length":
        raise JobError(
            "openai_truncated",
            "the answer reached the model's length limit: a text this long needs a model with a larger one",
        )
    if not received.finish:
        raise JobError("openai_truncated", f"{server} ended its answer in the middle", retryable=True)
    if received.finish != "stop":
        raise JobError("openai_invalid_answer", f"the model stopped for another reason: {received.finish[:40]}")
