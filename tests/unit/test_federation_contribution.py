import subprocess
import sys

import numpy as np
import pytest

from client.contribution import MAX_ITEM_FACTOR, check_inputs, require_in_range, rounded_users, solve_each
from client.device import device_values
from client.tenant import tenant_values
from shared.errors import BadInput, BadSetting, MalformedMessage, PolicyViolation
from shared.interactions import Interactions, concatenate
from shared.plan import ReconPlan, make_plan, steps
from shared.recipes.recon import solve_users
from tests.federation_cast import CATALOGUE, COOCCURRENCE, NUM_ITEMS, RECON, history_of

SEED = b"\x07" * 32


def plan_of(recipe, **changes):
    fields = {
        "job_id": "job-1", "recipe": recipe, "catalogue_digest": CATALOGUE.digest, "num_items": NUM_ITEMS,
        "noise": "helpers", "epsilon": 1.0, "delta": 1e-6, "popularity_share": 0.1, "min_tenants": 2, "min_users": 2,
        "max_users": 100, "bits": 32, "helpers": ("anna", "bert"),
    }  # fmt: skip
    return make_plan(**{**fields, **changes})


PAIRS, GRADIENT = plan_of(COOCCURRENCE), plan_of(RECON)
HEAD = np.arange(8, dtype=np.int32)
FACTORS = np.random.default_rng(3).normal(size=(NUM_ITEMS, RECON.num_factors))


