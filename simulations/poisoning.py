"""What malicious tenants can do to the model of `cooccurrence`, and what cohorts, tests and trimming leave of it.

The plan, the tests of the sums, the total and the model are the product's own code; only the transport is left out, and
the noise is continuous and from named seeds. Tenants declare the number of users that they have.

    push   every declared user is made to like one chosen item and to see it beside popular ones; each within the clip
    flip   the sum of the tenant's own users with its sign turned, as long as its declared users may make it
    sly    a push as long as all users declared in the tenant's cohort may make it, which no test of one sum can tell
    loud   a push a hundred times too long

What is pushed is an item that nobody would be shown without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from server import learning
from server.learning import Learned, Released
from shared.errors import BadSetting
from shared.interactions import Interactions, concatenate
from shared.metrics import hit_rate, ndcg
from shared.plan import CooccurrencePlan, Step, TrainingPlan, make_plan, steps
from shared.ranking import FoldIn, RankingModel
from shared.recipes.cooccurrence import condensed_index, pair_sum, popularity_vectors
from shared.recipes.readouts import WeightsSettings
from shared.robust_sum import CohortSum, Combined, combine, judge
from simulations.datasets import Dataset, load_folder
from simulations.evaluate import Cases, Split, leave_last_out, rank_cases, sample_cases, select_users
from simulations.marketplace import generate
from simulations.private import model_scorer
from simulations.tenants import TenantsBy, assign_tenants

Attack = Literal["none", "push", "flip", "sly", "loud"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
# A deployed plan of the example in the operating guide; nothing here is tuned on the data.
_RECIPE = CooccurrencePlan(num_head_items=300, gamma=0.5, max_head_items_per_user=50)
_READOUT = WeightsSettings(threshold=1.0, ridge=0.003, diagonal=0.5)
_FOLD_IN = FoldIn(recency=1.0)
_NUM_HELPERS, _POPULARITY_SHARE, _MAX_ATTEMPTS = 2, 0.1, 3
# Popular items that a pushed one is put beside, and how many times too long a loud push is.
_COMPANIONS, _TOO_LOUD = 50, 100.0
# A sly push leaves what the honest members of its cohort are likely to fill.
_SLY = 0.7
_TEST_USERS = 3_000
# Of the generated marketplace.
_NUM_ITEMS = 600
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a step is summed: fields of the plan with these names."""

    cohorts: int
    trim: int
    max_spread: float = 2.0

    @property
    def text(self) -> str:
        if self.cohorts == 1:
            return "one sum"
        spread = "" if self.max_spread >= 2 else f", spread {self.max_spread:g}"
        return f"{self.cohorts} cohorts{f', trim {self.trim}' if self.trim else ''}{spread}"


RULES = (
    Rule(cohorts=1, trim=0),
    Rule(cohorts=5, trim=0),
    Rule(cohorts=5, trim=0, max_spread=0.4),
    Rule(cohorts=5, trim=1),
    Rule(cohorts=8, trim=2),
)


