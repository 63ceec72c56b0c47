"""The bound on Skellam noise against the exact divergence of the law itself, summed over the integers."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ive
from scipy.stats import skellam as skellam_law

from shared.accounting import epsilon, epsilon_rdp, skellam_rdp
from shared.errors import UnknownMechanism
from shared.mechanism import DiscreteGaussian, PoissonSampledGaussian, Skellam, from_json, to_json

CASES = [(mu, shift) for mu in (2, 8, 50, 400) for shift in (1, 2, 5)]


def exact_divergence(variance: int, shift: int, order: int) -> float:
    """Renyi divergence of Sk(variance) from itself shifted, summed over the support that carries it."""
    reach = int(60 * variance**0.5) + 60 + 4 * order * shift
    k = np.arange(-reach, reach + 1)
    # e^-v I_k(v): the pmf, in logarithms where it does not underflow.
    p, q = (ive(np.abs(each), float(variance)) for each in (k, k - shift))
    held = (p > 0) & (q > 0)
    terms = order * np.log(p[held]) + (1 - order) * np.log(q[held])
    top = terms.max()
    return float((top + np.log(np.exp(terms - top).sum())) / (order - 1))


def one(variance: int, shift: float) -> Skellam:
    return Skellam(variance=variance, sensitivity=float(shift), l1_sensitivity=float(shift))


def test_the_oracle_sums_the_law_that_scipy_knows() -> None:
    k = np.arange(-20, 21)
    assert np.allclose(ive(np.abs(k), 9.0), skellam_law(4.5, 4.5).pmf(k), rtol=1e-9)


@pytest.mark.parametrize("order", [2, 3, 5, 12])
@pytest.mark.parametrize(("variance", "shift"), CASES)
def test_the_bound_holds_against_the_exact_divergence(variance: int, shift: int, order: int) -> None:
    exact = exact_divergence(variance, shift, order)
    assert exact <= skellam_rdp(one(variance, shift), order) * (1 + 1e-12)


def release_of(variance: int, shifts: list[int]) -> Skellam:
    """The release whose neighbours differ by `shifts`: both norms as large as they are."""
    return Skellam(
        variance=variance, sensitivity=sqrt(sum(x * x for x in shifts)), l1_sensitivity=float(sum(map(abs, shifts)))
    )


@given(
    variance=st.sampled_from([2, 4, 6, 10, 24, 60, 150, 400, 1_000]),
    shifts=st.lists(st.integers(-7, 7).filter(bool), min_size=1, max_size=6),
    order=st.integers(2, 40),
)
def test_the_bound_holds_for_any_shift_in_several_coordinates(variance: int, shifts: list[int], order: int) -> None:
    # Coordinates are independent, so their divergences add up; the L1 norm is anything from L2 to sqrt(6) times it.
    exact = sum(exact_divergence(variance, abs(shift), order) for shift in shifts)
    assert exact <= skellam_rdp(release_of(variance, shifts), order) * (1 + 1e-11)


@given(
    variance=st.sampled_from([4, 24, 150, 1_000]),
    shifts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    order=st.integers(2, 30),
    slack=st.floats(1.0, 3.0),
)
def test_a_user_below_the_sensitivities_costs_no_more(
    variance: int, shifts: list[int], order: int, slack: float
) -> None:
    # What the plan knows are bounds on both norms, and neither is reached by every user.
    tight = release_of(variance, shifts)
    loose = Skellam(
        variance=variance, sensitivity=tight.sensitivity * slack, l1_sensitivity=tight.l1_sensitivity * slack
    )
    assert sum(exact_divergence(variance, shift, order) for shift in shifts) <= skellam_rdp(loose, order) * (1 + 1e-11)


def test_both_forms_of_the_excess_are_used() -> None:
    """The smaller of two terms: the first for wide noise, the second for orders beyond the variance."""
    wide, narrow = release_of(400, [1]), release_of(4, [3])
    assert skellam_rdp(wide, 3) < 3 / 800 + 3 / 800
    assert skellam_rdp(narrow, 30) == pytest.approx(30 * 9 / 8 + 3 * 3 / 8)
    assert skellam_rdp(wide, 3) == pytest.approx(3 / 800 + (5 + 6) / (4 * 400**2))


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("shifts", [[1], [2], [1, 1, 1], [3, 4]])
def test_one_percent_less_variance_than_claimed_is_caught(shifts: list[int], order: int) -> None:
    claimed = skellam_rdp(release_of(4_000, shifts), order)
    assert sum(exact_divergence(4_000, shift, order) for shift in shifts) <= claimed
    assert sum(exact_divergence(3_960, shift, order) for shift in shifts) > claimed


def test_a_user_counted_by_the_l2_norm_of_half_its_coordinates_is_caught() -> None:
    whole, half = [3, 3, 2, 2], release_of(400, [3, 2])
    assert sum(exact_divergence(400, shift, 4) for shift in whole) > skellam_rdp(half, 4)


def test_on_this_grid_the_excess_is_slack() -> None:
    # So nothing here shows that it is needed; it stays, because it is what is proved for every order and shift.
    for variance, shift in CASES:
        for order in (2, 5, 12):
            assert exact_divergence(variance, shift, order) <= order * shift**2 / (2 * variance)


def exact_delta(variance: int, shifts: list[int], epsilon_stated: float) -> float:
    """Hockey-stick divergence of the whole vector at this epsilon: full enumeration of the support that carries it."""
    losses, weights = np.zeros(1), np.ones(1)
    for shift in shifts:
        reach = int(11 * variance**0.5) + 40 + shift
        k = np.arange(-reach, reach + 1)
        p, q = (ive(np.abs(each), float(variance)) for each in (k, k - shift))
        held = (p > 0) & (q > 0)
        losses = np.add.outer(losses, np.log(p[held] / q[held])).ravel()
        weights = np.multiply.outer(weights, p[held]).ravel()
    return float(np.sum(weights * np.maximum(0.0, 1 - np.exp(epsilon_stated - losses))))


@pytest.mark.parametrize("delta", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize(
    ("variance", "shifts"), [(2, [1]), (8, [3]), (50, [10]), (400, [5]), (12, [2, 1]), (50, [4, 4]), (30, [1, 1, 2])]
)
def test_the_stated_epsilon_holds_against_the_exact_law(variance: int, shifts: list[int], delta: float) -> None:
    release = release_of(variance, shifts)
    stated = epsilon([release], delta)
    assert exact_delta(variance, shifts, stated) <= delta
    # And it is worth something: at a third of it the same law exceeds delta.
    assert exact_delta(variance, shifts, stated / 3) > delta


@pytest.mark.parametrize("order", [2, 5])
def test_the_bound_is_nearly_tight_where_noise_is_wide(order: int) -> None:
    assert skellam_rdp(one(400, 5), order) <= 1.01 * exact_divergence(400, 5, order)


@pytest.mark.parametrize(("variance", "shift"), [(50, 1), (400, 2), (400, 5)])
def test_noise_of_a_fifth_less_variance_than_claimed_is_caught(variance: int, shift: int) -> None:
    claimed = skellam_rdp(one(variance, shift), 5)
    assert exact_divergence(variance * 8 // 10, shift, 5) > claimed


def test_wide_skellam_noise_costs_what_a_gaussian_costs_under_rdp() -> None:
    wide = Skellam(variance=10**12, sensitivity=5e5, l1_sensitivity=1e8)
    assert epsilon([wide], 1e-6) == pytest.approx(epsilon_rdp(0.5, 1e-6), rel=2e-3)
    assert epsilon([wide], 1e-6) >= epsilon_rdp(0.5, 1e-6)


def test_a_thousand_coordinates_each_changed_by_one_cost_what_their_exact_sum_costs_at_most() -> None:
    variance, coordinates = 4_000, 1_000
    release = Skellam(variance=variance, sensitivity=coordinates**0.5, l1_sensitivity=float(coordinates))
    for order in (2, 4, 8):
        exact = coordinates * exact_divergence(variance, 1, order)
        assert exact <= skellam_rdp(release, order) <= 1.01 * exact


def test_skellam_releases_add_up_with_discrete_gaussians() -> None:
    releases = [one(10_000, 30), DiscreteGaussian(noise_std=100, sensitivity=40.0, num_coordinates=5)]
    together = epsilon(releases, 1e-6)
    assert together == epsilon(releases[::-1], 1e-6)
    assert together == pytest.approx(epsilon_rdp(0.5, 1e-6), rel=5e-3)
    for alone in releases:
        assert epsilon([alone], 1e-6) < together


def test_less_noise_costs_more() -> None:
    costs = [epsilon([one(variance, 30)], 1e-6) for variance in (400_000, 40_000, 4_000)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_skellam_with_sampled_gaussians_is_refused_whatever_accountant_is_given() -> None:
    sampled = PoissonSampledGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=10)
    with pytest.raises(UnknownMechanism, match="Skellam"):
        epsilon([one(100, 1), sampled], 1e-6, sampled=lambda *_: 0.0)


@pytest.mark.parametrize("order", [0, 1, 1.5, True])
def test_an_order_that_the_bound_is_not_proved_for_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match="integer from 2"):
        skellam_rdp(one(100, 1), order)


def test_a_skellam_release_survives_the_ledger_and_a_false_one_does_not() -> None:
    release = Skellam(variance=100, sensitivity=2.0, l1_sensitivity=4.0)
    assert from_json(to_json(release)) == release
    for change in ({"l1_sensitivity": 1.9}, {"variance": 0}, {"sensitivity": -1.0}):
        with pytest.raises(UnknownMechanism):
            from_json({**to_json(release), **change})
