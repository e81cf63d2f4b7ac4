-- One row a job. What must survive the daemon is here; what is alive is in the registry and on the board.
CREATE TABLE job (
    seq         INTEGER PRIMARY KEY,         -- order of submission
    id          TEXT    NOT NULL UNIQUE,
    request     TEXT    UNIQUE,              -- request id of the submit: sent twice, it makes one job
    type        TEXT    NOT NULL,
    user        TEXT    NOT NULL,
    key         TEXT,                        -- idempotency key, unique per user
    digest      BLOB    NOT NULL,            -- of what was submitted: the same key with other content is refused
    title       TEXT    NOT NULL,
    labels      TEXT    NOT NULL,            -- JSON object
    priority    INTEGER NOT NULL,
    params      TEXT    NOT NULL,            -- JSON object
    timeout_s   REAL,
    not_before  REAL,                        -- unix seconds, as all times here
    submitted_by TEXT   NOT NULL,
    state       TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    events      INTEGER NOT NULL,            -- how many events it has had
    created_at  REAL    NOT NULL,
    started_at  REAL,
    finished_at REAL,
    progress    TEXT    NOT NULL,            -- JSON, as in the protocol; so are result, files, error and cancel
    result      TEXT,
    files       TEXT    NOT NULL,
    published   INTEGER NOT NULL,            -- 0 while outputs committed as completed are still to be renamed
    error       TEXT,
    cancel      TEXT
) STRICT;

CREATE UNIQUE INDEX job_key ON job (user, key) WHERE key IS NOT NULL;
CREATE INDEX job_live ON job (state) WHERE state NOT IN ('completed', 'failed', 'cancelled');
CREATE INDEX job_of_user ON job (user, seq);
CREATE INDEX job_unpublished ON job (published) WHERE published = 0;

-- The process of a started attempt: (boot id, pid, start time) tells it from a stranger with the same pid.
CREATE TABLE attempt (
    job_id     TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    boot_id    TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    start_time INTEGER NOT NULL,             -- clock ticks since boot
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

-- The durable event log; seq has no gaps.
CREATE TABLE event (
    seq     INTEGER PRIMARY KEY,
    job_id  TEXT NOT NULL,
    body    BLOB NOT NULL                    -- msgpack, as published
) STRICT;

CREATE INDEX event_of_job ON event (job_id, seq);
