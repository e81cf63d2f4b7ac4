"""The messages between clients and the daemon, and their encoding.

A message is one ZeroMQ frame that holds a map, in msgpack or JSON; a request in JSON is answered in JSON. A
DEALER client sends the frame alone, a REQ client's empty delimiter frame is accepted and given back.

    request   {"v": 1, "rid": "r1", "verb": "cancel", "id": "k3v9x2m4q8tz", "grace_s": 2.0}
    reply     {"v": 1, "rid": "r1", "ok": {...}}                       one of the *Reply structs below
    refusal   {"v": 1, "rid": "r1", "error": {"code": "...", "message": "...", "field": "..."}}

Every field that a request does not have is refused by name: a misspelt option must not pass in silence.
Times are UTC in RFC 3339 (``2026-11-23T15:38:36.123Z``); durations are seconds (``_s``); sizes are bytes.

Used by both sides; imports nothing but msgspec.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

VERSION = 1
"""The protocol's version, in every message. A daemon refuses a newer one with ``unsupported_version``."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes in one message at most. libzmq drops the connection of a peer that sends more; the client checks first."""

UNIQUE_RID = 16
"""Characters from which a request id is taken as unique in the world (a UUID, say): a `submit` that is sent again with
it makes no second job. Shorter ones only match replies to requests."""

MAX_RID = 500
"""Characters of a request id at most."""

MAX_SUBMIT_MANY = 500
"""Jobs in one ``submit_many`` at most, so that no single message can hold up another client's cancel."""


class State(StrEnum):
    """Where a job is. The last three are final: written once, never left."""

    QUEUED = "queued"  # accepted and durable, waits for a slot
    STARTING = "starting"  # has a slot; its process is being made
    RUNNING = "running"  # its process said that it reached the job's first line
    CANCELLING = "cancelling"  # a cancel was accepted; some process of the job may still be alive
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # a cancel was accepted and no process of the job is left

    @property
    def final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class CancelOutcome(StrEnum):
    """What a cancel did. It is always one of these, also for an unknown id."""

    NOT_FOUND = "not_found"
    CANCELLED_BEFORE_START = "cancelled_before_start"  # it was queued; nothing of it ever ran
    CANCELLING = "cancelling"  # accepted: it will end as `cancelled`, and as nothing else
    ALREADY_FINAL = "already_final"  # too late: the job's state says how it ended