def test_the_same_secret_rounds_the_same_way():
    again = [tenant_values(PAIRS, steps(PAIRS)[0], {}, history_of("anna"), secret_seed=SEED) for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_another_secret_rounds_otherwise():
    coarse = plan_of(COOCCURRENCE, bits=16)
    step = steps(coarse)[0]
    mine, other = (rounded_users(coarse, COOCCURRENCE, step, {}, history_of("anna"), bytes([n]) * 32) for n in (1, 2))
    assert step.scale < 2**12
    assert np.any(mine != other)
    assert np.all(np.abs(mine - other) <= 20)


@pytest.mark.parametrize(
    ("plan", "step", "inputs"),
    [(PAIRS, 0, {}), (PAIRS, 1, {"head": HEAD}), (GRADIENT, 1, {"item_factors": FACTORS})],
    ids=["popularity", "pairs", "gradient"],
)
def test_one_user_never_moves_the_sum_by_more_than_the_stated_sensitivity(plan, step, inputs):
    chosen, sensitivity = steps(plan)[step], steps(plan)[step].mechanism.sensitivity
    norms = []
    for user in range(12):
        alone = device_values(plan, chosen, inputs, history_of("anna").users(user, user + 1), secret_seed=SEED)
        norms.append(np.linalg.norm(alone.astype(np.float64)))
    assert 0.5 * sensitivity < max(norms) <= sensitivity


MANY = 20_000
HUGE, TINY = np.float32(3e38), np.float32(1e-45)


@pytest.mark.parametrize(
    "weights",
    [
        np.r_[1e8, np.ones(MANY - 1)],
        np.r_[np.ones(MANY - 1), 1e8],
        np.r_[HUGE, np.full(MANY - 1, 1e30)],
        np.full(MANY, HUGE),
        np.full(MANY, TINY),
        np.geomspace(1e30, 1e-30, MANY),
        np.geomspace(1e-30, 1e30, MANY),
        np.tile([1e8, 1.0], MANY // 2),
    ],
    ids=["large first", "large last", "huge first", "huge", "tiny", "falling", "rising", "alternating"],
)
def test_no_history_makes_a_client_refuse(weights):
    """A refusal is an answer that no noise protects. With squares added up in two ways the first of these got one."""
    plan = plan_of(COOCCURRENCE, num_items=MANY)
    history = Interactions(
        num_items=MANY,
        offsets=np.array([0, MANY], dtype=np.int64),
        items=np.arange(MANY, dtype=np.int32),
        weights=weights.astype(np.float32),
    )
    for step, inputs in zip(steps(plan), ({}, {"head": HEAD}), strict=True):
        values = rounded_users(plan, COOCCURRENCE, step, inputs, history, SEED)
        require_in_range(step, values, 1)


def test_device_and_tenant_agree_on_a_gradient():
    one, step = history_of("bert").users(0, 1), steps(GRADIENT)[1]
    inputs = {"item_factors": FACTORS}
    device = device_values(GRADIENT, step, inputs, one, secret_seed=SEED)
    tenant = tenant_values(GRADIENT, step, inputs, one, secret_seed=SEED)
    assert np.abs(device - tenant).max() <= 1 + step.scale * 1e-9


def test_a_device_of_several_users_is_refused():
    with pytest.raises(BadSetting, match="declares one user"):
        device_values(PAIRS, steps(PAIRS)[0], {}, history_of("anna"), secret_seed=SEED)


def test_device_mode_never_imports_torch():
    code = (
        "import sys\n"
        "import client.device, client.answer, client.app\n"
        "from tests.unit.test_federation_contribution import *\n"
        "one = history_of('anna').users(0, 1)\n"
        "device_values(PAIRS, steps(PAIRS)[1], {'head': HEAD}, one, secret_seed=SEED)\n"
        "device_values(GRADIENT, steps(GRADIENT)[1], {'item_factors': FACTORS}, one, secret_seed=SEED)\n"
        "assert 'torch' not in sys.modules and 'opacus' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_nobodys_history_gives_zeros():
    nobody = Interactions(
        num_items=NUM_ITEMS, offsets=np.zeros(1, np.int64), items=np.zeros(0, np.int32), weights=np.zeros(0, np.float32)
    )
    for plan, step, inputs in ((PAIRS, 0, {}), (PAIRS, 1, {"head": HEAD}), (GRADIENT, 1, {"item_factors": FACTORS})):
        values = tenant_values(plan, steps(plan)[step], inputs, nobody, secret_seed=SEED)
        assert values.shape == (steps(plan)[step].num_coordinates,)
        assert not values.any()


def test_a_users_factors_do_not_depend_on_the_other_users_to_the_last_bit():
    history = history_of("anna")
    together = solve_each(RECON, FACTORS, history)
    np.testing.assert_allclose(
        together, solve_users(FACTORS, history, ridge=1.0, negative_weight=0.1), rtol=1e-9, atol=1e-12
    )
    longest = concatenate([history, history_of("carl")])
    for user in range(history.num_users):
        alone = solve_each(RECON, FACTORS, history.users(user, user + 1))[0]
        np.testing.assert_array_equal(together[user], alone)
        np.testing.assert_array_equal(solve_each(RECON, FACTORS, longest)[user], alone)


def test_a_user_whose_system_cannot_be_solved_counts_as_none(monkeypatch):
    history, broken = history_of("anna"), 4

    def fails(item_factors, rows, **settings):
        if any(np.array_equal(rows.history(u), history.history(broken)) for u in range(rows.num_users)):
            raise np.linalg.LinAlgError("singular")
        return solve_users(item_factors, rows, **settings)

    monkeypatch.setattr("client.contribution.solve_users", fails)
    factors = solve_each(RECON, FACTORS, history)
    assert not factors[broken].any()
    assert np.count_nonzero(factors.any(axis=1)) == history.num_users - 1


def test_extreme_item_factors_within_the_limit_give_finite_factors():
    rng = np.random.default_rng(1)
    extreme = MAX_ITEM_FACTOR * rng.choice([-1.0, 1.0, 0.0, 1e-150], size=(NUM_ITEMS, RECON.num_factors))
    recipe = ReconPlan(**{**vars(RECON), "ridge": 1e-6})
    plan = plan_of(recipe)
    values = tenant_values(plan, steps(plan)[1], {"item_factors": extreme}, history_of("carl"), secret_seed=SEED)
    assert np.all(np.abs(values) <= steps(plan)[1].scale * recipe.max_grad_norm * 20 + 1)


@pytest.mark.parametrize("change", [{"ridge": 1e-9}, {"negative_weight": 1e9}])
def test_a_recipe_that_could_overflow_the_local_solve_is_refused(change):
    plan = plan_of(ReconPlan(**{**vars(RECON), **change}))
    with pytest.raises(PolicyViolation, match="negative_weight"):
        check_inputs(plan, steps(plan)[1], {"item_factors": FACTORS})


def test_factors_that_no_exact_solve_can_give_count_as_none(monkeypatch):
    def fails(item_factors, rows, **settings):
        users = solve_users(item_factors, rows, **settings)
        users[rows.lengths == 3] *= 1e4
        return users

    monkeypatch.setattr("client.contribution.solve_users", fails)
    history = history_of("anna")
    factors = solve_each(RECON, FACTORS, history)
    np.testing.assert_array_equal(factors.any(axis=1), history.lengths != 3)


@pytest.mark.parametrize(
    ("plan", "step", "inputs"),
    [(PAIRS, 0, {}), (PAIRS, 1, {"head": HEAD}), (GRADIENT, 1, {"item_factors": FACTORS})],
    ids=["popularity", "pairs", "gradient"],
)
def test_what_declared_users_can_sum_to_is_in_range_and_nothing_longer(plan, step, inputs):
    chosen = steps(plan)[step]
    values = tenant_values(plan, chosen, inputs, history_of("anna"), secret_seed=SEED)
    require_in_range(chosen, values, 20)
    at_most = np.zeros_like(values)
    at_most[0] = int(20 * chosen.user_bound)
    require_in_range(chosen, at_most, 20)
    for broken in (at_most * 2, values + 1_000 * chosen.scale):
        with pytest.raises(BadInput, match=r"sum has norm .*, its 20 declared users of clip 1 reach 20.*; nothing is"):
            require_in_range(chosen, broken, 20)


def test_counts_below_zero_and_vectors_of_another_shape_or_kind_are_not_sent():
    popularity, gradient = steps(PAIRS)[0], steps(GRADIENT)[1]
    negative = np.zeros(NUM_ITEMS, dtype=np.int64)
    negative[3] = -1
    with pytest.raises(BadInput, match="sum of popularity holds a value below zero"):
        require_in_range(popularity, negative, 20)
    require_in_range(gradient, np.full(gradient.num_coordinates, -1, dtype=np.int64), 20)
    for broken in (negative[1:], negative.astype(np.float64)):
        with pytest.raises(BadInput, match="nothing is sent"):
            require_in_range(popularity, np.abs(broken), 20)


@pytest.mark.parametrize(
    ("plan", "step", "inputs"),
    [
        (PAIRS, 0, {"head": HEAD}),
        (PAIRS, 1, {}),
        (PAIRS, 1, {"head": HEAD.astype(np.int64)}),
        (PAIRS, 1, {"head": HEAD[:7]}),
        (PAIRS, 1, {"head": np.zeros(8, np.int32)}),
        (PAIRS, 1, {"head": HEAD - 1}),
        (PAIRS, 1, {"head": HEAD + 7}),
        (PAIRS, 1, {"head": HEAD, "more": HEAD}),
        (GRADIENT, 1, {"item_factors": FACTORS[:-1]}),
        (GRADIENT, 1, {"item_factors": FACTORS.astype(np.float32)}),
        (GRADIENT, 1, {"item_factors": np.full_like(FACTORS, np.nan)}),
        (GRADIENT, 1, {"item_factors": np.full_like(FACTORS, np.inf)}),
        (GRADIENT, 1, {"item_factors": FACTORS * 1e6}),
    ],
)
def test_inputs_that_no_honest_server_sends_are_refused(plan, step, inputs):
    with pytest.raises(MalformedMessage):
        check_inputs(plan, steps(plan)[step], inputs)
