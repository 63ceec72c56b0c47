"""Attack `shared` noise as the server and a colluding tenant would: the likelihood ratio of the Skellam law itself.

The path is the product's: what each tenant's client computes and the noise it adds, signed pairwise masks with one
tenant gone, opened sum. The adversary takes out everything that the colluding tenant sent, and knows all users but one.
What is left carries exactly the parts of noise that the plan counts, so the attack has to come close to the statement.
"""

from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ive

import client.answer
from client.tenant import tenant_values
from shared.accounting import epsilon
from shared.interactions import Interactions, concatenate
from shared.mechanism import Skellam
from shared.plan import CooccurrencePlan, ReconPlan, Step, TrainingPlan, make_plan, steps
from shared.secagg import skellam
from shared.secagg.pairwise_terms import PairwiseMinima
from simulations.audit import Audit, audit
from simulations.auditing.flaws import lost_clip, no_check_before_rounding, replaced
from tests.pairwise_cast import Round, names, random_bytes

NUM_ITEMS, NUM_TRIALS, DELTA = 4, 40_000, 1e-5
Kind = Literal["popularity", "pairs", "gradient"]
Flaw = Literal["none", "half the variance", "one honest part missing", "no clip", "nobody colludes"]
KINDS: tuple[Kind, ...] = ("popularity", "pairs", "gradient")
TENANTS = names(5)
HOLDER, HONEST, COLLUDER, GONE = TENANTS[0], TENANTS[1], TENANTS[3], TENANTS[4]
RECIPES = (
    CooccurrencePlan(num_head_items=NUM_ITEMS, gamma=0.5, max_head_items_per_user=NUM_ITEMS),
    ReconPlan(
        num_factors=2, num_rounds=1, num_head_items=NUM_ITEMS, max_items_per_user=NUM_ITEMS, ridge=1.0,
        negative_weight=0.1, learning_rate=0.1, momentum=0.0, init_seed=1, init_std=0.3, max_grad_norm=0.25,
    ),
)  # fmt: skip
INPUTS: dict[Kind, dict[str, NDArray[np.generic]]] = {
    "popularity": {},
    "pairs": {"head": np.arange(NUM_ITEMS, dtype=np.int32)},
    "gradient": {"item_factors": np.array([[0.3, 0.1], [0.2, -0.2], [0.3, 0.0], [0.1, 0.2]])},
}


@cache
def plan(kind: Kind) -> TrainingPlan:
    """Five tenants, four of which must be there; one of those may collude, so three parts of noise are counted."""
    return make_plan(
        job_id="audit", recipe=RECIPES[kind == "gradient"], catalogue_digest="a" * 64, num_items=NUM_ITEMS,
        noise="shared", epsilon=6.0, delta=DELTA, popularity_share=0.5, min_tenants=4, min_users=2, max_users=1_000,
        bits=32, helpers=(), topology="pairwise", num_parties=5, degree=4, threshold=3, colluding=1,
    )  # fmt: skip


def step_of(kind: Kind) -> Step:
    return next(step for step in steps(plan(kind)) if step.kind == kind)


def mechanism_of(kind: Kind) -> Skellam:
    found = step_of(kind).mechanism
    assert isinstance(found, Skellam)
    return found


def history(*rows: list[int], weight: float = 1.0) -> Interactions:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    weights = np.full(len(items), weight, dtype=np.float32)
    return Interactions(num_items=NUM_ITEMS, offsets=offsets, items=items, weights=weights)


OTHERS = history([0, 1, 2], [3], [1, 0], [2, 3, 0, 1])
# Loud: more than the clip lets through, in each of the three kinds, so that all of the clip is used and all is needed.
TARGET = history([0, 1, 2, 3], weight=3.0)


def summed(kind: Kind, tenant: str, people: Interactions) -> NDArray[np.int64]:
    seed = sha256(tenant.encode()).digest()
    return tenant_values(plan(kind), step_of(kind), INPUTS[kind], people, secret_seed=seed)


