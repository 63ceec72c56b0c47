"""Canaries: one worst-case user in or out of the real, clipped, rounded and noised sums; a lower bound on epsilon.

A training here is all of a plan's releases: the product's code computes the tenants' integers once in either world, and
the helpers' exact noise is drawn afresh for every training, so that tens of thousands of them are cheap. The adversary
knows everybody else and takes the most powerful test, the releases' component along what the canary adds, weighed by
each release's noise. Inputs of later steps are fixed: an adversary who chooses them can do no better than adaptively.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.tenant import tenant_values
from shared.accounting import epsilon_gdp
from shared.interactions import Interactions, concatenate
from shared.mechanism import DiscreteGaussian
from shared.plan import CooccurrencePlan, ReconPlan, Step, TrainingPlan, make_plan, mechanisms, steps
from shared.secagg import discrete_gaussian
from simulations.audit import Audit, audit
from simulations.auditing.findings import CONFIDENCE, Finding
from simulations.auditing.flaws import StepKind, lost_clip, no_check_before_rounding

NUM_ITEMS = 6
DELTA = 1e-5
Recipe = Literal["cooccurrence", "recon"]
Flaw = Literal["none", "half the noise", "no clip"]
FLAWS: tuple[Flaw, ...] = ("none", "half the noise", "no clip")
_KINDS: dict[Recipe, tuple[StepKind, ...]] = {
    "cooccurrence": ("popularity", "pairs"),
    "recon": ("popularity", "gradient"),
}
_PLANS: dict[Recipe, CooccurrencePlan | ReconPlan] = {
    "cooccurrence": CooccurrencePlan(num_head_items=NUM_ITEMS, gamma=0.5, max_head_items_per_user=NUM_ITEMS),
    "recon": ReconPlan(
        num_factors=2, num_rounds=2, num_head_items=NUM_ITEMS, max_items_per_user=NUM_ITEMS, ridge=1.0,
        negative_weight=0.1, learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.3, max_grad_norm=0.25,
    ),
}  # fmt: skip
# No seed of anybody's: rounding is redrawn in every release, and its share of the difference is below one step.
_ROUNDING_SEED = bytes(32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Worlds:
    """Each step of the plan with the integers of the tenant that holds the canary, or does not."""

    steps: tuple[Step, ...]
    without: tuple[NDArray[np.int64], ...]
    with_canary: tuple[NDArray[np.int64], ...]


def canary_findings(
    *, epsilons: Sequence[float], trainings: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Both recipes at every epsilon, whole and broken. trainings: in each of the two worlds."""
    rows = []
    recipes: Sequence[Recipe] = ("cooccurrence", "recon")
    for recipe in recipes:
        for epsilon in epsilons:
            plan = plan_of(recipe, epsilon)
            for flaw in FLAWS:
                progress(f"canaries: {recipe}, epsilon {epsilon:g}, {flaw}")
                rows.append(_finding(recipe, plan, flaw, trainings, seed))
    return rows


def plan_of(recipe: Recipe, epsilon: float) -> TrainingPlan:
    """A plan of a few items with the least noise that keeps the accounted epsilon at `epsilon`."""
    return make_plan(
        epsilon=epsilon,
        delta=DELTA,
        noise="helpers",
        job_id="audit",
        recipe=_PLANS[recipe],
        catalogue_digest="a" * 64,
        num_items=NUM_ITEMS,
        popularity_share=0.3,
        min_tenants=2,
        min_users=2,
        max_users=1_000,
        bits=64,
        helpers=("north", "south"),
    )


def worlds(recipe: Recipe, plan: TrainingPlan, flaw: Flaw) -> Worlds:
    """What the tenant's client adds to every sum, by the product's code, clip removed if that is the flaw."""
    others = _history([0, 1, 2], [3], [1, 0], [2, 3, 5, 4])
    # Loud: more than the clip lets through in every kind, so that all of the clip is used and all of it is needed.
    canary = _history(list(range(NUM_ITEMS)), weight=3.0)
    with ExitStack() as stack:
        if flaw == "no clip":
            stack.enter_context(lost_clip(*_KINDS[recipe]))
            stack.enter_context(no_check_before_rounding())
        without = [_values(plan, step, others) for step in steps(plan)]
        # First in the list, so that the others' rounding draws shift as they would for any user.
        with_canary = [_values(plan, step, concatenate([canary, others])) for step in steps(plan)]
    return Worlds(steps=steps(plan), without=tuple(without), with_canary=tuple(with_canary))


