"""Attack the real release: what an adversary achieves stays below the statement, and broken protection is found out.

The path is the product's: what each tenant's client computes for a step, masks, helpers with exact noise, opened sum.
The adversary is the server together with one helper, and knows every other user.
"""

from functools import cache
from hashlib import sha256
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from client.tenant import tenant_values
from shared.accounting import epsilon
from shared.errors import BadInput
from shared.interactions import Interactions, concatenate
from shared.plan import CooccurrencePlan, ReconPlan, Step, TrainingPlan, make_plan, steps
from simulations.audit import Audit, along, audit
from simulations.auditing.flaws import lost_clip, no_check_before_rounding
from tests.secagg_cast import TENANTS, Round, random_bytes

NUM_ITEMS, NUM_TRIALS, DELTA = 4, 40_000, 1e-5
Kind = Literal["popularity", "pairs", "gradient"]
Flaw = Literal["none", "half the noise", "no honest noise", "no clip", "both noises"]
KINDS: tuple[Kind, ...] = ("popularity", "pairs", "gradient")
RECIPES = (
    CooccurrencePlan(num_head_items=NUM_ITEMS, gamma=0.5, max_head_items_per_user=NUM_ITEMS),
    ReconPlan(
        num_factors=2, num_rounds=1, num_head_items=NUM_ITEMS, max_items_per_user=NUM_ITEMS, ridge=1.0,
        negative_weight=0.1, learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.3, max_grad_norm=0.25,
    ),
)  # fmt: skip


@cache
def plan(kind: Kind) -> TrainingPlan:
    return make_plan(
        job_id="audit",
        recipe=RECIPES[kind == "gradient"],
        catalogue_digest="a" * 64,
        num_items=NUM_ITEMS,
        noise="helpers",
        epsilon=6.0,
        delta=DELTA,
        popularity_share=0.5,
        min_tenants=2,
        min_users=2,
        max_users=1_000,
        bits=32,
        helpers=("north", "south"),
    )


def step_of(kind: Kind) -> Step:
    return next(step for step in steps(plan(kind)) if step.kind == kind)


def history(*rows: list[int], weight: float = 1.0) -> Interactions:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    weights = np.full(len(items), weight, dtype=np.float32)
    return Interactions(num_items=NUM_ITEMS, offsets=offsets, items=items, weights=weights)


OTHERS = history([0, 1, 2], [3], [1, 0], [2, 3, 0, 1])
# Loud: more than the clip lets through, in each of the three kinds, so that all of the clip is used and all is needed.
TARGET = history([0, 1, 2, 3], weight=3.0)
INPUTS: dict[Kind, dict[str, NDArray[np.generic]]] = {
    "popularity": {},
    "pairs": {"head": np.arange(NUM_ITEMS, dtype=np.int32)},
    "gradient": {"item_factors": np.array([[0.3, 0.1], [0.2, -0.2], [0.3, 0.0], [0.1, 0.2]])},
}


def sent(kind: Kind, tenant: str, people: Interactions) -> NDArray[np.int64]:
    """What the client of this tenant adds to the sum. One seed a step, as in a job: its integers do not vary."""
    seed = sha256(tenant.encode()).digest()
    return tenant_values(plan(kind), step_of(kind), INPUTS[kind], people, secret_seed=seed)


