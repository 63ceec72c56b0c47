"""One sparse vector a user, and the L2 clip that bounds what any user can do to a sum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput


@dataclass(frozen=True, kw_only=True, eq=False)
class UserVectors:
    """Compressed rows of (coordinate, value): everything that each user adds to one sum.

    offsets: int64 (num_users + 1), user u owns [offsets[u]:offsets[u + 1]].
    coordinates: int64, in [0, num_coordinates). Inside a user each at most once, in any order: two entries for one
    coordinate would add up in the sum but not in the norm, and the clip would not hold.
    values: float64 of the same length, finite. Rows may be empty. Construction validates and raises BadInput.
    """

    num_coordinates: int
    offsets: NDArray[np.int64]
    coordinates: NDArray[np.int64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.offsets.dtype != np.int64 or self.coordinates.dtype != np.int64 or self.values.dtype != np.float64:
            raise BadInput("user vectors: offsets and coordinates must be int64 and values float64")
        if self.offsets.ndim != 1 or len(self.offsets) < 1 or self.offsets[0] != 0 or np.any(np.diff(self.offsets) < 0):
            raise BadInput("user vectors: offsets must start at 0 and never fall")
        if not len(self.coordinates) == len(self.values) == self.offsets[-1]:
            raise BadInput("user vectors: offsets, coordinates and values disagree on the number of entries")
        if len(self.values) and not 0 <= self.coordinates.min() <= self.coordinates.max() < self.num_coordinates:
            raise BadInput(f"user vectors: a coordinate is not in 0 to {self.num_coordinates - 1}")
        if not np.all(np.isfinite(self.values)):
            raise BadInput("user vectors: a value is not finite")
        if _has_repeats(self.num_coordinates, self.users(), self.coordinates):
            raise BadInput("user vectors: a user lists one coordinate twice, so the norm would not bound the sum")

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    def users(self) -> NDArray[np.int64]:
        """The user of each entry, int64 of the length of `values`."""
        return np.repeat(np.arange(self.num_users, dtype=np.int64), np.diff(self.offsets))

    def norms(self) -> NDArray[np.float64]:
        """L2 norm of each user, float64 (num_users,); scaled inside, so that nothing finite over- or underflows."""
        norms = np.zeros(self.num_users)
        filled = np.diff(self.offsets) > 0
        if not filled.any():
            return norms
        starts, sizes = self.offsets[:-1][filled], np.diff(self.offsets)[filled]
        largest = np.maximum.reduceat(np.abs(self.values), starts)
        unit = np.where(largest > 0, largest, 1.0)
        squares = np.square(self.values / np.repeat(unit, sizes))
        with np.errstate(over="ignore"):  # a norm above the largest float is inf, and is clipped like any other
            norms[filled] = unit * np.sqrt(np.add.reduceat(squares, starts))
        return norms

    def total(self) -> NDArray[np.float64]:
        """Sum over the users, float64 (num_coordinates,). Not private: nothing that leaves a client may be this."""
        total: NDArray[np.float64] = np.zeros(self.num_coordinates)
        np.add.at(total, self.coordinates, self.values)
        return total


def clip_users(vectors: UserVectors, max_norm: float) -> UserVectors:
    """Scale each user's vector by min(1, max_norm / norm): afterwards every L2 norm is at most `max_norm`.

    The bound holds for the exact norm of the float64 values returned, not only up to rounding: a vector that is scaled
    is scaled a few units in the last place further than the quotient says. Vectors safely inside are not touched.
    Raises BadInput for a max_norm that is not finite or below 1e-100, where float64 loses digits.
    """
    if not 1e-100 <= max_norm < np.inf:
        raise BadInput(f"max_norm must be finite and above zero (1e-100), got {max_norm}")
    norms, sizes = vectors.norms(), np.diff(vectors.offsets)
    # A sum of k squares in float64 is off by at most (k + 3) * 2^-53 in proportion (Higham 2002, 3.1), the norm by half
    # of that, the two divisions and the product by 2^-53 each.
    bounds = max_norm * (1 - (sizes + 16) * 2.0**-52)
    long = np.repeat(norms > bounds, sizes)
    # The direction first: max_norm / norm alone can fall below the normal floats and lose its digits. A norm above the
    # largest float is inf here, and that user's vector becomes zero.
    direction = vectors.values[long] / np.repeat(norms, sizes)[long]
    values = vectors.values.copy()
    values[long] = direction * np.repeat(bounds, sizes)[long]
    return UserVectors(
        num_coordinates=vectors.num_coordinates,
        offsets=vectors.offsets,
        coordinates=vectors.coordinates,
        values=values,
    )


def _has_repeats(num_coordinates: int, users: NDArray[np.int64], coordinates: NDArray[np.int64]) -> bool:
    # Rows sorted by coordinate are told without sorting. One key for (user, coordinate) sorts fast; where it could
    # leave int64, sort by the pair.
    if np.all((np.diff(coordinates) > 0) | (np.diff(users) > 0)):
        return False
    if (int(users[-1]) + 1) * num_coordinates < 2**63:
        keys = np.sort(users * num_coordinates + coordinates)
        return bool(np.any(keys[1:] == keys[:-1]))
    order = np.lexsort((coordinates, users))
    return bool(np.any((np.diff(coordinates[order]) == 0) & (np.diff(users[order]) == 0)))