class Stage(StrEnum):
    """What ended a cancelled job."""

    BEFORE_START = "before_start"  # no line of the job ran
    FLAG = "flag"  # it saw the shared-memory flag and stopped before a signal was needed
    SIGTERM = "sigterm"  # it ended within its grace after SIGTERM
    SIGKILL = "sigkill"  # it had to be killed


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What the daemon sends. Unknown fields are ignored, so that an older client reads a newer daemon."""


class Progress(Model, frozen=True, kw_only=True):
    fraction: float | None = None  # 0 to 1; None where the job cannot tell
    stage: str = ""


class ErrorInfo(Model, frozen=True, kw_only=True):
    code: str  # stable, for programs: "timeout", "encrypted_pdf" …
    message: str  # for people: what was being done to what, and what to do
    field: str | None = None  # the parameter that does not fit, as a path: "params.max_pages"


class CancelRecord(Model, frozen=True, kw_only=True):
    """How a job was stopped. Offsets are seconds since `asked_at`, measured on the monotonic clock."""

    reason: str  # what the asker said; "timeout" or "shutdown" where annul itself stops the job
    kind: str  # who stops it: "cancel" (a user), "timeout" or "shutdown"
    by: str  # who asked
    grace_s: float
    asked_at: datetime
    flag_s: float | None = None
    sigterm_s: float | None = None
    noticed_s: float | None = None  # the job's own stamp: when the cancel reached its code
    sigkill_s: float | None = None
    gone_s: float | None = None  # when the last process of the job was gone
    stage: Stage | None = None
    swept: int = 0  # processes other than the leader that had to be killed
    late_result: bool = False  # a result arrived after the cancel was accepted; kept as evidence only
    stuck: bool = False  # the kernel did not end it for a while after SIGKILL; retried for as long as `gone_s` is None
    stuck_at: str = ""  # where it was stuck: each process's kernel wait channel and stack, and the Python stacks


class Job(Model, frozen=True, kw_only=True):
    """A job as clients see it."""

    id: str
    type: str
    state: State
    user: str
    title: str = ""
    labels: dict[str, str] = {}
    key: str | None = None
    priority: int = 0
    attempt: int = 0  # 0 until it first starts
    pid: int | None = None  # of the job's leader, while it is alive
    progress: Progress = Progress()
    timeout_s: float | None = None
    not_before: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None  # of a completed job; left out of lists and events (see `brief`)
    files: list[str] = []  # absolute paths of the published outputs
    error: ErrorInfo | None = None
    cancel: CancelRecord | None = None
    swept: int = 0  # processes other than its leader that had to be killed, also where the job ended by itself
    paused: bool = False  # queued: does not start; running: all its processes are frozen. Its time-outs go on
    retry_of: str | None = None  # the id of the job that this one does again


class Event(Model, frozen=True, kw_only=True):
    """One entry of the durable event log. `seq` has no gaps over all jobs, `job_seq` none within one job."""

    seq: int
    job_seq: int
    at: datetime
    kind: str  # the state entered, or "progress", "stuck", "paused", "unpaused", "reprioritized"
    job: Job  # as it was then, without `result`


# --- requests ---------------------------------------------------------------------------------------------------


class Request(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", forbid_unknown_fields=True, omit_defaults=True
):
    """What every request carries."""

    v: int = 1  # what one without it is of, for ever
    rid: str = ""  # chosen by the client, given back in the reply; see UNIQUE_RID


class Ping(Request, frozen=True, kw_only=True, tag="ping"):
    """Is it alive, what is it, where are its sockets."""


class Submit(Request, frozen=True, kw_only=True, tag="submit"):
    """Queue a job. Answered once it is durable."""

    type: str
    params: dict[str, Any] = {}
    inputs: dict[str, bytes] = {}  # parameter name -> the bytes of that input file (base64 in JSON)
    user: str = ""  # "" is the daemon's default user
    title: str = ""
    labels: dict[str, str] = {}
    key: str | None = None  # idempotency key, unique per user while the job is kept
    priority: int = 0  # higher first
    timeout_s: float | None = None  # None: the type's
    not_before: datetime | None = None


class SubmitMany(Request, frozen=True, kw_only=True, tag="submit_many"):
    """Queue up to MAX_SUBMIT_MANY jobs in one commit. One that is refused does not stop the others."""

    jobs: list[Submit]


class Get(Request, frozen=True, kw_only=True, tag="get"):
    id: str


class List(Request, frozen=True, kw_only=True, tag="list"):
    """Jobs, newest first, without their results."""

    user: str | None = None
    state: State | None = None
    type: str | None = None
    label: dict[str, str] = {}
    limit: int = 100


class Cancel(Request, frozen=True, kw_only=True, tag="cancel"):
    """Cancel one job by `id`, or all live jobs that match every one of `user`, `type`, `label`."""

    id: str | None = None
    user: str | None = None
    type: str | None = None
    label: dict[str, str] = {}
    grace_s: float | None = None  # None: the type's; 0: kill at once
    reason: str = ""
    by: str = ""


class Purge(Request, frozen=True, kw_only=True, tag="purge"):
    """Forget one final job by `id`, or all final ones that match all else that is said. What it published stays.

    A live one is refused with `not_final` where it is named, and left out where it matches; so is one whose outputs
    are not in their place yet, with `not_published`. A job that is not there (any more) is no error: it counts 0.
    """

    id: str | None = None
    user: str | None = None
    type: str | None = None
    label: dict[str, str] = {}
    state: State | None = None  # a final one
    older_than_s: float | None = None  # seconds since it ended
    after: int = 0  # the `next` of an earlier reply, to go on from there


class Pause(Request, frozen=True, kw_only=True, tag="pause"):
    """Hold one job: a queued one does not start, the processes of a running one are frozen where they are.

    It keeps its slot, and its time-outs go on. A cancel, a time-out and the daemon's end thaw it first. Repeatable.
    Refused with `not_pausable` where the job is final or being stopped.
    """

    id: str


class Unpause(Request, frozen=True, kw_only=True, tag="unpause"):
    """Let a job that was paused go on. Repeatable; refused as `pause` is."""

    id: str


class Reprioritize(Request, frozen=True, kw_only=True, tag="reprioritize"):
    """Give a queued job another priority; the queue's order follows at once. Refused with `not_queued` otherwise."""

    id: str
    priority: int  # higher first


