-- In the order of a record's fields: to find the values by their names takes longer than to insert them.
-- name: insert_job
INSERT INTO job (seq, id, request, type, user, key, digest, title, labels, priority, params, timeout_s, not_before,
                 submitted_by, state, attempt, events, created_at, started_at, finished_at, progress, result, files,
                 published, error, cancel, swept, failures, paused, retry_of)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- A final state is written once: the guard makes it a compare-and-set. Whether a job is paused is a request, which may
-- be refused while facts with it in their record wait: so it has a statement of its own, and here it only ends.
-- name: update_job
UPDATE job SET state = :state, attempt = :attempt, events = :events, started_at = :started_at,
               finished_at = :finished_at, progress = :progress, result = :result, files = :files,
               published = :published, error = :error, cancel = :cancel, swept = :swept,
               failures = :failures, not_before = :not_before,
               paused = paused AND :state IN ('queued', 'starting', 'running')
WHERE id = :id AND state NOT IN ('completed', 'failed', 'cancelled');

-- name: set_paused
UPDATE job SET paused = :paused WHERE id = :id;

-- name: set_priority
UPDATE job SET priority = :priority WHERE id = :id;

-- name: set_published
UPDATE job SET published = 1 WHERE id = :id;

-- name: job_by_id
SELECT * FROM job WHERE id = :id;

-- Hardly ever is there one; Python describes all columns of a SELECT * before it knows.
-- name: id_by_key
SELECT id FROM job WHERE user = :user AND key = :key;

-- name: id_by_request
SELECT id FROM job WHERE request = :request;

-- name: requests_between
SELECT request FROM job WHERE request > :from AND request < :to;

-- The index of live jobs serves only what repeats its condition word by word. To sort the few that it finds costs less
-- than to go through the whole history in order, which the planner might prefer.
-- name: unfinished
SELECT * FROM job INDEXED BY job_live
WHERE state NOT IN ('completed', 'failed', 'cancelled') AND state <> 'queued' ORDER BY seq;

-- name: queued
SELECT seq, id, user, type, priority, CASE WHEN failures > 0 THEN min(not_before, :retry_by) ELSE not_before END, paused
FROM job WHERE state = 'queued' AND state NOT IN ('completed', 'failed', 'cancelled') ORDER BY seq;

-- name: oldest_queued
SELECT created_at FROM job INDEXED BY job_live
WHERE state = 'queued' AND state NOT IN ('completed', 'failed', 'cancelled') ORDER BY seq LIMIT 1;

-- name: unpublished
SELECT * FROM job WHERE published = 0 ORDER BY seq;

-- name: known
SELECT 1 FROM job WHERE id = :id;

-- name: last_job
SELECT coalesce(max(seq), 0) FROM job;

-- name: insert_attempt
INSERT OR REPLACE INTO attempt (job_id, number, boot_id, pid, start_time)
VALUES (:job_id, :number, :boot_id, :pid, :start_time);

-- name: attempt
SELECT boot_id, pid, start_time FROM attempt WHERE job_id = :job_id AND number = :number;

-- name: insert_event
INSERT INTO event (seq, job_id, body) VALUES (?, ?, ?);

-- name: event_bounds
SELECT coalesce((SELECT min(seq) FROM event), 0), coalesce((SELECT max(seq) FROM event), 0);

-- name: events_since
SELECT body FROM event WHERE seq > :since ORDER BY seq LIMIT :limit;

-- name: events_of_job_since
SELECT body FROM event WHERE job_id = :job_id AND seq > :since ORDER BY seq LIMIT :limit;

-- The newest entry is never removed: the next sequence number is counted from it.
-- name: trim_events
DELETE FROM event WHERE seq IN (
    SELECT seq FROM event WHERE seq <= :upto AND seq < (SELECT max(seq) FROM event) ORDER BY seq LIMIT :most
);

-- The guard: what is live, or has outputs that are not in their place yet, is never deleted.
-- name: delete_job
DELETE FROM job WHERE id = :id AND state IN ('completed', 'failed', 'cancelled') AND published = 1;

-- name: delete_attempts
DELETE FROM attempt WHERE job_id = :id;

-- name: next_user
SELECT user FROM job WHERE user > :after ORDER BY user LIMIT 1;

-- name: count_finished
SELECT count(*) FROM (SELECT 1 FROM job WHERE user = :user AND finished_at IS NOT NULL LIMIT :most);

-- name: oldest_finished
SELECT id, user, finished_at FROM job
WHERE finished_at IS NOT NULL AND state IN ('completed', 'failed', 'cancelled') AND published = 1
ORDER BY finished_at LIMIT :limit;

-- name: oldest_finished_of_user
SELECT id, user, finished_at FROM job
WHERE user = :user AND finished_at IS NOT NULL AND state IN ('completed', 'failed', 'cancelled') AND published = 1
ORDER BY finished_at LIMIT :limit;
