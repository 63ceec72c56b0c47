"""Scores, top-k and reasons, computed where the history is, from public arrays only: the published model and the
catalogue.

A score mixes what others' histories taught (the model, over its head items) with public text (over the whole
catalogue).
The user's own vector never leaves the caller, so its settings (recency, text weight) cost no privacy.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.canonical import finite
from shared.catalogue import CatalogueSnapshot
from shared.errors import ArtifactRejected, BadInput
from shared.interactions import Interactions
from shared.recipes.readouts import strongest_entries
from shared.recipes.recon import solve_users

Readout = Literal["weights", "factors", "reconstruction", "popularity"]
ReasonCode = Literal["because_of_item", "similar_text", "popular"]
DEVICE_ENTRIES = 32


@dataclass(frozen=True, kw_only=True)
class FoldIn:
    """How a history becomes scores.

    recency: kappa; the item that is `age` items old weighs (1 + age)^-kappa.
    popularity_discount: alpha; a history item also weighs (popularity / mean)^-alpha, so that common items speak less.
    max_items: only so many most recent items speak, 0 for all.
    text_weight: content score's weight beside the collaborative score, both standardised over items.
    ridge, negative_weight: of the closed-form solve, for read-out `reconstruction` only.
    """

    recency: float = 0.0
    popularity_discount: float = 0.0
    max_items: int = 0
    text_weight: float = 0.0
    ridge: float = 1.0
    negative_weight: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if finite(name, value) < 0:
                raise ValueError(f"{name} must not be below zero, got {value}")


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingModel:
    """A published model, ready to rank.

    popularity: float32 (num_items,), released popularity floored at 0.
    head: int32 (h,) items that the model knows; score of all others is below them but for text and popularity.
    `weights` holds item_weights float32 (h, h), or its strongest entries (h, k) with their item_columns int32 (h, k).
    `factors` and `reconstruction` hold item_factors float32 (h, d). `popularity` holds neither.
    Construction checks shapes and raises ArtifactRejected.
    """

    catalogue_digest: str
    recipe: str
    readout: Readout
    popularity: NDArray[np.float32]
    head: NDArray[np.int32]
    fold_in: FoldIn
    item_weights: NDArray[np.float32] | None = None
    item_columns: NDArray[np.int32] | None = None
    item_factors: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        size = len(self.head)
        if self.popularity.ndim != 1 or not np.all(np.isfinite(self.popularity)):
            raise ArtifactRejected("model: popularity must be one finite number for each item")
        if (
            self.head.ndim != 1
            or len(np.unique(self.head)) != size
            or np.any((self.head < 0) | (self.head >= self.num_items))
        ):
            raise ArtifactRejected("model: head must list different items of the catalogue")
        needed = {"weights": self.item_weights, "factors": self.item_factors, "reconstruction": self.item_factors}
        if self.readout not in {*needed, "popularity"}:
            raise ArtifactRejected(f"model: read-out {self.readout!r} is not known to this version")
        array = needed.get(self.readout)
        if self.readout in needed and (array is None or array.ndim != 2 or len(array) != size):
            raise ArtifactRejected(f"model: read-out {self.readout} needs an array of {size} rows")
        if array is not None and not np.all(np.isfinite(array)):
            raise ArtifactRejected(f"model: read-out {self.readout} holds a value that is not finite")
        self._check_columns(size)

    def _check_columns(self, size: int) -> None:
        if self.readout != "weights" or self.item_weights is None:
            return
        if self.item_columns is None:
            if self.item_weights.shape != (size, size):
                raise ArtifactRejected(f"model: item weights must be ({size}, {size}), got {self.item_weights.shape}")
        elif self.item_columns.shape != self.item_weights.shape or np.any(
            (self.item_columns < 0) | (self.item_columns >= size)
        ):
            raise ArtifactRejected("model: item columns must point at head items, one for each weight")

    @property
    def num_items(self) -> int:
        return len(self.popularity)


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One line of a list. item, because_of: catalogue indices; because_of is None for `popular`."""

    item: int
    score: float
    reason: ReasonCode
    because_of: int | None


def user_vector(history: NDArray[np.int32], recency: float) -> NDArray[np.float64]:
    """Weights (1 + age)^-recency of a history's items, oldest first, of L2 norm 1; float64 of the same length."""
    ages = np.arange(len(history) - 1, -1, -1, dtype=np.float64)
    weights = np.power(1.0 + ages, -recency)
    return weights / max(float(np.linalg.norm(weights)), float(np.finfo(np.float64).tiny))


