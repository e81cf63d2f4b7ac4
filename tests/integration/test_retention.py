"""What a real daemon forgets, when it is asked to or by itself, and what it never does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import zmq

from annul_client import Client, Job, NotFinal, NotFound, RequestRefused, State
from harness import DaemonProcess, wait_until

MakeDaemon = Callable[..., DaemonProcess]
MANY = 5_000


def done(client: Client, **fields: str) -> Job:
    job = client.wait(client.submit("quick", {}, **fields).id, 20)
    assert job.state is State.COMPLETED
    return job


def job_dirs(daemon: DaemonProcess) -> set[str]:
    return {path.name for path in (daemon.state_dir / "jobs").iterdir()}


def cancelled_many(client: Client, count: int) -> None:
    """So many final jobs, the cheapest that there are."""
    later = datetime.now(UTC) + timedelta(days=1)
    client.submit_many([{"type": "quick", "user": "many", "not_before": later}] * count)
    assert client.cancel(user="many").count == count


def test_a_purged_job_is_found_nowhere(daemon: DaemonProcess, client: Client) -> None:
    """Every verb says so, its directory is gone and its key is free; what it published stays."""
    job = done(client, user="u1", key="k")
    output = Path(job.files[0])
    assert client.purge(job.id) == 1
    for ask in (client.get, client.logs, client.result, client.wait, lambda job_id: list(client.events(0, job_id))):
        with pytest.raises(NotFound):
            ask(job.id)
    assert client.cancel(job.id).outcome == "not_found"
    assert client.purge(job.id) == 0
    assert client.list(user="u1") == []
    assert output.read_text() == "done"
    wait_until(lambda: job.id not in job_dirs(daemon), "its directory to go")
    again = client.submit("quick", {"seconds": 0.01}, user="u1", key="k")
    assert again.id != job.id
    assert client.wait(again.id, 20).state is State.COMPLETED
    # The log of events has no gaps, also where a job is gone.
    events = client.events(since=0)
    seen = []
    while not (seen and seen[-1].job.id == again.id and seen[-1].job.state.final):
        seen.append(next(events))
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))


def test_live_jobs_are_never_purged(client: Client) -> None:
    """Queued, running, cancelling: refused where they are named, left out where they match."""
    running = client.submit("stubborn", {"mark": "/dev/null"}, user="u")
    wait_until(lambda: client.get(running.id).progress.stage == "ignoring", "it to run")
    queued = client.submit("quick", {}, user="u", not_before=datetime.now(UTC) + timedelta(days=1))
    over = done(client, user="u")
    for job in (running, queued):
        with pytest.raises(NotFinal) as refused:
            client.purge(job.id)
        assert refused.value.code == "not_final"
    client.cancel(running.id, grace_s=60)
    with pytest.raises(NotFinal):
        client.purge(running.id)
    assert client.purge(user="u") == 1
    assert {job.id for job in client.list(user="u")} == {running.id, queued.id}
    with pytest.raises(NotFound):
        client.get(over.id)
    client.cancel(running.id, grace_s=0)
    assert client.wait(running.id, 20).state is State.CANCELLED
    assert client.purge(running.id) == 1


def test_what_is_purged_is_what_matches_all_that_is_asked_for(client: Client) -> None:
    """User, type, label, state and age; nothing at all is refused, and so is a state that is not final."""
    ann, bob = done(client, user="ann"), done(client, user="bob")
    failed = client.wait(client.submit("raiser", {}, user="ann", labels={"a": "b"}).id, 20)
    assert client.purge(user="ann", older_than_s=3600) == 0
    assert client.purge(user="ann", state="cancelled") == 0
    assert client.purge(type="raiser", label={"a": "c"}) == 0
    assert client.purge(type="raiser", label={"a": "b"}, state="failed", user="ann", older_than_s=0) == 1
    assert {job.id for job in client.list()} == {ann.id, bob.id}
    with pytest.raises(NotFound):
        client.get(failed.id)
    assert client.purge(state="completed") == 2
    with pytest.raises(ValueError, match="purge"):
        client.purge()
    with pytest.raises(RequestRefused) as refused:
        client.purge(state="running")
    assert (refused.value.code, refused.value.field) == ("invalid_request", "state")


def test_outputs_that_are_not_in_their_place_are_not_purged(make_daemon: MakeDaemon) -> None:
    """They are staged in the job's directory, which is all there is of them."""
    daemon = make_daemon()
    daemon.start()
    (daemon.state_dir / "users" / "u1").write_text("a file where the user's directory should be")
    with daemon.client() as client:
        job = done(client, user="u1")
        with pytest.raises(NotFinal) as refused:
            client.purge(job.id)
        assert refused.value.code == "not_published"
        assert client.purge(user="u1") == 0
        assert list((daemon.state_dir / "jobs" / job.id).rglob("staging/*"))


