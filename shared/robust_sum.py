"""What a server makes of the noisy sums of several cohorts: which ones no honest tenants can have given, and a total.

Masks hide what one tenant sent, so nothing smaller than a cohort can be looked at. Everything here is a function of
sums that were released with their whole noise, so it costs no privacy.

Two tests rest on one law. Let an honest sum be q with ||q|| <= b, and the noise z of m independent coordinates be
sub-Gaussian with variance proxy s^2, which exact discrete Gaussians and their sums are (Canonne, Kamath, Steinke 2020,
sec. 2.2). Then, but for a probability of 2 exp(-x),

    ||q + z||^2 <= b^2 + 2 b s sqrt(2 x) + s^2 (m + 2 sqrt(m x) + 2 x)

by the sub-Gaussian tail of <q, z> and Hsu, Kakade, Zhang 2012, Thm. 2.1 with the identity matrix. For one sum, b is
what its declared users can reach together. For the difference of two cohorts' means, b is the distance between honest
cohorts that the plan states. A third test bounds every coordinate. Skellam noise, which the one sum of a pairwise
round may have, is held against a wider bound (`_limits`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, erf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput, TooFewClients
from shared.mechanism import Skellam
from shared.plan import Step, TrainingPlan

FALSE_ALARM = 2.0**-20
"""Probability at most that an honest cohort is dropped at one step by the tests of its own sum; as much again by the
comparison, where honest cohorts are as near to one another as the plan states."""
# Sums of up to 2^26 squares in float64 err by less than this in proportion; a bound may err upwards only.
_FLOAT_SLACK = 1 + 2.0**-26
# Of a standard normal, beyond which nothing is left; and the points of the quadrature between.
_TAIL, _POINTS = 8.0, 161


@dataclass(frozen=True, kw_only=True, eq=False)
class CohortSum:
    """One opened sum. total: int64 (m,), in steps, noise included. num_users: declared by its num_tenants tenants.

    num_noises: independent noises in it, each of the variance that the step states.
    """

    cohort: int
    total: NDArray[np.int64]
    num_users: int
    num_tenants: int
    num_noises: int


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A cohort that is not used, and why. No personal data."""

    cohort: int
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Combined:
    """The total over all users of the cohorts used, int64 (m,), in steps.

    noise_factor: the standard deviation of a coordinate's noise over that of a plain sum of num_noises noises.
    """

    total: NDArray[np.int64]
    num_users: int
    num_tenants: int
    num_noises: int
    num_cohorts: int
    noise_factor: float


def judge(sums: Sequence[CohortSum], *, step: Step, max_spread: float) -> tuple[Drop, ...]:
    """The cohorts whose sums no honest tenants would give, each with its reason, in order.

    First each sum by itself: norm and coordinates against its declared users. Then the others' means against each
    other: a cohort is dropped that is too far from more than half of the rest. An honest one never is while those that
    poison are not more than half of the others. max_spread: in clips, how far apart the mean vectors per declared user
    of two honest cohorts are at most; 2 compares nothing, since no two vectors of norm 1 are further apart.
    """
    drops = {each.cohort: reason for each in sums if (reason := _out_of_range(each, step))}
    standing = [each for each in sums if each.cohort not in drops]
    if max_spread < 2:
        drops.update(_far_off(standing, step, max_spread))
    return tuple(Drop(cohort=cohort, reason=reason) for cohort, reason in sorted(drops.items()))


def energy_bound(bound: float, noise_std: float, num_coordinates: int, false_alarm: float) -> float:
    """Largest squared norm of a vector of norm at most `bound` plus noise, but for probability `false_alarm`."""
    x = log(2 / false_alarm)
    energy = num_coordinates + 2 * sqrt(num_coordinates * x) + 2 * x
    return (bound**2 + 2 * bound * noise_std * sqrt(2 * x) + noise_std**2 * energy) * _FLOAT_SLACK