def fold_in_weights(model: RankingModel, history: Interactions) -> NDArray[np.float64]:
    """The weight of every entry of every history, each user's of L2 norm 1."""
    ages = np.repeat(history.offsets[1:], history.lengths) - np.arange(len(history.items)) - 1
    weights = history.weights.astype(np.float64) * (1.0 + ages) ** -model.fold_in.recency
    if model.fold_in.popularity_discount > 0:
        weights = weights * _discount(model)[history.items]
    rows = history.rows()
    norms = np.sqrt(np.bincount(rows, weights=weights**2, minlength=history.num_users))
    return np.asarray(weights / norms[rows], dtype=np.float64)


def score_many(model: RankingModel, features: NDArray[np.float32] | None, history: Interactions) -> NDArray[np.float32]:
    """Scores float32 (num_users, num_items) of every item, seen ones too. Memory is that array and two of its size at
    most.

    features: the catalogue's, float32 (num_items, p) with rows of unit length or zero; None or p = 0 for no text.
    A user without a known item is ranked by popularity. Scores compare items for one user, never users.
    """
    if history.num_items != model.num_items:
        raise BadInput(f"model knows {model.num_items} items, the history's catalogue {history.num_items}")
    if model.fold_in.max_items:
        history = history.last(model.fold_in.max_items)
    weights = fold_in_weights(model, history)
    with_text = model.fold_in.text_weight > 0 and features is not None and features.shape[1] > 0
    scores = _taught_scores(model, history, weights, standardise=with_text)
    if with_text and features is not None:
        scores += np.float32(model.fold_in.text_weight) * _standardise(_content_scores(features, history, weights))
    return scores


def score(model: RankingModel, features: NDArray[np.float32] | None, history: NDArray[np.int32]) -> NDArray[np.float64]:
    """Scores float64 (num_items,) for one history of items, oldest first (it may be empty)."""
    return np.asarray(score_many(model, features, _one(model, history))[0], dtype=np.float64)


def recommend(
    model: RankingModel,
    catalogue: CatalogueSnapshot,
    history: NDArray[np.int32],
    k: int,
    *,
    exclude: Collection[int] | NDArray[np.int64] = (),
    content_slot: bool = True,
) -> list[Recommendation]:
    """The k best items that are neither in the history nor excluded, best first, each with the reason it is there.

    content_slot: from k = 5 on, the last place goes to the best text match outside the head when no such item made
    the list, so that new items can be met at all. Raises CatalogueMismatch for a model of another catalogue.
    """
    catalogue.require(model.catalogue_digest, "model")
    features = catalogue.features
    scores = score(model, features, history)
    open_items = np.ones(model.num_items, dtype=bool)
    open_items[history] = False
    open_items[np.asarray(exclude if isinstance(exclude, np.ndarray) else list(exclude), dtype=np.int64)] = False
    chosen = _best(scores, np.flatnonzero(open_items), max(k, 0))
    if content_slot and k >= 5 and len(history):
        chosen = _with_content_slot(model, features, history, chosen, open_items)
    return [_explained(model, features, history, int(item), float(scores[item])) for item in chosen]


def is_heard_of(model: RankingModel, line: Recommendation) -> bool:
    """Whether anything speaks for a line: the model, its text, or that somebody was seen to have the item."""
    return line.reason != "popular" or bool(model.popularity[line.item] > 0)


