"""A module that takes a while to import."""

import time

for _ in range(30):
    time.sleep(0.005)
