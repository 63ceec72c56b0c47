"""What is known of a training job at one moment, as frozen data: its rules, turn, cohort, answers and losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from shared.errors import BadSetting
from shared.secagg.mask_sharing import MaskSharing

Phase = Literal["collecting", "signing", "asking", "opening", "judging", "closed", "abandoned", "finished", "failed"]
# In the limits on declared users: whoever is not named.
EVERYBODY_ELSE = "*"
C = TypeVar("C")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What does not change during a job.

    num_steps: releases that the plan asks for. min_tenants, min_users: least cohort of a release, in declared users.
    cohorts: how many an attempt has, and least_cohorts, how many of them must stand in the end.
    max_users: capacity of the sum. sharing: which helper can answer for which masks, None where peers answer
    themselves. max_attempts: at one step, by this run.
    max_declared_users: most users that a client may declare, by its name or for EVERYBODY_ELSE; without an entry the
    capacity alone bounds it.
    """

    num_steps: int
    min_tenants: int
    min_users: int
    max_users: int
    sharing: MaskSharing | None
    max_attempts: int
    max_declared_users: Mapping[str, int] = field(default_factory=dict)
    cohorts: int = 1
    least_cohorts: int = 1

    def __post_init__(self) -> None:
        for name in ("num_steps", "min_tenants", "min_users", "max_attempts", "cohorts", "least_cohorts"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.sharing is None and self.cohorts > 1:
            raise BadSetting("peers are summed in one cohort")
        for client, most in self.max_declared_users.items():
            if most < 1:
                raise BadSetting(f"max_declared_users of {client} must be at least 1, got {most}")

    def most_users(self, client: str) -> int:
        """How many users `client` may declare."""
        limits = self.max_declared_users
        return min(self.max_users, limits.get(client, limits.get(EVERYBODY_ELSE, self.max_users)))


@dataclass(frozen=True, kw_only=True, order=True)
class Turn:
    """One attempt at one step; attempts count from 0 over the whole life of the job, restarts included."""

    step: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Offer(Generic[C]):
    """A contribution whose signature was verified, with the number of users that its client's policy declares.

    cohort: which one its client was dealt into.
    """

    client: str
    declared_users: int
    contribution: C
    cohort: int = 0


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Who left this attempt and why: a party, a node that never named itself, or a helper that is asked no more.

    No personal data.
    """

    party: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CohortDropped:
    """A cohort of this attempt that the total will not hold, and why. No personal data."""

    cohort: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A client that is left out of the job from now on, and the helper whose word that rests on.

    proven: it rests on nobody's word; helper is then the tenant whose shares showed it, empty where it was many.
    """

    client: str
    helper: str
    proven: bool = False


@dataclass(frozen=True, kw_only=True)
class Needed:
    """How many peers have to sign the cohort, and to give their shares, for a sum that may open."""

    signers: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class Answered(Generic[A]):
    """A helper's verified answer for the slots that it was asked for; a peer's has none."""

    helper: str
    slots: tuple[str, ...]
    answer: A


Asked = tuple[tuple[str, tuple[str, ...]], ...]
"""(helper, slots) pairs, sorted."""


@dataclass(frozen=True, kw_only=True)
class JobState(Generic[C, A]):
    """Where a job stands.

    waiting: which helpers are asked for which slots and have not spoken. lost: helpers that are asked for nothing more
    in this attempt. accusations: what they said of clients. reason: why an attempt was given up.
    needed, signers: of peers, the latter having signed the cohort.
    at: the cohort that is asked about. opened: cohorts whose sums are open. dropped: those that were not asked about,
    being too small, and those that were judged to be poisoned.
    `excluded` is what this run of the server goes by, at this step and the later ones; another run starts without it.
    """

    rules: Rules
    turn: Turn
    last_attempt: int
    phase: Phase = "collecting"
    offers: tuple[Offer[C], ...] = ()
    departures: tuple[Departure, ...] = ()
    waiting: Asked = ()
    answers: tuple[Answered[A], ...] = ()
    lost: tuple[Departure, ...] = ()
    accusations: tuple[Exclusion, ...] = ()
    reason: str = ""
    excluded: tuple[Exclusion, ...] = ()
    needed: Needed | None = None
    signers: tuple[str, ...] = ()
    at: int = 0
    opened: tuple[int, ...] = ()
    dropped: tuple[CohortDropped, ...] = ()

    @property
    def num_users(self) -> int:
        """Declared users of the contributions accepted so far."""
        return sum(offer.declared_users for offer in self.offers)

    @property
    def asked_about(self) -> tuple[Offer[C], ...]:
        """The contributions of the cohort at hand."""
        return tuple(offer for offer in self.offers if offer.cohort == self.at)

    @property
    def cohort(self) -> tuple[str, ...]:
        return tuple(offer.client for offer in self.offers)
