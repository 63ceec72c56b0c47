"""The private recipes on data that lies in one place: the same sums, clips and noise scale as the federation, one
process.

Noise is continuous Gaussian drawn from named seeds, so that experiments can be repeated; a deployment draws discrete
Gaussians from the operating system. Sums are taken tenant by tenant, because that is how they are formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from shared.accounting import epsilon_gdp, mu_for
from shared.interactions import Interactions
from shared.mechanism import Gaussian
from shared.plan import CooccurrencePlan, ReconPlan
from shared.ranking import FoldIn, RankingModel, Readout, for_many_users, score_many
from shared.recipes.cooccurrence import head_items, pair_sum, popularity_vectors
from shared.recipes.readouts import (
    CooccurrenceRelease,
    Eigh,
    FactorsSettings,
    WeightsSettings,
    enough_signal,
    factors_readout,
    weights_readout,
)
from shared.recipes.recon import (
    apply_gradient,
    clipped_gradient_sum,
    initial_state,
    solve_users,
    training_history,
)
from simulations.evaluate import Scorer

# Gradients of so many entries at a time: about 100 MB of temporaries.
_ENTRIES_AT_ONCE = 400_000


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What protects the users. epsilon: inf for no noise at all. copies: how many full noises the released sum carries.

    popularity_share: part of mu^2 that popularity takes. part: share of the users that is summed in a trial; the noise
    is scaled with it, which keeps signal over noise as on all of them (for tuning only: nothing like it is released).
    """

    epsilon: float
    delta: float
    popularity_share: float
    copies: int = 1
    part: float = 1.0

    @property
    def mu(self) -> float:
        """The whole budget in Gaussian DP, inf for no noise."""
        return inf if self.epsilon == inf else mu_for(self.epsilon, self.delta)

    @property
    def popularity_std(self) -> float:
        return self._std(self.popularity_share, 1.0)

    def rest_std(self, sensitivity: float = 1.0, releases: int = 1) -> float:
        """Deviation of the noise in each of `releases` equal releases that share what popularity leaves."""
        return self._std((1 - self.popularity_share) / releases, sensitivity)

    def mechanisms(self, *, sensitivity: float = 1.0, releases: int = 1) -> tuple[Gaussian, ...]:
        """What the accountant composes: one copy of the noise, because only one is sure to be honest."""
        if self.epsilon == inf:
            return ()
        if self.part != 1:
            raise ValueError("noise scaled to a part of the users protects nobody; it cannot be accounted")
        one = 1 / sqrt(self.copies)
        first = Gaussian(noise_std=self.popularity_std * one, sensitivity=1.0)
        rest = Gaussian(noise_std=self.rest_std(sensitivity, releases) * one, sensitivity=sensitivity)
        return (first, *([rest] * releases))

    def _std(self, share: float, sensitivity: float) -> float:
        return 0.0 if self.epsilon == inf else self.part * sensitivity * sqrt(self.copies) / (self.mu * sqrt(share))


def spent_epsilon(noise: Noise) -> float:
    """epsilon that the accountant derives back from mu; at most the one asked for."""
    return inf if noise.epsilon == inf else epsilon_gdp(noise.mu, noise.delta)


