"""What a server makes of the released popularity and pair sums: item weights or item factors. Post-processing only.

Nothing here sees a user, so nothing here costs privacy, however often it is repeated with other settings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.canonical import finite
from shared.recipes.cooccurrence import symmetric_matrix

Readout = Literal["weights", "factors"]
# Eigenvalues in rising order and eigenvectors in columns, of a symmetric matrix.
Eigh = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
# Below this expected signal the pairs are noise: publish DP popularity and content only.
LEAST_SIGNAL = 50.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CooccurrenceRelease:
    """The released sums of one job, in real units, with the noise that they carry.

    head: int32 (h,) sorted by popularity. popularity: float64 (num_items,). pairs: float64 (h (h - 1) / 2,).
    popularity_std, pairs_std: standard deviation of the noise in each coordinate of the sums, 0 for none.
    num_users: size of the cohort as its parties declared it, public by policy.
    """

    head: NDArray[np.int32]
    popularity: NDArray[np.float64]
    pairs: NDArray[np.float64]
    popularity_std: float
    pairs_std: float
    num_users: int


@dataclass(frozen=True, kw_only=True)
class WeightsSettings:
    """Read-out `weights`: EASE (Steck 2019, eq. 8) on the thresholded pair matrix.

    threshold: tau, in standard deviations of one matrix entry's noise; entries shrink towards zero by it.
    ridge: lambda, a fraction of the number of users added to the diagonal.
    diagonal: c; the diagonal is never released, M_ii = c n p_i / sum p stands for it.
    rank: of the projection of B in the metric of M, 0 for none.
    """

    threshold: float
    ridge: float
    diagonal: float
    rank: int = 0

    def __post_init__(self) -> None:
        _check(self.threshold, self.ridge, self.diagonal, self.rank)


@dataclass(frozen=True, kw_only=True)
class FactorsSettings:
    """Read-out `factors`: eigenvalues of the pair matrix cleaned by the rotation-invariant estimator.

    ridge, diagonal: as in WeightsSettings. rank: most factors to keep, 0 for all that stand above the noise.
    """

    ridge: float
    diagonal: float
    rank: int = 0

    def __post_init__(self) -> None:
        _check(0.0, self.ridge, self.diagonal, self.rank)


def enough_signal(num_users: int, mu: float) -> bool:
    """Whether pairs can be told from noise: 2 (0.03 n mu)^2 is at least 50."""
    return 2 * (0.03 * num_users * mu) ** 2 >= LEAST_SIGNAL


def pair_matrix(release: CooccurrenceRelease, *, diagonal: float) -> NDArray[np.float64]:
    """M float64 (h, h): the released pairs over sqrt 2, with the diagonal that popularity stands for.

    Over sqrt 2, one user's vector of norm 1 becomes a symmetric matrix of Frobenius norm 1.
    """
    matrix = symmetric_matrix(release.pairs / sqrt(2), len(release.head))
    shares = np.maximum(release.popularity[release.head], 0.0)
    total = float(np.maximum(release.popularity, 0.0).sum())
    # Items whose popularity drowned in noise still need a positive diagonal: the least of the head stands for them.
    floor = 1e-3 * float(shares.mean()) if total > 0 else 1.0
    np.fill_diagonal(matrix, diagonal * release.num_users * np.maximum(shares, floor) / max(total, 1.0))
    return matrix


def entry_std(release: CooccurrenceRelease) -> float:
    """s, the noise's standard deviation in an off-diagonal entry of `pair_matrix`."""
    return release.pairs_std / sqrt(2)


def weights_readout(
    release: CooccurrenceRelease, settings: WeightsSettings, *, eigh: Eigh | None = None
) -> NDArray[np.float32]:
    """B float32 (h, h), zero diagonal; a user's scores of the head are w B for weights w over the head.

    eigh: one that remembers what it was asked, for reading one release many times: everything is then made from
    eigenvalues, which are costlier than one inverse and cheaper than the second.
    """
    matrix = pair_matrix(release, diagonal=settings.diagonal)
    diagonal = matrix.diagonal().copy()
    np.maximum(matrix - settings.threshold * entry_std(release), 0.0, out=matrix)
    np.fill_diagonal(matrix, diagonal)
    inverse = _regularised_inverse(matrix, settings.ridge * release.num_users, eigh)
    weights = inverse / -inverse.diagonal()[None, :]
    np.fill_diagonal(weights, 0.0)
    if 0 < settings.rank < len(matrix):
        weights = _project(weights, matrix, settings.rank, eigh or np.linalg.eigh)
    return weights.astype(np.float32)


