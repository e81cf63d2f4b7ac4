"""A cancel at every line between the fork and the job's first line: never lost, and nothing is left unsupervised."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from annul.runtime import zygote
from annul.tree import find_cgroup
from annul_client import CancelOutcome, Job, Stage, State
from harness import TESTS, DaemonProcess, alive, wait_until, waits_for_work

MakeDaemon = Callable[..., DaemonProcess]
LONG_S = 3600.0


def state(pid: int) -> str:
    """As in proc(5): "S" sleeps, "T" is stopped. Raises OSError where it is gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Starts:
    """A daemon whose zygotes, and the jobs they fork, can be stopped at a line. See holding/sitecustomize.py."""

    def __init__(self, make_daemon: MakeDaemon, folder: Path, how: str, *options: str, holding: bool = True) -> None:
        if how == "cgroup" and find_cgroup() is None:
            pytest.skip("there is no writable cgroup v2 directory for this process")
        self.tree = how
        self.folder = folder / "hold"
        self.folder.mkdir()
        if holding:
            shutil.copy(TESTS / "holding" / "sitecustomize.py", self.folder)
        path = os.pathsep.join(filter(None, [str(self.folder), str(TESTS), os.environ.get("PYTHONPATH")]))
        self.daemon = make_daemon("--tree", how, "--jobs", "children.starts", *options, env={"PYTHONPATH": path})
        self.daemon.start()
        self.client = self.daemon.client()
        self.mark = folder / "mark"

    def submit(self, seconds: float = LONG_S, type_: str = "first-line", **options: float) -> Job:
        self.mark.unlink(missing_ok=True)
        return self.client.submit(type_, {"mark": str(self.mark), "seconds": seconds}, **options)

    def lines(self, type_: str = "first-line") -> list[str]:
        """What is reached in zygote and child, in that order, each line once: SIDE FILE LINE."""
        (self.folder / "trace").touch()
        assert self.client.wait(self.submit(0, type_).id, 20).state is State.COMPLETED
        found = [one for name in ("zygote-lines", "lines") for one in (self.folder / name).read_text().splitlines()]
        return list(dict.fromkeys(found))

    def held_at(self, line: str, seconds: float = LONG_S, **options: float) -> tuple[Job, int]:
        """Submit a job and wait until its process, or its zygote, is stopped there: (job, who is stopped)."""
        # Else a process that was forked for the job before it would serve this one.
        wait_until(self._is_at_rest, "the zygote to be alone")
        (self.folder / "hold").write_text(line)
        job = self.submit(seconds, **options)
        wait_until((self.folder / "held").exists, f"{line} to be reached")
        pid = int((self.folder / "held").read_text())
        (self.folder / "held").unlink()
        wait_until(lambda: state(pid) == "T", "it to stop")
        return job, pid

    @property
    def ran(self) -> int:
        """How often the job's first line was run."""
        return len(self.mark.read_text().splitlines()) if self.mark.exists() else 0

    def left(self) -> list[int]:
        """Everything alive below the daemon but what waits for work: by /proc, not by what the daemon says of jobs."""
        return [pid for pid in self._below() if not waits_for_work(pid)]

    def _below(self) -> list[int]:
        assert self.daemon.process is not None
        found = [self.daemon.process.pid]
        for pid in found:  # it grows meanwhile
            with contextlib.suppress(OSError):  # it has ended
                for path in Path(f"/proc/{pid}/task").glob("*/children"):
                    found += [int(one) for one in path.read_text().split()]
        return [pid for pid in found[1:] if alive(pid)]

    def _is_at_rest(self) -> bool:
        """Whether there is one zygote at most, it has forked what it was asked for, and that has ended."""
        below = self._below()
        with contextlib.suppress(OSError):
            return not below or (len(below) == 1 and state(below[0]) == "S" and self._below() == below)
        return False

    def works(self) -> None:
        """A job starts, runs once and completes."""
        assert self.client.wait(self.submit(0).id, 20).state is State.COMPLETED
        assert self.ran == 1


