"""The bound on Skellam noise against the exact divergence of the law itself, summed over the integers."""

import numpy as np
import pytest
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
