"""The theorem on discrete Gaussian noise against exact sums over the integers."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, exp, inf

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from shared.accounting import epsilon, epsilon_gdp, epsilon_rdp
from shared.discrete_excess import excess, log_moment_over, log_moment_under
from shared.mechanism import DiscreteGaussian

Floats = NDArray[np.float64]


def discrete(s: float, shift: int, reach: int) -> Floats:
    """Probabilities of shift + N_Z(0, s^2) on -reach..reach."""
    k = np.arange(-reach, reach + 1)
    mass = np.exp(-((k - shift) ** 2) / (2 * s * s))
    wide = np.arange(-ceil(45 * s) - 5, ceil(45 * s) + 6)
    return np.asarray(mass / np.exp(-(wide**2) / (2 * s * s)).sum())


def rounded(s: float, reach: int) -> Floats:
    """Probabilities of round(N(0, s^2)) on -reach..reach, from the lighter tail so that they keep their digits."""
    k = np.abs(np.arange(-reach, reach + 1))
    return np.asarray(ndtr(-(k - 0.5) / s) - ndtr(-(k + 0.5) / s))


def exact_epsilon(noise_and_shift: Sequence[tuple[int, int]], delta: float) -> float:
    """Least epsilon for one release with independent coordinates (or several releases): full enumeration."""
    p, q = np.ones(1), np.ones(1)
    for s, shift in noise_and_shift:
        reach = 14 * s + shift
        p = np.multiply.outer(p, discrete(s, 0, reach)).ravel()
        q = np.multiply.outer(q, discrete(s, shift, reach)).ravel()

    def delta_at(eps: float) -> float:
        return float(np.maximum(0.0, p - exp(eps) * q).sum())

    low, high = 0.0, 60.0
    if delta_at(low) <= delta:
        return 0.0
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    return high


def releases_of(noise_and_shift: Sequence[tuple[int, int]]) -> list[DiscreteGaussian]:
    return [DiscreteGaussian(noise_std=s, sensitivity=float(shift), num_coordinates=1) for s, shift in noise_and_shift]


ONE_DIMENSION = [(s, shift) for s in (1, 2, 3, 5, 8, 16, 40, 120) for shift in sorted({1, 2, s, 2 * s, 4 * s})]


@pytest.mark.parametrize("delta", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(("s", "shift"), ONE_DIMENSION)
def test_the_bound_holds_against_the_exact_sum_over_the_integers(s: int, shift: int, delta: float) -> None:
    assert exact_epsilon([(s, shift)], delta) <= epsilon(releases_of([(s, shift)]), delta)


@pytest.mark.parametrize("delta", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(("s", "allowed"), [(16, 0.02), (40, 0.004), (120, 0.001)])
def test_the_bound_is_nearly_tight_where_noise_is_wide(s: int, allowed: float, delta: float) -> None:
    exact = exact_epsilon([(s, s)], delta)
    assert epsilon(releases_of([(s, s)]), delta) <= exact * (1 + allowed)


def test_leaving_the_excess_out_is_caught() -> None:
    # The tempting claim, that discrete noise is as good as continuous noise of the same size, is false.
    broken = [
        (s, shift, delta)
        for s, shift in ONE_DIMENSION
        for delta in (1e-2, 1e-4, 1e-6)
        if exact_epsilon([(s, shift)], delta) > epsilon_gdp(shift / s, delta)
    ]
    assert len(broken) >= 20
    assert any(s >= 40 for s, _, _ in broken)


def test_an_excess_a_tenth_as_large_is_caught() -> None:
    def claim(s: int, shift: int, delta: float) -> float:
        release, t = releases_of([(s, shift)]), 10 - np.log(delta)
        tenth = (excess(log_moment_over, release, t) + excess(log_moment_under, release, t)) / 10
        return epsilon_gdp(shift / s, delta) + tenth

    caught = [(s, shift) for s, shift in ONE_DIMENSION if exact_epsilon([(s, shift)], 1e-2) > claim(s, shift, 1e-2)]
    assert len(caught) >= 3


@pytest.mark.parametrize("shifts", [((1, 1), (1, 1)), ((2, 1), (2, 2)), ((5, 3), (5, 4)), ((9, 6), (9, 8))])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_the_bound_holds_exactly_in_two_dimensions(shifts: tuple[tuple[int, int], ...], delta: float) -> None:
    s = shifts[0][0]
    norm = float(np.hypot(shifts[0][1], shifts[1][1]))
    release = DiscreteGaussian(noise_std=s, sensitivity=norm, num_coordinates=2)
    assert exact_epsilon(shifts, delta) <= epsilon([release], delta)


@pytest.mark.parametrize("parts", [((2, 1), (7, 5)), ((1, 1), (12, 6)), ((3, 2), (8, 8)), ((2, 2), (3, 1), (4, 2))])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_the_bound_holds_over_releases_with_different_noise(parts: tuple[tuple[int, int], ...], delta: float) -> None:
    assert exact_epsilon(parts, delta) <= epsilon(releases_of(parts), delta)


@pytest.mark.parametrize("s", [0.5, 0.7, 1, 2, 5, 20, 200])
@pytest.mark.parametrize("factor", [0.01, 0.3, 1, 3, 8, 11])
def test_both_moment_bounds_hold_exactly_in_one_coordinate(s: float, factor: float) -> None:
    a = factor * s * s
    reach = ceil(14 * s)
    p, r = discrete(s, 0, reach), rounded(s, reach)
    over = np.log(np.sum(p * (p / r) ** a))
    assert over <= log_moment_over(a, s) + 1e-12
    if a + 1 < 11 * s * s:
        # The order a tilts R towards its tails: widen the grid with it.
        reach = ceil(36 * s)
        p, r = discrete(s, 0, reach), rounded(s, reach)
        positive = (p > 0) & (r > 0)
        under = np.log(np.sum(r[positive] * (r[positive] / p[positive]) ** a))
        assert under <= log_moment_under(a, s) + 1e-12


@pytest.mark.parametrize("s", [3, 20, 200])
def test_the_moment_bounds_are_near_the_truth_in_the_range_that_is_used(s: int) -> None:
    a = s * s
    reach = 14 * s
    p, r = discrete(s, 0, reach), rounded(s, reach)
    assert log_moment_over(a, s) <= 1.3 * np.log(np.sum(p * (p / r) ** a)) + 1e-4
    assert log_moment_under(a, s) <= 1.3 * np.log(np.sum(r * (r / p) ** a)) + 1e-2


def test_an_order_without_a_moment_bounds_nothing() -> None:
    assert log_moment_under(12.0, 1.0) == inf


def test_half_a_million_coordinates_cost_a_ten_thousandth_at_the_noise_we_use() -> None:
    release = DiscreteGaussian(noise_std=2**14, sensitivity=2**12, num_coordinates=500_000)
    gaussian = epsilon_gdp(0.25, 1e-6)
    assert gaussian < epsilon([release], 1e-6) < gaussian + 1.5e-4


def test_coarse_noise_in_many_dimensions_costs_under_one_percent() -> None:
    release = DiscreteGaussian(noise_std=30, sensitivity=30.0, num_coordinates=500_000)
    assert epsilon([release], 1e-6) < 1.01 * epsilon_gdp(1.0, 1e-6)


def test_many_small_coordinates_cannot_cost_less_than_they_do_exactly_when_counted_once_each() -> None:
    # Four coordinates of one step each at noise 1: the worst place for rounding, checked by enumeration.
    shifts = [(1, 1)] * 4
    release = DiscreteGaussian(noise_std=1, sensitivity=2.0, num_coordinates=4)
    assert exact_epsilon(shifts, 1e-4) <= epsilon([release], 1e-4)


def test_renyi_conversion_is_no_better_than_exact_and_no_worse_than_the_classic_one() -> None:
    for mu in (0.05, 0.3, 1.0, 4.0):
        for delta in (1e-9, 1e-6, 1e-3):
            classic = mu * mu / 2 + mu * np.sqrt(-2 * np.log(delta))
            assert epsilon_gdp(mu, delta) <= epsilon_rdp(mu, delta) <= classic


def test_the_bound_never_falls_as_noise_grows_coarser() -> None:
    costs = [
        epsilon([DiscreteGaussian(noise_std=s, sensitivity=s / 2, num_coordinates=10_000)], 1e-6)
        for s in (100_000, 10_000, 1_000, 500, 300, 200)
    ]
    assert all(finer <= coarser * (1 + 1e-12) for finer, coarser in pairwise(costs))


def test_releases_beyond_all_bounds_are_accounted_and_not_refused_as_bad_input():
    sizes = [(5, 3e5, 100), (50, 100.0, 10**6), (1000, 3e5, 10**6), (1, 2.0**20, 10**6), (1000, 1.0, 10**6)]
    releases = [
        DiscreteGaussian(noise_std=std, sensitivity=sensitivity, num_coordinates=count)
        for std, sensitivity, count in sizes
    ]
    assert 1e11 < epsilon(releases, 1e-9) < inf
