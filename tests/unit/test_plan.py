from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import pytest

from shared.accounting import epsilon
from shared.canonical import canonical_json
from shared.errors import BadSetting, MalformedMessage
from shared.mechanism import Skellam
from shared.plan import (
    MIN_GRAD_NORM,
    CooccurrencePlan,
    ReconPlan,
    TrainingPlan,
    make_plan,
    mechanisms,
    plan_from_json,
    plan_to_json,
    steps,
)

COOCCURRENCE = CooccurrencePlan(num_head_items=40, gamma=0.5, max_head_items_per_user=20)
RECON = ReconPlan(
    num_factors=8,
    num_rounds=3,
    num_head_items=40,
    max_items_per_user=20,
    ridge=1.0,
    negative_weight=0.1,
    learning_rate=1.0,
    momentum=0.5,
    init_seed=1,
    init_std=0.1,
    max_grad_norm=0.5,
)


def plan(**changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "job_id": "autumn-1",
        "recipe": COOCCURRENCE,
        "catalogue_digest": "a" * 64,
        "num_items": 100,
        "noise": "helpers",
        "epsilon": 1.0,
        "delta": 1e-6,
        "popularity_share": 0.1,
        "min_tenants": 2,
        "min_users": 100,
        "max_users": 20_000,
        "bits": 64,
        "helpers": ("north", "south"),
    }
    return make_plan(**{**fields, **changes})


def pairwise(**changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "topology": "pairwise",
        "helpers": (),
        "noise": "shared",
        "num_parties": 5,
        "degree": 4,
        "threshold": 3,
        "colluding": 1,
        "min_tenants": 4,
    }
    return plan(**{**fields, **changes})


@pytest.mark.parametrize("recipe", [COOCCURRENCE, RECON])
@pytest.mark.parametrize("target", [0.5, 1.0, 5.0])
def test_the_noise_is_the_least_that_keeps_the_promise(recipe: CooccurrencePlan | ReconPlan, target: float) -> None:
    made = plan(recipe=recipe, epsilon=target)
    assert epsilon(mechanisms(made), made.delta) <= target
    bolder = replace(made, mu=made.mu * 1.01)
    assert epsilon(mechanisms(bolder), made.delta) > target


def test_a_cooccurrence_plan_has_two_releases_and_recon_one_a_round() -> None:
    assert [step.kind for step in steps(plan())] == ["popularity", "pairs"]
    assert [step.kind for step in steps(plan(recipe=RECON))] == ["popularity"] + ["gradient"] * 3
    assert steps(plan())[1].num_coordinates == 40 * 39 // 2
    assert steps(plan(recipe=RECON))[1].num_coordinates == 100 * 8


THREE = ("east", "north", "south")


@pytest.mark.parametrize("recipe", [COOCCURRENCE, RECON])
def test_a_spare_helper_costs_the_square_root_of_two_in_noise_and_no_epsilon(
    recipe: CooccurrencePlan | ReconPlan,
) -> None:
    # Two holders of a mask can be asked about two cohorts: two releases of one vector, under the same promise.
    one, spare = plan(recipe=recipe, helpers=THREE), plan(recipe=recipe, helpers=THREE, spare_helpers=1)
    assert (one.releases_per_step, spare.releases_per_step) == (1, 2)
    assert spare.mu == pytest.approx(one.mu, rel=1e-3)
    for single, double in zip(steps(one), steps(spare), strict=True):
        assert single.mechanism is not None
        assert double.mechanism is not None
        each = double.mechanism.sensitivity / double.scale, single.mechanism.sensitivity / single.scale
        assert each[0] == pytest.approx(sqrt(2) * each[1], rel=1e-3)
        assert double.mechanism.num_coordinates == 2 * double.num_coordinates == 2 * single.mechanism.num_coordinates
        noise = double.mechanism.noise_std / double.scale, single.mechanism.noise_std / single.scale
        assert noise[0] == pytest.approx(sqrt(2) * noise[1], rel=2e-3)
    assert epsilon(mechanisms(spare), spare.delta) <= 1.0


