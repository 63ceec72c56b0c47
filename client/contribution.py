"""What this client adds to the sum of one step: integers that bound every user, from the local histories. numpy only.

Nothing here may fail or refuse because of what a history holds: a refusal is an answer too, and no noise protects it.
Everything that a server chose is checked before a history is looked at. How long it takes does depend on how many
interactions there are; that is measured, and told in the threat model.
"""

import numpy as np
from numpy.typing import NDArray

from shared.clipping import UserVectors
from shared.errors import BadInput, MalformedMessage, PolicyViolation
from shared.interactions import Interactions
from shared.plan import CooccurrencePlan, ReconPlan, Step, TrainingPlan
from shared.recipes.cooccurrence import pair_vectors, popularity_vectors
from shared.recipes.recon import solve_users
from shared.secagg.fixed_point import round_users
from shared.secagg.prg import KeystreamUniform

# Item factors beyond this are no honest server's; within it, no history can drive the local solve to infinity.
MAX_ITEM_FACTOR = 1e2
MIN_RIDGE, MAX_NEGATIVE_WEIGHT = 1e-3, 1e2
# Entries of pair vectors held at once, about 100 MB with their index arrays.
_ENTRIES_AT_ONCE = 2_000_000


def check_inputs(plan: TrainingPlan, step: Step, inputs: dict[str, NDArray[np.generic]]) -> None:
    """Raise MalformedMessage unless `inputs` are exactly what the step needs; independent of any history.

    Raises PolicyViolation for a recipe whose numbers could drive the local solve out of floating point's range.
    """
    expected = {"popularity": [], "pairs": ["head"], "gradient": ["item_factors"]}[step.kind]
    if sorted(inputs) != expected:
        raise MalformedMessage(f"step {step.index} ({step.kind}) takes the inputs {expected}, got {sorted(inputs)}")
    if step.kind == "pairs" and isinstance(plan.recipe, CooccurrencePlan):
        head = inputs["head"]
        if head.dtype != np.int32 or head.shape != (plan.recipe.num_head_items,):
            raise MalformedMessage(f"head must be int32 of length {plan.recipe.num_head_items}")
        if head.min() < 0 or head.max() >= plan.num_items or len(np.unique(head)) != len(head):
            raise MalformedMessage("head must list different items of the catalogue")
    if step.kind == "gradient" and isinstance(plan.recipe, ReconPlan):
        recipe, factors = plan.recipe, inputs["item_factors"]
        if recipe.ridge < MIN_RIDGE or recipe.negative_weight > MAX_NEGATIVE_WEIGHT:
            raise PolicyViolation(
                f"plan {plan.job_id}: ridge is {recipe.ridge:g} and negative_weight {recipe.negative_weight:g}, this "
                f"client solves with at least {MIN_RIDGE:g} and at most {MAX_NEGATIVE_WEIGHT:g}"
            )
        if factors.dtype != np.float64 or factors.shape != (plan.num_items, plan.recipe.num_factors):
            raise MalformedMessage(f"item_factors must be float64 ({plan.num_items}, {plan.recipe.num_factors})")
        if not np.all(np.abs(factors) <= MAX_ITEM_FACTOR):
            raise MalformedMessage(f"item_factors must be finite and within {MAX_ITEM_FACTOR:g}")


def require_in_range(step: Step, values: NDArray[np.int64], declared_users: int) -> None:
    """Raise BadInput unless these integers, before noise, are ones that `declared_users` clipped users can sum to.

    Last thing before masks hide them. No history can fail it: every user's clip and rounding is bounded by the plan's
    own numbers, and there are no more users than are declared. What fails it is arithmetic gone wrong on this machine.
    """
    if values.shape != (step.num_coordinates,) or values.dtype != np.int64:
        raise BadInput(f"this home's sum is {values.dtype} of shape {values.shape}, not the step's; nothing is sent")
    most, length = declared_users * step.user_bound, float(np.linalg.norm(values.astype(np.float64)))
    if not length <= most * (1 + 2.0**-20):
        raise BadInput(
            f"this home's sum has norm {length / step.scale:.6g}, its {declared_users} declared users of clip "
            f"{step.clip:g} reach {most / step.scale:.6g}; nothing is sent"
        )
    if step.kind != "gradient" and values.min(initial=0) < 0:
        raise BadInput(f"this home's sum of {step.kind} holds a value below zero; nothing is sent")


