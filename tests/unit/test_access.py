"""Who may what: every verb for every role, whose jobs are whose, and how often."""

from __future__ import annotations

import msgspec
import pytest

from annul import access
from annul.access import Grant, Role
from annul.errors import Refused
from annul.rates import Rates
from annul.server import Caller
from annul_client import wire

ADMIN = Grant(name="uid:0", role=Role.ADMIN, local=True)
FAR_ADMIN = Grant(name="key:boss", role=Role.ADMIN)
GROUP = Grant(name="uid:1000", role=Role.SUBMIT, local=True)
WEB = Grant(name="key:web", role=Role.SUBMIT, user="u1")
READER = Grant(name="key:eye", role=Role.READ)

LOOKS = {"ping", "get", "list", "wait", "events", "logs", "result", "output", "types", "stats"}
CHANGES = {"submit", "submit_many", "cancel", "purge", "pause", "unpause", "reprioritize", "retry"}
RULES = {"drain", "resume"}


def requests() -> dict[str, wire.Request]:
    """One of each verb."""
    one = wire.Submit(type="t")
    filled: dict[str, wire.Request] = {
        "ping": wire.Ping(),
        "get": wire.Get(id="j"),
        "list": wire.List(),
        "wait": wire.Wait(id="j"),
        "events": wire.Events(),
        "logs": wire.Logs(id="j"),
        "result": wire.Result(id="j"),
        "output": wire.Output(id="j", name="f"),
        "types": wire.Types(),
        "submit": one,
        "submit_many": wire.SubmitMany(jobs=[one]),
        "cancel": wire.Cancel(id="j"),
        "purge": wire.Purge(id="j"),
        "pause": wire.Pause(id="j"),
        "unpause": wire.Unpause(id="j"),
        "reprioritize": wire.Reprioritize(id="j", priority=1),
        "retry": wire.Retry(id="j"),
        "drain": wire.Drain(),
        "resume": wire.Resume(),
        "stats": wire.Stats(),
    }
    assert set(filled) == wire.VERBS  # a verb that is added says here who may ask for it
    return filled


@pytest.mark.parametrize("verb", sorted(LOOKS | CHANGES | RULES))
def test_each_verb_needs_a_role(verb: str) -> None:
    request = requests()[verb]
    for grant in (ADMIN, FAR_ADMIN):
        access.check(grant, request)
    for grant in (GROUP, WEB):
        if verb in RULES:
            with pytest.raises(Refused, match="needs the role admin"):
                access.check(grant, request)
        else:
            access.check(grant, request)
    if verb in LOOKS:
        access.check(READER, request)
    else:
        with pytest.raises(Refused, match="key:eye may read only") as refused:
            access.check(READER, request)
        assert refused.value.code == "forbidden"


@pytest.mark.parametrize(
    ("grant", "user", "submitted_by", "sees", "owns"),
    [
        (ADMIN, "u2", "key:web", True, True),
        (FAR_ADMIN, "u2", "uid:1000", True, True),
        (GROUP, "u2", "uid:1000", True, True),
        (GROUP, "u2", "uid:1001", True, False),
        (GROUP, "u2", "key:web", True, False),
        (WEB, "u1", "key:web", True, True),
        (WEB, "u1", "uid:1000", True, True),  # its user's, whoever submitted it
        (WEB, "u2", "key:web", False, False),  # of a user that it was bound to before
        (READER, "u2", "key:eye", True, False),
    ],
)
def test_whose_jobs_are_whose(grant: Grant, user: str, submitted_by: str, sees: bool, owns: bool) -> None:
    assert grant.sees(user) is sees
    assert (grant.sees(user) and grant.owns(user, submitted_by)) is owns
    if not owns:
        with pytest.raises(Refused):
            grant.check_owns("j", user, submitted_by) if sees else _not_seen()


def _not_seen() -> None:
    raise Refused("not_found", "")


@pytest.mark.parametrize(
    ("grant", "type_", "privileged", "may"),
    [
        (ADMIN, "exec", True, True),
        (FAR_ADMIN, "exec", True, False),  # an admin's key is stolen more easily than root
        (GROUP, "exec", True, False),
        (GROUP, "import-pdf", False, True),
        (WEB, "import-pdf", False, True),
        (Grant(name="key:a", role=Role.SUBMIT, types=frozenset({"exec"})), "exec", True, True),
        (Grant(name="key:a", role=Role.SUBMIT, types=frozenset({"exec"})), "import-pdf", False, False),
    ],
)
def test_which_types_may_be_submitted(grant: Grant, type_: str, privileged: bool, may: bool) -> None:
    if may:
        grant.check_type(type_, privileged=privileged)
    else:
        with pytest.raises(Refused, match=type_) as refused:
            grant.check_type(type_, privileged=privileged)
        assert (refused.value.code, refused.value.field) == ("forbidden", "type")


def test_whose_jobs_are_submitted() -> None:
    assert GROUP.user_for("u7") == "u7"
    assert GROUP.user_for("") == ""
    assert WEB.user_for("") == "u1"
    assert WEB.user_for("u1") == "u1"
    with pytest.raises(Refused, match="of user u1 only"):
        WEB.user_for("u2")


def test_rates() -> None:
    """A burst is served, and then so many a second; one's haste is not another's."""
    rates = Rates(2)
    assert [rates.take("a", 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert rates.take("b", 0.0)
    assert not rates.take("a", 0.4)
    assert rates.take("a", 0.5)
    assert not rates.take("a", 0.6)
    assert [rates.take("a", 1000.0) for _ in range(21)] == [True] * 20 + [False]
    assert all(Rates(0).take("a", 0.0) for _ in range(10_000))


def test_rates_of_what_counts_as_several() -> None:
    """One that counts as more than a burst has to wait for a whole one, not for ever."""
    rates = Rates(2)
    assert [rates.take("a", 0.0, 8) for _ in range(3)] == [True, True, False]
    assert rates.take("a", 0.0, 4)
    assert not rates.take("a", 9.0, 500)
    assert rates.take("a", 10.0, 500)
    assert not rates.take("a", 10.0)


def test_who_goes_on_is_not_told_for_ever() -> None:
    """A refusal counts as well; who has used up both is not heard until there is one again."""
    rates = Rates(2)
    assert not rates.deaf_to("a", 0.0)
    assert all(rates.take("a", 0.0) for _ in range(20))
    assert [rates.tell("a", 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert rates.deaf_to("a", 0.49)
    assert not rates.deaf_to("b", 0.49)
    assert not rates.deaf_to("a", 0.51)
    assert rates.tell("a", 0.51)
    assert not rates.tell("a", 0.51)
    assert rates.deaf_to("a", 0.52)
    rates.limit(0)
    assert not rates.deaf_to("a", 0.52)
    assert all(rates.tell("a", 0.52) for _ in range(100))


def test_who_is_shut_out_is_told_nothing_else() -> None:
    """Neither an answer nor a refusal of what was asked for before."""
    said: list[bytes] = []
    caller = Caller(lambda _, body: said.append(body), [b"peer"], WEB, "r1", json=True, still=lambda: False)
    caller.refuse(Refused("not_found", "no job has this id"))
    caller.answer(wire.ListReply(jobs=[]))
    assert [msgspec.json.decode(one)["error"]["code"] for one in said] == ["forbidden", "forbidden"]
