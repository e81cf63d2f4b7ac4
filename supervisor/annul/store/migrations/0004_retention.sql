-- Which finished jobs are the oldest, of all and of a user: found without a look at the others.
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_finished_of_user ON job (user, finished_at) WHERE finished_at IS NOT NULL;
