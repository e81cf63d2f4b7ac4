"""SQLite (WAL, synchronous FULL), with migrations and one transaction for all that a turn of the loop writes.

Owned by the loop thread. The busy time-out is 0: a store that is locked by somebody else must not hold up a cancel
(C10); the loop retries at a deadline. Every SQLite error comes out as `StoreError`, with what was being done.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from annul.errors import StartError, StoreConflictError, StoreError
from annul.scheduling import Entry
from annul.store import log
from annul.store.record import JobRecord, from_row, to_row
from annul_client.wire import State

_APPLICATION_ID = 0x616E6E75  # "annu", in the database's header
_LIVE = "state NOT IN ('completed', 'failed', 'cancelled')"
_LIVE_STATES = [state for state in State if not state.final]
_ROWS = 2000  # jobs looked at in one step of a search
_QUICKLY = 32 * 2**20  # bytes of a store that is checked at every start: a fraction of a second
_TRIM = 5000  # events forgotten in one go; above what comes between two, so that a backlog shrinks


def _queries() -> dict[str, str]:
    text = resources.files("annul.store").joinpath("queries.sql").read_text()
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def migrations() -> list[str]:
    """The SQL of each migration, in order; the schema's version is how many have been applied."""
    folder = resources.files("annul.store").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [folder.joinpath(name).read_text() for name in names]


class _Doing:
    """SQLite's errors inside come out as ours, with what was being done. (A generator would be half of a read.)"""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError | OverflowError):
            raise StoreConflictError(f"{self._what}: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self._what}: {error}") from error