@pytest.fixture(params=["session", "cgroup"])
def starts(request: pytest.FixtureRequest, make_daemon: MakeDaemon, short_dir: Path) -> Iterator[Starts]:
    found = Starts(make_daemon, short_dir, request.param, "--spares", "0")
    yield found
    found.client.close()


def wrong_with(starts: Starts, job: Job, line: str, error: str = "") -> list[str]:
    """What is wrong with the end of a job that was stopped at that line before its first; best: nothing."""
    final = starts.client.wait(job.id, 20)
    left, ran = starts.left(), starts.ran
    stage = final.cancel.stage if final.cancel else None
    ended = (final.state, final.error.code if final.error else "")
    if left or ended != ((State.FAILED, error) if error else (State.CANCELLED, "")):
        return [f"{line}: {ended}, {left} left"]
    # While its zygote was held the child went on, as far as it could.
    went_on = line.startswith("zygote") and stage is not Stage.BEFORE_START
    return [] if went_on or (ran == 0 and stage is Stage.BEFORE_START) else [f"{line}: {stage}, ran {ran} times"]


def test_a_cancel_at_every_line_is_not_lost(starts: Starts) -> None:
    """Whichever line was reached: `cancelling`, then `cancelled` before the start, no line of it ran, none lives."""
    lines = starts.lines()
    assert len(lines) > 100
    wrong = []
    for line in lines if starts.tree == "session" else lines[::4]:
        job, pid = starts.held_at(line)
        outcome = starts.client.cancel(job.id).outcome
        if line.startswith("zygote"):
            os.kill(pid, signal.SIGCONT)  # a child is continued by the ladder itself
        wrong += wrong_with(starts, job, line)
        if outcome is not CancelOutcome.CANCELLING:
            wrong.append(f"{line}: {outcome}")
    assert not wrong, "\n".join(wrong)
    starts.works()


def test_a_cancel_does_not_wait_for_a_stopped_zygote(starts: Starts) -> None:
    """The job is over at once, though the zygote has forked for it; that one goes too."""
    wrong = []
    for line in (line for line in starts.lines() if line.startswith("zygote")):
        job, parent = starts.held_at(line)
        assert starts.client.cancel(job.id, grace_s=0.01).outcome is CancelOutcome.CANCELLING
        final = starts.client.wait(job.id, 20)
        wait_until(lambda: not starts.left(), "the child to be gone")
        before = starts.ran
        os.kill(parent, signal.SIGCONT)
        starts.works()
        if final.state is not State.CANCELLED or before > 1:
            wrong.append(f"{line}: {final.state}, ran {before} times")
    assert not wrong, "\n".join(wrong)


def test_what_a_child_of_a_stopped_zygote_has_started_is_ended(starts: Starts, tmp_path: Path) -> None:
    """The zygote has told of it, and no more; it runs, and has a child in another session: both are found and ended."""
    source, first = inspect.getsourcelines(zygote._fork)
    (line,) = [first + number for number, text in enumerate(source) if "os.close(pidfd)" in text]
    mark = tmp_path / "beat"
    (starts.folder / "hold").write_text(f"zygote runtime/zygote.py {line}")
    job = starts.client.submit("escaper", {"mark": str(mark)})
    wait_until(lambda: mark.exists() and mark.stat().st_size > 3, "the grandchild to beat")
    wait_until((starts.folder / "held").exists, "the zygote to stop")
    starts.client.cancel(job.id, grace_s=0.1)
    final = starts.client.wait(job.id, 20)
    size = mark.stat().st_size
    assert (final.state, starts.left()) == (State.CANCELLED, [])
    assert final.cancel is not None
    assert final.cancel.sigterm_s is not None
    assert mark.stat().st_size == size
    os.kill(int((starts.folder / "held").read_text()), signal.SIGCONT)
    starts.works()


