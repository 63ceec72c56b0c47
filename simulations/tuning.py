"""Choosing settings on validation: coordinate descent over small, stated grids. Never sees a test item.

Read-outs and fold-in are post-processing of one release and may be tried freely. Plans (what is asked of clients) are
tried on fresh noise each; that look at validation data is not charged to anybody's budget, and every report says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh as scipy_eigh

from shared.interactions import Interactions
from shared.metrics import ndcg
from shared.plan import CooccurrencePlan, ReconPlan
from shared.ranking import FoldIn, RankingModel
from shared.recipes.readouts import CooccurrenceRelease, Eigh, FactorsSettings, WeightsSettings
from simulations.evaluate import Cases, Scorer, rank_cases, select_users
from simulations.private import (
    Noise,
    ReconRelease,
    cooccurrence_model,
    model_scorer,
    recon_model,
    train_cooccurrence,
    train_recon,
)

Setting = TypeVar("Setting")
Grid = Mapping[str, Sequence[Any]]
Readout = WeightsSettings | FactorsSettings
Progress = Callable[[str], None]

# Noise seeds of tuning begin here, far from those of the measurements.
_TUNING_SEEDS = 7_000_000

WEIGHTS_GRID: Grid = {
    "threshold": (0.0, 0.5, 1.0, 2.0, 3.0),
    "ridge": (2e-4, 5e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "diagonal": (0.25, 0.5, 1.0, 2.0),
    "rank": (0, 50, 150),
}
FACTORS_GRID: Grid = {
    "ridge": (5e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "diagonal": (0.1, 0.25, 0.5, 1.0, 2.0),
}
FOLD_IN_GRID: Grid = {
    "recency": (0.0, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0),
    "popularity_discount": (0.0, 0.15, 0.3, 0.5),
}
TEXT_GRID: Grid = {"text_weight": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)}
RECON_FOLD_IN_GRID: Grid = {
    "recency": (0.0, 0.5, 1.0, 1.4, 2.0),
    "max_items": (0, 20, 80),
    "ridge": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "negative_weight": (0.1, 0.2, 0.4, 0.8, 1.6),
}
RECON_PLAN_GRID: Grid = {
    "max_items_per_user": (20, 80, 400),
    "num_rounds": (4, 8, 12),
    "negative_weight": (0.1, 0.2, 0.4, 0.8, 1.6),
    "learning_rate": (0.1, 0.2, 0.4),
    "ridge": (0.1, 0.3, 1.0),
}
# Where tuning starts: few factors and rounds where the noise allows no more, many of both for large cohorts.
RECON_SMALL = ReconPlan(
    num_factors=8, num_rounds=4, num_head_items=2, max_items_per_user=80, ridge=0.3, negative_weight=0.8,
    learning_rate=0.2, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=1.0,
)  # fmt: skip
RECON_LARGE = replace(
    RECON_SMALL, num_factors=64, num_rounds=12, max_items_per_user=40, negative_weight=0.1, learning_rate=0.1
)
# A trial of the large start takes minutes, and its figures are flat around it.
RECON_LARGE_GRID: Grid = {"max_items_per_user": (20, 40), "learning_rate": (0.1, 0.15), "ridge": (0.3, 1.0)}
_LARGE_SIGNAL = 10_000.0
_TRIAL_USERS = 25_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Where settings are compared: histories by tenant without validation items, cases to rank, public features."""

    tenants: Sequence[Interactions]
    cases: Cases
    features: NDArray[np.float32]
    noise: Noise
    num_noise_seeds: int
    progress: Progress

    def value(self, scorer: Scorer) -> float:
        return ndcg(rank_cases(scorer, self.cases), 10)

    def generator(self, trial: int) -> np.random.Generator:
        return np.random.default_rng(_TUNING_SEEDS + trial)

    @property
    def is_large(self) -> bool:
        """Whether seconds count for more here than the last digit of a comparison."""
        return self.num_users > _TRIAL_USERS

    @property
    def num_users(self) -> int:
        return sum(tenant.num_users for tenant in self.tenants)

    @property
    def num_items(self) -> int:
        return self.tenants[0].num_items

    @property
    def fold_in_grid(self) -> Grid:
        return {**FOLD_IN_GRID, **(TEXT_GRID if self.features.shape[1] else {})}


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A choice and the validation NDCG@10 that it was chosen for. readout is None for `recon`."""

    plan: CooccurrencePlan | ReconPlan
    popularity_share: float
    readout: Readout | None
    fold_in: FoldIn
    validation_ndcg_at_10: float


class RememberedEigh:
    """eigh that gives the last few answers again, bit for bit: settings that only change what is done with the
    eigenvalues do not pay for them anew, which on a large head is most of tuning.

    roughly: in single precision, at half the cost; enough to compare settings, not to publish what they give.
    """

    def __init__(self, *, roughly: bool = False, capacity: int = 6) -> None:
        self._roughly = roughly
        self._capacity = capacity
        self._answers: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def __call__(self, matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        key = blake2b(np.ascontiguousarray(matrix).data).digest()
        if key not in self._answers:
            values, vectors = _single_precision_eigh(matrix) if self._roughly else np.linalg.eigh(matrix)
            values.flags.writeable = vectors.flags.writeable = False
            if len(self._answers) == self._capacity:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = values, vectors
        # The one used last is the last to go.
        self._answers[key] = self._answers.pop(key)
        return self._answers[key]


def _single_precision_eigh(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, vectors = scipy_eigh(matrix.astype(np.float32), driver="evd", overwrite_a=True, check_finite=False)
    return values.astype(np.float64), vectors.astype(np.float64)


def descend(
    start: Setting, grid: Grid, value: Callable[[Setting], float], *, sweeps: int = 2, least_gain: float = 1e-5
) -> tuple[Setting, float]:
    """Coordinate descent over a frozen dataclass: one field at a time, from `start`, until a sweep changes nothing."""
    best, best_value = start, value(start)
    seen = {repr(start): best_value}
    for _ in range(sweeps):
        before = best
        for name, choices in grid.items():
            for choice in choices:
                candidate = replace(best, **{name: choice})  # type: ignore[type-var]
                if repr(candidate) not in seen:
                    seen[repr(candidate)] = value(candidate)
                if seen[repr(candidate)] > best_value + least_gain:
                    best, best_value = candidate, seen[repr(candidate)]
        if best == before:
            break
    return best, best_value


def head_size(num_users: int, num_items: int, mu: float) -> int:
    """Size of the head from public numbers alone: it grows with the signal n mu, from measurements on three data
    sets."""
    if mu == inf:
        return min(num_items, 2_000)
    return int(min(num_items, max(20, min(2_000, 18 * (num_users * mu) ** 0.4))))


def tune_cooccurrence(bench: Bench) -> tuple[Tuned, Tuned]:
    """The best choice for read-out `weights` and for `factors`; both read one release, so they share the plan."""
    private = bench.noise.epsilon != inf
    size = head_size(bench.num_users, bench.num_items, bench.noise.mu)
    start = CooccurrencePlan(num_head_items=size, gamma=0.5, max_head_items_per_user=300)
    share = 0.08
    quick_fold_in = FoldIn(recency=1.0, popularity_discount=0.3, text_weight=0.5 if bench.features.shape[1] else 0.0)
    quick = (
        WeightsSettings(threshold=1.0 if private else 0.0, ridge=3e-3, diagonal=0.25),
        FactorsSettings(ridge=3e-3, diagonal=0.5),
    )

    def plan_value(plan: CooccurrencePlan) -> float:
        releases = _cooccurrence_releases(bench, plan, share)
        eigh = RememberedEigh(roughly=bench.is_large)
        return max(_readout_value(bench, releases, readout, quick_fold_in, eigh) for readout in quick)

    sizes = sorted({min(bench.num_items, round(size * factor)) for factor in (0.7, 1.0, 1.4)}) if private else [size]
    grid: Grid = {"gamma": (0.0, 0.5, 1.0), "num_head_items": [entry for entry in sizes if entry >= 2]}
    plan, _ = descend(start, grid, plan_value, sweeps=1)
    bench.progress(f"plan: head of {plan.num_head_items}, gamma {plan.gamma}")
    releases = _cooccurrence_releases(bench, plan, share)
    return (
        _tune_readout(bench, plan, share, releases, quick[0], {} if private else {"threshold": (0.0,)}),
        _tune_readout(bench, plan, share, releases, quick[1], {}),
    )


def tune_recon(bench: Bench) -> Tuned:
    """The best plan from a short list, then the fold-in.

    Plans of large cohorts are tried on a part of the users with the noise scaled to match; the fold-in is chosen on all
    of them.
    """
    size = head_size(bench.num_users, bench.num_items, bench.noise.mu)
    signal = bench.num_users * bench.noise.mu
    start, plan_grid = (RECON_LARGE, RECON_LARGE_GRID) if signal > _LARGE_SIGNAL else (RECON_SMALL, RECON_PLAN_GRID)
    start = replace(start, num_head_items=min(bench.num_items, round(1.25 * size)))
    share = 0.05
    trial = thinned(bench)

    def fold(plan: ReconPlan) -> FoldIn:
        return FoldIn(
            recency=1.0,
            ridge=plan.ridge,
            negative_weight=plan.negative_weight,
            max_items=plan.max_items_per_user,
        )

    def plan_value(plan: ReconPlan) -> float:
        bench.progress(f"recon: trying {plan.num_rounds} rounds of {plan.num_factors} factors")
        return _recon_value(trial, _recon_releases(trial, plan, share), fold(plan))

    plan, _ = descend(start, plan_grid, plan_value, sweeps=1)
    releases = _recon_releases(bench, plan, share)
    grid = {**RECON_FOLD_IN_GRID, **(TEXT_GRID if bench.features.shape[1] else {})}
    fold_in, value = descend(fold(plan), grid, lambda choice: _recon_value(bench, releases, choice))
    return Tuned(plan=plan, popularity_share=share, readout=None, fold_in=fold_in, validation_ndcg_at_10=value)


def thinned(bench: Bench) -> Bench:
    """The bench with at most about 25,000 users and the noise scaled to match; as it is where that many are all."""
    if not bench.is_large:
        return bench
    part = _TRIAL_USERS / bench.num_users
    rng = bench.generator(1_000)
    tenants = [select_users(tenant, np.flatnonzero(rng.random(tenant.num_users) < part)) for tenant in bench.tenants]
    kept = sum(tenant.num_users for tenant in tenants) / bench.num_users
    return replace(bench, tenants=tenants, noise=replace(bench.noise, part=kept))


def without_noise(bench: Bench, tuned: Tuned) -> Tuned:
    """The same plan where no noise is added: read-out and fold-in chosen anew, on a larger head for `cooccurrence`."""
    if isinstance(tuned.plan, ReconPlan):
        releases = _recon_releases(bench, tuned.plan, tuned.popularity_share)
        fold_in, value = descend(
            tuned.fold_in, RECON_FOLD_IN_GRID, lambda choice: _recon_value(bench, releases, choice), sweeps=1
        )
        return replace(tuned, fold_in=fold_in, validation_ndcg_at_10=value)
    plan = replace(tuned.plan, num_head_items=head_size(bench.num_users, bench.num_items, inf))
    exact = _cooccurrence_releases(bench, plan, tuned.popularity_share)
    start = WeightsSettings(threshold=0.0, ridge=1e-3, diagonal=0.5)
    grid: Grid = {"ridge": WEIGHTS_GRID["ridge"], "diagonal": (0.25, 0.5)}
    eigh = RememberedEigh(roughly=bench.is_large)
    readout, value = descend(
        start, grid, lambda choice: _readout_value(bench, exact, choice, tuned.fold_in, eigh), sweeps=1
    )
    return replace(tuned, plan=plan, readout=readout, validation_ndcg_at_10=value)


def _tune_readout(
    bench: Bench,
    plan: CooccurrencePlan,
    share: float,
    releases: Sequence[CooccurrenceRelease],
    start: Readout,
    fixed: Grid,
) -> Tuned:
    name = "weights" if isinstance(start, WeightsSettings) else "factors"
    bench.progress(f"read-out {name}")
    grid = {**(WEIGHTS_GRID if isinstance(start, WeightsSettings) else FACTORS_GRID), **fixed}
    fold_in = FoldIn(recency=1.0, popularity_discount=0.3, text_weight=0.5 if bench.features.shape[1] else 0.0)
    readout = start
    value = 0.0
    eigh = RememberedEigh(roughly=bench.is_large)
    # A large cohort's release is clean enough that a second pass moves nothing but the clock.
    for _ in range(1 if bench.is_large else 2):

        def read(choice: Readout, fold_in: FoldIn = fold_in) -> float:
            return _readout_value(bench, releases, choice, fold_in, eigh)

        readout, _ = descend(readout, grid, read, sweeps=1)
        models = [cooccurrence_model(release, readout, fold_in, mu=bench.noise.mu, eigh=eigh) for release in releases]

        def folded(choice: FoldIn, models: Sequence[RankingModel] = tuple(models)) -> float:
            scorers = [model_scorer(replace(model, fold_in=choice), bench.features) for model in models]
            return float(np.mean([bench.value(scorer) for scorer in scorers]))

        fold_in, value = descend(fold_in, bench.fold_in_grid, folded, sweeps=1)
    return Tuned(plan=plan, popularity_share=share, readout=readout, fold_in=fold_in, validation_ndcg_at_10=value)


def _cooccurrence_releases(bench: Bench, plan: CooccurrencePlan, share: float) -> list[CooccurrenceRelease]:
    noise = replace(bench.noise, popularity_share=share)
    return [train_cooccurrence(bench.tenants, plan, noise, bench.generator(s)) for s in range(bench.num_noise_seeds)]


def _recon_releases(bench: Bench, plan: ReconPlan, share: float) -> list[ReconRelease]:
    noise = replace(bench.noise, popularity_share=share)
    return [train_recon(bench.tenants, plan, noise, bench.generator(s)) for s in range(bench.num_noise_seeds)]


def _readout_value(
    bench: Bench,
    releases: Sequence[CooccurrenceRelease],
    readout: Readout,
    fold_in: FoldIn,
    eigh: Eigh | None = None,
) -> float:
    models = [cooccurrence_model(release, readout, fold_in, mu=bench.noise.mu, eigh=eigh) for release in releases]
    return float(np.mean([bench.value(model_scorer(model, bench.features)) for model in models]))


def _recon_value(bench: Bench, releases: Sequence[ReconRelease], fold_in: FoldIn) -> float:
    models = [recon_model(release, fold_in) for release in releases]
    return float(np.mean([bench.value(model_scorer(model, bench.features)) for model in models]))
