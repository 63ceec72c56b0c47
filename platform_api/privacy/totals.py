"""What all releases about the same people cost together. Pure.

The same users may take part in every job, so costs compose: mechanisms are accounted together, never epsilons added.
Only a statement that says more than its mechanisms cost, so that they may not be all, is added as it stands (basic
composition). Models made from one job's sums share its cost: a job's list of attempts only grows, so the largest
list counts.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from shared import accounting
from shared.accounting import PrivacyStatement
from shared.errors import UnknownMechanism
from shared.mechanism import Mechanism

NO_GUARANTEE = 1e6
"""An epsilon from here on says nothing; a job without noise states the largest float."""
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Release:
    """A statement and the plan that it came from."""

    plan_digest: str
    statement: PrivacyStatement


@dataclass(frozen=True, kw_only=True)
class Total:
    """epsilon: None when none can be stated; `why` says so. jobs: plans that were run; num_releases: models."""

    num_releases: int
    jobs: int
    epsilon: float | None
    delta: float
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class _Cost:
    # Of one job: mechanisms to be composed, or an epsilon and delta to be added.
    mechanisms: tuple[Mechanism, ...] = ()
    epsilon: float = 0.0
    delta: float = 0.0


class _NoBound(Exception):
    pass


def total(releases: Sequence[Release], delta: float) -> Total:
    """Composition of all of them, at `delta` and what is added to it."""
    jobs: dict[str, list[PrivacyStatement]] = defaultdict(list)
    for release in releases:
        jobs[release.plan_digest].append(release.statement)
    try:
        costs = [_cost(statements) for statements in jobs.values()]
        composed = accounting.epsilon([mechanism for cost in costs for mechanism in cost.mechanisms], delta)
    except (_NoBound, UnknownMechanism) as error:
        return _unbounded(len(releases), len(jobs), delta, str(error))
    except (OverflowError, ValueError) as error:
        # Parameters too extreme for the arithmetic, of a release that anybody may have signed.
        why = f"the mechanisms of a release are beyond what can be accounted: {error}"
        return _unbounded(len(releases), len(jobs), delta, why)
    return Total(
        num_releases=len(releases),
        jobs=len(jobs),
        epsilon=composed + sum(cost.epsilon for cost in costs),
        delta=delta + sum(cost.delta for cost in costs),
    )


def _unbounded(num_releases: int, jobs: int, delta: float, why: str) -> Total:
    return Total(num_releases=num_releases, jobs=jobs, epsilon=None, delta=delta, why=why)


def _cost(statements: Sequence[PrivacyStatement]) -> _Cost:
    union: Counter[Mechanism] = Counter()
    for statement in statements:
        if not statement.mechanisms or not statement.epsilon < NO_GUARANTEE or not 0 < statement.delta < 1:
            raise _NoBound("a release gave no guarantee that can be accounted")
        union |= Counter(statement.mechanisms)
    mechanisms = tuple(union.elements())
    worst = max(statements, key=lambda statement: statement.epsilon)
    largest_delta = max(statement.delta for statement in statements)
    given = accounting.epsilon(mechanisms, worst.delta)
    if worst.epsilon > given * (1 + _ROUNDING) + _ROUNDING:
        return _Cost(epsilon=worst.epsilon, delta=largest_delta)
    return _Cost(mechanisms=mechanisms)
