"""Device mode: one user's own contribution, with numpy alone; torch is never imported."""

import numpy as np
from numpy.typing import NDArray

from client.contribution import rounded_users, solve_each
from shared.clipping import UserVectors, clip_users
from shared.errors import BadSetting
from shared.interactions import Interactions
from shared.plan import ReconPlan, Step, TrainingPlan
from shared.recipes.recon import clipped_gradient_sum, training_history
from shared.secagg.fixed_point import round_sum


def device_values(
    plan: TrainingPlan,
    step: Step,
    inputs: dict[str, NDArray[np.generic]],
    history: Interactions,
    *,
    secret_seed: bytes,
) -> NDArray[np.int64]:
    """The integers of one step for the one user of `history` (or for none), int64 (num_coordinates,).

    Raises BadSetting if the history is of several users.
    """
    if history.num_users > 1:
        raise BadSetting("this home declares one user and holds several; state the number in policy.toml")
    recipe = plan.recipe
    if step.kind != "gradient" or not isinstance(recipe, ReconPlan):
        return rounded_users(plan, recipe, step, inputs, history, secret_seed)
    item_factors = inputs["item_factors"].astype(np.float64)
    history = training_history(item_factors, history, max_items_per_user=recipe.max_items_per_user)
    gradient = clipped_gradient_sum(
        item_factors,
        solve_each(recipe, item_factors, history),
        history,
        negative_weight=recipe.negative_weight,
        max_grad_norm=recipe.max_grad_norm,
    )
    return round_sum(_within(gradient.ravel(), recipe.max_grad_norm), scale=step.scale)


def _within(gradient: NDArray[np.float64], max_grad_norm: float) -> NDArray[np.float64]:
    # Item factors come from a server that may choose them so that the closed form's terms cancel in floating point.
    # One user's gradient is at hand as a whole, so its clip can hold for the values that leave, not for a formula.
    size = len(gradient)
    whole = UserVectors(
        num_coordinates=size,
        offsets=np.array([0, size], dtype=np.int64),
        coordinates=np.arange(size, dtype=np.int64),
        values=gradient,
    )
    return clip_users(whole, max_grad_norm).values
