"""The board: what one process writes, another reads whole, whoever dies in between."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import records
from annul.board import _REPORTS, SIZE, Board, Notice
from annul.runtime.context import JobContext, Notifier
from annul.runtime.signal import JobSignal
from harness import alive, wait_until

# pytest's own threads wait; the children use nothing of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

NOTICE = Notice("cancel", "no longer wanted", "ann", 5.0, 1_700_000_000.25)
LAUNCH = records.launch()


@contextmanager
def child(act: Callable[[], object]) -> Iterator[int]:
    """A forked process that does `act` and ends; ended by the test where it does not."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        try:
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the test has waited for it: the pid may be another's by now


def ended(pid: int) -> int:
    """The exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


@pytest.fixture
def board(path: Path) -> Iterator[Board]:
    made = Board.create(path)
    yield made
    made.close()


@pytest.fixture
def other(path: Path, board: Board) -> Iterator[Board]:
    """The same board, as another process would open it."""
    opened = Board.open(path)
    yield opened
    opened.close()


# --- the file -----------------------------------------------------------------------------------------------


def test_a_new_board_is_private_and_says_nothing(board: Board) -> None:
    """Nothing is set, and its memory is really there: on a full disk it must not be found missing later."""
    found = board.path.stat()
    assert (found.st_mode & 0o777, found.st_size) == (0o600, SIZE)
    assert found.st_blocks * 512 >= SIZE
    assert board.flag is False
    assert board.cancel() is None
    assert board.process() is None
    assert (board.running_at, board.noticed_at, board.unwound_at) == (0, 0, 0)
    assert board.progress() == (0, 0.0, "")


def test_a_board_is_never_made_over_another(board: Board) -> None:
    """Two attempts cannot share one."""
    with pytest.raises(FileExistsError):
        Board.create(board.path)


def test_a_board_outlives_its_file_and_its_maker(path: Path) -> None:
    """What is mapped stays readable; what was written is there for who opens it next."""
    made = Board.create(path)
    made.set_process(7, 8)
    made.close()
    opened = Board.open(path)
    path.unlink()
    assert opened.process() == (7, 8)
    opened.close()


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1, 2 * SIZE])
def test_a_truncated_or_longer_file_is_refused(board: Board, size: int) -> None:
    """Reading beyond its end would be a SIGBUS."""
    os.truncate(board.path, size)
    with pytest.raises(ValueError, match=r"is not a board of this version.*bytes"):
        Board.open(board.path)


@pytest.mark.parametrize("magic", [b"\0" * 8, b"ANNUL\0\0\2", b"ELF.....", b"ANNUL\0\0"])
def test_a_foreign_file_is_refused(path: Path, magic: bytes) -> None:
    """Also one of the right size, and a board of another version."""
    path.write_bytes(magic.ljust(SIZE, b"\xff"))
    with pytest.raises(ValueError, match=r"is not a board of this version.*magic"):
        Board.open(path)


def test_a_board_that_is_gone_is_an_os_error(path: Path) -> None:
    """As the job that is launched too late finds it."""
    with pytest.raises(FileNotFoundError):
        Board.open(path)


def test_opening_and_closing_leaves_no_descriptor(path: Path) -> None:
    """A daemon makes many boards, and refuses some."""
    before = len(os.listdir("/proc/self/fd"))
    Board.create(path).close()
    Board.open(path).close()
    path.write_bytes(b"x")
    with pytest.raises(ValueError):
        Board.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what is written is what is read ------------------------------------------------------------------------


def test_every_stamp_is_seen_on_the_other_side(board: Board, other: Board) -> None:
    """Each field by itself, at full width."""
    board.set_process(2**22, 2**63)
    board.stamp_running(2**62)
    board.stamp_noticed(2**62 + 1)
    board.stamp_unwound(2**62 + 2)
    assert other.process() == (2**22, 2**63)
    assert (other.running_at, other.noticed_at, other.unwound_at) == (2**62, 2**62 + 1, 2**62 + 2)
    assert other.cancel() is None


def test_the_first_notice_counts(board: Board, other: Board) -> None:
    """When it was noticed is not changed by a second SIGTERM."""
    board.stamp_noticed(5)
    board.stamp_noticed(9)
    assert other.noticed_at == 5


def test_a_cancel_is_read_with_its_reason_and_deadline(board: Board, other: Board) -> None:
    """Once the flag is seen, everything about it is there (C7)."""
    board.set_cancel(NOTICE, 123_456_789_012)
    assert other.flag
    assert other.cancel() == (NOTICE, 123_456_789_012)
    for deadline in (-1, -2, -3):  # it comes nearer
        later = Notice("cancel", f"now {deadline}!", "bob", 0.0, 2.0)
        board.set_cancel(later, deadline)
        assert other.flag
        assert other.cancel() == (later, deadline)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=2500)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(reason=TEXT, by=TEXT)
def test_any_reason_sets_the_flag_and_the_deadline(board: Board, other: Board, reason: str, by: str) -> None:
    """However long or strange: it is cut, and the cancel comes through."""
    board.memory[8] = 0
    board.set_cancel(Notice("cancel", reason, by, 1.5, 2.5), 42)
    assert other.flag
    found = other.cancel()
    assert found is not None
    assert found[1] == 42
    assert (found[0].kind, found[0].grace_s, found[0].asked_at) == ("cancel", 1.5, 2.5)
    assert reason.startswith(found[0].reason)
    assert by.startswith(found[0].by)
    assert len(found[0].reason) >= min(len(reason), 200)


@pytest.mark.parametrize("char", ["x", '"', "\\", "\0", "\x1f", "é", "€", "😀"])
def test_the_longest_reason_of_any_kind_of_character_is_cut(board: Board, char: str) -> None:
    """Also where each takes six bytes once it is written."""
    board.set_process(7, 8)
    for deadline in (42, 43):
        board.set_cancel(Notice("shutdown", char * 5000, char * 5000, 1e300, 1e300), deadline)
        assert board.cancel() == (Notice("shutdown", char * 200, char * 60, 1e300, 1e300), deadline)
    assert board.process() == (7, 8)  # what lies behind was not written over


def test_no_reason_whatever_keeps_the_flag_from_being_set(board: Board) -> None:
    """Not even text that cannot be written as UTF-8."""
    board.set_cancel(Notice("cancel", "a\ud800b", "\udfff", 1.0, 1.0), 42)
    assert board.flag
    assert board.cancel() == (Notice("cancel", "a?b", "?", 1.0, 1.0), 42)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(fraction=st.none() | st.floats(allow_nan=False), stage=st.text(max_size=600))
def test_any_progress_is_read_whole_or_cut_at_a_character(
    board: Board, other: Board, fraction: float | None, stage: str
) -> None:
    """A stage has 400 bytes at most; what cannot be written is replaced, not raised."""
    before = other.progress()[0]
    board.set_progress(fraction, stage)
    seq, found, text = other.progress()
    assert (seq, found) == (before + 1, fraction)
    whole = stage.encode("utf-8", "replace").decode()
    assert whole.startswith(text)
    assert len(text.encode()) <= 400
    assert text == whole or len(text.encode()) > 400 - 4


def test_a_fraction_that_is_no_number_is_unknown(board: Board) -> None:
    """NaN stands for "cannot tell"."""
    board.set_progress(math.nan, "x")
    assert board.progress() == (1, None, "x")


# --- two processes ------------------------------------------------------------------------------------------


def test_a_job_and_its_daemon_see_each_other(board: Board) -> None:
    """Across a fork and a second mapping, without a system call in between."""

    def job() -> None:
        mine = Board.open(board.path)
        mine.set_process(os.getpid(), 1)
        mine.set_progress(0.5, "half")
        wait_until(lambda: mine.flag, "the flag")
        found = mine.cancel()
        assert found == (NOTICE, 99)
        mine.stamp_noticed(found[1])

    with child(job) as pid:
        wait_until(lambda: board.progress()[0], "progress")
        assert board.process() == (pid, 1)
        assert board.progress() == (1, 0.5, "half")
        board.set_cancel(NOTICE, 99)
        assert ended(pid) == 0
    assert board.noticed_at == 99


def test_the_flag_is_never_seen_before_the_reason(tmp_path: Path) -> None:
    """Whoever sees the flag finds the deadline (C7), however close behind."""
    paths = [tmp_path / str(number) for number in range(100)]
    boards = [Board.create(path) for path in paths]

    def job() -> None:
        for number, one in enumerate(boards):
            while not one.memory[8]:
                pass
            assert one.cancel() == (NOTICE, number + 1)
            one.stamp_noticed(1)

    with child(job) as pid:
        for number, one in enumerate(boards):
            one.set_cancel(NOTICE, number + 1)
            wait_until(lambda one=one: one.noticed_at or not alive(pid), "the job")
        assert ended(pid) == 0
    for one in boards:
        one.close()


def test_a_pair_of_fraction_and_stage_is_never_torn(board: Board) -> None:
    """With a writer that never rests, each pair read is one that was written."""

    def job() -> None:
        for number in itertools.cycle(range(1000)):
            board.set_progress(number / 1000, f"{number}" * 50)

    with child(job):
        wait_until(lambda: board.progress()[0], "the writer")
        seen: set[int] = set()
        for _ in iter(lambda: len(seen) < 300, False):
            seq, fraction, stage = board.progress()
            seen.add(seq)
            assert fraction is not None
            assert stage == f"{round(fraction * 1000)}" * 50


def test_the_counter_never_goes_back(board: Board) -> None:
    """It counts the reports, so a changed number always means news."""
    seen = [board.progress()[0]]
    for _ in range(5):
        board.set_progress(None, "")
        seen.append(board.progress()[0])
    assert seen == list(range(6))


def test_the_counter_is_never_seen_to_go_back(board: Board) -> None:
    """It is written at once: no reader finds it half written or cleared, wherever the writer is or was killed."""

    def job() -> None:
        while True:
            board.set_progress(None, "")

    with child(job):
        wait_until(lambda: board.progress()[0], "the writer")
        seen = [int.from_bytes(board.memory[_REPORTS : _REPORTS + 8], sys.byteorder) for _ in range(100_000)]
    assert seen == sorted(seen)


class DyingInTheMiddle(Board):
    """Killed between two bytes of a text, as by SIGKILL in the middle of a copy."""

    __slots__ = ()

    def _put_bytes(self, where: int, data: bytes) -> None:
        super()._put_bytes(where, data)
        self._map[where + 2 + len(data) // 2 : where + 2 + len(data)] = bytes(len(data) - len(data) // 2)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_writer_that_was_killed_in_a_write_leaves_the_last_whole_pair(board: Board) -> None:
    """What it never finished was never said; the next report is read as any."""
    board.set_progress(0.25, "before")

    def job() -> None:
        DyingInTheMiddle.open(board.path).set_progress(0.5, "never finished")

    with child(job) as pid:
        assert ended(pid) == -signal.SIGKILL
    assert board.progress() == (1, 0.25, "before")
    board.set_progress(0.75, "after")
    assert board.progress() == (2, 0.75, "after")


def test_a_writer_that_was_stopped_in_a_write_leaves_the_last_whole_pair(board: Board) -> None:
    """By SIGSTOP, or because it lost its core: nobody waits for it."""
    board.set_progress(0.25, "before")

    class Stopping(str):
        __slots__ = ()

        def encode(self, *args: str) -> bytes:
            os.kill(os.getpid(), signal.SIGSTOP)
            return super().encode(*args)

    with child(lambda: board.set_progress(0.5, Stopping("later"))) as pid:
        os.waitpid(pid, os.WUNTRACED)
        assert board.progress() == (1, 0.25, "before")
        os.kill(pid, signal.SIGCONT)
        assert ended(pid) == 0
    assert board.progress() == (2, 0.5, "later")


def test_reports_of_two_threads_do_not_mix(board: Board) -> None:
    """A job's context takes them one after the other, from whichever thread they come."""
    notifier = Notifier("/nowhere", LAUNCH.name)
    context = JobContext(LAUNCH, None, board, JobSignal._new(), notifier)
    second = threading.Thread(target=context.progress, args=(0.9, "nine"))

    class Interrupted(str):
        __slots__ = ()

        def encode(self, *args: str) -> bytes:
            second.start()
            second.join(0.05)  # it cannot end before this one has; without a lock it would
            return super().encode(*args)

    context.progress(0.1, Interrupted("one"))
    second.join()
    notifier._socket.close()
    assert board.progress() == (2, 0.9, "nine")


