"""What ``annul watch`` draws: a table of jobs, or the end of one job's log. rich is imported with this module."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from annul_client import wire
from annul_client.cli.out import printable

from .jobs import Watched
from .rows import COLUMNS, cells
from .usage import Used

_STYLES = {
    wire.State.CANCELLING: "yellow",
    wire.State.RUNNING: "green",
    wire.State.COMPLETED: "dim",
    wire.State.CANCELLED: "dim",
    wire.State.FAILED: "red",
}
_LIVE = [state for state in wire.State if not state.final]
_RIGHT = ("AGE", "CPU", "MEMORY")
_AROUND = 5  # lines that are not rows: two above, the table's head, two below


class Screen:
    """The whole terminal, from `start` to `stop`. Owned by the main thread; starts no other."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)

    @property
    def usable(self) -> bool:
        """Whether the terminal can be drawn on at all."""
        return not self._console.is_dumb_terminal

    @property
    def height(self) -> int:
        """Lines there are for rows."""
        return max(1, self._console.size.height - _AROUND)

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        """The terminal shows what it showed before."""
        self._live.stop()

    def draw_jobs(self, watched: Watched, used: dict[str, Used], said: str, keys: str) -> None:
        jobs, selected, now = watched.all(), watched.row(), datetime.now(UTC)
        top = max(0, min(selected - self.height // 2, len(jobs) - self.height))
        table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
        for name in COLUMNS:
            last = name == COLUMNS[-1]
            table.add_column(
                name,
                no_wrap=True,
                overflow="ellipsis",
                justify="right" if name in _RIGHT else "left",
                ratio=1 if last else None,
            )
        for row, job in enumerate(jobs[top : top + self.height], top):
            style = _STYLES.get(job.state, "")
            if row == selected:
                style += " reverse"
            table.add_row(*(Text(cell) for cell in cells(job, used.get(job.id), now)), style=style)
        counts = watched.counts()
        head = "  ".join(f"{count} {state}" for state in _LIVE if (count := counts[state]))
        self._draw(head or "nothing runs or waits", table, said, keys)

    def draw_log(self, title: str, lines: Sequence[str], back: int, said: str, keys: str) -> None:
        """`back`: how many lines before the end the last one is that is shown."""
        end = max(0, len(lines) - back)
        shown = lines[max(0, end - self.height) : end]
        body = Text("\n".join(printable(line.expandtabs()) for line in shown), no_wrap=True, overflow="crop")
        self._draw(title, body, said, keys)

    def _draw(self, head: str, body: RenderableType, said: str, keys: str) -> None:
        parts = [_line(head, "bold"), Text(), body, _line(said, "yellow"), _line(keys, "dim")]
        self._live.update(Group(*parts), refresh=True)


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