def worlds(kind: Kind, flaw: Flaw) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Each tenant's integers without and with the target, who is the first of cedar's users."""
    without = {name: sent(kind, name, OTHERS) for name in TENANTS}
    both = concatenate([TARGET, OTHERS])
    if flaw != "no clip":
        return without, {**without, "cedar": sent(kind, "cedar", both)}
    # The second line of defence refuses such a user; with it in place nothing would be released.
    with lost_clip(kind), no_check_before_rounding():
        return {**without, "cedar": sent(kind, "cedar", OTHERS)}, {**without, "cedar": sent(kind, "cedar", both)}


def releases(kind: Kind, values: dict[str, NDArray[np.int64]], *, flaw: Flaw, seed: int) -> NDArray[np.int64]:
    """What the adversary sees: the opened sum without the noise of the helper that is on its side, trial by trial.

    Trial t owns coordinates [t m, (t + 1) m) of one long round, so the protocol runs once, unchanged.
    """
    mechanism = step_of(kind).mechanism
    assert mechanism is not None
    the_round = Round(num_coordinates=mechanism.num_coordinates * NUM_TRIALS, bits=64, seed=seed)
    contributions = [the_round.contribution(name, np.tile(values[name], NUM_TRIALS)) for name in TENANTS]
    headers = [contribution.header() for contribution in contributions]
    honest: dict[Flaw, int | None] = {"half the noise": mechanism.noise_std // 2, "no honest noise": None}
    others = mechanism.noise_std if flaw == "both noises" else None
    answers = [
        the_round.answer(
            "north", headers, noise_std=honest.get(flaw, mechanism.noise_std), random_bytes=random_bytes(10 + seed)
        ),
        the_round.answer("south", headers, noise_std=others, random_bytes=random_bytes(20 + seed)),
    ]
    return the_round.open(contributions, answers)


@cache
def audited(kind: Kind, flaw: Flaw) -> Audit:
    without, with_user = worlds(kind, flaw)
    direction = (with_user["cedar"] - without["cedar"]).astype(np.float64)
    direction /= np.linalg.norm(direction)
    return audit(
        along(releases(kind, without, flaw=flaw, seed=1), direction),
        along(releases(kind, with_user, flaw=flaw, seed=2), direction),
        delta=DELTA,
    )


def stated(kind: Kind) -> tuple[float, float]:
    mechanism = step_of(kind).mechanism
    assert mechanism is not None
    return mechanism.sensitivity / mechanism.noise_std, epsilon([mechanism], DELTA)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_on_the_real_release_stays_below_the_statement(kind: Kind) -> None:
    found, (mu, cost) = audited(kind, "none"), stated(kind)
    attacked = f"attacked mu >= {found.mu:.4f} epsilon >= {found.epsilon_if_gaussian:.4f}"
    print(f"\n{kind}: stated mu {mu:.4f} epsilon {cost:.4f}; {attacked}")
    assert found.mu <= mu
    assert found.epsilon <= found.epsilon_if_gaussian <= cost


@pytest.mark.parametrize("kind", KINDS)
def test_the_attack_is_strong_enough_to_mean_something(kind: Kind) -> None:
    assert audited(kind, "none").mu >= 0.9 * stated(kind)[0]


@pytest.mark.parametrize("flaw", ["half the noise", "no honest noise", "no clip"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_attack_finds_broken_protection(kind: Kind, flaw: Flaw) -> None:
    found, (mu, cost) = audited(kind, flaw), stated(kind)
    print(f"\n{kind}, {flaw}: stated mu {mu:.4f}; attacked mu >= {found.mu:.4f} epsilon >= {found.epsilon:.4f}")
    assert found.mu > 1.5 * mu
    assert found.epsilon_if_gaussian > cost


def test_without_honest_noise_the_plain_error_rates_suffice_to_refute_the_statement() -> None:
    assert audited("popularity", "no honest noise").epsilon > stated("popularity")[1]


def test_the_server_alone_faces_both_noises() -> None:
    found, (mu, _) = audited("popularity", "both noises"), stated("popularity")
    assert 0.85 * mu / np.sqrt(2) <= found.mu <= mu / np.sqrt(2)


@pytest.mark.parametrize("kind", ["popularity", "pairs"])
def test_a_client_that_loses_its_clip_refuses_to_send(kind: Kind) -> None:
    with lost_clip(kind), pytest.raises(BadInput, match="clip"):
        sent(kind, "cedar", TARGET)


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_clip_the_target_would_exceed_the_statement_by_far(kind: Kind) -> None:
    without, with_user = worlds(kind, "no clip")
    mechanism = step_of(kind).mechanism
    assert mechanism is not None
    assert np.linalg.norm(with_user["cedar"] - without["cedar"]) > 1.9 * mechanism.sensitivity


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_the_audits_bound_is_below_the_truth_as_often_as_it_says(mu: float) -> None:
    rng = np.random.default_rng(7)
    bounds = [
        audit(rng.normal(0, 1, 2_000), rng.normal(mu, 1, 2_000), delta=DELTA, confidence=0.9).mu for _ in range(100)
    ]
    assert np.mean(np.array(bounds) > mu) <= 0.1
    assert np.median(bounds) > 0.4 * mu


def test_the_audit_of_identical_worlds_finds_nothing() -> None:
    rng = np.random.default_rng(8)
    found = audit(rng.normal(size=20_000), rng.normal(size=20_000), delta=DELTA)
    assert found.mu <= 0
    assert found.epsilon == found.epsilon_if_gaussian == 0.0


def test_the_audit_of_separate_worlds_is_limited_by_its_trials_alone() -> None:
    found = audit(np.zeros(20_000), np.ones(20_000), delta=DELTA)
    assert found.epsilon == pytest.approx(np.log(1 / (-np.log(0.0005) / 10_000)), abs=0.01)
    assert found.mu == pytest.approx(2 * norm.isf(-np.log(0.0005) / 10_000), abs=0.01)