class Store:
    """The daemon's database."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it, and bring its schema up to date.

        Raises StartError where it is newer than this program, another program's, damaged, or cannot be opened; it is
        then not touched.
        """
        self.path = path
        self._queries = _queries()
        self._open = False  # whether a transaction is
        self._reading, self._writing, self._committing = (
            _Doing(f"{what} the store {path}") for what in ("reading from", "writing to", "committing to")
        )
        _refuse_damaged_log(path)
        check(path)
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        except sqlite3.Error as error:
            raise _cannot_open(path, error) from error
        try:
            self._db.row_factory = sqlite3.Row
            self._migrate()
        except sqlite3.Error as error:
            self._db.close()
            raise _cannot_open(path, error) from error
        except StartError:
            self._db.close()
            raise

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        steps = migrations()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        for number, sql in enumerate(steps[version:], start=version + 1):
            marks = f"PRAGMA application_id = {_APPLICATION_ID};\nPRAGMA user_version = {number};"
            self._db.executescript(f"BEGIN IMMEDIATE;\n{sql}\n{marks}\nCOMMIT;")

    def close(self) -> None:
        self._db.close()

    # --- the turn's transaction ---------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make the turn's writes durable. Raises StoreError; then nothing of them was written."""
        if not self._open:
            return
        with self._committing:
            self._db.execute("COMMIT")
            self._open = False

    def rollback(self) -> None:
        """Forget the turn's writes. Never raises: SQLite may have rolled back by itself already."""
        self._open = False
        try:
            self._db.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # "no transaction is active": what was wanted

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All of the writes inside, or, where one contradicts what is stored, none of them."""
        with self._writing:
            self._begin()
            self._db.execute("SAVEPOINT change")
        try:
            yield
        except StoreConflictError:
            with self._writing:
                self._db.execute("ROLLBACK TO change")
                self._db.execute("RELEASE change")
            raise
        with self._writing:
            self._db.execute("RELEASE change")

    def _begin(self) -> None:
        if not self._open:
            self._db.execute("BEGIN IMMEDIATE")
            self._open = True

    def _write(self, name: str, values: dict[str, Any] | tuple[Any, ...]) -> int:
        with self._writing:
            self._begin()
            return self._db.execute(self._queries[name], values).rowcount

    def _read(self, name: str, values: dict[str, Any] | None = None) -> list[sqlite3.Row]:
        with self._reading:
            return self._db.execute(self._queries[name], values or {}).fetchall()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def insert(self, record: JobRecord) -> None:
        self._write("insert_job", tuple(to_row(record).values()))

    def update(self, record: JobRecord) -> None:
        """Write a job's new facts. Raises StoreConflictError where it was final already: that is never overwritten."""
        if self._write("update_job", to_row(record)) != 1:
            raise StoreConflictError(f"job {record.id} is final already (or gone); it cannot become {record.state}")

    def set_published(self, job_id: str) -> None:
        self._write("set_published", {"id": job_id})

    def set_paused(self, job_id: str, paused: bool) -> None:
        self._write("set_paused", {"id": job_id, "paused": int(paused)})

    def set_priority(self, job_id: str, priority: int) -> None:
        self._write("set_priority", {"id": job_id, "priority": priority})

    def job(self, job_id: str) -> JobRecord | None:
        rows = self._read("job_by_id", {"id": job_id})
        return from_row(rows[0]) if rows else None

    def job_by_key(self, user: str, key: str) -> JobRecord | None:
        return self._job_of(self._read("id_by_key", {"user": user, "key": key}))

    def job_by_request(self, request: str) -> JobRecord | None:
        return self._job_of(self._read("id_by_request", {"request": request}))

    def requests_below(self, name: str) -> set[str]:
        """Request ids ``name/...`` that stand for jobs."""
        beyond = chr(ord("/") + 1)
        return {row["request"] for row in self._read("requests_between", {"from": f"{name}/", "to": name + beyond})}

    def _job_of(self, rows: list[sqlite3.Row]) -> JobRecord | None:
        return self.job(rows[0]["id"]) if rows else None

    def knows(self, job_id: str) -> bool:
        return bool(self._read("known", {"id": job_id}))

    def unfinished(self) -> list[JobRecord]:
        """Jobs that hold a slot, as far as the store knows."""
        return [from_row(row) for row in self._read("unfinished")]

    def unpublished(self) -> list[JobRecord]:
        """Completed jobs whose outputs may not all have been renamed into place yet."""
        return [from_row(row) for row in self._read("unpublished")]

    def queued(self, retry_by: float) -> list[Entry]:
        """Jobs that wait for their turn. `retry_by`: unix seconds; retries wait until then at the most."""
        return [Entry(*row) for row in self._read("queued", {"retry_by": retry_by})]

    def oldest_queued(self) -> float | None:
        """When the oldest job in the queue was submitted, unix seconds."""
        rows = self._read("oldest_queued")
        return float(rows[0][0]) if rows else None

    def last_job(self) -> int:
        return int(self._read("last_job")[0][0])

    def jobs(
        self, *, user: str | None, state: State | None, type_: str | None, label: dict[str, str], limit: int
    ) -> Iterator[list[JobRecord]]:
        """Jobs that match, newest first, without their results; a piece of the search, found or not, at each step."""
        where, values = _matching(user=user, state=state, type_=type_, label=label)
        what = ", ".join("NULL AS result" if name == "result" else name for name in JobRecord.__struct_fields__)
        # Of a state that is not final, or of a user, an index has the jobs: the others are not looked at.
        near = "seq < :below" + ("" if user is None else " AND user = :user")
        if state is not None and not state.final:
            near += f" AND {_LIVE} AND state = :state"
        values |= {"below": 2**63 - 1, "limit": limit}
        while values["limit"] and (least := self._end_of_piece("min", near, values)) is not None:
            values["least"] = least
            piece = f"seq < :below AND seq >= :least AND {where} ORDER BY seq DESC LIMIT :limit"
            found = [from_row(row) for row in self._select(what, piece, values)]
            values |= {"below": least, "limit": values["limit"] - len(found)}
            yield found

    def finished(
        self,
        *,
        user: str | None,
        state: State | None,
        type_: str | None,
        label: dict[str, str],
        until: float | None,
        after: int,
        rows: int,
    ) -> Iterator[tuple[int, list[tuple[str, str]]]]:
        """(id, user) of the final jobs that match and ended at `until` at the latest, oldest first.

        At each step those among the next `rows` jobs after number `after`, perhaps none, with the number of the last
        one looked at. Leaves out those with outputs to be published.
        """
        where, values = _matching(user=user, state=state, type_=type_, label=label)
        where += f" AND NOT ({_LIVE}) AND published = 1 AND finished_at <= :until"
        values["until"] = float("inf") if until is None else until
        near = "seq > :above" if user is None else "seq > :above AND user = :user"
        values["above"] = after
        while (most := self._end_of_piece("max", near, values, rows)) is not None:
            values["most"] = most
            found = self._select("id, user", f"seq > :above AND seq <= :most AND {where} ORDER BY seq", values)
            values["above"] = most
            yield most, [(row["id"], row["user"]) for row in found]

    def live(self, *, user: str | None, type_: str | None, label: dict[str, str], rows: int) -> Iterator[list[str]]:
        """The ids of all jobs that match and are not final, oldest first; at each step those among the next `rows`.

        A job that is live all the time is found, whatever becomes of its state between the steps.
        """
        where, values = _matching(user=user, state=None, type_=type_, label=label)
        values |= {"above": -1, "last": self.last_job()}
        # The index has them by state: the next ones of all are among the next ones of each.
        next_of_each = " UNION ALL ".join(
            f"SELECT * FROM (SELECT seq FROM job INDEXED BY job_live WHERE {_LIVE} AND state = '{state}' "  # noqa: S608
            f"AND seq > :above AND seq <= :last ORDER BY seq LIMIT {rows})"
            for state in _LIVE_STATES
        )
        states = ", ".join(f"'{state}'" for state in _LIVE_STATES)
        these = f"{_LIVE} AND state IN ({states}) AND seq > :above AND seq <= :most AND {where} ORDER BY seq"
        piece = f"SELECT seq FROM ({next_of_each}) ORDER BY seq LIMIT {rows}"  # noqa: S608
        while (most := self._end_of("max", piece, values)) is not None:
            found = self._select("id", these, values | {"most": most}, "job_live")
            values["above"] = most
            yield [row["id"] for row in found]

    def _end_of_piece(self, end: str, where: str, values: dict[str, Any], rows: int = _ROWS) -> int | None:
        """The number of the last one of the next `rows` jobs; None: there are none."""
        order = "DESC" if end == "min" else "ASC"
        return self._end_of(end, f"SELECT seq FROM job WHERE {where} ORDER BY seq {order} LIMIT {rows}", values)  # noqa: S608

    def _end_of(self, end: str, numbers: str, values: dict[str, Any]) -> int | None:
        with self._reading:
            (found,) = self._db.execute(f"SELECT {end}(seq) FROM ({numbers})", values).fetchone()  # noqa: S608
        return None if found is None else int(found)

    def _select(self, what: str, where: str, values: dict[str, Any], index: str = "") -> list[sqlite3.Row]:
        by = f"INDEXED BY {index}" if index else ""
        with self._reading:
            return self._db.execute(f"SELECT {what} FROM job {by} WHERE {where}", values).fetchall()  # noqa: S608

    # --- what is not to be kept ---------------------------------------------------------------------------------

    def delete(self, job_id: str) -> bool:
        """Delete a final job. False: there is none, or it is live, or has outputs that are still to be published."""
        deleted = self._write("delete_job", {"id": job_id}) == 1
        if deleted:
            self._write("delete_attempts", {"id": job_id})
        return deleted

    def next_user(self, after: str) -> str | None:
        """The first user after this one, in the order of their names; after "" it is the first."""
        rows = self._read("next_user", {"after": after})
        return str(rows[0][0]) if rows else None

    def count_finished(self, user: str, most: int) -> int:
        """How many final jobs a user has; counts to `most`."""
        return int(self._read("count_finished", {"user": user, "most": most})[0][0])

    def oldest_finished(self, user: str | None, limit: int) -> list[tuple[str, str, float]]:
        """(id, user, when it ended in unix seconds) of those, of a user or of all, that ended first.

        Leaves out those with outputs to be published.
        """
        if user is None:
            rows = self._read("oldest_finished", {"limit": limit})
        else:
            rows = self._read("oldest_finished_of_user", {"user": user, "limit": limit})
        return [(row["id"], row["user"], row["finished_at"]) for row in rows]

    # --- attempts -----------------------------------------------------------------------------------------------

    def insert_attempt(self, job_id: str, number: int, boot_id: str, pid: int, start_time: int) -> None:
        self._write(
            "insert_attempt",
            {"job_id": job_id, "number": number, "boot_id": boot_id, "pid": pid, "start_time": start_time},
        )

    def attempt(self, job_id: str, number: int) -> tuple[str, int, int] | None:
        """(boot id, pid, start time) of an attempt's leader, where it was recorded."""
        rows = self._read("attempt", {"job_id": job_id, "number": number})
        return (rows[0]["boot_id"], rows[0]["pid"], rows[0]["start_time"]) if rows else None

    # --- events -------------------------------------------------------------------------------------------------

    def insert_events(self, events: list[tuple[int, str, bytes]]) -> None:
        """(sequence number, job's id, body) of each."""
        with self._writing:
            self._begin()
            self._db.executemany(self._queries["insert_event"], events)

    def event_bounds(self) -> tuple[int, int]:
        """(oldest kept, newest) sequence number; (0, 0) where there was none yet."""
        row = self._read("event_bounds")[0]
        return int(row[0]), int(row[1])

    def events_since(self, since: int, job_id: str | None, limit: int) -> list[bytes]:
        if job_id is None:
            rows = self._read("events_since", {"since": since, "limit": limit})
        else:
            rows = self._read("events_of_job_since", {"since": since, "job_id": job_id, "limit": limit})
        return [row["body"] for row in rows]

    def trim_events(self, upto: int) -> None:
        """Forget events up to a sequence number; of very many, the oldest thousands."""
        self._write("trim_events", {"upto": upto, "most": _TRIM})


