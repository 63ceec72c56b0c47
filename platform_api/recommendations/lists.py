"""Making a list from a model, what may be shown, and a history. Pure: no database, no request.

With diversity 0 a list is exactly what `shared.ranking.recommend` gives to anybody who ranks alone with the same
history and the same items left out.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platform_api.models.live import Loaded
from platform_api.recommendations.diversity import diversified
from platform_api.recommendations.sentences import Reason
from shared.ranking import Recommendation, is_heard_of, recommend

# Diversity chooses among so many of the best.
_POOL = 100


@dataclass(frozen=True, kw_only=True)
class Line:
    """One item. because_of: id of the item that spoke for it."""

    product_id: str
    reason: Reason
    because_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What the model chose, and how many were left after each stage."""

    lines: tuple[Line, ...]
    candidates: int
    after_owned: int
    after_availability: int


def ranked(
    loaded: Loaded,
    history: NDArray[np.int32],
    *,
    owned: Collection[str],
    available: NDArray[np.bool_],
    category: str | None,
    k: int,
    diversity: float,
) -> Ranked:
    """The model's best k. history: catalogue indices, oldest first; available: bool (num_items,).

    Never an item that is owned or not available.
    Items that neither the model nor their text speaks for and that nobody was seen to have are not in it.
    """
    catalogue = loaded.catalogue
    of_category = loaded.of_category(category)
    not_owned = of_category.copy()
    not_owned[history] = False
    not_owned[[catalogue.index[item] for item in owned if item in catalogue.index]] = False
    shown = not_owned & available
    hidden = np.flatnonzero(~shown)
    chosen = _chosen(loaded, history, hidden, k, diversity)
    return Ranked(
        lines=tuple(_line(loaded, entry) for entry in chosen if shown[entry.item] and is_heard_of(loaded.model, entry)),
        candidates=int(np.count_nonzero(of_category)),
        after_owned=int(np.count_nonzero(not_owned)),
        after_availability=int(np.count_nonzero(shown)),
    )


def _chosen(
    loaded: Loaded, history: NDArray[np.int32], hidden: NDArray[np.int64], k: int, diversity: float
) -> list[Recommendation]:
    if diversity == 0:
        return recommend(loaded.model, loaded.catalogue, history, k, exclude=hidden)
    pool = recommend(loaded.model, loaded.catalogue, history, max(_POOL, k), exclude=hidden, content_slot=False)
    heard_of = [entry for entry in pool if is_heard_of(loaded.model, entry)]
    scores = np.array([entry.score for entry in heard_of])
    features = loaded.catalogue.features[[entry.item for entry in heard_of]]
    return [heard_of[int(place)] for place in diversified(scores, features, k, diversity)]


def _line(loaded: Loaded, entry: Recommendation) -> Line:
    items = loaded.catalogue.items
    because_of = None if entry.because_of is None else items[entry.because_of].id
    return Line(product_id=items[entry.item].id, reason=entry.reason, because_of=because_of)