@contextmanager
def interrupted(step: int, act: Callable[[], object]) -> Iterator[None]:
    """`act` is done before the line number `step` that `set_progress` runs, as by a signal handler."""
    left = step

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == -1:
                act()
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code is Board.set_progress.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_a_report_within_a_report_does_not_mix(board: Board) -> None:
    """A signal handler of the job's may report between any two steps of another report: one of the two is left."""
    nested: list[tuple[float | None, str]] = []

    def handler() -> None:
        board.set_progress(0.9, "nine")
        nested.append(board.progress()[1:])

    for step in itertools.count():
        board.set_progress(0.5, "before")
        with interrupted(step, handler):
            board.set_progress(0.1, "one")
        assert board.progress()[1:] in ((0.1, "one"), (0.9, "nine"))
        if len(nested) == step:  # it has no further step
            break
    assert len(nested) > 3
    assert set(nested) == {(0.9, "nine")}


def test_a_daemon_killed_while_it_writes_the_first_cancel_has_set_no_flag(board: Board) -> None:
    """The flag is last: what was not written to the end was not said, and the next daemon says it."""

    def daemon() -> None:
        DyingInTheMiddle.open(board.path).set_cancel(NOTICE, 99)

    with child(daemon) as pid:
        assert ended(pid) == -signal.SIGKILL
    assert not board.flag
    assert board.cancel() is None
    board.set_cancel(NOTICE, 100)
    assert board.cancel() == (NOTICE, 100)


