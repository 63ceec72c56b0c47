"""What the server makes of the released sums: the inputs of the next step and, in the end, the model. Pure.

A job's whole knowledge is the list of its releases; everything else is computed from them anew, so that a job resumed
from a checkpoint cannot differ from one that was never interrupted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadSetting, IllegalTransition
from shared.plan import CooccurrencePlan, ReconPlan, Step, TrainingPlan, steps
from shared.ranking import FoldIn, RankingModel
from shared.recipes.cooccurrence import head_items
from shared.recipes.readouts import (
    CooccurrenceRelease,
    FactorsSettings,
    WeightsSettings,
    enough_signal,
    factors_readout,
    weights_readout,
)
from shared.recipes.recon import apply_gradient, initial_state
from shared.robust_sum import Combined

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Released:
    """One released total. total: int64 (num_coordinates,), in fixed-point steps, noise included.

    num_users: declared users behind it. num_tenants: who declared them. num_noises: independent noises in it, each of
    the variance that the step states; 0 where the plan asks for none. num_cohorts: sums that it was made of.
    noise_factor: what its noise's standard deviation is to that of so many noises added up; 1 for a plain sum.
    """

    total: NDArray[np.int64]
    num_users: int
    num_tenants: int
    num_noises: int
    num_cohorts: int = 1
    noise_factor: float = 1.0

    @classmethod
    def of(cls, combined: Combined) -> "Released":
        return cls(**vars(combined))


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """Releases of the steps closed so far, in the plan's order."""

    releases: tuple[Released, ...] = ()


def extend(plan: TrainingPlan, learned: Learned, release: Released) -> Learned:
    """`learned` with the next step's release. Raises IllegalTransition for one of another length, or one too many."""
    position = len(learned.releases)
    expected = steps(plan)[position : position + 1]
    if not expected or release.total.shape != (expected[0].num_coordinates,):
        raise IllegalTransition(f"a release of shape {release.total.shape} does not fit step {position}")
    return Learned(releases=(*learned.releases, release))


def inputs(plan: TrainingPlan, learned: Learned) -> Inputs:
    """What the clients need for the next step, from releases alone: nothing, `head`, or `item_factors`."""
    step = steps(plan)[len(learned.releases)]
    if step.kind == "popularity":
        return {}
    if isinstance(plan.recipe, CooccurrencePlan):
        return {"head": head_items(real_sum(plan, learned, 0), plan.recipe.num_head_items)}
    return {"item_factors": item_factors(plan, plan.recipe, learned)}


def real_sum(plan: TrainingPlan, learned: Learned, position: int) -> NDArray[np.float64]:
    """The sum of a closed step in real units, float64 (num_coordinates,)."""
    return np.asarray(learned.releases[position].total / float(steps(plan)[position].scale))


def noise_std(plan: TrainingPlan, learned: Learned, position: int) -> float:
    """Standard deviation of the noise in a coordinate of `real_sum`: every noise added, not only the one counted."""
    step: Step = steps(plan)[position]
    release = learned.releases[position]
    return release.noise_factor * sqrt(release.num_noises) * sqrt(step.noise_variance) / step.scale


def noise_cost(plan: TrainingPlan, learned: Learned, position: int) -> float:
    """What cohorts cost: the noise of a closed step's total over that of one sum of all its tenants."""
    release = learned.releases[position]
    # Tenants' own noises are as many in one sum as in several; helpers add theirs to every cohort anew.
    return release.noise_factor * (sqrt(release.num_cohorts) if plan.noise == "helpers" else 1.0)


def item_factors(plan: TrainingPlan, recipe: ReconPlan, learned: Learned) -> NDArray[np.float64]:
    """Item factors (num_items, num_factors) after every gradient released so far."""
    state = initial_state(real_sum(plan, learned, 0), recipe)
    for position in range(1, len(learned.releases)):
        gradient = real_sum(plan, learned, position).reshape(plan.num_items, recipe.num_factors)
        state = apply_gradient(state, gradient, noise_std=noise_std(plan, learned, position), plan=recipe)
    return state.item_factors


def ranking_model(
    plan: TrainingPlan, learned: Learned, readout: WeightsSettings | FactorsSettings | None, fold_in: FoldIn
) -> RankingModel:
    """The model of a job whose steps are all closed. `readout` applies to `cooccurrence` only.

    Where the cohort is too small for pairs to be told from noise, the read-out is popularity, with public text.
    """
    if len(learned.releases) != len(steps(plan)):
        raise IllegalTransition(f"{len(learned.releases)} of {len(steps(plan))} steps are closed")
    popularity = real_sum(plan, learned, 0)
    common: dict[str, Any] = {
        "catalogue_digest": plan.catalogue_digest,
        "recipe": plan.recipe_name,
        "popularity": np.maximum(popularity, 0.0).astype(np.float32),
        "fold_in": fold_in,
    }
    if isinstance(plan.recipe, ReconPlan):
        head = head_items(popularity, plan.recipe.num_head_items)
        factors = item_factors(plan, plan.recipe, learned)[head].astype(np.float32)
        return RankingModel(readout="reconstruction", head=head, item_factors=factors, **common)
    head = head_items(popularity, plan.recipe.num_head_items)
    release = CooccurrenceRelease(
        head=head,
        popularity=popularity,
        pairs=real_sum(plan, learned, 1),
        popularity_std=noise_std(plan, learned, 0),
        pairs_std=noise_std(plan, learned, 1),
        num_users=learned.releases[1].num_users,
    )
    if plan.noise != "none" and not enough_signal(release.num_users, plan.mu / noise_cost(plan, learned, 1)):
        return RankingModel(readout="popularity", head=head[:0], **common)
    if readout is None:
        raise BadSetting("a cooccurrence job needs a readout of kind weights or factors for each model")
    if isinstance(readout, WeightsSettings):
        return RankingModel(readout="weights", head=head, item_weights=weights_readout(release, readout), **common)
    return RankingModel(readout="factors", head=head, item_factors=factors_readout(release, readout), **common)
