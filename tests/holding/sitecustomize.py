"""Stops a zygote, or a job's process, at one line between the fork and the first line of the job.

A test copies this file into a directory of its own, which it puts on the daemon's PYTHONPATH, and writes there for the
next launch:

``hold``   SIDE FILE LINE: the process writes its pid to ``held``, removes ``hold`` and stops itself (SIGSTOP)
``trace``  anything: the lines that are reached are appended to ``lines``, as SIDE FILE LINE

SIDE is ``zygote`` or ``child``, FILE is relative to annul's package. The zygote's lines are those of its fork.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
PACKAGE = "/supervisor/annul/"


class Tracer:
    """A trace function (`sys.settrace`), which the child inherits over the fork."""

    def __init__(self) -> None:
        self.zygote = os.getpid()
        self.wanted: list[str] = []
        self.tracing = False
        self.seen: dict[str, None] = {}

    def on_call(self, frame: FrameType, event: str, arg: object) -> Any:
        _, inside, file = frame.f_code.co_filename.rpartition(PACKAGE)
        if inside and file == "runtime/zygote.py" and frame.f_code.co_name == "_fork":
            self.wanted = (HERE / "hold").read_text().split() if (HERE / "hold").exists() else []
            self.tracing = (HERE / "trace").exists()
        if (not self.wanted and not self.tracing) or frame.f_code.co_name == "<lambda>":  # SIGCHLD's comes by chance
            return None
        if not inside and "/children/" in frame.f_code.co_filename and os.getpid() != self.zygote:
            sys.settrace(None)  # the job's own code
            if self.tracing:
                (HERE / "lines").write_text("\n".join(self.seen))
            return None
        return self.on_line if inside else None

    def on_line(self, frame: FrameType, event: str, arg: object) -> Any:
        in_zygote = os.getpid() == self.zygote
        file = frame.f_code.co_filename.rpartition(PACKAGE)[2]
        at = ["zygote" if in_zygote else "child", file, str(frame.f_lineno)]
        if event == "line":
            if self.tracing:
                self.seen[" ".join(at)] = None
            if at == self.wanted:
                self.hold()
        if event == "return" and in_zygote and frame.f_code.co_name == "_fork":
            if self.tracing:
                (HERE / "zygote-lines").write_text("\n".join(self.seen))
                (HERE / "trace").unlink()
            self.wanted, self.tracing, self.seen = [], False, {}
        return self.on_line

    def hold(self) -> None:
        self.wanted = []
        if os.getpid() != self.zygote:
            sys.settrace(None)
        (HERE / "hold").unlink()
        (HERE / "held.part").write_text(str(os.getpid()))
        (HERE / "held.part").rename(HERE / "held")
        os.kill(os.getpid(), signal.SIGSTOP)


if "annul.runtime.zygote" in sys.orig_argv:
    sys.settrace(Tracer().on_call)
