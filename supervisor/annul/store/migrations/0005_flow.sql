-- Whether a job is held, and which one it does again.
ALTER TABLE job ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN retry_of TEXT;