def test_noise_that_tenants_add_is_released_once_however_many_helpers_are_asked() -> None:
    assert plan(noise="tenant", helpers=THREE, spare_helpers=1).releases_per_step == 1


@pytest.mark.parametrize(
    ("helpers", "spare"),
    [(("a", "b"), 1), (("a", "b", "c"), 2), (("a", "b", "c"), -1), (tuple("abcdef"), 3), (tuple("abcdefghi"), 1)],
)
def test_helpers_that_cannot_share_the_masks_so_are_a_bad_setting(helpers: tuple[str, ...], spare: int) -> None:
    with pytest.raises(BadSetting, match="helpers"):
        plan(helpers=helpers, spare_helpers=spare)


def test_without_noise_there_is_nothing_to_account() -> None:
    assert mechanisms(plan(noise="none")) == ()


def test_json_gives_back_the_same_plan_and_digest() -> None:
    in_cohorts = plan(cohorts=5, trim=1, max_spread=0.5)
    for made in (plan(), plan(recipe=RECON), in_cohorts, pairwise(), pairwise(recipe=RECON)):
        again = plan_from_json(plan_to_json(made))
        assert again == made
        assert again.digest == made.digest


def test_every_field_changes_the_digest() -> None:
    made = plan()
    changes: dict[str, Any] = {
        "job_id": "autumn-2",
        "recipe": RECON,
        "catalogue_digest": "b" * 64,
        "num_items": 101,
        "noise": "tenant",
        "mu": 9.0,
        "epsilon": 2.0,
        "delta": 1e-5,
        "popularity_share": 0.2,
        "min_tenants": 3,
        "min_users": 101,
        "max_users": 20_001,
        "bits": 32,
        "helpers": ("south", "north"),
        "spare_helpers": 1,
    }
    of_pairs: dict[str, Any] = {"num_parties": 6, "degree": 5, "threshold": 4, "colluding": 0}
    made, by_pairs = replace(made, helpers=("east", "north", "south")), pairwise()
    of_cohorts: dict[str, Any] = {"cohorts": 6, "trim": 1, "max_spread": 0.5}
    in_cohorts = replace(made, cohorts=5, trim=2)
    assert {*changes, *of_pairs, *of_cohorts, "topology"} == set(TrainingPlan.__dataclass_fields__)
    digests = {replace(made, **{name: value}).digest for name, value in changes.items()} | {made.digest}
    digests |= {replace(by_pairs, **{name: value}).digest for name, value in of_pairs.items()} | {by_pairs.digest}
    digests |= {replace(in_cohorts, **{name: value}).digest for name, value in of_cohorts.items()} | {in_cohorts.digest}
    assert len(digests) == len(changes) + 1 + len(of_pairs) + 1 + len(of_cohorts) + 1


def test_a_plan_of_one_cohort_is_written_as_before_there_were_several() -> None:
    written = plan_to_json(plan())
    assert not {"cohorts", "trim", "max_spread"} & written.keys()
    with pytest.raises(MalformedMessage, match="left out where there is one cohort"):
        plan_from_json({**written, "cohorts": 1, "trim": 0, "max_spread": 2.0})


def test_a_number_has_one_form_in_a_plan_from_a_peer() -> None:
    whole = plan_to_json(plan(cohorts=5, trim=1, max_spread=1.0, recipe=RECON))
    reals = [name for name, value in whole.items() if type(value) is float]
    assert set(reals) == {"mu", "epsilon", "delta", "popularity_share", "max_spread"}
    # For the others no whole number is in their range; at these two the digest would be the same.
    for name in ("epsilon", "max_spread"):
        with pytest.raises(MalformedMessage, match=f"{name} must be a finite number, written with a point"):
            plan_from_json({**whole, name: int(whole[name])})
    for name, value in whole["recipe"].items():
        if type(value) is float:
            with pytest.raises(MalformedMessage, match=f"{name} must be a finite number, written with a point"):
                plan_from_json({**whole, "recipe": {**whole["recipe"], name: int(value)}})
        elif type(value) is int:
            with pytest.raises(MalformedMessage, match=f"{name} must be a whole number"):
                plan_from_json({**whole, "recipe": {**whole["recipe"], name: float(value)}})


