"""Why a plan's clip of gradients has a least value: what float64 leaves of a perfect fit depends on the batch."""

import numpy as np

from client.contribution import solve_each
from client.opacus_gradient import clipped_gradient_sum
from shared.interactions import Interactions
from shared.plan import MIN_GRAD_NORM, ReconPlan
from shared.secagg.fixed_point import _TERM_ERROR

NUM_USERS, NUM_ITEMS, OWN, NUM_FACTORS = 65, 400, 200, 8


def error_in_clips(clip: float, seed: int) -> float:
    """How far a user's term in a batch of equal users is from the one alone; factors at the bound of what is taken."""
    rng = np.random.default_rng(seed)
    item_factors = rng.normal(size=(NUM_ITEMS, NUM_FACTORS)) * 30
    one = rng.normal(size=NUM_FACTORS)
    item_factors[:OWN] = one * 100 / np.abs(one).max()
    item_factors = np.clip(item_factors, -100, 100)
    history = Interactions(
        num_items=NUM_ITEMS,
        offsets=np.arange(NUM_USERS + 1, dtype=np.int64) * OWN,
        items=np.tile(np.arange(OWN, dtype=np.int32), NUM_USERS),
        weights=np.ones(NUM_USERS * OWN, dtype=np.float32),
    )
    plan = ReconPlan(
        num_factors=NUM_FACTORS, num_rounds=1, num_head_items=2, max_items_per_user=1_000, ridge=1e-3,
        negative_weight=0.0, learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    user_factors = solve_each(plan, item_factors, history)

    def gradient(users: int, batch: int) -> np.ndarray:
        return clipped_gradient_sum(
            item_factors=item_factors, user_factors=user_factors[:users], history=history.users(0, users),
            negative_weight=0.0, max_grad_norm=clip, batch_users=batch,
        )  # fmt: skip

    return float(np.linalg.norm(gradient(NUM_USERS, 256) / NUM_USERS - gradient(1, 1)) / clip)


def test_at_the_least_clip_a_term_is_off_by_less_than_is_set_aside_and_far_below_it_by_more() -> None:
    assert max(error_in_clips(MIN_GRAD_NORM, seed) for seed in range(6)) < _TERM_ERROR / 10
    # The negative control, further down than it has to be: how a machine multiplies is its own affair.
    assert max(error_in_clips(MIN_GRAD_NORM / 10_000, seed) for seed in range(6)) > _TERM_ERROR
