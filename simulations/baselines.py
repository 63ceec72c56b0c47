"""What a private figure is read beside: models without privacy, without learning, without order.

Every function takes training histories and gives a scorer that folds in histories it has not met.
"""

import numpy as np
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cholesky, lapack
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.interactions import Interactions
from shared.recipes.recon import solve_users
from simulations.evaluate import Scorer

# Items further back say next to nothing about the next one and cost as much as the others.
_MOST_RECENT = 20


def popularity_scorer(train: Interactions) -> Scorer:
    """Number of users of each item."""
    return constant_scorer(np.bincount(train.items, minlength=train.num_items).astype(np.float64))


def constant_scorer(scores: NDArray[np.float64]) -> Scorer:
    """The same scores (num_items,) for everybody."""
    row = scores.astype(np.float32)

    def score(histories: Interactions) -> NDArray[np.float32]:
        return np.tile(row, (histories.num_users, 1))

    return score


def content_scorer(features: NDArray[np.float32], *, recency: float) -> Scorer:
    """Centred cosine between an item's public text and the recency-weighted text of the history."""

    def score(histories: Interactions) -> NDArray[np.float32]:
        profiles = recency_matrix(histories, recency) @ features
        return np.asarray(profiles @ features.T, dtype=np.float32)

    return score


def ease_weights(train: Interactions, *, ridge: float) -> NDArray[np.float32]:
    """EASE (Steck 2019, eq. 8) on exact counts, float32 (m, m); ridge as a fraction of the number of users."""
    matrix = binary_matrix(train)
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge * train.num_users
    # The matrix is symmetric and positive definite: by its Cholesky factor, at less than half the cost of any inverse.
    inverse, _ = lapack.dpotri(cholesky(gram, lower=True, overwrite_a=True), lower=1, overwrite_c=1)
    inverse += np.tril(inverse, -1).T
    weights = inverse / -inverse.diagonal()[None, :]
    np.fill_diagonal(weights, 0.0)
    # In rows, as they are read: the inverse lies in columns, and every product would copy it.
    return np.ascontiguousarray(weights, dtype=np.float32)


def weights_scorer(weights: NDArray[np.float32], *, recency: float) -> Scorer:
    """Recency-weighted history times an item-by-item matrix."""

    def score(histories: Interactions) -> NDArray[np.float32]:
        return np.asarray(recency_matrix(histories, recency) @ weights, dtype=np.float32)

    return score


def ials_scorer(
    train: Interactions, *, num_factors: int, ridge: float, confidence: float, sweeps: int, seed: int
) -> Scorer:
    """iALS (Hu, Koren, Volinsky 2008) by the library `implicit`; users are folded in by the closed form of the same
    loss.

    confidence: weight of a positive where everything else weighs 1.
    """
    # The library runs its own threads and warns where linear algebra would compete with them.
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=num_factors,
            regularization=ridge,
            alpha=confidence,
            iterations=sweeps,
            use_gpu=False,
            random_state=seed,
        )
        model.fit(binary_matrix(train), show_progress=False)
    item_factors = np.asarray(model.item_factors, dtype=np.float64)

    def score(histories: Interactions) -> NDArray[np.float32]:
        weights = np.full(len(histories.items), confidence)
        users = solve_users(item_factors, histories, ridge=ridge, negative_weight=1.0, confidences=weights)
        return np.asarray(users.astype(np.float32) @ item_factors.T.astype(np.float32))

    return score


def markov_scorer(train: Interactions) -> Scorer:
    """First-order Markov chain: how often an item followed the history's last one, ties by popularity."""
    return item_to_next_scorer(train, window=1, recency=np.inf, smoothing=0.0)


def item_to_next_scorer(train: Interactions, *, window: int, recency: float, smoothing: float) -> Scorer:
    """Windowed item-to-next: a pair at distance l <= window counts 1 / l for the later item, read from recent history.

    Rows are divided by (item count + smoothing). recency: kappa at fold-in, inf for the last item alone.
    """
    return transition_scorer(train, transition_counts(train, window), recency=recency, smoothing=smoothing)


def transition_counts(train: Interactions, window: int) -> NDArray[np.float32]:
    """float32 (m, m): entry (i, j) sums 1 / l over the times that j came l <= window places after i."""
    size = train.num_items
    rows = train.rows()
    table = np.zeros((size, size), dtype=np.float32)
    for lag in range(1, window + 1):
        same = rows[lag:] == rows[:-lag]
        earlier, later = train.items[:-lag][same].astype(np.int64), train.items[lag:][same]
        table += np.bincount(earlier * size + later, minlength=size * size).reshape(size, size).astype(np.float32) / lag
    return table


def transition_scorer(train: Interactions, counts: NDArray[np.float32], *, recency: float, smoothing: float) -> Scorer:
    """The scorer of counted transitions; see `item_to_next_scorer`."""
    size = train.num_items
    popularity = np.bincount(train.items, minlength=size).astype(np.float32)
    table = counts / (popularity + np.float32(smoothing + 1e-9))[:, None]
    # Popularity far below any transition breaks ties among items that never followed.
    tie_break = np.float32(1e-9) * popularity / max(float(popularity.max()), 1.0)

    def score(histories: Interactions) -> NDArray[np.float32]:
        recent = histories.last(1 if np.isinf(recency) else _MOST_RECENT)
        return np.asarray(recency_matrix(recent, recency) @ table + tie_break, dtype=np.float32)

    return score


def recency_matrix(histories: Interactions, recency: float) -> sparse.csr_matrix:
    """User rows with weights (1 + age)^-recency; inf keeps the last item alone."""
    ages = np.repeat(histories.offsets[1:], histories.lengths) - np.arange(len(histories.items)) - 1
    weights = (ages == 0).astype(np.float32) if np.isinf(recency) else ((1.0 + ages) ** -recency).astype(np.float32)
    return sparse.csr_matrix(
        (weights, histories.items, histories.offsets), shape=(histories.num_users, histories.num_items)
    )


def binary_matrix(histories: Interactions) -> sparse.csr_matrix:
    return recency_matrix(histories, 0.0)
