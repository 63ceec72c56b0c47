from dataclasses import replace
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.errors import BadInput, TooFewClients
from shared.mechanism import Skellam
from shared.plan import Step
from shared.robust_sum import (
    FALSE_ALARM,
    CohortSum,
    _limits,
    combine,
    energy_bound,
    judge,
    trimmed_mean,
    trimmed_variance,
)

SCALE = 2**20
SIZE = 50


def step(kind: Any = "pairs", *, noise_std: float = 4.0, size: int = SIZE) -> Step:
    variance = round((noise_std * SCALE) ** 2)
    return Step(
        index=1,
        kind=kind,
        num_coordinates=size,
        clip=1.0,
        scale=SCALE,
        user_bound=SCALE * 1.001,
        mechanism=None,
        noise_variance=variance,
    )


def cohort(number: int, values: NDArray[np.float64], *, users: int = 100, noises: int = 2) -> CohortSum:
    total = np.rint(values * SCALE).astype(np.int64)
    return CohortSum(cohort=number, total=total, num_users=users, num_tenants=3, num_noises=noises)


def honest(number: int, *, noise_std: float = 4.0, users: int = 100, size: int = SIZE, seed: int = 0) -> CohortSum:
    rng = np.random.default_rng([seed, number])
    shared = np.abs(np.random.default_rng(9).normal(size=size))
    mean = 0.3 * shared / np.linalg.norm(shared)
    return cohort(number, users * mean + sqrt(2) * noise_std * rng.standard_normal(size), users=users)


def dropped(sums: list[CohortSum], at: Step, max_spread: float = 2.0) -> list[int]:
    return [drop.cohort for drop in judge(sums, step=at, max_spread=max_spread)]


# --- the law behind the tests ---


def test_the_bound_holds_as_often_as_it_says_and_is_not_far_from_the_truth() -> None:
    """At a false-alarm rate that can be counted, for a signal at the bound, which is the hardest one."""
    rng = np.random.default_rng(1)
    signal, noise_std, rate = 60.0, 4.0, 0.02
    for size in (1, 20, 2_000):
        direction = np.zeros(size)
        direction[0] = signal
        energies = np.square(direction + noise_std * rng.standard_normal((20_000, size))).sum(axis=1)
        bound = energy_bound(signal, noise_std, size, rate)
        assert np.mean(energies > bound) <= rate
        assert np.quantile(energies, 1 - rate / 50) > 0.8 * bound


def test_without_noise_the_bound_is_the_bound() -> None:
    assert energy_bound(3.0, 0.0, 10, FALSE_ALARM) == pytest.approx(9.0)


@pytest.mark.parametrize("kind", ["popularity", "pairs", "gradient"])
@pytest.mark.parametrize("noise_std", [0.0, 0.1, 30.0])
def test_honest_cohorts_are_not_dropped(kind: str, noise_std: float) -> None:
    at = step(kind, noise_std=noise_std)
    for seed in range(60):
        assert dropped([honest(n, noise_std=noise_std, seed=seed) for n in range(5)], at, max_spread=0.1) == []


def test_honest_users_who_all_want_the_same_item_are_within_range() -> None:
    values = np.zeros(SIZE)
    values[3] = 100.0
    assert dropped([cohort(0, values, noises=0)], step("popularity", noise_std=0)) == []


# --- one sum by itself ---


def test_a_sum_longer_than_its_users_can_make_it_is_dropped_and_the_reason_has_the_numbers() -> None:
    sums = [honest(n) for n in range(3)]
    sums[1] = cohort(1, np.full(SIZE, 40.0))
    (drop,) = judge(sums, step=step(), max_spread=2.0)
    assert drop.cohort == 1
    assert drop.reason.startswith("its sum has norm 282.8; 100 users of clip 1 and the noise reach")


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_the_norm_is_judged_at_the_declared_users_times_the_clip(factor: float) -> None:
    values = np.zeros(SIZE)
    values[:4] = factor * 100 / 2
    assert dropped([cohort(0, values, noises=0)], step(noise_std=0)) == ([] if factor == 1 else [0])


