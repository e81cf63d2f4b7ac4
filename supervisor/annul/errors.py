"""The errors of the daemon and of jobs.

AnnulError
 ├─ Refused            a request that is not carried out; goes to the client as {code, message, field}
 ├─ StartError         the daemon cannot start; the message says what to do
 ├─ KeyProblem         a client's key cannot be made, read or revoked; the message says what to do
 ├─ StoreError         the store cannot be read or written now
 │   └─ StoreConflictError   one write contradicts what is stored; trying again does not help
 └─ JobError           a job failed, in its own words; becomes the job's `error {code, message}`

BaseException
 └─ Cancelled          in a job: it was cancelled. Never catch it without raising it again.
"""

from __future__ import annotations

from typing import Any

from annul_client.wire import ErrorInfo


class AnnulError(Exception):
    """Any error that annul itself raises."""


class Refused(AnnulError):
    """A request is not carried out. `code` is stable, for programs; the message is for people."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    @property
    def info(self) -> ErrorInfo:
        """As it goes to the client."""
        return ErrorInfo(code=self.code, message=self.message, field=self.field)


class StartError(AnnulError):
    """The daemon cannot start as it was asked to."""


class KeyProblem(AnnulError):
    """A key cannot be made, read or revoked."""


class StoreError(AnnulError):
    """The store cannot be read or written now (disk full, locked, damaged)."""


class StoreConflictError(StoreError):
    """One write contradicts what is stored (a final state, a key that is taken). Trying again does not help."""


class JobError(AnnulError):
    """Raised by a job to end as `failed` with this code and message. `code` is lower_snake_case and stable.

    `result`: what there is to know of the failure beyond that, kept as the job's result (an exit code, say).
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, result: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.result = result


class Cancelled(BaseException):
    """The job was cancelled (or timed out, or the daemon stops).

    A BaseException, as KeyboardInterrupt is, so that the ``except Exception`` of libraries does not swallow it.
    """

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason
