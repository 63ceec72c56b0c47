"""One experiment: tune on validation, measure on test over noise seeds, with every reference and control beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.accounting import PrivacyStatement
from shared.errors import BadSetting
from shared.interactions import Interactions, concatenate
from shared.metrics import hit_rate, ndcg
from shared.plan import ReconPlan
from shared.ranking import FoldIn, RankingModel
from shared.recipes.readouts import enough_signal
from simulations.baselines import constant_scorer
from simulations.datasets import Dataset, load_folder
from simulations.evaluate import (
    Cases,
    Split,
    chance,
    leave_last_out,
    rank_cases,
    sample_cases,
    select_users,
    shuffled_order,
)
from simulations.private import (
    Noise,
    cooccurrence_model,
    model_scorer,
    popularity_model,
    recon_model,
    released_popularity,
    train_cooccurrence,
    train_recon,
    untrained_model,
)
from simulations.references import tuned_references
from simulations.report import Report, Row, Spread, peak_memory_mb
from simulations.tenants import TenantsBy, assign_tenants
from simulations.tuning import Bench, Progress, Tuned, tune_cooccurrence, tune_recon, without_noise

Recipe = Literal["cooccurrence", "recon"]
NoiseBy = Literal["central", "helpers", "tenant"]
AGAINST = {
    "central": "everyone but the party that adds the noise to the sum",
    "helpers": "the server and all other tenants, if at least one helper is honest",
    "tenant": "everyone outside the tenant, alone",
}
# Validation users drawn for tuning; tuning noise seeds where a single draw would decide too much.
_SMALL_COHORT = 20_000
# Test users that the controls are measured on; what they must show needs no more.
_CONTROL_USERS = 20_000
# Test items of different users coincide, so one draw of random factors is far from chance by itself; its mean is not.
# What is left of its deviation comes from the draws and not from the users, so each needs fewer of them.
_CONTROL_SEEDS, _USERS_A_DRAW = 20, 7_000


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What to run. The privacy numbers have no defaults.

    epsilon: inf for no noise. num_seeds: noise seeds measured, at least 1. num_helpers: noises added under `helpers`.
    min_rating, liked: which rows count as positive. tuning_users: validation users that tuning looks at.
    references: whether baselines and controls run too.
    """

    data: Path
    recipe: Recipe
    epsilon: float
    delta: float
    num_seeds: int
    num_tenants: int = 1
    tenants_by: TenantsBy = "equal"
    noise: NoiseBy = "central"
    num_helpers: int = 2
    min_rating: float | None = None
    liked: bool = False
    tuning_users: int = 3_000
    references: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0 or not 0 < self.delta < 1:
            raise BadSetting(f"epsilon must be above 0 and delta between 0 and 1, got {self.epsilon} and {self.delta}")
        if min(self.num_seeds, self.num_tenants, self.num_helpers, self.tuning_users) < 1:
            raise BadSetting("seeds, tenants, helpers and tuning users must each be at least 1")

    @property
    def noise_copies(self) -> int:
        return {"central": 1, "helpers": self.num_helpers, "tenant": self.num_tenants}[self.noise]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Setting:
    # One loaded experiment. tenants: user indices of each.
    settings: RunSettings
    dataset: Dataset
    split: Split
    tenants: Sequence[NDArray[np.int64]]
    bench: Bench

    @property
    def train(self) -> list[Interactions]:
        return [select_users(self.split.train, users) for users in self.tenants]


