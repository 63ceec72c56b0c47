"""The local policy: the least protection that this client insists on, and the check of a plan against it."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from shared import accounting
from shared.accounting import Budget
from shared.catalogue import CatalogueSnapshot
from shared.errors import BadSetting, PolicyViolation
from shared.plan import MAX_COHORTS, CooccurrencePlan, ReconPlan, TrainingPlan, mechanisms
from shared.roster import Role, Roster
from shared.secagg.graph import least_threshold, share_of
from shared.secagg.pairwise_terms import PairwiseMinima

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"[0-9a-f]{64}")
NOISES = ("helpers", "tenant", "shared", "none")
TOPOLOGIES = ("helpers", "pairwise")
RECIPES = ("cooccurrence", "recon")
ROLES: tuple[str, ...] = get_args(Role)
# The plan's stated epsilon is a decimal that the same accountant rounded up or copied; this only forgives the last bit.
_RELATIVE_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class PinnedHelper:
    """Public key of a helper, Ed25519, 32 bytes in hex. Its sealing keys change; it certifies them with this one."""

    signing: str


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@dataclass(frozen=True, kw_only=True)
class LocalPolicy:
    """Validated settings; the text of each field below is the comment in the file in policy.toml.

    Construction raises BadSetting naming the key.
    """

    name: str = field(
        metadata=_doc("This party's name on the federation's roster: a-z, 0-9, dots, hyphens, underscores.")
    )
    epsilon: float = field(
        default=2.0,
        metadata=_doc(
            "Whole privacy budget of every user here, over all jobs for ever (unit: one user with their whole\n"
            "history; neighbours: add or remove one user). When it is spent the client refuses. `inf` switches the\n"
            'budget off and is needed, on purpose, to allow the noise "none". Set it to max_epsilon_per_job for every\n'
            "job that you mean to take part in."
        ),
    )
    delta: float = field(
        default=1e-6,
        metadata=_doc("The delta that goes with epsilon, and the largest that a job may state. Keep it below 1/users."),
    )
    max_epsilon_per_job: float = field(
        default=2.0,
        metadata=_doc(
            "The largest epsilon that all releases under one job's name may cost together, repeated attempts too: a\n"
            "wasted attempt is charged like any other, and what would pass this is refused. Twice a plan's epsilon\n"
            "leaves room for two extra attempts of a plan's largest step, so 2.0 is for plans of epsilon 1. A plan\n"
            "that itself costs all of it is accepted and cannot be repeated.\n"
            "A server can give a job another name, so `epsilon` stays the bound on everything."
        ),
    )
    serve_as: tuple[str, ...] = field(
        default=ROLES,
        metadata=_doc(
            'What this party may be asked for, whatever the roster calls it: "tenant" (contributions from its own\n'
            'histories), "helper" (sums of the masks of others). With ["helper"] alone, for an auditor, the home\n'
            "keeps no store, and whoever asks it for a contribution is refused."
        ),
    )
    declared_users: int = field(
        default=1,
        metadata=_doc(
            "The number of users that this party states in public. It is a figure you choose (a round one), not a\n"
            "count taken from the data, and must not be below the real number."
        ),
    )
    min_tenants: int = field(
        default=2,
        metadata=_doc("The least number of parties whose contributions are summed before anything is opened."),
    )
    min_users: int = field(default=100, metadata=_doc("The least number of declared users behind a sum."))
    min_cohorts: int = field(
        default=1,
        metadata=_doc(
            "The least number of cohorts in which a step must be summed: with 3 or more, one poisoned sum can be told\n"
            "from the others and left out, at the cost of noise. 1: no cohorts are asked for."
        ),
    )
    max_cohorts: int = field(
        default=MAX_COHORTS,
        metadata=_doc(
            "The largest number. Each cohort's noisy sum is opened by itself, so min_tenants and min_users hold for\n"
            "every cohort; 1 keeps this party's sums among those of all tenants."
        ),
    )
    min_helpers: int = field(
        default=2,
        metadata=_doc(
            "The least number of helpers that would have to work together with the server to open a contribution:\n"
            "all of a plan's helpers, less those that the plan lets be absent. Any so many of the pinned ones may be\n"
            "named, so raise it with every pin, unless plans have spare helpers and you trust each so many."
        ),
    )
    min_bits: int = field(default=16, metadata=_doc("The narrowest ring, in bits, for masked sums: 16, 24, 32 or 64."))
    allowed_noise: tuple[str, ...] = field(
        default=("helpers", "tenant"),
        metadata=_doc(
            'Who may add the noise: "helpers" (holds if one helper is honest, one more for each that a plan lets be\n'
            'absent), "tenant" (this party adds all of it itself, holds against everybody), "shared" (pairwise only:\n'
            "every party adds a part, holds while no more parties work with the server than pairwise_corrupt and the\n"
            'plan count on), "none" (no protection at all, for tests; needs epsilon = inf).'
        ),
    )
    allowed_topologies: tuple[str, ...] = field(
        default=("helpers",),
        metadata=_doc(
            'What may hide this party\'s sums: "helpers" (masks shared with pinned helpers), "pairwise" (masks\n'
            "between the parties of a round, no helpers; rests on the settings below)."
        ),
    )
    pairwise_corrupt: float = field(
        default=0.2,
        metadata=_doc(
            "Pairwise: the share of the parties on the roster that may work with the server, rounded up. Federations\n"
            "of 3 or 4 cannot bear 0.2 and a drop-out as well; set a smaller share only if you mean it: with 0.0 the\n"
            "server with a single other party may see what this party sends."
        ),
    )
    pairwise_dropped: float = field(
        default=0.1,
        metadata=_doc(
            "Pairwise: the share of the parties that may fall silent in a round, rounded up, for which a sum should\n"
            "still open. 0.0 protects as well; then one silent party costs everybody the attempt."
        ),
    )
    pairwise_privacy_bits: int = field(
        default=40,
        metadata=_doc(
            "Pairwise, beyond 100 parties: the graph of masks fails with probability 2^-this at most, for each try of\n"
            "a server that can try many."
        ),
    )
    pairwise_recovery_bits: int = field(
        default=20,
        metadata=_doc("Pairwise, beyond 100 parties: a sum cannot be opened with probability 2^-this at most."),
    )
    allowed_recipes: tuple[str, ...] = field(
        default=RECIPES, metadata=_doc('Recipes that may be trained: "cooccurrence", "recon".')
    )
    max_head_items: int = field(
        default=4_000,
        metadata=_doc(
            "Largest number of head items in a job; memory and upload of a cooccurrence job grow with its square."
        ),
    )
    max_items_per_user: int = field(
        default=1_000, metadata=_doc("Largest number of a user's most recent items that may enter a job.")
    )
    max_rounds: int = field(default=200, metadata=_doc("Largest number of rounds in a recon job."))
    max_num_factors: int = field(default=512, metadata=_doc("Largest number of factors in a recon job."))
    max_grad_norm: float = field(
        default=10.0, metadata=_doc("Largest L2 clip of one user's contribution in a recon job.")
    )
    issuer_public_key: str = field(
        default="",
        metadata=_doc("Ed25519 public key (64 hex digits) of whoever signs the roster. Empty: no job is accepted."),
    )
    publisher_public_key: str = field(
        default="",
        metadata=_doc(
            "Ed25519 public key (64 hex digits) of whoever signs published models. Empty: no model is accepted."
        ),
    )
    app_digests: tuple[str, ...] = field(
        default=(),
        metadata=_doc("SHA-256 digests (64 hex digits) of the app bundles that this node may run. Empty: none is run."),
    )
    answer_seconds: float = field(
        default=30.0,
        metadata=_doc(
            "An answer that needed the histories leaves so many seconds after its question came in, or at the next\n"
            "multiple if it was not ready: how long summing takes would tell how many interactions are held here. Set\n"
            "it to three times what the longest answer takes (the log warns of each late one). 0 switches it off. A\n"
            "server that waits for less than twice as long is refused."
        ),
    )
    ledger_marks: str = field(
        default="",
        metadata=_doc(
            "Absolute path of the ledger's marks, when they are kept outside the home: on another disk, or outside\n"
            "the backup set, they also tell when a whole home was put back to an older state. Move the file there,\n"
            "then set this."
        ),
    )
    helpers: Mapping[str, PinnedHelper] = field(
        default_factory=dict,
        metadata=_doc(
            "Helpers of which this party trusts that no min_helpers work together with the server: a plan may name\n"
            "any of them. With their pinned signing keys, compared with each helper in person. A helper certifies its\n"
            "sealing keys with this one.\n"
            '[helpers.auditor]\nsigning = "<64 hex digits, Ed25519>"'
        ),
    )

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), "name", "must be 1 to 63 of a-z, 0-9, '.', '_' and '-'")
        for key in ("epsilon", "max_epsilon_per_job", "max_grad_norm"):
            _require(getattr(self, key) > 0, key, "must be above zero")
        _require(math.isfinite(self.max_grad_norm), "max_grad_norm", "must be finite")
        _require(0 < self.delta < 1, "delta", "must lie between 0 and 1")
        for key in ("declared_users", "min_tenants", "min_users", "min_cohorts", "max_rounds", "max_num_factors"):
            _require(getattr(self, key) >= 1, key, "must be at least 1")
        for key in ("min_helpers", "max_head_items", "max_items_per_user"):
            _require(getattr(self, key) >= 2, key, "must be at least 2")
        _require(self.min_cohorts <= self.max_cohorts, "max_cohorts", "must not be below min_cohorts")
        _require(self.max_cohorts <= MAX_COHORTS, "max_cohorts", f"must be at most {MAX_COHORTS}")
        _require(self.min_bits in (16, 24, 32, 64), "min_bits", "must be 16, 24, 32 or 64")
        _members("allowed_noise", self.allowed_noise, NOISES)
        _members("allowed_recipes", self.allowed_recipes, RECIPES)
        _members("serve_as", self.serve_as, ROLES)
        _members("allowed_topologies", self.allowed_topologies, TOPOLOGIES)
        for key in ("pairwise_corrupt", "pairwise_dropped"):
            _require(0 <= getattr(self, key) < 1, key, "must be a share from 0 to below 1")
        _require(0 <= self.answer_seconds <= 3_600, "answer_seconds", "must be from 0 to 3600")
        for key in ("pairwise_privacy_bits", "pairwise_recovery_bits"):
            _require(1 <= getattr(self, key) <= 1_000, key, "must be from 1 to 1000")
        if "none" in self.allowed_noise:
            _require(math.isinf(self.epsilon), "epsilon", 'must be inf where allowed_noise lists "none"')
        for key in ("issuer_public_key", "publisher_public_key"):
            _require(not getattr(self, key) or _is_key(getattr(self, key)), key, "must be 64 hex digits, or empty")
        _require(all(map(_is_key, self.app_digests)), "app_digests", "must list digests of 64 hex digits")
        _require(not self.ledger_marks or Path(self.ledger_marks).is_absolute(), "ledger_marks", "must be absolute")
        for name, helper in self.helpers.items():
            _require(bool(_NAME.fullmatch(name)), "helpers", "has a table whose name is not a party's name")
            _require(_is_key(helper.signing), f"helpers.{name}.signing", "must be 64 hex digits")
        keys = [helper.signing for helper in self.helpers.values()]
        # One party under two names would hold all the masks alone.
        _require(len(set(keys)) == len(keys), "helpers", "pins one key twice; every helper has keys of its own")

    def pairwise_minima(self, plan: TrainingPlan) -> PairwiseMinima:
        """What this client holds a pairwise round of `plan` against: the stricter of its own terms and the plan's."""
        return PairwiseMinima(
            corrupt=self.pairwise_corrupt,
            dropped=self.pairwise_dropped,
            privacy_bits=self.pairwise_privacy_bits,
            recovery_bits=self.pairwise_recovery_bits,
            min_active=max(self.min_tenants, plan.min_tenants),
            min_users=max(self.min_users, plan.min_users),
            least_colluding=plan.colluding,
        )

    @property
    def helpers_to_spare(self) -> str:
        """What to tell the owner of a policy under which a plan need not name all pinned helpers, else empty."""
        pins, least = len(self.helpers), self.min_helpers
        if "helpers" not in self.allowed_topologies or pins <= least:
            return ""
        return (
            f"{pins} helpers are pinned and min_helpers is {least}: the server may name any {least} of them, and "
            f"whichever {least} work together with it open what is sent here. Raise min_helpers to {pins} in "
            f"policy.toml, unless you trust every {least} of them and plans have spare helpers"
        )

    @property
    def serves_tenant(self) -> bool:
        """Whether this party may ever be asked for its histories; False for a helper that is nothing else."""
        return "tenant" in self.serve_as

    @property
    def budget(self) -> Budget | None:
        """What the ledger enforces; None where `epsilon = inf` switched it off."""
        return self._budget(self.epsilon)

    @property
    def job_budget(self) -> Budget | None:
        """What the ledger enforces over the releases of one job name; None where it is `inf`."""
        return self._budget(self.max_epsilon_per_job)

    def _budget(self, most: float) -> Budget | None:
        shared = "shared" in self.allowed_noise
        return None if math.isinf(most) else Budget(epsilon=most, delta=self.delta, shared=shared)


