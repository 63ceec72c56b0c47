"""Membership inference against the published model: was this learner's history among those it was trained on?

The adversary has the model, as any learner does, and the histories of the candidates. Plain attacks threshold how well
the model fits a history. The strong one is LiRA (Carlini et al. 2022, "Membership Inference Attacks From First
Principles", sec. V): it trains reference models on random halves of a population that holds the candidates, learns how
the statistics of each candidate move when they are in, and scores by the likelihood ratio. Targets are fresh models,
each on a random half; every one of them is one independent trial.

All three kinds of model are attacked: `cooccurrence` read out as item weights and as factors, and `recon`. The plain
attacks are shown for item weights, where they are strongest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isinf

import numpy as np
from numpy.typing import NDArray

from shared.accounting import mu_for
from shared.interactions import Interactions
from shared.plan import CooccurrencePlan, ReconPlan
from shared.ranking import FoldIn, RankingModel, score_many
from shared.recipes.readouts import FactorsSettings, WeightsSettings
from simulations.auditing.findings import CONFIDENCE, Finding, Kind, found
from simulations.auditing.statistics import (
    Interval,
    allowed_auc,
    allowed_hits,
    auc,
    threshold_at,
    unit_mean_interval,
)
from simulations.evaluate import select_users
from simulations.private import Noise, cooccurrence_model, recon_model, train_cooccurrence, train_recon

EPSILONS = (1.0, 2.0, 8.0, inf)
DELTA = 1e-5
FALSE_ALARMS = 0.01
MAX_ITEMS = 120
_READOUT = WeightsSettings(threshold=0.0, ridge=0.002, diagonal=1.0)
_FACTORS = FactorsSettings(ridge=0.002, diagonal=1.0)
_FOLD_IN = FoldIn(recency=0.0)
# Shrinks the shared covariance of the statistics towards its diagonal: they can be nearly collinear.
_SHRINKAGE = 0.05
Statistics = NDArray[np.float64]
Publish = Callable[[Interactions, float, np.random.Generator], RankingModel]
"""(members, epsilon, rng) -> what is published of them."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """references, targets: models trained. num_users: candidates, of which each model is trained on a random half."""

    references: int
    targets: int
    num_users: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """statistics: float64 (models, users, 4). members: bool (models, users)."""

    statistics: Statistics
    members: NDArray[np.bool_]


def membership_findings(
    population: Interactions, *, size: Size, seed: int, progress: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Three attacks on item weights at every epsilon, the strong one on the others; without noise the controls."""
    rng = np.random.default_rng([seed, 5])
    population = most_popular(population, MAX_ITEMS)
    count = min(size.num_users, population.num_users)
    users = select_users(population, np.sort(rng.choice(population.num_users, count, replace=False)))
    rows = []
    for epsilon in EPSILONS:
        progress(f"membership: epsilon {epsilon:g}")
        references = trained(users, epsilon, size.references, np.random.default_rng([seed, 6]), published)
        targets = trained(users, epsilon, size.targets, np.random.default_rng([seed, 7]), published)
        rows += _findings(references, targets, epsilon, users, seed)
    for name, publish in (("factors", published_factors), ("recon", published_recon)):
        for epsilon in EPSILONS:
            progress(f"membership: {name}, epsilon {epsilon:g}")
            references = trained(users, epsilon, size.references, np.random.default_rng([seed, 8]), publish)
            targets = trained(users, epsilon, size.targets, np.random.default_rng([seed, 9]), publish)
            rows += _strong(f"reference models, {name}", references, targets, epsilon, users, seed)
    return rows


def most_popular(history: Interactions, num_items: int) -> Interactions:
    """The same histories over their most popular items alone, of the users that keep two or more of them.

    Keeps an experiment with hundreds of models small; which items stay is public in it.
    """
    counts = np.bincount(history.items, minlength=history.num_items)
    chosen = np.sort(np.argsort(-counts, kind="stable")[:num_items])
    place = np.full(history.num_items, -1, dtype=np.int32)
    place[chosen] = np.arange(len(chosen))
    kept = place[history.items] >= 0
    lengths = np.bincount(history.rows()[kept], minlength=history.num_users)
    small = Interactions(
        num_items=len(chosen),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=place[history.items[kept]],
        weights=history.weights[kept],
    )
    return select_users(small, np.flatnonzero(lengths >= 2))


