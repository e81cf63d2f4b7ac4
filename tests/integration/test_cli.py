"""The command line against a real daemon: what it prints, how it exits, and what Ctrl-C does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import msgspec
import pytest

from annul.tree import find_cgroup
from annul_client import CancelOutcome, CancelRecord, Client, ErrorInfo, Job, Stage, State
from annul_client.cli import exits, words
from annul_client.cli import run as run_here
from annul_client.cli.inputs import collect
from annul_client.cli.schema import described, fields_of
from harness import started, wait_until

ANNUL = str(Path(sys.executable).with_name("annul"))
TIMEOUT_S = 60
IGNORES_SIGTERM = "trap '' TERM; echo ready; while :; do sleep 1; done"


class Cli:
    """Runs `annul` with a daemon's address in its environment."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = {**os.environ, **env}

    def __call__(self, *args: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ANNUL, *args],
            env=self.env,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def json(self, *args: str, code: int = 0, stdin: str = "") -> Any:
        """The one document that a command prints with --json."""
        done = self(*args, stdin=stdin)
        assert done.returncode == code, done
        return msgspec.json.decode(done.stdout)

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen([ANNUL, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def cli(daemon: Any) -> Cli:
    return Cli({"ANNUL_ENDPOINT": daemon.endpoint})


@pytest.fixture
def embedded(short_dir: Path) -> Cli:
    """The command line with directories of its own and no daemon."""
    (short_dir / "tmp").mkdir()
    return Cli(
        {
            "ANNUL_STATE_DIR": str(short_dir / "state"),
            "ANNUL_RUNTIME_DIR": str(short_dir / "none"),
            "XDG_RUNTIME_DIR": str(short_dir / "tmp"),
            "ANNUL_ENDPOINT": "",
        }
    )


def new_job(client: Client, *states: State) -> str:
    """The id of the first job there is, once it is in one of these states."""
    for event in client.events(since=0):
        if event.job.state in states:
            return event.job.id
    raise AssertionError


# --- what the verbs print -----------------------------------------------------------------------------------


def test_exec_passes_the_output_on_and_exits_as_the_command_did(cli: Cli, tmp_path: Path) -> None:
    """The command runs here, with the variables it is given, and its output is all there is on stdout."""
    script = "pwd; echo $COLOR; echo err >&2"
    done = cli("exec", "--env", "COLOR=blue", "--", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}\nblue\nerr\n")
    assert cli("exec", "false").returncode == 1
    # What follows the command is its own.
    assert cli("exec", "echo", "--json", "--user", "x").stdout == "--json --user x\n"


def test_exec_reads_and_writes_files_beside_the_caller(cli: Cli, tmp_path: Path) -> None:
    """Paths are those of the caller's directory, not of the daemon's."""
    (tmp_path / "in").write_text("a line\n")
    done = cli("exec", "--stdin", "in", "--stdout", "out", "--", "cat", cwd=tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "out").read_text() == "a line\n"


def test_a_log_is_followed_through_each_attempt(cli: Cli, daemon: Any, tmp_path: Path) -> None:
    """From the first line of each to the end of the job; of one that was named, to the end of that."""
    mark = tmp_path / "mark"
    with daemon.client() as client:
        job_id = client.submit("shaky-when-told", {"mark": str(mark)}).id
    with cli.start("logs", "--follow", job_id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "in attempt 1\n"
        mark.touch()
        said, error = following.communicate(timeout=TIMEOUT_S)
    assert (following.returncode, error) == (0, "")
    assert re.findall(r"^in attempt \d|not_yet", said, re.MULTILINE) == [
        *("not_yet", "in attempt 2", "not_yet", "in attempt 3")
    ]
    assert cli("logs", "-f", "--attempt", "2", job_id).stdout.startswith("in attempt 2\n")


def test_exec_detached_prints_the_id_and_goes_on(cli: Cli) -> None:
    """The id is all that is on stdout, so that a script can use it."""
    job_id = cli("exec", "--detach", "--title", "t", "--", "echo", "hello").stdout.strip()
    done = cli("wait", job_id)
    assert (done.returncode, done.stdout.split()[:2]) == (0, [job_id, "completed"])
    assert cli("logs", job_id).stdout == "hello\n"
    assert cli("logs", "-f", job_id).stdout == "hello\n"
    assert job_id in cli("list").stdout
    shown = cli("show", job_id).stdout
    assert "completed" in shown
    assert "title" in shown


def test_run_prints_the_result_on_stdout_and_all_else_on_stderr(cli: Cli) -> None:
    """What is on stdout is JSON, nothing but."""
    done = cli("run", "exec", "true")
    assert done.returncode == 0, done
    assert msgspec.json.decode(done.stdout)["exit_code"] == 0
    assert "completed" in done.stderr


def test_parameters_come_from_options_from_a_file_and_from_stdin(cli: Cli, tmp_path: Path) -> None:
    """An option wins over the file."""
    (tmp_path / "p.json").write_text('{"argv": ["echo", "file"]}')
    from_file = cli.json("run", "exec", "--params", str(tmp_path / "p.json"), "--json")
    assert cli("logs", from_file["id"]).stdout == "file\n"
    from_stdin = cli.json("run", "--json", "exec", "--params", "-", stdin='{"argv": ["echo", "stdin"]}')
    assert cli("logs", from_stdin["id"]).stdout == "stdin\n"
    option = cli.json("run", "exec", "--params", str(tmp_path / "p.json"), "--json", "echo", "option")
    assert cli("logs", option["id"]).stdout == "option\n"


def test_common_options_may_stand_before_the_type_or_after_it(cli: Cli) -> None:
    """Both places count; after the type they win, and labels add up."""
    job = cli.json("run", "--user", "a", "--label", "x=1", "exec", "--user", "b", "--label", "y=2", "--json", "true")
    assert (job["user"], job["labels"]) == ("b", {"x": "1", "y": "2"})


def test_an_input_file_is_read_here_and_sent(cli: Cli, tmp_path: Path) -> None:
    """The daemon sees the bytes, not the caller's path; the name is kept as the title."""
    file = tmp_path / "some file.bin"
    file.write_bytes(b"x" * 4321)
    job = cli.json("run", "measure", "--json", str(file))
    assert (job["result"], job["title"]) == (4321, "some file.bin")


def test_help_lists_the_parameters_of_a_type(cli: Cli) -> None:
    """Help for a type comes from the daemon's description of it."""
    shown = cli("run", "import-pdf", "--help").stdout
    assert "PDF" in shown
    assert "--engine" in shown
    assert "--max-pages" in shown
    assert "import-pdf" in cli("run", "--help").stdout
    assert "--engine" not in cli("types").stdout
    assert "engine" in cli("types", "import-pdf").stdout


def test_a_result_is_printed_or_written_to_a_file(cli: Cli, tmp_path: Path) -> None:
    """`result` gives what the job gave; without one it is refused."""
    job_id = cli.json("run", "exec", "--json", "true")["id"]
    assert msgspec.json.decode(cli("result", job_id).stdout)["exit_code"] == 0
    assert cli("result", job_id, "-o", str(tmp_path / "r.json")).stdout == ""
    assert msgspec.json.decode((tmp_path / "r.json").read_bytes())["exit_code"] == 0
    failed = cli.json("run", "exec", "--json", "false", code=1)["id"]
    assert cli("result", failed).returncode == 7


# --- exit codes and errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["show", "nosuchjob"], 5, "not_found"),
        (["wait", "nosuchjob"], 5, "not_found"),
        (["logs", "nosuchjob"], 5, "not_found"),
        (["result", "nosuchjob"], 5, "not_found"),
        (["run", "no-such-type"], 7, "unknown_type"),
        (["submit", "no-such-type"], 7, "unknown_type"),
        (["types", "no-such-type"], 7, "unknown_type"),
        (["run", "import-pdf"], 2, "usage"),
        (["run", "import-pdf", "/no/such/file.pdf"], 2, "usage"),
        (["run", "import-pdf", "/dev/null", "--max-pages", "many"], 2, "usage"),
        (["run", "import-pdf", "/dev/null", "--max-pages", "0"], 7, "invalid_params"),
        (["submit", "exec", "--user", "../../x", "true"], 7, "invalid_user"),
        (["run", "import-pdf", "/dev/zero"], 7, "too_big"),
        (["cancel"], 2, "usage"),
        (["cancel", "id", "--user", "u"], 2, "usage"),
        (["submit", "exec", "--label", "novalue", "true"], 2, "usage"),
        (["submit", "exec", "--not-before", "soon", "true"], 2, "usage"),
        (["submit", "exec", "--params", "/no/such/file", "true"], 2, "usage"),
        (["nosuchverb"], 2, "usage"),
    ],
)
def test_errors_have_their_exit_code_and_are_json_where_asked(cli: Cli, args: list[str], code: int, error: str) -> None:
    """People read the error on stderr; --json makes it one document on stdout; the exit code is the same."""
    done = cli(*args)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert cli.json(*args, "--json", code=code)["error"]["code"] == error


def test_a_refusal_names_the_parameter(cli: Cli) -> None:
    """Whoever got it wrong is told which one it was."""
    found = cli.json("run", "import-pdf", "/dev/null", "--max-pages", "0", "--json", code=7)
    assert "max_pages" in found["error"]["field"]


@pytest.mark.parametrize(
    "args",
    [
        ["ping"],
        ["list"],
        ["types"],
        ["show", "x"],
        ["wait", "x"],
        ["cancel", "x"],
        ["result", "x"],
        ["logs", "x"],
        ["run", "exec", "true"],
        ["submit", "exec", "true"],
        ["exec", "true"],
        ["pause", "x"],
        ["unpause", "x"],
        ["reprioritize", "x", "-1"],
        ["retry", "x"],
        ["drain"],
        ["resume"],
        ["stats"],
    ],
)
def test_without_a_daemon_every_verb_says_how_to_start_one(short_dir: Path, args: list[str]) -> None:
    """Exit code 3, at once."""
    done = Cli({"ANNUL_ENDPOINT": f"ipc://{short_dir}/none.sock"})(*args)
    assert done.returncode == 3
    assert "annul serve" in done.stderr


def test_every_verb_prints_one_json_document(cli: Cli) -> None:
    """`--json` on all of them, on stdout, exactly one document."""
    job_id = cli.json("submit", "exec", "--json", "true")["id"]
    assert cli.json("wait", job_id, "--json")["state"] == "completed"
    assert cli.json("show", job_id, "--json")["id"] == job_id
    assert cli.json("list", "--json")["jobs"][0]["id"] == job_id
    assert cli.json("list", "--json", "--state", "failed")["jobs"] == []
    assert cli.json("result", job_id, "--json")["result"]["exit_code"] == 0
    assert cli.json("logs", job_id, "--json")["text"] == ""
    assert cli.json("cancel", job_id, "--json")["outcome"] == "already_final"
    assert cli.json("cancel", "nosuchjob", "--json", code=5)["outcome"] == "not_found"
    assert cli.json("ping", "--json")["pid"] > 0
    assert cli.json("types", "--json")["types"]
    assert cli.json("types", "exec", "--json")["name"] == "exec"
    assert cli.json("exec", "--json", "--", "echo", "hello")["state"] == "completed"
    assert cli.json("drain", "--json")["draining"] is True
    assert cli.json("ping", "--json")["draining"] is True
    queued = cli.json("submit", "exec", "--json", "true")["id"]
    assert cli.json("pause", queued, "--json")["paused"] is True
    assert "queued, paused" in cli("list").stdout
    assert "queued, paused" in cli("show", queued).stdout
    assert cli.json("unpause", queued, "--json")["paused"] is False
    assert cli.json("reprioritize", queued, "-3", "--json")["priority"] == -3
    assert cli.json("cancel", queued, "--json")["outcome"] == "cancelled_before_start"
    again = cli.json("retry", queued, "--json")
    assert again["retry_of"] == queued
    assert cli.json("stats", "--json")["by_type"] == {"exec": {"queued": 1}}
    assert "draining" in cli("stats").stdout
    assert cli.json("resume", "--json")["draining"] is False
    assert cli.json("wait", again["id"], "--json")["state"] == "completed"
    assert cli.json("pause", queued, "--json", code=7)["error"]["code"] == "not_pausable"
    assert cli.json("config", "show", "--json")["settings"]["spares"]["source"] == "default"
    assert cli.json("exec", "--json", "--detach", "--", "true")["state"] == "queued"


def test_a_time_out_of_the_wait_or_of_the_job_is_6(cli: Cli) -> None:
    """`wait` gives up, and a job that ran out of its own time says so."""
    job_id = cli("exec", "--detach", "--", "sleep", "1000").stdout.strip()
    assert cli("wait", job_id, "--timeout", "0.1").returncode == 6
    assert cli("cancel", job_id, "--grace", "0", "--wait").returncode == 0
    assert cli("exec", "--timeout", "0.2", "--", "sleep", "1000").returncode == 6


def test_a_reader_that_has_enough_ends_it_without_a_word(cli: Cli) -> None:
    """`annul … | head` does not end in a traceback."""
    done = subprocess.run(
        f"{ANNUL} exec -- seq 1000000 | head -n 1", shell=True, env=cli.env, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


# --- doctor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["session", "cgroup"])
def test_doctor_looks_at_this_machine_and_at_the_daemon(make_daemon: Any, short_dir: Path, how: str) -> None:
    """Before, while and after a daemon runs there: what it found, and how trees are found. Nothing is changed."""
    if how == "cgroup" and find_cgroup() is None:
        pytest.skip("there is no writable cgroup v2 directory for this process")
    daemon = make_daemon("--tree", how)
    cli = Cli({"ANNUL_STATE_DIR": str(daemon.state_dir), "ANNUL_RUNTIME_DIR": str(daemon.runtime_dir)})
    options = ["doctor", "--tree", how, "--jobs", "children.jobs"]
    cli.env["PYTHONPATH"] = daemon._path()

    def said(check: str) -> list[tuple[str, str]]:
        checks = cli.json(*options, "--json")["checks"]
        return [(one["level"], one["found"]) for one in checks if one["check"] == check]

    assert said("daemon") == [("info", "none runs here")]
    assert not daemon.state_dir.exists()
    daemon.start()
    ((level, found),) = said("daemon")
    assert (level, f"trees by {how}" in found) == ("ok", True)
    ((_, found),) = said("tree")
    assert found.startswith(f"by {how}")
    shown = cli(*options)
    assert shown.returncode == 0
    assert f"trees by {how}" in shown.stdout
    assert ("a process is missed" in shown.stdout) is (how == "session")
    assert "sleepy" in shown.stdout  # of the module that it was told of
    daemon.stop()
    assert said("daemon") == [("info", "none runs here")]


def test_doctor_exits_1_where_the_daemon_would_not_start(short_dir: Path) -> None:
    """What is wrong is said, in text and as JSON; what cannot be asked is a usage error, as everywhere."""
    cli = Cli({"ANNUL_STATE_DIR": str(short_dir / "state"), "ANNUL_RUNTIME_DIR": "/" + "x" * 200})
    shown = cli("doctor")
    assert (shown.returncode, shown.stderr) == (1, "")
    assert any(line.startswith("error    runtime") for line in shown.stdout.splitlines())
    report = cli.json("doctor", "--json", code=1)
    assert report["ok"] is False
    assert [one["check"] for one in report["checks"] if one["level"] == "error"] == ["runtime"]
    (short_dir / "annul.toml").write_text("max_running = 0")
    assert "max_running" in cli("doctor", "--config", str(short_dir / "annul.toml")).stdout
    assert cli("doctor", "--no-such-option").returncode == 2
    assert cli("--endpoint", "ipc:///none", "doctor").returncode == 2
    assert "--state-dir" in cli("doctor", "--help").stdout
    assert os.listdir(short_dir) == ["annul.toml"]


# --- cancelling ---------------------------------------------------------------------------------------------


def test_cancel_tells_in_words_how_the_job_ended(cli: Cli) -> None:
    """The cancel record, with who, why and how long each step took."""
    job_id = cli("exec", "--detach", "--", "sleep", "1000").stdout.strip()
    done = cli("cancel", job_id, "--reason", "wrong file", "--wait")
    assert done.returncode == 0
    assert "cancelled" in done.stdout
    shown = cli("show", job_id).stdout
    assert "wrong file" in shown
    assert "asked +0 ms" in shown
    assert cli("wait", job_id).returncode == 4
    assert cli("cancel", job_id).returncode == 0
    assert cli("cancel", "nosuchjob").returncode == 5


MS = r"\+\d+(\.\d)?"
TOLD = f"asked \\+0 ms, flag {MS}, SIGTERM {MS}, noticed {MS}, tree empty {MS}; ended by sigterm"
KILLED_AFTER = f"asked \\+0 ms, flag {MS}, SIGTERM {MS}, SIGKILL {MS}, tree empty {MS}; ended by sigkill"


@pytest.fixture
def stopped(make_daemon: Any) -> Iterator[Any]:
    """Runs a job, cancels it once it has said where it is, and gives its id, and what `show` prints of its end."""
    daemon = make_daemon("--jobs", "children.stuck", "--max-running", "4")
    daemon.start()
    cli = Cli({"ANNUL_ENDPOINT": daemon.endpoint})
    with daemon.client() as client:

        def stop(
            type_: str, at: str | None, params: Any = None, grace_s: float | None = None, **options: Any
        ) -> tuple[str, list[str]]:
            job = client.submit(type_, params or {}, **options)
            if at is not None:
                wait_until(lambda: client.get(job.id).progress.stage == at, f"{type_} to be {at}")
            if "timeout_s" not in options:
                client.cancel(job.id, reason="wrong file", by="ann", grace_s=grace_s)
            assert client.wait(job.id, 20).state.final
            lines = cli("show", job.id).stdout.splitlines()
            (first,) = [number for number, line in enumerate(lines) if line.startswith("stopped")]
            recorded = cli.json("show", job.id, "--json")["cancel"]["stuck_at"].splitlines()
            assert [line for line in recorded if line] == [line[12:] for line in lines[first + 2 :]]
            return job.id, lines[first:]

        stop.cli = cli  # type: ignore[attr-defined]
        yield stop


def test_show_draws_the_timeline_of_a_job_that_listened(stopped: Any) -> None:
    """In a sleep in C, in a coroutine, with grace 0, out of time: each step in its order, with its time."""
    _, (who, steps) = stopped("sleepy", "sleeping")
    assert who == "stopped     by ann, “wrong file”, grace 5 s"
    assert re.fullmatch(f" {{12}}{TOLD}", steps), steps
    _, (_, steps) = stopped("asleep", "sleeping", {"mark": "/dev/null"})
    assert re.fullmatch(f" {{12}}{TOLD}", steps), steps
    _, (_, steps) = stopped("sleepy", "sleeping", grace_s=0)
    assert re.fullmatch(f" {{12}}asked \\+0 ms, flag {MS}, SIGKILL {MS}, tree empty {MS}; ended by sigkill", steps), (
        steps
    )
    _, (who, steps) = stopped("sleepy", "sleeping", timeout_s=0.5)
    assert who == "stopped     by annul, out of time, grace 5 s"
    assert re.fullmatch(f" {{12}}{TOLD}", steps), steps


def test_show_draws_the_timeline_of_a_job_that_never_ran(stopped: Any) -> None:
    """Queued still, or its process not there yet: no signal that was not sent is told of."""
    _, (_, steps) = stopped("sleepy", None, not_before=datetime.now(UTC) + timedelta(hours=1))
    assert steps.strip() == "asked +0 ms; nothing of it ever ran"
    _, (_, steps) = stopped("slow-import", None)
    assert re.fullmatch(
        f" {{12}}asked \\+0 ms, flag {MS}(, SIGTERM {MS})?(, noticed {MS})?, tree empty {MS}; nothing of it ever ran",
        steps,
    ), steps


def test_show_draws_the_timeline_of_a_tree(stopped: Any, tmp_path: Path) -> None:
    """What had to be swept is counted."""
    _, (_, steps) = stopped("escaper", "escaped", {"mark": str(tmp_path / "beat")}, grace_s=0.1)
    told = TOLD.replace("tree empty", f"SIGKILL {MS}, tree empty").replace("by sigterm", "by sigkill")
    assert re.fullmatch(f" {{12}}{told}; \\d more process(es)? swept", steps), steps


def test_show_draws_the_timeline_of_a_command(cli: Cli, client: Client) -> None:
    """One that ignores SIGTERM is killed; it has no Python stack of its own to show."""
    job_id = cli("exec", "--detach", "--", "sh", "-c", IGNORES_SIGTERM).stdout.strip()
    wait_until(lambda: b"ready" in client.logs(job_id), "the command to ignore SIGTERM")
    assert cli("cancel", job_id, "--grace", "0.1", "--wait").returncode == 0
    *_, steps = cli("show", job_id).stdout.splitlines()
    told = f" {{12}}asked \\+0 ms, flag {MS}, SIGTERM {MS}(, noticed {MS})?, SIGKILL {MS}, tree empty {MS}; "
    assert re.fullmatch(f"{told}ended by sigkill; \\d more process(es)? swept", steps), steps


def test_show_draws_the_timeline_of_a_shutdown(daemon: Any, cli: Cli, client: Client) -> None:
    """Who stopped the job is annul itself."""
    job = started(client, "sleepy", "sleeping")
    daemon.stop()
    daemon.start()
    *_, who, steps = cli("show", job.id).stdout.splitlines()
    assert who == "stopped     by annul, which was stopped, grace 5 s"
    assert re.fullmatch(f" {{12}}{TOLD}", steps), steps


@pytest.mark.parametrize(
    ("type_", "threads", "where"),
    [
        ("sleeps-on", 1, ["in sleeps_on"]),
        ("holds-gil", 3, ["in wait_for_ever", "in wait_for_ever", "in lock_twice", "in holds_gil"]),
        ("thread-holds-gil", 3, ["in lock_twice", "in wait_for_ever", "in thread_holds_gil"]),
    ],
)
def test_show_tells_where_a_job_was_stuck(stopped: Any, type_: str, threads: int, where: list[str]) -> None:
    """All its threads' Python stacks, also while C holds the GIL; indented below the timeline, and in the job's log."""
    job_id, (_, steps, *stuck) = stopped(type_, "stuck")
    assert re.fullmatch(f" {{12}}{KILLED_AFTER}", steps), steps
    assert stuck[0].startswith("stuck here  ")
    assert all(line.startswith(" " * 12) for line in stuck[1:])
    stacks = [line[12:] for line in stuck]
    assert sum("most recent call first" in line for line in stacks) == threads
    ours = [line.rpartition(", ")[2].partition(" ")[2].partition(" ")[2] for line in stacks if "stuck.py" in line]
    assert ours == where
    log = [line for line in stopped.cli("logs", job_id).stdout.splitlines() if line]
    assert log[-len(stacks) :] == stacks


def test_cancel_by_user_reaches_only_that_user(cli: Cli, client: Client) -> None:
    """Each job that was cancelled is named; another user's goes on."""
    ours = cli("exec", "--detach", "--user", "u1", "--", "sleep", "1000").stdout.strip()
    theirs = cli("exec", "--detach", "--user", "u2", "--", "sleep", "1000").stdout.strip()
    found = cli.json("cancel", "--user", "u1", "--grace", "0", "--wait", "--json")
    assert [(job["id"], job["state"]) for job in found["jobs"]] == [(ours, "cancelled")]
    assert not client.get(theirs).state.final
    assert cli("cancel", "--user", "nobody").returncode == 0
    client.cancel(theirs, grace_s=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", [["run"], []])
def test_a_signal_cancels_the_job_and_waits_until_it_is_gone(
    cli: Cli, client: Client, verb: list[str], number: signal.Signals
) -> None:
    """Ctrl-C, or SIGTERM, on `run` and `exec`: exit code 4, said how, and nothing of the job is left."""
    process = cli.start(*verb, "exec", "--", "sleep", "1000")
    job_id = new_job(client, State.RUNNING)
    process.send_signal(number)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4
    assert "cancelled" in said
    job = client.get(job_id)
    assert job.state is State.CANCELLED
    assert job.cancel is not None
    assert job.cancel.reason == ("Ctrl-C" if number is signal.SIGINT else "SIGTERM")


def test_a_second_ctrl_c_kills_at_once(cli: Cli, client: Client) -> None:
    """A job that does not listen gets no more grace."""
    process = cli.start("exec", "--", "sh", "-c", IGNORES_SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    job_id = new_job(client, State.RUNNING)
    process.send_signal(signal.SIGINT)
    new_job(client, State.CANCELLING)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4
    job = client.get(job_id)
    assert job.cancel is not None
    assert job.cancel.stage is Stage.SIGKILL
    assert job.cancel.gone_s is not None
    assert job.cancel.gone_s < 5  # exec's own grace was not waited for


def test_a_cancel_from_elsewhere_ends_the_run(cli: Cli, client: Client) -> None:
    """Whoever cancels, the follower sees it and exits 4."""
    process = cli.start("run", "--json", "exec", "sleep", "1000")
    job_id = new_job(client, State.RUNNING)
    assert client.cancel(job_id).outcome is CancelOutcome.CANCELLING
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4
    assert msgspec.json.decode(out)["cancel"]["stage"] in ("flag", "sigterm")


def test_a_run_goes_on_over_a_restart_of_the_daemon(daemon: Any, cli: Cli, tmp_path: Path) -> None:
    """Whoever follows a job notices nothing of a daemon that was killed and came back, but the delay."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process = cli.start("exec", "--", "sh", "-c", f"echo before; cat {gate}; echo after")
    assert process.stdout is not None
    assert process.stdout.readline() == "before\n"
    daemon.kill()
    daemon.start()
    gate.open("wb").close()
    out, said = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "after\n"), said


def test_a_bar_is_drawn_on_a_terminal_only(cli: Cli) -> None:
    """On a terminal there is a bar; the result comes after it, whole."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [ANNUL, "run", "exec", "sleep", "0.3"], env={**cli.env, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    drawn = b"".join(read_all(ours))
    assert process.stdout is not None
    assert msgspec.json.decode(process.stdout.read())["exit_code"] == 0
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 0
    assert b"\x1b[" in drawn
    assert b"\x1b[" not in cli("run", "exec", "true").stderr.encode()


def read_all(fd: int) -> Iterator[bytes]:
    """What a terminal shows, until the other side is closed."""
    try:
        while data := os.read(fd, 4096):
            yield data
    except OSError:  # EIO: how a pseudo-terminal says that nobody has it open any more
        pass
    finally:
        os.close(fd)


# --- embedded -----------------------------------------------------------------------------------------------


def leftovers(embedded: Cli) -> list[str]:
    state, tmp = (Path(embedded.env[name]) for name in ("ANNUL_STATE_DIR", "XDG_RUNTIME_DIR"))
    return [p.name for p in state.iterdir() if p.is_dir() and p.name != "users"] + os.listdir(tmp)


def test_an_embedded_run_needs_nothing_and_leaves_nothing(embedded: Cli) -> None:
    """No daemon before, none after, no directory either."""
    done = embedded("exec", "--embedded", "--", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert leftovers(embedded) == []
    assert embedded.json("run", "--embedded", "exec", "true", "--json")["state"] == "completed"
    assert embedded.json("run", "exec", "--embedded", "--json", "false", code=1)["state"] == "failed"
    assert leftovers(embedded) == []


def test_ctrl_c_on_an_embedded_run_cancels_the_job(embedded: Cli) -> None:
    """The whole foreground process group gets a Ctrl-C; only the command line reacts, and does it properly."""
    process = subprocess.Popen(
        [ANNUL, "exec", "--embedded", "--", "sh", "-c", "echo $$; sleep 1000"],
        env=embedded.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    command_pid = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4, said
    assert "cancelled" in said
    with pytest.raises(ProcessLookupError):
        os.kill(command_pid, 0)
    assert leftovers(embedded) == []


def test_a_killed_embedded_run_takes_its_daemon_and_job_along(embedded: Cli) -> None:
    """After kill -9 of the command line nothing lives, and the next run removes what was left behind."""
    process = embedded.start("exec", "--embedded", "--", "sh", "-c", "echo $$; sleep 1000")
    assert process.stdout is not None
    gone = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    wait_gone(gone)
    assert len(leftovers(embedded)) == 2
    wait_unlocked(next(Path(embedded.env["ANNUL_STATE_DIR"]).glob("embedded-*")) / "cli.lock")
    assert embedded("exec", "--embedded", "--", "true").returncode == 0
    assert leftovers(embedded) == []


def wait_gone(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(TIMEOUT_S * 1000)
    os.close(pidfd)


def wait_unlocked(lock: Path) -> None:
    """Until the daemon too is gone, which holds the lock that the command line left to it."""
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)


def test_an_embedded_daemon_that_cannot_start_shows_why(embedded: Cli) -> None:
    """Its own words reach the terminal, and nothing is left."""
    state = Path(embedded.env["ANNUL_STATE_DIR"])
    state.mkdir()
    (state / "users").write_text("in the way")
    done = embedded("exec", "--embedded", "--", "true")
    assert done.returncode == 1, done
    assert "users" in done.stderr
    assert [p.name for p in state.iterdir() if p.name.startswith("embedded-")] == []


# --- in this process ----------------------------------------------------------------------------------------


def test_help_teaches_and_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """The first page names the verbs, an example and the exit codes."""
    assert run_here(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("run", "exec", "cancel", "serve", "--embedded", "Ctrl-C", "Exit codes"):
        assert word in shown


ASKED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KILLED = CancelRecord(
    reason="wrong file",
    kind="cancel",
    by="ann\x1b[2J",
    grace_s=5,
    asked_at=ASKED,
    flag_s=0.0002,
    sigterm_s=0.0003,
    noticed_s=0.0011,
    sigkill_s=5.0,
    gone_s=5.0042,
    stage=Stage.SIGKILL,
    swept=2,
    late_result=True,
)


def ended(state: State, cancel: CancelRecord | None = None, error: ErrorInfo | None = None) -> Job:
    return Job(id="j", type="t", state=state, user="u", created_at=ASKED, cancel=cancel, error=error)


def test_a_cancel_record_is_told_in_words() -> None:
    """Each step with its time since the cancel, what ended it, and what else there is to know."""
    assert words.cancel_steps(KILLED) == (
        "asked +0 ms, flag +0.2, SIGTERM +0.3, noticed +1.1, SIGKILL +5000, tree empty +5004; ended by sigkill; "
        "2 more processes swept; a result came too late and was dropped"
    )
    before = CancelRecord(
        reason="", kind="cancel", by="", grace_s=0, asked_at=ASKED, gone_s=0.0, stage=Stage.BEFORE_START
    )
    assert words.cancel_steps(before) == "asked +0 ms; nothing of it ever ran"
    stuck = msgspec.structs.replace(KILLED, gone_s=None, stage=None, swept=0, late_result=False, stuck=True)
    assert words.cancel_steps(stuck).endswith("SIGKILL +5000; STUCK, the kernel does not end it")
    by_flag = msgspec.structs.replace(KILLED, noticed_s=0.00025, sigkill_s=None, gone_s=0.12)
    assert words.cancel_steps(by_flag).startswith(
        "asked +0 ms, flag +0.2, noticed +0.2, SIGTERM +0.3, tree empty +120;"
    )
    assert words.cancel_asker(KILLED) == "by ann [2J, “wrong file”, grace 5 s"  # no escape reaches the terminal


def test_what_a_job_left_behind_is_told_in_words() -> None:
    """In the last line, and by `show`; of a job that was stopped it stands in its cancel record."""
    job = msgspec.structs.replace(ended(State.COMPLETED), swept=1)
    assert words.ending(job) == "completed; 1 more process swept"
    assert ("left behind", "1 more process swept") in words.facts(job, ASKED)
    assert "left behind" not in dict(words.facts(ended(State.CANCELLED, KILLED), ASKED))


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (ended(State.COMPLETED), 0),
        (ended(State.FAILED, error=ErrorInfo(code="no_text", message="blank")), 1),
        (ended(State.CANCELLED, KILLED), 4),
        (ended(State.FAILED, error=ErrorInfo(code="timeout", message="took too long")), 6),
    ],
)
def test_the_exit_code_of_a_followed_job_says_how_it_ended(job: Job, code: int) -> None:
    """One code for each way to end."""
    assert exits.of_job(job) == code


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (12, "12 s"), (125, "2 min"), (7300, "2 h"), (10**6, "12 d")]
)
def test_durations_are_short(seconds: float, said: str) -> None:
    """One number and one unit."""
    assert words.duration(seconds) == said


def test_embedded_and_endpoint_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Two daemons cannot both be meant."""
    assert run_here(["--endpoint", "ipc:///none", "exec", "--embedded", "--", "true"]) == 2
    assert "--endpoint" in capsys.readouterr().err


class Everything(msgspec.Struct):
    file: Annotated[str, msgspec.Meta(description="what to read", extra_json_schema={"x-annul-input": True})]
    rest: list[int]
    count: Annotated[int, msgspec.Meta(ge=1)] = 5
    ratio: float | None = None
    kind: Literal["a", "b"] = "a"
    deep_down: bool = False
    names: list[str] = []
    env: dict[str, str] = {}
    title: str = ""
    either: int | str | None = None
    second: Annotated[str, msgspec.Meta(extra_json_schema={"x-annul-input": True})] | None = None


def parsed(*args: str) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """What a command line with these arguments makes of `Everything`."""
    fields = fields_of(msgspec.json.schema(Everything), {"title"})
    command = click.Command("t", params=[field.parameter for field in fields], callback=lambda **values: values)
    values = command.main(list(args), standalone_mode=False)
    return collect(fields, values, None)


def test_a_schema_becomes_positionals_and_options(tmp_path: Path) -> None:
    """Required parameters are positional, in order; the others options, each of its kind."""
    file = tmp_path / "cv.pdf"
    file.write_bytes(b"%PDF")
    given = "--count 3 --ratio 0.5 --kind b --deep-down --names x --names y --env A=1 --param-title t --either 7"
    params, inputs, title = parsed(str(file), "1", "2", *given.split(), "--second", str(file))
    assert inputs == {"file": b"%PDF", "second": b"%PDF"}
    assert title == "cv.pdf"
    assert msgspec.convert({**params, "file": "", "second": ""}, Everything) == Everything(
        file="",
        rest=[1, 2],
        count=3,
        ratio=0.5,
        kind="b",
        deep_down=True,
        names=["x", "y"],
        env={"A": "1"},
        title="t",
        either=7,
        second="",
    )


def test_what_is_not_said_is_not_sent(tmp_path: Path) -> None:
    """Defaults are the daemon's: the command line sends none of its own."""
    file = tmp_path / "cv.pdf"
    file.touch()
    assert parsed(str(file), "1")[0] == {"rest": [1]}


@pytest.mark.parametrize("args", [[], ["/dev/null"], ["/dev/null", "x"], ["/dev/null", "1", "--kind", "c"]])
def test_what_cannot_be_meant_is_a_usage_error(args: list[str]) -> None:
    """A missing parameter, a number that is none, a choice that there is not."""
    with pytest.raises(click.UsageError):
        parsed(*args)


def test_the_description_of_a_type_names_each_parameter() -> None:
    """Help shows what is required, and the defaults of the rest."""
    rows = dict(described(msgspec.json.schema(Everything)))
    assert rows["file"] == "what to read (required)"
    assert rows["count"] == "[5]"


# --- purging ------------------------------------------------------------------------------------------------


def test_purge_forgets_what_is_over_and_says_how_much(cli: Cli, client: Client) -> None:
    """One by its id, many by what matches; a live one is refused, an unknown one not found."""
    jobs = [client.wait(client.submit("quick", {}, user="u").id, 20) for _ in range(4)]
    live = client.submit("quick", {}, user="u", not_before=datetime.now(UTC) + timedelta(days=1))
    assert cli.json("purge", jobs[0].id, "--json") == {"count": 1}
    done = cli("purge", jobs[1].id)
    assert (done.returncode, done.stdout, done.stderr) == (exits.Exit.OK, "", "")
    assert cli("purge", jobs[1].id).returncode == exits.Exit.NOT_FOUND
    assert cli.json("purge", live.id, "--json", code=exits.Exit.REFUSED)["error"]["code"] == "not_final"
    assert cli.json("purge", "--user", "u", "--older-than", "1h", "--json") == {"count": 0}
    assert cli("purge", "--user", "u", "--older-than", "0s", "--state", "completed").stdout == "2 purged\n"
    assert [job.id for job in client.list()] == [live.id]


@pytest.mark.parametrize("args", [(), ("x", "--user", "u"), ("--older-than", "soon"), ("--state", "running")])
def test_purge_is_told_which_jobs(cli: Cli, args: tuple[str, ...]) -> None:
    """Nothing said does not mean all of them."""
    assert cli("purge", *args).returncode == exits.Exit.USAGE
