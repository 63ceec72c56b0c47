"""An empirical audit of a release: a lower confidence bound on what it really costs, beside the figure that is stated.

Two worlds that differ in one worst-case user are released many times over; an adversary who knows everything else reads
one number off each release. What that test achieves bounds epsilon from below, whatever the proofs say. A bound above
the statement proves a leak; one below it proves nothing, so an audit is worth what its negative controls catch.
"""

from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from shared.gaussian_dp import epsilon_gdp

_THRESHOLDS = 200


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Lower bounds, each true with probability at least `confidence` over the audit's randomness.

    mu: of the Gaussian DP of the release; assumes nothing but a fixed test. epsilon: at `delta`, from one test's error
    rates alone. epsilon_if_gaussian: of every mu-GDP mechanism with the least `mu`, the tightest for Gaussian noise.
    """

    mu: float
    epsilon: float
    epsilon_if_gaussian: float
    delta: float
    confidence: float
    num_trials: int


def audit(
    without: NDArray[np.float64], with_user: NDArray[np.float64], *, delta: float, confidence: float = 0.999
) -> Audit:
    """Bound the privacy of a release from below.

    without, with_user: float64 (trials,), the adversary's number in each world, larger where the user is there. Half of
    the trials choose the thresholds; the other half measures them, so that choosing costs no confidence.
    """
    half = min(len(without), len(with_user)) // 2
    pick = np.quantile(np.concatenate([without[:half], with_user[:half]]), np.linspace(0, 1, _THRESHOLDS))
    choose = [_likely_bounds(without[:half], with_user[:half], threshold, confidence) for threshold in pick]
    by_mu = pick[int(np.argmax([_mu(*bounds) for bounds in choose]))]
    by_epsilon = pick[int(np.argmax([_epsilon(*bounds, delta) for bounds in choose]))]
    mu = _mu(*_error_bounds(without[half:], with_user[half:], by_mu, confidence))
    epsilon = _epsilon(*_error_bounds(without[half:], with_user[half:], by_epsilon, confidence), delta)
    return Audit(
        mu=mu,
        epsilon=epsilon,
        epsilon_if_gaussian=epsilon_gdp(mu, delta) if mu > 0 else 0.0,
        delta=delta,
        confidence=confidence,
        num_trials=2 * half,
    )


def along(releases: NDArray[np.int64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The likelihood-ratio test of a shift in spherical Gaussian noise: each trial's component along it, (trials,)."""
    return np.asarray(releases.reshape(-1, len(direction)) @ direction, dtype=np.float64)


def _error_bounds(
    without: NDArray[np.float64], with_user: NDArray[np.float64], threshold: float, confidence: float
) -> tuple[float, float]:
    # Clopper-Pearson upper bounds on both error rates of "there if above the threshold", each at half the risk.
    false_alarms, misses = int(np.sum(without > threshold)), int(np.sum(with_user <= threshold))
    risk = (1 - confidence) / 2
    return _upper(false_alarms, len(without), risk), _upper(misses, len(with_user), risk)


def _likely_bounds(
    without: NDArray[np.float64], with_user: NDArray[np.float64], threshold: float, confidence: float
) -> tuple[float, float]:
    # Close to `_error_bounds` and a hundred times cheaper; only picks thresholds, so it needs no guarantee.
    rates = np.array([np.mean(without > threshold), np.mean(with_user <= threshold)])
    risk, trials = (1 - confidence) / 2, len(without)
    upper = np.minimum(rates - ndtri(risk) * np.sqrt(rates * (1 - rates) / trials) - log(risk) / trials, 1.0)
    return float(upper[0]), float(upper[1])


def _upper(events: int, trials: int, risk: float) -> float:
    return 1.0 if events == trials else float(beta.ppf(1 - risk, events + 1, trials - events))


def _mu(false_alarm: float, miss: float) -> float:
    # Every test of a mu-GDP release has Phi^-1(1 - false_alarm) - Phi^-1(miss) <= mu (Dong, Roth, Su 2022, Def. 2.5).
    return float(ndtri(1 - false_alarm) - ndtri(miss))


def _epsilon(false_alarm: float, miss: float, delta: float) -> float:
    # (epsilon, delta)-DP asks 1 - miss - delta <= e^epsilon false_alarm, and the same with the worlds exchanged.
    bounds = [0.0]
    for hit, alarm in ((1 - miss - delta, false_alarm), (1 - false_alarm - delta, miss)):
        bounds.append(log(hit / alarm) if hit > 0 and alarm > 0 else -inf if hit <= 0 else inf)
    return max(bounds)
