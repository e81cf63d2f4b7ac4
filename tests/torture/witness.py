"""The witness: a process of its own that knows of the daemon what it tells on its sockets, and of jobs what /proc and
their heartbeats show.

``python -m torture.witness BASE BEATS STATE REQUESTS EVENTS DAEMON`` watches until its standard input closes; then it
asks for the whole event log and writes its `Evidence` to BASE/evidence. It judges nothing: `judge` does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import zmq

from torture.shapes import BEAT

FINAL = frozenset({"completed", "failed", "cancelled"})
_SCAN_S = 0.5
_PAGE = 500
_ANSWER_S = 60


class SeenCancel(msgspec.Struct, kw_only=True, frozen=True):
    """A cancel record, as far as it is judged; seconds since `asked_at`."""

    kind: str
    by: str
    reason: str
    grace_s: float
    asked_at: datetime
    flag_s: float | None = None
    sigterm_s: float | None = None
    noticed_s: float | None = None
    sigkill_s: float | None = None
    gone_s: float | None = None
    stage: str | None = None


class SeenJob(msgspec.Struct, kw_only=True, frozen=True):
    id: str
    state: str
    files: list[str] = []
    cancel: SeenCancel | None = None
    error: dict[str, str | None] | None = None


class SeenEvent(msgspec.Struct, kw_only=True, frozen=True):
    """An event of the daemon's, decoded without its help."""

    seq: int
    job_seq: int
    at: datetime
    kind: str
    job: SeenJob

    @property
    def final(self) -> bool:
        return self.job.state in FINAL


class Survivor(msgspec.Struct, frozen=True):
    """A process of a job that was alive though its final event had been seen."""

    job_id: str
    pid: int
    state: str  # and flags, as in /proc/PID/stat


class Beats(msgspec.Struct, frozen=True):
    """What one process wrote."""

    size: int
    last_ns: int  # unix nanoseconds; of a shell's beats the file's own time, which lags by a tick


class Evidence(msgspec.Struct, kw_only=True):
    """All that was seen of one run. The first part is the witness's own, the rest is gathered at the end."""

    log: list[SeenEvent] = []  # the whole event log, asked for at the end
    told: dict[int, SeenEvent] = {}  # what the PUB socket said
    seen_ns: dict[int, int] = {}  # when it did, monotonic
    survivors: list[Survivor] = []
    sizes: dict[str, dict[str, int]] = {}  # of the heartbeats of each job, when its final event was seen
    crowd: int = 0  # the most jobs that were alive at one instant
    unpublished: list[str] = []  # outputs that were not there when `completed` was told
    beats: dict[str, dict[str, Beats]] = {}  # at the end
    outputs: list[str] = []  # ids of the jobs whose output stands in the user's directory
    staged: list[str] = []  # what is left of staging, work and temporary directories
    holders: list[str] = []  # processes of jobs, while the daemon still ran
    left: list[str] = []  # processes with the run's mark, after it had stopped
    cgroups: list[str] = []
    slots: int = 0  # in use when every job was final
    hits: dict[str, list[str]] = {}  # signals that the decoys got


class Process(msgspec.Struct, frozen=True):
    """A line of /proc/PID/stat."""

    pid: int
    state: str
    flags: int
    threads: int
    start_time: int

    @property
    def alive(self) -> bool:
        """A zombie is not, unless other threads of it still run."""
        return self.state not in "ZX" or (self.state == "Z" and self.threads > 1)


def process(pid: int) -> Process | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, fields[0], int(fields[6]), int(fields[17]), int(fields[19]))