@dataclass(frozen=True)
class Demand:
    """One comparison: what the plan asks, and what the policy allows."""

    field: str
    asked: Any
    allowed: str
    holds: bool


def check_plan(policy: LocalPolicy, plan: TrainingPlan, roster: Roster, catalogue: CatalogueSnapshot) -> None:
    """Raise PolicyViolation, naming field, asked and allowed, unless every field of `plan` is within the policy."""
    for demand in demands(policy, plan, roster, catalogue):
        if not demand.holds:
            raise PolicyViolation(
                f"plan {plan.job_id}: {demand.field} is {demand.asked}, this client's policy allows {demand.allowed}"
            )


def demands(
    policy: LocalPolicy, plan: TrainingPlan, roster: Roster | None, catalogue: CatalogueSnapshot
) -> Iterator[Demand]:
    """Every comparison in a fixed order, cheap ones first. `roster` may be None for a look ahead (`preview`)."""
    digest = plan.catalogue_digest
    yield Demand("catalogue_digest", f"{digest[:12]}…", f"{catalogue.digest[:12]}…", digest == catalogue.digest)
    yield Demand("num_items", plan.num_items, str(catalogue.num_items), plan.num_items == catalogue.num_items)
    yield _one_of("recipe", plan.recipe_name, policy.allowed_recipes)
    yield _one_of("topology", plan.topology, policy.allowed_topologies)
    yield _one_of("noise", plan.noise, policy.allowed_noise)
    yield _at_least("min_tenants", plan.min_tenants, policy.min_tenants)
    yield _at_least("min_users", plan.min_users, policy.min_users)
    yield _at_least("max_users", plan.max_users, policy.declared_users)
    yield _at_least("bits", plan.bits, policy.min_bits)
    yield _at_least("cohorts", plan.cohorts, policy.min_cohorts)
    yield _at_most("cohorts", plan.cohorts, policy.max_cohorts)
    if plan.topology == "helpers":
        yield _at_least("helpers", len(plan.helpers), policy.min_helpers)
        yield _at_most("spare_helpers", plan.spare_helpers, max(0, len(plan.helpers) - policy.min_helpers))
        yield from _helper_demands(policy, plan, roster)
    else:
        yield from _pairwise_demands(policy, plan, roster)
    yield from _recipe_demands(policy, plan)
    yield from _privacy_demands(policy, plan)


