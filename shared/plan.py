"""What a training job asks for, as one frozen value that the server sends and every client checks field by field."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, sqrt
from typing import Any, Literal, get_args

from shared.accounting import calibrate_mu
from shared.canonical import canonical_json, finite, sha256_hex
from shared.errors import BadSetting, MalformedMessage
from shared.mechanism import DiscreteGaussian
from shared.secagg.fixed_point import choose_scale, rounded_sensitivity, rounded_sum_sensitivity
from shared.secagg.mask_sharing import MaskSharing

FORMAT = "zhiyin-plan-1"
Noise = Literal["helpers", "tenant", "none"]
StepKind = Literal["popularity", "pairs", "gradient"]
# Tenants in one sum, at most: with `tenant` noise each adds its own, and the ring must hold them all.
MAX_TENANTS = 1_000
_JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class CooccurrencePlan:
    """Two sums asked for once: popularity, then order-aware pairs of the most popular items.

    num_head_items: h, chosen without looking at data.
    gamma: pairs at positions i and j weigh |i - j|^-gamma.
    max_head_items_per_user: only the most recent ones make pairs.
    """

    num_head_items: int
    gamma: float
    max_head_items_per_user: int

    def __post_init__(self) -> None:
        _at_least(2, num_head_items=self.num_head_items, max_head_items_per_user=self.max_head_items_per_user)
        if finite("gamma", self.gamma) < 0:
            raise ValueError(f"gamma must not be below zero, got {self.gamma}")


@dataclass(frozen=True, kw_only=True)
class ReconPlan:
    """Rounds of matrix factorisation with users reconstructed where they live (Singhal et al. 2021).

    num_head_items: only the most popular items, by the released popularity, have factors.
    max_items_per_user: only the most recent ones of those train.
    ridge, negative_weight: of the users' closed-form solve and of the loss.
    max_grad_norm: L2 clip of one user's whole gradient on the item factors.
    learning_rate, momentum: of the server's step; the rate is the step's root mean square over the head's factors.
    init_seed, init_std: of the public random initial item factors.
    """

    num_factors: int
    num_rounds: int
    num_head_items: int
    max_items_per_user: int
    ridge: float
    negative_weight: float
    learning_rate: float
    momentum: float
    init_seed: int
    init_std: float
    max_grad_norm: float

    def __post_init__(self) -> None:
        _at_least(
            1, num_factors=self.num_factors, num_rounds=self.num_rounds, max_items_per_user=self.max_items_per_user
        )
        _at_least(2, num_head_items=self.num_head_items)
        _at_least(0, init_seed=self.init_seed)
        for name in ("ridge", "learning_rate", "init_std", "max_grad_norm"):
            if finite(name, getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be above zero, got {getattr(self, name)}")
        if finite("negative_weight", self.negative_weight) < 0:
            raise ValueError(f"negative_weight must not be below zero, got {self.negative_weight}")
        if not 0 <= finite("momentum", self.momentum) < 1:
            raise ValueError(f"momentum must be from 0 to below 1, got {self.momentum}")


RECIPES: dict[str, type[CooccurrencePlan] | type[ReconPlan]] = {"cooccurrence": CooccurrencePlan, "recon": ReconPlan}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One release: a vector of `num_coordinates` fixed-point integers of `scale` steps to the unit.

    clip: L2 bound of one user in real units. mechanism: all that the step may release, None when the plan asks for no
    noise.
    """

    index: int
    kind: StepKind
    num_coordinates: int
    clip: float
    scale: int
    mechanism: DiscreteGaussian | None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A job. Fields that decide the guarantee are checked against each client's local policy.

    job_id: stable over resumption. noise: who adds it ("none" is for tests; policies refuse it unless they list it).
    mu: whole budget in Gaussian DP. epsilon, delta: the claim, at least what the accountant derives from `mu`.
    popularity_share: part of mu^2 spent on popularity. max_users: capacity of the sum over the whole cohort.
    bits: ring width. helpers: names on the roster, in order. spare_helpers: how many of them may be absent.
    """

    job_id: str
    recipe: CooccurrencePlan | ReconPlan
    catalogue_digest: str
    num_items: int
    noise: Noise
    mu: float
    epsilon: float
    delta: float
    popularity_share: float
    min_tenants: int
    min_users: int
    max_users: int
    bits: int
    helpers: tuple[str, ...]
    spare_helpers: int = 0

    def __post_init__(self) -> None:
        if not _JOB_ID.fullmatch(self.job_id):
            raise ValueError(f"job_id must be 1 to 40 of a-z, 0-9 and hyphens, got {self.job_id!r}")
        if not _DIGEST.fullmatch(self.catalogue_digest):
            raise ValueError("catalogue_digest must be a SHA-256 in hex")
        if self.noise not in get_args(Noise):
            raise ValueError(f"noise must be one of {', '.join(get_args(Noise))}, got {self.noise!r}")
        if self.bits not in (16, 24, 32, 64):
            raise ValueError(f"bits must be 16, 24, 32 or 64, got {self.bits}")
        if not 0 < finite("popularity_share", self.popularity_share) < 1:
            raise ValueError(f"popularity_share must lie between 0 and 1, got {self.popularity_share}")
        if (
            finite("mu", self.mu) <= 0
            or finite("epsilon", self.epsilon) <= 0
            or not 0 < finite("delta", self.delta) < 1
        ):
            raise ValueError("mu and epsilon must be above zero and delta between 0 and 1")
        _at_least(1, num_items=self.num_items, min_tenants=self.min_tenants, min_users=self.min_users)
        if self.max_users < self.min_users:
            raise ValueError(f"max_users {self.max_users} is below min_users {self.min_users}")
        try:
            MaskSharing(helpers=self.helpers, spare=self.spare_helpers)
        except BadSetting as error:
            raise ValueError(str(error)) from error
        if self.recipe.num_head_items > self.num_items:
            raise ValueError(
                f"num_head_items {self.recipe.num_head_items} exceeds the catalogue's {self.num_items} items"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of the canonical JSON; part of every context."""
        return sha256_hex(canonical_json(plan_to_json(self)))

    @cached_property
    def sharing(self) -> MaskSharing:
        """Which helper holds which mask."""
        return MaskSharing(helpers=self.helpers, spare=self.spare_helpers)

    @property
    def releases_per_step(self) -> int:
        """What one step may release at worst, by helpers that are asked about different cohorts in one context.

        Let the adversary have every helper but the `spare_helpers + 1` holders of one slot. Each of those answers for
        that slot once, with its own noise, about a cohort that the server names to it; the masks of all other slots
        are known. By the masks of the slot being pseudo-random, that is a function of `spare_helpers + 1` noisy sums.
        Noise that tenants add is inside what is masked, so any number of answers shows the same noisy values.
        """
        return self.spare_helpers + 1 if self.noise == "helpers" else 1

    @property
    def recipe_name(self) -> str:
        return "cooccurrence" if isinstance(self.recipe, CooccurrencePlan) else "recon"


