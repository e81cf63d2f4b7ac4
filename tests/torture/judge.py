"""The judge: evidence and accounts in, violations out. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from torture.grid import ACCEPTED, BEFORE, SIGKILL, Trial
from torture.witness import FINAL, Evidence, SeenCancel, SeenEvent


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One cancel as it was sent, and what was answered."""

    sent_ns: int  # monotonic
    by: str
    grace_s: float
    jobs: list[str]  # that it was meant for
    accepted: list[str] = []  # that it was accepted for
    outcome: str = ""  # "": nobody waited for the answer
    state: str = ""  # of the job, in the answer


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in one trial."""

    trial: Trial
    jobs: list[str]
    asks: list[Ask]
    in_place: bool  # the job was where it wanted to be when the cancel was sent
    trouble: str = ""  # why the trial could not be carried through


class Violation(msgspec.Struct, frozen=True, order=True):
    """A promise that was broken."""

    check: str
    job_id: str  # or "": of the run
    what: str


def judge(evidence: Evidence, accounts: list[Account], background: dict[str, str], max_running: int) -> list[Violation]:
    """All violations. `background`: the state that each job which nobody cancels must end in."""
    per_job: dict[str, list[SeenEvent]] = defaultdict(list)
    for event in evidence.log:
        per_job[event.job.id].append(event)
    finals = {job_id: event for job_id, events in per_job.items() for event in events if event.final}
    found = [
        *_log(evidence, max_running),
        *(violation for job_id, events in per_job.items() for violation in life(job_id, events)),
        *_gone(evidence, finals),
        *_published(evidence, finals),
        *_trials(accounts, finals),
        *_background(background, finals, accounts),
        *_run(evidence),
    ]
    if evidence.crowd > max_running:
        found.append(Violation("slots", "", f"{evidence.crowd} jobs were alive at once, {max_running} may be"))
    return sorted(found)


def _log(evidence: Evidence, max_running: int) -> Iterator[Violation]:
    """The log has no gap, says what was told, and never more hold a slot than may."""
    held: set[str] = set()
    for place, event in enumerate(evidence.log, start=1):
        if event.seq != place:
            yield Violation("gap", event.job.id, f"event {event.seq} stands where {place} should")
            return
        told = evidence.told.get(event.seq)
        if told is not None and told != event:
            yield Violation("gap", event.job.id, f"event {event.seq} was told as {told}, and is kept as {event}")
        if event.job.state == "starting":
            held.add(event.job.id)
        elif event.final or event.job.state == "queued":
            held.discard(event.job.id)
        if len(held) > max_running:
            yield Violation("slots", event.job.id, f"{len(held)} jobs hold a slot after event {event.seq}")
    if evidence.told and (not evidence.log or max(evidence.told) > evidence.log[-1].seq):
        yield Violation("gap", "", f"event {max(evidence.told)} was told and is not in the log")


def life(job_id: str, events: list[SeenEvent]) -> Iterator[Violation]:
    """A job's events are numbered; one of them is final, the last; no accepted cancel ends otherwise."""
    if [event.job_seq for event in events] != list(range(1, len(events) + 1)):
        yield Violation("gap", job_id, f"its events are numbered {[event.job_seq for event in events]}")
    states = [event.job.state for event in events]
    ends = [state for state in states if state in FINAL]
    if len(ends) > 1 or (ends and states[-1] not in FINAL):
        yield Violation("final", job_id, f"something follows a final state: {states}")
    if not ends:
        yield Violation("final", job_id, f"it never ended: {states}")
    if "cancelling" in states and ends and ends[0] != "cancelled":
        yield Violation("accepted", job_id, f"it was cancelling, and ended otherwise: {states}")


def _gone(evidence: Evidence, finals: dict[str, SeenEvent]) -> Iterator[Violation]:
    """Nobody lives or beats on after the final event."""
    # Of each job the first that was seen: one that stays is seen at every look, and so are all its children.
    for one in {one.job_id: one for one in reversed(evidence.survivors)}.values():
        yield Violation("alive", one.job_id, f"pid {one.pid} was alive ({one.state}) after the final event")
    for job_id, beats in evidence.beats.items():
        if job_id not in finals:
            yield Violation("alive", job_id, "it beats, and has no final event")
            continue
        at_ns = round(finals[job_id].at.timestamp() * 1e6) * 1000
        sizes = evidence.sizes.get(job_id, {})
        for name, one in beats.items():
            if one.last_ns > at_ns:
                late_ms = (one.last_ns - at_ns) / 1e6
                yield Violation("alive", job_id, f"{name} beat {late_ms:.3f} ms after the final event")
            if job_id in evidence.sizes and one.size != sizes.get(name):
                yield Violation("alive", job_id, f"{name} grew from {sizes.get(name)} to {one.size} after the end")


def _published(evidence: Evidence, finals: dict[str, SeenEvent]) -> Iterator[Violation]:
    """Outputs are there if and only if the job is completed, and from the moment when that is told."""
    staged = {job_id for job_id, event in finals.items() if event.job.state == "completed" and event.job.files}
    for path in evidence.unpublished:
        yield Violation("outputs", "", f"{path} was not there when its job was told to be completed")
    for job_id in staged - set(evidence.outputs):
        yield Violation("outputs", job_id, "it is completed, and its output is not there")
    for job_id in set(evidence.outputs) - staged:
        state = finals[job_id].job.state if job_id in finals else "unknown"
        yield Violation("outputs", job_id, f"its output is published, and it is {state}")
    for path in evidence.staged:
        yield Violation("outputs", "", f"{path} was left behind")