def beating(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """(file, pid, start time) of each process that has ever beaten for a job."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        pid, _, rest = name.partition(".")
        if pid.isdigit():
            yield folder / name, int(pid), int(rest.partition(".")[0])


def alive_of(job_id: str, folder: Path) -> list[Survivor]:
    """The processes of a job that are alive now, of those that have ever beaten."""
    found = []
    for _, pid, start_time in beating(folder):
        one = process(pid)
        if one is not None and one.alive and one.start_time == start_time:
            found.append(Survivor(job_id, pid, f"{one.state} {one.flags:#x}"))
    return found


def sizes_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path, _, _ in beating(folder)}


def beats_of(folder: Path) -> dict[str, Beats]:
    found = {}
    for path, _, _ in beating(folder):
        about = path.stat()
        last_ns = about.st_mtime_ns
        if path.suffix == ".ns":
            data = path.read_bytes()
            last_ns = BEAT.unpack(data[-BEAT.size :])[0] if data else 0
        found[path.name] = Beats(about.st_size, last_ns)
    return found


def marked(base: Path, *, but: set[int]) -> list[str]:
    """Processes that have to do with a run, by anything that /proc shows of them: whatever names its directory."""
    found = []
    mark = f"{base}/".encode()
    for pid in _pids():
        one = process(pid)
        if pid in but or one is None or not one.alive:
            continue
        shown = [target.encode() + b"/" for target in _links(pid)]
        for name in ("cmdline", "environ", "maps"):
            try:
                shown.append(Path(f"/proc/{pid}/{name}").read_bytes())
            except OSError:
                continue
        if any(mark in one for one in shown):
            found.append(f"pid {pid}: {shown[-3][:200]!r}")
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _links(pid: int) -> list[str]:
    """The files that a process has open, and its directory."""
    try:
        names = ["cwd", *(f"fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))]
    except OSError:
        return []  # it is gone
    found = []
    for name in names:
        try:
            found.append(os.readlink(f"/proc/{pid}/{name}"))
        except OSError:
            continue  # closed meanwhile
    return found


class Witness:
    """What the witness process does."""

    def __init__(self, beats: Path, state: Path, daemon: int) -> None:
        self._beats = beats
        self._prefixes = (f"{beats}/", f"{state}/jobs/")
        self._daemon = daemon
        self._finals: set[str] = set()
        own = process(os.getpid())
        assert own is not None
        self._since = own.start_time  # no job began earlier
        self.evidence = Evidence()

    def saw(self, event: SeenEvent, now_ns: int) -> None:
        self.evidence.told[event.seq] = event
        self.evidence.seen_ns[event.seq] = now_ns
        if not event.final:
            return
        folder = self._beats / event.job.id
        self._finals.add(event.job.id)
        self.evidence.survivors += alive_of(event.job.id, folder)
        self.evidence.sizes.setdefault(event.job.id, sizes_of(folder))
        if event.job.state == "completed":
            self.evidence.unpublished += [path for path in event.job.files if not os.path.exists(path)]

    def scan(self) -> None:
        """Look at every process there is, twice: who is there both times was there in between."""
        first = self.holders()
        both = first & self.holders()
        self.evidence.crowd = max(self.evidence.crowd, len({job_id for job_id, _, _ in both}))
        for job_id, pid, _ in sorted(both):
            if job_id in self._finals:
                one = process(pid)
                self.evidence.survivors.append(Survivor(job_id, pid, one.state if one else "gone since"))

    def holders(self) -> set[tuple[str, int, int]]:
        """(job id, pid, start time) of all that hold a file of a job's open: its heartbeats, its log, its directory."""
        found = set()
        for pid in _pids():
            one = process(pid)
            if one is None or not one.alive or one.start_time < self._since or pid in (self._daemon, os.getpid()):
                continue
            for link in _links(pid):
                for prefix in self._prefixes:
                    if link.startswith(prefix):
                        found.add((link.removeprefix(prefix).partition("/")[0], pid, one.start_time))
        return found

    def run(self, requests: str, events: str) -> None:
        context = zmq.Context()
        news = context.socket(zmq.SUB)
        news.set_hwm(0)
        news.subscribe(b"")
        news.connect(events)
        decode = msgspec.msgpack.Decoder(SeenEvent).decode
        poller = zmq.Poller()
        poller.register(news, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        scan_at = time.monotonic()
        while True:
            ready = dict(poller.poll(_SCAN_S * 1000))
            if news in ready:
                if not self.evidence.told:
                    print("watching", flush=True)
                while news.poll(0):
                    _, body = news.recv_multipart()
                    self.saw(decode(body), time.monotonic_ns())
            elif sys.stdin.fileno() in ready:
                break
            if time.monotonic() >= scan_at:
                self.scan()
                scan_at = time.monotonic() + _SCAN_S
        self.scan()
        self.evidence.holders = [f"pid {pid} of job {job_id}" for job_id, pid, _ in self.holders()]
        self.evidence.log = list(whole_log(context, requests))
        context.destroy()


def whole_log(context: zmq.Context[Any], requests: str, since: int = 0) -> Iterator[SeenEvent]:
    """The event log after an entry, asked for page by page."""
    with context.socket(zmq.DEALER) as asking:
        asking.connect(requests)
        while True:
            asking.send(msgspec.msgpack.encode({"v": 1, "rid": "w", "verb": "events", "since": since, "limit": _PAGE}))
            if not asking.poll(_ANSWER_S * 1000):
                raise TimeoutError("the daemon does not tell its events")
            reply = msgspec.msgpack.decode(asking.recv())
            page = msgspec.convert(reply["ok"]["events"], list[SeenEvent])
            if not page:
                return
            yield from page
            since = page[-1].seq


def main(base: str, beats: str, state: str, requests: str, events: str, daemon: str) -> None:
    witness = Witness(Path(beats), Path(state), int(daemon))
    witness.run(requests, events)
    Path(base, "evidence").write_bytes(msgspec.msgpack.encode(witness.evidence))


if __name__ == "__main__":
    main(*sys.argv[1:])