class _Clock:
    """Seconds by stage; the only state of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now


def run(settings: RunSettings, progress: Progress = lambda _: None) -> Report:
    """The whole experiment. Raises MalformedFile, NoInteractions or BadSetting for what cannot be run."""
    clock = _Clock()
    setting = _load(settings, progress)
    clock.lap("load")
    tuned = _tune(settings.recipe, setting.bench)
    clock.lap("tune")
    best = max(tuned, key=lambda choice: choice.validation_ndcg_at_10)
    rows, ranks = _private_rows(setting, tuned, best, progress)
    clock.lap("measure")
    rows.append(_dp_popularity_row(setting))
    tenant_table: list[dict[str, Any]] = []
    if settings.references:
        rows += _references(setting, progress)
        clock.lap("references")
        rows += _controls(setting, best, progress)
        clock.lap("controls")
        rows.append(_without_privacy(setting, best, progress))
        clock.lap("without privacy")
        if settings.num_tenants > 1:
            alone_rows, tenant_table = _alone(setting, best, ranks, progress)
            rows += alone_rows
            clock.lap("tenants alone")
    return _report(setting, rows, tuned, best, tenant_table, clock)


def _load(settings: RunSettings, progress: Progress) -> _Setting:
    progress("reading data")
    dataset = load_folder(settings.data, min_rating=settings.min_rating, liked=settings.liked)
    split = leave_last_out(dataset)
    rng = np.random.default_rng(20_240_101)
    tenants = assign_tenants(split.train, settings.num_tenants, settings.tenants_by, rng)
    noise = Noise(epsilon=settings.epsilon, delta=settings.delta, popularity_share=0.1, copies=settings.noise_copies)
    bench = Bench(
        tenants=[select_users(split.tuning_train, users) for users in tenants],
        cases=sample_cases(split.validation, settings.tuning_users, rng),
        features=dataset.features,
        noise=noise,
        num_noise_seeds=2 if split.train.num_users < _SMALL_COHORT and settings.epsilon != inf else 1,
        progress=progress,
    )
    return _Setting(settings=settings, dataset=dataset, split=split, tenants=tenants, bench=bench)


def _tune(recipe: Recipe, bench: Bench) -> tuple[Tuned, ...]:
    return tune_cooccurrence(bench) if recipe == "cooccurrence" else (tune_recon(bench),)


def trained_model(tenants: Sequence[Interactions], tuned: Tuned, noise: Noise, seed: int) -> RankingModel:
    """Train with the tuned plan on these tenants and publish; all randomness from `seed`."""
    return trained_models(tenants, (tuned,), noise, seed)[0]


def trained_models(
    tenants: Sequence[Interactions], choices: Sequence[Tuned], noise: Noise, seed: int
) -> list[RankingModel]:
    """One model for each choice, all read from the same release: the choices must share their plan."""
    first = choices[0]
    noise = replace(noise, popularity_share=first.popularity_share)
    rng = np.random.default_rng(seed)
    if isinstance(first.plan, ReconPlan):
        release = train_recon(tenants, first.plan, noise, rng)
        return [recon_model(release, choice.fold_in) for choice in choices]
    if not enough_signal(sum(tenant.num_users for tenant in tenants), noise.mu):
        # Public numbers tell before a round starts: no pairs are asked for, popularity gets the whole budget.
        popularity = released_popularity(tenants, replace(noise, popularity_share=1.0), rng)
        return [popularity_model(popularity, choice.fold_in) for choice in choices]
    sums = train_cooccurrence(tenants, first.plan, noise, rng)
    return [
        cooccurrence_model(sums, choice.readout, choice.fold_in, mu=noise.mu) for choice in choices if choice.readout
    ]


def _private_rows(
    setting: _Setting, tuned: Sequence[Tuned], best: Tuned, progress: Progress
) -> tuple[list[Row], list[NDArray[np.float64]]]:
    """A row for each read-out, and the ranks of the one that validation preferred, one array a noise seed."""
    train = setting.train
    ranks: list[list[NDArray[np.float64]]] = [[] for _ in tuned]
    for seed in range(setting.settings.num_seeds):
        progress(f"measuring: noise seed {seed}")
        for found, model in zip(ranks, trained_models(train, tuned, setting.bench.noise, seed), strict=True):
            found.append(rank_cases(model_scorer(model, setting.dataset.features), setting.split.test))
    rows = [
        _row(
            setting,
            f"{setting.settings.recipe}, {_readout_name(choice)}",
            "private",
            found,
            readout=_readout_name(choice),
            selected=choice is best,
        )
        for choice, found in zip(tuned, ranks, strict=True)
    ]
    return rows, next(found for choice, found in zip(tuned, ranks, strict=True) if choice is best)


def _dp_popularity_row(setting: _Setting) -> Row:
    noise = replace(setting.bench.noise, popularity_share=1.0)
    train = setting.train
    scorers = (
        constant_scorer(released_popularity(train, noise, np.random.default_rng(seed)))
        for seed in range(setting.settings.num_seeds)
    )
    ranks = [rank_cases(scorer, setting.split.test) for scorer in scorers]
    return _row(setting, "DP popularity", "baseline", ranks, readout="popularity")


def _references(setting: _Setting, progress: Progress) -> Iterator[Row]:
    pooled = _pooled(setting.bench.tenants)
    for reference in tuned_references(setting.bench, pooled, setting.dataset.features):
        progress(f"reference: {reference.name}")
        scorer = reference.build(setting.split.train, 0)
        ranks = [rank_cases(scorer, setting.split.test)]
        yield _row(setting, reference.name, "baseline", ranks, private=False, settings=reference.settings)


def _controls(setting: _Setting, best: Tuned, progress: Progress) -> Iterator[Row]:
    """Shuffled order: trained and asked without order. No federation: item factors that no user ever touched."""
    progress("control: shuffled order")
    seeds = range(setting.settings.num_seeds)
    features = setting.dataset.features
    test = sample_cases(setting.split.test, _CONTROL_USERS, np.random.default_rng(4))
    shuffled = []
    for seed in seeds:
        rng = np.random.default_rng(50_000 + seed)
        train = [shuffled_order(tenant, rng) for tenant in setting.train]
        cases = Cases(histories=shuffled_order(test.histories, rng), targets=test.targets)
        model = trained_model(train, best, setting.bench.noise, seed)
        shuffled.append(rank_cases(model_scorer(model, features), cases))
    yield _row(setting, "control: same model on shuffled order", "control", shuffled, readout=_readout_name(best))
    progress("control: no federation")
    plan = best.plan
    num_factors = plan.num_factors if isinstance(plan, ReconPlan) else 8
    models = (_untrained(setting, num_factors, seed) for seed in range(_CONTROL_SEEDS))
    test = sample_cases(test, _USERS_A_DRAW, np.random.default_rng(5))
    ranks = [rank_cases(model_scorer(model, features[:, :0]), test) for model in models]
    yield _row(setting, "control: no federation (must be at chance)", "control", ranks, private=False)


def _untrained(setting: _Setting, num_factors: int, seed: int) -> RankingModel:
    fold_in = FoldIn(ridge=1.0, negative_weight=0.1)
    rng = np.random.default_rng(60_000 + seed)
    return untrained_model(setting.split.train.num_items, num_factors=num_factors, fold_in=fold_in, rng=rng)


def _without_privacy(setting: _Setting, best: Tuned, progress: Progress) -> Row:
    """The same recipe and plan on all data with no noise: the price of privacy is the distance to this row."""
    progress("pooled without privacy")
    noise = replace(setting.bench.noise, epsilon=inf)
    tuned = without_noise(replace(setting.bench, noise=noise, num_noise_seeds=1), best)
    model = trained_model(setting.train, tuned, noise, 0)
    ranks = [rank_cases(model_scorer(model, setting.dataset.features), setting.split.test)]
    name = f"{setting.settings.recipe}, pooled without privacy"
    return _row(setting, name, "baseline", ranks, readout=_readout_name(tuned), private=False)


def _alone(
    setting: _Setting, best: Tuned, federated: Sequence[NDArray[np.float64]], progress: Progress
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Each tenant by itself, at the same epsilon with one noise: settings tuned on the tenant of median size."""
    test_users = np.flatnonzero(_tested(setting.split, setting.dataset))
    sizes = [len(users) for users in setting.tenants]
    median = int(np.argsort(sizes)[len(sizes) // 2])
    tuned = _tune_alone(setting, median, best, progress)
    noise = replace(setting.bench.noise, copies=1)
    runs = [np.full(len(test_users), np.inf) for _ in range(setting.settings.num_seeds)]
    table = []
    for index, users in enumerate(setting.tenants):
        progress(f"tenant {index + 1} of {len(sizes)} alone")
        rows = np.flatnonzero(np.isin(test_users, users))
        cases = Cases(
            histories=select_users(setting.split.test.histories, rows), targets=setting.split.test.targets[rows]
        )
        own = [select_users(setting.split.train, users)]
        for seed, ranks in enumerate(runs):
            model = trained_model(own, tuned, noise, seed)
            ranks[rows] = rank_cases(model_scorer(model, setting.dataset.features), cases)
        table.append(
            {
                "tenant": index,
                "num_users": len(users),
                "ndcg_at_10_alone": float(np.mean([ndcg(ranks[rows], 10) for ranks in runs])),
                "ndcg_at_10_federated": float(np.mean([ndcg(ranks[rows], 10) for ranks in federated])),
            }
        )
    row = _row(setting, "each tenant alone, same epsilon", "tenants", runs, readout=_readout_name(tuned))
    return [row], table


def _tune_alone(setting: _Setting, tenant: int, best: Tuned, progress: Progress) -> Tuned:
    users = setting.tenants[tenant]
    validated = np.flatnonzero((setting.split.train.lengths >= 2) & (setting.split.tuning_train.lengths > 0))
    rows = np.flatnonzero(np.isin(validated, users))
    cases = setting.split.validation
    if len(rows) == 0:
        return best
    own = Cases(histories=select_users(cases.histories, rows), targets=cases.targets[rows])
    bench = replace(
        setting.bench,
        tenants=[setting.bench.tenants[tenant]],
        cases=sample_cases(own, setting.settings.tuning_users, np.random.default_rng(3)),
        noise=replace(setting.bench.noise, copies=1),
        num_noise_seeds=2,
        progress=progress,
    )
    return max(_tune(setting.settings.recipe, bench), key=lambda choice: choice.validation_ndcg_at_10)


def _tested(split: Split, dataset: Dataset) -> NDArray[np.bool_]:
    if dataset.targets is None:
        return np.asarray((split.train.lengths > 0) & (dataset.histories.lengths >= 2))
    return np.asarray((dataset.targets >= 0) & (split.train.lengths > 0))


def _pooled(tenants: Sequence[Interactions]) -> Interactions:
    return concatenate(list(tenants))


def _readout_name(tuned: Tuned) -> str:
    if tuned.readout is None:
        return "reconstruction"
    return "weights" if type(tuned.readout).__name__ == "WeightsSettings" else "factors"


def _row(
    setting: _Setting,
    name: str,
    kind: str,
    ranks: Sequence[NDArray[np.float64]],
    *,
    readout: str | None = None,
    private: bool = True,
    selected: bool = False,
    settings: dict[str, Any] | None = None,
) -> Row:
    private = private and setting.settings.epsilon != inf
    return Row(
        name=name,
        kind=kind,
        recipe=setting.settings.recipe if readout not in (None, "popularity") else None,
        readout=readout,
        epsilon=setting.settings.epsilon if private else None,
        delta=setting.settings.delta if private else None,
        hr_at_10=Spread.of([hit_rate(run, 10) for run in ranks]),
        ndcg_at_10=Spread.of([ndcg(run, 10) for run in ranks]),
        runs=len(ranks),
        selected=selected,
        settings=settings or {},
    )


def _report(
    setting: _Setting,
    rows: Sequence[Row],
    tuned: Sequence[Tuned],
    best: Tuned,
    tenant_table: list[dict[str, Any]],
    clock: _Clock,
) -> Report:
    settings, dataset, split = setting.settings, setting.dataset, setting.split
    by_chance = chance(split.test)
    given = 0 if dataset.targets is None else int(np.sum(dataset.targets >= 0))
    return Report(
        dataset={
            "name": dataset.name,
            "sha256": dataset.sha256,
            "num_users": dataset.histories.num_users,
            "num_items": dataset.histories.num_items,
            "num_interactions": len(dataset.histories.items) + given,
            "num_repeated_rows": dataset.num_repeats,
            "num_test_users": len(split.test.targets),
            "order": dataset.order_column or "sequence of rows",
            "num_text_features": int(dataset.features.shape[1]),
        },
        protocol=(
            "leave-last-out, full ranking over unseen items, ties averaged; settings chosen on validation "
            "(the item before the last), models then trained on everything but the test item"
        ),
        settings={**asdict(settings), "data": str(settings.data)},
        rows=tuple(rows),
        chance={"hr_at_10": by_chance.hr_at_10, "ndcg_at_10": by_chance.ndcg_at_10},
        privacy=_statement(setting, best),
        hyper_parameters=[_described(choice, selected=choice is best) for choice in tuned],
        tenants=tenant_table,
        seeds=list(range(settings.num_seeds)),
        timings_seconds=clock.seconds,
        peak_memory_mb=peak_memory_mb(),
    )


def _statement(setting: _Setting, best: Tuned) -> PrivacyStatement | None:
    noise = replace(setting.bench.noise, popularity_share=best.popularity_share)
    if noise.epsilon == inf:
        return None
    plan = best.plan
    rounds, sensitivity = (plan.num_rounds, plan.max_grad_norm) if isinstance(plan, ReconPlan) else (1, 1.0)
    return PrivacyStatement(
        epsilon=noise.epsilon,
        delta=noise.delta,
        against=AGAINST[setting.settings.noise],
        mechanisms=noise.mechanisms(sensitivity=sensitivity, releases=rounds),
        tuned_on_data=True,
    )


def _described(tuned: Tuned, *, selected: bool) -> dict[str, Any]:
    return {
        "readout": _readout_name(tuned),
        "selected": selected,
        "plan": asdict(tuned.plan),
        "popularity_share": tuned.popularity_share,
        "readout_settings": asdict(tuned.readout) if tuned.readout else None,
        "fold_in": asdict(tuned.fold_in),
        "validation_ndcg_at_10": tuned.validation_ndcg_at_10,
    }
