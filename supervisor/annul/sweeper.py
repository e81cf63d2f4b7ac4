"""Deleting directories a bounded number of files at a time, so that no cancel waits for a big one.

What is deleted was a job's: links in it are removed, never followed, and directories that it made unreadable are opened
up. Owned by the loop thread.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

_log = logging.getLogger(__name__)
_STEP = 200  # entries in one turn
_DEPTH = 12  # open directories at once; what lies deeper is moved up first, so that no path gets too long


class Sweeper:
    """Directories that are to go."""

    def __init__(self) -> None:
        self._tops: deque[Path] = deque()
        self._open: list[tuple[Path, Iterator[os.DirEntry[str]]]] = []
        self._moved = 0

    def add(self, path: Path) -> None:
        """Delete this, sometime soon. What is empty, absent or no directory is gone at once."""
        try:
            if stat.S_ISDIR(path.lstat().st_mode):
                path.rmdir()
            else:
                path.unlink()
        except FileNotFoundError:
            pass
        except OSError:
            self._tops.append(path)

    @property
    def waiting(self) -> bool:
        return bool(self._tops or self._open)

    def step(self) -> None:
        """Delete some more."""
        for _ in range(_STEP):
            if self._open:
                folder, entries = self._open[-1]
                entry = next(entries, None)
                if entry is None:
                    self._open.pop()
                    if not self._open:  # a job may have closed what is around it, too
                        _attempt(partial(folder.parent.chmod, 0o700))
                    _attempt(folder.rmdir)
                elif entry.is_dir(follow_symlinks=False):
                    self._enter(Path(entry.path))
                else:
                    _attempt(Path(entry.path).unlink)
            elif self._tops:
                self._enter(self._tops.popleft())
            else:
                return

    def _enter(self, folder: Path) -> None:
        try:
            if folder.is_symlink():  # it could not be deleted before, or took the folder's place since
                folder.unlink()
                return
            folder.chmod(0o700)
            if len(self._open) >= _DEPTH:
                top = self._open[0][0]
                self._moved += 1
                self._tops.appendleft(folder.rename(top.with_name(f"{top.name}.sweep-{self._moved}")))
                return
            self._open.append((folder, os.scandir(folder)))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("deleting %s: %s; it stays", folder, error, extra={"action": "sweep"})


def _attempt(delete: Callable[[], None]) -> None:
    try:
        delete()
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("deleting: %s; it stays", error, extra={"action": "sweep"})