def test_a_cancel_does_not_wait_for_a_purge_of_thousands(daemon: DaemonProcess, client: Client) -> None:
    """Sent behind it, on the same connection or as one of many jobs, it is answered before it."""
    cancelled_many(client, MANY)
    job = client.submit("sleepy", {})
    group = [client.submit("sleepy", {}, user="group") for _ in range(3)]
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    try:
        dealer.connect(daemon.endpoint)
        for request in (
            {"rid": "purge", "verb": "purge", "user": "many"},
            {"rid": "one", "verb": "cancel", "id": job.id},
            {"rid": "group", "verb": "cancel", "user": "group"},
        ):
            dealer.send(msgspec.msgpack.encode(request))
        replies = [msgspec.msgpack.decode(dealer.recv()) for _ in range(3)]
    finally:
        dealer.close(linger=0)
        context.term()
    assert {reply["rid"] for reply in replies[:2]} == {"one", "group"}
    assert replies[2]["ok"] == {"count": MANY, "next": None}
    for one in (job, *group):
        assert client.wait(one.id, 20).state is State.CANCELLED
    assert client.list(user="many") == []


def test_more_than_one_request_purges_are_purged_by_several(make_daemon: MakeDaemon) -> None:
    """The daemon looks at so many for one request; the client goes on until all have been looked at."""
    daemon = make_daemon("--keep-jobs", "0")
    daemon.start()
    with daemon.client() as client:
        cancelled_many(client, 10_500)
        assert client.purge(user="many") == 10_500
        assert client.list(user="many") == []


@pytest.mark.parametrize("trial", range(3))
def test_a_daemon_killed_in_a_purge_leaves_nothing_half_purged(make_daemon: MakeDaemon, trial: int) -> None:
    """Every job is either all there or not at all, after the next start."""
    daemon = make_daemon()
    daemon.start()
    with daemon.client() as client:
        kept = [done(client, user="u").id for _ in range(3)]
        cancelled_many(client, MANY)
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(daemon.endpoint)
        dealer.send(msgspec.msgpack.encode({"rid": "p", "verb": "purge", "older_than_s": 0}))
        wait_until(lambda: len(client.list(user="u")) < 3 - trial, "the purge to begin")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        dealer.close(linger=0)
        context.term()
    daemon.start()
    with daemon.client() as client:
        left = {job.id for job in client.list(user="u")}
        assert left < set(kept)
        wait_until(lambda: job_dirs(daemon) == left, "the directories of purged jobs to go")
        assert client.purge(older_than_s=0) >= len(left)
        assert client.list() == []
        wait_until(lambda: not job_dirs(daemon), "all directories to go")


def test_the_oldest_go_by_themselves(make_daemon: MakeDaemon) -> None:
    """Of each user `keep_jobs` are kept, also where a lower limit is set later; outputs stay."""
    daemon = make_daemon("--keep-jobs", "3")
    daemon.start()
    with daemon.client() as client:
        jobs = [done(client, user="u") for _ in range(5)]
        other = done(client, user="v")
        wait_until(lambda: len(client.list(user="u")) == 3, "two to be purged")
        assert [job.id for job in client.list(user="u")] == [job.id for job in reversed(jobs[2:])]
        wait_until(lambda: job_dirs(daemon) == {job.id for job in (*jobs[2:], other)}, "their directories to go")
        assert all(Path(job.files[0]).exists() for job in jobs)
    assert daemon.stop() == 0
    daemon.options = (*daemon.options, "--keep-jobs", "1")
    daemon.start()
    with daemon.client() as client:
        wait_until(lambda: len(client.list()) == 2, "all but the newest of each to be purged")
        assert {job.id for job in client.list()} == {jobs[-1].id, other.id}


def test_what_ended_long_ago_goes_by_itself(make_daemon: MakeDaemon) -> None:
    """`keep_days` after it has ended, nobody asking; an idle daemon wakes up for it."""
    daemon = make_daemon("--keep-days", str(0.5 / 86_400))
    daemon.start()
    with daemon.client() as client:
        job = done(client)
    wait_until(lambda: job.id not in job_dirs(daemon), "it to be purged")
    with daemon.client() as client, pytest.raises(NotFound):
        client.get(job.id)
