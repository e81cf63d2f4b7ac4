"""What is wrong inside a store: SQLite's own check, and what annul takes for granted. Reads only.

Works beside a running daemon: it reads one state of the store, and holds up no writer (the daemon's log grows a little
meanwhile). Takes seconds for each gigabyte.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from annul.errors import StartError
from annul.store.store import reading

_MOST = 10  # examples of one kind

# What it means -> rows (id) of jobs for which it is so.
_RULES = {
    "are in a state that this annul does not know": """
        state NOT IN ('queued', 'starting', 'running', 'cancelling', 'completed', 'failed', 'cancelled')""",
    "are over, but nothing says since when: they are never purged by age or number": """
        state IN ('completed', 'failed', 'cancelled') AND finished_at IS NULL""",
    "are live, and have an end all the same": """
        state NOT IN ('completed', 'failed', 'cancelled') AND finished_at IS NOT NULL""",
    "cannot be shown: what they hold is no JSON": """
        NOT (json_valid(params) AND json_valid(labels) AND json_valid(progress) AND json_valid(files)
             AND json_valid(coalesce(result, 'null')) AND json_valid(coalesce(error, 'null'))
             AND json_valid(coalesce(cancel, 'null')))""",
}


def problems(path: Path, *, jobs_dir: Path, outputs_dir: Path) -> Iterator[str]:
    """One sentence for each. Raises StartError where the store cannot be read at all."""
    with reading(path) as db:
        try:
            db.execute("BEGIN")  # one state of it for all that follows
            damaged = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_MOST})")]
            if damaged != ["ok"]:
                yield from (f"SQLite finds it damaged: {' '.join(line.split())}" for line in damaged)
                return  # what else is read of it tells nothing
            for what, condition in _RULES.items():
                ids = [str(row[0]) for row in db.execute(f"SELECT id FROM job WHERE {condition} LIMIT {_MOST + 1}")]  # noqa: S608
                if ids:
                    yield f"jobs {what}: {_some(ids)}"
            yield from _event_gaps(db)
            yield from _missing_outputs(db, jobs_dir, outputs_dir)
        except sqlite3.Error as error:
            raise StartError(f"reading the store {path}: {error}") from error


def _event_gaps(db: sqlite3.Connection) -> Iterator[str]:
    first, last, count = db.execute("SELECT min(seq), max(seq), count(*) FROM event").fetchone()
    if count and count != last - first + 1:
        yield f"{last - first + 1 - count} of the events {first} to {last} are missing: who follows them misses changes"


def _missing_outputs(db: sqlite3.Connection, jobs_dir: Path, outputs_dir: Path) -> Iterator[str]:
    for job_id, user, attempt, files in db.execute("SELECT id, user, attempt, files FROM job WHERE published = 0"):
        staging = jobs_dir / job_id / str(attempt) / "staging"
        for name in msgspec.json.decode(files, type=list[str]):
            if not (staging / name).exists() and not (outputs_dir / user / name).exists():
                yield f"job {job_id} completed, but its output {name!r} is neither in {staging} nor published"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:_MOST]) + (" and more" if len(ids) > _MOST else "")
