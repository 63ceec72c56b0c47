"""A training job as frozen data and one pure function: no socket, no clock, no cryptography.

One attempt at one step runs through these phases; every other event raises IllegalTransition::

    collecting ──CollectionClosed──▶ asking ──HelperAnswered (all)──▶ opening ──SumOpened──▶ closed
        │                              │                                │                      │
        └── cohort too small ──────────┴── HelperFailed, HelperAccused ─┴── OpeningFailed      │ StepStored
                      │                                                                        ▼
                      ▼                                               next step's collecting, or finished
        abandoned ──AttemptStarted──▶ collecting, attempt + 1
        failed, when no attempt is left, or without the accused client no cohort

A turn (step, attempt) names one context of the aggregation protocol. Its cohort is frozen by CollectionClosed, so the
helpers of a turn are only ever asked about one set of contributions; an attempt given up is never taken up again.

A client whose seal a helper cannot open would spoil every attempt, and only the helper can see it. So the helper is
believed, within bounds, for it may lie: one client an attempt, whoever accuses and however often; the client stays out
for the rest of this run; and the job ends, naming both, where the others would be too few.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar, assert_never

from shared.errors import BadSetting, CapacityExceeded, IllegalTransition

Phase = Literal["collecting", "asking", "opening", "closed", "abandoned", "finished", "failed"]
# In the limits on declared users: whoever is not named.
EVERYBODY_ELSE = "*"
C = TypeVar("C")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What does not change during a job.

    num_steps: releases that the plan asks for. min_tenants, min_users: least cohort of a release, in declared users.
    max_users: capacity of the sum. helpers: all of them must answer. max_attempts: at one step, by this run.
    max_declared_users: most users that a client may declare, by its name or for EVERYBODY_ELSE; without an entry the
    capacity alone bounds it.
    """

    num_steps: int
    min_tenants: int
    min_users: int
    max_users: int
    helpers: tuple[str, ...]
    max_attempts: int
    max_declared_users: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("num_steps", "min_tenants", "min_users", "max_attempts"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.helpers or len(set(self.helpers)) != len(self.helpers):
            raise BadSetting("helpers must be different names, one at least")
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
    """A contribution whose signature was verified, with the number of users that its client's policy declares."""

    client: str
    declared_users: int
    contribution: C


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Who left this attempt (a party's name, or a node that never named itself) and why; no personal data."""

    party: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A client that is left out of the job from now on, and the helper whose word that rests on."""

    client: str
    helper: str


@dataclass(frozen=True, kw_only=True)
class JobState(Generic[C, A]):
    """Where a job stands. `answers` pairs helpers with their answers; `reason` says why an attempt was given up.

    `excluded` is what this run of the server goes by, at this step and the later ones; another run starts without it.
    """

    rules: Rules
    turn: Turn
    last_attempt: int
    phase: Phase = "collecting"
    offers: tuple[Offer[C], ...] = ()
    departures: tuple[Departure, ...] = ()
    answers: tuple[tuple[str, A], ...] = ()
    reason: str = ""
    excluded: tuple[Exclusion, ...] = ()

    @property
    def num_users(self) -> int:
        """Declared users of the contributions accepted so far."""
        return sum(offer.declared_users for offer in self.offers)

    @property
    def cohort(self) -> tuple[str, ...]:
        return tuple(offer.client for offer in self.offers)


# --- events: what happened ---


@dataclass(frozen=True, kw_only=True)
class ContributionArrived(Generic[C]):
    turn: Turn
    offer: Offer[C]


@dataclass(frozen=True, kw_only=True)
class PartyLeft:
    """It failed, refused, or sent what no honest party sends. The attempt goes on without it."""

    turn: Turn
    party: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CollectionClosed:
    """Everybody spoke or the time is over."""

    turn: Turn


@dataclass(frozen=True, kw_only=True)
class HelperAnswered(Generic[A]):
    turn: Turn
    helper: str
    answer: A


@dataclass(frozen=True, kw_only=True)
class HelperFailed:
    turn: Turn
    helper: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class HelperAccused:
    """In place of an answer: the helper signed that the seal of this client of the cohort does not open."""

    turn: Turn
    helper: str
    client: str


@dataclass(frozen=True, kw_only=True)
class SumOpened:
    turn: Turn


@dataclass(frozen=True, kw_only=True)
class OpeningFailed:
    turn: Turn
    reason: str


@dataclass(frozen=True, kw_only=True)
class StepStored:
    """The released sum is in a durable checkpoint. `next_attempt` is the first number unused at the next step."""

    turn: Turn
    next_attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class AttemptStarted:
    """Time to try again. `turn` is the abandoned one."""

    turn: Turn


Event = (
    ContributionArrived[C]
    | PartyLeft
    | CollectionClosed
    | HelperAnswered[A]
    | HelperFailed
    | HelperAccused
    | SumOpened
    | OpeningFailed
    | StepStored
    | AttemptStarted
)

# --- actions: what to do now ---


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Record the turn as started, durably, so that no later run uses it again; then send the request to every node."""

    turn: Turn


@dataclass(frozen=True, kw_only=True)
class AskHelpers(Generic[C]):
    """Ask each of `helpers` (those that have not answered) about exactly these offers."""

    turn: Turn
    offers: tuple[Offer[C], ...]
    helpers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OpenSum(Generic[C, A]):
    turn: Turn
    offers: tuple[Offer[C], ...]
    answers: tuple[tuple[str, A], ...]


@dataclass(frozen=True, kw_only=True)
class StoreStep(Generic[C]):
    turn: Turn
    offers: tuple[Offer[C], ...]


@dataclass(frozen=True, kw_only=True)
class StartAttempt:
    """Go on to attempt `turn.attempt`, after a pause in which a party that fell over may come back."""

    turn: Turn


@dataclass(frozen=True, kw_only=True)
class Publish:
    pass


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    reason: str


Action = Collect | AskHelpers[C] | OpenSum[C, A] | StoreStep[C] | StartAttempt | Publish | GiveUp

_LEGAL: dict[Phase, tuple[type, ...]] = {
    "collecting": (ContributionArrived, PartyLeft, CollectionClosed),
    "asking": (HelperAnswered, HelperFailed, HelperAccused),
    "opening": (SumOpened, OpeningFailed),
    "closed": (StepStored,),
    "abandoned": (AttemptStarted,),
    "finished": (),
    "failed": (),
}


def begin(rules: Rules, *, step: int = 0, attempt: int = 0) -> JobState[C, A]:
    """The job before its first event, or at the first step that no checkpoint holds.

    attempt: one more than any that was ever started at this step. With every step already stored the job is finished.
    """
    if not 0 <= step <= rules.num_steps or attempt < 0:
        raise BadSetting(f"a job of {rules.num_steps} steps cannot begin at step {step}, attempt {attempt}")
    phase: Phase = "finished" if step == rules.num_steps else "collecting"
    turn = Turn(step=step, attempt=attempt)
    return JobState(rules=rules, turn=turn, last_attempt=attempt + rules.max_attempts - 1, phase=phase)


def advance(state: JobState[C, A], event: Event[C, A]) -> JobState[C, A]:
    """The state after `event`.

    Raises IllegalTransition for an event that this phase or turn does not allow, a second contribution by one client or
    one by a client left out, a helper that was not asked, or an accused that is not in the cohort; CapacityExceeded for
    more users than the client may declare or than the sum can hold. `state` stays valid.
    """
    if not isinstance(event, _LEGAL[state.phase]):
        raise IllegalTransition(f"{type(event).__name__} cannot happen while the round is {state.phase}")
    if event.turn != state.turn:
        raise IllegalTransition(
            f"{type(event).__name__} is about {_text(event.turn)}, the job is at {_text(state.turn)}"
        )
    match event:
        case ContributionArrived(offer=offer):
            return _accept(state, offer)
        case PartyLeft(party=party, reason=reason):
            return _leave(state, party, reason)
        case CollectionClosed():
            return _close_collection(state)
        case HelperAnswered(helper=helper, answer=answer):
            return _answer(state, helper, answer)
        case HelperFailed(helper=helper, reason=reason):
            _require_asked(state, helper)
            return _abandon(state, f"helper {helper}: {reason}")
        case HelperAccused(helper=helper, client=client):
            return _exclude(state, helper, client)
        case SumOpened():
            return replace(state, phase="closed")
        case OpeningFailed(reason=reason):
            return _abandon(state, reason)
        case StepStored(next_attempt=attempt):
            following: JobState[C, A] = begin(state.rules, step=state.turn.step + 1, attempt=attempt)
            return replace(following, excluded=state.excluded)
        case AttemptStarted():
            turn = Turn(step=state.turn.step, attempt=state.turn.attempt + 1)
            return JobState(rules=state.rules, turn=turn, last_attempt=state.last_attempt, excluded=state.excluded)
        case _:
            assert_never(event)


def action(state: JobState[C, A]) -> Action[C, A]:
    """What to do now; a function of the state alone, so doing it again after a crash asks for nothing else."""
    match state.phase:
        case "collecting":
            return Collect(turn=state.turn)
        case "asking":
            answered = {helper for helper, _ in state.answers}
            waiting = tuple(helper for helper in state.rules.helpers if helper not in answered)
            return AskHelpers(turn=state.turn, offers=state.offers, helpers=waiting)
        case "opening":
            return OpenSum(turn=state.turn, offers=state.offers, answers=state.answers)
        case "closed":
            return StoreStep(turn=state.turn, offers=state.offers)
        case "abandoned":
            return StartAttempt(turn=Turn(step=state.turn.step, attempt=state.turn.attempt + 1))
        case "finished":
            return Publish()
        case "failed":
            return GiveUp(reason=state.reason)
        case _:
            assert_never(state.phase)


def _accept(state: JobState[C, A], offer: Offer[C]) -> JobState[C, A]:
    if offer.client in state.cohort:
        raise IllegalTransition(
            f"{offer.client} contributed to {_text(state.turn)} already; its first contribution stands"
        )
    if offer.declared_users < 1:
        raise IllegalTransition(f"{offer.client} declares {offer.declared_users} users")
    for exclusion in state.excluded:
        if exclusion.client == offer.client:
            raise IllegalTransition(f"it is left out of this job: {_text_of(exclusion)}")
    most = state.rules.most_users(offer.client)
    if offer.declared_users > most:
        raise CapacityExceeded(f"{offer.client} declares {offer.declared_users} users, this server allows it {most}")
    if state.num_users + offer.declared_users > state.rules.max_users:
        raise CapacityExceeded(
            f"{offer.client}'s {offer.declared_users} users would make {state.num_users + offer.declared_users}, "
            f"the sum holds {state.rules.max_users}"
        )
    return replace(state, offers=(*state.offers, offer))


def _leave(state: JobState[C, A], party: str, reason: str) -> JobState[C, A]:
    if party in state.cohort:
        # A client speaks once and is then no longer needed: nothing that happens to it later can withdraw its part.
        raise IllegalTransition(f"{party} contributed to {_text(state.turn)} already; its contribution stands")
    return replace(state, departures=(*state.departures, Departure(party=party, reason=reason)))


def _close_collection(state: JobState[C, A]) -> JobState[C, A]:
    shortfall = _shortfall(state.rules, state.offers)
    if not shortfall:
        return replace(state, phase="asking")
    return _abandon(state, "; ".join([shortfall, *(f"left out: {_text_of(each)}" for each in state.excluded)]))


def _shortfall(rules: Rules, offers: tuple[Offer[C], ...]) -> str:
    num_users = sum(offer.declared_users for offer in offers)
    if len(offers) < rules.min_tenants:
        return f"{len(offers)} tenants contributed, at least {rules.min_tenants} are needed"
    if num_users < rules.min_users:
        return f"the cohort declares {num_users} users, at least {rules.min_users} are needed"
    return ""


def _answer(state: JobState[C, A], helper: str, answer: A) -> JobState[C, A]:
    _require_asked(state, helper)
    answers = (*state.answers, (helper, answer))
    return replace(state, answers=answers, phase="opening" if len(answers) == len(state.rules.helpers) else "asking")


def _exclude(state: JobState[C, A], helper: str, client: str) -> JobState[C, A]:
    _require_asked(state, helper)
    if client not in state.cohort:
        raise IllegalTransition(f"{helper} accuses {client}, which did not contribute to {_text(state.turn)}")
    exclusion = Exclusion(client=client, helper=helper)
    state = replace(state, excluded=(*state.excluded, exclusion))
    shortfall = _shortfall(state.rules, tuple(offer for offer in state.offers if offer.client != client))
    if shortfall:
        # Another attempt would be charged to the others and most likely be too small as well.
        reason = f"{'; '.join(map(_text_of, state.excluded))}; without {client} {shortfall}"
        return replace(state, phase="failed", reason=reason)
    return _abandon(state, _text_of(exclusion))


def _require_asked(state: JobState[C, A], helper: str) -> None:
    if helper not in state.rules.helpers or helper in {name for name, _ in state.answers}:
        raise IllegalTransition(f"no answer of {helper} is awaited at {_text(state.turn)}")


def _abandon(state: JobState[C, A], reason: str) -> JobState[C, A]:
    phase: Phase = "failed" if state.turn.attempt >= state.last_attempt else "abandoned"
    return replace(state, phase=phase, reason=reason)


def _text_of(exclusion: Exclusion) -> str:
    return f"helper {exclusion.helper} says that the seal of {exclusion.client} does not open"


def _text(turn: Turn) -> str:
    return f"step {turn.step}, attempt {turn.attempt}"
