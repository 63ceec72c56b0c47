"""Diversity is exactly what it says: checked against the definition, written out for every candidate."""

import numpy as np
import pytest
from numpy.typing import NDArray

from platform_api.recommendations.diversity import diversified


def by_definition(scores: NDArray[np.float64], features: NDArray[np.float32], k: int, diversity: float) -> list[int]:
    top, low = max(scores), min(scores)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        best, best_gain = -1, -np.inf
        for place in range(len(scores)):
            if place in chosen:
                continue
            relevance = (scores[place] - low) / (top - low) if top > low else 1.0
            alike = max((float(features[place] @ features[other]) for other in chosen), default=0.0)
            gain = (1 - diversity) * relevance - diversity * alike
            if gain > best_gain + 1e-9:
                best, best_gain = place, gain
        chosen.append(best)
    return chosen


def candidates(seed: int, count: int = 30) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.sort(random.normal(size=count))[::-1].copy(), features


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("diversity", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_list_is_that_of_the_definition(seed: int, diversity: float) -> None:
    scores, features = candidates(seed)
    for k in (1, 5, 30, 40):
        assert diversified(scores, features, k, diversity).tolist() == by_definition(scores, features, k, diversity)


def test_zero_is_as_ranked_and_more_is_less_alike() -> None:
    scores, features = candidates(9)
    assert diversified(scores, features, 10, 0).tolist() == list(range(10))

    def likeness(diversity: float) -> float:
        chosen = features[diversified(scores, features, 10, diversity)]
        return float((chosen @ chosen.T)[np.triu_indices(10, 1)].max())

    assert likeness(1.0) < likeness(0.0)


def test_equal_scores_and_no_candidates_are_no_trouble() -> None:
    _, features = candidates(1, 6)
    assert len(set(diversified(np.ones(6), features, 6, 0.5).tolist())) == 6
    assert diversified(np.empty(0), features[:0], 5, 0.5).tolist() == []
    assert diversified(np.ones(6), features[:, :0], 3, 1.0).tolist() == [0, 1, 2]
