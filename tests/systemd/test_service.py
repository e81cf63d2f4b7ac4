"""The service as an operator has it: installed by `make install-systemd` on a machine with a real systemd."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from annul_client import Client, Job, Stage, State
from harness import TESTS, TIMEOUT_S, wait_until
from pdf import CV_LINES, make_pdf
from systemd.machine import NEEDED, ROOT, Machine, need_systemd

ANNUL = str(Path(sys.executable).with_name("annul"))
GROUP = "/sys/fs/cgroup/system.slice/annul.service"
STATE = "/var/lib/annul"
DROP_INS = "/etc/systemd/system/annul.service.d"
ENDPOINT = "ipc:///run/annul/annul.sock"
# Until it is told to go on; in its own /tmp and in shared memory it has something that a restart must leave it.
WAITING = (
    f"touch $TMPDIR/mine /dev/shm/mine; until [ -e {STATE}/go ]; do sleep 0.02; done; ls $TMPDIR/mine /dev/shm/mine"
)
# Ignores SIGTERM, and has a child in a session of its own, with nothing of the job's environment.
GENERATED_FROM = {"cv": "cv-en.json", "offer_file": "offer-en.md"}
STUBBORN = "trap '' TERM; setsid env -i sleep 1000 & while :; do sleep 1; done"


class Service:
    """annul.service, started; asked from outside of the machine, as its root."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.client = Client(f"ipc://{machine.path('/run/annul/annul.sock')}")

    def shown(self, name: str) -> str:
        return self.machine.run("systemctl", "show", "--value", "--property", name, "annul")

    @property
    def main_pid(self) -> int:
        return int(self.shown("MainPID"))

    def said(self) -> list[str]:
        """The journal's messages of the service's processes, without their times."""
        lines = self.machine.run("journalctl", "--output=cat", "--no-pager", "_SYSTEMD_UNIT=annul.service").splitlines()
        return [re.sub(r"^\S+ \S+ (?=(info|warning|error) )", "", line) for line in lines]

    def of_systemd(self) -> str:
        """What systemd itself says of the service."""
        return self.machine.run("journalctl", "--output=cat", "--no-pager", "_PID=1", "UNIT=annul.service")

    def running(self, script: str, processes: int = 3) -> Job:
        """A shell script as a job, which has come to have so many processes."""
        job = self.client.submit("exec", {"argv": ["sh", "-c", script]})
        wait_until(lambda: len(self.members(job)) >= processes, "the script to run")
        return self.client.get(job.id)

    def members(self, job: Job) -> list[int]:
        """Who is in the cgroup of a job: its leader, and those below. Read inside, where pids are the machine's."""
        pid = self.client.get(job.id).pid
        said = self.machine.run("sh", "-c", f"cat {GROUP}/annul-*/{pid}.*/cgroup.procs", check=False)
        return [int(one) for one in said.split()]

    def alive(self, pid: int) -> bool:
        try:
            status = self.machine.path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] not in "ZX"

    def go_on(self) -> None:
        self.machine.path(f"{STATE}/go").touch()

    def ended(self, job: Job) -> Job:
        wait_until(lambda: self.client.get(job.id).state.final, "the job to end")
        return self.client.get(job.id)

    def adopted(self, job: Job) -> None:
        """It is known, as the process that it was."""
        wait_until(lambda: self.client.get(job.id).state is State.RUNNING, "the next daemon to answer")
        found = self.client.get(job.id)
        assert (found.pid, found.attempt) == (job.pid, 1)

    def goes_on(self, job: Job) -> None:
        """The same process goes on, has what it had, and comes to its end."""
        self.adopted(job)
        assert job.pid in self.members(job)
        self.go_on()
        found = self.ended(job)
        assert (found.state, found.attempt) == (State.COMPLETED, 1), found.error

    def stop(self, *, at_once: bool = True) -> None:
        """Ends without any trace of a process: by when systemctl returns, or soon after."""
        self.machine.run("systemctl", "stop", "annul")
        assert self.shown("ActiveState") == "inactive"
        if not at_once:
            wait_until(lambda: not self.machine.path(GROUP).exists(), "the unit's cgroup to be gone")
        assert not self.machine.path(GROUP).exists()
        everyone = self.machine.run("ps", "-u", "annul", "-o", "pid=,args=", check=False)
        assert not everyone


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Booted, with annul installed by its Makefile, a member of its group and somebody else."""
    machine = Machine()
    try:
        set_up(machine, "test", f"Environment=PYTHONPATH={os.environ.get('PYTHONPATH', '')}")
        # The tests' Python, or they themselves, may be where the service sees nothing.
        if any(str(path).startswith(("/home/", "/root/")) for path in NEEDED):
            set_up(machine, "homes", "ProtectHome=read-only")
        if any(str(path).startswith(("/tmp/", "/var/tmp/")) for path in NEEDED):
            set_up(machine, "tmp", "PrivateTmp=no")
        machine.run("make", "-C", str(ROOT), "install-systemd", f"ANNUL={ANNUL}")
        machine.run("useradd", "--groups", "annul", "anna")
        machine.run("useradd", "oscar")
        yield machine
    finally:
        machine.close()


def set_up(machine: Machine, name: str, *settings: str) -> None:
    """A drop-in, as by `systemctl edit`. Without settings it is removed again."""
    folder = machine.path(DROP_INS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.conf"
    path.write_text("\n".join(("[Service]", *settings, "")))
    if not settings:
        path.unlink()
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def service(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Started, with an empty store; a parameter is a drop-in. Stopped at the end, and then nothing of it is left."""
    settings = getattr(request, "param", ())
    if settings:
        set_up(machine, "with", *settings)  # after the others, in the order of names
    service = Service(machine)
    try:
        machine.run("systemctl", "start", "annul")
        yield service
        service.stop()
    finally:
        service.client.close()
        print(machine.run("journalctl", "--output=short-monotonic", "--no-pager", check=False))
        machine.run("systemctl", "stop", "annul", check=False)
        machine.run("systemctl", "reset-failed", "annul", check=False)
        machine.run("sh", "-c", f"rm -rf {STATE} /run/annul /run/log/journal/*/* /dev/shm/mine")
        machine.run("systemctl", "reset-failed", "systemd-journald", check=False)  # each test does this
        machine.run("systemctl", "restart", "systemd-journald")
        if settings:
            set_up(machine, "with")


