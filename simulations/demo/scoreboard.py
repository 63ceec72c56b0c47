"""What the federation is worth: the deployed models beside everything that a sceptic would ask for, on one test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from shared.accounting import mu_for
from shared.interactions import Interactions
from shared.ranking import FoldIn, RankingModel, score_many
from shared.recipes.cooccurrence import head_items, pair_sum, popularity_vectors
from shared.recipes.readouts import CooccurrenceRelease, WeightsSettings, weights_readout
from simulations.baselines import (
    constant_scorer,
    content_scorer,
    ease_weights,
    ials_scorer,
    popularity_scorer,
    weights_scorer,
)
from simulations.demo.scenario import Scenario, TenantUsers
from simulations.demo.settings import DemoSettings
from simulations.demo.training import Published
from simulations.evaluate import Cases, Figures, Scorer, measure, select_users


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. epsilon, delta: None where nothing private is claimed. against: whom that holds against.

    figures: one entry a training (noise or initial seed).
    """

    name: str
    recipe: str
    readout: str
    epsilon: float | None
    delta: float | None
    against: str
    figures: tuple[Figures, ...]

    def to_json(self) -> dict[str, Any]:
        """As `rows` of report.json: mean and sample standard deviation (0 for one training) over the trainings."""
        return {
            "name": self.name,
            "recipe": self.recipe,
            "readout": self.readout,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "against": self.against,
            "trainings": len(self.figures),
            "hr_at_10": _mean_sd([figure.hr_at_10 for figure in self.figures]),
            "ndcg_at_10": _mean_sd([figure.ndcg_at_10 for figure in self.figures]),
        }


@dataclass(frozen=True, kw_only=True)
class TenantComparison:
    """One institution's own learners: what it reaches alone, and what the federation gives it, at the same epsilon."""

    tenant: str
    num_users: int
    alone: Row
    federated: Row


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    rows: tuple[Row, ...]
    tenants: tuple[TenantComparison, ...] = field(default=())


def model_scorer(model: RankingModel, scenario: Scenario) -> Scorer:
    """Rank as a learner's client does: the model, the local history, the public text."""
    return lambda histories: score_many(model, scenario.catalogue.features, histories)


def tenant_cases(scenario: Scenario, tenant: TenantUsers) -> Cases:
    """The test cases of one institution's learners."""
    cases = scenario.split.test
    has_case = np.flatnonzero(scenario.split.train.lengths > 0)
    inside = np.flatnonzero((has_case >= tenant.start) & (has_case < tenant.stop))
    return Cases(histories=select_users(cases.histories, inside), targets=cases.targets[inside])


def reference_rows(scenario: Scenario, settings: DemoSettings) -> Iterator[Row]:
    """Everything that needs no federation, one row at a time (each takes a few seconds)."""
    train, cases = scenario.split.train, scenario.split.test
    plain = {"recipe": "-", "readout": "-", "epsilon": None, "delta": None, "against": "-"}
    yield _row("popularity", measure(popularity_scorer(train), cases), **plain)
    yield _dp_popularity(scenario, settings)
    content = content_scorer(scenario.catalogue.features, recency=settings.fold_in.recency)
    yield _row("content alone", measure(content, cases), **plain)
    pooled = {**plain, "against": "nobody: all histories in one place"}
    yield _row(
        "pooled EASE, no privacy",
        measure(weights_scorer(ease_weights(train, ridge=0.002), recency=0.8), cases),
        **pooled,
    )
    als = ials_scorer(train, num_factors=64, ridge=0.1, confidence=5.0, sweeps=10, seed=settings.seed)
    yield _row("pooled ALS, no privacy", measure(als, cases), **pooled)
    yield no_federation_control(scenario, settings)


def no_federation_control(scenario: Scenario, settings: DemoSettings) -> Row:
    """Nobody sends anything: clients rank with the public initial factors. Above chance would mean a leak."""
    figures = []
    for seed in range(settings.seed, settings.seed + settings.trainings):
        factors = np.random.default_rng(seed).normal(0.0, 0.1, (scenario.catalogue.num_items, 32))
        model = RankingModel(
            catalogue_digest=scenario.catalogue.digest,
            recipe="recon",
            readout="reconstruction",
            popularity=np.zeros(scenario.catalogue.num_items, dtype=np.float32),
            head=np.arange(scenario.catalogue.num_items, dtype=np.int32),
            fold_in=FoldIn(ridge=1.0, negative_weight=0.05),
            item_factors=factors.astype(np.float32),
        )
        figures.append(measure(model_scorer(model, scenario), scenario.split.test))
    return Row(
        name="no federation (control)", recipe="-", readout="-", epsilon=None, delta=None,
        against="nothing is sent", figures=tuple(figures),
    )  # fmt: skip


