"""Rounding to integers: what one user can move, what the sum can hold, what it costs in accuracy."""

from collections.abc import Callable
from math import ceil, exp, inf, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.clipping import UserVectors, clip_users
from shared.errors import BadInput, CapacityExceeded
from shared.secagg.fixed_point import (
    choose_scale,
    round_sum,
    round_users,
    rounded_sensitivity,
    rounded_sum_sensitivity,
    rounding_error_std,
)

SCALES = st.integers(0, 32).map(lambda power: 2**power)
# Adversaries: flat vectors whose every entry sits at one half of a step, single spikes, tiny and zero entries.
ENTRIES = st.one_of(
    st.floats(-1, 1, allow_subnormal=True),
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1e-300, -1e-300, 2.0**-33, 0.4999999999999999]),
)


def vectors(rows: list[list[float]], num_coordinates: int) -> UserVectors:
    values = np.array([value for row in rows for value in row], dtype=np.float64)
    coordinates = [index for row in rows for index in range(len(row))]
    return UserVectors(
        num_coordinates=num_coordinates,
        offsets=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        coordinates=np.array(coordinates, dtype=np.int64),
        values=values,
    )


def exact_norm_squared(integers: NDArray[np.int64]) -> int:
    return sum(int(value) ** 2 for value in integers)