def releases_along(these: Worlds, *, canary: bool, flaw: Flaw, trainings: int) -> NDArray[np.float64]:
    """The adversary's number for each training, float64 (trainings,): the log-likelihood ratio up to a constant."""
    total = np.zeros(trainings)
    values = these.with_canary if canary else these.without
    for step, sent, first, second in zip(these.steps, values, these.without, these.with_canary, strict=True):
        if not isinstance(step.mechanism, DiscreteGaussian):
            raise ValueError("only a plan with noise by helpers or tenants has a statement to audit here")
        std = step.mechanism.noise_std
        drawn = discrete_gaussian.sample(
            std // 2 if flaw == "half the noise" else std, trainings * len(sent), os.urandom
        )
        released = drawn.reshape(trainings, len(sent)) + sent
        total += (released - first).astype(np.float64) @ ((second - first) / float(std) ** 2)
    return total


def _finding(recipe: Recipe, plan: TrainingPlan, flaw: Flaw, trainings: int, seed: int) -> Finding:
    these = worlds(recipe, plan, flaw)
    without = releases_along(these, canary=False, flaw=flaw, trainings=trainings)
    with_canary = releases_along(these, canary=True, flaw=flaw, trainings=trainings)
    bound = audit(without, with_canary, delta=DELTA, confidence=CONFIDENCE)
    seen = max(_apparent_mu(without, with_canary), 1e-6)
    return Finding(
        name=f"{recipe}, epsilon {plan.epsilon:g}" + ("" if flaw == "none" else f", {flaw}"),
        attack="canary",
        kind="attack" if flaw == "none" else "control",
        world=f"one loud user of {NUM_ITEMS} items in or out; {len(mechanisms(plan))} releases together",
        statistic="epsilon",
        estimate=epsilon_gdp(seen, DELTA),
        low=bound.epsilon_if_gaussian,
        high=None,
        confidence=CONFIDENCE,
        allowed=plan.epsilon,
        trials=2 * trainings,
        seed=seed,
        note=_note(bound, seen, plan),
    )


def _note(bound: Audit, seen: float, plan: TrainingPlan) -> str:
    return (
        f"mu at least {bound.mu:.3f}, apparent {seen:.3f}, stated {plan.mu:.3f}; "
        f"error rates alone: epsilon at least {bound.epsilon:.3f}"
    )


def _apparent_mu(without: NDArray[np.float64], with_canary: NDArray[np.float64]) -> float:
    # Distance of the means in deviations: mu itself where the noise is Gaussian. An estimate, not a bound.
    spread = np.sqrt((without.var(ddof=1) + with_canary.var(ddof=1)) / 2)
    return float((with_canary.mean() - without.mean()) / spread)


def _values(plan: TrainingPlan, step: Step, people: Interactions) -> NDArray[np.int64]:
    return tenant_values(plan, step, _inputs(step, plan), people, secret_seed=_ROUNDING_SEED)


def _inputs(step: Step, plan: TrainingPlan) -> dict[str, NDArray[np.generic]]:
    if step.kind == "pairs":
        return {"head": np.arange(NUM_ITEMS, dtype=np.int32)}
    if step.kind == "gradient":
        factors = np.array([[0.3, 0.1], [0.2, -0.2], [0.3, 0.0], [0.1, 0.2], [-0.2, 0.2], [0.2, 0.2]])
        return {"item_factors": factors}
    return {}


def _history(*rows: list[int], weight: float = 1.0) -> Interactions:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Interactions(
        num_items=NUM_ITEMS,
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        items=items,
        weights=np.full(len(items), weight, dtype=np.float32),
    )
