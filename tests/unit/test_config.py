"""The configuration of `annul serve`: flags over the file over the defaults, and nothing passes in silence."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from annul.__main__ import daemon, serve
from annul.config import RELOADED, Config, reloaded
from annul.errors import StartError
from annul.settings import read


def options(*flags: str) -> dict[str, Any]:
    """What `serve` makes of its command line: (--config, the rest), with the flags parsed by click itself."""
    found = serve.make_context("annul serve", list(flags)).params
    no_warm = found.pop("no_warm")
    return {**found, "warm": False if no_warm else None}


def config(*flags: str, file: Path | None = None) -> Config:
    given = options(*flags)
    assert given.pop("config_file") is None
    return read(file, given).config


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory of whoever runs the tests is meant."""
    for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANNUL_STATE_DIR", str(tmp_path / "env-state"))
    monkeypatch.setenv("ANNUL_RUNTIME_DIR", str(tmp_path / "env-run"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "annul.toml"
    path.write_text(
        """
        state_dir = "/file/state"
        runtime_dir = "/file/run"
        outputs_dir = "/file/out"
        max_running = 3
        max_running_per_user = 2
        max_running_per_type = { exec = 1 }
        max_queued = 10
        max_queued_per_user = 4
        jobs = ["file_jobs"]
        tree = "session"
        warm = false
        stop_on_eof = true
        max_log_bytes = 4096
        keep_events = 50
        keep_jobs = 7
        spares = 5
        keep_days = 0.5
        orphan_grace_s = 5
        drain = true
        log_level = "WARNING"
        log_format = "json"
        metrics = "127.0.0.1:9464"
        listen = "tcp://127.0.0.1:7473"
        admins = ["ann"]
        submitters = ["@web"]
        readers = ["1000"]
        allowed_roots = ["/srv/cvs"]
        max_requests_per_s = 20
        max_waiting = 30
        max_memory_bytes = 1_000_000
        """
    )
    return path


def test_without_anything_there_are_defaults(tmp_path: Path) -> None:
    """The places are the environment's, outputs lie below the state; the cores say how many run."""
    found = config()
    assert found.state_dir == tmp_path / "env-state"
    assert found.runtime_dir == tmp_path / "env-run"
    assert found.outputs_dir == tmp_path / "env-state" / "users"
    assert found.max_running == os.cpu_count()
    assert (found.max_running_per_user, found.max_running_per_type, found.jobs) == (0, {}, [])
    assert (found.tree, found.warm, found.stop_on_eof, found.log_level) == ("auto", True, False, "INFO")


def test_the_file_is_over_the_defaults(file: Path) -> None:
    """Each setting can be in it, also those that have no flag."""
    found = config(file=file)
    assert msgspec.structs.asdict(found) == {
        "state_dir": Path("/file/state"),
        "runtime_dir": Path("/file/run"),
        "outputs_dir": Path("/file/out"),
        "max_running": 3,
        "max_running_per_user": 2,
        "max_running_per_type": {"exec": 1},
        "max_queued": 10,
        "max_queued_per_user": 4,
        "jobs": ["file_jobs"],
        "tree": "session",
        "warm": False,
        "stop_on_eof": True,
        "max_log_bytes": 4096,
        "keep_events": 50,
        "keep_jobs": 7,
        "spares": 5,
        "keep_days": 0.5,
        "orphan_grace_s": 5.0,
        "drain": True,
        "log_level": "WARNING",
        "log_format": "json",
        "metrics": "127.0.0.1:9464",
        "listen": "tcp://127.0.0.1:7473",
        "admins": ["ann"],
        "submitters": ["@web"],
        "readers": ["1000"],
        "allowed_roots": [Path("/srv/cvs")],
        "max_requests_per_s": 20,
        "max_waiting": 30,
        "max_memory_bytes": 1_000_000,
    }


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--state-dir", "/flag"], "state_dir", Path("/flag")),
        (["--runtime-dir", "/flag"], "runtime_dir", Path("/flag")),
        (["--outputs-dir", "/flag"], "outputs_dir", Path("/flag")),
        (["--max-running", "9"], "max_running", 9),
        (["--max-running-per-user", "0"], "max_running_per_user", 0),
        (["--max-running-per-type", "a=4", "--max-running-per-type", "b=0"], "max_running_per_type", {"a": 4, "b": 0}),
        (["--max-queued", "99"], "max_queued", 99),
        (["--keep-jobs", "0"], "keep_jobs", 0),
        (["--spares", "0"], "spares", 0),
        (["--keep-days", "0.5"], "keep_days", 0.5),
        (["--jobs", "one", "--jobs", "two"], "jobs", ["one", "two"]),
        (["--tree", "auto"], "tree", "auto"),
        (["--log-level", "DEBUG"], "log_level", "DEBUG"),
    ],
)
def test_a_flag_is_over_the_file(file: Path, flags: list[str], name: str, value: object) -> None:
    """Also where its value is 0; all else stays as the file has it."""
    expected = {**msgspec.structs.asdict(config(file=file)), name: value}
    assert msgspec.structs.asdict(config(*flags, file=file)) == expected