def steps(plan: TrainingPlan) -> tuple[Step, ...]:
    """The releases of a plan in order: popularity, then the pairs or the gradients of each round."""
    share = plan.popularity_share
    popularity = _user_step(plan, 0, "popularity", plan.num_items, plan.num_items, plan.mu * sqrt(share))
    recipe = plan.recipe
    if isinstance(recipe, CooccurrencePlan):
        pairs = recipe.num_head_items * (recipe.num_head_items - 1) // 2
        k = min(recipe.max_head_items_per_user, recipe.num_head_items)
        return popularity, _user_step(plan, 1, "pairs", pairs, k * (k - 1) // 2, plan.mu * sqrt(1 - share))
    mu_round = plan.mu * sqrt((1 - share) / recipe.num_rounds)
    return popularity, *(_gradient_step(plan, recipe, i, mu_round) for i in range(1, recipe.num_rounds + 1))


def mechanisms(plan: TrainingPlan) -> tuple[DiscreteGaussian, ...]:
    """What the accountant composes; empty when the plan asks for no noise."""
    return tuple(step.mechanism for step in steps(plan) if step.mechanism is not None)


def make_plan(*, epsilon: float, delta: float, noise: Noise, **fields: Any) -> TrainingPlan:
    """The plan with the least noise that keeps the accounted epsilon at `epsilon`; other fields as in TrainingPlan."""

    def with_mu(mu: float) -> TrainingPlan:
        return TrainingPlan(mu=mu, epsilon=epsilon, delta=delta, noise=noise, **fields)

    try:
        if noise == "none":
            return with_mu(1.0)
        return with_mu(calibrate_mu(epsilon, delta, lambda mu: mechanisms(with_mu(mu))))
    except ValueError as error:
        raise BadSetting(f"plan: {error}") from error


def plan_to_json(plan: TrainingPlan) -> dict[str, Any]:
    """A JSON object; the inverse of `plan_from_json`."""
    fields = {name: getattr(plan, name) for name in TrainingPlan.__dataclass_fields__}
    return {
        **fields,
        "format": FORMAT,
        "helpers": list(plan.helpers),
        "recipe": {"name": plan.recipe_name, **vars(plan.recipe)},
    }


def plan_from_json(value: Any) -> TrainingPlan:
    """Read a plan that a peer sent. Raises MalformedMessage naming what is wrong."""
    try:
        fields = dict(value)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format must be {FORMAT}")
        recipe = dict(fields.pop("recipe"))
        kind = RECIPES[recipe.pop("name")]
        _same_types(kind, recipe)
        fields["helpers"] = tuple(str(name) for name in fields["helpers"])
        for name in TrainingPlan.__dataclass_fields__.keys() - fields.keys() - {"recipe"}:
            raise KeyError(name)
        _same_types(TrainingPlan, {name: field for name, field in fields.items() if name != "helpers"})
        return TrainingPlan(recipe=kind(**recipe), **fields)
    except KeyError as error:
        raise MalformedMessage(f"plan: {error.args[0]!r} is missing or not known") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedMessage(f"plan: {error}") from error


def _user_step(plan: TrainingPlan, index: int, kind: StepKind, size: int, touched: int, mu: float) -> Step:
    def sensitivity(scale: int) -> float:
        return rounded_sensitivity(scale=scale, clip=1.0, num_touched=touched)

    return _step(plan, index, kind, size, 1.0, sensitivity, mu)


def _gradient_step(plan: TrainingPlan, recipe: ReconPlan, index: int, mu: float) -> Step:
    size, clip = plan.num_items * recipe.num_factors, recipe.max_grad_norm

    def sensitivity(scale: int) -> float:
        return rounded_sum_sensitivity(scale=scale, clip=clip, num_coordinates=size, max_users=plan.max_users)

    return _step(plan, index, "gradient", size, clip, sensitivity, mu)


def _step(
    plan: TrainingPlan,
    index: int,
    kind: StepKind,
    size: int,
    clip: float,
    sensitivity: Callable[[int], float],
    mu: float,
) -> Step:
    # Every tenant may add noise of its own, and a roster has fewer tenants than 1,000.
    num_noises = {"helpers": len(plan.sharing.slots), "tenant": MAX_TENANTS, "none": 0}[plan.noise]
    releases = plan.releases_per_step
    scale = choose_scale(
        bits=plan.bits,
        max_users=plan.max_users,
        clip=clip,
        noise_multiplier=sqrt(releases) / mu if num_noises else 0.0,
        num_noises=num_noises,
        sensitivity=sensitivity,
    )
    noise, moved = None, sensitivity(scale)
    if plan.noise != "none":
        # Releases with noise of their own are one release of a longer vector, which a user moves sqrt(releases) as far.
        together = moved * sqrt(releases)
        noise = DiscreteGaussian(noise_std=ceil(together / mu), sensitivity=together, num_coordinates=releases * size)
    return Step(index=index, kind=kind, num_coordinates=size, clip=clip, scale=scale, mechanism=noise)


def _same_types(kind: type, fields: dict[str, Any]) -> None:
    # JSON has one kind of number, Python has three: a bool for an int or an int for a float must not slip through.
    known = {name: field.type for name, field in kind.__dataclass_fields__.items()}  # type: ignore[attr-defined]
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r}")
        wanted = known[name]
        if wanted is int and (type(value) is not int or abs(value) >= 2**53):
            raise ValueError(f"{name} must be a whole number")
        if wanted is float:
            if type(value) not in (int, float) or not -inf < value < inf:
                raise ValueError(f"{name} must be a finite number")
            fields[name] = float(value)
        if wanted is str and type(value) is not str:
            raise ValueError(f"{name} must be text")


def _at_least(minimum: int, **fields: int) -> None:
    for name, value in fields.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
