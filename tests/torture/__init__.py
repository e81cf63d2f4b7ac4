"""The race bench: random cancels of a real daemon's jobs, judged by a witness outside of it. `make torture` runs it."""
