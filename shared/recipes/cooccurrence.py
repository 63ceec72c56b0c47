"""`cooccurrence`: two sums over users, asked for once: popularity, then order-aware pairs of the most popular items.

Each user sends vectors of L2 norm at most 1, so one user moves either sum by at most 1; which items are "head" is
decided from the released popularity alone. Both releases are Gaussian, so they compose exactly: mu = sqrt(mu_1^2 +
mu_2^2) (Dong, Roth, Su 2022, Cor. 3.3). Everything in `shared.recipes.readouts` is post-processing of the two.
"""

import numpy as np
from numpy.typing import NDArray

from shared.clipping import UserVectors, clip_users
from shared.errors import BadSetting
from shared.interactions import Interactions

# Pairs held at once while summing: about 50 MB of index arrays.
_PAIRS_AT_ONCE = 1_500_000


def popularity_vectors(history: Interactions) -> UserVectors:
    """Each user's weights scaled down to L2 norm 1 where longer: y = x min(1, 1/||x||) over `num_items` coordinates.

    The one clip for all that leaves a client: with a second way of adding squares up, a history could be long by the
    one and short by the other, and what refuses such a vector afterwards would tell that it is there.
    """
    weights = UserVectors(
        num_coordinates=history.num_items,
        offsets=history.offsets,
        coordinates=history.items.astype(np.int64),
        values=history.weights.astype(np.float64),
    )
    return clip_users(weights, 1.0)


def head_items(popularity: NDArray[np.float64], num_head_items: int) -> NDArray[np.int32]:
    """The `num_head_items` items of greatest released popularity, greatest first; ties by index.

    Raises BadSetting when the catalogue is smaller.
    """
    if not 2 <= num_head_items <= len(popularity):
        raise BadSetting(
            f"num_head_items must be from 2 to the catalogue's {len(popularity)} items, got {num_head_items}"
        )
    return np.argsort(-popularity, kind="stable")[:num_head_items].astype(np.int32)


def num_pairs(num_head_items: int) -> int:
    """Coordinates of the pair release: h (h - 1) / 2, the upper triangle by rows."""
    return num_head_items * (num_head_items - 1) // 2


def pair_vectors(
    history: Interactions, head: NDArray[np.int32], *, gamma: float, max_head_items_per_user: int
) -> UserVectors:
    """One vector of pairs a user, of L2 norm exactly 1, or empty for fewer than two head items.

    The user's items that are in `head`, oldest first and the most recent `max_head_items_per_user` of them, take
    positions 0, 1, ...; the pair at positions i and j weighs |i - j|^-gamma before scaling. Coordinates index
    `num_pairs(len(head))`.
    Memory grows with the pairs of all users given: pass chunks.
    """
    offsets, coordinates, values = _pairs(history, head, gamma, max_head_items_per_user)
    return UserVectors(num_coordinates=num_pairs(len(head)), offsets=offsets, coordinates=coordinates, values=values)


def pair_sum(
    history: Interactions, head: NDArray[np.int32], *, gamma: float, max_head_items_per_user: int
) -> NDArray[np.float64]:
    """Sum of `pair_vectors` over all users, float64 (num_pairs,), in bounded memory: what a tenant contributes."""
    total = np.zeros(num_pairs(len(head)))
    kept = np.minimum(np.diff(_head_ranks(history, head, max_head_items_per_user)[1]), max_head_items_per_user)
    pairs_before = np.concatenate(([0], np.cumsum(kept * (kept - 1) // 2)))
    start = 0
    while start < history.num_users:
        # As many users as their own pairs allow: every part costs a pass over the whole sum.
        stop = int(np.searchsorted(pairs_before, pairs_before[start] + _PAIRS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), history.num_users)
        _, coordinates, values = _pairs(history.users(start, stop), head, gamma, max_head_items_per_user)
        total += np.bincount(coordinates, weights=values, minlength=len(total))
        start = stop
    return total


def condensed_index(low: NDArray[np.int64], high: NDArray[np.int64], num_head_items: int) -> NDArray[np.int64]:
    """Position of the pair (low < high) in the upper triangle read by rows."""
    return np.asarray(low * num_head_items - low * (low + 1) // 2 + (high - low - 1), dtype=np.int64)


def symmetric_matrix(condensed: NDArray[np.float64], num_head_items: int) -> NDArray[np.float64]:
    """The (h, h) symmetric matrix of a condensed upper triangle, with a zero diagonal."""
    matrix = np.zeros((num_head_items, num_head_items))
    matrix[np.triu_indices(num_head_items, 1)] = condensed
    return matrix + matrix.T


def _pairs(
    history: Interactions, head: NDArray[np.int32], gamma: float, max_per_user: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    # Offsets, coordinates and values of `pair_vectors`, every pair of a user once.
    ranks, offsets = _head_ranks(history, head, max_per_user)
    lengths = np.diff(offsets)
    later = np.repeat(offsets[1:], lengths) - np.arange(len(ranks)) - 1
    first = np.repeat(np.arange(len(ranks)), later)
    starts = np.cumsum(later) - later
    lag = np.arange(len(first)) - starts[first] + 1
    one, other = ranks[first], ranks[first + lag]
    pairs_per_user = lengths * (lengths - 1) // 2
    values = _lag_weights(int(lengths.max(initial=0)), gamma)[lag] * np.repeat(
        _pair_scale(lengths, gamma), pairs_per_user
    )
    ends = np.concatenate(([0], np.cumsum(pairs_per_user))).astype(np.int64)
    return ends, condensed_index(np.minimum(one, other), np.maximum(one, other), len(head)), values


def _head_ranks(
    history: Interactions, head: NDArray[np.int32], max_per_user: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Ranks in the head of each user's head items, oldest first and cut to the most recent, with row offsets.
    rank_of = np.full(history.num_items, -1, dtype=np.int64)
    rank_of[head] = np.arange(len(head))
    ranks = rank_of[history.items]
    inside = ranks >= 0
    counts = np.bincount(history.rows()[inside], minlength=history.num_users)
    ends = np.cumsum(counts)
    from_end = np.repeat(ends, counts) - np.arange(int(ends[-1]) if len(ends) else 0)
    kept = np.minimum(counts, max_per_user)
    return ranks[inside][from_end <= max_per_user], np.concatenate(([0], np.cumsum(kept))).astype(np.int64)


def _lag_weights(longest: int, gamma: float) -> NDArray[np.float64]:
    # Indexed by lag; entry 0 is never used.
    return np.arange(longest + 1, dtype=np.float64).clip(1) ** -gamma


def _pair_scale(lengths: NDArray[np.int64], gamma: float) -> NDArray[np.float64]:
    # 1 / norm of a user with k items: norm^2 = sum over lags l of (k - l) l^(-2 gamma), a function of k alone.
    longest = int(lengths.max(initial=0))
    squares = _lag_weights(longest, gamma) ** 2
    squares[:1] = 0.0
    lag_squares = np.arange(longest + 1) * squares
    norm_squared = np.arange(longest + 1) * np.cumsum(squares) - np.cumsum(lag_squares)
    scale = np.zeros(longest + 1)
    scale[2:] = 1 / np.sqrt(norm_squared[2:])
    return scale[lengths]
