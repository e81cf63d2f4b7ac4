"""SIGTERM is held back while the job forks: one sent to the child before it has put its own handler away waits there.

Without that it would be taken by the job's handler, which is not the child's, and lost. Programs that are run by
`subprocess` need no such thing: exec(2) resets handlers.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from functools import partial

# No Python function may be a hook here: a handler that ran in it would raise into nowhere. And no other wrapper of
# pthread_sigmask(3): Python's runs the handlers.
_libc = ctypes.PyDLL(None)
_SET_SIZE = 128  # bytes of glibc's sigset_t; musl's has as many


def hold_sigterm() -> None:
    """From now on, in this process and those it forks. Hooks that SIGTERM is to wait for in children come before."""
    sigterm, before = (ctypes.create_string_buffer(_SET_SIZE) for _ in range(2))
    _libc.sigemptyset(sigterm)
    _libc.sigaddset(sigterm, int(signal.SIGTERM))
    one_fork = threading.Lock()  # at a time: there is one `before`
    restore = partial(_libc.pthread_sigmask, signal.SIG_SETMASK.value, before, None)
    os.register_at_fork(
        before=partial(_libc.pthread_sigmask, signal.SIG_BLOCK.value, sigterm, before),
        after_in_parent=restore,
        after_in_child=restore,
    )
    # What is registered later comes first before a fork, and last after it.
    os.register_at_fork(before=one_fork.acquire, after_in_parent=one_fork.release, after_in_child=one_fork.release)