def trained(
    users: Interactions,
    epsilon: float,
    models: int,
    rng: np.random.Generator,
    publish: Publish,
) -> Trained:
    """Models on random halves of `users`, each with noise of its own, and what they say of every user."""
    members = np.array([rng.permutation(users.num_users) < users.num_users // 2 for _ in range(models)])
    statistics = [
        model_statistics(publish(select_users(users, np.flatnonzero(row)), epsilon, rng), users) for row in members
    ]
    return Trained(statistics=np.array(statistics), members=members)


def published(members: Interactions, epsilon: float, rng: np.random.Generator) -> RankingModel:
    """The model of `cooccurrence` on these users, every item a head item, whether or not the pairs stand above noise.

    The product would publish popularity alone where they do not; what it would hide is shown to the adversary here.
    """
    return _cooccurrence(members, epsilon, rng, _READOUT)


def published_factors(members: Interactions, epsilon: float, rng: np.random.Generator) -> RankingModel:
    """As `published`, read out as item factors, all of them that stand above the noise."""
    return _cooccurrence(members, epsilon, rng, _FACTORS)


def published_recon(members: Interactions, epsilon: float, rng: np.random.Generator) -> RankingModel:
    """The item factors of `recon` after a few rounds in which everybody takes part, every item a head item."""
    plan = ReconPlan(
        num_factors=16, num_rounds=6, num_head_items=members.num_items, max_items_per_user=members.num_items,
        ridge=1.0, negative_weight=0.1, learning_rate=0.5, momentum=0.9, init_seed=1, init_std=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    return recon_model(train_recon([members], plan, _noise(epsilon), rng), _FOLD_IN)


def _cooccurrence(
    members: Interactions, epsilon: float, rng: np.random.Generator, readout: WeightsSettings | FactorsSettings
) -> RankingModel:
    plan = CooccurrencePlan(num_head_items=members.num_items, gamma=0.5, max_head_items_per_user=members.num_items)
    return cooccurrence_model(train_cooccurrence([members], plan, _noise(epsilon), rng), readout, _FOLD_IN, mu=inf)


def _noise(epsilon: float) -> Noise:
    return Noise(epsilon=epsilon, delta=DELTA, popularity_share=0.1)


def model_statistics(model: RankingModel, users: Interactions) -> Statistics:
    """float64 (users, 4), each larger for a better fit, for every user:

    the last item's score given the items before it, in deviations over the catalogue; the mean of that over all items,
    each given the others; the log-likelihood of the items under a softmax of those scores; published popularity.
    The zero diagonal of the item weights keeps an item from speaking for itself.
    """
    scores = score_many(model, None, users).astype(np.float64)
    spread = np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    standard = (scores - scores.mean(axis=1, keepdims=True)) / spread
    rows, counts = users.rows(), np.maximum(users.lengths, 1)
    own = standard[rows, users.items]
    likelihood = own - np.log(np.exp(standard).sum(axis=1))[rows]
    popularity = np.log1p(model.popularity.astype(np.float64))[users.items]
    last = own[users.offsets[1:] - 1]
    means = [np.bincount(rows, weights=part, minlength=users.num_users) / counts for part in (own, likelihood)]
    return np.stack([last, *means, np.bincount(rows, weights=popularity, minlength=users.num_users) / counts], axis=1)


def likelihood_ratios(references: Trained, targets: Trained) -> NDArray[np.float64]:
    """float64 (targets, users): log-likelihood ratio of "in" over "out" by Gaussians fitted to the reference models.

    Means for every user; one covariance, shared by all users, of the deviations from them (Carlini et al. 2022,
    sec. VI-B: with few reference models a shared variance is the better estimate).
    """
    inside = references.members[..., None]
    taken = inside.sum(axis=0)
    mean_in = np.where(inside, references.statistics, 0).sum(axis=0) / taken
    mean_out = np.where(inside, 0, references.statistics).sum(axis=0) / (len(inside) - taken)
    left = references.statistics - np.where(inside, mean_in, mean_out)
    flat = left.reshape(-1, left.shape[-1])
    covariance = flat.T @ flat / len(flat)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(covariance.diagonal() + 1e-12)
    direction = np.linalg.solve(covariance, (mean_in - mean_out).T).T
    middle = (mean_in + mean_out) / 2
    return np.asarray(np.einsum("tuk,uk->tu", targets.statistics - middle, direction))


def areas(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The area under the ROC curve in each target model, float64 (targets,)."""
    return np.array([auc(row[inside], row[~inside]) for row, inside in zip(scores, members, strict=True)])


def hits_at(
    scores: NDArray[np.float64], members: NDArray[np.bool_], false_alarms: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(true, false) positive rates of each target of the second half, at the threshold that the first half sets."""
    half = len(scores) // 2
    cut = threshold_at(scores[:half][~members[:half]], false_alarms)
    pairs = [(np.mean(row[inside] > cut), np.mean(row[~inside] > cut))
             for row, inside in zip(scores[half:], members[half:], strict=True)]  # fmt: skip
    hits, alarms = np.array(pairs).T
    return hits, alarms


def _findings(
    references: Trained, targets: Trained, epsilon: float, users: Interactions, seed: int
) -> list[Finding]:  # fmt: skip
    plain = (("score of the last item", targets.statistics[..., 0]), ("log-likelihood", targets.statistics[..., 2]))
    rows = [_area(name, areas(scores, targets.members), epsilon, users, seed) for name, scores in plain]
    return rows + _strong("reference models", references, targets, epsilon, users, seed)


def _strong(
    name: str, references: Trained, targets: Trained, epsilon: float, users: Interactions, seed: int
) -> list[Finding]:
    ratios = likelihood_ratios(references, targets)
    hits, alarms = hits_at(ratios, targets.members, FALSE_ALARMS)
    return [
        _area(name, areas(ratios, targets.members), epsilon, users, seed),
        _hits(name, hits, alarms, epsilon, users, seed),
    ]


def _area(name: str, values: NDArray[np.float64], epsilon: float, users: Interactions, seed: int) -> Finding:
    return _row(
        name, "AUC", values, unit_mean_interval(values, CONFIDENCE), allowed_auc(_mu(epsilon)), epsilon, users, seed, ""
    )


def _hits(
    name: str, hits: NDArray[np.float64], alarms: NDArray[np.float64], epsilon: float, users: Interactions, seed: int
) -> Finding:
    # What is allowed depends on the false positive rate, which is itself measured: its upper bound counts.
    most = min(unit_mean_interval(alarms, CONFIDENCE).high, 1 - 1e-12)
    allowed = allowed_hits(_mu(epsilon), max(most, 1e-12))
    note = f"measured false positive rate {alarms.mean():.4f}, at most {most:.4f}"
    interval = unit_mean_interval(hits, CONFIDENCE)
    return _row(name, "TPR at 1 % FPR", hits, interval, allowed, epsilon, users, seed, note)


def _row(
    name: str,
    statistic: str,
    values: NDArray[np.float64],
    interval: Interval,
    allowed: float,
    epsilon: float,
    users: Interactions,
    seed: int,
    note: str,
) -> Finding:
    kind: Kind = "control" if isinf(epsilon) else "attack"
    stated = "no noise" if isinf(epsilon) else f"epsilon {epsilon:g}"
    return found(
        float(values.mean()),
        interval,
        attack="membership",
        kind=kind,
        name=f"{'control: ' if kind == 'control' else ''}{name}, {stated}",
        world=f"{users.num_users} learners, {users.num_items} items; trained on a random half",
        statistic=statistic,
        allowed=allowed,
        trials=len(values),
        seed=seed,
        note=note,
    )


def _mu(epsilon: float) -> float:
    # Without noise nothing is promised; the control must pass what the smallest epsilon here would allow.
    return mu_for(min(EPSILONS) if isinf(epsilon) else epsilon, DELTA)
