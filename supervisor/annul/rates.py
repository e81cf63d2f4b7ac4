"""How often somebody may ask: a token bucket each. Pure; times are monotonic seconds."""

from __future__ import annotations

from collections import OrderedDict

_BURST_S = 10.0  # worth of requests that may come at once
_MOST = 10_000  # that are remembered; who has not asked for long has a full bucket anyway


class Rates:
    """Owned by the loop thread."""

    def __init__(self, per_s: int) -> None:
        """`per_s`: requests a second in the long run; 0: any number."""
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by name: (requests, as of when)

    def take(self, name: str, now: float) -> bool:
        """One request of somebody. False: it is one too many."""
        if not self._per_s:
            return True
        most = self._per_s * _BURST_S
        left, at = self._left.pop(name, (most, now))
        left = min(most, left + (now - at) * self._per_s)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return left >= 1
