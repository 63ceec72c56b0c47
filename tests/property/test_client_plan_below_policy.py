"""For every field: whatever the policy's limit, a plan on its wrong side is refused, one on its right side is not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.policy import LocalPolicy, check_plan, demands
from shared import accounting
from shared.errors import PolicyViolation
from shared.plan import TrainingPlan, mechanisms
from tests.unit.client_homes import CATALOGUE, ROSTER, cooccurrence, make_policy, recon

PAIRS, FACTORS = cooccurrence(), recon()
AT_LEAST = {"min_tenants": "min_tenants", "min_users": "min_users", "declared_users": "max_users", "min_bits": "bits"}
AT_MOST = {
    "max_head_items": "num_head_items",
    "max_items_per_user": "max_head_items_per_user",
    "max_rounds": "num_rounds",
    "max_num_factors": "num_factors",
    "max_grad_norm": "max_grad_norm",
}


def refused(policy: LocalPolicy, plan: TrainingPlan, field: str) -> bool:
    try:
        check_plan(policy, plan, ROSTER, CATALOGUE)
    except PolicyViolation as error:
        return f": {field} is " in str(error)
    return False


@pytest.mark.parametrize("setting", AT_LEAST)
@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 4_000))
def test_less_than_a_least_is_refused_and_no_more(setting: str, limit: int) -> None:
    limit = min((16, 24, 32, 64), key=lambda bits: abs(bits - limit % 80)) if setting == "min_bits" else limit
    field = AT_LEAST[setting]
    assert refused(make_policy(**{setting: limit}), PAIRS, field) == (getattr(PAIRS, field) < limit)


@settings(max_examples=40, deadline=None)
@given(num_helpers=st.integers(2, 6), spare=st.integers(0, 2), least=st.integers(2, 5))
def test_fewer_colluders_than_the_least_number_of_helpers_are_refused_and_no_more(
    num_helpers: int, spare: int, least: int
) -> None:
    names = tuple(f"helper-{number}" for number in range(num_helpers))
    if num_helpers - spare < 2:
        return
    plan, policy = replace(PAIRS, helpers=names, spare_helpers=spare), make_policy(min_helpers=least)
    found = refused(policy, plan, "helpers") or refused(policy, plan, "spare_helpers")
    # Names without a pin are refused too, but for another reason.
    counted = [demand for demand in demands(policy, plan, None, CATALOGUE) if type(demand.asked) is int]
    assert all(demand.holds for demand in counted) == (num_helpers - spare >= least)
    assert found or num_helpers - spare >= least


@pytest.mark.parametrize("setting", AT_MOST)
@settings(max_examples=25, deadline=None)
@given(limit=st.integers(2, 12), fraction=st.floats(0, 0.9))
def test_more_than_a_most_is_refused_and_no_less(setting: str, limit: int, fraction: float) -> None:
    field = AT_MOST[setting]
    plan = PAIRS if hasattr(PAIRS.recipe, field) else FACTORS
    most: float = limit + fraction - 1.5 if setting == "max_grad_norm" else limit
    if most <= 0:
        return
    assert refused(make_policy(**{setting: most}), plan, field) == (getattr(plan.recipe, field) > most)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([PAIRS, FACTORS]),
    stated=st.floats(0.05, 6.0),
    mu_factor=st.floats(0.3, 3.0),
    per_job=st.floats(0.05, 6.0),
)
def test_an_epsilon_understated_or_above_the_limit_is_always_refused(
    kind: TrainingPlan, stated: float, mu_factor: float, per_job: float
) -> None:
    changes: dict[str, Any] = {"epsilon": stated, "mu": kind.mu * mu_factor}
    plan = replace(kind, **changes)
    honest = accounting.epsilon(mechanisms(plan), plan.delta) <= stated * (1 + 1e-9)
    policy = make_policy(epsilon=6.0, max_epsilon_per_job=per_job)
    assert refused(policy, plan, "epsilon") == (stated > per_job or not honest)