def _trials(accounts: Iterable[Account], finals: dict[str, SeenEvent]) -> Iterator[Violation]:
    for account in accounts:
        if account.trouble:
            yield Violation("trial", account.jobs[0] if account.jobs else "", f"{account.trial}: {account.trouble}")
        known = [job_id for job_id in account.jobs if job_id in finals]
        for job_id in set(account.jobs) - set(known):
            yield Violation("final", job_id, "no final event of it")
        yield from _answers(account, finals)
        for job_id in known:
            record = finals[job_id].job.cancel
            if finals[job_id].job.state == "cancelled":
                yield from _record(job_id, record, account)


def _answers(account: Account, finals: dict[str, SeenEvent]) -> Iterator[Violation]:
    """What a cancel was answered is what became of the job, and one of the answers that its moment allows."""
    ours = [ask for ask in account.asks if ask.outcome]
    possible = account.trial.terms.outcomes
    if account.trial.manner in {"user", "label"} and "already_final" in possible:
        possible |= {"not_found"}  # of those that live, none matches any more
    if ours and ours[0].outcome not in possible:
        yield Violation("answer", account.jobs[0] if account.jobs else "", f"{account.trial}: {ours[0]}")
    for ask in ours:
        for job_id in ask.accepted:
            if job_id in finals and finals[job_id].job.state != "cancelled":
                yield Violation("accepted", job_id, f"{ask.outcome}, and it is {finals[job_id].job.state}")
            if job_id not in account.jobs:
                yield Violation("accepted", job_id, f"a cancel of trial {account.trial.number} hit another's job")
        if ask.outcome in ACCEPTED and not ask.accepted:
            yield Violation("answer", "", f"accepted for no job: {ask}")
        if ask.outcome == "already_final":
            for job_id in ask.jobs:
                if job_id in finals and (ask.state not in FINAL or finals[job_id].job.state != ask.state):
                    yield Violation("answer", job_id, f"already {ask.state}, and it is {finals[job_id].job.state}")


def _record(job_id: str, record: SeenCancel | None, account: Account) -> Iterator[Violation]:
    """A cancel record is complete and ordered, names who asked, and how it ended is what its job had to expect."""
    if record is None:
        yield Violation("record", job_id, "it is cancelled, and has no cancel record")
        return
    if record.kind != "cancel" or record.by not in {ask.by for ask in account.asks if job_id in ask.jobs}:
        yield Violation("record", job_id, f"nobody of these asked: {record}")
    if record.stage is None or record.gone_s is None:
        yield Violation("record", job_id, f"not complete: {record}")
    steps = [at for at in (0.0, record.flag_s, record.sigterm_s, record.sigkill_s, record.gone_s) if at is not None]
    if steps != sorted(steps) or any(at > (record.gone_s or 0) for at in (record.noticed_s,) if at is not None):
        yield Violation("record", job_id, f"out of order: {record}")
    ends_by_itself = "already_final" in account.trial.terms.outcomes  # so maybe in the very turn of the cancel
    if record.stage != BEFORE and record.flag_s is None and not (ends_by_itself and len(steps) == 2):
        yield Violation("record", job_id, f"no flag was set: {record}")
    if (record.stage == SIGKILL) != (record.sigkill_s is not None):
        yield Violation("record", job_id, f"stage and steps do not agree: {record}")
    if record.sigkill_s is not None and record.sigkill_s < record.grace_s - 1e-6:
        yield Violation("record", job_id, f"killed before its grace was over: {record}")
    if account.in_place and record.stage not in account.trial.stages:
        yield Violation("stage", job_id, f"{account.trial}: ended by {record.stage}: {record}")


def _background(
    background: dict[str, str], finals: dict[str, SeenEvent], accounts: Iterable[Account]
) -> Iterator[Violation]:
    """What nobody cancels ends by itself; and nothing else is there."""
    for job_id, state in background.items():
        ended = finals[job_id].job.state if job_id in finals else "not over"
        if ended != state:
            error = finals[job_id].job.error if job_id in finals else None
            yield Violation("bystander", job_id, f"nobody cancelled it, and it is {ended}: {error}")
    asked = Counter(job_id for account in accounts for job_id in account.jobs)
    for job_id, times in asked.items():
        if times > 1 or job_id in background:
            yield Violation("trial", job_id, "it is in two trials")
    for job_id in finals.keys() - asked.keys() - background.keys():
        yield Violation("trial", job_id, "nobody submitted it")


def _run(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is left, and no bystander was hit."""
    for name, signals in evidence.hits.items():
        if signals:
            yield Violation("decoy", "", f"the decoy {name} was hit: {signals[:5]}")
    if evidence.slots:
        yield Violation("slots", "", f"{evidence.slots} slots are held though every job is final")
    for what in (*evidence.holders, *evidence.left, *evidence.cgroups):
        yield Violation("left", "", what)
