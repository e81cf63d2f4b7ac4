-- How many processes of the last attempt, other than its leader, had to be killed.
ALTER TABLE job ADD COLUMN swept INTEGER NOT NULL DEFAULT 0;
