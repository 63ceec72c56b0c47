"""Ranking metrics from one rank a user, and set metrics from counts. Full ranking, ties averaged; no sampled negatives.

A rank is 0 for the best item. With ties the test item takes the mean of the places it could have, so a constant score
earns what chance earns (Krichene and Rendle 2020 show why sampled ranks do not order models as full ranks do).
"""

import numpy as np
from numpy.typing import NDArray


def rank_of_target(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected rank float64 (n,) of each user's target among the items whose score is above -inf.

    scores: (n, num_items), seen items at -inf; targets: (n,) item indices, each of a finite score.
    """
    goal = scores[np.arange(len(targets)), targets][:, None]
    better = np.count_nonzero(scores > goal, axis=1)
    at_least = np.count_nonzero(scores >= goal, axis=1)
    return np.asarray(better + (at_least - better - 1) / 2, dtype=np.float64)


def hit_rate(ranks: NDArray[np.float64], k: int) -> float:
    """HR@k: share of users whose one test item is among the first k; nan for no users."""
    return _mean((ranks < k).astype(np.float64))


def ndcg(ranks: NDArray[np.float64], k: int) -> float:
    """NDCG@k with one relevant item: mean of 1 / log2(rank + 2) within the first k (Järvelin and Kekäläinen 2002)."""
    return _mean(np.where(ranks < k, 1 / np.log2(ranks + 2), 0.0))


def mean_reciprocal_rank(ranks: NDArray[np.float64]) -> float:
    """Mean of 1 / (rank + 1)."""
    return _mean(1 / (ranks + 1))


def precision(true_positives: int, false_positives: int) -> float:
    """TP / (TP + FP); 0 when nothing was recommended."""
    shown = true_positives + false_positives
    return true_positives / shown if shown else 0.0


def recall(true_positives: int, false_negatives: int) -> float:
    """TP / (TP + FN); 0 when nothing was relevant."""
    relevant = true_positives + false_negatives
    return true_positives / relevant if relevant else 0.0


def f1(precision_value: float, recall_value: float) -> float:
    """Harmonic mean of precision and recall; 0 when both are 0."""
    total = precision_value + recall_value
    return 2 * precision_value * recall_value / total if total else 0.0


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Cosine of the angle between two vectors; 0 when either is zero, so an empty profile is like nothing."""
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / norms if norms > 0 else 0.0


def coverage(recommended: NDArray[np.int64], num_items: int) -> float:
    """Share of the catalogue that appears in at least one list."""
    return len(np.unique(recommended)) / num_items


def exposure_gini(recommended: NDArray[np.int64], num_items: int) -> float:
    """Gini coefficient of how often each item is shown: 0 for equal exposure, towards 1 for a few items shown to
    all."""
    counts = np.sort(np.bincount(recommended.ravel(), minlength=num_items)).astype(np.float64)
    if counts.sum() == 0:
        return 0.0
    places = np.arange(1, num_items + 1)
    return float(np.sum((2 * places - num_items - 1) * counts) / (num_items * counts.sum()))


def tail_share(recommended: NDArray[np.int64], popularity: NDArray[np.float64], head_fraction: float = 0.2) -> float:
    """Share of shown places that go to items outside the most popular `head_fraction` of the catalogue."""
    head = np.argsort(-popularity, kind="stable")[: round(head_fraction * len(popularity))]
    shown = recommended.ravel()
    return float(np.mean(~np.isin(shown, head))) if len(shown) else 0.0


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
