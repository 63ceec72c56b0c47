"""Tenant mode: the sum over an institution's users. Gradients go through Opacus; the sums of counts need numpy only."""

import numpy as np
from numpy.typing import NDArray

from client.contribution import rounded_users, solve_each
from shared.interactions import Interactions
from shared.plan import ReconPlan, Step, TrainingPlan
from shared.recipes.recon import training_history
from shared.secagg.fixed_point import round_sum

BATCH_USERS = 256


def tenant_values(
    plan: TrainingPlan,
    step: Step,
    inputs: dict[str, NDArray[np.generic]],
    history: Interactions,
    *,
    secret_seed: bytes,
) -> NDArray[np.int64]:
    """The integers of one step, int64 (num_coordinates,): users clipped, summed, rounded; without noise, so secret."""
    recipe = plan.recipe
    if step.kind != "gradient" or not isinstance(recipe, ReconPlan):
        return rounded_users(plan, recipe, step, inputs, history, secret_seed)
    # Here, not above: whoever trains `cooccurrence` alone need not install torch.
    from client.opacus_gradient import clipped_gradient_sum

    item_factors = inputs["item_factors"].astype(np.float64)
    history = training_history(item_factors, history, max_items_per_user=recipe.max_items_per_user)
    gradient = clipped_gradient_sum(
        item_factors=item_factors,
        user_factors=solve_each(recipe, item_factors, history),
        history=history,
        negative_weight=recipe.negative_weight,
        max_grad_norm=recipe.max_grad_norm,
        batch_users=BATCH_USERS,
    )
    return round_sum(gradient.ravel(), scale=step.scale)