@dataclass(frozen=True, kw_only=True)
class PoisonSettings:
    """What to run. data: a folder, None for a generated marketplace. epsilon, delta: of the job."""

    data: Path | None
    epsilon: float
    delta: float
    num_seeds: int
    num_tenants: int = 16
    tenants_by: TenantsBy = "taste"
    rules: tuple[Rule, ...] = RULES
    malicious: tuple[int, ...] = (0, 1, 2)
    attacks: tuple[Attack, ...] = ("push", "flip", "sly", "loud")
    num_users: int = 10_000

    def __post_init__(self) -> None:
        if not self.epsilon > 0 or not 0 < self.delta < 1:
            raise BadSetting(f"epsilon must be above 0 and delta between 0 and 1, got {self.epsilon} and {self.delta}")
        if not self.rules:
            raise BadSetting("name at least one rule")
        least = 2 * max(rule.cohorts for rule in self.rules)
        if self.num_tenants < least:
            raise BadSetting(f"{self.num_tenants} tenants are too few for the rules, which need {least}")
        if not 0 <= min(self.malicious) <= max(self.malicious) < self.num_tenants:
            raise BadSetting(f"malicious tenants must be from 0 to {self.num_tenants - 1}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One job. ndcg_at_10, exposure: None where no model came of it. exposure: share of the users who have not used the
    pushed item and get it among their first ten. noise_cost: of the pairs, to those in one sum. dropped: cohorts, a
    step. share: of all declared users, what the malicious tenants declare."""

    ndcg_at_10: float | None
    exposure: float | None
    noise_cost: float
    dropped: float
    attempts: int
    share: float


@dataclass(frozen=True, kw_only=True)
class PoisonRow:
    """Outcomes of one rule and attack over the seeds. trained: seeds that gave a model; means are over those."""

    rule: str
    attack: Attack
    malicious: int
    ndcg_at_10: float | None
    ndcg_sd: float | None
    exposure: float | None
    noise_cost: float | None
    dropped: float
    share: float
    trained: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """How far apart the means of honest cohorts are, in clips, at most over the seeds, before noise."""

    cohorts: int
    popularity: float
    pairs: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Everything that the jobs of one seed have in common. tenants: training histories. test: cases for NDCG.

    exposed: the test users without the pushed item, with it as their target.
    """

    plan: TrainingPlan
    tenants: Sequence[Interactions]
    test: Cases
    exposed: Cases
    item: int
    features: NDArray[np.float32]
    popularity: Sequence[NDArray[np.float64]]
    pairs: dict[bytes, list[NDArray[np.float64]]] = field(default_factory=dict)

    def honest(self, step: Step, inputs: learning.Inputs) -> Sequence[NDArray[np.float64]]:
        """The sum of each tenant's clipped users, in real units; pairs of a head are counted once."""
        if step.kind == "popularity":
            return self.popularity
        head = inputs["head"]
        key = head.tobytes()
        if key not in self.pairs:
            self.pairs.clear()
            self.pairs[key] = [
                pair_sum(tenant, head, gamma=_RECIPE.gamma, max_head_items_per_user=_RECIPE.max_head_items_per_user)
                for tenant in self.tenants
            ]
        return self.pairs[key]


def run_poison(
    settings: PoisonSettings, progress: Progress = lambda _: None
) -> tuple[tuple[PoisonRow, ...], tuple[Spreads, ...], str]:
    """Every rule against every attack, over the seeds; how far apart honest cohorts are; and the name of the data.

    Raises MalformedFile, NoInteractions or BadSetting.
    """
    found: dict[tuple[Rule, Attack, int], list[Outcome]] = {}
    spreads: dict[int, list[tuple[float, float]]] = {}
    dataset = _read(settings)
    features, split = dataset.features, leave_last_out(dataset)
    for seed in range(settings.num_seeds):
        scene = _scene(settings, split, features, seed)
        for rule in settings.rules:
            if rule.cohorts > 1 and len(spreads.get(rule.cohorts, ())) == seed:
                spreads.setdefault(rule.cohorts, []).append(_spread(scene, rule.cohorts, seed))
            for attack, malicious in _cases(settings):
                progress(f"seed {seed}: {rule.text}; {attack}, {malicious} malicious")
                outcome = run_job(scene, rule, attack, malicious, seed)
                found.setdefault((rule, attack, malicious), []).append(outcome)
    rows = tuple(_row(rule, attack, malicious, outcomes) for (rule, attack, malicious), outcomes in found.items())
    told = tuple(
        Spreads(cohorts=cohorts, popularity=max(p for p, _ in pairs), pairs=max(q for _, q in pairs))
        for cohorts, pairs in spreads.items()
    )
    return rows, told, dataset.name + (f", sha256 {dataset.sha256}" if dataset.sha256 else "")


def run_job(scene: Scene, rule: Rule, attack: Attack, malicious: int, seed: int) -> Outcome:
    """One job by `rule` with `malicious` tenants, drawn by the seed, the same ones whatever the rule and the attack."""
    plan = replace(scene.plan, cohorts=rule.cohorts, trim=rule.trim, max_spread=rule.max_spread)
    users = np.array([tenant.num_users for tenant in scene.tenants])
    bad = frozenset(np.random.default_rng([seed, 1]).permutation(len(users))[:malicious].tolist())
    share = float(users[list(bad)].sum() / users.sum())
    rng = np.random.default_rng([seed, 2])
    learned = Learned()
    dropped: list[int] = []
    for step in steps(plan):
        inputs = learning.inputs(plan, learned)
        total, drops = _total(scene, step, inputs, attack, bad, rule, rng)
        dropped += drops
        if total is None:
            break
        learned = learning.extend(plan, learned, Released.of(total))
    found: tuple[float | None, float | None, float] = (None, None, 0.0)
    if len(learned.releases) == len(steps(plan)):
        model = learning.ranking_model(plan, learned, _READOUT, _FOLD_IN)
        found = (*_measured(scene, model), learning.noise_cost(plan, learned, 1))
    return Outcome(
        ndcg_at_10=found[0],
        exposure=found[1],
        noise_cost=found[2],
        dropped=sum(dropped) / len(dropped),
        attempts=len(dropped),
        share=share,
    )


def _total(
    scene: Scene,
    step: Step,
    inputs: learning.Inputs,
    attack: Attack,
    bad: frozenset[int],
    rule: Rule,
    rng: np.random.Generator,
) -> tuple[Combined | None, list[int]]:
    """The released total, None where every attempt was abandoned; and the cohorts dropped in each attempt."""
    honest = scene.honest(step, inputs)
    dropped: list[int] = []
    for _ in range(_MAX_ATTEMPTS):
        sums = _cohort_sums(scene, step, honest, inputs, attack, bad, rule, rng)
        drops = {drop.cohort for drop in judge(sums, step=step, max_spread=rule.max_spread)}
        dropped.append(len(drops))
        standing = [each for each in sums if each.cohort not in drops]
        if len(standing) >= 2 * rule.trim + 1:
            return combine(standing, trim=rule.trim), dropped
    return None, dropped


def _cohort_sums(
    scene: Scene,
    step: Step,
    honest: Sequence[NDArray[np.float64]],
    inputs: learning.Inputs,
    attack: Attack,
    bad: frozenset[int],
    rule: Rule,
    rng: np.random.Generator,
) -> list[CohortSum]:
    places = rng.permutation(len(honest)) % rule.cohorts
    noise_std = sqrt(_NUM_HELPERS * step.noise_variance)
    sums = []
    for cohort in range(rule.cohorts):
        members = np.flatnonzero(places == cohort).tolist()
        users = {member: scene.tenants[member].num_users for member in members}
        declared = sum(users.values())
        # Partners in one cohort that are sly at once would pass what its users can do together.
        sly = _SLY * declared / max(1, sum(member in bad for member in members))
        total = np.zeros(step.num_coordinates)
        for member in members:
            if member in bad and attack != "none":
                length = {"sly": sly, "loud": _TOO_LOUD * users[member]}.get(attack, float(users[member]))
                total += _poison(scene, step, honest[member], inputs, attack, length)
            else:
                total += honest[member]
        noisy = np.rint(total * step.scale + noise_std * rng.standard_normal(len(total))).astype(np.int64)
        sums.append(
            CohortSum(cohort=cohort, total=noisy, num_users=declared, num_tenants=len(members), num_noises=_NUM_HELPERS)
        )
    return sums


def _poison(
    scene: Scene,
    step: Step,
    own: NDArray[np.float64],
    inputs: learning.Inputs,
    attack: Attack,
    length: float,
) -> NDArray[np.float64]:
    """What a malicious tenant sends in place of the sum `own`, of norm `length`."""
    if attack == "flip":
        size = float(np.linalg.norm(own))
        return -own * (length / size) if size else own
    pushed = np.zeros(step.num_coordinates)
    if step.kind == "popularity":
        pushed[scene.item] = length
        return pushed
    places = np.flatnonzero(inputs["head"] == scene.item)
    if len(places) == 0:
        return pushed
    others = np.array([rank for rank in range(_COMPANIONS + 1) if rank != places[0]][:_COMPANIONS])
    low, high = np.minimum(others, places[0]), np.maximum(others, places[0])
    pushed[condensed_index(low, high, len(inputs["head"]))] = length / sqrt(len(others))
    return pushed


def _measured(scene: Scene, model: RankingModel) -> tuple[float, float]:
    scorer = model_scorer(model, scene.features)
    return ndcg(rank_cases(scorer, scene.test), 10), hit_rate(rank_cases(scorer, scene.exposed), 10)


def _spread(scene: Scene, cohorts: int, seed: int) -> tuple[float, float]:
    # Of honest cohorts, with the head of the exact popularity.
    exact = Released(total=np.rint(np.sum(scene.popularity, axis=0) * steps(scene.plan)[0].scale).astype(np.int64),
                     num_users=1, num_tenants=1, num_noises=0)  # fmt: skip
    inputs = learning.inputs(scene.plan, Learned(releases=(exact,)))
    places = np.random.default_rng([seed, 3]).permutation(len(scene.tenants)) % cohorts
    users = np.array([tenant.num_users for tenant in scene.tenants])
    found = []
    for step in steps(scene.plan):
        honest = np.stack(scene.honest(step, inputs))
        means = [honest[places == each].sum(axis=0) / users[places == each].sum() for each in range(cohorts)]
        found.append(max(float(np.linalg.norm(one - other)) for one in means for other in means))
    return found[0], found[1]


def _cases(settings: PoisonSettings) -> list[tuple[Attack, int]]:
    attacked = [(attack, count) for count in settings.malicious if count for attack in settings.attacks]
    return [("none", 0), *attacked] if 0 in settings.malicious else attacked


def _read(settings: PoisonSettings) -> Dataset:
    if settings.data is not None:
        return load_folder(settings.data)
    market = generate(seed=1, num_users=settings.num_users, num_items=_NUM_ITEMS)
    histories = concatenate([tenant.interactions for tenant in market.tenants])
    return Dataset(
        name="generated marketplace",
        histories=histories,
        targets=None,
        user_ids=(),
        item_ids=tuple(item.id for item in market.items),
        features=np.zeros((histories.num_items, 0), dtype=np.float32),
        order_column="",
        num_repeats=0,
        sha256="",
    )


def _scene(settings: PoisonSettings, split: Split, features: NDArray[np.float32], seed: int) -> Scene:
    rng = np.random.default_rng([seed, 0])
    rows = assign_tenants(split.train, settings.num_tenants, settings.tenants_by, rng)
    tenants = [select_users(split.train, users) for users in rows]
    popularity = [popularity_vectors(tenant).total() for tenant in tenants]
    # The item in the middle of the exact order: far from every head.
    item = int(np.argsort(-np.sum(popularity, axis=0), kind="stable")[split.train.num_items // 2])
    test = sample_cases(split.test, _TEST_USERS, rng)
    seen = np.zeros(test.histories.num_users, dtype=bool)
    seen[test.histories.rows()[test.histories.items == item]] = True
    without = np.flatnonzero(~seen)
    exposed = Cases(
        histories=select_users(test.histories, without), targets=np.full(len(without), item, dtype=np.int64)
    )
    plan = make_plan(
        job_id="poison",
        recipe=_RECIPE,
        catalogue_digest="0" * 64,
        num_items=split.train.num_items,
        noise="helpers",
        epsilon=settings.epsilon,
        delta=settings.delta,
        popularity_share=_POPULARITY_SHARE,
        min_tenants=2,
        min_users=2,
        max_users=2 * split.train.num_users,
        bits=64,
        helpers=tuple(f"helper-{number}" for number in range(_NUM_HELPERS)),
    )
    return Scene(
        plan=plan, tenants=tenants, test=test, exposed=exposed, item=item, features=features, popularity=popularity
    )


def _row(rule: Rule, attack: Attack, malicious: int, outcomes: Sequence[Outcome]) -> PoisonRow:
    trained = [each for each in outcomes if each.ndcg_at_10 is not None]
    scores = [each.ndcg_at_10 for each in trained if each.ndcg_at_10 is not None]

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return PoisonRow(
        rule=rule.text,
        attack=attack,
        malicious=malicious,
        ndcg_at_10=mean(scores),
        ndcg_sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        exposure=mean([each.exposure for each in trained if each.exposure is not None]),
        noise_cost=mean([each.noise_cost for each in trained]),
        dropped=float(np.mean([each.dropped for each in outcomes])),
        share=float(np.mean([each.share for each in outcomes])),
        trained=len(trained),
        runs=len(outcomes),
    )
