"""Who may what: a role for everyone who asks, and what each request needs. Pure.

    read    sees jobs, their logs, results and outputs
    submit  also submits jobs, and cancels, pauses, moves, retries and purges its own
    admin   everything, draining too

A grant that is bound to a user sees and stops that user's jobs only: of another's it is told what it is told of one
that does not exist.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from annul.errors import Refused
from annul_client import wire

USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}")
"""What a user may be called."""
USER_RULE = "1 to 64 ASCII letters, digits and ._@+-, beginning with a letter, a digit or _"


class Role(StrEnum):
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may do."""

    name: str  # recorded as who it was: "uid:1000", "key:web"
    role: Role
    local: bool = False  # on this machine, where the kernel vouches for who it is
    user: str | None = None  # the only one whose jobs exist for it; None: all users'
    types: frozenset[str] | None = None  # job types that it may submit; None: all but the privileged ones

    @property
    def is_local_admin(self) -> bool:
        """Whether it may name any file that the daemon can read, and run any program."""
        return self.local and self.role is Role.ADMIN

    def sees(self, user: str) -> bool:
        """Whether the jobs of a user exist for it."""
        return self.user is None or self.user == user

    def owns(self, user: str, submitted_by: str) -> bool:
        """Whether it may stop a job that it sees."""
        return self.role is Role.ADMIN or (
            self.role is Role.SUBMIT and (submitted_by == self.name or self.user == user)
        )

    def check_owns(self, job_id: str, user: str, submitted_by: str) -> None:
        """Raises Refused(forbidden) where it may not stop a job that it sees."""
        if not self.owns(user, submitted_by):
            raise Refused(
                "forbidden", f"job {job_id} was submitted by {submitted_by or 'another'}: {self.name} is no admin"
            )

    def check_type(self, name: str, *, privileged: bool) -> None:
        """Raises Refused(forbidden) where it may not submit jobs of a type."""
        allowed = self.is_local_admin or not privileged if self.types is None else name in self.types
        if not allowed:
            why = "runs any program: only admins on this machine may" if privileged else "is none of those that it may"
            raise Refused(
                "forbidden",
                f"{self.name} may not submit {name}, which {why}; a key can be made for it (--type)",
                "type",
            )

    def user_for(self, asked: str) -> str:
        """Whose job it is that it submits. Raises Refused(forbidden) for another user than it is bound to."""
        if self.user is None or asked == self.user:
            return asked
        if asked:
            raise Refused(
                "forbidden", f"{self.name} submits jobs of user {self.user} only, not of {asked[:80]}", "user"
            )
        return self.user


_CHANGES = (
    *(wire.Submit, wire.SubmitMany, wire.Cancel, wire.Purge),
    *(wire.Pause, wire.Unpause, wire.Reprioritize, wire.Retry),
)
_RULES = (wire.Drain, wire.Resume)  # for everybody's jobs
_ORDER = list(Role)


def needs(request: wire.Request) -> Role:
    """The least role that may ask for this; whether for this very job is up to `Grant`."""
    if isinstance(request, _RULES):
        return Role.ADMIN
    return Role.SUBMIT if isinstance(request, _CHANGES) else Role.READ


def check(grant: Grant, request: wire.Request) -> None:
    """Raises Refused(forbidden)."""
    needed = needs(request)
    if _ORDER.index(grant.role) < _ORDER.index(needed):
        verb = request.__struct_config__.tag
        raise Refused("forbidden", f"{grant.name} may {grant.role} only: `{verb}` needs the role {needed}")