class Retry(Request, frozen=True, kw_only=True, tag="retry"):
    """Do a failed or cancelled job again, as a new job with the same parameters and input files, and no key.

    Refused with `not_retryable` where it is neither, and with `inputs_gone` where its input files are not kept.
    """

    id: str


class Drain(Request, frozen=True, kw_only=True, tag="drain"):
    """Start no more jobs, until `resume`, also over restarts. Submits are queued, running jobs go on."""


class Resume(Request, frozen=True, kw_only=True, tag="resume"):
    """Start jobs again, after `drain`."""


class Stats(Request, frozen=True, kw_only=True, tag="stats"):
    """How many jobs are in which state, and what was done since the daemon started."""


class Wait(Request, frozen=True, kw_only=True, tag="wait"):
    """Answered when the job is in a final state, or after `timeout_s` with the job as it is then."""

    id: str
    timeout_s: float = 30.0


class Events(Request, frozen=True, kw_only=True, tag="events"):
    """Entries of the event log after `since`, oldest first; `since` None: only where the log ends now.

    With `wait_s`, where there are none yet: answered as soon as something happens, or after that many seconds. For
    callers that cannot subscribe.
    """

    since: int | None = None
    job_id: str | None = None
    limit: int = 500
    wait_s: float = 0.0


class Logs(Request, frozen=True, kw_only=True, tag="logs"):
    """Bytes of the job's log from `offset`; an offset below 0 counts from the end."""

    id: str
    offset: int = 0
    limit: int = 1024 * 1024
    attempt: int | None = None  # None: the latest


class Result(Request, frozen=True, kw_only=True, tag="result"):
    """The result of a completed job; refused with `not_completed` otherwise."""

    id: str


class Output(Request, frozen=True, kw_only=True, tag="output"):
    """Bytes of a file that a completed job has published, from `offset`; for callers that cannot read it themselves."""

    id: str
    name: str  # as the last part of one of the job's `files`, or more of it: "cv.pdf", "cvs/cv.pdf"
    offset: int = 0
    limit: int = 1024 * 1024


class Types(Request, frozen=True, kw_only=True, tag="types"):
    """The job types that this daemon knows, with their parameters as JSON Schema."""


_LOOK = Get | List | Wait | Events | Logs | Result | Output
_FLOW = Pause | Unpause | Reprioritize | Retry | Drain | Resume
ANY_REQUEST = Ping | Submit | SubmitMany | Cancel | Purge | _LOOK | _FLOW | Types | Stats


# --- replies ----------------------------------------------------------------------------------------------------


class Pong(Model, frozen=True, kw_only=True):
    version: str
    pid: int
    requests: str  # endpoint of the ROUTER socket
    events: str  # endpoint of the PUB socket; "": this caller has none, and asks for `events` with `wait_s`
    state_dir: str
    tree: str  # how a job's process tree is found and killed: "cgroup" or "session"
    running: int
    queued: int
    max_running: int
    uptime_s: float
    you: str = ""  # whom the daemon takes the caller for: "uid:1000", "key:web"
    role: str = ""  # what that one may do: "read", "submit" or "admin"
    draining: bool = False  # it starts no jobs, until `resume`


class JobReply(Model, frozen=True, kw_only=True):
    job: Job
    created: bool = True  # False: a job with this key (or this request id) was there already


class Submitted(Model, frozen=True, kw_only=True):
    """What became of one job of a `submit_many`: exactly one of `job` and `error` is there."""

    job: Job | None = None
    created: bool = True  # as in JobReply
    error: ErrorInfo | None = None


class SubmitManyReply(Model, frozen=True, kw_only=True):
    jobs: list[Submitted]  # in the order of the request


class ListReply(Model, frozen=True, kw_only=True):
    jobs: list[Job]


