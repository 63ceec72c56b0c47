"""What a training job asks for, as one frozen value that the server sends and every client checks field by field."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, nextafter, sqrt
from typing import Any, Literal, get_args

from shared.accounting import calibrate_mu
from shared.canonical import canonical_json, finite, sha256_hex
from shared.errors import BadSetting, MalformedMessage
from shared.mechanism import DiscreteGaussian, Skellam
from shared.secagg.fixed_point import choose_scale, rounded_sensitivity, rounded_sum_sensitivity
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.pairwise_terms import PairwiseTerms
from shared.secagg.skellam import share_of_variance

FORMAT = "zhiyin-plan-1"
Topology = Literal["helpers", "pairwise"]
Noise = Literal["helpers", "tenant", "shared", "none"]
StepKind = Literal["popularity", "pairs", "gradient"]
NOISES_OF: dict[Topology, tuple[Noise, ...]] = {
    "helpers": ("helpers", "tenant", "none"),
    "pairwise": ("tenant", "shared", "none"),
}
# The least clip of a gradient. What float64 leaves of a perfect fit, and computes differently in another batch, does
# not shrink with the clip; in proportion to a smaller one it would pass what `fixed_point` sets aside for it.
MIN_GRAD_NORM = 1e-6
# Fields of a plan with several cohorts, left out of its JSON where there is one: such a plan keeps its digest.
# max_spread 2 compares nothing, since no two vectors of norm 1 are further apart.
ONE_COHORT: dict[str, int | float] = {"cohorts": 1, "trim": 0, "max_spread": 2.0}
MAX_COHORTS = 32
# Tenants in one sum with helpers, at most: with `tenant` noise each adds its own, and the ring must hold them all.
MAX_TENANTS = 1_000
# Steps are worked out before a policy is asked, so their number must be bounded before that.
MAX_ROUNDS = 100_000
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
        if self.num_rounds > MAX_ROUNDS:
            raise ValueError(f"num_rounds must be at most {MAX_ROUNDS}, got {self.num_rounds}")
        _at_least(2, num_head_items=self.num_head_items)
        _at_least(0, init_seed=self.init_seed)
        for name in ("ridge", "learning_rate", "init_std", "max_grad_norm"):
            if finite(name, getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be above zero, got {getattr(self, name)}")
        if self.max_grad_norm < MIN_GRAD_NORM:
            raise ValueError(f"max_grad_norm must be at least {MIN_GRAD_NORM:g}, got {self.max_grad_norm:g}")
        if finite("negative_weight", self.negative_weight) < 0:
            raise ValueError(f"negative_weight must not be below zero, got {self.negative_weight}")
        if not 0 <= finite("momentum", self.momentum) < 1:
            raise ValueError(f"momentum must be from 0 to below 1, got {self.momentum}")


RECIPES: dict[str, type[CooccurrencePlan] | type[ReconPlan]] = {"cooccurrence": CooccurrencePlan, "recon": ReconPlan}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One release: a vector of `num_coordinates` fixed-point integers of `scale` steps to the unit.

    clip: L2 bound of one user in real units. user_bound: the same in steps, rounding included. mechanism: all that the
    step may release, None when the plan asks for no noise. noise_variance: of the noise that each party adds that adds
    any, in steps squared, 0 for none.
    """

    index: int
    kind: StepKind
    num_coordinates: int
    clip: float
    scale: int
    user_bound: float
    mechanism: DiscreteGaussian | Skellam | None
    noise_variance: int


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A job. Fields that decide the guarantee are checked against each client's local policy.

    job_id: stable over resumption. noise: who adds it ("none" is for tests; policies refuse it unless they list it).
    mu: whole budget in Gaussian DP. epsilon, delta: the claim, at least what the accountant derives from `mu`.
    popularity_share: part of mu^2 spent on popularity. max_users: capacity of the sum over the whole cohort.
    bits: ring width. topology: what hides a tenant's sum. With "helpers": helpers, names on the roster, in order, and
    spare_helpers, how many of them may be absent. With "pairwise": num_parties, degree and threshold as in
    `PairwiseTerms`, and colluding, how many tenants of a round may work with the server; `shared` noise counts on
    min_tenants - colluding honest ones. What belongs to the other topology is empty or 0.
    cohorts: in how many parts, disjoint, each step is summed, min_tenants and min_users holding for each; trim: how
    many cohorts' values are cut off at either end of every coordinate; max_spread: how far apart, in clips, the means
    per declared user of two honest cohorts may be (`shared.robust_sum`).
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
    topology: Topology = "helpers"
    num_parties: int = 0
    degree: int = 0
    threshold: int = 0
    colluding: int = 0
    cohorts: int = 1
    trim: int = 0
    max_spread: float = 2.0

    def __post_init__(self) -> None:
        if not _JOB_ID.fullmatch(self.job_id):
            raise ValueError(f"job_id must be 1 to 40 of a-z, 0-9 and hyphens, got {self.job_id!r}")
        if not _DIGEST.fullmatch(self.catalogue_digest):
            raise ValueError("catalogue_digest must be a SHA-256 in hex")
        if self.topology not in get_args(Topology):
            raise ValueError(f"topology must be one of {', '.join(get_args(Topology))}, got {self.topology!r}")
        if self.noise not in NOISES_OF[self.topology]:
            choices, known = ", ".join(NOISES_OF[self.topology]), self.noise in get_args(Noise)
            why = f": topology {self.topology!r} has no other" if known else ""
            raise ValueError(f"noise must be one of {choices}, got {self.noise!r}{why}")
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
            self._check_topology()
            self._check_cohorts()
        except BadSetting as error:
            raise ValueError(str(error)) from error
        if self.recipe.num_head_items > self.num_items:
            raise ValueError(
                f"num_head_items {self.recipe.num_head_items} exceeds the catalogue's {self.num_items} items"
            )

    def _check_topology(self) -> None:
        if self.topology == "helpers":
            MaskSharing(helpers=self.helpers, spare=self.spare_helpers)
            numbers = ("num_parties", "degree", "threshold", "colluding")
            if any(getattr(self, name) for name in numbers):
                raise BadSetting(f"{', '.join(numbers)} are of topology 'pairwise', and 0 with helpers")
            return
        if self.helpers or self.spare_helpers:
            raise BadSetting("topology 'pairwise' has no helpers")
        _ = self.terms
        if not 0 <= self.colluding <= self.min_tenants - 2:
            # A sum with one honest party in it is that party's vector to all the others.
            raise BadSetting(
                f"colluding must be from 0 to min_tenants - 2 = {self.min_tenants - 2}, got {self.colluding}: a sum "
                "needs two honest tenants"
            )

    def _check_cohorts(self) -> None:
        if not 1 <= self.cohorts <= MAX_COHORTS:
            raise BadSetting(f"cohorts must be from 1 to {MAX_COHORTS}, got {self.cohorts}")
        if not 0 <= 2 * self.trim < self.cohorts:
            raise BadSetting(f"trim {self.trim} needs {2 * self.trim + 1} cohorts at least, there are {self.cohorts}")
        if not 0 < finite("max_spread", self.max_spread) <= 2:
            raise BadSetting(f"max_spread must be above 0 and at most 2, which compares nothing, got {self.max_spread}")
        if self.cohorts == 1:
            if self.max_spread != ONE_COHORT["max_spread"]:
                raise BadSetting("max_spread compares cohorts, and there is one")
            return
        if self.topology == "pairwise":
            raise BadSetting("cohorts are of topology 'helpers': a pairwise round sums all of its tenants at once")
        if self.max_users < self.least_cohorts * self.min_users:
            raise BadSetting(
                f"max_users {self.max_users} does not hold {self.least_cohorts} cohorts of min_users {self.min_users}"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of the canonical JSON; part of every context."""
        return sha256_hex(canonical_json(plan_to_json(self)))

    @cached_property
    def sharing(self) -> MaskSharing:
        """Which helper holds which mask. Raises BadSetting where there are no helpers."""
        return MaskSharing(helpers=self.helpers, spare=self.spare_helpers)

    @cached_property
    def terms(self) -> PairwiseTerms:
        """What the parties of a pairwise round agree on. Raises BadSetting for numbers that are none."""
        return PairwiseTerms(
            num_parties=self.num_parties,
            degree=self.degree,
            threshold=self.threshold,
            min_active=self.min_tenants,
        )

    @property
    def min_honest(self) -> int:
        """Tenants that are in every pairwise sum and keep their part of the noise to themselves."""
        return self.min_tenants - self.colluding

    @property
    def least_cohorts(self) -> int:
        """Cohorts that have to stand for a step to be released."""
        return 2 * self.trim + 1

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


def mechanisms(plan: TrainingPlan) -> tuple[DiscreteGaussian | Skellam, ...]:
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
    fields = _as_written(TrainingPlan, fields)
    if plan.cohorts == 1:
        fields = {name: value for name, value in fields.items() if name not in ONE_COHORT}
    return {
        **fields,
        "format": FORMAT,
        "helpers": list(plan.helpers),
        "recipe": {"name": plan.recipe_name, **_as_written(type(plan.recipe), vars(plan.recipe))},
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
        if not isinstance(fields["helpers"], list) or not all(type(name) is str for name in fields["helpers"]):
            raise ValueError("helpers must be a list of names")
        fields["helpers"] = tuple(fields["helpers"])
        # All of them with several cohorts, else none: a plan has one encoding.
        optional = set() if ONE_COHORT.keys() & fields.keys() else {*ONE_COHORT}
        if not optional and fields.get("cohorts") == 1:
            raise ValueError(f"{', '.join(ONE_COHORT)} are left out where there is one cohort")
        for name in TrainingPlan.__dataclass_fields__.keys() - fields.keys() - {"recipe"} - optional:
            raise KeyError(name)
        _same_types(TrainingPlan, {name: field for name, field in fields.items() if name != "helpers"})
        return TrainingPlan(recipe=kind(**recipe), **fields)
    except KeyError as error:
        raise MalformedMessage(f"plan: {error.args[0]!r} is missing or not known") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedMessage(f"plan: {error}") from error


def _user_step(plan: TrainingPlan, index: int, kind: StepKind, size: int, touched: int, mu: float) -> Step:
    def sensitivity(scale: int) -> float:
        return rounded_sensitivity(scale=scale, clip=1.0, num_touched=touched)

    return _step(plan, index, kind, size, touched, 1.0, sensitivity, mu)


def _gradient_step(plan: TrainingPlan, recipe: ReconPlan, index: int, mu: float) -> Step:
    size, clip = plan.num_items * recipe.num_factors, recipe.max_grad_norm

    def sensitivity(scale: int) -> float:
        return rounded_sum_sensitivity(scale=scale, clip=clip, num_coordinates=size, max_users=plan.max_users)

    # The whole sum is rounded at once, so one user may move the rounding of every coordinate.
    return _step(plan, index, "gradient", size, size, clip, sensitivity, mu)


def _step(
    plan: TrainingPlan,
    index: int,
    kind: StepKind,
    size: int,
    touched: int,
    clip: float,
    sensitivity: Callable[[int], float],
    mu: float,
) -> Step:
    num_noises, multiplier = _noises(plan, mu)
    scale = choose_scale(
        bits=plan.bits,
        max_users=plan.max_users,
        clip=clip,
        noise_multiplier=multiplier,
        num_noises=num_noises,
        sensitivity=sensitivity,
    )
    moved = sensitivity(scale)
    mechanism, variance = _mechanism(plan, size, touched, moved, mu)
    return Step(
        index=index,
        kind=kind,
        num_coordinates=size,
        clip=clip,
        scale=scale,
        user_bound=moved,
        mechanism=mechanism,
        noise_variance=variance,
    )


def _noises(plan: TrainingPlan, mu: float) -> tuple[int, float]:
    """How many independent noises the ring must hold at most, and the deviation of each over the sensitivity."""
    match plan.noise:
        case "none":
            return 0, 0.0
        case "helpers":
            return len(plan.sharing.slots), sqrt(plan.releases_per_step) / mu
        case "tenant":
            return MAX_TENANTS if plan.topology == "helpers" else plan.num_parties, 1 / mu
        case "shared":
            # Counted twice: a share's variance is rounded up to an even number, and a Skellam tail is a little heavier.
            return 2 * plan.num_parties, 1 / (mu * sqrt(plan.min_honest))


def _mechanism(
    plan: TrainingPlan, size: int, touched: int, moved: float, mu: float
) -> tuple[DiscreteGaussian | Skellam | None, int]:
    """What the step releases, and the variance that each party adds. moved: L2 sensitivity in steps."""
    if plan.noise == "none":
        return None, 0
    if plan.noise == "shared":
        share = share_of_variance((moved / mu) ** 2, plan.min_honest)
        # Of integers, |k| <= k^2; and Cauchy-Schwarz over the entries that one user can change. Rounded up.
        l1 = max(moved, nextafter(min(moved * sqrt(touched), moved * moved) * (1 + 2.0**-50), inf))
        return Skellam(variance=share * plan.min_honest, sensitivity=moved, l1_sensitivity=l1), share
    # Releases with noise of their own are one release of a longer vector, which a user moves sqrt(releases) as far.
    releases = plan.releases_per_step
    together = moved * sqrt(releases)
    noise_std = ceil(together / mu)
    counted = DiscreteGaussian(noise_std=noise_std, sensitivity=together, num_coordinates=releases * size)
    return counted, noise_std**2


def _same_types(kind: type, fields: dict[str, Any]) -> None:
    # JSON has one kind of number, Python has three: a bool for an int or an int for a float must not slip through.
    known = {name: field.type for name, field in kind.__dataclass_fields__.items()}  # type: ignore[attr-defined]
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r}")
        wanted = known[name]
        if wanted is int and (type(value) is not int or abs(value) >= 2**53):
            raise ValueError(f"{name} must be a whole number")
        if wanted is float and (type(value) is not float or not -inf < value < inf):
            # 1 and 1.0 would be two frames with one content and one digest.
            raise ValueError(f"{name} must be a finite number, written with a point or an exponent")
        if wanted is str and type(value) is not str:
            raise ValueError(f"{name} must be text")


def _as_written(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    # Who makes a plan in Python may give 1 for a real number; the one form of that is 1.0.
    reals = {name for name, field in kind.__dataclass_fields__.items() if field.type is float}  # type: ignore[attr-defined]
    return {name: float(value) if name in reals else value for name, value in fields.items()}


def _at_least(minimum: int, **fields: int) -> None:
    for name, value in fields.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
