"""Time, injected. Durations and deadlines use the monotonic clock; the wall clock is for display and `not_before`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds; never goes back, the same in every process of this boot."""

    def wall(self) -> float:
        """Unix seconds; may jump."""


class SystemClock:
    """CLOCK_MONOTONIC and CLOCK_REALTIME."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