def released_popularity(tenants: Sequence[Interactions], noise: Noise, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sum of everybody's clipped popularity vector plus noise, float64 (num_items,)."""
    exact = np.sum([popularity_vectors(tenant).total() for tenant in tenants], axis=0)
    return np.asarray(exact + noise.popularity_std * rng.standard_normal(len(exact)))


def train_cooccurrence(
    tenants: Sequence[Interactions], plan: CooccurrencePlan, noise: Noise, rng: np.random.Generator
) -> CooccurrenceRelease:
    """Both releases of `cooccurrence`."""
    popularity = released_popularity(tenants, noise, rng)
    head = head_items(popularity, plan.num_head_items)
    pairs = np.zeros(len(head) * (len(head) - 1) // 2)
    for tenant in tenants:
        pairs += pair_sum(tenant, head, gamma=plan.gamma, max_head_items_per_user=plan.max_head_items_per_user)
    pairs += noise.rest_std() * rng.standard_normal(len(pairs))
    return CooccurrenceRelease(
        head=head,
        popularity=popularity,
        pairs=pairs,
        popularity_std=noise.popularity_std,
        pairs_std=noise.rest_std(),
        num_users=sum(tenant.num_users for tenant in tenants),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ReconRelease:
    """What `recon` publishes: popularity float64 (num_items,), item factors float64 (num_items, d), zero outside the
    head."""

    head: NDArray[np.int32]
    popularity: NDArray[np.float64]
    item_factors: NDArray[np.float64]


def train_recon(
    tenants: Sequence[Interactions], plan: ReconPlan, noise: Noise, rng: np.random.Generator
) -> ReconRelease:
    """Popularity, then every round of `recon` with full participation."""
    popularity = released_popularity(tenants, noise, rng)
    state = initial_state(popularity, plan)
    histories = [
        training_history(state.item_factors, tenant, max_items_per_user=plan.max_items_per_user) for tenant in tenants
    ]
    noise_std = noise.rest_std(plan.max_grad_norm, plan.num_rounds)
    for _ in range(plan.num_rounds):
        total = noise_std * rng.standard_normal(state.item_factors.shape)
        for history in histories:
            total += gradient_sum(state.item_factors, history, plan)
        state = apply_gradient(state, total, noise_std=noise_std, plan=plan)
    head = head_items(popularity, plan.num_head_items)
    return ReconRelease(head=head, popularity=popularity, item_factors=state.item_factors)


def gradient_sum(item_factors: NDArray[np.float64], history: Interactions, plan: ReconPlan) -> NDArray[np.float64]:
    """One tenant's clipped gradient sum, in bounded memory."""
    total = np.zeros_like(item_factors)
    for part in history.chunks(_ENTRIES_AT_ONCE):
        users = solve_users(item_factors, part, ridge=plan.ridge, negative_weight=plan.negative_weight)
        total += clipped_gradient_sum(
            item_factors, users, part, negative_weight=plan.negative_weight, max_grad_norm=plan.max_grad_norm
        )
    return total


def cooccurrence_model(
    release: CooccurrenceRelease,
    readout: WeightsSettings | FactorsSettings,
    fold_in: FoldIn,
    *,
    mu: float,
    eigh: Eigh | None = None,
) -> RankingModel:
    """The published model; popularity and text alone where pairs cannot be told from noise. eigh: for the read-out."""
    popularity = np.maximum(release.popularity, 0.0).astype(np.float32)
    if not enough_signal(release.num_users, mu):
        return _model("cooccurrence", "popularity", popularity, release.head[:0], fold_in)
    if isinstance(readout, WeightsSettings):
        weights = weights_readout(release, readout, eigh=eigh)
        return _model("cooccurrence", "weights", popularity, release.head, fold_in, item_weights=weights)
    factors = factors_readout(release, readout, eigh=eigh)
    return _model("cooccurrence", "factors", popularity, release.head, fold_in, item_factors=factors)


def popularity_model(popularity: NDArray[np.float64], fold_in: FoldIn) -> RankingModel:
    """Released popularity float64 (num_items,), with the catalogue's text where fold_in asks for it."""
    nothing = np.zeros(0, dtype=np.int32)
    return _model("cooccurrence", "popularity", np.maximum(popularity, 0.0).astype(np.float32), nothing, fold_in)


def recon_model(release: ReconRelease, fold_in: FoldIn) -> RankingModel:
    popularity = np.maximum(release.popularity, 0.0).astype(np.float32)
    factors = release.item_factors[release.head].astype(np.float32)
    return _model("recon", "reconstruction", popularity, release.head, fold_in, item_factors=factors)


def untrained_model(num_items: int, *, num_factors: int, fold_in: FoldIn, rng: np.random.Generator) -> RankingModel:
    """The no-federation control: random item factors that no user ever touched, users solved against them as always."""
    factors = rng.standard_normal((num_items, num_factors)).astype(np.float32)
    everything = np.arange(num_items, dtype=np.int32)
    flat = np.ones(num_items, dtype=np.float32)
    return _model("control", "reconstruction", flat, everything, fold_in, item_factors=factors)


def model_scorer(model: RankingModel, features: NDArray[np.float32]) -> Scorer:
    """The scorer of a published model, by the code that a device runs."""
    prepared = for_many_users(model)

    def score(histories: Interactions) -> NDArray[np.float32]:
        return score_many(prepared, features, histories)

    return score


def _model(
    recipe: str,
    readout: Readout,
    popularity: NDArray[np.float32],
    head: NDArray[np.int32],
    fold_in: FoldIn,
    *,
    item_weights: NDArray[np.float32] | None = None,
    item_factors: NDArray[np.float32] | None = None,
) -> RankingModel:
    return RankingModel(
        catalogue_digest="",
        recipe=recipe,
        readout=readout,
        popularity=popularity,
        head=head,
        fold_in=fold_in,
        item_weights=item_weights,
        item_factors=item_factors,
    )
