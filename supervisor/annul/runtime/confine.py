"""What `JobContext.confine` leaves to a job: which files Python and the system need, and what the kernel can hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from annul import landlock, prctl, seccomp
from annul.landlock import Access
from annul.runtime.launch import Launch

Paths = Iterable[str | os.PathLike[str]]

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
# Not /etc as a whole: a daemon that runs as root could read its secrets.
_SYSTEM = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/locale.conf", "/etc/os-release", "/etc/mime.types"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf"),
    *("/etc/gai.conf", "/etc/services", "/etc/protocols"),
    *(
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ca-certificates",
        "/etc/crypto-policies",
    ),
    *("/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust"),
    *("/var/lib/ca-certificates", "/etc/fonts", "/var/cache/fontconfig"),
    # Of other processes it shows who they are: their memory, environment and files are refused by Landlock.
    *("/proc", "/sys/devices/system/cpu", "/sys/devices/system/node"),
)
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def confine(launch: Launch, *, network: bool, read: Paths, write: Paths) -> list[str]:
    """As `JobContext.confine` says. What of that does not hold here, in words. Raises OSError."""
    lacks: list[str] = []
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 (quicker)
        lacks.append(f"{threads - 1} threads that were started before are not confined")
    prctl.set_no_new_privs()
    prctl.drop_capabilities()  # root's reach beyond what Landlock knows of: kernel modules, others' environments
    version = landlock.abi()
    if version:
        landlock.restrict(_rules(launch, read, write), tcp=network)
    if seccomp.available():
        seccomp.refuse_sockets(internet=network)
    return lacks + lacking(version)


def lacking(version: int) -> list[str]:
    """What the kernel does not hold, in words. `version`: its Landlock ABI."""
    lacks = []
    if not version:
        lacks.append("files and processes of this user are not protected: this kernel has no Landlock")
    elif version < landlock.SCOPED_ABI:
        lacks.append("other processes of this user can be signalled: Linux 6.12 refuses that")
    if 0 < version < landlock.TRUNCATE_ABI:
        lacks.append("files elsewhere can be cut: Linux 6.2 refuses that")
    if not seccomp.available():
        lacks.append("sockets are not refused: there is no seccomp here, or not for this processor")
    return lacks


def _rules(launch: Launch, read: Paths, write: Paths) -> Iterator[tuple[str | os.PathLike[str], Access]]:
    for path in _PROGRAMS:
        yield path, Access.RUN
    for path in _pythons(launch):
        yield path, Access.RUN
    for path in (*_SYSTEM, *(os.environ[name] for name in _CERTIFICATES if name in os.environ)):
        yield path, Access.READ
    for path in _DEVICES:
        yield path, Access.USE
    yield launch.run_dir, Access.READ
    yield launch.attempt_dir, Access.CHANGE
    for one in read:
        yield one, Access.READ
    for one in write:
        yield one, Access.CHANGE


def _pythons(launch: Launch) -> set[str]:
    """The interpreter, its libraries, and the package that the job is from."""
    # The first is where the daemon was started, since zygotes are run by -m: that may be anybody's home.
    found = sys.path if sys.flags.safe_path else sys.path[1:]
    inside = f"{launch.attempt_dir}/"  # of none of them may it be: all that users have lies beside it
    paths = {path for path in found if path and not inside.startswith(f"{path.rstrip('/')}/")}
    package = sys.modules.get(launch.target.partition(":")[0].partition(".")[0])
    own = getattr(package, "__path__", None) or [getattr(package, "__file__", None) or sys.prefix]
    return paths | {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *own}