def combine(sums: Sequence[CohortSum], *, trim: int) -> Combined:
    """One total of the cohorts that stand.

    trim 0: their sum, exactly; every user counts the same. Otherwise, coordinate by coordinate, the mean of the
    cohorts' means per declared user without the `trim` smallest and largest ones, times all users; every cohort counts
    the same. Weights would let a tenant buy weight by declaring users, and make the value jump where two cohorts change
    places. With at most `trim` cohorts poisoned, every coordinate lies between those of honest cohorts.

    The noise: where cohorts differ by noise alone, its variance is that of a trimmed mean of normal variables, exactly
    for equal cohorts (`trimmed_variance`). Where they differ by more, the variance is larger, by Gaussian Poincare at
    most 1/(k - 2 trim) of one cohort's: the trimmed mean's gradient has k - 2 trim entries of 1/(k - 2 trim).
    Raises TooFewClients for fewer than 2 trim + 1 cohorts.
    """
    if trim < 0 or len(sums) < 2 * trim + 1:
        raise TooFewClients(f"{len(sums)} cohorts stand, a trim of {trim} needs {2 * trim + 1}")
    num_users = sum(each.num_users for each in sums)
    num_noises = sum(each.num_noises for each in sums)
    if trim == 0:
        total, factor = np.asarray(np.sum([each.total for each in sums], axis=0, dtype=np.int64)), 1.0
    else:
        middle = trimmed_mean(np.stack([each.total / each.num_users for each in sums]), trim)
        total = np.rint(middle * num_users).astype(np.int64)
        # The mean of the cohorts' variances stands for each of them where they declare different numbers of users.
        one = float(np.mean([each.num_noises / each.num_users**2 for each in sums]))
        variance = num_users**2 * trimmed_variance(len(sums), trim) * one
        factor = sqrt(variance / num_noises) if num_noises else 1.0
    return Combined(
        total=total,
        num_users=num_users,
        num_tenants=sum(each.num_tenants for each in sums),
        num_noises=num_noises,
        num_cohorts=len(sums),
        noise_factor=factor,
    )


def noise_cost(plan: TrainingPlan) -> float:
    """What a plan's cohorts cost where all stand and are alike: the noise of the total over that of one sum of them.

    Helpers add theirs to every cohort anew; what tenants add is as much in several sums as in one.
    """
    spared = 1.0 if plan.trim == 0 else plan.cohorts * trimmed_variance(plan.cohorts, plan.trim)
    return sqrt(spared * (plan.cohorts if plan.noise == "helpers" else 1))


def trimmed_mean(values: NDArray[np.float64], trim: int) -> NDArray[np.float64]:
    """Of each column of float64 (k, m): the mean without the `trim` smallest and the `trim` largest, float64 (m,)."""
    if not 0 <= 2 * trim < len(values):
        raise BadInput(f"{len(values)} values cannot lose {trim} at each end")
    kept = np.sort(values, axis=0)[trim : len(values) - trim]
    # A float64 mean of near values may leave their range by a rounding.
    return np.asarray(np.clip(kept.mean(axis=0), kept[0], kept[-1]))


@lru_cache
def trimmed_variance(num_values: int, trim: int) -> float:
    """Variance of the trimmed mean of `num_values` independent standard normal variables.

    With C(x) the number of values up to x, the sum of the kept ones is the integral of a constant less g(C(x)),
    g(c) the kept ranks up to c; so its variance is the double integral of Cov(g(C(x)), g(C(y))), and (C(x), C(y)) is
    multinomial. By the trapezoidal rule; the covariance's kink at x = y makes it half a per cent too large at most.
    """
    kept = num_values - 2 * trim
    if kept < 1 or trim < 0:
        raise BadInput(f"{num_values} values cannot lose {trim} at each end")
    if trim == 0:
        return 1 / num_values
    points = np.linspace(-_TAIL, _TAIL, _POINTS)
    below = np.array([(1 + erf(x / sqrt(2))) / 2 for x in points]).clip(1e-300, 1.0)
    ranks = np.clip(np.arange(num_values + 1) - trim, 0, kept)
    at = _binomial(num_values, below)
    mean = at @ ranks
    # ratio[i, j] is the chance that a value up to points[j] is up to points[i], for i <= j.
    ratio = np.minimum(below[:, None] / below[None, :], 1.0)
    product = np.zeros_like(ratio)
    for count in range(num_values + 1):
        given = _binomial(count, ratio.ravel()) @ ranks[: count + 1]
        product += at[None, :, count] * ranks[count] * given.reshape(ratio.shape)
    upper = np.triu(product - mean[:, None] * mean[None, :])
    covariance = upper + np.triu(upper, 1).T
    return float(covariance.sum() * (points[1] - points[0]) ** 2) / kept**2


