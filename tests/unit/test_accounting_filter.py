"""A budget for Skellam noise is kept at one Renyi order that was fixed before anything was released."""

from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.policy import check_plan, demands
from shared.accounting import Budget, cost, epsilon, renyi_order, require, skellam_rdp
from shared.errors import BudgetExhausted, PolicyViolation, UnknownMechanism
from shared.mechanism import DiscreteGaussian, Mechanism, PoissonSampledGaussian, Skellam
from shared.plan import make_plan, mechanisms
from tests.unit.client_homes import CATALOGUE, ROSTER, cooccurrence, make_policy, pairwise

DELTA = 1e-6
NARROW = Skellam(variance=4, sensitivity=1.0, l1_sensitivity=1.0)
WIDE = Skellam(variance=10**8, sensitivity=3_000.0, l1_sensitivity=90_000.0)
GAUSSIAN = DiscreteGaussian(noise_std=100_000, sensitivity=30_000.0, num_coordinates=1_000)


def test_the_least_over_all_orders_is_not_what_a_budget_is_held_against() -> None:
    # Its best order is another than the one that the budget fixes, so it fits by the least and not by the filter.
    budget = Budget(epsilon=epsilon([NARROW], DELTA), delta=DELTA)
    assert cost(budget, [NARROW]) > budget.epsilon + 0.02
    with pytest.raises(BudgetExhausted):
        require(budget, [], NARROW)


def test_the_order_follows_from_the_budget_and_from_no_release() -> None:
    assert [renyi_order(target, DELTA) for target in (1.0, 2.0)] == [22, 12]
    for releases in ([WIDE], [WIDE, WIDE], [WIDE, GAUSSIAN], [NARROW]):
        budget = Budget(epsilon=1.0, delta=DELTA)
        conversion = cost(budget, releases) - sum(
            skellam_rdp(each, 22) if isinstance(each, Skellam) else 22 * 0.3**2 / 2 for each in releases
        )
        assert conversion == pytest.approx(-(log(DELTA) + log(22)) / 21 + log(21 / 22))  # Proposition 12 at order 22


def test_a_budget_for_shared_noise_counts_all_noise_so_from_the_first_release_on() -> None:
    alone, shared = (Budget(epsilon=1.5, delta=DELTA, shared=shared) for shared in (False, True))
    assert cost(alone, [GAUSSIAN]) == epsilon([GAUSSIAN], DELTA)
    assert cost(shared, [GAUSSIAN]) == pytest.approx(cost(alone, [GAUSSIAN, WIDE]) - skellam_rdp(WIDE, 16), rel=0.05)
    assert cost(shared, [GAUSSIAN]) > cost(alone, [GAUSSIAN])
    assert cost(shared, []) == 0
    with pytest.raises(UnknownMechanism):
        cost(shared, [PoissonSampledGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=1)])


@given(st.lists(st.sampled_from([NARROW, WIDE, GAUSSIAN]), max_size=6), st.floats(0.1, 8))
@settings(max_examples=30, deadline=None)
def test_a_further_release_never_costs_less_and_the_filter_never_less_than_the_least(
    releases: list[Mechanism], target: float
) -> None:
    budget = Budget(epsilon=target, delta=DELTA, shared=True)
    costs = [cost(budget, releases[:size]) for size in range(len(releases) + 1)]
    assert costs == sorted(costs)
    if any(isinstance(each, Skellam) for each in releases):
        assert costs[-1] >= epsilon(releases, DELTA) - 1e-12


@pytest.mark.parametrize("target", [0.5, 1.0, 2.0, 4.0])
def test_a_plan_that_costs_all_of_a_budget_fits_into_it(target: float) -> None:
    fields = {**vars(pairwise()), "epsilon": target, "bits": 64}
    plan = make_plan(**{name: value for name, value in fields.items() if name in _FIELDS})
    budget = Budget(epsilon=target, delta=plan.delta, shared=True)
    assert target * (1 - 1e-6) < cost(budget, mechanisms(plan)) <= target


_FIELDS = {*pairwise().__dataclass_fields__} - {"mu"}


def test_policies_that_allow_shared_noise_have_such_budgets() -> None:
    policy = make_policy(allowed_noise=("tenant", "shared"))
    for asked, shared in ((policy, True), (make_policy(), False)):
        for budget in (asked.budget, asked.job_budget):
            assert budget is not None
            assert budget.shared is shared


def test_a_plan_that_the_ledger_would_stop_at_its_last_step_is_refused_before() -> None:
    plan = cooccurrence()
    exact = {"max_epsilon_per_job": plan.epsilon, "delta": plan.delta}
    demanded = demands(make_policy(**exact), plan, None, CATALOGUE)
    assert all(demand.holds for demand in demanded)
    with pytest.raises(PolicyViolation, match="as policies that allow shared noise count it"):
        check_plan(make_policy(**exact, allowed_noise=("helpers", "shared")), plan, ROSTER, CATALOGUE)