def test_a_plan_that_was_made_with_whole_numbers_is_written_with_points() -> None:
    in_python, whole = replace(plan(), mu=1, epsilon=1), replace(plan(), mu=1.0, epsilon=1.0)
    assert canonical_json(plan_to_json(in_python)) == canonical_json(plan_to_json(whole))
    assert in_python.digest == whole.digest
    assert plan_from_json(plan_to_json(in_python)) == whole
    gamma = CooccurrencePlan(num_head_items=8, gamma=1, max_head_items_per_user=8)
    assert b'"gamma":1.0' in canonical_json(plan_to_json(plan(recipe=gamma)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohorts": 0}, "from 1 to 32, got 0"),
        ({"cohorts": 33}, "from 1 to 32, got 33"),
        ({"trim": 1}, "trim 1 needs 3 cohorts at least, there are 1"),
        ({"cohorts": 4, "trim": 2}, "trim 2 needs 5 cohorts at least, there are 4"),
        ({"cohorts": 3, "trim": -1}, "trim -1"),
        ({"cohorts": 3, "max_spread": 0.0}, "max_spread must be above 0"),
        ({"cohorts": 3, "max_spread": 2.1}, "max_spread must be above 0"),
        ({"max_spread": 0.5}, "there is one"),
        ({"cohorts": 3, "trim": 1, "max_users": 299}, "does not hold 3 cohorts of min_users 100"),
    ],
)
def test_cohorts_that_cannot_be_summed_or_trimmed_are_a_bad_setting(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        plan(**changes)


def test_a_pairwise_plan_with_cohorts_is_refused_in_one_sentence() -> None:
    with pytest.raises(BadSetting, match="cohorts are of topology 'helpers': a pairwise round sums all of its tenants"):
        pairwise(cohorts=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bits", 20),
        ("bits", True),
        ("bits", 64.0),
        ("epsilon", float("nan")),
        ("epsilon", "1"),
        ("noise", "off"),
        ("helpers", ["one"]),
        ("helpers", 3),
        ("spare_helpers", 1),
        ("spare_helpers", -1),
        ("spare_helpers", False),
        ("spare_helpers", 0.0),
        ("min_users", 0),
        ("max_users", 10),
        ("job_id", "../../etc"),
        ("catalogue_digest", "zz"),
        ("mu", -1.0),
        ("delta", 1.0),
        ("popularity_share", 1.0),
        ("recipe", {"name": "magic"}),
        ("recipe", None),
        ("surprise", 1),
        ("cohorts", 2),
        ("num_items", 2**60),
        ("format", "x"),
    ],
)
def test_a_bad_field_from_a_peer_is_refused(field: str, value: Any) -> None:
    with pytest.raises(MalformedMessage, match="plan"):
        plan_from_json({**plan_to_json(plan()), field: value})


def test_a_missing_field_from_a_peer_is_refused() -> None:
    for whole in (plan_to_json(plan()), plan_to_json(plan(cohorts=5, trim=1))):
        for field in whole:
            with pytest.raises(MalformedMessage, match="plan"):
                plan_from_json({name: value for name, value in whole.items() if name != field})


def test_a_head_larger_than_the_catalogue_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="num_head_items 40"):
        plan(num_items=30)


@pytest.mark.parametrize("recipe", [COOCCURRENCE, RECON])
@pytest.mark.parametrize("target", [0.5, 2.0])
def test_shared_noise_is_the_least_that_keeps_the_promise_with_the_honest_tenants_alone(
    recipe: CooccurrencePlan | ReconPlan, target: float
) -> None:
    made = pairwise(recipe=recipe, epsilon=target)
    assert epsilon(mechanisms(made), made.delta) <= target
    assert epsilon(mechanisms(replace(made, mu=made.mu * 1.01)), made.delta) > target
    for step in steps(made):
        assert isinstance(step.mechanism, Skellam)
        # Three of the four tenants in a sum may be counted on.
        assert step.mechanism.variance == 3 * step.noise_variance


