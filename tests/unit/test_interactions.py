import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, NoInteractions
from shared.interactions import Interactions, concatenate, from_events


def rows(*histories: list[int], num_items: int = 10) -> Interactions:
    users = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    items = np.array([i for h in histories for i in h], dtype=np.int64)
    order = np.arange(len(items), dtype=np.float64)
    return from_events(users=users, items=items, order=order, num_users=len(histories), num_items=num_items)


def test_events_in_any_order_become_histories_oldest_first() -> None:
    built = from_events(
        users=np.array([1, 0, 1]), items=np.array([5, 3, 4]), order=np.array([2.0, 0.0, 1.0]), num_users=2, num_items=6
    )
    assert built.history(1).tolist() == [4, 5]
    assert built.history(0).tolist() == [3]


def test_an_item_met_twice_counts_at_its_last_occurrence() -> None:
    assert rows([3, 4, 3]).history(0).tolist() == [4, 3]


@pytest.mark.parametrize("num_items", [4, 1_000_000, 5_000_000])
@given(
    histories=st.lists(st.lists(st.integers(0, 3), max_size=4, unique=True), min_size=1, max_size=6),
    again=st.data(),
)
def test_a_repeat_is_found_in_full_and_in_sparse_matrices(
    num_items: int, histories: list[list[int]], again: st.DataObject
) -> None:
    filled = [user for user, history in enumerate(histories) if history]
    if filled:
        user = again.draw(st.sampled_from(filled))
        repeated = [*histories[:user], [*histories[user], histories[user][0]], *histories[user + 1 :]]
        with pytest.raises(BadInput, match="twice"):
            matrix(repeated, num_items)
    assert matrix(histories, num_items).num_users == len(histories)


def matrix(histories: list[list[int]], num_items: int) -> Interactions:
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Interactions(
        num_items=num_items,
        offsets=np.concatenate(([0], np.cumsum([len(history) for history in histories]))).astype(np.int64),
        items=items,
        weights=np.ones(len(items), dtype=np.float32),
    )


def test_a_user_without_events_has_an_empty_row() -> None:
    assert rows([1], [], [2]).lengths.tolist() == [1, 0, 1]


def test_the_last_items_are_the_most_recent() -> None:
    assert rows([1, 2, 3], [4]).last(2).history(0).tolist() == [2, 3]


@given(st.lists(st.lists(st.integers(0, 9), max_size=6, unique=True), min_size=1, max_size=8), st.integers(1, 20))
def test_chunks_put_together_are_the_whole(histories: list[list[int]], size: int) -> None:
    if not any(histories):
        return
    whole = rows(*histories)
    again = concatenate(list(whole.chunks(size)))
    np.testing.assert_array_equal(again.items, whole.items)
    np.testing.assert_array_equal(again.offsets, whole.offsets)


def test_no_events_at_all_is_an_error() -> None:
    with pytest.raises(NoInteractions):
        rows([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": np.array([1, 10], dtype=np.int32)}, "outside the catalogue"),
        ({"items": np.array([1, 1], dtype=np.int32)}, "twice"),
        ({"weights": np.array([1, np.nan], dtype=np.float32)}, "finite"),
        ({"weights": np.array([1, 0], dtype=np.float32)}, "above zero"),
        ({"offsets": np.array([0, 3])}, "offsets"),
        ({"offsets": np.array([1, 2])}, "start at 0"),
        ({"weights": np.ones(3, dtype=np.float32)}, "one weight"),
    ],
)
def test_inconsistent_rows_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    good = {
        "num_items": 10,
        "offsets": np.array([0, 2]),
        "items": np.array([1, 2], dtype=np.int32),
        "weights": np.ones(2, dtype=np.float32),
    }
    with pytest.raises(BadInput, match=message):
        Interactions(**{**good, **change})


def test_a_time_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BadInput, match="finite"):
        from_events(users=np.array([0]), items=np.array([0]), order=np.array([np.inf]), num_users=1, num_items=1)
