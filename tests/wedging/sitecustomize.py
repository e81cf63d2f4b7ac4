"""Has the loop of a daemon hang, once the file `wedge` is in its state directory; it takes that away before.

On the PYTHONPATH of a daemon that is to be wedged: it hangs in Python code, in the main thread, with all else alive.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

if "serve" in sys.orig_argv:
    from annul import systemd

    turned = systemd.Watchdog.turned

    def wedged(self: Any, now: float, *, stopping: bool) -> None:
        mark = Path(os.environ["STATE_DIRECTORY"], "wedge")
        if mark.exists():
            mark.unlink()
            while True:
                time.sleep(3600)
        turned(self, now, stopping=stopping)

    systemd.Watchdog.turned = wedged  # type: ignore[method-assign]
