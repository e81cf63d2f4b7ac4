"""signal.signal as C has it: takes and returns plain numbers and functions.

The one in `signal` looks for an enum's name for each, which for a function ends in an exception that is made and thrown
away. In a forked process that copies some eighty pages: 7 % of the processor time of an empty job.
"""

from __future__ import annotations

from _signal import SIG_DFL  # type: ignore[import-not-found]
from _signal import signal as set_handler

__all__ = ["SIG_DFL", "set_handler"]