def _privacy_demands(policy: LocalPolicy, plan: TrainingPlan) -> Iterator[Demand]:
    yield _at_most("delta", plan.delta, policy.delta)
    if plan.noise == "none":  # only a policy that lists it, and so has no budget, comes this far
        return
    allowed = min(policy.max_epsilon_per_job, policy.epsilon)
    yield _at_most("epsilon", plan.epsilon, allowed)
    derived = accounting.epsilon(mechanisms(plan), plan.delta)
    honest = derived <= plan.epsilon * (1 + _RELATIVE_SLACK)
    yield Demand("epsilon", f"stated as {plan.epsilon:g}", f"{derived:.6g} or more, which its noise amounts to", honest)
    # A policy that takes shared noise counts all noise another way, and the ledger would refuse the last step.
    for budget in (policy.job_budget, policy.budget):
        if budget is not None and budget.shared:
            counted = accounting.cost(budget, mechanisms(plan))
            asked = f"{counted:.6g} as policies that allow shared noise count it"
            holds = counted <= budget.epsilon * (1 + _RELATIVE_SLACK)
            yield Demand("epsilon", asked, f"{budget.epsilon:g} or less", holds)


def _recipe_demands(policy: LocalPolicy, plan: TrainingPlan) -> Iterator[Demand]:
    recipe = plan.recipe
    yield _at_most("num_head_items", recipe.num_head_items, policy.max_head_items)
    if isinstance(recipe, CooccurrencePlan):
        yield _at_most("max_head_items_per_user", recipe.max_head_items_per_user, policy.max_items_per_user)
    elif isinstance(recipe, ReconPlan):
        yield _at_most("num_rounds", recipe.num_rounds, policy.max_rounds)
        yield _at_most("num_factors", recipe.num_factors, policy.max_num_factors)
        yield _at_most("max_items_per_user", recipe.max_items_per_user, policy.max_items_per_user)
        yield _at_most("max_grad_norm", recipe.max_grad_norm, policy.max_grad_norm)


