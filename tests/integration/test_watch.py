"""`annul watch` on a pseudo-terminal, with a real daemon behind it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from annul_client import Client, State
from harness import DaemonProcess, started, wait_until
from terminal import Terminal

ANNUL = str(Path(sys.executable).with_name("annul"))
SPINS = "echo spinning; while :; do :; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture
def watch(daemon: DaemonProcess) -> Iterator[Callable[..., Terminal]]:
    """Starts `annul watch`, and waits for its first table."""
    opened: list[Terminal] = []

    def start(*args: str) -> Terminal:
        env = {**os.environ, "ANNUL_ENDPOINT": daemon.endpoint}
        terminal = Terminal([ANNUL, "watch", *args], env)
        opened.append(terminal)
        terminal.wait_for("q quit")
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


def running(client: Client, script: str, **terms: Any) -> str:
    """The id of a command that runs, and has said its first words."""
    job = client.submit("exec", {"argv": ["sh", "-c", script]}, **terms)
    wait_until(lambda: client.logs(job.id), "the command to say something")
    return job.id


def assert_restored(terminal: Terminal) -> None:
    """The program has ended well, and the terminal is as it was: settings, screen and cursor."""
    assert terminal.wait() == 0, terminal.drawn
    assert terminal.settings() == terminal.before
    assert terminal.drawn.count("\x1b[?1049h") == terminal.drawn.count("\x1b[?1049l") == 1
    assert terminal.drawn.rindex("\x1b[?25h") > terminal.drawn.rindex("\x1b[?25l")


def test_a_running_job_is_shown_with_what_its_tree_takes(client: Client, watch: Callable[..., Terminal]) -> None:
    """State, progress, age, processor and memory; the processor is that of a child, not of the leader."""
    job_id = running(client, SPINS, user="ann", title="turning")
    terminal = watch()
    row = re.compile(rf"{job_id} +exec +running +ann +[\d.]+ s +([\d,]+) % +([\d,]+) MiB .*turning")
    terminal.wait_until(lambda shown: (m := row.search(shown)) and int(m[1]) >= 5, "the row of a busy job")
    found = row.search(terminal.shows())
    assert found is not None
    assert int(found[2].replace(",", "")) >= 1
    assert "1 running" in terminal.shows()
    terminal.press("q")
    assert_restored(terminal)
    assert client.get(job_id).state is State.RUNNING


def test_a_key_cancels_the_selected_job_once_it_is_confirmed(client: Client, watch: Callable[..., Terminal]) -> None:
    """`c` asks, `n` takes it back, `y` does it; who it was is recorded, and the others go on."""
    first, second = running(client, STUBBORN), running(client, "echo on; exec sleep 1000")
    terminal = watch()
    terminal.wait_until(lambda shown: shown.count("running  ") >= 2, "both jobs")
    terminal.press("jc")  # the second row: the younger one
    terminal.wait_for(f"cancel: {second} exec?")
    terminal.press("n")
    terminal.wait_until(lambda shown: "cancel:" not in shown, "the question to be taken back")
    assert client.get(second).state is State.RUNNING
    terminal.press("cy")
    ended = client.wait(second, 20)
    assert (ended.state, ended.cancel and ended.cancel.reason) == (State.CANCELLED, "annul watch")
    terminal.wait_until(lambda shown: re.search(rf"{second} +exec +cancelled", shown), "the end to be shown")
    assert client.get(first).state is State.RUNNING
    terminal.press("q")
    assert_restored(terminal)


def test_a_second_cancel_kills_at_once(client: Client, watch: Callable[..., Terminal]) -> None:
    """Of a job that is being stopped already the question is another, and so is the grace."""
    job_id = running(client, STUBBORN)
    client.cancel(job_id, grace_s=300)
    terminal = watch()
    terminal.wait_for("cancelling")
    terminal.press("c")
    terminal.wait_for(f"kill at once: {job_id}")
    terminal.press("y")
    ended = client.wait(job_id, 20)
    assert ended.cancel is not None
    assert ended.cancel.stage == "sigkill"
    assert ended.cancel.grace_s < 300


def test_a_log_is_read_as_it_grows(client: Client, watch: Callable[..., Terminal], tmp_path: Path) -> None:
    """`l` shows it, what comes later follows, control characters are not the terminal's; q goes back to the table."""
    gate = tmp_path / "gate"
    script = f"printf 'one\\033[31m\\n'; while [ ! -e {gate} ]; do sleep 0.05; done; echo two; exec sleep 1000"
    job_id = running(client, script)
    terminal = watch()
    terminal.press("l")
    terminal.wait_for("one [31m")
    assert f"log of {job_id}" in terminal.shows()
    gate.touch()
    terminal.wait_for("two")
    terminal.press("q")
    terminal.wait_for("q quit")
    terminal.press("q")
    assert_restored(terminal)