def rounded_users(
    plan: TrainingPlan,
    recipe: CooccurrencePlan | ReconPlan,
    step: Step,
    inputs: dict[str, NDArray[np.generic]],
    history: Interactions,
    secret_seed: bytes,
) -> NDArray[np.int64]:
    """The integer sum of a `popularity` or `pairs` step, each user clipped to norm 1 and rounded alone.

    secret_seed: 32 bytes, fresh for every release and known to nobody else. The bound on one user bounds the sum only
    while nobody can tell how the others were rounded: with draws that two releases share, a user shifts those of all
    users behind, and the difference of the two shows it.
    """
    rng = KeystreamUniform(secret_seed)
    total = np.zeros(step.num_coordinates, dtype=np.int64)
    if step.kind == "popularity":
        for part in history.chunks(_ENTRIES_AT_ONCE):
            total += _rounded(popularity_vectors(part), step, plan.num_items, rng)
        return total
    if not isinstance(recipe, CooccurrencePlan):
        raise MalformedMessage(f"a {step.kind} step has no vectors of single users")
    longest = min(recipe.max_head_items_per_user, recipe.num_head_items)
    head = inputs["head"].astype(np.int32)
    for part in history.chunks(max(1, 2 * _ENTRIES_AT_ONCE // longest)):
        vectors = pair_vectors(part, head, gamma=recipe.gamma, max_head_items_per_user=recipe.max_head_items_per_user)
        total += _rounded(vectors, step, longest * (longest - 1) // 2, rng)
    return total


def solve_each(recipe: ReconPlan, item_factors: NDArray[np.float64], history: Interactions) -> NDArray[np.float64]:
    """User factors (num_users, num_factors), each computed as if its user were alone. They stay on this machine.

    Users are solved together only with users of the same history length: padding to a neighbour's length would let one
    user change the last bits of another's factors, which an ill-conditioned solve can magnify. A user whose system
    cannot be solved in floating point counts as one without a history.
    """
    factors = np.zeros((history.num_users, recipe.num_factors))
    lengths = history.lengths
    for length in np.unique(lengths[lengths > 0]):
        users = np.flatnonzero(lengths == length)
        factors[users] = _solve_equal(recipe, item_factors, _rows(history, users, int(length)))
    with np.errstate(all="ignore"):
        # The loss of zero factors is the history's length, so the best ones have ridge |u|^2 of at most that. What
        # breaks this is a solve that failed in floating point; each user is judged by their own values alone.
        solved = recipe.ridge * np.square(factors).sum(axis=1) <= 1.01 * lengths
    return np.where(solved[:, None], factors, 0.0)


def _solve_equal(recipe: ReconPlan, item_factors: NDArray[np.float64], history: Interactions) -> NDArray[np.float64]:
    try:
        with np.errstate(all="ignore"):
            return solve_users(item_factors, history, ridge=recipe.ridge, negative_weight=recipe.negative_weight)
    except np.linalg.LinAlgError:
        if history.num_users <= 1:
            return np.zeros((history.num_users, recipe.num_factors))
        one_by_one = [_solve_equal(recipe, item_factors, history.users(u, u + 1)) for u in range(history.num_users)]
        return np.concatenate(one_by_one)


def _rows(history: Interactions, users: NDArray[np.int64], length: int) -> Interactions:
    entries = (history.offsets[users, None] + np.arange(length)).ravel()
    return Interactions(
        num_items=history.num_items,
        offsets=np.arange(len(users) + 1, dtype=np.int64) * length,
        items=history.items[entries],
        weights=history.weights[entries],
    )


def _rounded(vectors: UserVectors, step: Step, num_touched: int, rng: KeystreamUniform) -> NDArray[np.int64]:
    return round_users(vectors, scale=step.scale, clip=step.clip, num_touched=num_touched, rng=rng)
