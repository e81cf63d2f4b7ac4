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

    def limit(self, per_s: int) -> None:
        """From now on."""
        self._per_s = per_s

    def take(self, name: str, now: float, cost: int = 1) -> bool:
        """One request of somebody, which counts as so many; as a whole burst at most. False: it is one too many."""
        if not self._per_s:
            return True
        most = self._per_s * _BURST_S
        left, at = self._left.pop(name, (most, now))
        left = min(most, left + (now - at) * self._per_s)
        cost = min(cost, int(most))
        self._left[name] = (left - cost if left >= cost else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return left >= cost
