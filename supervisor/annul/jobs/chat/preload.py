"""Importing this module makes the SDK ready for a request: to be named in a job type's `preload`.

At their first use the SDK imports its chat modules, pydantic builds their validators, and `platform` runs a
command. In this tenth of a second a `Cancelled` can be lost in a destructor, or come out as pydantic's
SchemaError, since Rust calls Python back there. Done before the job is forked, a cancel never meets it. Opens no
socket and starts no thread.
"""

from __future__ import annotations

import platform
from typing import Any

import openai
from openai.types.chat import ChatCompletionChunk


def _make_ready() -> None:
    # The SDK tells servers the platform, which is asked of `uname` in a subprocess, and remembered.
    platform.platform()
    # A client's attributes import what they stand for when they are first asked for.
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1") as client:
        _ = client.chat.completions.create
    # Validators are built for the fields of the first chunk that has them, so this one has them all.
    delta = {"role": "assistant", "content": "", "refusal": None}
    chunk: dict[str, Any] = {
        "id": "",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "service_tier": "default",
        "system_fingerprint": "",
    }
    ChatCompletionChunk.model_construct(**chunk)


_make_ready()
