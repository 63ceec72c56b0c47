"""What an attack's outcomes prove: intervals, ROC areas, and what differential privacy lets each of them be."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta, rankdata, t

from shared.gaussian_dp import delta_gdp


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def binomial_interval(events: int, trials: int, confidence: float) -> Interval:
    """Of a probability from independent trials, two-sided (Clopper, Pearson 1934)."""
    risk = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(beta.ppf(risk, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - risk, events + 1, trials - events))
    return Interval(low, high)


def advantage_interval(correct: int, trials: int, confidence: float) -> Interval:
    """Of 2 P(the guess of the world is right) - 1, from as many trials of either world.

    The two worlds' rates may differ; a sum of independent Bernoulli variables is no wider than the binomial of the same
    mean at its ends (Hoeffding 1956, Theorem 4), so the binomial interval holds.
    """
    of_rate = binomial_interval(correct, trials, confidence)
    return Interval(2 * of_rate.low - 1, 2 * of_rate.high - 1)


def unit_mean_interval(values: NDArray[np.float64], confidence: float) -> Interval:
    """Of the mean of independent values in [0, 1], by Student's t.

    Values that are all 1 have no spread to judge by; but with a mean of m that happens with probability at most m^n,
    so m is at least risk^(1/n). The same for all 0.
    """
    risk, count = (1 - confidence) / 2, len(values)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(count)
    reach = float(t.ppf(1 - risk, count - 1)) * error
    low, high = max(mean - reach, 0.0), min(mean + reach, 1.0)
    if np.all(values == 1):
        low = risk ** (1 / count)
    if np.all(values == 0):
        high = 1 - risk ** (1 / count)
    return Interval(low, high)


def auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """P(a positive scores above a negative), ties counted half: the area under the ROC curve."""
    ranks = rankdata(np.concatenate([positives, negatives]))
    count = len(positives)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negatives)))


def threshold_at(negatives: NDArray[np.float64], false_alarms: float) -> float:
    """The least of the negatives' scores above which at most this share of them lies."""
    above = int(np.floor(false_alarms * len(negatives)))
    return float(np.sort(negatives)[len(negatives) - 1 - above])


def allowed_advantage(mu: float) -> float:
    """The most that any test's advantage can be under mu-GDP: the total variation distance, 2 Phi(mu/2) - 1."""
    return delta_gdp(mu, 0.0)


def allowed_auc(mu: float) -> float:
    """The largest area under a ROC curve of mu-GDP, Phi(mu / sqrt 2) (Dong, Roth, Su 2022, Def. 2.5, integrated)."""
    return float(ndtr(mu / sqrt(2)))


def allowed_hits(mu: float, false_alarms: float) -> float:
    """The largest true positive rate of mu-GDP at this false positive rate, Phi(Phi^-1(rate) + mu)."""
    return float(ndtr(ndtri(false_alarms) + mu))
