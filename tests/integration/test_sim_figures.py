"""Figures on public data sets, with settings that validation chose; only where ZHIYIN_DATA names their folder."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.plan import CooccurrencePlan, ReconPlan
from shared.ranking import FoldIn
from shared.recipes.readouts import FactorsSettings
from simulations.datasets import Dataset, load_folder
from simulations.evaluate import Split, leave_last_out, measure
from simulations.private import (
    Noise,
    cooccurrence_model,
    model_scorer,
    recon_model,
    train_cooccurrence,
    train_recon,
)

FOLDER = os.environ.get("ZHIYIN_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="ZHIYIN_DATA does not name a folder of data sets")
NOISE = Noise(epsilon=5.0, delta=1e-5, popularity_share=0.08)
PLAN = CooccurrencePlan(num_head_items=400, gamma=1.0, max_head_items_per_user=300)


def load(name: str) -> tuple[Dataset, Split]:
    data = load_folder(Path(FOLDER or "") / name)
    return data, leave_last_out(data)


@pytest.fixture(scope="module")
def films() -> tuple[Dataset, Split]:
    return load("ml-100k")


def cooccurrence_ndcg(
    data: Dataset, split: Split, plan: CooccurrencePlan, noise: Noise, readout: FactorsSettings, fold_in: FoldIn
) -> float:
    values = []
    for seed in range(3):
        release = train_cooccurrence([split.train], plan, noise, np.random.default_rng(seed))
        model = cooccurrence_model(release, readout, fold_in, mu=noise.mu)
        values.append(measure(model_scorer(model, data.features), split.test).ndcg_at_10)
    return float(np.mean(values))


def test_films_by_cooccurrence_at_epsilon_five(films: tuple[Dataset, Split]) -> None:
    data, split = films
    fold_in = FoldIn(recency=1.0, popularity_discount=0.3)
    assert cooccurrence_ndcg(data, split, PLAN, NOISE, FactorsSettings(ridge=0.003, diagonal=0.25), fold_in) >= 0.063


def test_films_by_cooccurrence_at_epsilon_one(films: tuple[Dataset, Split]) -> None:
    data, split = films
    plan, noise = replace(PLAN, num_head_items=165), replace(NOISE, epsilon=1.0)
    assert (
        cooccurrence_ndcg(data, split, plan, noise, FactorsSettings(ridge=0.01, diagonal=0.5), FoldIn(recency=1.0))
        >= 0.048
    )


def test_films_by_recon_at_epsilon_five(films: tuple[Dataset, Split]) -> None:
    data, split = films
    plan = ReconPlan(
        num_factors=8, num_rounds=8, num_head_items=364, max_items_per_user=80, ridge=0.1, negative_weight=1.6,
        learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    fold_in = FoldIn(recency=1.4, max_items=80, ridge=10.0, negative_weight=0.8)
    noise = replace(NOISE, popularity_share=0.05)
    values = []
    for seed in range(3):
        model = recon_model(train_recon([split.train], plan, noise, np.random.default_rng(seed)), fold_in)
        values.append(measure(model_scorer(model, data.features), split.test).ndcg_at_10)
    assert np.mean(values) >= 0.053


def test_courses_with_text_on_the_device_at_epsilon_one() -> None:
    data, split = load("mooccube-2000")
    plan, noise = replace(PLAN, num_head_items=311), replace(NOISE, epsilon=1.0)
    readout, fold_in = FactorsSettings(ridge=0.003, diagonal=0.5), FoldIn(recency=1.0, text_weight=0.5)
    figure = cooccurrence_ndcg(data, split, plan, noise, readout, fold_in)
    assert figure >= 0.070
    assert figure > cooccurrence_ndcg(data, split, plan, noise, readout, replace(fold_in, text_weight=0.0))
