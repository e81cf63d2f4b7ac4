"""Stores that a daemon finds: of older releases, damaged, restored from a backup. And what the doctor sees in one."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul.store import Store
from annul_client import Client, State
from harness import TIMEOUT_S, DaemonProcess, started, wait_until

MakeDaemon = Callable[..., DaemonProcess]
DATA = Path(__file__).parents[1] / "data"
OLD = sorted(DATA.glob("schema-*.db"))


def annul(verb: str, daemon: DaemonProcess, *options: str) -> subprocess.CompletedProcess[str]:
    places = ["--state-dir", str(daemon.state_dir), "--runtime-dir", str(daemon.runtime_dir)]
    return subprocess.run(
        [sys.executable, "-m", "annul", verb, *places, *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def with_store(daemon: DaemonProcess, path: Path) -> Path:
    """A copy in the place of the daemon's own."""
    daemon.state_dir.mkdir(mode=0o700)
    return Path(shutil.copy(path, daemon.state_dir / "annul.db"))


# --- of older releases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", OLD, ids=lambda one: one.stem)
def test_the_jobs_of_an_older_release_are_all_there(make_daemon: MakeDaemon, old: Path) -> None:
    """What was final or queued is as it was; what ran is concluded: none of its processes can be there."""
    daemon = make_daemon()
    with_store(daemon, old)
    daemon.start()
    with daemon.client() as client:
        jobs = {job.title.split()[-1]: client.get(job.id) for job in client.list()}
        assert len(jobs) == len(State)
        for state in (State.QUEUED, State.COMPLETED, State.FAILED, State.CANCELLED):
            assert jobs[state].state is state
        assert jobs["cancelling"].state is State.CANCELLED
        assert jobs["running"].state is State.FAILED
        assert jobs["completed"].result == {"cv": "Zoë", "pages": [1, None]}
        assert [Path(name).name for name in jobs["completed"].files] == ["a b.json", "ü.json"]
        assert jobs["queued"].labels == {"a.b": "c", "ü": "😀"}
        assert jobs["failed"].error is not None
        assert jobs["failed"].error.code == "no_text"
        assert jobs["cancelled"].cancel is not None
        assert jobs["cancelled"].cancel.stage == "sigkill"
        kinds = [event.kind for event in client.events(since=0, job_id=jobs["completed"].id)]
        assert kinds == ["queued", "completed"]
        assert client.cancel(jobs["queued"].id).outcome == "cancelled_before_start"


# --- damaged ------------------------------------------------------------------------------------------------


def _newer(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()


def _no_header(path: Path) -> None:
    path.write_bytes(b"\xa5" * 64 + path.read_bytes()[64:])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def _page(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 5] + b"\xa5" * 4096 + data[4096 * 6 :])


def _log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"\xa5" * 50_000)


@pytest.mark.parametrize("spoil", [_newer, _no_header, _cut, _page, _log])
def test_a_newer_or_damaged_store_stops_the_daemon_and_stays_as_it_is(
    make_daemon: MakeDaemon, spoil: Callable[[Path], None]
) -> None:
    """Exit code 1, what to do, and every byte as it was."""
    daemon = make_daemon()
    path = with_store(daemon, OLD[-1])
    spoil(path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    done = annul("serve", daemon)
    assert done.returncode == 1
    assert ("Install that version again" if spoil is _newer else "restore a backup") in done.stderr
    assert "Traceback" not in done.stderr
    after = {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name in before}
    assert after == before


# --- looked at by the doctor --------------------------------------------------------------------------------


def checked(daemon: DaemonProcess) -> tuple[int, list[dict[str, Any]]]:
    done = annul("doctor", daemon, "--check-store", "--json")
    found = msgspec.json.decode(done.stdout)["checks"]
    return done.returncode, [one for one in found if one["check"] == "store"]


def test_the_doctor_reads_a_store_in_use(daemon: DaemonProcess, client: Client) -> None:
    """Beside a running daemon, which goes on writing; nothing is wrong, and nothing is changed."""
    for _ in range(3):
        assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED
    _, found = checked(daemon)
    assert [one["level"] for one in found] == ["ok", "ok"]
    assert "all of it was read" in found[1]["found"]
    assert client.wait(client.submit("quick", {}).id, 20).state is State.COMPLETED


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE job SET state = 'paused' WHERE seq = 1", "does not know"),
        ("UPDATE job SET finished_at = NULL WHERE state = 'failed'", "nothing says since when"),
        ("UPDATE job SET finished_at = 1.5 WHERE state = 'running'", "have an end all the same"),
        ("UPDATE job SET params = 'nonsense' WHERE seq = 3", "no JSON"),
        ("DELETE FROM event WHERE seq IN (4, 5)", "2 of the events 1 to 14 are missing"),
        ("UPDATE job SET published = 0 WHERE state = 'completed'", "neither in .* nor published"),
    ],
)
def test_the_doctor_finds_what_is_not_as_it_must_be(make_daemon: MakeDaemon, sql: str, said: str) -> None:
    """Each with what it means, and what to do about it."""
    daemon = make_daemon()
    path = with_store(daemon, OLD[-1])
    assert [one["level"] for one in checked(daemon)[1]][1:] == ["ok"]
    db = sqlite3.connect(path)
    db.execute(sql)
    db.commit()
    db.close()
    code, found = checked(daemon)
    assert code == 1
    (problem,) = [one for one in found if one["level"] == "error"][:1]
    assert re.search(said, problem["found"])
    assert "restore a backup" in problem["advice"]


