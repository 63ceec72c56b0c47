"""A distinguisher of two worlds: chosen and fitted on half of the transcripts, measured on the other half."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from simulations.auditing.statistics import Interval, advantage_interval

_PENALTIES = (0.01, 0.1, 1.0)
Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Features (n, d) -> float64 (n,); above 0 says world 1."""


@dataclass(frozen=True, kw_only=True)
class Distinguished:
    """What the distinguisher achieved on transcripts that it had not seen. advantage: 2 accuracy - 1."""

    advantage: float
    interval: Interval
    trials: int


def distinguish(
    features: NDArray[np.float64], worlds: NDArray[np.bool_], *, rng: np.random.Generator, confidence: float
) -> Distinguished:
    """Fit on half, measure on half; each half has as many transcripts of either world.

    features: float64 (n, d). worlds: bool (n,), True for world 1, equally often as False.
    The distinguisher is the best of logistic regressions and single-feature thresholds; which one is decided on a third
    of the half that is fitted on, so neither choice nor fit costs the measured half any confidence.
    """
    fit, measured = halves(worlds, rng, 0.5)
    score = _fitted(features[fit], worlds[fit], rng)
    return guessed(score(features[measured]), worlds[measured], confidence=confidence)


def guessed(scores: NDArray[np.float64], worlds: NDArray[np.bool_], *, confidence: float) -> Distinguished:
    """What a fixed test achieves that says world 1 where the score, float64 (n,), is above 0."""
    correct, trials = int(np.sum((scores > 0) == worlds)), len(worlds)
    return Distinguished(
        advantage=2 * correct / trials - 1,
        interval=advantage_interval(correct, trials, confidence),
        trials=trials,
    )


def halves(
    worlds: NDArray[np.bool_], rng: np.random.Generator, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a random `share` of each world, at least one, and of the rest."""
    first, rest = [], []
    for world in (False, True):
        members = rng.permutation(np.flatnonzero(worlds == world))
        cut = max(1, int(len(members) * share))
        first.append(members[:cut])
        rest.append(members[cut:])
    return np.concatenate(first), np.concatenate(rest)


def _fitted(features: NDArray[np.float64], worlds: NDArray[np.bool_], rng: np.random.Generator) -> Score:
    varies = features.std(axis=0) > 0
    if not varies.any():
        # Nothing differs between any two transcripts: there is nothing to fit, and any constant guess is as good.
        return lambda rows: np.full(len(rows), -1.0)
    fit, choose = halves(worlds, rng, 2 / 3)
    makers = [*(_logistic(penalty) for penalty in _PENALTIES), _threshold]
    right = [np.mean((make(features[fit], worlds[fit])(features[choose]) > 0) == worlds[choose]) for make in makers]
    return makers[int(np.argmax(right))](features, worlds)


def _logistic(penalty: float) -> Callable[[NDArray[np.float64], NDArray[np.bool_]], Score]:
    def make(features: NDArray[np.float64], worlds: NDArray[np.bool_]) -> Score:
        centre, spread = features.mean(axis=0), features.std(axis=0)
        spread = np.where(spread > 0, spread, np.inf)
        rows = (features - centre) / spread
        sign = np.where(worlds, 1.0, -1.0)

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            margin = sign * (rows @ weights[1:] + weights[0])
            value = float(np.logaddexp(0, -margin).mean() + penalty / 2 * weights[1:] @ weights[1:])
            pull = -sign * expit(-margin) / len(rows)
            return value, np.concatenate([[pull.sum()], rows.T @ pull + penalty * weights[1:]])

        weights = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
        return lambda given: np.asarray((given - centre) / spread @ weights[1:] + weights[0])

    return make


def _threshold(features: NDArray[np.float64], worlds: NDArray[np.bool_]) -> Score:
    """The one feature, cut and direction that part the two worlds best."""
    best, choice = -1.0, (0, 0.0, 1.0)
    for column in range(features.shape[1]):
        order = np.argsort(features[:, column], kind="stable")
        values, sign = features[order, column], np.where(worlds[order], 1.0, -1.0)
        # gains[k]: right minus wrong guesses, if the k + 1 lowest are said to be world 0 and the others world 1.
        gains = sign.sum() - 2 * np.cumsum(sign)
        cuts = np.flatnonzero(values[1:] > values[:-1])
        for cut in cuts[np.argsort(-np.abs(gains[cuts]))[:1]]:
            if abs(gains[cut]) > best:
                middle = (values[cut] + values[cut + 1]) / 2
                best, choice = abs(gains[cut]), (column, float(middle), float(np.sign(gains[cut]) or 1.0))
    column, middle, direction = choice
    return lambda rows: np.asarray(direction * (rows[:, column] - middle))
