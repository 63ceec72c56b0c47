"""The accountant: what a list of releases costs, what budget is left, and the statement that goes with a model.

Unit: one user with their whole history. Adjacency: add or remove one user. Exact Gaussian DP wherever it is to be had,
discrete Gaussians by the theorem of docs/privacy-accounting.md or by RDP, whichever is less, Skellam noise by RDP. What
it does not know, it refuses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, fsum, inf, log, log1p, sqrt
from typing import Any

import numpy as np

from shared.canonical import finite
from shared.discrete_excess import excess, log_moment_over, log_moment_under, log_moments
from shared.errors import BadSetting, BudgetExhausted, UnknownMechanism
from shared.gaussian_dp import boundary, delta_gdp, epsilon_gdp, mu_for
from shared.mechanism import (
    DiscreteGaussian,
    Gaussian,
    Mechanism,
    PoissonSampledGaussian,
    Skellam,
    from_json,
    to_json,
)

__all__ = [
    "Budget", "PrivacyStatement", "calibrate_mu", "cost", "delta_gdp", "epsilon", "epsilon_gdp", "epsilon_rdp",
    "mu_for", "remaining", "renyi_order", "require", "skellam_rdp",
]  # fmt: skip

SampledEpsilon = Callable[[Sequence[PoissonSampledGaussian], float], float]
"""(Gaussians with their sample rates, 1 for all users; delta) -> an upper bound on their composition's epsilon."""

_KNOWN = {Gaussian.__name__, DiscreteGaussian.__name__, PoissonSampledGaussian.__name__, Skellam.__name__}
# Fixed, so that epsilon never falls when mu rises; a hundredth apart from 1.007 to 160,000.
_RENYI_ORDERS = np.array([1 + exp(step / 100) for step in range(-500, 1200)])
# Taken once and not by numpy, whose logarithms differ in the last bit from one processor to the next.
_LOG_ORDERS = np.array([log(order) for order in _RENYI_ORDERS])
_LOG1P_ORDERS = np.array([log1p(-1 / order) for order in _RENYI_ORDERS])
# The Skellam bound is proved for integers; the first hundreds, then a hundredth apart.
_INTEGER_ORDERS = tuple(sorted({*range(2, 200), *(int(exp(step / 100)) for step in range(530, 1200))}))
# Share of delta that pays for each of the two directions of the theorem on discrete noise.
_FAILURE_SHARE = 1e-4
# Excess set aside in each direction whenever the releases fit into it. It is a constant, and so is the order at which
# they are measured, so that the rule stays valid when later releases are chosen after seeing earlier ones.
_RESERVE = 5e-5
_RESERVE_EPSILON = 50.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that one user's data may ever cost its holder: epsilon at delta.

    shared: whether Skellam noise may be charged to it. Then everything is, from the first release on, by the one Renyi
    order that epsilon and delta fix. Not from the first Skellam release on: two rules between which a server could
    choose after seeing releases would give it delta twice.
    """

    epsilon: float
    delta: float
    shared: bool = False

    def __post_init__(self) -> None:
        if finite("epsilon", self.epsilon) <= 0 or not 0 < finite("delta", self.delta) < 1:
            raise ValueError(f"a budget needs epsilon above 0, delta between 0 and 1: {self.epsilon}, {self.delta}")


@dataclass(frozen=True, kw_only=True)
class PrivacyStatement:
    """What may be said about a released model, with everything that the number depends on.

    against: the parties that the guarantee holds against and the assumption behind it, in words.
    tuned_on_data: whether settings were chosen by looking at the same users' data without charging for it.
    """

    epsilon: float
    delta: float
    against: str
    mechanisms: tuple[Mechanism, ...]
    tuned_on_data: bool
    scope: str = "this job, repeated attempts included; other jobs on the same data add to it"
    unit: str = "user with their whole history"
    adjacency: str = "add or remove one user"

    def to_json(self) -> dict[str, Any]:
        """A JSON object, the inverse of `from_json`."""
        return {**vars(self), "mechanisms": [to_json(mechanism) for mechanism in self.mechanisms]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PrivacyStatement":
        """Raises ValueError or TypeError naming what is wrong, or UnknownMechanism."""
        fields = dict(value)
        if set(fields) != set(cls.__dataclass_fields__):
            raise ValueError(f"privacy statement: fields must be {', '.join(cls.__dataclass_fields__)}")
        for name in ("against", "scope", "unit", "adjacency"):
            if type(fields[name]) is not str:
                raise TypeError(f"privacy statement: {name} must be text")
        if type(fields["tuned_on_data"]) is not bool:
            raise TypeError("privacy statement: tuned_on_data must be true or false")
        for name in ("epsilon", "delta"):
            fields[name] = finite(name, fields[name])
        return cls(**{**fields, "mechanisms": tuple(from_json(entry) for entry in fields["mechanisms"])})


def epsilon(mechanisms: Sequence[Mechanism], delta: float, *, sampled: SampledEpsilon | None = None) -> float:
    """Upper bound on epsilon at `delta` of releasing all of them, adaptively, about the same users.

    Gaussians compose exactly; with discrete ones the bound exceeds the Gaussian value by 1.2e-4 as a rule. With Skellam
    noise among them everything is accounted by RDP, which costs more.
    sampled: accountant for Poisson-sampled Gaussians. Without it they raise UnknownMechanism, as does any other type.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    gaussians = [entry for entry in mechanisms if type(entry) is Gaussian]
    discrete = [entry for entry in mechanisms if type(entry) is DiscreteGaussian]
    poisson = [entry for entry in mechanisms if type(entry) is PoissonSampledGaussian]
    skellam = [entry for entry in mechanisms if type(entry) is Skellam]
    if len(gaussians) + len(discrete) + len(poisson) + len(skellam) != len(mechanisms):
        names = sorted({type(entry).__name__ for entry in mechanisms} - _KNOWN)
        raise UnknownMechanism(f"no accountant for {', '.join(names)}; nothing was counted")
    if poisson and sampled is None:
        raise UnknownMechanism("Poisson-sampled Gaussians need a sampled-Gaussian accountant and none was given")
    if not mechanisms:
        return 0.0
    mu = _mu([*gaussians, *discrete])
    if skellam:
        if poisson:
            raise UnknownMechanism("no accountant for Skellam noise together with Poisson-sampled Gaussians")
        return _epsilon_with_skellam(mu, skellam, delta)

    def continuous(share_of_delta: float) -> float:
        if not poisson or sampled is None:
            return epsilon_gdp(mu, share_of_delta)
        everyone = [PoissonSampledGaussian(sample_rate=1.0, noise_multiplier=1 / mu, steps=1)] if mu else []
        return sampled([*poisson, *everyone], share_of_delta)

    if not discrete:
        return continuous(delta)
    by_theorem = _epsilon_by_theorem(discrete, delta, continuous)
    return by_theorem if poisson else min(by_theorem, epsilon_rdp(mu, delta))


