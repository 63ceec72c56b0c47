"""Public item features from catalogue text: TF-IDF of CJK character pairs and of words, reduced to a few dimensions.

Built once by whoever publishes the catalogue and shipped in the snapshot, so every party ranks with the same bytes
and a device needs no text processing. Deterministic: the random start of the decomposition is seeded and signs are
fixed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces: kana, CJK extension A, CJK, Hangul, compatibility forms, later CJK extensions.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_RUNS = re.compile(f"([{_UNSPACED}]+)|([^\\W_{_UNSPACED}]+)")
_SEED = 20240229
_OVERSAMPLING = 16
_POWER_ITERATIONS = 4


def build_text_features(texts: Sequence[str], num_features: int = 64) -> NDArray[np.float32]:
    """Features float32 (len(texts), d), d = min(num_features, number of texts); rows of unit length, zero without a
    term.

    Term weight (1 + ln tf) (ln((1 + n) / (1 + df)) + 1), rows of unit length, randomised truncated SVD (Halko,
    Martinsson, Tropp 2011, alg. 4.4), then centred over the items that have text and scaled to unit length: the dot
    product of two rows is their centred cosine. Terms of a single item are dropped (they link nothing), unless an
    item has no other.
    """
    matrix = _tf_idf([Counter(_terms(text)) for text in texts])
    width = min(num_features, len(texts))
    features = np.zeros((len(texts), width))
    filled = matrix.row_lengths > 0
    if not filled.any() or width == 0:
        return features.astype(np.float32)
    reduced = _truncated_svd(matrix, width)
    features[:, : reduced.shape[1]] = reduced
    if filled.sum() > 1:
        features[filled] -= features[filled].mean(axis=0)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.where(norms > 1e-9, features / np.maximum(norms, 1e-9), 0.0).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sparse:
    # Compressed rows, enough of one for products with thin dense matrices.
    num_columns: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    row_lengths: NDArray[np.int64]

    def times(self, dense: NDArray[np.float64]) -> NDArray[np.float64]:
        return _scatter(self.rows, self.columns, self.values, dense, len(self.row_lengths))

    def transposed_times(self, dense: NDArray[np.float64]) -> NDArray[np.float64]:
        return _scatter(self.columns, self.rows, self.values, dense, self.num_columns)


def _scatter(
    to: NDArray[np.int64], source: NDArray[np.int64], values: NDArray[np.float64], dense: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    # One column at a time: memory of one number for each entry, however wide `dense` is.
    columns = np.ascontiguousarray(dense.T)
    return np.stack([np.bincount(to, weights=values * column[source], minlength=size) for column in columns], axis=1)


def _terms(text: str) -> Iterator[str]:
    # Pairs of neighbouring characters in unspaced scripts (a lone character stands for itself), whole words elsewhere.
    for match in _RUNS.finditer(unicodedata.normalize("NFKC", text).lower()):
        run, word = match.groups()
        if word or len(run) == 1:
            yield word or run
        else:
            yield from (run[i : i + 2] for i in range(len(run) - 1))


def _tf_idf(counts: Sequence[Counter[str]]) -> _Sparse:
    frequency = Counter(term for terms in counts for term in terms)
    shared = {term for term, count in frequency.items() if count > 1}
    kept = [terms.keys() & shared or terms.keys() for terms in counts]
    vocabulary = {term: place for place, term in enumerate(sorted(set().union(*kept)))}
    columns: list[int] = []
    values: list[float] = []
    for terms, keys in zip(counts, kept, strict=True):
        weights = [(1 + log(terms[t])) * (log((1 + len(counts)) / (1 + frequency[t])) + 1) for t in sorted(keys)]
        norm = float(np.linalg.norm(weights)) if weights else 1.0
        columns.extend(vocabulary[t] for t in sorted(keys))
        values.extend(w / norm for w in weights)
    lengths = np.array([len(keys) for keys in kept], dtype=np.int64)
    return _Sparse(
        num_columns=len(vocabulary),
        rows=np.repeat(np.arange(len(counts), dtype=np.int64), lengths),
        columns=np.array(columns, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        row_lengths=lengths,
    )


def _truncated_svd(matrix: _Sparse, rank: int) -> NDArray[np.float64]:
    # Left singular vectors times singular values. The range finder works on the short side, the items.
    num_rows = len(matrix.row_lengths)
    width = min(rank + _OVERSAMPLING, num_rows, matrix.num_columns)
    basis = matrix.times(np.random.default_rng(_SEED).standard_normal((matrix.num_columns, width)))
    for _ in range(_POWER_ITERATIONS):
        basis, _ = np.linalg.qr(basis)
        basis = matrix.times(matrix.transposed_times(basis))
    basis, _ = np.linalg.qr(basis)
    small = matrix.transposed_times(basis).T
    left, singular, _ = np.linalg.svd(small, full_matrices=False)
    result = (basis @ left)[:, :rank] * singular[:rank]
    signs = np.sign(result[np.argmax(np.abs(result), axis=0), np.arange(result.shape[1])])
    return np.asarray(result * np.where(signs == 0, 1, signs))