class Worst(np.random.Generator):
    """A generator that rounds every fraction up: the worst that randomness could do."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.zeros(size)


@given(
    row=st.lists(ENTRIES, min_size=1, max_size=40),
    scale=SCALES,
    clip=st.sampled_from([1.0, 0.1, 3.7, 1e-6]),
    spare=st.integers(0, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=400, deadline=None)
def test_the_rounded_norm_of_every_user_is_within_the_sensitivity(
    row: list[float], scale: int, clip: float, spare: int, seed: int
) -> None:
    touched = len(row) + spare
    user = clip_users(vectors([row], touched), clip)
    bound = rounded_sensitivity(scale=scale, clip=clip, num_touched=touched)
    for rng in (np.random.default_rng(seed), Worst()):
        rounded = round_users(user, scale=scale, clip=clip, num_touched=touched, rng=rng)
        assert exact_norm_squared(rounded) <= bound * bound


@pytest.mark.parametrize("scale", [1, 16, 1024, 2**20, 2**32])
@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_flat_users_on_the_clip_stay_within_the_sensitivity_even_when_every_draw_goes_up(scale: int, size: int) -> None:
    clip = 1.0
    bound = rounded_sensitivity(scale=scale, clip=clip, num_touched=size)
    for sign in (1, -1):
        flat = clip_users(vectors([[sign / sqrt(size)] * size], size), clip)
        for rng in (np.random.default_rng(1), Worst()):
            rounded = round_users(flat, scale=scale, clip=clip, num_touched=size, rng=rng)
            assert exact_norm_squared(rounded) <= bound * bound
            assert np.abs(rounded - flat.total() * scale).max() <= max(1, scale * 2.0**-19)


def test_without_redraws_the_bound_would_not_hold() -> None:
    # The negative control: rounding whose draws all go up exceeds it, the conditional one never does.
    size = 4_000
    half = np.full(size, 0.5)
    steps = sqrt(exact_norm_squared(np.ones(size, dtype=np.int64)))
    worst_bound = rounded_sensitivity(scale=1, clip=float(np.linalg.norm(half)), num_touched=size)
    assert steps > worst_bound
    user = vectors([[0.5] * size], size)
    rounded = round_users(user, scale=1, clip=float(np.linalg.norm(half)), num_touched=size, rng=Worst())
    assert sqrt(exact_norm_squared(rounded)) <= worst_bound


def test_each_user_is_bounded_in_a_crowd_too() -> None:
    # Users on disjoint coordinates, so that the sum shows each of them.
    size, users, scale = 50, 200, 4
    rows = [[0.0] * (size * index) + [1 / sqrt(size)] * size for index in range(users)]
    crowd = UserVectors(
        num_coordinates=size * users,
        offsets=np.arange(0, size * users + 1, size, dtype=np.int64),
        coordinates=np.arange(size * users, dtype=np.int64),
        values=np.concatenate([row[-size:] for row in rows]) * (1 - 1e-12),
    )
    bound = rounded_sensitivity(scale=scale, clip=1.0, num_touched=size)
    rounded = round_users(crowd, scale=scale, clip=1.0, num_touched=size, rng=np.random.default_rng(3))
    assert max(exact_norm_squared(part) for part in rounded.reshape(users, size)) <= bound * bound


def test_rounding_has_no_bias_where_nothing_is_drawn_again() -> None:
    row = [0.3, -0.3, 0.01, -0.01, 0.5, 0.0, 1e-9]
    repeats, scale = 60_000, 8
    crowd = vectors([row] * repeats, len(row))
    rounded = round_users(crowd, scale=scale, clip=1.0, num_touched=len(row), rng=np.random.default_rng(4))
    error = rounded / repeats - np.array(row) * scale
    assert np.abs(error).max() < 4 * rounding_error_std(num_users=repeats) / repeats


def test_the_bias_of_redraws_is_below_one_step_in_l2() -> None:
    size, scale, repeats = 900, 1, 400
    clip = 0.5 * sqrt(size)
    crowd = vectors([[0.5] * size] * repeats, size)
    redrawn = round_users(crowd, scale=scale, clip=clip, num_touched=size, rng=np.random.default_rng(5)) / repeats
    bias_along = float((redrawn - 0.5) @ np.ones(size)) / sqrt(size)
    assert abs(bias_along) <= sqrt(exp(-0.5)) / (2 * (1 - exp(-0.5))) < 1


def test_the_variance_of_rounding_is_a_quarter_a_user_at_most() -> None:
    users, trials = 400, 300
    crowd = vectors([[0.5, 0.25, 0.0]] * users, 3)
    rng = np.random.default_rng(6)
    sums = [round_users(crowd, scale=1, clip=1.0, num_touched=3, rng=rng) for _ in range(trials)]
    spread = np.std(sums, axis=0) / rounding_error_std(num_users=users)
    assert spread[0] == pytest.approx(1, abs=0.15)
    assert spread[1] == pytest.approx(sqrt(0.75), abs=0.15)
    assert spread[2] == 0


def test_exact_zeros_stay_zero_and_users_may_be_empty() -> None:
    crowd = vectors([[], [0.0, 0.5, -0.0], []], 3)
    rounded = round_users(crowd, scale=2, clip=1.0, num_touched=1, rng=np.random.default_rng(7))
    assert rounded.tolist() == [0, 1, 0]
    nobody = vectors([], 3)
    assert round_users(nobody, scale=2, clip=1.0, num_touched=1, rng=np.random.default_rng(7)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("row", "touched", "clip"), [([1.0, 0.1], 2, 1.0), ([0.1, 0.1, 0.1], 2, 1.0), ([0.6], 1, 0.5)])
def test_a_user_beyond_the_clip_or_the_count_is_refused(row: list[float], touched: int, clip: float) -> None:
    with pytest.raises(BadInput):
        round_users(vectors([row], 3), scale=4, clip=clip, num_touched=touched, rng=np.random.default_rng(8))


@pytest.mark.parametrize("scale", [0, 3, -2, 2**33])
def test_a_scale_that_is_no_power_of_two_is_refused(scale: int) -> None:
    with pytest.raises(BadInput):
        rounded_sensitivity(scale=scale, clip=1.0, num_touched=1)
    with pytest.raises(BadInput):
        round_sum(np.zeros(1), scale=scale)


@pytest.mark.parametrize("clip", [0.0, -1.0, inf, float("nan")])
def test_a_clip_that_bounds_nothing_is_refused(clip: float) -> None:
    with pytest.raises(BadInput):
        rounded_sensitivity(scale=1, clip=clip, num_touched=1)
    with pytest.raises(BadInput):
        rounded_sum_sensitivity(scale=1, clip=clip, num_coordinates=1, max_users=1)


@given(scale=SCALES, clip=st.floats(1e-6, 1e3), touched=st.integers(1, 10**8))
def test_the_sensitivity_is_the_published_formula_rounded_up(scale: int, clip: float, touched: int) -> None:
    length, root = scale * clip, sqrt(touched)
    slack = sqrt(2 * log(1 / exp(-0.5)))
    published = min(length**2 + touched / 4 + slack * (length + root / 2), (length + root) ** 2)
    given_bound = rounded_sensitivity(scale=scale, clip=clip, num_touched=touched)
    assert sqrt(published) * (1 - 1e-12) <= given_bound <= sqrt(published) * (1 + 1e-12)
    assert given_bound >= length


# --- a tenant's float64 sum ---


@st.composite
def tenants(draw: st.DrawFn) -> tuple[NDArray[np.float64], float, int]:
    """Clipped users (n, m) of hostile magnitudes, a clip and a scale."""
    users, size = draw(st.integers(1, 30)), draw(st.integers(1, 20))
    clip = draw(st.sampled_from([1.0, 0.3, 1e-4]))
    rows = [draw(st.lists(ENTRIES, min_size=size, max_size=size)) for _ in range(users)]
    clipped = clip_users(vectors(rows, size), clip)
    return clipped.values.reshape(users, size), clip, draw(SCALES)


@given(tenant=tenants(), removed=st.integers(0, 29), seed=st.integers(0, 9))
@settings(max_examples=120, deadline=None)
def test_one_user_more_or_less_moves_a_rounded_sum_by_at_most_its_sensitivity(
    tenant: tuple[NDArray[np.float64], float, int], removed: int, seed: int
) -> None:
    users, clip, scale = tenant
    without = np.delete(users, removed % len(users), axis=0)
    bound = rounded_sum_sensitivity(scale=scale, clip=clip, num_coordinates=users.shape[1], max_users=len(users))
    # The two runs may add in different orders, as two runs with other batches do.
    order = np.random.default_rng(seed).permutation(len(without))
    totals: list[Callable[[NDArray[np.float64]], NDArray[np.float64]]] = [
        lambda part: part.sum(axis=0),
        lambda part: np.ones(len(part)) @ part,
        lambda part: np.add.accumulate(part, axis=0)[-1] if len(part) else np.zeros(part.shape[1]),
    ]
    present = round_sum(totals[seed % 3](users), scale=scale)
    absent = round_sum(totals[(seed + 1) % 3](without[order]), scale=scale)
    assert exact_norm_squared(present - absent) <= bound * bound


def test_the_price_of_rounding_a_sum_is_really_paid() -> None:
    # Two rounded sums that differ by nearly s c + sqrt(m): the bound is not idle, and without its sqrt(m) it breaks.
    size, scale, clip = 10_000, 1, 1.0
    user = np.full(size, clip / sqrt(size))
    before = np.full(size, 0.5 - user[0] / 2)
    moved = round_sum(before + user, scale=scale) - round_sum(before, scale=scale)
    bound = rounded_sum_sensitivity(scale=scale, clip=clip, num_coordinates=size, max_users=2)
    assert scale * clip < sqrt(exact_norm_squared(moved)) <= bound
    assert sqrt(exact_norm_squared(moved)) == pytest.approx(sqrt(size))


def test_the_slack_for_float_summation_covers_a_big_tenant_and_grows_with_it() -> None:
    rng = np.random.default_rng(9)
    users = rng.normal(size=(20_000, 3))
    users /= np.linalg.norm(users, axis=1, keepdims=True) * (1 + 1e-15)
    scale = 2**32
    forwards, backwards = round_sum(users.sum(axis=0), scale=scale), round_sum(users[::-1][1:].sum(axis=0), scale=scale)
    bound = rounded_sum_sensitivity(scale=scale, clip=1.0, num_coordinates=3, max_users=20_000)
    assert exact_norm_squared(forwards - backwards) <= bound * bound
    bounds = [
        rounded_sum_sensitivity(scale=scale, clip=1.0, num_coordinates=3, max_users=n) - scale
        for n in (1, 10**4, 10**6)
    ]
    # sqrt 3 for rounding, and 2 scale 2^-30 a user for what a batch can do to its term.
    assert bounds[0] < 9.8 < bounds[1] < bounds[2]


def test_more_users_than_a_float_sum_tells_apart_are_refused() -> None:
    with pytest.raises(CapacityExceeded):
        rounded_sum_sensitivity(scale=1, clip=1.0, num_coordinates=1, max_users=2**52)


@pytest.mark.parametrize("value", [inf, -inf, float("nan"), 2.0**62])
def test_a_sum_that_is_no_number_or_too_large_is_refused(value: float) -> None:
    with pytest.raises(CapacityExceeded):
        round_sum(np.array([0.0, value]), scale=1)


def test_round_sum_is_nearest() -> None:
    assert round_sum(np.array([0.26, -0.26, 0.2, 1e-9, 2.0**29 + 0.25]), scale=4).tolist() == [1, -1, 1, 0, 2**31 + 1]


# --- the ring's capacity ---


@given(
    bits=st.sampled_from([16, 24, 32, 64]),
    users=st.integers(1, 50_000),
    clip=st.sampled_from([0.01, 1.0, 5.0]),
    multiplier=st.floats(0.1, 20),
    noises=st.integers(0, 1_000),
    touched=st.integers(1, 10**6),
)
def test_the_chosen_scale_is_the_largest_that_cannot_wrap(
    bits: int, users: int, clip: float, multiplier: float, noises: int, touched: int
) -> None:
    def sensitivity(scale: int) -> float:
        return rounded_sensitivity(scale=scale, clip=clip, num_touched=touched)

    def reach(scale: int) -> float:
        noise_std = ceil(multiplier * sensitivity(scale))
        return users * ceil(scale * clip) + 12 * sqrt(noises) * noise_std

    def choose() -> int:
        return choose_scale(
            bits=bits,
            max_users=users,
            clip=clip,
            noise_multiplier=multiplier,
            num_noises=noises,
            sensitivity=sensitivity,
        )

    try:
        scale = choose()
    except CapacityExceeded:
        assert users * (clip + 1) + 12 * sqrt(noises) * (multiplier * sensitivity(1) + 1) > 2 ** (bits - 1) - 1
        return
    assert reach(scale) < 2 ** (bits - 1)
    assert (
        scale == 2**32
        or 2 * (users * (scale * clip + 1) + 12 * sqrt(noises) * (multiplier * sensitivity(scale) + 1))
        > (2 ** (bits - 1) - 1) * 0.99
    )


def test_a_ring_that_is_too_small_is_refused_with_the_numbers() -> None:
    with pytest.raises(CapacityExceeded, match=r"50000 users .* the ring has 16"):
        choose_scale(
            bits=16,
            max_users=50_000,
            clip=1.0,
            noise_multiplier=1.0,
            num_noises=2,
            sensitivity=lambda scale: scale + 1.0,
        )


def test_noise_for_the_rounding_of_many_coordinates_is_taken_into_account() -> None:
    # In 16 bits the rounding of half a million coordinates costs more noise than the clip itself.
    def chosen(touched: int, multiplier: float) -> int:
        return choose_scale(
            bits=16,
            max_users=300,
            clip=1.0,
            noise_multiplier=multiplier,
            num_noises=2,
            sensitivity=lambda scale: rounded_sensitivity(scale=scale, clip=1.0, num_touched=touched),
        )

    assert chosen(1, 6.0) == 64
    assert chosen(300_000, 6.0) == 8
    with pytest.raises(CapacityExceeded):
        chosen(500_000, 6.0)


def test_a_sum_that_could_leave_64_bits_is_refused() -> None:
    edge = float(2**29)
    crowd = vectors([[edge]] * 4, 1)
    with pytest.raises(CapacityExceeded):
        round_users(crowd, scale=2**32, clip=edge, num_touched=1, rng=np.random.default_rng(0))
    three = vectors([[edge]] * 3, 1)
    rounded = round_users(three, scale=2**32, clip=edge, num_touched=1, rng=np.random.default_rng(0))
    assert rounded.tolist() == [3 * 2**61]
    with pytest.raises(CapacityExceeded):
        rounded_sensitivity(scale=2**32, clip=2.0**31, num_touched=1)
