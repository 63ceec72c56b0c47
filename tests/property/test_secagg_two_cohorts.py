"""Two holders of one mask asked about two cohorts: an adversary gets two sums, and what it pays for is two releases.

The adversary is the server with one of three helpers, east, of which one may be absent. It knows the masks of every
slot that east holds. Of the slot that is left, north and south each answer once; nothing tells them of each other.
"""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import IllegalTransition
from shared.plan import Step, TrainingPlan, make_plan, steps
from shared.secagg import ring
from shared.secagg.topology_h import Contribution, HelperAnswer
from simulations.audit import Audit, along, audit
from tests.property import test_privacy_audit as single
from tests.secagg_cast import ONE_MAY_BE_ABSENT, TENANTS, Round, random_bytes

EAST_NORTH, EAST_SOUTH, NORTH_SOUTH = ONE_MAY_BE_ABSENT.slots
HONEST = ("north", "south")
COHORTS = [cohort for size in (2, 3) for cohort in combinations(TENANTS, size)]


def known_masks(the_round: Round, cohort: list[Contribution]) -> HelperAnswer:
    """East does as the server likes: any cohort, as often as it likes, without noise."""
    headers = [each.header() for each in cohort]
    return the_round.answer("east", headers, slots=(EAST_NORTH, EAST_SOUTH), noise_std=None)


def opened(the_round: Round, cohort: list[Contribution], honest: HelperAnswer) -> NDArray[np.int64]:
    return the_round.open(cohort, [known_masks(the_round, cohort), honest])


def answer_of(the_round: Round, helper: str, cohort: list[Contribution], **changes: Any) -> HelperAnswer:
    return the_round.answer(helper, [each.header() for each in cohort], slots=(NORTH_SOUTH,), **changes)


@settings(max_examples=30, deadline=None)
@given(
    first=st.sampled_from(COHORTS), second=st.sampled_from(COHORTS), third=st.sampled_from(COHORTS),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_without_noise_the_adversary_finds_exactly_two_sums_and_of_a_third_nothing(
    first: tuple[str, ...], second: tuple[str, ...], third: tuple[str, ...], seed: int
) -> None:
    size = 64
    rng = np.random.default_rng(seed)
    values = {name: rng.integers(-1_000, 1_000, size) for name in TENANTS}
    the_round = Round(num_coordinates=size, bits=64, seed=seed, sharing=ONE_MAY_BE_ABSENT)
    sent = {name: the_round.contribution(name, values[name]) for name in TENANTS}
    answers = {}
    for helper, names in zip(HONEST, (first, second), strict=True):
        cohort = [sent[name] for name in names]
        answers[helper] = answer_of(the_round, helper, cohort)
        found = opened(the_round, cohort, answers[helper])
        assert np.array_equal(found, sum(values[name] for name in names))
    if set(third) in (set(first), set(second)):
        return
    # Both answers in every small combination leave a third cohort's sum under a mask: nothing near the truth.
    cohort = [sent[name] for name in third]
    masked = sum(_ring(each.masked, size) for each in (*cohort,)) + _ring(known_masks(the_round, cohort).mask_sum, size)
    truth = sum(values[name] for name in third)
    masks = [_ring(answers[helper].mask_sum, size) for helper in HONEST]
    for north in range(-2, 3):
        for south in range(-2, 3):
            with np.errstate(over="ignore"):
                left = masked + np.int64(north) * masks[0] + np.int64(south) * masks[1] - truth
            assert np.median(np.abs(left.astype(np.float64))) > 2.0**58


def _ring(packed: bytes, size: int) -> NDArray[np.int64]:
    return np.asarray(ring.unpack(packed, 64, size).view(np.int64))


def test_the_cohort_that_the_honest_helpers_were_not_asked_about_does_not_open() -> None:
    the_round = Round(sharing=ONE_MAY_BE_ABSENT)
    contributions = the_round.contributions()
    with pytest.raises(IllegalTransition):
        the_round.open(contributions, [known_masks(the_round, contributions)])


# --- the same with noise, under the statement of a plan ---

KINDS: tuple[single.Kind, ...] = ("popularity", "gradient")


@cache
def plan(kind: single.Kind) -> TrainingPlan:
    fields = {name: getattr(single.plan(kind), name) for name in TrainingPlan.__dataclass_fields__}
    del fields["mu"]
    return make_plan(**{**fields, "helpers": ONE_MAY_BE_ABSENT.helpers, "spare_helpers": 1})


def step_of(kind: single.Kind) -> Step:
    return next(step for step in steps(plan(kind)) if step.kind == kind)


def stated(step: Step) -> float:
    assert step.mechanism is not None
    return step.mechanism.sensitivity / step.mechanism.noise_std


def two_releases(step: Step, values: dict[str, NDArray[np.int64]], *, seed: int) -> list[NDArray[np.int64]]:
    """The sums that north and south each open for the adversary, over two cohorts that both hold the target.

    Trial t owns coordinates [t m, (t + 1) m) of one long round, so the protocol runs once, unchanged.
    """
    assert step.mechanism is not None
    size = step.num_coordinates * single.NUM_TRIALS
    the_round = Round(num_coordinates=size, bits=64, seed=seed, sharing=ONE_MAY_BE_ABSENT)
    sent = {name: the_round.contribution(name, np.tile(values[name], single.NUM_TRIALS)) for name in TENANTS}
    found = []
    for helper, names in zip(HONEST, (TENANTS, TENANTS[1:]), strict=True):
        cohort = [sent[name] for name in names]
        source = random_bytes(30 + 2 * seed + HONEST.index(helper))
        honest = answer_of(the_round, helper, cohort, noise_std=step.mechanism.noise_std, random_bytes=source)
        found.append(opened(the_round, cohort, honest))
    return found


def attack(kind: single.Kind, step: Step) -> Audit:
    # Without another scale than the one of the plan: what a tenant sends is computed for this step.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "plan", plan)
        patch.setattr(single, "step_of", lambda _: step)
        without, with_user = single.worlds(kind, "none")
    direction = (with_user["cedar"] - without["cedar"]).astype(np.float64)
    direction /= np.linalg.norm(direction)
    scores = []
    for seed, values in ((1, without), (2, with_user)):
        # The others are known to it, so the most powerful test adds up both releases along the target.
        scores.append(sum(along(release, direction) for release in two_releases(step, values, seed=seed)))
    return audit(scores[0], scores[1], delta=single.DELTA)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sums_together_stay_below_what_the_plan_states(kind: single.Kind) -> None:
    step = step_of(kind)
    found = attack(kind, step)
    print(f"\n{kind}: stated mu {stated(step):.4f}; attacked mu >= {found.mu:.4f}")
    assert 0.9 * stated(step) <= found.mu <= stated(step)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_that_accounts_one_release_a_step_is_refuted(kind: single.Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = plan(kind)
    monkeypatch.setattr(TrainingPlan, "releases_per_step", 1)
    step = next(each for each in steps(honest) if each.kind == kind)
    found = attack(kind, step)
    print(f"\n{kind}, one release accounted: stated mu {stated(step):.4f}; attacked mu >= {found.mu:.4f}")
    assert found.mu > 1.25 * stated(step)
