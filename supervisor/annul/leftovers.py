"""Directories of jobs that are not in the store: left by a crash between a row and its directory.

Found by going once through all of them, a few each turn, since there may be a million. Owned by the loop thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from pathlib import Path

from annul.errors import StoreError
from annul.store import Store
from annul.sweeper import Sweeper

_log = logging.getLogger(__name__)
_STEP = 100  # directories in one turn


class Leftovers:
    """One search, from its first step to its last."""

    def __init__(self, jobs_dir: Path, store: Store, sweeper: Sweeper) -> None:
        self._jobs_dir = jobs_dir
        self._store = store
        self._sweeper = sweeper
        self._names = self._scan()
        self.waiting = True  # whether there is more to look at

    def step(self) -> None:
        """Look at some more. Only between two turns: then no job's directory is there before its row."""
        if not self.waiting:
            return
        try:
            for _ in range(_STEP):
                name = next(self._names, None)
                if name is None:
                    self.waiting = False
                    return
                if not self._store.knows(name):
                    self._sweeper.add(self._jobs_dir / name)
        except (OSError, StoreError) as error:
            self.waiting = False
            _log.warning("looking for directories of unknown jobs: %s; next start", error, extra={"action": "sweep"})

    def close(self) -> None:
        """Give the search up."""
        self.waiting = False
        self._names.close()

    def _scan(self) -> Generator[str, None, None]:
        with os.scandir(self._jobs_dir) as entries:
            for entry in entries:
                yield entry.name