def alone_row(scenario: Scenario, tenant: TenantUsers, settings: DemoSettings) -> Row:
    """What the institution reaches with its own learners only, at the same epsilon, adding the noise once itself."""
    rng = np.random.default_rng([settings.seed, tenant.start])
    train, cases = scenario.training_rows(tenant), tenant_cases(scenario, tenant)
    figures = [measure(model_scorer(_alone_model(scenario, train, settings, rng), scenario), cases)
               for _ in range(settings.trainings)]  # fmt: skip
    return Row(
        name=f"{tenant.name} alone", recipe="cooccurrence", readout="weights", epsilon=settings.epsilon,
        delta=settings.delta, against="everybody outside the tenant", figures=tuple(figures),
    )  # fmt: skip


def federated_row(name: str, published: Sequence[Published], scenario: Scenario, cases: Cases | None = None) -> Row:
    """A row from published models of the same plan, the deployed one first; epsilon is the greatest that one states."""
    chosen = cases or scenario.split.test
    models = [entry.model for entry in published]
    return Row(
        name=name,
        recipe=models[0].recipe,
        readout=models[0].readout,
        epsilon=round(max(entry.privacy.epsilon for entry in published), 6),
        delta=published[0].privacy.delta,
        against=published[0].privacy.against,
        figures=tuple(measure(model_scorer(model, scenario), chosen) for model in models),
    )


def _alone_model(
    scenario: Scenario, train: Interactions, settings: DemoSettings, rng: np.random.Generator
) -> RankingModel:
    plan, mu = settings.cooccurrence, mu_for(settings.epsilon, settings.delta)
    popularity_std = 1 / (mu * sqrt(settings.popularity_share))
    pairs_std = 1 / (mu * sqrt(1 - settings.popularity_share))
    popularity = popularity_vectors(train).total()
    popularity = popularity + rng.normal(0.0, popularity_std, len(popularity))
    # A smaller cohort can tell fewer items from noise: half the head is best here (validated on another seed).
    head = head_items(popularity, plan.num_head_items // 2)
    pairs = pair_sum(train, head, gamma=plan.gamma, max_head_items_per_user=plan.max_head_items_per_user)
    release = CooccurrenceRelease(
        head=head,
        popularity=popularity,
        pairs=pairs + rng.normal(0.0, pairs_std, len(pairs)),
        popularity_std=popularity_std,
        pairs_std=pairs_std,
        num_users=train.num_users,
    )
    readout = next(model.readout for model in settings.models if isinstance(model.readout, WeightsSettings))
    return RankingModel(
        catalogue_digest=scenario.catalogue.digest,
        recipe="cooccurrence",
        readout="weights",
        popularity=np.maximum(popularity, 0).astype(np.float32),
        head=head,
        fold_in=settings.fold_in,
        item_weights=weights_readout(release, readout),
    )


def _dp_popularity(scenario: Scenario, settings: DemoSettings) -> Row:
    # The whole budget on popularity, with all of the noise that a sum has: the best that popularity can do at epsilon.
    rng = np.random.default_rng([settings.seed, 1])
    std = sqrt(settings.noise_copies) / mu_for(settings.epsilon, settings.delta)
    exact = popularity_vectors(scenario.split.train).total()
    figures = tuple(
        measure(constant_scorer(exact + rng.normal(0.0, std, len(exact))), scenario.split.test)
        for _ in range(settings.trainings)
    )
    return Row(
        name="DP popularity", recipe="popularity", readout="popularity", epsilon=settings.epsilon,
        delta=settings.delta, against=settings.against, figures=figures,
    )  # fmt: skip


def _row(name: str, figures: Figures, **fields: Any) -> Row:
    return Row(name=name, figures=(figures,), **fields)


def _mean_sd(values: Sequence[float]) -> dict[str, float]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 5), "sd": round(deviation, 5)}
