"""What a process takes from itself (`landlock`, `seccomp`, capabilities): tried in children, since it is for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from annul import landlock, seccomp

has_landlock = pytest.mark.skipif(landlock.abi() < landlock.SCOPED_ABI, reason="this kernel's Landlock is old, or none")
has_seccomp = pytest.mark.skipif(not seccomp.available(), reason="there is no seccomp here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to give up")

START = """
import ctypes, errno, os, socket, sys, threading
from pathlib import Path
from annul import landlock, prctl, seccomp
from annul.landlock import Access
place = Path(sys.argv[1])
def how(call, *args):
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"
prctl.set_no_new_privs()
"""


def said(code: str, place: Path = Path("/")) -> list[str]:
    """What a process prints that runs `code`, in words."""
    command = [sys.executable, "-c", START + code, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()


@has_landlock
def test_each_time_takes_more_away(tmp_path: Path) -> None:
    """What was not allowed once is not allowed later; 16 times at the most."""
    for name in "ab":
        (tmp_path / name).touch()
    code = """
landlock.restrict([(place / "a", Access.READ)], tcp=True)
print(how(Path.read_bytes, place / "a"), how(Path.read_bytes, place / "b"))
landlock.restrict([(place / "b", Access.READ)], tcp=True)
print(how(Path.read_bytes, place / "a"), how(Path.read_bytes, place / "b"))
for _ in range(14):
    landlock.restrict([], tcp=True)
print(how(lambda: landlock.restrict([], tcp=True)))
"""
    assert said(code, tmp_path) == ["ok", "EACCES", "EACCES", "EACCES", "E2BIG"]


@has_landlock
def test_an_access_allows_what_it_says(tmp_path: Path) -> None:
    """Of a folder, and of a file alone."""
    (tmp_path / "program").write_text("#!/bin/true\n")
    (tmp_path / "program").chmod(0o700)
    code = """
access = Access[sys.argv[2]]
landlock.restrict([("/usr", Access.RUN), ("/lib64", Access.RUN), ("/bin", Access.RUN), (place, access)], tcp=True)
def append():
    (place / "program").open("ab").close()
def run():
    if (pid := os.fork()) == 0:
        try:
            os.execv(place / "program", ["program"])
        finally:
            os._exit(77)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise PermissionError(errno.EACCES, "")
print(how(Path.read_bytes, place / "program"), how(append), how(run))
print(how(os.listdir, place), how(os.mkdir, place / "d"))
"""
    found = {}
    for access in landlock.Access:
        command = [sys.executable, "-c", START + code, str(tmp_path), access.name]
        found[access.name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    no = "EACCES"
    assert found == {
        "READ": ["ok", no, no, "ok", no],
        "RUN": ["ok", no, "ok", "ok", no],
        "USE": ["ok", "ok", no, no, no],
        "CHANGE": ["ok", "ok", no, "ok", "ok"],
    }


@has_landlock
def test_threads_that_run_already_are_as_they_were(tmp_path: Path) -> None:
    """Why `confine` says so; later ones are restricted."""
    (tmp_path / "a").touch()
    code = """
go, found = threading.Event(), []
def look():
    go.wait()
    found.append(how(Path.read_bytes, place / "a"))
before = threading.Thread(target=look)
before.start()
landlock.restrict([], tcp=True)
after = threading.Thread(target=look)
after.start()
go.set()
after.join()
before.join()
print(*sorted(found))
"""
    assert said(code, tmp_path) == ["EACCES", "ok"]


SOCKETS = """
from socket import *
kinds = [(AF_INET, SOCK_STREAM), (AF_INET6, SOCK_DGRAM), (AF_NETLINK, SOCK_RAW),
    (AF_UNIX, SOCK_STREAM), (AF_UNIX, SOCK_SEQPACKET), (AF_VSOCK, SOCK_STREAM),
    (AF_UNIX, SOCK_DGRAM), (AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK)]
print(*(how(socket, *kind) for kind in kinds), how(socketpair))
"""


@has_seccomp
def test_sockets_are_refused() -> None:
    """All but UNIX ones for datagrams, and pairs; and with `internet` those of the internet."""
    no = "EACCES"
    assert said("seccomp.refuse_sockets(internet=False)" + SOCKETS) == [no, no, no, no, no, no, "ok", "ok", "ok"]
    assert said("seccomp.refuse_sockets(internet=True)" + SOCKETS) == ["ok"] * 3 + [no, no, no, "ok", "ok", "ok"]
    assert said("seccomp.refuse_sockets(internet=True); seccomp.refuse_sockets(internet=False)" + SOCKETS)[0] == no


@has_seccomp
def test_io_uring_is_refused() -> None:
    """It makes sockets without socket(2)."""
    code = """
libc = ctypes.CDLL(None, use_errno=True)
seccomp.refuse_sockets(internet=False)
print(libc.syscall(425, 1, ctypes.create_string_buffer(128)), errno.errorcode[ctypes.get_errno()])
"""
    assert said(code) == ["-1", "EACCES"]


@has_seccomp
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another processor has no other system calls")
@pytest.mark.parametrize(
    ("name", "machine_code"),
    [
        ("32 bits", b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"),  # mov eax, 20 (getpid); int 0x80; ret
        ("x32", b"\xb8\x27\x00\x00\x40\x0f\x05\xc3"),  # mov eax, 39 | 0x40000000; syscall; ret
    ],
)
def test_other_ways_into_the_kernel_are_refused(name: str, machine_code: bytes) -> None:
    """System calls by the numbers of another architecture, which the filter does not look at."""
    code = f"""
import mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write({machine_code!r})
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print(call() == os.getpid(), flush=True)
seccomp.refuse_sockets(internet=False)
print(call())
"""
    command = [sys.executable, "-c", START + code, "/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if not done.stdout.startswith("True"):
        pytest.skip(f"this kernel has no system calls of {name} anyway")
    assert done.stdout.split() == ["True", "-13"]


WITHOUT_LANDLOCK = """
import struct
steps = [(0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x35, 1, 0, 447), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
assert ctypes.CDLL(None).prctl(22, 2, struct.pack("@HP", len(steps), ctypes.addressof(program)), 0, 0) == 0
"""  # as some containers do: system calls 444 to 446 are answered by ENOSYS


@has_seccomp
def test_where_there_is_no_landlock_the_rest_is_done_and_that_is_said() -> None:
    """`confine` raises nothing then."""
    code = (
        WITHOUT_LANDLOCK
        + """
sys.path.insert(0, sys.argv[1])
import records
from annul.runtime.confine import confine
print(landlock.abi())
lacks = confine(records.launch(), network=False, read=[], write=[])
print(len(lacks), "Landlock" in lacks[0], how(socket.socket), how(Path("/etc/passwd").read_bytes))
"""
    )
    assert said(code, Path(__file__).parents[1]) == ["0", "1", "True", "EACCES", "ok"]


@as_root
def test_root_gives_up_all_but_access_to_files(tmp_path: Path) -> None:
    """Also for what it executes."""
    (tmp_path / "others").touch(mode=0o600)
    os.chown(tmp_path / "others", 1234, 1234)
    code = """
prctl.drop_capabilities()
print(how(Path.read_bytes, place / "others"), how(os.chown, place / "others", 0, 0), how(os.setuid, 1), flush=True)
os.execvp("grep", ["grep", "-h", "Cap[PE]", "/proc/self/status"])
"""
    found = said(code, tmp_path)
    assert found[:3] == ["ok", "EPERM", "EPERM"]
    assert {int(one, 16) for one in found[4::2]} == {2}  # CAP_DAC_OVERRIDE