def test_one_coordinate_beyond_all_users_is_seen_where_the_norm_drowns_in_noise() -> None:
    size, noise_std = 40_000, 4.0
    # 100 users and a tail of 8 deviations: 100 + 8 * 4 * sqrt(2) = 145; the norm's limit is near 1,200.
    assert dropped([honest(0, size=size)], step(size=size)) == []
    for pushed, found in ((100.0, []), (200.0, [0])):
        loud = honest(0, size=size)
        loud.total[7] = round(pushed * SCALE)
        assert np.linalg.norm(loud.total / SCALE) < sqrt(energy_bound(100, noise_std * sqrt(2), size, FALSE_ALARM))
        assert dropped([loud], step(size=size)) == found


def test_counts_below_zero_beyond_noise_are_dropped_and_gradients_may_be_negative() -> None:
    values = np.zeros(SIZE)
    values[5] = -80.0
    assert dropped([cohort(0, values)], step("popularity")) == [0]
    assert dropped([cohort(0, values)], step("pairs")) == [0]
    assert dropped([cohort(0, values)], step("gradient")) == []


def test_a_sum_that_wrapped_round_the_ring_is_dropped() -> None:
    values = CohortSum(
        cohort=0, total=np.full(SIZE, -(2**63), dtype=np.int64), num_users=100, num_tenants=3, num_noises=2
    )
    assert dropped([values], step("gradient")) == [0]


def test_skellam_noise_is_held_against_a_bound_for_its_own_tails() -> None:
    """Pairwise rounds: of little noise, where the tails differ most, no honest sum is dropped, and loud ones are."""
    variance, size = 8, 3_000
    noise = Skellam(variance=variance, sensitivity=1.0, l1_sensitivity=1.0)
    at = replace(step("gradient", size=size), scale=1, user_bound=1.0, mechanism=noise, noise_variance=variance)
    rng = np.random.default_rng(4)
    totals = [rng.poisson(variance, size) - rng.poisson(variance, size) for _ in range(200)]
    sums = [
        CohortSum(cohort=n, total=total, num_users=10, num_tenants=5, num_noises=2) for n, total in enumerate(totals)
    ]
    assert not any(dropped([each], at) for each in sums)
    loud = sums[0].total.copy()
    loud[5] = 60
    assert dropped([replace(sums[0], total=loud)], at) == [0]
    assert dropped([replace(sums[0], total=sums[0].total + 40)], at) == [0]


@pytest.mark.parametrize("variance", [2, 20, 2_000])
def test_the_tail_of_skellam_noise_covers_its_exact_quantile_where_a_gaussians_need_not(variance: int) -> None:
    noise = Skellam(variance=variance, sensitivity=1.0, l1_sensitivity=1.0)
    skellam = replace(step("gradient", size=3_000), mechanism=noise)
    quantile = float(stats.skellam.isf(FALSE_ALARM / (4 * 3_000), variance / 2, variance / 2))
    assert quantile <= _limits(0.0, variance, skellam)[1] <= 2 * quantile
    if variance == 2:
        assert _limits(0.0, variance, replace(skellam, mechanism=None))[1] < quantile


# --- cohorts against each other ---


def moved(number: int, distance: float) -> CohortSum:
    base = honest(number, noise_std=1.0)
    away = np.zeros(SIZE)
    away[-1] = distance * base.num_users
    return cohort(number, base.total / SCALE + away)


def test_a_cohort_that_is_far_from_most_others_is_dropped_and_an_honest_one_never_for_it() -> None:
    sums = [moved(0, 0.0), moved(1, 0.9), moved(2, 0.0), moved(3, 0.9), moved(4, 0.0)]
    assert dropped(sums, step(noise_std=1.0), max_spread=0.2) == [1, 3]
    # Nothing is compared where the plan does not say how near honest cohorts are.
    assert dropped(sums, step(noise_std=1.0), max_spread=2.0) == []
    (first, _) = judge(sums, step=step(noise_std=1.0), max_spread=0.2)
    assert first.reason == "its mean is over 0.2 clips away from those of 3 of the 4 others"


def test_two_cohorts_that_disagree_are_both_dropped_since_nothing_tells_which_is_right() -> None:
    assert dropped([moved(0, 0.0), moved(1, 0.9)], step(noise_std=1.0), max_spread=0.2) == [0, 1]


def test_a_distance_within_the_stated_spread_and_the_noise_is_allowed() -> None:
    assert dropped([moved(0, 0.0), moved(1, 0.0), moved(2, 0.19)], step(noise_std=1.0), max_spread=0.2) == []


