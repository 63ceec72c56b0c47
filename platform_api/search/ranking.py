"""BM25 over weighted fields, from counts alone: the same numbers in the same order give the same ranking everywhere.

Robertson, Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", sec. 3.5 (BM25F).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

FIELDS = ("title", "category", "description")
_WEIGHTS = (4.0, 2.0, 1.0)
_K1 = 1.2
_B = (0.5, 0.0, 0.75)

Counts = Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A product that holds at least one token of the query. counts: of each token, by field; lengths: by field."""

    product_id: str
    counts: Counts
    lengths: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is indexed as a whole. lengths: sums of tokens, by field."""

    size: int
    lengths: tuple[int, int, int]


def ranked(tokens: Sequence[str], candidates: Sequence[Candidate], corpus: Corpus) -> list[tuple[float, str]]:
    """(score, product id) of those that hold at least three fifths of the tokens, the best first, ties by id.

    candidates: every product of the corpus with at least one of the tokens; how rare a token is, is read from them.
    """
    frequency = {token: sum(token in candidate.counts for candidate in candidates) for token in tokens}
    rarity = {
        token: log(1.0 + (corpus.size - count + 0.5) / (count + 0.5)) for token, count in frequency.items() if count
    }
    needed = -(-3 * len(tokens) // 5)
    found = [
        (_score(rarity, candidate, corpus), candidate.product_id)
        for candidate in candidates
        if sum(token in candidate.counts for token in tokens) >= needed
    ]
    return sorted(found, key=rank_key)


def rank_key(entry: tuple[float, str]) -> tuple[float, str]:
    """What entries are sorted by."""
    return (-entry[0], entry[1])


def _score(rarity: Mapping[str, float], candidate: Candidate, corpus: Corpus) -> float:
    score = 0.0
    for token, weight in rarity.items():
        counts = candidate.counts.get(token)
        if counts is not None:
            weighted = _weighted(counts, candidate.lengths, corpus)
            score += weight * weighted * (_K1 + 1.0) / (_K1 + weighted)
    return score


def _weighted(counts: Sequence[int], lengths: Sequence[int], corpus: Corpus) -> float:
    weighted = 0.0
    for field, count in enumerate(counts):
        if count:
            mean = corpus.lengths[field] / corpus.size
            weighted += _WEIGHTS[field] * count / (1.0 - _B[field] + _B[field] * lengths[field] / mean)
    return weighted
