"""No user, however made up, moves a release by more than the sensitivity that the accountant is told."""

from fractions import Fraction
from functools import cache
from hashlib import sha256
from math import isqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.device import device_values
from client.opacus_gradient import clipped_gradient_sum as by_opacus
from client.tenant import tenant_values
from shared.clipping import UserVectors, clip_users
from shared.interactions import Interactions
from shared.plan import CooccurrencePlan, ReconPlan, Step, StepKind, TrainingPlan, make_plan, steps
from shared.recipes import recon
from shared.recipes.cooccurrence import pair_vectors, popularity_vectors
from shared.secagg.fixed_point import round_sum, round_users, rounded_sensitivity, rounded_sum_sensitivity

NUM_ITEMS = 12
# What fixed_point's bounds allow a term for float64 (2^-44 in proportion).
FLOAT_SLACK = 1 + 2.0**-44

weights = st.floats(2.0**-100, 2.0**100, width=32)
people = st.dictionaries(st.integers(0, NUM_ITEMS - 1), weights, max_size=NUM_ITEMS)
extreme = st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1e-9, 1.0, -1.0, 1 - 1e-9, 1e3])


def history(*users: dict[int, float]) -> Interactions:
    return Interactions(
        num_items=NUM_ITEMS,
        offsets=np.cumsum([0, *map(len, users)], dtype=np.int64),
        items=np.array([item for user in users for item in user], dtype=np.int32),
        weights=np.array([weight for user in users for weight in user.values()], dtype=np.float32),
    )


def exact_norm(values: NDArray[np.float64] | NDArray[np.int64]) -> float:
    """L2 norm by exact arithmetic, rounded down."""
    squares = sum((Fraction(float(value)) ** 2 for value in values.ravel()), Fraction(0))
    return isqrt(int(squares * 2**200)) / 2.0**100


@given(user=people)
def test_popularity_of_any_user_has_norm_one_at_most(user: dict[int, float]) -> None:
    assert exact_norm(popularity_vectors(history(user)).values) <= FLOAT_SLACK


@given(
    user=people,
    gamma=st.floats(0, 60),
    longest=st.integers(2, NUM_ITEMS),
    head=st.permutations(range(NUM_ITEMS)).flatmap(lambda order: st.integers(2, NUM_ITEMS).map(lambda h: order[:h])),
)
def test_pairs_of_any_user_have_norm_one_at_most(
    user: dict[int, float], gamma: float, longest: int, head: list[int]
) -> None:
    vectors = pair_vectors(history(user), np.array(head, dtype=np.int32), gamma=gamma, max_head_items_per_user=longest)
    assert exact_norm(vectors.values) <= FLOAT_SLACK
    assert np.count_nonzero(vectors.values) <= longest * (longest - 1) // 2


@given(user=people, others=st.lists(people, max_size=4), log_scale=st.integers(0, 32), seed=st.integers(0, 2**32))
def test_any_users_integers_stay_within_the_rounded_sensitivity(
    user: dict[int, float], others: list[dict[int, float]], log_scale: int, seed: int
) -> None:
    scale = 2**log_scale
    alone = clip_users(popularity_vectors(history(user)), 1.0)
    rounded = round_users(alone, scale=scale, clip=1.0, num_touched=NUM_ITEMS, rng=np.random.default_rng(seed))
    assert exact_norm(rounded) <= rounded_sensitivity(scale=scale, clip=1.0, num_touched=NUM_ITEMS)
    # With company and the same rounding of the company, the two sums differ by that user's integers alone.
    company = popularity_vectors(history(*others))
    with_user = popularity_vectors(history(*others, user))
    first = round_users(company, scale=scale, clip=1.0, num_touched=NUM_ITEMS, rng=_One(seed))
    second = round_users(with_user, scale=scale, clip=1.0, num_touched=NUM_ITEMS, rng=_One(seed))
    assert exact_norm(second - first) <= rounded_sensitivity(scale=scale, clip=1.0, num_touched=NUM_ITEMS)


