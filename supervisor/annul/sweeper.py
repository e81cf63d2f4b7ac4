"""Deleting directories a bounded number of files at a time, so that no cancel waits for a big one.

Owned by the loop thread.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

_STEP = 200  # files and directories in one turn


class Sweeper:
    """Directories that are to go."""

    def __init__(self) -> None:
        self._paths: deque[Path] = deque()

    def add(self, path: Path) -> None:
        """Delete this, sometime soon. Empty (or absent) it is done at once."""
        try:
            path.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            self._paths.append(path)

    @property
    def waiting(self) -> bool:
        return bool(self._paths)

    def step(self) -> None:
        """Delete some more."""
        left = _STEP
        while left > 0 and self._paths:
            left = _delete(self._paths[0], left)
            if left > 0 or not self._paths[0].exists():
                self._paths.popleft()


def _delete(top: Path, left: int) -> int:
    """Delete up to `left` entries below `top`, and it; returns how many more there might have been."""
    try:
        for folder, folders, files in os.walk(top, topdown=False, followlinks=False):
            for name in (*files, *(one for one in folders if Path(folder, one).is_symlink())):
                Path(folder, name).unlink(missing_ok=True)
                left -= 1
                if left <= 0:
                    return 0
            Path(folder).rmdir()
            left -= 1
            if left <= 0:
                return 0
    except OSError:
        return left  # made unreadable by the job, or still being written to: left for the next start
    return left