def test_switches_are_over_the_defaults_and_unset_they_leave_the_file_alone(file: Path, tmp_path: Path) -> None:
    """A flag that was not given says nothing."""
    found = config("--no-warm", "--stop-on-eof")
    assert (found.warm, found.stop_on_eof) == (False, True)
    warm = tmp_path / "warm.toml"
    warm.write_text("warm = true\nstop_on_eof = false")
    assert (config(file=warm).warm, config(file=warm).stop_on_eof) == (True, False)
    assert config("--no-warm", file=warm).warm is False


def test_outputs_lie_below_the_state_that_counts(file: Path, tmp_path: Path) -> None:
    """A flag moves both."""
    bare = tmp_path / "bare.toml"
    bare.write_text('state_dir = "/file/state"')
    assert config(file=bare).outputs_dir == Path("/file/state/users")
    assert config("--state-dir", "/flag", file=bare).outputs_dir == Path("/flag/users")


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Jobs have a current directory of their own."""
    monkeypatch.chdir(tmp_path)
    found = config("--state-dir", "s", "--runtime-dir", "r")
    assert (found.state_dir, found.runtime_dir) == (tmp_path / "s", tmp_path / "r")
    assert found.outputs_dir == tmp_path / "s" / "users"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_runing = 3", r"no setting 'max_runing'; is it max_running\?"),
        ("max-running = 3", r"no setting 'max-running'; is it max_running\?"),
        ("[limits]\nmax_running = 3", "no setting 'limits'$"),
        ('max_running = "3"', "max_running"),
        ("max_running = 1.5", "max_running"),
        ('jobs = "one"', "jobs"),
        ("jobs = [1]", "jobs"),
        ("max_running_per_type = { exec = true }", "max_running_per_type"),
        ("warm = 1", "warm"),
        ("max_running = 0", "max_running"),
        ("max_running = -1", "max_running"),
        ("max_running_per_user = -1", "max_running_per_user"),
        ("max_running_per_type = { exec = -1 }", "max_running_per_type"),
        ("max_queued = 0", "max_queued"),
        ("max_log_bytes = 0", "max_log_bytes"),
        ("keep_events = 0", "keep_events"),
        ("keep_events = -5", "keep_events"),
        ("keep_jobs = -1", "keep_jobs"),
        ("keep_days = -0.1", "keep_days"),
        ("keep_days = nan", "keep_days"),
        ('tree = "magic"', "tree"),
        ('log_level = "LOUD"', "log_level"),
        ("state_dir = 5", "state_dir"),
        ('outputs_dir = ["x"]', "outputs_dir"),
    ],
)
def test_a_setting_that_is_unknown_or_does_not_fit_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    """A misspelt limit must not pass in silence, nor one that no flag would be allowed: the message names it."""
    path = tmp_path / "annul.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=message) as raised:
        config(file=path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"max_running =", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """Rather than the daemon starting without its limits."""
    path = tmp_path / "annul.toml"
    path.write_bytes(content)
    with pytest.raises(StartError, match="reading the configuration"):
        config(file=path)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """It was named: its absence is no default."""
    with pytest.raises(StartError, match="reading the configuration"):
        config(file=tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-running", "0"],
        ["--max-running", "x"],
        ["--max-running-per-user", "-1"],
        ["--max-queued", "0"],
        ["--max-running-per-type", "exec"],
        ["--max-running-per-type", "=3"],
        ["--max-running-per-type", "exec=-1"],
        ["--max-running-per-type", "exec="],
        ["--max-running-per-type", "exec=²"],  # a digit to Python, and no number
        ["--tree", "magic"],
        ["--log-level", "LOUD"],
        ["--max-runing", "3"],
        ["stray"],
    ],
)
def test_a_flag_that_does_not_fit_is_a_usage_error(flags: list[str]) -> None:
    """Before anything is read or made."""
    with pytest.raises(click.UsageError):
        options(*flags)


def test_a_start_that_fails_says_why_without_a_traceback(tmp_path: Path) -> None:
    """One line on standard error, and exit status 1."""
    path = tmp_path / "annul.toml"
    path.write_text("max_runing = 3")
    found = CliRunner().invoke(serve, ["--config", str(path)])
    assert found.exit_code == 1
    assert found.output.startswith("annul serve: ")
    assert "max_runing" in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "env-state").exists()


# --- what is told of it, and what changes while it runs -----------------------------------------------------

EXAMPLE = Path(__file__).parents[2] / "docs" / "annul.toml"
OF_THE_PLACE = {
    "state_dir",
    "runtime_dir",
    "outputs_dir",
    "max_running",
    "listen",
    "metrics",
}  # there, their default is in words


def test_the_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    """In the order of the code, told above it, and marked where SIGHUP changes it."""
    lines = EXAMPLE.read_text().splitlines()
    settings = {line[1:].split(" = ")[0]: number for number, line in enumerate(lines) if re.match(r"#\w+ = ", line)}
    assert set(settings) == set(Config.__struct_fields__)
    path = tmp_path / "annul.toml"
    path.write_text("\n".join(re.sub(r"^#(?=\w+ = )", "", line) for line in lines))
    found, default = read(path, {}), config()
    for name, number in settings.items():
        if name not in OF_THE_PLACE:
            assert getattr(found.config, name) == getattr(default, name), name
        assert found.sources[name] == "file"
        begin = max(at for at in range(number) if not lines[at].startswith("#")) + 1
        told = " ".join(lines[begin:number])
        assert len(told) > 5, name
        assert ("(reload" in told) is (name in RELOADED), name


def test_where_each_value_comes_from(file: Path, tmp_path: Path) -> None:
    """Flag, file, environment, default."""
    bare = tmp_path / "bare.toml"
    bare.write_text("max_running = 3\nspares = 1")
    sources = read(bare, {"max_running": 4, "drain": False, "warm": False}).sources
    assert set(sources) == set(Config.__struct_fields__)
    assert (sources["max_running"], sources["warm"], sources["spares"]) == ("flag", "flag", "file")
    assert (sources["drain"], sources["outputs_dir"]) == ("default", "default")
    assert sources["state_dir"] == "environment ($ANNUL_STATE_DIR)"
    assert read(file, {}).sources["state_dir"] == "file"


def test_what_a_running_daemon_takes_up(file: Path) -> None:
    """Limits at once; what needs a restart stays as it runs, and is named."""
    running = config()
    found, changed, later = reloaded(running, config(file=file))
    assert set(changed) <= RELOADED
    assert set(later).isdisjoint(RELOADED)
    assert {"max_running", "keep_jobs", "drain", "log_level"} <= set(changed)
    assert {"state_dir", "tree", "admins", "spares"} <= set(later)
    assert (found.max_running, found.state_dir) == (3, running.state_dir)
    assert reloaded(running, running) == (running, [], [])


def test_config_show_tells_each_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For people and for programs; a file that is wrong is said, and is exit status 1."""
    path = tmp_path / "annul.toml"
    path.write_text("max_running = 3")
    monkeypatch.setenv("ANNUL_CONFIG", str(path))
    said = CliRunner().invoke(daemon, ["config", "show", "--spares", "0"])
    assert said.exit_code == 0
    assert re.search(r"^max_running +3 +file$", said.output, re.MULTILINE)
    assert re.search(r"^spares +0 +flag$", said.output, re.MULTILINE)
    shown = msgspec.json.decode(CliRunner().invoke(daemon, ["config", "show", "--json"]).output)
    assert shown["file"] == str(path)
    assert shown["settings"]["max_running"] == {"value": 3, "source": "file", "reloaded": True}
    assert set(shown["settings"]) == set(Config.__struct_fields__)
    path.write_text("max_runnin = 3")
    for flags in ([], ["--json"]):
        failed = CliRunner().invoke(daemon, ["config", "show", *flags])
        assert failed.exit_code == 1
        assert "is it max_running?" in failed.output
