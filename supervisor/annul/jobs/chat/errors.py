"""What openai's errors mean for a job: `JobError`s with stable codes.

    openai_unauthorized     no key, or the server refuses it (401, 403)
    openai_quota            the account has nothing left (402, 429 insufficient_quota); waiting does not help
    openai_rate_limited     too many requests (429), still after some retries          retryable
    openai_server_error     the server failed (5xx, an error event), still after retries  retryable
    openai_unreachable      no connection                                              retryable
    openai_timeout          nothing came for too long                                  retryable
    openai_bad_request      the server refuses the request (400, 404, 413, 422): wrong model, text too long
    openai_truncated        the answer broke off (retryable), or hit the model's length limit
    openai_refused          the model or a content filter declined
    openai_invalid_answer   what came is no stream, no JSON, or does not fit the schema

No message holds the key, nor more than 200 characters of what the server said, which may repeat what it got.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from annul.errors import JobError

if TYPE_CHECKING:
    from openai import OpenAIError

_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_KEY = re.compile(r"\b(?:sk|pk|key|Bearer)[-_ ][A-Za-z0-9_*.-]{4,}")


def explain(error: OpenAIError, server: str, *, key: str, answering: bool = False) -> JobError:
    """The job's error for one of the SDK's. `server` is host and port; `answering`: the stream had begun."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        when = "in the middle of its answer" if answering else "before it answered"
        return JobError("openai_timeout", f"{server} sent nothing for too long, {when}", retryable=True)
    if isinstance(error, openai.APIConnectionError):
        if answering:
            return JobError("openai_truncated", f"{server} broke off in the middle of its answer", retryable=True)
        cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
        return JobError("openai_unreachable", f"cannot reach {server} ({cause})", retryable=True)
    if not isinstance(error, openai.APIError):
        # The SDK's own complaints before anything is sent, such as contradictory settings.
        return JobError("openai_bad_request", f"the request cannot be made ({type(error).__name__})")
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    said = _said(error, key)
    if is_quota(error):
        return JobError("openai_quota", f"the account behind OPENAI_API_KEY has no quota left at {server}{said}")
    if status in (401, 403) or error.code == "invalid_api_key":
        # Not what the server said: some repeat the key.
        return JobError("openai_unauthorized", f"{server} refuses OPENAI_API_KEY (HTTP {status or 'error event'})")
    if status == 429 or error.code == "rate_limit_exceeded":
        message = f"{server} is limiting the rate of requests, and waiting did not help{said}"
        return JobError("openai_rate_limited", message, retryable=True)
    if status is not None and status < 500:
        return JobError("openai_bad_request", f"{server} refuses the request (HTTP {status}){said}")
    message = f"{server} failed ({f'HTTP {status}' if status else 'in its answer'}){said}"
    return JobError("openai_server_error", message, retryable=True)


def is_quota(error: OpenAIError) -> bool:
    """Whether the account has nothing left, which comes as 429 too but which no waiting changes."""
    import openai

    if not isinstance(error, openai.APIError):
        return False
    if isinstance(error, openai.APIStatusError) and error.status_code == 402:
        return True
    return error.code in _NO_QUOTA or error.type in _NO_QUOTA


def retry_after_s(error: OpenAIError) -> float | None:
    """The seconds that the server asks to wait; None where it says nothing that can be read."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(error.response.headers.get(header, "")) * unit_s
        except ValueError:
            continue  # absent, or the HTTP date that nobody sends here
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def is_worth_retrying(error: OpenAIError) -> bool:
    """Whether the same request may go through in a moment.

    Never after a time-out: the server may be at work on the request still, and would be paid twice for it.
    """
    import openai

    if isinstance(error, openai.APITimeoutError) or is_quota(error):
        return False
    if isinstance(error, openai.APIStatusError):
        if error.response.headers.get("x-should-retry") == "false":
            return False
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _said(error: OpenAIError, key: str) -> str:
    """`: code: message` as the server put it, one short line without keys; nothing where it said nothing."""
    import openai

    if not isinstance(error, openai.APIError):
        return ""
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message")
    parts = [part for part in (error.code, message if isinstance(message, str) else None) if part]
    text = " ".join(": ".join(parts).split()).replace(key, "…")
    return f": {_KEY.sub('…', text)[:200]}" if text else ""