def test_a_cohort_dropped_by_itself_does_not_count_against_the_others() -> None:
    """Two far sums of four others would be half; with the loud ones gone the two that agree are all there is."""
    loud = [cohort(n, np.full(SIZE, 40.0)) for n in (2, 3)]
    assert dropped([moved(0, 0.0), moved(1, 0.0), *loud], step(noise_std=1.0), max_spread=0.2) == [2, 3]


# --- the total ---


def test_without_trimming_the_total_is_the_exact_sum() -> None:
    sums = [honest(n, users=50 + 10 * n) for n in range(4)]
    made = combine(sums, trim=0)
    np.testing.assert_array_equal(made.total, sum(each.total for each in sums))
    assert (made.num_users, made.num_tenants, made.num_noises, made.num_cohorts) == (260, 12, 8, 4)
    assert made.noise_factor == 1.0


def test_the_trimmed_total_is_the_mean_of_the_middle_means_times_all_users() -> None:
    sums = [cohort(n, np.array([float(value)]), users=10) for n, value in enumerate((7, -90, 30, 20, 1_000))]
    made = combine(sums, trim=1)
    assert made.total / SCALE == pytest.approx([50 * (0.7 + 3.0 + 2.0) / 3])


def test_declaring_more_users_buys_no_weight_where_values_are_trimmed() -> None:
    rest = [cohort(n, np.array([value]), users=10) for n, value in enumerate((1.0, 2.0, 3.0, 4.0))]
    small, large = (combine([*rest, cohort(4, np.array([0.25 * n]), users=n)], trim=1) for n in (10, 1_000))
    assert small.total / small.num_users == pytest.approx(large.total / large.num_users, rel=1e-5)


@pytest.mark.parametrize(("count", "trim"), [(3, 1), (5, 1), (5, 2), (8, 3)])
def test_the_stated_noise_is_the_noise_of_the_total(count: int, trim: int) -> None:
    rng = np.random.default_rng(2)
    size, noise_std = 40_000, 4.0
    sums = [cohort(n, sqrt(2) * noise_std * rng.standard_normal(size), users=100) for n in range(count)]
    made = combine(sums, trim=trim)
    stated = made.noise_factor * sqrt(made.num_noises) * noise_std
    assert np.std(made.total / SCALE) == pytest.approx(stated, rel=0.02)
    assert made.noise_factor > 1


def test_where_cohorts_differ_by_more_than_noise_the_variance_stays_within_the_proved_bound() -> None:
    rng = np.random.default_rng(3)
    count, trim, size = 5, 1, 40_000
    base = 1_000.0 * np.arange(count)[:, None]
    found = trimmed_mean(base + rng.standard_normal((count, size)), trim)
    assert np.var(found) == pytest.approx(1 / (count - 2 * trim), rel=0.05)
    assert trimmed_variance(count, trim) < 1 / (count - 2 * trim)


@pytest.mark.parametrize(("count", "trim", "variance"), [(3, 1, 0.448671), (5, 2, 0.286834), (4, 1, 0.298151)])
def test_trimmed_variances_are_those_of_the_tables_and_never_below(count: int, trim: int, variance: float) -> None:
    """Medians of 3 and 5: Sarhan and Greenberg 1956; the mean of the middle two of four likewise."""
    assert variance <= trimmed_variance(count, trim) <= 1.005 * variance


def test_a_mean_that_loses_nothing_has_the_variance_of_a_mean() -> None:
    assert trimmed_variance(7, 0) == 1 / 7


@pytest.mark.parametrize(("count", "trim"), [(2, 1), (4, 2), (3, -1)])
def test_too_few_cohorts_are_never_a_total(count: int, trim: int) -> None:
    with pytest.raises(TooFewClients):
        combine([honest(n) for n in range(count)], trim=trim)
    with pytest.raises(BadInput):
        trimmed_mean(np.zeros((count, 1)), trim)
    with pytest.raises(BadInput):
        trimmed_variance(count, trim)


def test_the_stated_rate_of_false_alarms_is_what_the_bounds_are_made_of() -> None:
    assert FALSE_ALARM == 2.0**-20
    assert energy_bound(0, 1, 1, FALSE_ALARM) == pytest.approx(
        1 + 2 * sqrt(log(2 / FALSE_ALARM)) + 2 * log(2 / FALSE_ALARM), rel=1e-6
    )
