"""Skellam noise: exact, closed under sums, from operating-system randomness, fast enough for every tenant."""

import os
import time
from fractions import Fraction
from math import factorial, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.errors import BadSetting
from shared.secagg import skellam
from shared.secagg.skellam import sample, share_of_variance
from tests.secagg_cast import random_bytes


def fit(samples: NDArray[np.int64], variance: float) -> float:
    """The p-value of a chi-square test against the law that scipy knows."""
    reach = int(5 * sqrt(variance)) + 3
    k = np.arange(-reach, reach + 1)
    expected = stats.skellam(variance / 2, variance / 2).pmf(k) * len(samples)
    seen = np.bincount(np.clip(samples, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3)[1:-1]
    used = expected >= 8
    expected, seen = expected[used], seen[used]
    rest = len(samples) - np.array([expected.sum(), seen.sum()])
    if rest[0] >= 8:
        expected, seen = np.append(expected, rest[0]), np.append(seen, rest[1])
    return float(stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("variance", [2, 4, 6, 20, 300, 3998, 4000, 90_000])
def test_the_frequencies_are_those_of_the_skellam_law(variance: int) -> None:
    assert fit(sample(variance, 60_000, random_bytes(variance)), variance) > 1e-3


def test_the_fit_notices_other_noise() -> None:
    assert fit(sample(18, 60_000, random_bytes(1)), 20) < 1e-6
    gaussian = np.rint(np.random.default_rng(1).normal(0, 2, 400_000)).astype(np.int64)
    assert fit(gaussian, 4) < 1e-6


@pytest.mark.parametrize("variance", [10**6, 2**62, 2**90])
def test_wide_noise_has_the_moments_and_the_shape(variance: int) -> None:
    size = 200_000
    unit = sample(variance, size, random_bytes(5)) / sqrt(variance)
    assert abs(unit.mean()) < 4 / sqrt(size)
    assert abs(unit.var() - 1) < 4 * sqrt(2 / size)
    assert abs((unit**4).mean() - 3) < 4 * sqrt(96 / size)
    assert stats.kstest(unit, "norm").pvalue > 1e-3
    assert stats.kstest(unit[:20_000] * 1.1, "norm").pvalue < 1e-6


def test_shares_of_many_parties_add_up_to_the_noise_of_one() -> None:
    total = sum(sample(10, 60_000, random_bytes(100 + party)) for party in range(8))
    assert isinstance(total, np.ndarray)
    assert fit(total, 80) > 1e-3


@pytest.mark.parametrize("size", [0, 1, 2, 1_000, 32 * 1024 + 1])
def test_any_number_of_samples_can_be_asked_for(size: int) -> None:
    samples = sample(50, size, random_bytes(size))
    assert samples.dtype == np.int64
    assert samples.shape == (size,)


def test_a_hundred_thousand_samples_take_well_under_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.process_time()
        sample(10**10, 100_000, os.urandom)
        times.append(time.process_time() - start)
    assert min(times) < 0.5


@pytest.mark.parametrize("variance", [0, 1, 3, -2, 2**90 + 2])
def test_a_variance_that_is_odd_or_out_of_range_is_refused(variance: int) -> None:
    with pytest.raises(BadSetting):
        sample(variance, 1, os.urandom)


@pytest.mark.parametrize(("total", "parties"), [(100.0, 7), (1e20 / 3, 13), (0.1, 3), (2.0**89, 1), (4.0, 2)])
def test_the_shares_of_a_variance_reach_it_and_hardly_pass_it(total: float, parties: int) -> None:
    share = share_of_variance(total, parties)
    assert share % 2 == 0
    assert share * parties >= Fraction(total) > (share - 2) * parties


@pytest.mark.parametrize(("total", "parties"), [(0.0, 3), (-1.0, 3), (float("nan"), 3), (5.0, 0), (2.0**91, 1)])
def test_a_variance_that_cannot_be_shared_is_refused(total: float, parties: int) -> None:
    with pytest.raises(BadSetting):
        share_of_variance(total, parties)


# --- the exact path ---


def ratio(mean: int, offset: int) -> Fraction:
    """P(mean + offset) / P(mean) of the Poisson law, from factorials."""
    return Fraction(factorial(mean), factorial(mean + offset)) * Fraction(mean) ** offset


@pytest.mark.parametrize("mean", [1, 2, 3, 5, 8, 16, 50, 63, 120, 399, 1000])
def test_no_acceptance_passes_one_and_the_enclosure_holds_it(mean: int) -> None:
    width = int(sqrt(mean)) + 1
    for offset in range(-mean, 8 * width + 8):
        low, high = skellam._enclose(mean, offset, abs(offset) // width, 80)
        assert high <= 2**80
        assert high - low <= 3


@pytest.mark.parametrize(
    ("mean", "offset"), [(3, -3), (3, 5), (40, -11), (40, 25), (1500, 60), (2500, -130), (2500, 150)]
)
def test_the_enclosure_is_the_exact_ratio_times_the_exponential(mean: int, offset: int) -> None:
    power = 2 - skellam._bound(mean)
    low, high = skellam._enclose(mean, offset, 2, 200)
    # e^(power) by its series, far beyond 200 bits.
    term = total = Fraction(1)
    for n in range(1, 160):
        term = term * power / n
        total += term
    assert low <= ratio(mean, offset) * total * 2**200 <= high


@pytest.mark.parametrize("offset", [0, 1, -1, 900, -1400, 5000, -5000])
@pytest.mark.parametrize("bits", [53, 117, 181, 245])
def test_both_enclosures_agree_where_both_can_be_had(offset: int, bits: int) -> None:
    mean = 2**20
    power = abs(offset) // 1025 - skellam._bound(mean)
    product = skellam._enclose_by_product(mean, offset, power, bits)
    series = skellam._enclose_by_stirling(mean, offset, power, bits)
    assert max(product[0], series[0]) <= min(product[1], series[1])
    assert series[1] - series[0] <= 3


@pytest.mark.parametrize("mean", [1, 7, 1999, 2000, 2001, 30_000, 10**6])
def test_floats_are_as_near_as_their_margin_needs(mean: int) -> None:
    width = int(sqrt(mean)) + 1
    offsets = np.unique(np.concatenate([np.linspace(-7 * width, 7 * width, 41).astype(np.int64), [-1, 0, 1]]))
    offsets = offsets[offsets >= -mean]
    logarithms, certain = skellam._log_ratio(mean, offsets)
    for offset, value, sure in zip(offsets.tolist(), logarithms.tolist(), certain.tolist(), strict=True):
        if sure and value > -40:
            low, high = skellam._enclose_by_product(mean, offset, Fraction(0), 160)
            assert abs(np.exp(value) * 2.0**160 / high - 1) < 2.0**-37
            assert low <= high


@pytest.mark.parametrize("variance", [2, 16, 4100, 2**41])
def test_float_decisions_are_those_of_exact_arithmetic(variance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = sample(variance, 150, random_bytes(11))
    monkeypatch.setattr(skellam, "_MARGIN", 2.0)
    assert np.array_equal(quick, sample(variance, 150, random_bytes(11)))