class _One(np.random.Generator):
    """Rounds every fraction the same way for every entry, so that company is rounded alike in both worlds."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self._draw = 1e-9 + 0.999 * np.random.default_rng(seed).random()

    def random(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        return np.full(size, self._draw)


def gradient_of_one(
    user: dict[int, float], item_factors: NDArray[np.float64], factors: NDArray[np.float64], weight: float, clip: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one = history(user)
    pure = recon.clipped_gradient_sum(item_factors, factors, one, negative_weight=weight, max_grad_norm=clip)
    opacus = by_opacus(
        item_factors=item_factors, user_factors=factors, history=one, negative_weight=weight, max_grad_norm=clip,
        batch_users=1,
    )  # fmt: skip
    return pure, opacus


matrices = st.lists(extreme, min_size=2 * NUM_ITEMS, max_size=2 * NUM_ITEMS).map(
    lambda values: np.array(values).reshape(NUM_ITEMS, 2)
)


@settings(max_examples=60, deadline=None)
@given(
    user=people,
    item_factors=matrices,
    factors=st.lists(extreme, min_size=2, max_size=2).map(lambda values: np.array([values])),
    negative_weight=st.floats(0, 1),
    clip=st.floats(1e-3, 10),
)
# Scores of exactly 1 on the user's items and 0 elsewhere: the norm is a difference of nearly equal numbers.
@example(
    user={0: 1.0, 1: 1.0},
    item_factors=np.array([[1e-3 * (1 - 1e-9), 0.0]] * 2 + [[0.0, 1.0]] * (NUM_ITEMS - 2)),
    factors=np.array([[1e3, 0.0]]),
    negative_weight=1.0,
    clip=1e-6,
)
def test_any_users_clipped_gradient_is_within_the_clip(
    user: dict[int, float],
    item_factors: NDArray[np.float64],
    factors: NDArray[np.float64],
    negative_weight: float,
    clip: float,
) -> None:
    pure, opacus = gradient_of_one(user, item_factors, factors, negative_weight, clip)
    assert exact_norm(opacus) <= clip * FLOAT_SLACK
    assert exact_norm(pure) <= clip * CLOSED_FORM_SLACK


@settings(max_examples=40, deadline=None)
@given(people_=st.lists(people, min_size=1, max_size=5), seed=st.integers(0, 2**32), log_scale=st.integers(4, 32))
def test_a_user_moves_the_rounded_gradient_sum_by_its_sensitivity_at_most(
    people_: list[dict[int, float]], seed: int, log_scale: int
) -> None:
    rng = np.random.default_rng(seed)
    item_factors, clip, scale = rng.normal(size=(NUM_ITEMS, 3)), 0.5, 2**log_scale

    def integers(users: list[dict[int, float]]) -> NDArray[np.int64]:
        rows = history(*users)
        solved = [recon.solve_users(item_factors, history(user), ridge=0.1, negative_weight=0.1) for user in users]
        factors = np.concatenate([*solved, np.zeros((0, 3))])
        total = by_opacus(
            item_factors=item_factors, user_factors=factors, history=rows, negative_weight=0.1, max_grad_norm=clip,
            batch_users=2,
        )  # fmt: skip
        return round_sum(total.ravel(), scale=scale)

    moved = exact_norm(integers(people_) - integers(people_[1:]))
    assert moved <= rounded_sum_sensitivity(scale=scale, clip=clip, num_coordinates=NUM_ITEMS * 3, max_users=5)


MAX_USERS = 5
# From rings with hardly a step to the unit, where rounding is most of a user's share, to the finest.
RINGS = (16, 24, 32, 64)


@cache
def plan_of(kind: StepKind, bits: int, longest: int, ridge: float) -> TrainingPlan:
    recipe: CooccurrencePlan | ReconPlan = CooccurrencePlan(
        num_head_items=NUM_ITEMS - 1, gamma=0.5, max_head_items_per_user=longest
    )
    if kind == "gradient":
        recipe = ReconPlan(
            num_factors=2, num_rounds=1, num_head_items=NUM_ITEMS, max_items_per_user=longest, ridge=ridge,
            negative_weight=0.1, learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=0.5,
        )  # fmt: skip
    return make_plan(
        job_id="moves", recipe=recipe, catalogue_digest="a" * 64, num_items=NUM_ITEMS, noise="helpers", epsilon=8.0,
        delta=1e-6, popularity_share=0.5, min_tenants=2, min_users=2, max_users=MAX_USERS, bits=bits,
        helpers=("north", "south"),
    )  # fmt: skip


def step_and_bound(plan: TrainingPlan, kind: StepKind) -> tuple[Step, float]:
    """The plan's own step, and the sensitivity that its accountant counts with."""
    step = next(step for step in steps(plan) if step.kind == kind)
    assert step.mechanism is not None
    return step, step.mechanism.sensitivity


@settings(deadline=None)
@given(
    user=people,
    head=st.permutations(range(NUM_ITEMS)).map(lambda order: np.array(order[: NUM_ITEMS - 1], dtype=np.int32)),
    bits=st.sampled_from(RINGS),
    longest=st.integers(2, NUM_ITEMS),
    seed=st.integers(0, 2**32),
)
# A user of every item, with weights that only the clip holds: each share is a fraction that rounding may raise.
@example(user=dict.fromkeys(range(NUM_ITEMS), 2.0**100), head=np.arange(NUM_ITEMS - 1, dtype=np.int32), bits=16,
         longest=NUM_ITEMS, seed=0)  # fmt: skip
