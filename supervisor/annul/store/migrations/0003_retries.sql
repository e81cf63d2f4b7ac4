-- How many attempts of a job have failed and are to be followed by another.
ALTER TABLE job ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