def test_it_goes_on_over_a_restart_of_the_daemon(
    daemon: DaemonProcess, client: Client, watch: Callable[..., Terminal]
) -> None:
    """The daemon is killed and started again: what happens after that is shown, and keys work."""
    old = running(client, "echo on; exec sleep 1000")
    terminal = watch()
    terminal.wait_for(old)
    daemon.kill()
    daemon.start()
    job = started(client, "reporter", "ready", {"mark": str(daemon.base / "never")})
    terminal.wait_for(job.id)
    terminal.press("cy")  # the first row: the old job, adopted
    assert client.wait(old, 20).state is State.CANCELLED
    terminal.wait_until(lambda shown: re.search(rf"{old} +exec +cancelled", shown), "the adopted job's end")
    terminal.press("q")
    assert_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_leave_the_terminal_as_it_was(watch: Callable[..., Terminal], number: signal.Signals) -> None:
    """Ctrl-C, a shutdown and a lost line quit as the key does."""
    terminal = watch()
    terminal.process.send_signal(number)
    assert_restored(terminal)


def test_it_sleeps_while_nothing_happens(client: Client, watch: Callable[..., Terminal]) -> None:
    """Without live jobs nothing is drawn, until there is news; with them it is about once a second."""
    terminal = watch()
    while terminal.read(0.5):
        pass  # the rest of the first table
    assert not terminal.read(1.5)
    job_id = running(client, "echo on; exec sleep 1000")
    terminal.wait_for(job_id)
    frames = terminal.drawn.count("\x1b[H")
    terminal.wait_until(lambda _: terminal.drawn.count("\x1b[H") >= frames + 3, "ages to go on")


def test_a_flood_of_events_is_drawn_a_few_times_a_second(client: Client, watch: Callable[..., Terminal]) -> None:
    """A hundred jobs come and go in fewer frames than there are jobs."""
    terminal = watch()
    frames = terminal.drawn.count("\x1b[H")
    ids = [one.job.id for one in client.submit_many([{"type": "quick"}] * 100) if one.job]
    for job_id in ids:
        client.wait(job_id)
    last = max((client.get(job_id) for job_id in ids), key=lambda job: job.finished_at or job.created_at)
    terminal.wait_until(lambda shown: re.search(rf"{last.id} +quick +completed", shown), "the last one's end")
    assert terminal.drawn.count("\x1b[H") - frames < 100


def test_without_a_terminal_it_says_what_to_do(daemon: DaemonProcess, client: Client) -> None:
    """A pipe gets an error that names --once; --once and --json print what there is."""
    job_id = running(client, SPINS, title="turning")

    def annul(*args: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "ANNUL_ENDPOINT": daemon.endpoint}
        return subprocess.run(
            [ANNUL, *args], env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    refused = annul("watch")
    assert (refused.returncode, "--once" in refused.stderr) == (2, True)
    once = annul("watch", "--once")
    assert once.returncode == 0, once.stderr
    assert re.search(rf"{job_id} +exec +running .* % +[\d,]+ MiB .*turning", once.stdout), once.stdout
    (job,) = msgspec.json.decode(annul("watch", "--json").stdout)["jobs"]
    assert (job["id"], job["cpu"] > 0.05, job["memory_bytes"] > 2**20) == (job_id, True, True)
    assert annul("watch", "--once", "--user", "nobody").stdout == ""