def cost(budget: Budget, mechanisms: Sequence[Mechanism], *, sampled: SampledEpsilon | None = None) -> float:
    """What all of `mechanisms` cost of `budget`, to be held against its epsilon, however each of them was chosen.

    `epsilon` is about a list that is fixed beforehand. A server chooses the next release after it has seen the last
    ones, and stops when it likes. For Skellam noise the least over Renyi orders would be a rule whose order is chosen
    last; here the order follows from the budget, so that keeping below it is a Renyi filter (Feldman, Zrnic 2021;
    Lecuyer 2021): docs/privacy-accounting.md, "Fully adaptive choice".
    """
    if not mechanisms or not (budget.shared or any(type(entry) is Skellam for entry in mechanisms)):
        return epsilon(mechanisms, budget.delta, sampled=sampled)
    skellam = [entry for entry in mechanisms if type(entry) is Skellam]
    gaussian = [entry for entry in mechanisms if isinstance(entry, Gaussian | DiscreteGaussian)]
    if len(skellam) + len(gaussian) != len(mechanisms):
        raise UnknownMechanism(
            "a budget for shared noise accounts Gaussian and Skellam noise only; nothing was counted"
        )
    order = renyi_order(budget.epsilon, budget.delta)
    return max(0.0, _from_renyi(_divergence(_mu(gaussian), skellam, order), order, budget.delta))


@lru_cache(maxsize=64)
def renyi_order(epsilon_target: float, delta: float) -> int:
    """The integer order that leaves most room for Gaussian noise below (epsilon_target, delta).

    Skellam noise that is wide enough to be of use is Gaussian to a few digits, and so loses nothing by it.
    """

    def room(order: int) -> float:
        return (epsilon_target - _from_renyi(0.0, order, delta)) / order

    best: int = max(_INTEGER_ORDERS, key=room)
    return best


def epsilon_rdp(mu: float, delta: float) -> float:
    """(epsilon, delta) of Renyi DP alpha mu^2 / 2 at every order, Gaussian or discrete Gaussian of any dimension.

    Canonne, Kamath, Steinke 2020, Theorem 14 (discrete Gaussian) and Proposition 12 (conversion).
    """
    if not mu > 0:
        return 0.0
    # `_from_renyi` at all orders at once: every question to a client is accounted three times.
    conversion = (log(delta) + _LOG_ORDERS) / (_RENYI_ORDERS - 1)
    return max(0.0, float(np.min(_RENYI_ORDERS * mu * mu / 2 - conversion + _LOG1P_ORDERS)))


def skellam_rdp(mechanism: Skellam, order: int) -> float:
    """Upper bound on the Renyi divergence of an integer order above 1 between neighbours.

    Agarwal, Kairouz, Liu 2021, Corollary 4.1, with the two sensitivities D2 and D1:
    a D2^2 / (2 mu) + min(((2 a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)), mu the variance: the Gaussian's divergence
    and an excess that wide noise makes negligible.
    """
    if type(order) is not int or order < 2:
        raise ValueError(f"the order must be an integer from 2, got {order}")
    squared, l1, mu = mechanism.sensitivity**2, mechanism.l1_sensitivity, float(mechanism.variance)
    return order * squared / (2 * mu) + min(((2 * order - 1) * squared + 6 * l1) / (4 * mu * mu), 3 * l1 / (2 * mu))


