"""The roles of those who connect on this machine: by the uid and the groups that the kernel tells of them.

root and the daemon's own user are admins; members of the group of the runtime directory may submit, which is how they
came in where that is 0750; the configuration may say otherwise of users and groups.
"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from annul.access import Grant, Role
from annul.clock import Clock

_KEPT_S = 10.0  # a change of /etc/group counts after that time


class Peers:
    """Owned by the loop thread."""

    def __init__(self, runtime_dir: Path, roles: dict[Role, list[str]], clock: Clock) -> None:
        """`roles`: who has which beside that, each a user's name, a uid, or a group as "@name"."""
        self._group = runtime_dir.stat().st_gid
        self._roles = roles
        self._clock = clock
        self._known: dict[tuple[int, int], tuple[float, Grant | None]] = {}

    def grant(self, uid: int, gid: int) -> Grant | None:
        """None: nothing."""
        now = self._clock.monotonic()
        until, found = self._known.get((uid, gid), (0.0, None))
        if now >= until:
            if len(self._known) > 10_000:
                self._known.clear()
            role = self._role(uid, gid)
            found = Grant(name=f"uid:{uid}", role=role, local=True) if role else None
            self._known[uid, gid] = (now + _KEPT_S, found)
        return found

    def _role(self, uid: int, gid: int) -> Role | None:
        if uid in (0, os.geteuid()):
            return Role.ADMIN
        names, groups = _names(uid, gid)
        for role in (Role.ADMIN, Role.SUBMIT, Role.READ):
            if names & set(self._roles.get(role, ())):
                return role
        return Role.SUBMIT if self._group in groups else None


def _names(uid: int, gid: int) -> tuple[set[str], set[int]]:
    """All that the configuration may call it by, and its groups."""
    groups = {gid}
    names = {str(uid)}
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        pass  # a uid without a name
    else:
        names.add(user.pw_name)
        groups.update(os.getgrouplist(user.pw_name, gid))
    for one in groups:
        try:
            names.add(f"@{grp.getgrgid(one).gr_name}")
        except KeyError:
            pass
    return names, groups