def test_the_doctor_finds_damage_that_no_start_looks_for(make_daemon: MakeDaemon) -> None:
    """An index that lacks an entry: SQLite's quick check does not compare them, the whole one does."""
    daemon = make_daemon()
    path = with_store(daemon, OLD[-1])
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX job_of_user ON job (type, seq)' WHERE name = 'job_of_user'"
    )
    db.commit()
    db.close()
    code, found = checked(daemon)
    assert code == 1
    assert "SQLite finds it damaged" in found[-1]["found"]


# --- backups ------------------------------------------------------------------------------------------------


def test_outputs_published_after_the_backup_of_the_store_are_found(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """The store says that the job runs; its outcome, and its output where it belongs, are of later."""
    daemon = make_daemon()
    restored = make_daemon(name="restored")
    restored.state_dir.mkdir(mode=0o700)
    daemon.start()
    with daemon.client() as client:
        job = started(client, "gated", "waiting", {"mark": str(tmp_path / "go")})
        with closing(sqlite3.connect(daemon.state_dir / "annul.db")) as live:
            live.execute("VACUUM INTO ?", [str(restored.state_dir / "annul.db")])
        (tmp_path / "go").touch()
        assert client.wait(job.id, 20).state is State.COMPLETED
    assert daemon.stop() == 0
    shutil.copytree(daemon.state_dir / "jobs", restored.state_dir / "jobs", dirs_exist_ok=True)
    shutil.copytree(daemon.state_dir / "users", restored.state_dir / "users", dirs_exist_ok=True)
    restored.start()
    with restored.client() as client:
        found = client.wait(job.id, 20)
        assert (found.state, found.attempt) == (State.COMPLETED, 1), found.error
        assert [Path(name).read_text() for name in found.files] == ["done"]


def test_a_backup_taken_while_jobs_run_and_are_cancelled_is_a_store(make_daemon: MakeDaemon) -> None:
    """SQLite's online backup, as the documents say: the daemon it was taken of goes on; another starts with it."""
    daemon = make_daemon("--max-running", "3")
    restored = make_daemon(name="restored")
    restored.state_dir.mkdir(mode=0o700)
    daemon.start()
    with daemon.client() as client:
        over = [client.wait(client.submit("quick", {}, user="u", key=f"k{n}").id, 20) for n in range(3)]
        running = [client.submit("sleepy", {}) for _ in range(3)]
        queued = [client.submit("quick", {}, user="u") for _ in range(5)]
        wait_until(lambda: all(client.get(job.id).progress.stage == "sleeping" for job in running), "them to sleep")
        client.cancel(queued[0].id)
        client.cancel(running[0].id)

        def cancel_more(*_: int) -> None:
            """Between two pages of the backup."""
            for job in (queued[1], running[1]):
                client.cancel(job.id)

        live = sqlite3.connect(daemon.state_dir / "annul.db")
        copy = sqlite3.connect(restored.state_dir / "annul.db")
        live.backup(copy, pages=5, progress=cancel_more, sleep=0)
        copy.close()
        live.close()
        for job in running[:2]:
            assert client.wait(job.id, 20).state is State.CANCELLED
        client.cancel(running[2].id)
        last = [client.wait(job.id, 20) for job in (*running, *queued)]
        assert {job.state for job in last} == {State.CANCELLED, State.COMPLETED}
    assert daemon.stop() == 0
    shutil.copytree(daemon.state_dir / "jobs", restored.state_dir / "jobs", dirs_exist_ok=True)
    shutil.copytree(daemon.state_dir / "users", restored.state_dir / "users", dirs_exist_ok=True)
    restored.start()
    with restored.client() as client:
        for job in over:
            assert client.get(job.id) == msgspec.structs.replace(
                job, files=[name.replace(str(daemon.base), str(restored.base)) for name in job.files]
            )
            assert client.submit("quick", {}, user="u", key=job.key).id == job.id
        # What ran when the backup was taken is over: cancelled where a cancel was in it already; else by its outcome,
        # which was copied later, and says that somebody stopped it.
        assert client.wait(running[0].id, 20).state is State.CANCELLED
        assert client.wait(running[1].id, 20).state is State.CANCELLED
        ended = client.wait(running[2].id, 20)
        assert ended.state is State.FAILED
        assert ended.error is not None
        assert ended.error.code == "terminated"
        assert client.get(queued[0].id).state is State.CANCELLED
        assert client.get(queued[1].id).state is State.CANCELLED
        for job in queued[2:]:
            assert client.wait(job.id, 20).state is State.COMPLETED
    assert restored.stop() == 0
    Store(restored.state_dir / "annul.db").close()