class CancelReply(Model, frozen=True, kw_only=True):
    outcome: CancelOutcome
    job: Job | None = None
    jobs: list[Job] = []  # cancel by user, type or label: the jobs that it was accepted for, the first 1,000 of them
    count: int = 0  # how many those are in all


class PurgeReply(Model, frozen=True, kw_only=True):
    count: int  # jobs that are not there any more
    next: int | None = None  # there are more to look at: ask again with this as `after`


class WaitReply(Model, frozen=True, kw_only=True):
    job: Job
    done: bool  # False: `timeout_s` passed first


class EventsReply(Model, frozen=True, kw_only=True):
    events: list[Event]
    last: int  # the highest sequence number given out so far
    oldest: int  # the lowest one still kept: entries before it are gone


class LogsReply(Model, frozen=True, kw_only=True):
    data: bytes
    offset: int  # of the first byte of `data`
    size: int  # of the whole log now
    done: bool  # no more will come: the job is final, or has another attempt by now
    attempts: int = 0  # that the job has had: the number of the latest, which is under way unless it is final


class ResultReply(Model, frozen=True, kw_only=True):
    result: Any
    files: list[str]


class OutputReply(Model, frozen=True, kw_only=True):
    data: bytes
    offset: int  # of the first byte of `data`
    size: int  # of the whole file


class DrainReply(Model, frozen=True, kw_only=True):
    """Also of `resume`."""

    draining: bool
    running: int  # jobs that have a slot
    queued: int


class Timing(Model, frozen=True, kw_only=True):
    """How long something took, since the daemon started."""

    count: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0


class StatsReply(Model, frozen=True, kw_only=True):
    """Counts of jobs that live are as of now, all others since the daemon started."""

    uptime_s: float
    draining: bool
    max_running: int  # slots
    queued: int
    starting: int
    running: int
    cancelling: int
    paused: int  # of those that are queued, starting or running
    stuck: int  # the kernel does not end them
    adopted: int  # begun under an earlier daemon
    by_type: dict[str, dict[str, int]]  # of those that live: type -> state -> how many
    oldest_queued_s: float | None  # for how long the oldest job in the queue has been in it; None: nobody is
    submitted: int
    ended: dict[str, int]  # final state -> how many
    stages: dict[str, int]  # what ended jobs that were being stopped -> how many
    start: Timing  # from its slot to the job's first line
    cancel: Timing  # from a cancel of a job that had a process to the end of its last one


class TypeInfo(Model, frozen=True, kw_only=True):
    name: str
    summary: str
    params: dict[str, Any]  # JSON Schema; a file parameter has "x-annul-input": true
    grace_s: float
    timeout_s: float | None
    on_shutdown: str


class TypesReply(Model, frozen=True, kw_only=True):
    types: list[TypeInfo]
    broken: dict[str, str] = {}  # entry points that could not be loaded, and why


REPLY_OF: dict[type[Request], type[Model]] = {
    Ping: Pong,
    Submit: JobReply,
    SubmitMany: SubmitManyReply,
    Get: JobReply,
    List: ListReply,
    Cancel: CancelReply,
    Purge: PurgeReply,
    Wait: WaitReply,
    Events: EventsReply,
    Logs: LogsReply,
    Result: ResultReply,
    Output: OutputReply,
    Types: TypesReply,
    Pause: JobReply,
    Unpause: JobReply,
    Reprioritize: JobReply,
    Retry: JobReply,
    Drain: DrainReply,
    Resume: DrainReply,
    Stats: StatsReply,
}
VERBS = frozenset(request.__struct_config__.tag for request in REPLY_OF)


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The envelope of every answer: exactly one of `ok` and `error` is there."""

    v: int = 1
    rid: str = ""
    ok: msgspec.Raw = msgspec.Raw()  # empty where there is none
    error: ErrorInfo | None = None


class Header(msgspec.Struct, frozen=True):
    """The part of a request that can be read whatever the rest is: enough to refuse it properly."""

    v: int = 1
    rid: str = ""
    verb: str = ""


def is_json(frame: bytes) -> bool:
    """Whether a frame holds JSON: it starts with ``{`` (or white space), which no msgpack map does."""
    return frame[:1] in (b"{", b" ", b"\n", b"\t", b"\r")