def _best(scores: NDArray[np.float64], candidates: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k candidates of the highest scores, best first, the lower index first where scores are equal."""
    if 0 < k < len(candidates):
        # All that can be among them, equal scores included, before the sorting, which is the dear part.
        least = np.partition(scores[candidates], len(candidates) - k)[len(candidates) - k]
        candidates = candidates[scores[candidates] >= least]
    return candidates[np.lexsort((candidates, -scores[candidates]))][:k]


def for_device(model: RankingModel, entries: int = DEVICE_ENTRIES) -> RankingModel:
    """The same model with each row of its weights cut to the strongest entries; other read-outs as they are."""
    if model.readout != "weights" or model.item_weights is None or model.item_columns is not None:
        return model
    columns, values = strongest_entries(model.item_weights, entries)
    return RankingModel(**{**vars(model), "item_weights": values, "item_columns": columns})


def for_many_users(model: RankingModel) -> RankingModel:
    """The same scores from one table V V^T instead of factors: a product once, and less for every user after it.

    Other read-outs as they are. Memory is 4 h^2 bytes.
    """
    if model.readout != "factors" or model.item_factors is None:
        return model
    table = model.item_factors @ model.item_factors.T
    return RankingModel(**{**vars(model), "readout": "weights", "item_weights": table, "item_factors": None})


def _taught_scores(
    model: RankingModel, history: Interactions, weights: NDArray[np.float64], *, standardise: bool
) -> NDArray[np.float32]:
    # What the sums taught, over the whole catalogue. Standardising is for mixing with text; alone it changes no order.
    shares = (model.popularity / max(float(model.popularity.max(initial=0.0)), 1e-30)).astype(np.float32)
    if model.readout == "popularity" or len(model.head) == 0:
        return np.repeat(_standardise(shares[None, :]), history.num_users, axis=0)
    known = _head_scores(model, history, weights)
    if standardise:
        known = _standardise(known)
    lowest = known.min(axis=1, keepdims=True)
    reach = known.max(axis=1, keepdims=True) - lowest
    silent = reach[:, 0] == 0
    known[silent] = _standardise(shares[None, model.head])
    lowest[silent], reach[silent] = known[silent].min(axis=1, keepdims=True), 1.0
    # Items outside the head stand below it, in order of popularity, unless text lifts them.
    outside = np.setdiff1d(np.arange(model.num_items), model.head)
    below: NDArray[np.float32] = np.multiply(np.float32(1e-3) * reach, shares[outside] - 1)
    below += lowest
    # Taking columns in catalogue order is several times faster than scattering them.
    place = np.argsort(np.concatenate([model.head, outside]))
    return np.take(np.concatenate([known, below], axis=1), place, axis=1)


def _head_scores(model: RankingModel, history: Interactions, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    if model.readout == "reconstruction":
        return _reconstructed(model, history, weights)
    rank_of = np.full(model.num_items, -1, dtype=np.int64)
    rank_of[model.head] = np.arange(len(model.head))
    ranks = rank_of[history.items]
    inside = ranks >= 0
    known = _Vectors(
        rows=history.rows()[inside],
        columns=ranks[inside],
        values=weights[inside].astype(np.float32),
        shape=(history.num_users, len(model.head)),
    )
    if model.item_factors is not None:
        return np.asarray(known.times(model.item_factors) @ model.item_factors.T)
    assert model.item_weights is not None
    if model.item_columns is None:
        return known.times(model.item_weights)
    vectors = known.dense()
    scores = np.zeros_like(vectors)
    for user in range(history.num_users):
        used = np.flatnonzero(vectors[user])
        spread = vectors[user, used, None].astype(np.float64) * model.item_weights[used]
        scores[user] = np.bincount(model.item_columns[used].ravel(), weights=spread.ravel(), minlength=len(model.head))
    return scores


# A history of fewer items than the head has, over this, is cheaper to add up row by row than in one dense product.
_DENSE_PRODUCT_GAIN = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class _Vectors:
    """Sparse rows by entries in rising order of row; a row holds each column once."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    shape: tuple[int, int]

    def dense(self) -> NDArray[np.float32]:
        vectors = np.zeros(self.shape, dtype=np.float32)
        vectors[self.rows, self.columns] = self.values
        return vectors

    def times(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product with float32 (columns, d): by rows of the matrix where vectors are short, else densely."""
        if len(self.rows) * _DENSE_PRODUCT_GAIN > self.shape[0] * self.shape[1]:
            return np.asarray(self.dense() @ matrix)
        product = np.zeros((self.shape[0], matrix.shape[1]), dtype=np.float32)
        ends = np.searchsorted(self.rows, np.arange(self.shape[0] + 1))
        for row, (start, stop) in enumerate(pairwise(ends)):
            np.matmul(self.values[start:stop], matrix[self.columns[start:stop]], out=product[row])
        return product


def _reconstructed(model: RankingModel, history: Interactions, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    factors = _spread_factors(model)
    # Confidences average 1 over a history, so that ridge means the same for every recency.
    sums = np.bincount(history.rows(), weights=weights, minlength=history.num_users)
    confidences = weights * (history.lengths / np.maximum(sums, 1e-300))[history.rows()]
    settings = model.fold_in
    users = solve_users(
        factors, history, ridge=settings.ridge, negative_weight=settings.negative_weight, confidences=confidences
    )
    return (users @ factors[model.head].T).astype(np.float32)


def _spread_factors(model: RankingModel) -> NDArray[np.float64]:
    assert model.item_factors is not None
    factors = np.zeros((model.num_items, model.item_factors.shape[1]))
    factors[model.head] = model.item_factors
    return factors


def _content_scores(
    features: NDArray[np.float32], history: Interactions, weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    # Scattering the weights and one product is many times faster than adding rows of features up one by one.
    spread = np.zeros((history.num_users, history.num_items), dtype=np.float32)
    spread[history.rows(), history.items] = weights
    return np.asarray((spread @ features) @ features.T)


def _standardise(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    spread = scores.std(axis=1, keepdims=True)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1))


def _discount(model: RankingModel) -> NDArray[np.float64]:
    popularity = model.popularity.astype(np.float64)
    # Floored at a hundredth of the mean: an item that drowned in noise must not dominate a history.
    mean = max(float(popularity.mean()), 1e-30)
    return np.asarray(np.maximum(popularity / mean, 0.01) ** -model.fold_in.popularity_discount)


def _one(model: RankingModel, history: NDArray[np.int32]) -> Interactions:
    return Interactions(
        num_items=model.num_items,
        offsets=np.array([0, len(history)], dtype=np.int64),
        items=np.asarray(history, dtype=np.int32),
        weights=np.ones(len(history), dtype=np.float32),
    )


def _with_content_slot(
    model: RankingModel,
    features: NDArray[np.float32],
    history: NDArray[np.int32],
    chosen: NDArray[np.int64],
    open_items: NDArray[np.bool_],
) -> NDArray[np.int64]:
    in_head = np.zeros(model.num_items, dtype=bool)
    in_head[model.head] = True
    outside = np.flatnonzero(open_items & ~in_head)
    if len(chosen) == 0 or len(outside) == 0 or features.shape[1] == 0 or not in_head[chosen].all():
        return chosen
    one = _one(model, history)
    content = _content_scores(features, one, fold_in_weights(model, one))[0][outside]
    if content.max() <= 0:
        return chosen
    return np.concatenate([chosen[:-1], outside[[int(np.argmax(content))]]])


def _explained(
    model: RankingModel, features: NDArray[np.float32], history: NDArray[np.int32], item: int, value: float
) -> Recommendation:
    code: ReasonCode = "popular"
    because_of = None
    if len(history):
        weights = fold_in_weights(model, _one(model, history))
        taught = weights * _pulls(model, history, item)
        if taught.max() > 0:
            code, because_of = "because_of_item", int(history[int(np.argmax(taught))])
        elif features.shape[1] > 0:
            alike = weights * (features[history] @ features[item])
            if alike.max() > 0:
                code, because_of = "similar_text", int(history[int(np.argmax(alike))])
    return Recommendation(item=item, score=value, reason=code, because_of=because_of)


def _pulls(model: RankingModel, history: NDArray[np.int32], item: int) -> NDArray[np.float64]:
    # How far each history item pulls towards `item` in the model's score, zero outside the head; a history item's
    # share of the score is this times its weight in the user's vector.
    rank_of = np.full(model.num_items, -1, dtype=np.int64)
    rank_of[model.head] = np.arange(len(model.head))
    target, ranks = rank_of[item], rank_of[history]
    pulls = np.zeros(len(history))
    if target < 0 or model.readout == "popularity":
        return pulls
    inside = ranks >= 0
    if model.readout == "weights" and model.item_weights is not None:
        rows = model.item_weights[ranks[inside]].astype(np.float64)
        if model.item_columns is None:
            pulls[inside] = rows[:, target]
        else:
            pulls[inside] = np.where(model.item_columns[ranks[inside]] == target, rows, 0.0).sum(axis=1)
    elif model.item_factors is not None:
        factors = model.item_factors.astype(np.float64)
        goal = factors[target]
        if model.readout == "reconstruction":
            gram = (
                model.fold_in.negative_weight * factors.T @ factors + factors[ranks[inside]].T @ factors[ranks[inside]]
            )
            goal = np.linalg.solve(gram + model.fold_in.ridge * np.eye(len(goal)), goal)
        pulls[inside] = factors[ranks[inside]] @ goal
    return pulls
