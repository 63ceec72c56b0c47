"""The accountant's rules: what it composes, what it refuses, when a budget is gone."""

import json
from collections.abc import Sequence
from math import ceil, sqrt

import pytest

from shared.accounting import (
    Budget,
    PrivacyStatement,
    calibrate_mu,
    epsilon,
    epsilon_gdp,
    epsilon_rdp,
    mu_for,
    remaining,
    require,
)
from shared.errors import BadSetting, BudgetExhausted, CapacityExceeded, UnknownMechanism
from shared.mechanism import DiscreteGaussian, Gaussian, Mechanism, PoissonSampledGaussian

HALF = Gaussian(noise_std=2.0, sensitivity=1.0)
SAMPLED = PoissonSampledGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=100)


def discrete(mu: float, noise_std: int = 2**20, num_coordinates: int = 500_000) -> DiscreteGaussian:
    return DiscreteGaussian(noise_std=noise_std, sensitivity=noise_std * mu, num_coordinates=num_coordinates)


def test_nothing_released_costs_nothing() -> None:
    assert epsilon([], 1e-6) == 0.0


def test_gaussians_compose_exactly() -> None:
    parts = [Gaussian(noise_std=10.0, sensitivity=3.0), Gaussian(noise_std=1.0, sensitivity=0.4)]
    assert epsilon(parts, 1e-6) == epsilon_gdp(0.5, 1e-6)


def test_k_retrainings_cost_root_k_and_not_k() -> None:
    assert epsilon([HALF] * 16, 1e-6) == epsilon_gdp(2.0, 1e-6)


def test_order_does_not_matter() -> None:
    parts = [discrete(0.1 + 0.01 * i) for i in range(30)] + [HALF]
    assert epsilon(parts, 1e-6) == epsilon(parts[::-1], 1e-6)


def test_a_discrete_release_costs_more_than_its_gaussian_and_less_than_renyi() -> None:
    assert epsilon_gdp(0.3, 1e-6) < epsilon([discrete(0.3)], 1e-6) < epsilon_rdp(0.3, 1e-6)


def test_renyi_takes_over_where_steps_are_too_coarse_for_the_theorem() -> None:
    coarse = discrete(1.0, noise_std=2, num_coordinates=10_000)
    assert epsilon([coarse], 1e-6) == epsilon_rdp(1.0, 1e-6)


class LaplaceLike:
    noise_std = 1.0
    sensitivity = 1.0


class NotQuiteGaussian(Gaussian):
    """A subclass may mean anything; its parent's guarantee is not inherited."""


@pytest.mark.parametrize("stranger", [LaplaceLike(), NotQuiteGaussian(noise_std=1.0, sensitivity=1.0), None])
def test_an_unknown_mechanism_is_refused_and_not_counted_as_zero(stranger: object) -> None:
    with pytest.raises(UnknownMechanism):
        epsilon([HALF, stranger], 1e-6)  # type: ignore[list-item]


def test_sampled_gaussians_are_refused_without_their_accountant() -> None:
    with pytest.raises(UnknownMechanism, match="sampled"):
        epsilon([SAMPLED], 1e-6)


def test_the_sampled_accountant_gets_every_release_and_the_whole_delta() -> None:
    seen = []

    def accountant(parts: Sequence[PoissonSampledGaussian], delta: float) -> float:
        seen.append((tuple(parts), delta))
        return 7.0

    everyone = PoissonSampledGaussian(sample_rate=1.0, noise_multiplier=1 / 0.5, steps=1)
    assert epsilon([SAMPLED, HALF], 1e-6, sampled=accountant) == 7.0
    assert seen == [((SAMPLED, everyone), 1e-6)]
    assert 7.0 < epsilon([SAMPLED, discrete(0.3)], 1e-6, sampled=accountant) < 7.001


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, float("nan")])
def test_a_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        epsilon([HALF], delta)


def test_calibration_spends_the_budget_and_never_more() -> None:
    def mechanisms_of(mu: float) -> list[Mechanism]:
        noise = [ceil(2**20 / (mu * sqrt(share))) for share in (0.1, 0.9)]
        return [DiscreteGaussian(noise_std=std, sensitivity=2.0**20, num_coordinates=500_000) for std in noise]

    mu = calibrate_mu(1.0, 1e-6, mechanisms_of)
    assert 0.9995 * mu_for(1.0, 1e-6) < mu < mu_for(1.0, 1e-6)
    assert 0.9995 < epsilon(mechanisms_of(mu), 1e-6) <= 1.0


