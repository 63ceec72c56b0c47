"""Histories as a validated sparse matrix: users in rows, items in columns, each row in order of time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput, NoInteractions

# Looking for repeats: cells marked at once (4 MB), and the emptiest matrix that is marked rather than sorted.
_CELLS_AT_ONCE = 4_000_000
_CELLS_AN_ENTRY = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Compressed rows of (item) lists.

    offsets: int64 (num_users + 1), row u is items[offsets[u]:offsets[u + 1]].
    items:   int32, catalogue indices; inside a row each item once, oldest first.
    weights: float32 of the same length, finite and positive; 1 for plain implicit feedback.
    Rows may be empty. Construction validates and raises BadInput.
    """

    num_items: int
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.offsets.ndim != 1 or len(self.offsets) < 1 or self.offsets[0] != 0:
            raise BadInput("interactions: offsets must start at 0")
        if np.any(np.diff(self.offsets) < 0) or self.offsets[-1] != len(self.items):
            raise BadInput("interactions: offsets must rise to the number of items listed")
        if len(self.weights) != len(self.items):
            raise BadInput("interactions: one weight for each item is needed")
        if len(self.items) and (self.items.min() < 0 or self.items.max() >= self.num_items):
            raise BadInput(f"interactions: item index outside the catalogue of {self.num_items} items")
        if not np.all(np.isfinite(self.weights)) or np.any(self.weights <= 0):
            raise BadInput("interactions: weights must be finite and above zero")
        if self._repeats():
            raise BadInput("interactions: an item occurs twice in one history; keep its last occurrence")

    def _repeats(self) -> bool:
        rows = self.rows()
        if self.num_users * self.num_items > _CELLS_AN_ENTRY * len(rows):
            return len(np.unique(rows * self.num_items + self.items)) != len(rows)
        # Marking cells in a small table is many times faster than sorting where the matrix is not very sparse.
        block = max(1, min(_CELLS_AT_ONCE // max(self.num_items, 1), self.num_users))
        for start in range(0, self.num_users, block):
            low, high = self.offsets[start], self.offsets[min(start + block, self.num_users)]
            met = np.zeros(block * self.num_items, dtype=bool)
            met[(rows[low:high] - start) * self.num_items + self.items[low:high]] = True
            if np.count_nonzero(met) != high - low:
                return True
        return False

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def rows(self) -> NDArray[np.int64]:
        """The user index of every entry, int64 of length len(items)."""
        return np.repeat(np.arange(self.num_users, dtype=np.int64), self.lengths)

    def history(self, user: int) -> NDArray[np.int32]:
        """Items of one user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def users(self, start: int, stop: int) -> "Interactions":
        """Rows start..stop-1."""
        low, high = self.offsets[start], self.offsets[stop]
        return Interactions(
            num_items=self.num_items,
            offsets=self.offsets[start : stop + 1] - low,
            items=self.items[low:high],
            weights=self.weights[low:high],
        )

    def chunks(self, max_entries: int) -> Iterator["Interactions"]:
        """Consecutive blocks of whole users, each of at most `max_entries` entries or one user."""
        start = 0
        while start < self.num_users:
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + max_entries, side="right")) - 1
            stop = min(max(stop, start + 1), self.num_users)
            yield self.users(start, stop)
            start = stop

    def last(self, count: int) -> "Interactions":
        """Each history cut to its `count` most recent items."""
        position_from_end = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.items))
        keep = position_from_end <= count
        return Interactions(
            num_items=self.num_items,
            offsets=np.concatenate(([0], np.cumsum(np.minimum(self.lengths, count)))).astype(np.int64),
            items=self.items[keep],
            weights=self.weights[keep],
        )


def from_events(
    *,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    order: NDArray[np.float64],
    num_users: int,
    num_items: int,
    weights: NDArray[np.float32] | None = None,
) -> Interactions:
    """Build rows from events in any order.

    users, items: indices, one an event; order: time or position, finite (ties keep the sequence given).
    An item met several times in a history counts once, at its last occurrence.
    Raises NoInteractions for no event at all, BadInput for a non-finite order.
    """
    if len(users) == 0:
        raise NoInteractions("no interactions: at least one row of user and item is needed")
    if not np.all(np.isfinite(order)):
        raise BadInput("interactions: a time or position is not a finite number")
    values = np.ones(len(users), dtype=np.float32) if weights is None else weights.astype(np.float32)
    sequence = np.lexsort((order, users))
    users, items, values = users[sequence], items[sequence], values[sequence]
    keys = users.astype(np.int64) * num_items + items
    _, from_end = np.unique(keys[::-1], return_index=True)
    keep = np.sort(len(keys) - 1 - from_end)
    users, items, values = users[keep], items[keep], values[keep]
    counts = np.bincount(users, minlength=num_users)
    return Interactions(
        num_items=num_items,
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        items=items.astype(np.int32),
        weights=values,
    )


def concatenate(parts: list[Interactions]) -> Interactions:
    """All users of `parts`, in their order, over the same catalogue."""
    sizes = [part.lengths for part in parts]
    return Interactions(
        num_items=parts[0].num_items,
        offsets=np.concatenate(([0], np.cumsum(np.concatenate(sizes)))).astype(np.int64),
        items=np.concatenate([part.items for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )
