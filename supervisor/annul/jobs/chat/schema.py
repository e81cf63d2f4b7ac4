"""Structs to the strict JSON schema that a model is asked to answer in, and the answer back to Structs."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from annul.errors import JobError

S = TypeVar("S", bound=msgspec.Struct)


def strict_schema(answer: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of `answer` in the subset that OpenAI's strict mode takes.

    The root is an object and no reference, every property is required, nothing else is allowed, no defaults.
    """
    schema = msgspec.json.schema(answer)
    definitions = schema["$defs"]
    root = definitions.pop(schema["$ref"].rpartition("/")[2])
    for part in (root, *definitions.values()):
        part.pop("title", None)
        part["required"] = list(part["properties"])
        part["additionalProperties"] = False
        for member in part["properties"].values():
            member.pop("default", None)
    return {**root, "$defs": definitions}


def decode_answer(content: str, answer: type[S], what: str) -> S:
    """The answer in `content`, null counted as absent. `what`: what it should be ("a CV"), for the error.

    Raises `JobError` ``openai_invalid_answer`` for what is no JSON or does not fit the schema. The message
    has the place in the answer, never its text, which is a user's.
    """
    try:
        raw = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        # ValueError: also msgspec's DecodeError, and a lone surrogate that UTF-8 cannot hold.
        raise JobError("openai_invalid_answer", "the model's answer is not valid JSON") from None
    try:
        return msgspec.convert(_without_nulls(raw), answer)
    except msgspec.ValidationError as error:
        raise JobError(
            "openai_invalid_answer", f"the model's answer does not fit the schema of {what}: {str(error)[:200]}"
        ) from None


def _without_nulls(value: Any) -> Any:
    # Models that no grammar holds write null for what strict ones write as "".
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