def test_calibration_with_continuous_noise_is_exact() -> None:
    mu = calibrate_mu(2.0, 1e-6, lambda mu: [Gaussian(noise_std=1 / mu, sensitivity=1.0)])
    assert mu == pytest.approx(mu_for(2.0, 1e-6), rel=1e-8)


def test_calibration_finds_a_way_down_when_rounding_dominates() -> None:
    def coarse(mu: float) -> list[Mechanism]:
        return [DiscreteGaussian(noise_std=ceil(4 / mu), sensitivity=4.0 + 2.0, num_coordinates=4)]

    mu = calibrate_mu(1.0, 1e-6, coarse)
    assert mu < 0.7 * mu_for(1.0, 1e-6)
    assert epsilon(coarse(mu), 1e-6) <= 1.0


def test_calibration_says_so_when_no_noise_helps() -> None:
    with pytest.raises(BadSetting, match="cannot be reached"):
        calibrate_mu(0.1, 1e-6, lambda mu: [HALF])


def test_calibration_passes_on_why_a_plan_cannot_be_made() -> None:
    def too_wide(mu: float) -> list[Mechanism]:
        raise CapacityExceeded("the sum could leave the ring")

    with pytest.raises(CapacityExceeded):
        calibrate_mu(1.0, 1e-6, too_wide)


def test_the_budget_allows_what_fits_and_refuses_what_does_not() -> None:
    budget = Budget(epsilon=epsilon([HALF, HALF], 1e-6), delta=1e-6)
    require(budget, [HALF], HALF)
    with pytest.raises(BudgetExhausted, match="Nothing was released"):
        require(budget, [HALF, HALF], HALF)
    with pytest.raises(BudgetExhausted):
        require(budget, [HALF, HALF], Gaussian(noise_std=1e3, sensitivity=1.0))


def test_a_refusal_names_before_after_and_budget() -> None:
    with pytest.raises(BudgetExhausted, match=r"from 2\.25408 to 3\.3076 at delta 1e-06; the budget is 3\b"):
        require(Budget(epsilon=3.0, delta=1e-6), [HALF], HALF)


def test_an_unknown_release_is_refused_whatever_the_budget() -> None:
    with pytest.raises(UnknownMechanism):
        require(Budget(epsilon=1e6, delta=0.5), [], LaplaceLike())  # type: ignore[arg-type]


def test_what_remains_is_never_below_zero() -> None:
    budget = Budget(epsilon=3.0, delta=1e-6)
    assert remaining(budget, []) == 3.0
    assert remaining(budget, [HALF]) == pytest.approx(3.0 - epsilon([HALF], 1e-6))
    assert remaining(budget, [HALF] * 9) == 0.0


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 1e-6), (-1.0, 1e-6), (float("inf"), 1e-6), (1.0, 0.0), (1.0, 1.0)])
def test_a_budget_that_bounds_nothing_cannot_be_made(eps: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon|budget"):
        Budget(epsilon=eps, delta=delta)


STATEMENT = PrivacyStatement(
    epsilon=1.0,
    delta=1e-6,
    against="the server and all tenants, if one of two helpers is honest",
    mechanisms=(discrete(0.2), HALF, SAMPLED),
    tuned_on_data=True,
)


def test_a_statement_survives_json() -> None:
    assert PrivacyStatement.from_json(json.loads(json.dumps(STATEMENT.to_json()))) == STATEMENT


def test_a_statement_says_unit_adjacency_and_tuning() -> None:
    written = STATEMENT.to_json()
    assert written["unit"] == "user with their whole history"
    assert written["adjacency"] == "add or remove one user"
    assert written["tuned_on_data"] is True


@pytest.mark.parametrize(
    "damage",
    [{"tuned_on_data": 0}, {"epsilon": float("nan")}, {"unit": None}, {"new": 1}, {"mechanisms": [{"kind": "magic"}]}],
)
def test_a_damaged_statement_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, UnknownMechanism)):
        PrivacyStatement.from_json({**STATEMENT.to_json(), **damage})


def test_a_statement_with_a_field_missing_is_refused() -> None:
    written = STATEMENT.to_json()
    del written["tuned_on_data"]
    with pytest.raises(ValueError, match="tuned_on_data"):
        PrivacyStatement.from_json(written)
