"""The same work on annul and on other job queues, in one run: ``python -m bench.peers`` (`make bench-peers`)."""