def sent(kind: Kind, tenant: str, values: NDArray[np.int64], flaw: Flaw, seed: int) -> NDArray[np.int64]:
    """What the client of this tenant adds to the sum, noise inside: one long step that holds every trial."""
    long = SimpleNamespace(**{**vars(step_of(kind)), "num_coordinates": len(values) * NUM_TRIALS})
    checked: Any = SimpleNamespace(plan=plan(kind), step=long)
    charged: list[Any] = []
    home: Any = SimpleNamespace(
        ledger=SimpleNamespace(charge=lambda **fields: charged.append(fields)),
        policy=SimpleNamespace(budget=None, job_budget=None),
    )
    draw = skellam.sample

    def weak(variance: int, size: int, source: Any) -> NDArray[np.int64]:
        return draw(variance // 4 * 2, size, source)

    def silent(variance: int, size: int, source: Any) -> NDArray[np.int64]:
        return np.zeros(size, dtype=np.int64)

    missing = flaw == "one honest part missing" and tenant == HONEST
    used = weak if flaw == "half the variance" else silent if missing else draw
    with (
        replaced(client.answer, "_values", lambda *_: np.tile(values, NUM_TRIALS)),
        replaced(skellam, "sample", used),
    ):
        found = client.answer._paid_values(
            home, checked, b"", 0, {}, random_bytes(f"{tenant} {kind} {seed}")
        )  # fmt: skip
    assert len(charged) == 1
    return found


def worlds(kind: Kind, flaw: Flaw) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The integers of the tenant that holds the target, without and with it."""
    both = concatenate([TARGET, OTHERS])
    if flaw != "no clip":
        return summed(kind, HOLDER, OTHERS), summed(kind, HOLDER, both)
    with lost_clip(kind), no_check_before_rounding():
        return summed(kind, HOLDER, OTHERS), summed(kind, HOLDER, both)


def releases(kind: Kind, held: NDArray[np.int64], *, flaw: Flaw, seed: int) -> NDArray[np.int64]:
    """What the adversary sees, int64 (NUM_TRIALS, coordinates): the opened sum less what the colluding tenant sent."""
    there = [name for name in TENANTS if name != GONE]
    values = {
        name: sent(kind, name, held if name == HOLDER else summed(kind, name, OTHERS), flaw, seed) for name in there
    }
    the_round = Round(
        num_parties=5, num_coordinates=len(held) * NUM_TRIALS, bits=64, seed=seed, degree=4, threshold=3, min_active=4,
        minima=PairwiseMinima(
            corrupt=0.2, dropped=0.1, privacy_bits=40, recovery_bits=20, min_active=4, min_users=20, least_colluding=1
        ),
    )  # fmt: skip
    total = the_round.run({**values, GONE: values[HOLDER]}, r2=[GONE]).open().total
    known = [] if flaw == "nobody colludes" else [COLLUDER]
    for name in known:
        total = total - values[name]
    for name in there:
        if name not in (HOLDER, *known):
            total = total - np.tile(summed(kind, name, OTHERS), NUM_TRIALS)
    return np.asarray(total).reshape(NUM_TRIALS, len(held))


def log_pmf(values: NDArray[np.int64], variance: int) -> NDArray[np.float64]:
    """Logarithm of the Skellam law, e^-v I_k(v), by Debye's expansion: the Bessel functions of scipy end before.

    With s = sqrt(v^2 + k^2) it is s - v - k asinh(k/v) - ln(2 pi s)/2 + ln(1 + (3/s - 5 k^2/s^3)/24 + ...).
    """
    k, v = np.abs(values).astype(np.float64), float(variance)
    s = np.hypot(v, k)
    correction = np.log1p((3 / s - 5 * k * k / s**3) / 24)
    return np.asarray(k * k / (s + v) - k * np.arcsinh(k / v) - 0.5 * np.log(2 * np.pi * s) + correction)


def test_the_law_that_the_attack_goes_by_is_the_skellam_law() -> None:
    for variance in (10_000, 1_000_000):
        k = np.arange(0, 8 * int(variance**0.5), 7)
        exact = np.log(ive(k.astype(np.float64), float(variance)))
        assert np.max(np.abs(log_pmf(k, variance) - exact)) < 0.1 / variance**1.5


@cache
def audited(kind: Kind, flaw: Flaw) -> Audit:
    without, with_user = worlds(kind, flaw)
    variance = mechanism_of(kind).variance

    def ratio(seen: NDArray[np.int64]) -> NDArray[np.float64]:
        per_coordinate = log_pmf(seen - with_user, variance) - log_pmf(seen - without, variance)
        return np.asarray(per_coordinate.sum(axis=1))

    return audit(
        ratio(releases(kind, without, flaw=flaw, seed=1)),
        ratio(releases(kind, with_user, flaw=flaw, seed=2)),
        delta=DELTA,
    )


def stated(kind: Kind) -> tuple[float, float]:
    """mu of a Gaussian of the counted variance, and the epsilon that the accountant states."""
    mechanism = mechanism_of(kind)
    return mechanism.sensitivity / mechanism.variance**0.5, epsilon([mechanism], DELTA)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_on_shared_noise_stays_below_the_statement(kind: Kind) -> None:
    found, (mu, cost) = audited(kind, "none"), stated(kind)
    attacked = f"attacked mu >= {found.mu:.4f} epsilon >= {found.epsilon_if_gaussian:.4f}"
    print(f"\n{kind}: stated mu {mu:.4f} epsilon {cost:.4f}; {attacked}")
    assert found.mu <= mu
    assert found.epsilon <= found.epsilon_if_gaussian <= cost


@pytest.mark.parametrize("kind", KINDS)
def test_the_attack_is_strong_enough_for_a_missing_part_to_show(kind: Kind) -> None:
    assert audited(kind, "none").mu >= 0.88 * stated(kind)[0] > (2 / 3) ** 0.5 * stated(kind)[0]


BROKEN: list[tuple[Kind, Flaw]] = [
    # Noise is added without looking at what the coordinates mean; a clip there is for each kind.
    ("popularity", "half the variance"),
    ("popularity", "one honest part missing"),
    *((kind, "no clip") for kind in KINDS),
]


@pytest.mark.parametrize(("kind", "flaw"), BROKEN)
def test_the_same_attack_finds_broken_protection(kind: Kind, flaw: Flaw) -> None:
    found, (mu, cost) = audited(kind, flaw), stated(kind)
    print(f"\n{kind}, {flaw}: stated mu {mu:.4f} epsilon {cost:.4f}; attacked mu >= {found.mu:.4f}")
    assert found.mu > 1.05 * mu
    assert found.epsilon_if_gaussian > cost


def test_the_server_alone_faces_one_part_more() -> None:
    found, (mu, _) = audited("popularity", "nobody colludes"), stated("popularity")
    assert 0.85 * mu * (3 / 4) ** 0.5 <= found.mu <= mu * (3 / 4) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_counted_variance_is_that_of_three_parts(kind: Kind) -> None:
    assert mechanism_of(kind).variance == 3 * step_of(kind).noise_variance
