"""Leave-last-out with full ranking: what is held out, and how a scorer is measured on it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.errors import NoInteractions
from shared.interactions import Interactions
from shared.metrics import hit_rate, ndcg, rank_of_target
from simulations.datasets import Dataset

Scorer = Callable[[Interactions], NDArray[np.float32]]
"""Histories of some users -> scores float32 (users, num_items), a new array of finite numbers; it may not know who
they are."""

# Scores held at once by one worker: 4 MB of float32, which stays in the cache between the passes over it.
_SCORES_AT_ONCE = 1_000_000
_WORKERS = max(1, min(8, os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Users to rank for: histories, and one target each that the history does not hold."""

    histories: Interactions
    targets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Two nested experiments. Models for validation see `tuning_train`, models for the test see `train`.

    `train` is everything but the test item, validation item included: it is what a deployed model would be trained on.
    rows of `train`, `tuning_train` and the tenants' user lists are the data set's users.
    """

    train: Interactions
    test: Cases
    tuning_train: Interactions
    validation: Cases


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run's result on the test cases."""

    hr_at_10: float
    ndcg_at_10: float


def leave_last_out(dataset: Dataset) -> Split:
    """Test on the last item (or the given one), validate on the one before. Users with too short a history are not
    tested."""
    if dataset.targets is None:
        train, test_targets = without_last(dataset.histories)
    else:
        train, test_targets = dataset.histories, dataset.targets
    tuning_train, validation_targets = without_last(train)
    return Split(
        train=train,
        test=_cases(train, test_targets, "test item and one item before it"),
        tuning_train=tuning_train,
        validation=_cases(tuning_train, validation_targets, "validation item, the test item and one item before them"),
    )


def without_last(history: Interactions) -> tuple[Interactions, NDArray[np.int64]]:
    """Each history without its most recent item, and that item, -1 for a history of fewer than two."""
    enough = history.lengths >= 2
    targets = np.full(history.num_users, -1, dtype=np.int64)
    targets[enough] = history.items[history.offsets[1:][enough] - 1]
    keep = np.ones(len(history.items), dtype=bool)
    keep[history.offsets[1:][enough] - 1] = False
    lengths = history.lengths - enough
    return _with_entries(history, keep, lengths), targets


def select_users(history: Interactions, users: NDArray[np.int64]) -> Interactions:
    """The rows of `users`, in that order."""
    lengths = history.lengths[users]
    starts = np.cumsum(lengths) - lengths
    entries = np.repeat(history.offsets[users] - starts, lengths) + np.arange(int(lengths.sum()))
    return Interactions(
        num_items=history.num_items,
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=history.items[entries],
        weights=history.weights[entries],
    )


def sample_cases(cases: Cases, count: int, rng: np.random.Generator) -> Cases:
    """At most `count` cases, drawn without replacement."""
    if len(cases.targets) <= count:
        return cases
    chosen = np.sort(rng.choice(len(cases.targets), count, replace=False))
    return Cases(histories=select_users(cases.histories, chosen), targets=cases.targets[chosen])


def shuffled_order(history: Interactions, rng: np.random.Generator) -> Interactions:
    """The same histories with each one's order drawn at random: what is left of a model that used order."""
    order = np.lexsort((rng.random(len(history.items)), history.rows()))
    return Interactions(
        num_items=history.num_items,
        offsets=history.offsets,
        items=history.items[order],
        weights=history.weights[order],
    )


def rank_cases(scorer: Scorer, cases: Cases) -> NDArray[np.float64]:
    """The target's rank for every case over all items outside its history, ties averaged; bounded memory.

    Blocks of users run on all cores: most of the work is comparisons, which numpy does outside the interpreter's lock.
    """
    count = len(cases.targets)
    block = max(1, min(_SCORES_AT_ONCE // cases.histories.num_items, -(-count // _WORKERS)))

    def ranks(start: int) -> NDArray[np.float64]:
        stop = min(start + block, count)
        histories = cases.histories.users(start, stop)
        scores = scorer(histories)
        scores[histories.rows(), histories.items] = -np.inf
        return rank_of_target(scores, cases.targets[start:stop])

    # One thread of linear algebra for each worker: more would compete for the same cores.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(_WORKERS) as pool:
        return np.concatenate(list(pool.map(ranks, range(0, count, block))))


def measure(scorer: Scorer, cases: Cases) -> Figures:
    """HR@10 and NDCG@10 over the cases."""
    ranks = rank_cases(scorer, cases)
    return Figures(hr_at_10=hit_rate(ranks, 10), ndcg_at_10=ndcg(ranks, 10))


def chance(cases: Cases, k: int = 10) -> Figures:
    """What a random order earns on these cases, exactly: the level that the no-federation control must score at."""
    unseen = cases.histories.num_items - cases.histories.lengths
    places = np.minimum(unseen, k)
    gains = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))))
    return Figures(hr_at_10=float(np.mean(places / unseen)), ndcg_at_10=float(np.mean(gains[places] / unseen)))


def _cases(history: Interactions, targets: NDArray[np.int64], needed: str) -> Cases:
    users = np.flatnonzero((targets >= 0) & (history.lengths > 0))
    if len(users) == 0:
        raise NoInteractions(f"no user's history is long enough for a {needed}; longer histories are needed")
    return Cases(histories=select_users(history, users), targets=targets[users])


def _with_entries(history: Interactions, keep: NDArray[np.bool_], lengths: NDArray[np.int64]) -> Interactions:
    return Interactions(
        num_items=history.num_items,
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=history.items[keep],
        weights=history.weights[keep],
    )
