"""The grid: what a job does x what its tree looks like x how it is cancelled; and what is expected of each.

Trials are dealt from shuffled decks, so that a few hundred of them have had every card. The same seed deals the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from torture.shapes import COMMAND_SHAPES, SHAPES

T = TypeVar("T")

SOFT_GRACE_S = 30.0  # of jobs that end by themselves when cancelled: a SIGKILL would be a fault
BEFORE, FLAG, SIGTERM, SIGKILL = "before_start", "flag", "sigterm", "sigkill"
ACCEPTED = frozenset({"cancelling", "cancelled_before_start"})


class Behaviour(msgspec.Struct, frozen=True):
    """What a job does when the cancel comes."""

    type: str = "race"
    stages: frozenset[str] = frozenset({FLAG, SIGTERM})  # that may end it, once it is where it wants to be
    outcomes: frozenset[str] = frozenset({"cancelling"})  # of its first cancel
    tree: bool = True  # it may have descendants
    own: str = ""  # its name in kinds.py, where that differs
    manners: tuple[str, ...] = ()  # how it may be cancelled; (): in every way that its type allows


_ANY = frozenset({BEFORE, FLAG, SIGTERM, SIGKILL})
_KILLED = frozenset({SIGKILL})
_RACED = frozenset({"cancelling", "already_final"})
_RACING = ("id", "kill", "twice", "vanish", "daemon-stopped", "user", "label")

BEHAVIOURS: dict[str, Behaviour] = {
    "queued": Behaviour(
        stages=frozenset({BEFORE}),
        outcomes=frozenset({"cancelled_before_start"}),
        tree=False,
        own="done",
        manners=("id", "user", "label", "twice", "vanish", "daemon-stopped", "store-locked"),
    ),
    "starting": Behaviour(
        stages=_ANY,
        outcomes=ACCEPTED | {"not_found"},
        own="syscall",
        manners=("id", "user", "label", "kill", "twice", "vanish", "daemon-stopped", "store-locked"),
    ),
    "zygote-importing": Behaviour(type="race-zygote", stages=_ANY, outcomes=ACCEPTED, tree=False, own="syscall"),
    "import": Behaviour(),
    "python": Behaviour(),
    "gil": Behaviour(stages=_KILLED),
    "syscall": Behaviour(),
    "ignored": Behaviour(stages=_KILLED),
    # The thread that beats takes the SIGTERM; what asks for the stacks wakes the main one up, just before the deadline.
    "blocked": Behaviour(stages=_KILLED | {SIGTERM}),
    "stopped": Behaviour(),
    "stopped-member": Behaviour(),
    "shield": Behaviour(),
    "async": Behaviour(type="race-async"),
    "flag": Behaviour(type="race-flag"),
    "openai": Behaviour(type="race-openai"),
    "openai-stream": Behaviour(type="race-openai"),
    "pypdf": Behaviour(type="race-pdf"),
    "writing": Behaviour(),
    "sqlite": Behaviour(),
    "finishing": Behaviour(stages=_ANY, outcomes=_RACED, manners=_RACING),
    "failing": Behaviour(stages=_ANY, outcomes=_RACED, manners=_RACING),
    "leader-exits": Behaviour(stages=_ANY, outcomes=_RACED, manners=_RACING),
    "zombie-leader": Behaviour(stages=_KILLED | {SIGTERM}),  # its main thread may not have ended yet
    "finished": Behaviour(outcomes=frozenset({"already_final"}), own="done", manners=("id",)),
    "exec": Behaviour(type="exec"),
    "exec-ends": Behaviour(type="exec", stages=_ANY, outcomes=_RACED, manners=_RACING),
    "burst": Behaviour(stages=_ANY, outcomes=ACCEPTED, tree=False, own="syscall", manners=("id", "user", "label")),
    "unknown": Behaviour(outcomes=frozenset({"not_found"}), tree=False, manners=("id",)),
}
MANNERS = ["id", "user", "label", "type", "kill", "twice", "vanish", "daemon-stopped", "store-locked"]
_BURSTS = [100, 100, 100, 300, 100, 100, 1000, 100]
_BURST_EVERY = 4  # decks


class Trial(msgspec.Struct, frozen=True):
    """One job (a burst: many), and when and how it is cancelled."""

    number: int
    behaviour: str
    manner: str
    shape: str
    exec_: bool  # its descendants are exec'ed
    stubborn: bool  # and ignore SIGTERM
    grace_s: float
    moment: float  # 0 to 1: when, within the time that the behaviour allows
    blind: bool  # `starting`: sent without waiting for the answer to the submit
    size: int = 1  # jobs of a burst

    @property
    def terms(self) -> Behaviour:
        return BEHAVIOURS[self.behaviour]

    @property
    def does(self) -> str:
        """The behaviour's name in kinds.py."""
        return self.terms.own or self.behaviour

    @property
    def stages(self) -> frozenset[str]:
        """What may end its job, where it was cancelled once it was where it wanted to be."""
        if self.manner == "kill" and self.terms.stages != _ANY:
            return _KILLED | ({BEFORE} & self.terms.stages)
        # A chain is ahead of whoever tells its members; and a shell's child loses a SIGTERM that meets its fork.
        forking = self.shape == "chain" or (self.shape == "fork-bomb" and self.terms.type == "exec")
        may_outlive = self.stubborn or self.manner == "twice" or forking
        return self.terms.stages | (_KILLED if may_outlive else frozenset())


class _Deck(Generic[T]):
    """Shuffled cards; when none of those left fits, another deck is put below."""

    def __init__(self, rng: random.Random, cards: list[T]) -> None:
        self._rng = rng
        self._cards = cards
        self._left: list[T] = []

    def deal(self, fits: Callable[[T], bool] = lambda _: True) -> T:
        while True:
            for place, card in enumerate(self._left):
                if fits(card):
                    return self._left.pop(place)
            self._left += self._rng.sample(self._cards, len(self._cards))


def deal(seed: int, count: int) -> list[Trial]:
    """The first `count` trials of a seed."""
    rng = random.Random(seed)
    decks = [name for name in BEHAVIOURS if name != "burst"] * _BURST_EVERY
    behaviours, manners, shapes = _Deck(rng, [*decks, "burst"]), _Deck(rng, MANNERS), _Deck(rng, SHAPES)
    bursts = iter(_BURSTS * (count // len(_BURSTS) + 1))
    return [_trial(rng, number, behaviours.deal(), manners, shapes, bursts) for number in range(count)]


def _trial(
    rng: random.Random, number: int, behaviour: str, manners: _Deck[str], shapes: _Deck[str], bursts: Iterator[int]
) -> Trial:
    terms = BEHAVIOURS[behaviour]

    def possible(manner: str) -> bool:
        return manner in terms.manners if terms.manners else manner != "type" or terms.type == "race"

    manner = manners.deal(possible)
    shape = shapes.deal(lambda one: one in COMMAND_SHAPES or terms.type != "exec") if terms.tree else "none"
    stubborn = shape != "none" and rng.random() < 0.25
    one = Trial(
        number=number,
        behaviour=behaviour,
        manner=manner,
        shape=shape,
        exec_=rng.random() < 0.5,
        stubborn=stubborn,
        grace_s=round(rng.uniform(0.05, 0.3), 3),
        moment=rng.random(),
        blind=rng.random() < 0.5,
        size=next(bursts) if behaviour == "burst" else 1,
    )
    if manner == "kill":
        return msgspec.structs.replace(one, grace_s=0.0)
    return one if SIGKILL in one.stages else msgspec.structs.replace(one, grace_s=SOFT_GRACE_S)
