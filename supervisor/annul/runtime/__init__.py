"""What runs in the job's process, and in the zygote it is forked from."""