def test_a_daemon_killed_while_it_writes_a_second_cancel_leaves_the_first(board: Board) -> None:
    """The job, and the next daemon, find the last reason and deadline that were whole (C1, C6)."""
    board.set_cancel(NOTICE, 99)
    later = Notice("cancel", "hurry up" * 20, "bob", 1.0, 2.0)

    def daemon() -> None:
        DyingInTheMiddle.open(board.path).set_cancel(later, 98)

    with child(daemon) as pid:
        assert ended(pid) == -signal.SIGKILL
    assert board.cancel() == (NOTICE, 99)
    board.set_cancel(later, 97)
    assert board.cancel() == (later, 97)


def test_a_board_for_which_there_is_no_space_is_an_error_at_once(path: Path) -> None:
    """Not a SIGBUS later, in the middle of a cancel; and no file is left that the next try would stumble over."""

    def daemon() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, SIZE - 1))
        with pytest.raises(OSError):
            Board.create(path)

    with child(daemon) as pid:
        assert ended(pid) == 0
    assert not path.exists()


def test_the_flag_is_one_byte_of_the_mapping(board: Board) -> None:
    """What the job's signal looks at is this byte and nothing else."""
    assert isinstance(board.memory, mmap.mmap)
    board.set_cancel(NOTICE, 1)
    assert board.memory[8] == 1
