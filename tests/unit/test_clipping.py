"""User vectors: what they accept, and that a clip holds."""

import numpy as np
import pytest

from shared.clipping import UserVectors, clip_users
from shared.errors import BadInput


def vectors(*users: dict[int, float], num_coordinates: int = 10) -> UserVectors:
    return UserVectors(
        num_coordinates=num_coordinates,
        offsets=np.cumsum([0, *map(len, users)], dtype=np.int64),
        coordinates=np.array([key for user in users for key in user], dtype=np.int64),
        values=np.array([value for user in users for value in user.values()], dtype=np.float64),
    )


def test_norms_and_total_are_per_user_and_over_all() -> None:
    both = vectors({1: 3.0, 0: 4.0}, {}, {1: -1.0})
    assert both.num_users == 3
    assert both.norms().tolist() == [5.0, 0.0, 1.0]
    assert both.total().tolist() == [4.0, 2.0] + [0.0] * 8


def test_a_vector_inside_the_bound_is_not_touched() -> None:
    inside = vectors({0: 0.3, 5: -0.4}, {}, {2: 0.0})
    assert np.array_equal(clip_users(inside, 1.0).values, inside.values)


def test_a_long_vector_keeps_its_direction_and_gets_the_bound() -> None:
    clipped = clip_users(vectors({0: 30.0, 5: -40.0}, {1: 0.5}), 1.0)
    assert clipped.values == pytest.approx([0.6, -0.8, 0.5], rel=1e-12)


@pytest.mark.parametrize("huge", [1e200, 1.7e308, 5e-324, 1e-200])
def test_extreme_values_neither_escape_nor_become_nan(huge: float) -> None:
    clipped = clip_users(vectors({0: huge, 1: -huge, 2: huge}), 1.0)
    assert np.all(np.isfinite(clipped.values))
    assert clipped.norms()[0] <= 1.0


def test_no_users_is_a_valid_and_empty_sum() -> None:
    nobody = vectors()
    assert clip_users(nobody, 1.0).total().tolist() == [0.0] * 10
    assert nobody.norms().shape == (0,)


def test_a_coordinate_listed_twice_is_refused_because_the_clip_would_not_hold() -> None:
    with pytest.raises(BadInput, match="twice"):
        UserVectors(
            num_coordinates=10,
            offsets=np.array([0, 3], dtype=np.int64),
            coordinates=np.array([4, 1, 4], dtype=np.int64),
            values=np.ones(3),
        )


def test_a_coordinate_listed_twice_is_found_where_one_key_would_overflow() -> None:
    with pytest.raises(BadInput, match="twice"):
        UserVectors(
            num_coordinates=2**62,
            offsets=np.array([0, 1, 4], dtype=np.int64),
            coordinates=np.array([4, 2**61, 1, 2**61], dtype=np.int64),
            values=np.ones(4),
        )


def test_the_same_coordinate_in_two_users_is_fine() -> None:
    assert vectors({4: 1.0, 1: 1.0}, {4: 1.0}).total()[4] == 2.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(BadInput, match="finite"):
        vectors({0: value})


@pytest.mark.parametrize(
    ("offsets", "coordinates"),
    [([1, 2], [0, 1]), ([0, 2, 1], [0]), ([0, 3], [0, 1]), ([0, 2], [0, 10]), ([0, 2], [-1, 0])],
)
def test_inconsistent_arrays_are_refused(offsets: list[int], coordinates: list[int]) -> None:
    with pytest.raises(BadInput):
        UserVectors(
            num_coordinates=10,
            offsets=np.array(offsets, dtype=np.int64),
            coordinates=np.array(coordinates, dtype=np.int64),
            values=np.ones(len(coordinates)),
        )


def test_narrow_types_are_refused() -> None:
    with pytest.raises(BadInput, match="int64"):
        UserVectors(
            num_coordinates=2,
            offsets=np.array([0, 1], dtype=np.int32),  # type: ignore[arg-type]
            coordinates=np.array([0], dtype=np.int64),
            values=np.ones(1),
        )


@pytest.mark.parametrize("bound", [0.0, -1.0, np.inf, np.nan])
def test_a_bound_that_bounds_nothing_is_refused(bound: float) -> None:
    with pytest.raises(BadInput, match="max_norm"):
        clip_users(vectors({0: 1.0}), bound)
