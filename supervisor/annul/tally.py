"""What was done since the daemon started, for those who look from afar. Owned by the loop thread."""

from __future__ import annotations

from collections import Counter

from annul_client.wire import Event, Stage, State, Timing


class Watch:
    """How long something took, over all times."""

    def __init__(self) -> None:
        self._count, self._sum_s, self._max_s = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        self._count += 1
        self._sum_s += seconds
        self._max_s = max(self._max_s, seconds)

    def timing(self) -> Timing:
        return Timing(count=self._count, sum_s=round(self._sum_s, 6), max_s=round(self._max_s, 6))


class Tally:
    """Counts events as they are told: what was committed, each once; and starts, as they are seen."""

    def __init__(self) -> None:
        self.submitted = 0
        self.ended: Counter[str] = Counter()  # by final state
        self.stages: Counter[str] = Counter()  # by what ended it
        self.start = Watch()
        self.cancel = Watch()

    def started(self, start_s: float | None) -> None:
        """A job has reached its first line, so long after its launch. Noted then: when that is told it may be over."""
        if start_s is not None:
            self.start.add(start_s)

    def note(self, event: Event) -> None:
        job = event.job
        if event.job_seq == 1:
            self.submitted += 1
        if job.state.final and event.kind == job.state:
            self.ended[str(job.state)] += 1
            if job.cancel is not None and job.cancel.stage is not None:
                self.stages[str(job.cancel.stage)] += 1
                if job.state is State.CANCELLED and job.cancel.flag_s is not None and job.cancel.gone_s is not None:
                    self.cancel.add(job.cancel.gone_s)

    def ended_by_state(self) -> dict[str, int]:
        return {str(state): self.ended[str(state)] for state in State if state.final}

    def ended_by_stage(self) -> dict[str, int]:
        return {str(stage): self.stages[str(stage)] for stage in Stage}
