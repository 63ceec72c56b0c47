"""What the demonstration asks of the federation. Chosen on generated marketplaces of other seeds, never on this one."""

from dataclasses import dataclass, field, replace

from shared.plan import CooccurrencePlan, ReconPlan, Topology
from shared.ranking import FoldIn
from shared.recipes.readouts import FactorsSettings, WeightsSettings

AGAINST: dict[Topology, str] = {
    "helpers": "the server and the other tenants, while one of the helpers is honest; and everybody else",
    "pairwise": "the server and up to one other tenant together; and everybody who sees only the model",
}
# Noise in the sum over noise that is counted: two helpers of whom one is, three tenants of whom two are.
NOISE_COPIES: dict[Topology, float] = {"helpers": 2.0, "pairwise": 1.5}
# Three institutions: one of them may work with the server, and then every one has to stay to the end of a round.
CORRUPT, DROPPED = 0.3, 0.0


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model published from a job's releases. readout: None for `recon`, whose model is its item factors."""

    name: str
    readout: WeightsSettings | FactorsSettings | None
    fold_in: FoldIn


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """seed: of the marketplace and of experiments beside the federation, whose own noise comes from the system.

    trainings: how often each private row is trained; the deployed training is the first of them.
    """

    seed: int = 2026
    num_users: int = 10_000
    num_items: int = 1_500
    trainings: int = 4
    epsilon: float = 2.0
    delta: float = 1e-6
    popularity_share: float = 0.08
    recon_popularity_share: float = 0.05
    topology: Topology = "helpers"
    fold_in: FoldIn = FoldIn(recency=2.0, popularity_discount=0.3, text_weight=2.0)
    factors_fold_in: FoldIn = FoldIn(recency=2.0, popularity_discount=0.15, text_weight=1.0)
    recon_fold_in: FoldIn = FoldIn(recency=2.0, max_items=80, text_weight=2.0, ridge=10.0, negative_weight=0.8)
    cooccurrence: CooccurrencePlan = CooccurrencePlan(num_head_items=700, gamma=1.0, max_head_items_per_user=80)
    recon: ReconPlan = ReconPlan(
        num_factors=8,
        num_rounds=4,
        num_head_items=650,
        max_items_per_user=80,
        ridge=0.3,
        negative_weight=0.8,
        learning_rate=0.1,
        momentum=0.0,
        init_seed=1,
        init_std=0.1,
        max_grad_norm=1.0,
    )
    min_users: int = 2_000
    models: tuple[ModelSettings, ...] = field(init=False)
    recon_models: tuple[ModelSettings, ...] = field(init=False)

    @property
    def against(self) -> str:
        return AGAINST[self.topology]

    @property
    def noise_copies(self) -> float:
        return NOISE_COPIES[self.topology]

    def __post_init__(self) -> None:
        weights = WeightsSettings(threshold=0.5, ridge=0.03, diagonal=2.0, rank=150)
        factors = FactorsSettings(ridge=0.03, diagonal=2.0)
        both = (
            ModelSettings(name="market-weights", readout=weights, fold_in=self.fold_in),
            ModelSettings(name="market-factors", readout=factors, fold_in=self.factors_fold_in),
        )
        object.__setattr__(self, "models", both)
        recon = (ModelSettings(name="market-recon", readout=None, fold_in=self.recon_fold_in),)
        object.__setattr__(self, "recon_models", recon)


def settings_of_size(
    *, seed: int, num_users: int, num_items: int, trainings: int, topology: Topology = "helpers"
) -> DemoSettings:
    """The demonstration on another marketplace: heads are the same share of its catalogue, the least cohort of it."""
    usual = DemoSettings()

    def head(size: int) -> int:
        return max(2, round(size * num_items / usual.num_items))

    return replace(
        usual,
        seed=seed,
        num_users=num_users,
        num_items=num_items,
        trainings=trainings,
        topology=topology,
        min_users=max(1, round(usual.min_users * num_users / usual.num_users)),
        cooccurrence=replace(usual.cooccurrence, num_head_items=head(usual.cooccurrence.num_head_items)),
        recon=replace(usual.recon, num_head_items=head(usual.recon.num_head_items)),
    )
