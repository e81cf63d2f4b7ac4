"""What the standard library wants to be called at each fork, put off until a process needs it. To be imported before
`threading` and `logging` are.

They make their locks anew in each child, in case another thread holds one, and touch a hundred pages of memory for
that, which the child then has to copy: a tenth of the processor time of an empty job. A zygote has one thread, and
holds none of these locks while it forks. A job's process may have more threads, and may fork: it calls `register`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_put_off: list[dict[str, Any]] = []  # the arguments of os.register_at_fork


def _put_off_one(**hooks: Any) -> None:
    _put_off.append(hooks)


_register, os.register_at_fork = os.register_at_fork, _put_off_one
try:
    import logging  # noqa: F401
    import threading
finally:
    os.register_at_fork = _register


def register() -> None:
    """From now on they are called. In a forked process: before it runs anything that may start a thread."""
    # What they would have done that counts here.
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined] # noqa: SLF001
    for hooks in _put_off:
        os.register_at_fork(**hooks)
    _put_off.clear()


@contextmanager
def nothing_registered() -> Iterator[None]:
    """What is registered in here is forgotten, and what was put off still is."""
    real, os.register_at_fork = os.register_at_fork, lambda **_: None
    still = _put_off[:]
    try:
        yield
    finally:
        os.register_at_fork = real
        _put_off[:] = still
