"""Job types that are inside a library when they are cancelled: `--jobs children.libraries`.

Each says `ready` as its stage when it is about to begin, and writes to its mark when it cleans up, once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import fcntl
import multiprocessing
import os
import queue
import re
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from annul import JobContext, job

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]
ASK: dict[str, Any] = {"model": "gpt-test", "messages": [{"role": "user", "content": "Hello"}]}


class Inside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    how: str
    mark: str  # path of a file the job writes to
    path: str = ""  # of a PDF
    url: str = ""  # of an OpenAI-compatible server


def hang() -> None:
    time.sleep(3600)


# --- ways to wait in the standard library -------------------------------------------------------------------


def run_subprocess() -> None:
    subprocess.run(SLEEP, check=False, timeout=3600)


def communicate() -> None:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.communicate(b"x" * 1_000_000)  # more than a pipe takes
        finally:
            process.kill()


def check_output() -> None:
    subprocess.check_output(SLEEP)


def executemany() -> None:
    """Many rows, in transactions of their own."""
    with contextlib.closing(sqlite3.connect("rows.db")) as connection:
        connection.execute("CREATE TABLE row (number)")
        while True:
            with connection:
                connection.executemany("INSERT INTO row VALUES (?)", ((number,) for number in range(100)))


def urlopen() -> None:
    """A server that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/")


def recv() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def future() -> None:
    concurrent.futures.ThreadPoolExecutor().submit(hang).result()


def join() -> None:
    thread = threading.Thread(target=hang)
    thread.start()
    thread.join()


def get() -> None:
    queue.Queue[None]().get()


def acquire() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def event() -> None:
    threading.Event().wait()


def select_nothing() -> None:
    read, _ = os.pipe()
    select.select([read], [], [])


def read_line() -> None:
    read, _ = os.pipe()
    sys.stdin = os.fdopen(read)
    input()


def flock() -> None:
    with Path("lock").open("w") as first, Path("lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)


def match() -> None:
    """It would take until the end of time."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def process_pool() -> None:
    """Its ``with`` block ends the workers."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(time.sleep, [3600, 3600])


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        *(hang, run_subprocess, communicate, check_output, executemany, urlopen, recv, future, join, get, acquire),
        *(event, select_nothing, read_line, flock, match, process_pool),
    )
}


def noting(params: Inside, text: str) -> None:
    with Path(params.mark).open("a") as file:
        file.write(text + "\n")


@job("inside", grace_s=30, on_shutdown="cancel")
def inside(ctx: JobContext, params: Inside) -> None:
    """Wait in that way."""
    try:
        ctx.progress(None, "ready")
        WAYS[params.how]()
    finally:
        noting(params, "cleaned up")


# --- pypdf and openai ---------------------------------------------------------------------------------------


@job("extract", grace_s=30, on_shutdown="cancel", preload=("pypdf",))
def extract(ctx: JobContext, params: Inside) -> None:
    """Extract a PDF's text with pypdf, again and again."""
    from pypdf import PdfReader

    try:
        ctx.progress(None, "ready")
        while True:
            for page in PdfReader(params.path).pages:
                page.extract_text()
    finally:
        noting(params, "cleaned up")


@job("ask", grace_s=30, on_shutdown="cancel", preload=("openai",))
def ask(ctx: JobContext, params: Inside) -> None:
    """Ask with the synchronous client, its retries as they are by default."""
    from openai import OpenAI

    def whole() -> None:
        OpenAI(base_url=params.url, api_key="sk-test").chat.completions.create(**ASK)

    def stream() -> None:
        for _ in OpenAI(base_url=params.url, api_key="sk-test").chat.completions.create(**ASK, stream=True):
            pass

    def in_thread(call: Callable[[], None]) -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    ways: dict[str, Callable[[], None]] = {
        "whole": whole,
        "stream": stream,
        "thread": lambda: in_thread(whole),
        "thread-stream": lambda: in_thread(stream),
    }
    try:
        ways[params.how]()
    finally:
        noting(params, "cleaned up")


@job("ask-async", grace_s=30, on_shutdown="cancel", preload=("openai",))
async def ask_async(ctx: JobContext, params: Inside) -> None:
    """Ask with the asynchronous one."""
    from openai import AsyncOpenAI

    completions = AsyncOpenAI(base_url=params.url, api_key="sk-test").chat.completions
    try:
        if params.how == "whole":
            await completions.create(**ASK)
        elif params.how == "stream":
            async for _ in await completions.create(**ASK, stream=True):
                pass
        else:
            await asyncio.gather(*(completions.create(**ASK) for _ in range(3)))
    finally:
        noting(params, "cleaned up")
