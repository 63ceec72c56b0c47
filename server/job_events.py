"""What can happen to a job, and what is then to be done: the words between `server.rounds` and whoever drives it."""

from dataclasses import dataclass
from typing import Generic

from server.job_state import A, Answered, Asked, C, CohortDropped, Needed, Offer, Turn

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
    """Everybody spoke or the time is over. absent: helpers that did not speak, so cannot be asked.

    needed: of peers, where there are no helpers.
    """

    turn: Turn
    absent: tuple[str, ...] = ()
    needed: Needed | None = None


@dataclass(frozen=True, kw_only=True)
class HelperAnswered(Generic[A]):
    """It answered, for exactly the slots that it was asked for."""

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
class PeerSigned:
    turn: Turn
    peer: str


@dataclass(frozen=True, kw_only=True)
class PeerAnswered(Generic[A]):
    turn: Turn
    peer: str
    answer: A


@dataclass(frozen=True, kw_only=True)
class PeerFailed:
    """It did not sign, or signed and gave no shares."""

    turn: Turn
    peer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DealerExposed:
    """It is proven that `dealer` dealt shares that do not open. holder: whose they are, empty for several."""

    turn: Turn
    dealer: str
    holder: str = ""


@dataclass(frozen=True, kw_only=True)
class SumOpened:
    turn: Turn


@dataclass(frozen=True, kw_only=True)
class OpeningFailed:
    turn: Turn
    reason: str


@dataclass(frozen=True, kw_only=True)
class CohortsJudged:
    """dropped: cohorts whose open sums no honest tenants would give."""

    turn: Turn
    dropped: tuple[CohortDropped, ...] = ()


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
    | PeerSigned
    | PeerAnswered[A]
    | PeerFailed
    | DealerExposed
    | SumOpened
    | OpeningFailed
    | CohortsJudged
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
    """Ask each helper for the masks of its slots, about exactly these offers."""

    turn: Turn
    offers: tuple[Offer[C], ...]
    asked: Asked


@dataclass(frozen=True, kw_only=True)
class AskSignatures:
    """Ask every one of `cohort` to sign that exactly these are in the sum."""

    turn: Turn
    cohort: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AskPeers:
    """Ask `signers` for their shares."""

    turn: Turn
    cohort: tuple[str, ...]
    signers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OpenSum(Generic[C, A]):
    turn: Turn
    offers: tuple[Offer[C], ...]
    answers: tuple[Answered[A], ...]


@dataclass(frozen=True, kw_only=True)
class JudgeCohorts:
    """Look at the open sums of these cohorts."""

    turn: Turn
    cohorts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StoreStep(Generic[C]):
    """offers: all that are in the total. cohorts: those that stand."""

    turn: Turn
    offers: tuple[Offer[C], ...]
    cohorts: tuple[int, ...]


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


Action = (
    Collect
    | AskHelpers[C]
    | AskSignatures
    | AskPeers
    | OpenSum[C, A]
    | JudgeCohorts
    | StoreStep[C]
    | StartAttempt
    | Publish
    | GiveUp
)