def _helper_demands(policy: LocalPolicy, plan: TrainingPlan, roster: Roster | None) -> Iterator[Demand]:
    listed = {} if roster is None else {member.name: member for member in roster.entries}
    for name in plan.helpers:
        pin = policy.helpers.get(name)
        yield _one_of("helpers", name, tuple(policy.helpers))
        if pin is None or roster is None:
            continue
        member = listed.get(name)
        yield Demand(
            "helpers",
            name,
            "parties on the roster with the role helper",
            member is not None and "helper" in member.roles,
        )
        if member is not None:
            same = member.signing_key == pin.signing
            yield Demand("helpers", f"{name} with another signing key", f"{name} with the pinned key", same)


def _pairwise_demands(policy: LocalPolicy, plan: TrainingPlan, roster: Roster | None) -> Iterator[Demand]:
    minima = policy.pairwise_minima(plan)
    num_parties, shares = plan.num_parties, (policy.pairwise_corrupt, policy.pairwise_dropped)
    try:
        least = minima.least_degree(plan.terms)
    except BadSetting as error:
        allowed = (
            f"only what bears pairwise_corrupt = {shares[0]:g} and pairwise_dropped = {shares[1]:g} ({error}); "
            "federations of 3 or 4 need smaller shares, which are set in policy.toml on purpose"
        )
        yield Demand("num_parties", num_parties, allowed, False)
        return
    yield _at_least("degree", plan.degree, least)
    # The server chooses whom it invites, so the share is of everybody whom it could.
    num_tenants = num_parties if roster is None else sum("tenant" in member.roles for member in roster.entries)
    yield _at_least("colluding", plan.colluding, share_of(policy.pairwise_corrupt, num_tenants))
    degree = min(plan.degree, num_parties - 1)
    threshold = least_threshold(num_parties, degree, minima.colluding(num_tenants), policy.pairwise_privacy_bits)
    yield _at_least("threshold", plan.threshold, threshold)


def _at_least(field: str, asked: float, least: float) -> Demand:
    return Demand(field, asked, f"{least:g} or more", asked >= least)


def _at_most(field: str, asked: float, most: float) -> Demand:
    return Demand(field, asked, f"{most:g} or less", math.isfinite(asked) and asked <= most)


def _one_of(field: str, asked: str, allowed: tuple[str, ...]) -> Demand:
    return Demand(field, repr(asked), ", ".join(allowed) or "none (the list is empty)", asked in allowed)


def _members(key: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    _require(bool(values) and set(values) <= set(known), key, f"must list one or more of {', '.join(known)}")


def _is_key(value: str) -> bool:
    return bool(_KEY.fullmatch(value))


def _require(condition: bool, key: str, what: str) -> None:
    if not condition:
        raise BadSetting(f"setting {key} {what}")
