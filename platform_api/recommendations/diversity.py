"""Lists that are not all of one kind: maximal marginal relevance (Carbonell and Goldstein 1998) on public text."""

import numpy as np
from numpy.typing import NDArray


def diversified(
    scores: NDArray[np.float64], features: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Places of the k chosen, in order, of candidates that come best first.

    Each time the candidate of largest (1 - diversity) relevance - diversity similarity: relevance is its score, scaled
    to 0 to 1 over the candidates; similarity the largest dot product with one that is chosen already, 0 at first.
    Ties go to the better candidate, and diversity 0 keeps the order. scores: (n,), falling. features: (n, p).
    """
    count = len(scores)
    if count == 0 or k <= 0:
        return np.empty(0, dtype=np.int64)
    if diversity == 0:
        return np.arange(min(k, count), dtype=np.int64)
    reach = float(scores[0] - scores[-1])
    relevance = (scores - scores[-1]) / reach if reach > 0 else np.ones(count)
    likeness = np.zeros(count)
    open_ones = np.ones(count, dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(k, count):
        gain = np.where(open_ones, (1 - diversity) * relevance - diversity * likeness, -np.inf)
        best = int(np.argmax(gain))
        alike = (features @ features[best]).astype(np.float64)
        likeness = alike if not chosen else np.maximum(likeness, alike)
        chosen.append(best)
        open_ones[best] = False
    return np.array(chosen, dtype=np.int64)
