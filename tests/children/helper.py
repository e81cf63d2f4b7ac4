"""Starts a process when it is imported, and leaves it running: ``sleep $LANG``."""

from __future__ import annotations

import os
import subprocess

subprocess.Popen(["sleep", os.environ["LANG"]])