def _cannot_open(path: Path, why: object) -> StartError:
    return StartError(
        f"cannot open the store {path}: {why}. It was not changed. If another program has it open, stop that one; if "
        "it is damaged, restore a backup or move it away to start with an empty one."
    )


def check(path: Path) -> int | None:
    """Its schema's version; None where there is no store yet.

    Writes nothing, and makes no file but the index of a log that has none.

    Raises StartError where it is newer than this program, another program's, damaged, or cannot be opened.
    """
    _refuse_no_database(path)
    if not path.exists() or not path.stat().st_size:
        return None
    with reading(path) as db:
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            small = path.stat().st_size <= _QUICKLY
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0] if small else "ok"
        except sqlite3.Error as error:
            raise _cannot_open(path, error) from error
    if application != _APPLICATION_ID and (tables or application):
        raise StartError(f"{path} is another program's database; it was not touched. Name another --state-dir.")
    if version > len(migrations()):
        raise StartError(
            f"the store {path} has schema {version}, this annul knows up to {len(migrations())}: it was "
            "written by a newer annul. Install that version again; the store was not touched."
        )
    if found != "ok":
        raise _cannot_open(path, "it is damaged: " + " ".join(str(found).split()))
    return int(version)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, also beside a daemon. Raises StartError where it cannot be opened.

    Closing it does not fold the log of a crash into the file.
    """
    # "immutable" makes no files beside it, and reads no log; the log's index is made only where it is missing.
    wal, index = (path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))
    in_use = wal.exists() and (index.exists() or wal.stat().st_size)
    how = f"readonly_shm={int(index.exists())}" if in_use else "immutable=1"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&{how}", uri=True, timeout=0, isolation_level=None)
    except sqlite3.Error as error:
        raise _cannot_open(path, error) from error
    try:
        yield db
    finally:
        db.close()


def _refuse_damaged_log(path: Path) -> None:
    """SQLite would drop what is behind the damage, and say nothing."""
    try:
        found = log.damage(path.with_name(f"{path.name}-wal"))
    except OSError as error:
        raise _cannot_open(path, error) from error
    if found:
        raise _cannot_open(path, found)


def _refuse_no_database(path: Path) -> None:
    """SQLite takes a file of a few bytes for an empty database, and would write over it."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_open(path, error) from error
    if start and start != b"SQLite format 3\0":
        raise _cannot_open(path, "it is no SQLite database")


def _matching(
    *, user: str | None, state: State | None, type_: str | None, label: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    """A condition and its values. Only names of columns and of values are put together here."""
    where, values = ["1"], dict[str, Any]()
    for column, value in (("user", user), ("state", state), ("type", type_)):
        if value is not None:
            where.append(f"{column} = :{column}")
            values[column] = str(value)
    for number, (name, value) in enumerate(label.items()):
        # A JSON path would need the name quoted; json_each compares it as data.
        one_is = f"key = :key{number} AND value = :value{number}"
        where.append(f"EXISTS (SELECT 1 FROM json_each(job.labels) WHERE {one_is})")  # noqa: S608
        values[f"key{number}"], values[f"value{number}"] = name, value
    return " AND ".join(where), values
