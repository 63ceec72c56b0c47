"""Exact privacy of Gaussian noise: sensitivity / noise_std = mu is mu-GDP, and compositions add mu squared.

Dong, Roth, Su 2022 (Gaussian Differential Privacy), Cor. 2.13 and 3.3; Balle, Wang 2018, Theorem 8:
    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).
Evaluated through the Mills ratio M(x) = Phi(-x)/phi(x), because e^epsilon phi(b) = phi(a) turns the difference of two
nearly equal tails into phi(a) (M(a) - M(b)): ten digits remain from mu 1e-3 to 50 and far below delta 1e-12.
"""

from collections.abc import Callable
from math import erf, erfc, exp, inf, isfinite, log, pi, sqrt

_LOG_SQRT_2PI = 0.5 * log(2 * pi)
_BISECTIONS = 200


def delta_gdp(mu: float, epsilon: float) -> float:
    """Smallest delta of mu-GDP at `epsilon` >= 0. Raises ValueError outside mu > 0."""
    return exp(_log_delta(mu, epsilon))


def epsilon_gdp(mu: float, delta: float) -> float:
    """Smallest epsilon >= 0 of mu-GDP at `delta`; of the last bisection's two ends the one that satisfies delta."""
    _check(delta)
    target = log(delta)
    if _log_delta(mu, 0.0) <= target:
        return 0.0
    # At this epsilon the first tail alone is Phi(-sqrt(2 ln 1/delta)) < delta.
    high = mu * mu / 2 + mu * sqrt(-2 * target)
    return boundary(lambda epsilon: _log_delta(mu, epsilon) <= target, false_at=0.0, true_at=high)


def mu_for(epsilon: float, delta: float) -> float:
    """Largest mu whose GDP gives (epsilon, delta)."""
    _check(delta)
    if not (isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and not below zero, got {epsilon}")
    target, high = log(delta), 1.0
    while _log_delta(high, epsilon) <= target:
        high *= 2
    return boundary(lambda mu: mu > 0 and _log_delta(mu, epsilon) <= target, false_at=high, true_at=0.0)


def boundary(holds: Callable[[float], bool], *, false_at: float, true_at: float, proportion: float = 0.0) -> float:
    """Bisect between two ends, neither below 0, to the number nearest the change for which `holds` was seen true.

    Stops when the interval is a `proportion` of its upper end, by default at neighbouring floats. Never tries the ends.
    """
    for _ in range(_BISECTIONS):
        middle = 0.5 * (false_at + true_at)
        if middle in (false_at, true_at) or abs(false_at - true_at) <= proportion * max(false_at, true_at):
            break
        if holds(middle):
            true_at = middle
        else:
            false_at = middle
    return true_at


def _log_delta(mu: float, epsilon: float) -> float:
    if not (isfinite(mu) and mu > 0):
        raise ValueError(f"mu must be finite and above zero, got {mu}")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must not be below zero, got {epsilon}")
    if epsilon == 0:
        return log(erf(mu / sqrt(8)))
    a, b = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    if a < 0:
        return log(erfc(a / sqrt(2)) / 2 - exp(-a * a / 2 - _LOG_SQRT_2PI) * _mills(b))
    difference = _mills(a) - _mills(b)
    return -a * a / 2 - _LOG_SQRT_2PI + log(difference) if difference > 0 else -inf


def _mills(x: float) -> float:
    """Phi(-x)/phi(x) for x >= 0."""
    if x < 5:
        return sqrt(pi / 2) * exp(x * x / 2) * erfc(x / sqrt(2))
    # Laplace's continued fraction 1/(x + 1/(x + 2/(x + ...))), from 80 terms up: full precision from x = 5 on.
    fraction = x
    for term in range(80, 0, -1):
        fraction = x + term / fraction
    return 1 / fraction


def _check(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