def factors_readout(
    release: CooccurrenceRelease, settings: FactorsSettings, *, eigh: Eigh | None = None
) -> NDArray[np.float32]:
    """V float32 (h, d); a user's scores of the head are V V^T w. d is what stands above the noise, at least 1.

    Eigenvalues are shrunk to xi = l - 2 s^2 h Re g(l), g the empirical Stieltjes transform (Bun, Bouchaud, Potters
    2017, sec. 6, additive Gaussian noise), kept for xi > 0 and l > s sqrt h, and V = Q diag(sqrt(xi / (xi + ridge n))).
    eigh: numpy's, or one that remembers what it was asked.
    """
    values, vectors = (eigh or np.linalg.eigh)(pair_matrix(release, diagonal=settings.diagonal))
    cleaned = rotation_invariant_shrinkage(values, entry_std(release))
    keep = (cleaned > 0) & (values > entry_std(release) * sqrt(len(values)))
    keep[-1] = True
    if settings.rank:
        keep[: -settings.rank] = False
    kept = np.maximum(cleaned[keep], 0.0)
    gains = np.sqrt(kept / (kept + settings.ridge * release.num_users + np.finfo(np.float64).tiny))
    return (vectors[:, keep] * gains)[:, ::-1].astype(np.float32)


def rotation_invariant_shrinkage(eigenvalues: NDArray[np.float64], entry_noise_std: float) -> NDArray[np.float64]:
    """Best eigenvalues for the sample eigenvectors of signal plus a symmetric Gaussian matrix of that entry
    deviation."""
    if entry_noise_std == 0:
        return eigenvalues.copy()
    size = len(eigenvalues)
    # g is evaluated just off the real axis; size^(-1/2) of the noise's own spectral radius balances bias and variance.
    height = entry_noise_std * sqrt(size) * size**-0.5
    gaps = eigenvalues[:, None] - eigenvalues[None, :]
    real_part = np.mean(gaps / (gaps**2 + height**2), axis=1)
    return np.asarray(eigenvalues - 2 * entry_noise_std**2 * size * real_part, dtype=np.float64)


def strongest_entries(weights: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `count` entries of greatest magnitude of each row, for devices: columns int32 and values float32, both (h,
    count)."""
    count = min(count, weights.shape[1])
    columns = np.argpartition(-np.abs(weights), count - 1, axis=1)[:, :count]
    columns.sort(axis=1)
    return columns.astype(np.int32), np.take_along_axis(weights, columns, axis=1)


def _regularised_inverse(matrix: NDArray[np.float64], ridge: float, eigh: Eigh | None) -> NDArray[np.float64]:
    if eigh is None:
        regularised = matrix + ridge * np.eye(len(matrix))
        try:
            np.linalg.cholesky(regularised)
            return np.asarray(np.linalg.inv(regularised))
        except np.linalg.LinAlgError:
            eigh = np.linalg.eigh
    values, vectors = eigh(matrix)
    if values[0] + ridge <= 0:
        # Noise can leave M indefinite; its nearest positive semi-definite neighbour keeps P_jj > 0.
        values = np.maximum(values, 0.0)
    return np.asarray((vectors / (values + ridge)) @ vectors.T)


def _project(weights: NDArray[np.float64], metric: NDArray[np.float64], rank: int, eigh: Eigh) -> NDArray[np.float64]:
    # The best rank-r approximation of B under |M^(1/2) (B - B_r)|: B times the top eigenvectors of B^T M B.
    _, vectors = eigh(weights.T @ metric @ weights)
    leading = vectors[:, -rank:]
    projected = (weights @ leading) @ leading.T
    np.fill_diagonal(projected, 0.0)
    return np.asarray(projected)


def _check(threshold: float, ridge: float, diagonal: float, rank: int) -> None:
    if (
        finite("threshold", threshold) < 0
        or finite("ridge", ridge) <= 0
        or finite("diagonal", diagonal) <= 0
        or rank < 0
    ):
        raise ValueError("read-out settings: threshold and rank from 0, ridge and diagonal above 0")
