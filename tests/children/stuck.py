"""Job types that only SIGKILL ends. `--jobs children.stuck`; each says `stuck` as its stage."""

from __future__ import annotations

import ctypes
import signal
import threading
import time

import msgspec

from annul import JobContext, job


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def wait_for_ever() -> None:
    threading.Event().wait()


def lock_twice() -> None:
    """Wait in C, with the GIL held, for a mutex that this very thread holds."""
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    mutex = ctypes.create_string_buffer(64)  # zeros: PTHREAD_MUTEX_INITIALIZER
    lock(mutex)
    lock(mutex)


@job("sleeps-on", grace_s=0.2, on_shutdown="cancel")
def sleeps_on(ctx: JobContext, params: Nothing) -> None:
    """Ignore SIGTERM, in a sleep in C."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.progress(None, "stuck")
    time.sleep(3600)


@job("holds-gil", grace_s=0.2, on_shutdown="cancel")
def holds_gil(ctx: JobContext, params: Nothing) -> None:
    """Hold the GIL in C, in the main thread, beside others that wait."""
    for name in ("one", "two"):
        threading.Thread(target=wait_for_ever, name=name).start()
    ctx.progress(None, "stuck")
    lock_twice()


@job("thread-holds-gil", grace_s=0.2, on_shutdown="cancel")
def thread_holds_gil(ctx: JobContext, params: Nothing) -> None:
    """Hold the GIL in C in a thread, so that the main thread never comes to hear of it."""
    threading.Thread(target=wait_for_ever, name="one").start()
    ctx.progress(None, "stuck")
    threading.Thread(target=lock_twice, name="two").start()
    time.sleep(3600)