def _binomial(count: int, chance: NDArray[np.float64]) -> NDArray[np.float64]:
    # Probabilities (points, count + 1).
    hits = np.arange(count + 1)
    ways = np.array([float(comb(count, hit)) for hit in hits])
    return np.asarray(ways * chance[:, None] ** hits * (1 - chance[:, None]) ** (count - hits))


def _out_of_range(each: CohortSum, step: Step) -> str:
    values = each.total.astype(np.float64)
    most = each.num_users * step.user_bound
    limit, tail = _limits(most, each.num_noises * step.noise_variance, step)
    energy = float(values @ values)
    if energy > limit:
        return (
            f"its sum has norm {_units(sqrt(energy), step)}; {each.num_users} users of clip {step.clip:g} and the "
            f"noise reach {_units(sqrt(limit), step)}"
        )
    # Counts and pairs are never negative before noise.
    least = -most if step.kind == "gradient" else 0.0
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if low < least - tail or high > most * _FLOAT_SLACK + tail:
        worst = low if low < least - tail else high
        return (
            f"it holds a coordinate of {_units(worst, step)}; {each.num_users} users and the noise reach "
            f"from {_units(least - tail, step)} to {_units(most + tail, step)}"
        )
    return ""


def _limits(most: float, variance: int, step: Step) -> tuple[float, float]:
    """Of the squared norm, and of what the noise may add to one coordinate; half of the false alarms for each."""
    size, noise_std = step.num_coordinates, sqrt(variance)
    x = log(4 * size / FALSE_ALARM)
    if not isinstance(step.mechanism, Skellam):
        return energy_bound(most, noise_std, size, FALSE_ALARM / 2), noise_std * sqrt(2 * x)
    # Skellam noise has heavier tails: ln E exp(sz) = v (cosh s - 1) <= (v s^2 / 2) / (1 - s / 3), so by Bernstein's
    # inequality (Boucheron, Lugosi, Massart 2013, Cor. 2.11) P(|z| > sqrt(2 v x) + x / 3) <= 2 exp(-x). Its squares
    # have no exponential moments, so the norm is held against all coordinates at that bound at once.
    tail = noise_std * sqrt(2 * x) + x / 3
    return (most + sqrt(size) * tail) ** 2 * _FLOAT_SLACK, tail


def _far_off(sums: Sequence[CohortSum], step: Step, max_spread: float) -> dict[int, str]:
    if len(sums) < 2:
        return {}
    # Each cohort meets all others, with half of the false alarms for either tail of the law, which `energy_bound` does.
    false_alarm = FALSE_ALARM / (len(sums) - 1)
    allowed = max_spread * step.user_bound
    means = [each.total / each.num_users for each in sums]
    variances = [each.num_noises * step.noise_variance / each.num_users**2 for each in sums]
    far = np.zeros((len(sums), len(sums)), dtype=bool)
    for one in range(len(sums)):
        for other in range(one):
            apart = means[one] - means[other]
            noise_std = sqrt(variances[one] + variances[other])
            limit = energy_bound(allowed, noise_std, len(apart), false_alarm)
            far[one, other] = far[other, one] = float(apart @ apart) > limit
    counts = far.sum(axis=1)
    return {
        each.cohort: f"its mean is over {max_spread:g} clips away from those of {count} of the {len(sums) - 1} others"
        for each, count in zip(sums, counts, strict=True)
        if 2 * count > len(sums) - 1
    }


def _units(steps: float, step: Step) -> str:
    return f"{steps / step.scale:.4g}"