# --- the files --------------------------------------------------------------------------------------------------


def test_the_unit_is_in_order(tmp_path: Path) -> None:
    """Installed for a package, twice: systemd finds nothing wrong with the unit, and it is exposed to 2.0 at most."""
    need_systemd()

    def make(target: str) -> None:
        subprocess.run(
            ["make", "-C", str(ROOT), target, f"DESTDIR={tmp_path}", "PREFIX=/usr/lib", f"ANNUL={ANNUL}"],
            check=True,
            timeout=TIMEOUT_S,
            capture_output=True,
        )

    def files() -> dict[Path, str]:
        return {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    make("install-systemd")
    first = files()
    make("install-systemd")
    assert files() == first
    unit = tmp_path / "usr/lib/systemd/system/annul.service"
    assert f"ExecStart={ANNUL} serve " in first[unit]
    assert {path.name for path in first} >= {"annul.service", "annul.conf"}
    for command in (
        ["verify", "--recursive-errors=no", "--man=no", str(unit)],
        ["security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
    ):
        done = subprocess.run(
            ["systemd-analyze", *command], check=False, timeout=TIMEOUT_S, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr
    make("uninstall-systemd")
    assert not files()


# --- using it ---------------------------------------------------------------------------------------------------


def test_members_of_the_group_use_it_and_nobody_else(service: Service) -> None:
    """A CV is imported for one, in all the hardening, and who asks is known; another user does not reach the socket."""
    cv = str(ROOT / "examples" / "cv-en.pdf")
    said = service.machine.run(ANNUL, "--endpoint", ENDPOINT, "run", "import-pdf", cv, user="anna")
    assert "Maren Aldous" in said
    outsider = service.machine.start(ANNUL, "--endpoint", ENDPOINT, "ping", user="oscar")
    out, error = outsider.communicate(timeout=TIMEOUT_S)
    assert outsider.returncode == 3, error
    assert not out
    code = f"""from datetime import UTC, datetime, timedelta
from pathlib import Path
from annul_client import Client
with Client("{ENDPOINT}") as client:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    job = client.submit("import-pdf", inputs={{"pdf": Path("{cv}").read_bytes()}}, not_before=tomorrow)
    client.cancel(job.id)
    print(client.wait(job.id).cancel.by)"""
    by = service.machine.run(sys.executable, "-c", code, user="anna")
    assert by == f"uid:{service.machine.run('id', '-u', 'anna')}"


@pytest.mark.parametrize("service", [("Environment=OPENAI_BASE_URL=http://127.0.0.1:9/v1",)], indirect=True)
def test_a_key_is_for_the_jobs_that_need_it(service: Service) -> None:
    """Among the service's credentials it has an import take the engine that needs one, and is in no environment."""
    key = "sk-of-this-test"
    store = service.machine.path("/etc/credstore")
    store.mkdir(mode=0o700)
    (store / "OPENAI_API_KEY").write_text(f"{key}\n")
    service.machine.run("systemctl", "restart", "annul")
    wait_until(lambda: service.client.ping(), "the next daemon to answer")
    pdf = (ROOT / "examples" / "cv-en.pdf").read_bytes()
    job = service.client.submit("import-pdf", inputs={"pdf": pdf})
    wait_until(lambda: service.client.get(job.id).progress.stage.startswith("asking"), "it to ask the server")
    told = [
        path.read_bytes()
        for name in ("environ", "cmdline")
        for path in service.machine.path("/proc").glob(f"[0-9]*/{name}")
    ]
    assert not [one for one in told if key.encode() in one]
    assert key not in service.machine.run("systemctl", "show", "annul")
    service.client.cancel(job.id)


def test_a_timer_submits(service: Service) -> None:
    """The example: systemd finds nothing wrong with it, and what it submits is a job like any other."""
    machine = service.machine
    for path in (ROOT / "examples" / "timer").iterdir():
        text = path.read_text().replace("/opt/annul/bin/annul", ANNUL).replace("/usr/local/bin/backup", "/bin/true")
        machine.path(f"/etc/systemd/system/{path.name}").write_text(
            re.sub("(?m)^OnCalendar=.*", "OnActiveSec=0", text).replace("RandomizedDelaySec=10min", "AccuracySec=1ms")
        )
    assert not machine.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "nightly.timer")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "nightly.timer")
    wait_until(lambda: service.client.list(label={"timer": "nightly"}), "the timer to submit")
    (job,) = service.client.list(label={"timer": "nightly"})
    assert service.ended(job).state is State.COMPLETED
    assert job.timeout_s == 7200
    machine.run("systemctl", "stop", "nightly.timer", "nightly.service")
    machine.run("systemd-analyze", "calendar", "*-*-* 02:30")


MODEL = f"""import signal, sys
sys.path.insert(0, "{TESTS}")
from openai_server import SCAN_ANSWER, OpenAIServer, stream_cv
with OpenAIServer(stream_cv(), stream_cv(SCAN_ANSWER)) as server:
    print(server.base_url, flush=True)
    signal.pause()"""


@pytest.fixture
def model(service: Service) -> Iterator[None]:
    """An OpenAI-compatible server on the machine's loopback, of which the service's jobs know."""
    server = service.machine.start(sys.executable, "-c", MODEL)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    set_up(service.machine, "model", f"Environment=OPENAI_BASE_URL={url}", "Environment=OPENAI_API_KEY=sk-of-this-test")
    service.machine.run("systemctl", "restart", "annul")
    yield
    set_up(service.machine, "model")
    service.machine.run("pkill", "-KILL", "-f", "openai_server")
    server.communicate(timeout=TIMEOUT_S)


@pytest.mark.usefixtures("model")
def test_the_cv_jobs_do_all_they_can_in_the_hardening(service: Service) -> None:
    """Both engines, the second reader in a process of its own, a scan drawn for the model, a PDF printed; by cgroup."""
    pytest.importorskip("typst", reason="typst is not installed: pip install 'annul[pdf]'")
    from scans import make_scan

    wait_until(lambda: service.client.ping(), "the next daemon to answer")
    assert service.client.ping().tree == "cgroup"
    sound = (ROOT / "examples" / "cv-en.pdf").read_bytes()
    # The tree of pages is a page of itself: pypdf refuses it.
    damaged = make_pdf([CV_LINES]).replace(b"/Kids [5 0 R]", b"/Kids [5 0 R 2 0 R]")
    found = []
    for pdf, engine in ((sound, "openai"), (make_scan(CV_LINES), "openai"), (damaged, "offline")):
        job = service.ended(service.client.submit("import-pdf", {"engine": engine}, inputs={"pdf": pdf}))
        assert job.state is State.COMPLETED, job.error
        result = service.client.result(job.id).result
        assert result["cv"]["basics"]["name"]
        found.append((result["engine"], result["report"]["reader"]))
    assert found == [("openai", "pypdf"), ("openai", "model"), ("offline", "pdfium")]
    files = {name: (ROOT / "examples" / f"{path}").read_bytes() for name, path in GENERATED_FROM.items()}
    job = service.ended(service.client.submit("generate-cv", {"engine": "offline"}, inputs=files))
    assert job.state is State.COMPLETED, job.error
    assert {Path(path).suffix for path in job.files} == {".json", ".pdf"}
    (printed,) = (path for path in job.files if path.endswith(".pdf"))
    assert service.client.output(job.id, Path(printed).name).startswith(b"%PDF-")


# --- ending it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [("WatchdogSec=1", "TimeoutStopSec=1")], indirect=True)
def test_stop_ends_every_job(service: Service) -> None:
    """Whatever it does against it, in its grace, for which systemd waits; its state says so afterwards."""
    jobs = [service.running(WAITING), service.running(STUBBORN, 4)]
    service.stop()
    assert "timed out" not in service.of_systemd()
    service.machine.run("systemctl", "start", "annul")
    ended = [service.ended(job) for job in jobs]
    assert [job.state for job in ended] == [State.CANCELLED] * 2
    assert [(job.cancel.kind, job.cancel.stage) for job in ended if job.cancel] == [
        ("shutdown", Stage.SIGTERM),
        ("shutdown", Stage.SIGKILL),
    ]


def test_cancel_ends_what_left_its_session(service: Service) -> None:
    """By its cgroup, of which nothing is left."""
    job = service.running(STUBBORN, 4)
    members = service.members(job)
    service.client.cancel(job.id, grace_s=0.1)
    assert service.ended(job).state is State.CANCELLED
    assert not [pid for pid in members if service.alive(pid)]
    assert not list(service.machine.path(GROUP).glob(f"annul-*/{job.pid}.*"))


def test_jobs_go_on_after_a_restart(service: Service) -> None:
    """`systemctl restart`: the next daemon has the same processes."""
    job = service.running(WAITING)
    before = service.main_pid
    service.machine.run("systemctl", "restart", "annul")
    assert service.main_pid != before
    service.goes_on(job)


def test_jobs_go_on_after_a_crash(service: Service) -> None:
    """`kill -9` of the daemon: systemd starts another one, which has the same processes."""
    job = service.running(WAITING)
    before = service.main_pid
    service.machine.run("kill", "-KILL", str(before))
    wait_until(lambda: service.main_pid not in (0, before), "systemd to start another one")
    service.goes_on(job)


def test_jobs_go_on_over_one_restart_after_the_other(service: Service) -> None:
    """By hand and by crashes, while others come and go: each daemon finds the unit's cgroup fit to start in."""
    job = service.running(WAITING)
    for crash in (False, True, False, True, True, False):
        before = service.main_pid
        short = service.client.submit("exec", {"argv": ["sleep", "1000"]})
        if crash:
            service.machine.run("kill", "-KILL", str(before))
        else:
            service.machine.run("systemctl", "restart", "annul")
        wait_until(lambda before=before: service.main_pid not in (0, before), "the next daemon")  # type: ignore[misc]
        service.adopted(job)
        service.client.cancel(short.id, grace_s=0)
        assert service.ended(short).state is State.CANCELLED
    assert "219/CGROUP" not in service.of_systemd()
    service.goes_on(job)


def test_a_stop_in_the_middle_of_a_restart_ends_every_job(service: Service) -> None:
    """Whatever the restart has come to: the daemon has handed over, or the next one is about to be ready."""
    for looks in range(6):
        job = service.running(STUBBORN, 4)
        members = service.members(job)
        service.machine.run("systemctl", "restart", "--no-block", "annul")
        for _ in range(looks):
            service.shown("SubState")
        service.stop(at_once=False)
        assert not [pid for pid in members if service.alive(pid)]
        service.machine.run("systemctl", "start", "annul")
        assert service.ended(job).state.final


@pytest.mark.parametrize("service", [("ExecStopPost=/bin/sleep 1", "RestartSec=5")], indirect=True)
@pytest.mark.parametrize(("ask", "waits"), [("restart", "stop-post"), ("crash", "auto-restart")])
def test_a_stop_that_nobody_is_told_of_ends_every_job(service: Service, ask: str, waits: str) -> None:
    """It comes when the unit has been asked already what to do after its daemon, and no other one has been started."""
    job = service.running(STUBBORN, 4)
    members = service.members(job)
    if ask == "crash":
        service.machine.run("kill", "-KILL", str(service.main_pid))
    else:
        service.machine.run("systemctl", "restart", "--no-block", "annul")
    wait_until(lambda: service.shown("SubState") == waits, waits)
    assert service.alive(members[0])
    service.stop(at_once=False)
    assert not [pid for pid in members if service.alive(pid)]


def test_a_daemon_that_dies_while_it_stops_leaves_no_job(service: Service) -> None:
    """A stop was asked for: nobody comes after it who could adopt them."""
    job = service.running(STUBBORN, 4)
    members = service.members(job)
    stop = service.machine.start("systemctl", "stop", "annul")
    wait_until(lambda: any(line.startswith("info stop-job") for line in service.said()), "it to stop the job")
    service.machine.run("kill", "-KILL", str(service.main_pid))
    stop.communicate(timeout=TIMEOUT_S)
    assert not [pid for pid in members if service.alive(pid)]
    assert service.shown("MainPID") == "0"
    service.machine.run("systemctl", "reset-failed", "annul")


def test_a_paused_job_is_frozen_over_a_crash(service: Service) -> None:
    """By the freezer of its cgroup, which the hardening leaves to the daemon; the next one lets it go on."""
    job = service.running(WAITING)
    service.client.pause(job.id)
    events = next(iter(service.machine.path(GROUP).glob(f"annul-*/{job.pid}.*"))) / "cgroup.events"
    wait_until(lambda: "frozen 1" in events.read_text(), "the job to be frozen")
    before = service.main_pid
    service.machine.run("kill", "-KILL", str(before))
    wait_until(lambda: service.main_pid not in (0, before), "systemd to start another one")
    service.adopted(job)
    assert service.client.get(job.id).paused
    assert "frozen 1" in events.read_text()
    service.client.unpause(job.id)
    service.goes_on(job)


def test_a_reload_takes_up_a_limit(service: Service) -> None:
    """`systemctl reload`: in the same process; a mistake in the configuration changes nothing."""
    config = service.machine.path("/etc/annul/annul.toml")
    before = service.main_pid
    try:
        for text, expected in (("max_running = 7\n", 7), ("max_runing = 9\n", 7), ("max_running = 9\n", 9)):
            config.write_text(text)
            service.machine.run("systemctl", "reload", "annul")
            wait_until(lambda text=text, expected=expected: service.client.ping().max_running == expected, text)  # type: ignore[misc]
    finally:
        config.write_text("")
    assert service.main_pid == before
    service.machine.run("systemctl", "reload", "annul")


def test_jobs_go_on_while_it_cannot_start(service: Service) -> None:
    """A restart with a mistake in the configuration: once that is mended, the next daemon has the same processes."""
    job = service.running(WAITING)
    config = service.machine.path("/etc/annul/annul.toml")
    config.write_text("max_runing = 2\n")
    service.machine.run("systemctl", "restart", "annul", check=False)
    wait_until(lambda: int(service.shown("NRestarts")) > 0, "systemd to try again")
    assert job.pid is not None
    assert service.alive(job.pid)
    config.write_text("")
    service.machine.run("systemctl", "restart", "annul")
    service.goes_on(job)


def test_stop_ends_what_no_daemon_knows_of(service: Service) -> None:
    """A process in the service's cgroup that no daemon has started outlives a restart, but no stop."""
    stray = service.machine.start(
        "sh", "-c", f"echo $$ >{GROUP}/cgroup.procs; exec setpriv --reuid annul --regid annul --clear-groups sleep 1000"
    )
    wait_until(lambda: service.machine.run("pgrep", "-u", "annul", "sleep", check=False), "it to be there")
    service.machine.run("systemctl", "restart", "annul")
    assert stray.poll() is None
    service.stop()
    stray.communicate(timeout=TIMEOUT_S)


# --- the watchdog -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [("WatchdogSec=1",)], indirect=True)
def test_the_watchdog_ends_a_loop_that_does_not_turn(service: Service) -> None:
    """An idle daemon says again and again that it turns; one that hangs is ended and followed, and its jobs go on."""
    job = service.running(WAITING)
    before = service.main_pid
    seen: set[str] = set()
    wait_until(lambda: seen.add(service.shown("WatchdogTimestampMonotonic")) or len(seen) > 3, "it to say so thrice")
    assert service.main_pid == before
    service.machine.run("kill", "-STOP", str(before))
    wait_until(lambda: service.main_pid not in (0, before), "systemd to start another one")
    assert "Watchdog timeout" in service.of_systemd()
    assert any("Fatal Python error: Aborted" in line for line in service.said())
    service.goes_on(job)


@pytest.mark.parametrize("service", [("WatchdogSec=1", f"Environment=PYTHONPATH={TESTS / 'wedging'}")], indirect=True)
def test_the_watchdog_ends_a_daemon_whose_loop_alone_hangs(service: Service) -> None:
    """Its other threads live, and so does its process; the journal has the line at which the loop hung."""
    job = service.running(WAITING)
    before = service.main_pid
    service.machine.path(f"{STATE}/wedge").touch()
    wait_until(lambda: service.main_pid not in (0, before), "systemd to start another one")
    assert "Watchdog timeout" in service.of_systemd()
    assert any("in wedged" in line for line in service.said())
    service.goes_on(job)


# --- the journal ------------------------------------------------------------------------------------------------


def test_the_journal_tells_each_action_once(service: Service) -> None:
    """From the start to the stop: no line twice, no traceback."""
    service.ended(service.client.submit("exec", {"argv": ["true"]}))
    job = service.running(WAITING)
    service.client.cancel(job.id)
    service.ended(job)
    service.running(WAITING)
    service.stop()
    said = service.said()
    assert len(set(said)) == len(said)
    found = [re.match(r"info ([a-z-]+): ", line) for line in said]
    assert all(found), said
    actions = [one[1] for one in found if one and one[1] != "zygote"]
    assert actions == ["ready", "completed", "stop-job", "cancelled", "stop", "stop-job", "cancelled", "stop"]