@pytest.mark.parametrize("kind", ["popularity", "pairs"])
def test_what_a_client_sends_for_one_user_is_within_the_plans_sensitivity(
    kind: StepKind, user: dict[int, float], head: NDArray[np.int32], bits: int, longest: int, seed: int
) -> None:
    # Of one user alone: users are rounded one by one with a secret generator, so the rest of the sum is independent.
    plan = plan_of(kind, bits, longest, 1.0)
    step, bound = step_and_bound(plan, kind)
    inputs: dict[str, NDArray[np.generic]] = {"head": head} if kind == "pairs" else {}
    alone = tenant_values(plan, step, inputs, history(user), secret_seed=sha256(b"%d" % seed).digest())
    assert exact_norm(alone) <= bound


@settings(max_examples=60, deadline=None)
@given(
    user=people,
    others=st.lists(people, max_size=MAX_USERS - 1),
    place=st.integers(0, MAX_USERS - 1),
    item_factors=matrices,
    bits=st.sampled_from(RINGS),
    longest=st.integers(2, NUM_ITEMS),
    ridge=st.sampled_from([1e-6, 1e-3, 1.0]),
)
# Small factors and hardly a ridge: the user's own are large, and the gradient is hundreds of clips long.
@example(
    user=dict.fromkeys(range(NUM_ITEMS), 1.0), others=[{0: 1.0}], place=0,
    item_factors=np.tile([0.01, 0.0], (NUM_ITEMS, 1)), bits=32, longest=NUM_ITEMS, ridge=1e-3,
)  # fmt: skip
def test_adding_a_user_moves_the_gradient_that_a_client_sends_by_the_plans_sensitivity_at_most(
    user: dict[int, float],
    others: list[dict[int, float]],
    place: int,
    item_factors: NDArray[np.float64],
    bits: int,
    longest: int,
    ridge: float,
) -> None:
    plan = plan_of("gradient", bits, longest, ridge)
    step, bound = step_and_bound(plan, "gradient")

    def sent(users: list[dict[int, float]]) -> NDArray[np.int64]:
        return tenant_values(plan, step, {"item_factors": item_factors}, history(*users), secret_seed=bytes(32))

    assert exact_norm(sent([*others[:place], user, *others[place:]]) - sent(others)) <= bound
    device = device_values(plan, step, {"item_factors": item_factors}, history(user), secret_seed=bytes(32))
    assert exact_norm(device) <= bound


def test_a_recipe_that_forgets_its_clip_would_be_noticed() -> None:
    loud = history(dict.fromkeys(range(NUM_ITEMS), 1.0))
    unclipped = UserVectors(
        num_coordinates=NUM_ITEMS,
        offsets=loud.offsets,
        coordinates=loud.items.astype(np.int64),
        values=loud.weights.astype(np.float64),
    )
    assert exact_norm(unclipped.values) > 3
    assert exact_norm(popularity_vectors(loud).values) <= FLOAT_SLACK


# The closed form adds a user's terms before they cancel: what float64 leaves of them is allowed. A device clips again.
CLOSED_FORM_SLACK = 1 + 1e-6


@pytest.mark.parametrize("clip", [1e-6, 1e-3, 1.0])
def test_the_closed_form_sees_a_user_whose_norm_is_a_difference_of_equal_numbers(clip: float) -> None:
    item_factors = np.array([[1e-3 * (1 - 1e-9), 0.0]] * 2 + [[0.0, 1.0]] * (NUM_ITEMS - 2))
    pure, _ = gradient_of_one({0: 1.0, 1: 1.0}, item_factors, np.array([[1e3, 0.0]]), 1.0, clip)
    assert exact_norm(pure) <= clip * CLOSED_FORM_SLACK


def test_a_server_cannot_choose_item_factors_that_unbind_a_devices_clip() -> None:
    recipe = ReconPlan(
        num_factors=2, num_rounds=1, num_head_items=2, max_items_per_user=5, ridge=1e-15, negative_weight=1.0,
        learning_rate=1.0, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=1e-6,
    )  # fmt: skip
    plan = make_plan(
        job_id="cancel", recipe=recipe, catalogue_digest="a" * 64, num_items=NUM_ITEMS, noise="helpers", epsilon=1.0,
        delta=1e-6, popularity_share=0.5, min_tenants=2, min_users=2, max_users=10, bits=64, helpers=("north", "south"),
    )  # fmt: skip
    step = steps(plan)[1]
    item_factors = np.array([[1e-3, 0.0]] * 2 + [[0.0, 1.0]] * (NUM_ITEMS - 2))
    values = device_values(plan, step, {"item_factors": item_factors}, history({0: 1.0, 1: 1.0}), secret_seed=bytes(32))
    assert step.mechanism is not None
    assert exact_norm(values) <= step.mechanism.sensitivity
