"""Starting jobs: what the daemon keeps ready, what that costs, and how fast jobs begin. Floors from the same run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import zmq

from annul_client import Client, State
from bench import floors
from bench.floors import repeat

IDLE_S = 0.05  # before each trial: caches are cold then, and processors asleep
IDLE_WATCH_S = float(os.environ.get("BENCH_IDLE_S", "20"))
HEAVY = ("pypdf", "openai")


def idle(once: Callable[[], float]) -> Callable[[], float]:
    def after_a_pause() -> float:
        time.sleep(IDLE_S)
        return once()

    return after_a_pause


# --- submit -> first line ---------------------------------------------------------------------------------------


def first_lines(client: Client, type_: str, count: int) -> list[float]:
    """submit -> first line of the job, the machine idle before. Seconds, sorted."""

    def once() -> float:
        start = time.monotonic_ns()
        job = client.wait(client.submit(type_).id)
        return (int(job.result) - start) / 1e9

    repeat(5, idle(once))
    return repeat(count, idle(once))


_ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
poller = zmq.Poller()
poller.register(socket, zmq.POLLIN)
while True:
    poller.poll()
    socket.send_multipart(socket.recv_multipart())
"""


def echoes(count: int) -> list[float]:
    """One round trip to a ROUTER that does nothing else, by ipc, in Python."""
    with tempfile.TemporaryDirectory(prefix="annul-b-") as folder:
        address = f"ipc://{folder}/echo"
        process = subprocess.Popen([sys.executable, "-c", _ECHO, address])
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(address)

        def once() -> float:
            start = time.perf_counter()
            dealer.send(b"x" * 200)
            dealer.recv()
            return time.perf_counter() - start

        try:
            repeat(5, once)
            return repeat(count, idle(once))
        finally:
            dealer.close(linger=0)
            context.term()
            process.kill()
            process.wait()


def commits(count: int) -> list[float]:
    """One durable commit of one row."""
    with tempfile.TemporaryDirectory(prefix="annul-b-") as folder, floors.store(Path(folder)) as commit:
        return repeat(count, idle(commit))


def hand_overs(count: int) -> list[float]:
    """Waking up a process that was forked before, and waits: the message is sent -> it has it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while theirs.recv(65536):
            os.write(write, time.monotonic_ns().to_bytes(8))
        os._exit(0)
    theirs.close()

    def once() -> float:
        start = time.monotonic_ns()
        ours.send(b"x" * 2000)
        return (int.from_bytes(os.read(read, 8)) - start) / 1e9

    try:
        return repeat(count, idle(once))
    finally:
        ours.close()
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


# --- empty jobs a second ----------------------------------------------------------------------------------------

_FORKS = """
import gc, importlib, os, sys, time
for module in ["annul.runtime.entry", *sys.argv[2:]]:
    importlib.import_module(module)
gc.collect()
gc.freeze()
count, live = int(sys.argv[1]), 0
start = time.perf_counter()
for _ in range(count):
    if live == 2:
        os.wait()
        live -= 1
    if os.fork() == 0:
        os._exit(0)
    live += 1
while live:
    os.wait()
    live -= 1
print(count / (time.perf_counter() - start))
"""


_FORKSERVER = """
import multiprocessing, os, select, sys, time
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(sys.argv[2:])

def start():
    process = context.Process(target=os.getpid)
    process.start()
    return process

start().join()
live, begin = [], time.perf_counter()
for _ in range(int(sys.argv[1])):
    if len(live) == 2:
        select.select([one.sentinel for one in live], [], [])
        live = [one for one in live if one.exitcode is None]
    live.append(start())
for one in live:
    one.join()
print(int(sys.argv[1]) / (time.perf_counter() - begin))
"""


def forks_per_second(count: int, modules: tuple[str, ...]) -> float:
    """Of a process that has imported what jobs' zygotes have: fork, exit, wait; two at a time."""
    return _per_second(_FORKS, count, modules)


def forkserver_per_second(count: int, modules: tuple[str, ...]) -> float:
    """The same by `multiprocessing`'s forkserver, in which those are preloaded."""
    return _per_second(_FORKSERVER, count, modules)


def _per_second(program: str, count: int, modules: tuple[str, ...]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program, str(count), *modules], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


# --- what an idle daemon costs ----------------------------------------------------------------------------------


def everyone(client: Client) -> dict[str, list[psutil.Process]]:
    """The daemon, its zygotes and their spares."""
    daemon = psutil.Process(client.ping().pid)
    zygotes = daemon.children()
    return {"daemon": [daemon], "zygotes": zygotes, "spares": [one for zygote in zygotes for one in zygote.children()]}


def pss_mib(processes: list[psutil.Process]) -> float:
    """Proportional memory: what several share counts once among them."""
    texts = [Path(f"/proc/{one.pid}/smaps_rollup").read_text() for one in processes]
    return sum(int(found[1]) for text in texts if (found := re.search(r"^Pss: +(\d+)", text, re.MULTILINE))) / 1024


def wake_ups(processes: list[psutil.Process]) -> tuple[float, float]:
    """(wake-ups a minute, CPU in percent of one processor) of all of them, while nobody asks for anything."""

    def taken() -> tuple[int, float]:
        switches, seconds = 0, 0.0
        for process in processes:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (thread / "status").read_text(), re.MULTILINE)
                assert found is not None
                switches += int(found[1])
                seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
        return switches, seconds

    time.sleep(1)  # whoever has just closed a connection has woken it up
    before, busy = taken()
    time.sleep(IDLE_WATCH_S)
    after, busier = taken()
    return (after - before) * 60 / IDLE_WATCH_S, (busier - busy) / IDLE_WATCH_S * 100


def settled(client: Client) -> dict[str, list[psutil.Process]]:
    """Once all zygotes have their two spares, and those wait."""
    while True:
        try:
            found = everyone(client)
            waiting = [one for one in found["spares"] if one.name() == "annul-spare" and one.status() == "sleeping"]
        except psutil.NoSuchProcess:  # what a zygote runs while it imports
            continue
        if len(waiting) == 2 * len(found["zygotes"]) > 0:
            return found
        time.sleep(0.1)


def empty_per_second(client: Client, type_: str, count: int) -> float:
    """Submitted at once; nobody looks before the last ones have ended."""
    start = time.perf_counter()
    ids = [one.job.id for one in client.submit_many([{"type": type_}] * count) if one.job is not None]
    for job_id in ids[-client.ping().max_running :]:
        client.wait(job_id)
    took = time.perf_counter() - start
    assert len(ids) == count
    assert all(client.get(job_id).state is State.COMPLETED for job_id in ids)
    return count / took


def rates(client: Client, type_: str, modules: tuple[str, ...], count: int) -> tuple[float, float]:
    """Empty jobs a second, and forks of the same image right after: of nine times the one with the median ratio."""
    both = [(empty_per_second(client, type_, count), forks_per_second(count, modules)) for _ in range(9)]
    return sorted(both, key=lambda one: one[0] / one[1])[4]
