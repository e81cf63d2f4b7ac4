"""The errors of the client.

    AnnulClientError
     ├─ NoDaemon           nothing answers at the endpoint, or not any more
     ├─ BadReply           what came back cannot be read: another program, or a newer daemon
     ├─ EventsLost         the event log does not hold the entries that should come next
     ├─ ClientClosed       the client was closed, perhaps by another thread, while this waited
     └─ RequestRefused     the daemon does not carry the request out: {code, message, field}
         ├─ NotFound       no job has this id
         ├─ NotCompleted   a result was asked for, and the job has none
         ├─ NotFinal       a job that is live, or publishes, cannot be purged
         ├─ KeyConflict    the key belongs to a job with other content
         ├─ Forbidden      the caller may not do this, or is not let in at all
         ├─ QueueFull      the daemon takes no more jobs now
         └─ TooBig         the request is bigger than one message may be; it was not sent

`Client.wait` raises the builtin TimeoutError: its time passing is the caller's wish, not a fault of annul's.
`Client.cancel` of an unknown id raises nothing: that is the outcome ``not_found``.

Imports nothing, so that the daemon may use it too.
"""

from __future__ import annotations


class AnnulClientError(Exception):
    """Any error that the client itself raises."""


class NoDaemon(AnnulClientError):
    """Nothing answers at the endpoint. A request under way may or may not have been carried out."""

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(
            f"no annul daemon at {endpoint}: {why}. Start one with `annul serve`, or name another address "
            "with --endpoint or $ANNUL_ENDPOINT"
        )
        self.endpoint = endpoint
        self.why = why


class BadReply(AnnulClientError):
    """A reply that cannot be read. The request was probably carried out."""


class EventsLost(AnnulClientError):
    """The event log cannot be followed from where the reader stands; what comes next was purged or never was.

    `since` is where the reader stands; `oldest` and `last` are the first and last entries that the log has.
    To go on, read the state of the jobs with `list` or `get` and follow from `last`.
    """

    def __init__(self, since: int, oldest: int, last: int) -> None:
        super().__init__(
            f"cannot follow the events after number {since}: the daemon's log holds {oldest} to {last}. "
            f"Look at the jobs as they are now, then follow from {last}"
        )
        self.since = since
        self.oldest = oldest
        self.last = last


class ClientClosed(AnnulClientError):
    """The client is closed."""


class RequestRefused(AnnulClientError):
    """A request that is not carried out. `code` is stable, for programs; the message is for people.

    `field` names the parameter that does not fit, as a path (``params.max_pages``), where it is one.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class NotFound(RequestRefused):
    """No job has this id."""


class NotCompleted(RequestRefused):
    """The job has no result: it is not over, or it ended otherwise."""


class NotFinal(RequestRefused):
    """The job is not over: it is live, or its outputs are still on their way to their place."""


class KeyConflict(RequestRefused):
    """The user has a job with this key already, of another type or with other parameters."""


class Forbidden(RequestRefused):
    """The caller's role does not allow this, or the daemon does not serve it at all."""


class QueueFull(RequestRefused):
    """The daemon takes no more jobs now; later it may."""


class TooBig(RequestRefused):
    """The request is bigger than one message may be. It was not sent."""


REFUSALS: dict[str, type[RequestRefused]] = {
    "not_found": NotFound,
    "not_completed": NotCompleted,
    "not_final": NotFinal,
    "not_published": NotFinal,
    "key_conflict": KeyConflict,
    "queue_full": QueueFull,
    "forbidden": Forbidden,
    "too_big": TooBig,
}
"""The codes that have a class of their own. Never changed after import."""


def refusal(code: str, message: str, field: str | None = None) -> RequestRefused:
    """The exception for an error that the daemon answered; a code without a class is a plain `RequestRefused`."""
    return REFUSALS.get(code, RequestRefused)(code, message, field)