def test_a_time_out_at_a_line_is_a_time_out(starts: Starts) -> None:
    """The same ladder: the job fails with `timeout`, and none of its lines ran."""
    wrong = []
    for line in [line for line in starts.lines() if line.startswith("child")][::40]:
        job, _ = starts.held_at(line, timeout_s=0.3)
        wrong += wrong_with(starts, job, line, "timeout")
    assert not wrong, "\n".join(wrong)
    starts.works()


def test_a_child_killed_at_a_line_hangs_nobody(starts: Starts) -> None:
    """SIGKILL from anywhere: before it has registered the job starts again, after that it has failed."""
    states = []
    for line in [line for line in starts.lines() if line.startswith("child")][::8]:
        job, pid = starts.held_at(line, 0)
        os.kill(pid, signal.SIGKILL)
        final = starts.client.wait(job.id, 20)
        assert (final.state, final.attempt, starts.ran) in ((State.COMPLETED, 2, 1), (State.FAILED, 1, 0)), (
            line,
            final,
        )
        assert not starts.left(), line
        states.append(final.state)
    assert set(states) == {State.COMPLETED, State.FAILED}
    assert states == sorted(states)  # there is one line where it turns over
    starts.works()


def test_a_zygote_killed_at_a_line_hangs_nobody(starts: Starts) -> None:
    """Its job runs exactly once: as the child that there is already, or in a new attempt."""
    for line in [line for line in starts.lines() if line.startswith("zygote")][:: 1 if starts.tree == "session" else 4]:
        job, parent = starts.held_at(line, 0)
        os.kill(parent, signal.SIGKILL)
        final = starts.client.wait(job.id, 20)
        assert (final.state, starts.ran) == (State.COMPLETED, 1), (line, final)
        assert not starts.left(), line
    starts.works()


def test_a_zygote_killed_under_a_held_child_changes_nothing(starts: Starts) -> None:
    """The daemon holds the child already: it goes on, or is cancelled, as ever."""
    for number, line in enumerate([line for line in starts.lines() if line.startswith("child")][::50]):
        job, pid = starts.held_at(line, 0)
        wait_until(lambda: starts.client.get(job.id).pid == pid, "the daemon to know it")  # noqa: B023
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: not alive(parent), "the zygote to be gone")  # noqa: B023
        if number % 2:
            assert starts.client.cancel(job.id).outcome is CancelOutcome.CANCELLING
            assert not wrong_with(starts, job, line)
        else:
            os.kill(pid, signal.SIGCONT)
            final = starts.client.wait(job.id, 20)
            assert (final.state, starts.ran) == (State.COMPLETED, 1), (line, final)
            assert not starts.left(), line
    starts.works()


@pytest.mark.parametrize("how", ["session", "cgroup"])
def test_cancels_at_random_moments_of_the_start_are_not_lost(
    make_daemon: MakeDaemon, short_dir: Path, how: str
) -> None:
    """At 0 to 15 ms after the submit, mostly early: `cancelled`, and where that says so nothing ran."""
    starts = Starts(make_daemon, short_dir, how, holding=False)
    with starts.client:
        _cancel_at_random(starts)


def _cancel_at_random(starts: Starts) -> None:
    starts.works()
    rng = random.Random(8)
    stages: list[Stage | None] = []
    while len(stages) < 150 or not {Stage.BEFORE_START, Stage.SIGTERM} <= set(stages):
        job = starts.submit()
        end = time.monotonic() + 0.015 * rng.random() ** 3
        while time.monotonic() < end:
            pass
        outcome = starts.client.cancel(job.id).outcome
        final = starts.client.wait(job.id, 20)
        assert final.cancel is not None
        assert (outcome, final.state) == (CancelOutcome.CANCELLING, State.CANCELLED)
        assert not (starts.ran and final.cancel.stage is Stage.BEFORE_START)
        assert not starts.left()
        stages.append(final.cancel.stage)