def calibrate_mu(epsilon_target: float, delta: float, mechanisms_of: Callable[[float], Sequence[Mechanism]]) -> float:
    """Largest mu, to 1e-9 in proportion, whose mechanisms cost at most `epsilon_target` at `delta`.

    mechanisms_of: the releases made at a total Gaussian-DP parameter. The cost need not rise evenly (noise comes in
    steps), so the value returned is always one that was accounted. Raises BadSetting when not even a millionth of the
    ideal mu can be afforded; errors of mechanisms_of pass through.
    """
    ideal = mu_for(epsilon_target, delta)

    # As a ledger with such a budget would count it, so that a plan that costs all of it is accepted.
    budget = Budget(epsilon=epsilon_target, delta=delta)

    def affordable(mu: float) -> bool:
        return cost(budget, mechanisms_of(mu)) <= epsilon_target

    if affordable(ideal):
        return ideal
    low, high = 0.999 * ideal, ideal
    while not affordable(low):
        low, high = low * (low / high) ** 2, low
        if low < 1e-6 * ideal:
            raise BadSetting(
                f"epsilon {epsilon_target} at delta {delta} cannot be reached: rounding to whole steps alone "
                "costs more; use more bits, fewer coordinates or a larger epsilon"
            )
    return boundary(affordable, false_at=high, true_at=low, proportion=1e-9)


def remaining(budget: Budget, spent: Sequence[Mechanism], *, sampled: SampledEpsilon | None = None) -> float:
    """Epsilon that is not used up, at least 0. For display: costs compose, they do not add, so ask `require`."""
    return max(0.0, budget.epsilon - cost(budget, spent, sampled=sampled))


def require(
    budget: Budget, spent: Sequence[Mechanism], release: Mechanism, *, sampled: SampledEpsilon | None = None
) -> None:
    """Raise BudgetExhausted, with the numbers, unless `release` after everything `spent` stays inside the budget."""
    after = cost(budget, [*spent, release], sampled=sampled)
    if not after <= budget.epsilon:
        before = cost(budget, spent, sampled=sampled)
        raise BudgetExhausted(
            f"this release would raise epsilon from {before:.6g} to {after:.6g} at delta {budget.delta:g}; "
            f"the budget is {budget.epsilon:g}. Nothing was released; the holder of the data may set a larger budget"
        )


def _from_renyi(divergence: float, order: float, delta: float) -> float:
    # Canonne, Kamath, Steinke 2020, Proposition 12.
    return divergence - (log(delta) + log(order)) / (order - 1) + log1p(-1 / order)


def _epsilon_with_skellam(mu: float, releases: Sequence[Skellam], delta: float) -> float:
    def at(order: int) -> float:
        return _from_renyi(_divergence(mu, releases, order), order, delta)

    return max(0.0, min(map(at, _INTEGER_ORDERS)))


def _divergence(mu: float, releases: Sequence[Skellam], order: int) -> float:
    # Renyi divergences of one order add up; Gaussians, discrete or not, give order mu^2 / 2.
    return order * mu * mu / 2 + fsum(skellam_rdp(release, order) for release in releases)


def _mu(mechanisms: Sequence[Gaussian | DiscreteGaussian]) -> float:
    # fsum: the same releases cost the same in any order.
    return sqrt(fsum((entry.sensitivity / entry.noise_std) ** 2 for entry in mechanisms))


def _epsilon_by_theorem(
    releases: Sequence[DiscreteGaussian], delta: float, continuous: Callable[[float], float]
) -> float:
    """docs/privacy-accounting.md, Theorem 2: epsilon_0 + eta_1 + eta_2 with every part of delta paid for.

    delta = e^eta_1 delta_0 + beta_1 + e^(epsilon_0 + eta_1) beta_2.
    """
    share, failure = 1 - 2 * _FAILURE_SHARE, -log(_FAILURE_SHARE * delta)
    t = failure + _RESERVE_EPSILON
    order = 2 * t / _RESERVE
    if all(log_moments(bound, releases, order) <= t for bound in (log_moment_over, log_moment_under)):
        reserved = continuous(share * delta * exp(-_RESERVE)) + 2 * _RESERVE
        if reserved <= _RESERVE_EPSILON:
            return reserved
    # Never below the reserve, so that one more release never lowers the total.
    over = max(_RESERVE, excess(log_moment_over, releases, failure))
    if not share * delta * exp(-over) > 0:
        return inf  # noise so narrow that what is left of delta is no number
    epsilon_0 = continuous(share * delta * exp(-over))
    under = max(_RESERVE, excess(log_moment_under, releases, failure + epsilon_0 + over))
    return epsilon_0 + over + under
