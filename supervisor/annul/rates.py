"""How often somebody may ask, and be told that it is too often: token buckets. Pure; times are monotonic seconds.

Who has used up both is not heard: to read a request and say no takes longer than to send it, and the others would wait.
"""

from __future__ import annotations

from collections import OrderedDict

_BURST_S = 10.0  # worth of requests that may come at once
_MOST = 10_000  # that are remembered; who has not asked for long has a full bucket anyway


class _Buckets:
    """One each; the longest unused is forgotten, and so is full."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by name: (tokens, as of when)

    def take(self, name: str, now: float, per_s: int, cost: int) -> float:
        """Seconds until there are so many tokens (a whole burst at most); 0.0: they were there, and are taken."""
        most = per_s * _BURST_S
        left, at = self._left.pop(name, (most, now))
        left = min(most, left + (now - at) * per_s)
        lacking = min(cost, int(most)) - left
        self._left[name] = (-lacking if lacking <= 0 else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return max(0.0, lacking / per_s)


class Rates:
    """Owned by the loop thread."""

    def __init__(self, per_s: int) -> None:
        """`per_s`: requests a second in the long run, and as many refusals; 0: any number."""
        self._per_s = per_s
        self._asked = _Buckets()
        self._refused = _Buckets()
        self._deaf: dict[str, float] = {}  # until when

    def limit(self, per_s: int) -> None:
        """From now on."""
        self._per_s = per_s
        self._deaf.clear()

    def take(self, name: str, now: float, cost: int = 1) -> bool:
        """One request of somebody, which counts as so many; as a whole burst at most. False: it is one too many."""
        return not self._per_s or not self._asked.take(name, now, self._per_s, cost)

    def tell(self, name: str, now: float) -> bool:
        """One refusal for somebody who asks too often. False: that was said often enough."""
        wait_s = self._refused.take(name, now, self._per_s, 1) if self._per_s else 0.0
        if wait_s:
            if len(self._deaf) > _MOST:
                self._deaf.clear()
            self._deaf[name] = now + wait_s
        return not wait_s

    def deaf_to(self, name: str, now: float) -> bool:
        """Whether what somebody sends now need not be read: it was refused, and would not even be told so."""
        return now < self._deaf.get(name, 0.0)