def test_one_more_colluding_tenant_takes_a_larger_share_of_noise_from_each() -> None:
    fewer, more = (pairwise(colluding=colluding, min_tenants=5) for colluding in (0, 2))
    for before, after in zip(steps(fewer), steps(more), strict=True):
        assert after.noise_variance == pytest.approx(before.noise_variance * 5 / 3, rel=1e-3)


def test_the_l1_sensitivity_counts_the_entries_that_one_user_can_change() -> None:
    popularity, pairs = steps(pairwise())
    assert isinstance(popularity.mechanism, Skellam)
    assert isinstance(pairs.mechanism, Skellam)
    assert popularity.mechanism.l1_sensitivity == pytest.approx(popularity.mechanism.sensitivity * sqrt(100))
    assert pairs.mechanism.l1_sensitivity == pytest.approx(pairs.mechanism.sensitivity * sqrt(20 * 19 / 2))
    *_, gradient = steps(pairwise(recipe=RECON))
    assert isinstance(gradient.mechanism, Skellam)
    assert gradient.mechanism.l1_sensitivity == pytest.approx(gradient.mechanism.sensitivity * sqrt(100 * 8))


def test_in_a_narrow_ring_integers_bound_the_l1_sensitivity_by_their_squares() -> None:
    made = pairwise(bits=24, max_users=90_000, min_tenants=5, epsilon=8.0)
    popularity = steps(made)[0]
    assert popularity.scale < 100
    assert isinstance(popularity.mechanism, Skellam)
    d2 = popularity.mechanism.sensitivity
    assert popularity.mechanism.l1_sensitivity == pytest.approx(min(d2 * d2, d2 * sqrt(100)))


def test_the_ring_holds_the_users_and_the_noise_of_every_invited_tenant() -> None:
    made = pairwise(bits=32)
    for step in steps(made):
        noise = sqrt(made.num_parties * step.noise_variance)
        assert made.max_users * (ceil(step.scale * step.clip) + 1) + 12 * noise < 2**31


@pytest.mark.parametrize("noise", ["tenant", "none"])
def test_without_shared_noise_a_step_is_what_it_is_with_helpers(noise: str) -> None:
    for one, other in zip(steps(plan(noise=noise)), steps(pairwise(noise=noise)), strict=True):
        assert type(one.mechanism) is type(other.mechanism)
        assert one.num_coordinates == other.num_coordinates
    assert noise == "tenant" or steps(plan(noise="none")) == steps(pairwise(noise="none"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": "helpers"}, "noise must be one of tenant, shared, none, got 'helpers'"),
        ({"helpers": ("north", "south")}, "has no helpers"),
        ({"spare_helpers": 1}, "has no helpers"),
        ({"threshold": 5}, "threshold is at most degree"),
        ({"degree": 3}, "the degree must be even"),
        ({"num_parties": 0}, "whole numbers from 1 to 4000"),
        ({"min_tenants": 6}, "min_active at most num_parties"),
        ({"colluding": 3}, "colluding must be from 0 to min_tenants - 2 = 2"),
        ({"colluding": -1}, "colluding must be from 0"),
        ({"topology": "ring"}, "topology must be one of helpers, pairwise, got 'ring'"),
    ],
)
def test_a_pairwise_plan_with_numbers_that_do_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        pairwise(**changes)
    with pytest.raises(MalformedMessage):
        plan_from_json({**plan_to_json(pairwise()), **changes, "helpers": list(changes.get("helpers", ()))})


@pytest.mark.parametrize("changes", [{"noise": "shared"}, {"num_parties": 5}, {"colluding": 1}, {"threshold": 3}])
def test_a_plan_with_helpers_has_nothing_of_a_pairwise_one(changes: dict[str, Any]) -> None:
    with pytest.raises(BadSetting):
        plan(**changes)


def test_a_clip_of_gradients_below_the_least_is_refused() -> None:
    written = plan_to_json(plan(recipe=replace(RECON, max_grad_norm=MIN_GRAD_NORM)))
    assert plan_from_json(written).digest
    written["recipe"]["max_grad_norm"] = MIN_GRAD_NORM / 1.01
    with pytest.raises(MalformedMessage, match="max_grad_norm must be at least 1e-06"):
        plan_from_json(written)
