"""A real systemd, booted over a throw-away view of this machine's /: a machine to install the service on.

It has PID, mount, network, IPC, UTS and cgroup namespaces of its own, a cgroup v2 hierarchy, a journal, no network but
loopback, and nothing that is written in it is kept. Needs root and no image. Everything in it is in one cgroup, and is
killed with that; should the tests be killed, the kernel kills its PID 1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness import PREFIX, TESTS, TIMEOUT_S, wait_until

ROOT = TESTS.parent
OLDEST = 252  # systemd
_UNAVAILABLE = 77
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOLS = ("systemctl", "systemd-analyze", "systemd-sysusers", "unshare", "nsenter", "setpriv", "useradd", "make")
# What an installation reads: this checkout, the environment of the tests, and its interpreter.
NEEDED = (ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve())


class Machine:
    """Booted when made; ends with `close`."""

    def __init__(self) -> None:
        """Skips the test where this machine does not allow it."""
        if os.geteuid() != 0:
            pytest.skip("booting a systemd takes root")
        need_systemd()
        self._lab = Path(tempfile.mkdtemp(prefix=f"{PREFIX}systemd-"))
        self._group = _cgroup2() / self._lab.name
        self._log = self._lab / "log"
        try:
            (self._group / "commands").mkdir(parents=True)
        except OSError as error:
            self._lab.rmdir()
            pytest.skip(f"no cgroup v2 can be made: {error}")
        here = os.stat("/").st_dev
        places = [path for path in NEEDED if path.is_dir()]
        (self._lab / "binds").write_text("".join(f"{path}\n" for path in places if path.stat().st_dev != here))
        (self._lab / "open").write_text("".join(f"{path}\n" for one in NEEDED for path in reversed(one.parents)))
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--propagation", "private"),
                    *("--fork", "--kill-child=KILL"),
                    # It enters the new cgroup before the namespace is made, which is rooted there then.
                    *("sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec unshare --cgroup "$@"', "sh"),
                    *(str(self._group), "sh", str(Path(__file__).with_name("boot.sh")), str(self._lab)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._pid = 0
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            wait_until(self._booted, "systemd to boot")
            undo.pop_all()

    def _booted(self) -> bool:
        if (status := self._outer.poll()) is not None:
            said = self._log.read_text()
            if status == _UNAVAILABLE or "unshare failed" in said:
                pytest.skip(f"no systemd can be booted here: {said.splitlines()[-1]}")
            pytest.fail(f"PID 1 ended with {status}: {said}")
        if not self._pid:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            self._pid = int(children[0]) if children else 0
        if not self._pid or not Path(f"/proc/{self._pid}/root/run/systemd/private").exists():
            return False
        return self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")

    def close(self) -> None:
        """Kill everything in it, and wait until it is gone. Raises AssertionError where something stays."""
        (self._group / "cgroup.kill").write_text("1")
        self._outer.kill()
        self._outer.wait(TIMEOUT_S)
        wait_until(self._removed, "the machine's cgroups to be empty")
        shutil.rmtree(self._lab)

    def _removed(self) -> bool:
        for folder, _, _ in os.walk(self._group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True

    # --- inside -------------------------------------------------------------------------------------------------

    def start(self, *command: str, user: str = "root") -> subprocess.Popen[str]:
        """A command inside, as that user with all its groups; its output is captured."""
        path = os.environ.get("PYTHONPATH", "")
        become = () if user == "root" else ("setpriv", "--reuid", user, "--regid", user, "--init-groups")
        return subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ >"$1/commands/cgroup.procs" && shift && exec "$@"', "sh", str(self._group)),
                *("nsenter", "--target", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
                *("--wdns=/", "--", "env", "-i", f"PATH={_PATH}", f"PYTHONPATH={path}", *become, *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, user: str = "root", check: bool = True) -> str:
        """What a command inside says on standard output, without the white space around it. `check`: fail where it
        exits with another status than 0.
        """
        process = self.start(*command, user=user)
        out, error = process.communicate(timeout=TIMEOUT_S)
        if check and process.returncode:
            pytest.fail(f"{' '.join(command)}: exit status {process.returncode}\n{out}{error}")
        return out.strip()

    def path(self, path: str) -> Path:
        """A file inside, for reading and writing from outside. Absolute links in it lead astray."""
        return Path(f"/proc/{self._pid}/root{path}")


def need_systemd() -> None:
    """Skips the test where there is none that knows all keys of the unit, or a tool is missing."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    said = subprocess.run(["systemctl", "--version"], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    version = int(re.findall(r"\d+", said.stdout)[0])
    if version < OLDEST:
        pytest.skip(f"the unit is for systemd {OLDEST} and newer; this is {version}")


def _cgroup2() -> Path:
    """Where cgroup v2 is mounted. Skips the test where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return Path(fields[1])
    pytest.skip("cgroup v2 is not mounted")
