"""The figures that stand beside a private one, tuned on validation and measured in the same run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.interactions import Interactions, concatenate
from simulations.baselines import (
    content_scorer,
    ease_weights,
    ials_scorer,
    item_to_next_scorer,
    markov_scorer,
    popularity_scorer,
    transition_counts,
    transition_scorer,
    weights_scorer,
)
from simulations.evaluate import Scorer
from simulations.tuning import Bench, thinned

_RECENCIES = (0.35, 0.7, 1.0, 1.4)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A baseline with the settings that validation chose. build(train, seed) trains it."""

    name: str
    settings: dict[str, Any]
    validation_ndcg_at_10: float
    build: Callable[[Interactions, int], Scorer]


def tuned_references(bench: Bench, pooled: Interactions, features: NDArray[np.float32]) -> Iterator[Reference]:
    """All references in order; `pooled` are the tuning histories of everybody."""
    yield _reference(bench, pooled, "popularity", [{}], lambda train, seed: popularity_scorer(train))
    if features.shape[1]:
        yield _reference(
            bench, pooled, "content alone", [{"recency": kappa} for kappa in (0.0, *_RECENCIES)],
            lambda train, seed, **settings: content_scorer(features, **settings),
        )  # fmt: skip
    yield from _ease(bench, pooled)
    # iALS is the slowest to train: of a large cohort a part decides its settings, everybody trains the one measured.
    yield _reference(
        bench, concatenate(list(thinned(bench).tenants)), "iALS",
        [
            {"num_factors": 64, "ridge": ridge, "confidence": confidence, "sweeps": 10}
            for confidence in (5.0, 20.0) for ridge in (1.0, 20.0)
        ],
        lambda train, seed, **settings: ials_scorer(train, seed=seed, **settings),
    )  # fmt: skip
    yield _reference(bench, pooled, "first-order Markov", [{}], lambda train, seed: markov_scorer(train))
    yield _item_to_next(bench, pooled)


def _item_to_next(bench: Bench, pooled: Interactions) -> Reference:
    values = {}
    for window in (3, 10):
        counts = transition_counts(pooled, window)
        for kappa, smoothing in product((0.7, 1.4), (10.0, 100.0)):
            scorer = transition_scorer(pooled, counts, recency=kappa, smoothing=smoothing)
            values[window, kappa, smoothing] = bench.value(scorer)
    window, kappa, smoothing = max(values, key=lambda choice: values[choice])
    return Reference(
        name="windowed item-to-next",
        settings={"window": window, "recency": kappa, "smoothing": smoothing},
        validation_ndcg_at_10=values[window, kappa, smoothing],
        build=lambda train, seed: item_to_next_scorer(train, window=window, recency=kappa, smoothing=smoothing),
    )


def _ease(bench: Bench, pooled: Interactions) -> Iterator[Reference]:
    # The matrix is the costly part and does not depend on recency: it is computed once for both references.
    matrices = {ridge: ease_weights(pooled, ridge=ridge) for ridge in (0.003, 0.015, 0.07)}
    for name, recencies in (("EASE", (0.0,)), ("EASE with recency", _RECENCIES)):
        values = {
            (ridge, kappa): bench.value(weights_scorer(matrix, recency=kappa))
            for ridge, matrix in matrices.items()
            for kappa in recencies
        }
        ridge, kappa = max(values, key=lambda choice: values[choice])

        def build(train: Interactions, seed: int, ridge: float = ridge, kappa: float = kappa) -> Scorer:
            return weights_scorer(ease_weights(train, ridge=ridge), recency=kappa)

        chosen = {"ridge": ridge, "recency": kappa}
        yield Reference(name=name, settings=chosen, validation_ndcg_at_10=values[ridge, kappa], build=build)


def _reference(
    bench: Bench, pooled: Interactions, name: str, grid: list[dict[str, Any]], build: Callable[..., Scorer]
) -> Reference:
    best: dict[str, Any] = {}
    best_value = -inf
    for settings in grid:
        value = bench.value(build(pooled, 0, **settings))
        if value > best_value:
            best, best_value = settings, value
    return Reference(
        name=name,
        settings=best,
        validation_ndcg_at_10=best_value,
        build=lambda train, seed: build(train, seed, **best),
    )
