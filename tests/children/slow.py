"""A module that takes a while to import, and fails to be quick on purpose."""

import time

time.sleep(0.3)
