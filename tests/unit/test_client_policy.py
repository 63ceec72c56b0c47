"""The local policy: read strictly, written with its documentation, and held against every field of a plan."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from client.policy import LocalPolicy, PinnedHelper, check_plan, demands
from client.policy_file import load_policy, policy_from, render_policy
from shared.errors import BadSetting, PolicyViolation
from shared.plan import CooccurrencePlan, ReconPlan, TrainingPlan
from shared.roster import Roster
from tests.unit.client_homes import CATALOGUE, PINS, ROSTER, cooccurrence, make_catalogue, make_policy, pairwise, recon

THREE = ("east", "north", "south")


def check(policy: LocalPolicy, plan: TrainingPlan, roster: Roster = ROSTER) -> None:
    check_plan(policy, plan, roster, CATALOGUE)


@pytest.mark.parametrize(
    "plan",
    [cooccurrence(), recon(), cooccurrence(noise="tenant"), cooccurrence(helpers=THREE, spare_helpers=1)],
)
def test_a_plan_within_the_policy_is_accepted(plan: TrainingPlan) -> None:
    check(make_policy(), plan)


def test_a_rendered_policy_reads_back_equal_and_documents_every_key(tmp_path: Path) -> None:
    policy = make_policy(app_digests=("a" * 64,), issuer_public_key="b" * 64, epsilon=2.5)
    text = render_policy(policy)
    (tmp_path / "policy.toml").write_text(text)
    assert load_policy(tmp_path / "policy.toml") == policy
    lines = text.splitlines()
    for entry in fields(LocalPolicy):
        start = next(n for n, line in enumerate(lines) if line.startswith((f"{entry.name} =", f"[{entry.name}.")))
        assert lines[start - 1].startswith("# ")
        assert len(entry.metadata["doc"]) > 30


def test_an_infinite_budget_survives_the_file(tmp_path: Path) -> None:
    policy = make_policy(epsilon=float("inf"), allowed_noise=("none",))
    (tmp_path / "policy.toml").write_text(render_policy(policy))
    assert load_policy(tmp_path / "policy.toml").budget is None


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("min_user = 5", "min_user"),
        ("min_users = 5.5", "min_users"),
        ("min_users = true", "min_users"),
        ('min_users = "5"', "min_users"),
        ("min_users = 0", "min_users"),
        ("epsilon = nan", "epsilon"),
        ("epsilon = 0", "epsilon"),
        ("epsilon = -1.0", "epsilon"),
        ('epsilon = "1"', "epsilon"),
        ("epsilon = true", "epsilon"),
        ("delta = 0.0", "delta"),
        ("delta = 1.0", "delta"),
        ("max_epsilon_per_job = 0.0", "max_epsilon_per_job"),
        ("max_grad_norm = inf", "max_grad_norm"),
        ("min_helpers = 1", "min_helpers"),
        ("min_bits = 20", "min_bits"),
        ("declared_users = 0", "declared_users"),
        ("min_tenants = 0", "min_tenants"),
        ("max_rounds = 0", "max_rounds"),
        ("max_num_factors = 0", "max_num_factors"),
        ("max_head_items = 1", "max_head_items"),
        ("max_items_per_user = 1", "max_items_per_user"),
        ("allowed_noise = []", "allowed_noise"),
        ('allowed_noise = "helpers"', "allowed_noise"),
        ('allowed_noise = ["server"]', "allowed_noise"),
        ('allowed_noise = ["none"]', "epsilon"),
        ('allowed_recipes = ["als"]', "allowed_recipes"),
        ('allowed_topologies = ["ring"]', "allowed_topologies"),
        ("allowed_topologies = []", "allowed_topologies"),
        ("pairwise_corrupt = 1.0", "pairwise_corrupt"),
        ("pairwise_corrupt = -0.1", "pairwise_corrupt"),
        ("pairwise_dropped = nan", "pairwise_dropped"),
        ("pairwise_privacy_bits = 0", "pairwise_privacy_bits"),
        ("pairwise_recovery_bits = 1.5", "pairwise_recovery_bits"),
        ('issuer_public_key = "abc"', "issuer_public_key"),
        ("issuer_public_key = 7", "issuer_public_key"),
        ('publisher_public_key = "' + "G" * 64 + '"', "publisher_public_key"),
        ('app_digests = ["abc"]', "app_digests"),
        ("app_digests = [7]", "app_digests"),
        ('ledger_marks = "here.marks"', "ledger_marks"),
        ("helpers = 7", "helpers"),
        ("[helpers]\nnorth = 7", "helpers.north"),
        ('[helpers.north]\nsigning = "' + "1" * 64 + '"\nsealing = "' + "2" * 64 + '"', "helpers.north.sealing"),
        ('[helpers.north]\nsigning = "1"', "helpers.north.signing"),
        ("[helpers.north]", "helpers.north.signing"),
        ("serve_as = []", "serve_as"),
        ('serve_as = ["server"]', "serve_as"),
        ('[helpers.north]\nkey = "1"', "helpers.north.key"),
        ('[helpers."North Pole"]\nsigning = "' + "1" * 64 + '"', "helpers"),
        ('[helpers.north]\nsigning = "' + "1" * 64 + '"\n[helpers.again]\nsigning = "' + "1" * 64 + '"', "helpers"),
    ],
)
def test_an_unusable_setting_is_refused_naming_file_and_key(tmp_path: Path, line: str, names: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'name = "north"\n{line}\n')
    with pytest.raises(BadSetting) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)
    assert f"setting {names} " in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"name", b"\xff\xfe", b"name = 'North'", b"name = 7"])
def test_a_file_that_is_no_policy_is_refused_naming_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "policy.toml").write_bytes(text)
    with pytest.raises(BadSetting, match=r"policy\.toml"):
        load_policy(tmp_path / "policy.toml")


def test_a_missing_policy_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="zhiyin client init"):
        load_policy(tmp_path / "policy.toml")


def test_the_defaults_allow_no_unprotected_release_and_trust_nobody() -> None:
    policy = policy_from({"name": "north"})
    assert "none" not in policy.allowed_noise
    assert policy.budget is not None
    assert not policy.helpers
    assert not policy.app_digests
    assert not policy.issuer_public_key
    assert not policy.publisher_public_key


def with_recipe(plan: TrainingPlan, **changes: Any) -> TrainingPlan:
    return replace(plan, recipe=replace(plan.recipe, **changes))


PAIRWISE = make_policy(allowed_topologies=("pairwise",), allowed_noise=("shared",))
REFUSED: list[tuple[str, LocalPolicy, TrainingPlan]] = [
    ("catalogue_digest", make_policy(), replace(cooccurrence(), catalogue_digest="0" * 64)),
    ("num_items", make_policy(), replace(cooccurrence(), num_items=13)),
    ("recipe", make_policy(allowed_recipes=("recon",)), cooccurrence()),
    ("noise", make_policy(allowed_noise=("tenant",)), cooccurrence()),
    ("noise", make_policy(), cooccurrence(noise="none")),
    ("min_tenants", make_policy(min_tenants=4), cooccurrence()),
    ("min_users", make_policy(min_users=201), cooccurrence()),
    ("max_users", make_policy(declared_users=2_001), cooccurrence()),
    ("bits", make_policy(min_bits=64), cooccurrence()),
    ("cohorts", make_policy(min_cohorts=3), cooccurrence(cohorts=2)),
    ("cohorts", make_policy(max_cohorts=1), cooccurrence(cohorts=2)),
    ("cohorts", replace(PAIRWISE, min_cohorts=2), pairwise()),
    ("helpers", make_policy(min_helpers=3), cooccurrence()),
    ("helpers", make_policy(min_helpers=4), cooccurrence(helpers=THREE)),
    ("spare_helpers", make_policy(min_helpers=3), cooccurrence(helpers=THREE, spare_helpers=1)),
    ("helpers", make_policy(), cooccurrence(helpers=("north", "stranger"))),
    ("helpers", make_policy(helpers={}), cooccurrence()),
    ("num_head_items", make_policy(max_head_items=7), cooccurrence()),
    ("num_head_items", make_policy(max_head_items=7), recon()),
    ("max_head_items_per_user", make_policy(max_items_per_user=7), cooccurrence()),
    ("num_rounds", make_policy(max_rounds=1), recon()),
    ("num_factors", make_policy(max_num_factors=3), recon()),
    ("max_items_per_user", make_policy(max_items_per_user=7), recon()),
    ("max_grad_norm", make_policy(max_grad_norm=0.5), recon()),
    ("topology", make_policy(allowed_topologies=("pairwise",)), cooccurrence()),
    ("topology", make_policy(allowed_noise=("shared",)), pairwise()),
    ("noise", make_policy(allowed_topologies=("pairwise",)), pairwise()),
    ("num_parties", PAIRWISE, pairwise(num_parties=4, degree=3)),
    ("num_parties", PAIRWISE, pairwise(num_parties=3, degree=2, threshold=2, min_tenants=3)),
    ("degree", PAIRWISE, pairwise(degree=2, threshold=2)),
    ("colluding", PAIRWISE, pairwise(colluding=0)),
    ("threshold", PAIRWISE, pairwise(threshold=2)),
    ("threshold", PAIRWISE, pairwise(colluding=2)),
    ("min_tenants", replace(PAIRWISE, min_tenants=5), pairwise()),
    ("epsilon", PAIRWISE, replace(pairwise(), mu=1.1 * pairwise().mu)),
    ("delta", make_policy(delta=1e-7), cooccurrence()),
    ("epsilon", make_policy(max_epsilon_per_job=0.9), cooccurrence()),
    ("epsilon", make_policy(epsilon=0.9), cooccurrence()),
    ("epsilon", make_policy(), replace(cooccurrence(), epsilon=0.99)),
    ("epsilon", make_policy(), replace(recon(), mu=2 * recon().mu)),
]


@pytest.mark.parametrize(("field", "policy", "plan"), REFUSED)
def test_a_plan_beyond_the_policy_is_refused_naming_the_field(
    field: str, policy: LocalPolicy, plan: TrainingPlan
) -> None:
    with pytest.raises(PolicyViolation, match=rf"^plan job-1: {field} is .+ policy allows .+$"):
        check(policy, plan)


def test_every_comparison_that_the_check_makes_has_a_plan_above_that_fails_it() -> None:
    made = {
        demand.field
        for plan in (cooccurrence(), recon(), pairwise())
        for demand in demands(make_policy(), plan, ROSTER, CATALOGUE)
    }
    # Where no graph would do, it is the number of parties that is refused.
    assert made | {"num_parties"} == {field for field, _, _ in REFUSED}


def test_a_pairwise_plan_within_the_policy_passes() -> None:
    check(PAIRWISE, pairwise())
    check(replace(PAIRWISE, allowed_noise=("tenant",)), pairwise(noise="tenant"))


def test_a_federation_of_three_passes_only_where_the_policy_assumes_less_on_purpose() -> None:
    three = pairwise(num_parties=3, degree=2, threshold=2, min_tenants=3)
    with pytest.raises(PolicyViolation, match="federations of 3 or 4 need smaller shares"):
        check(PAIRWISE, three)
    check(replace(PAIRWISE, pairwise_dropped=0.0), three)
    check(replace(PAIRWISE, pairwise_dropped=0.0, pairwise_corrupt=0.0), three)


def test_the_share_that_may_collude_is_of_all_tenants_on_the_roster() -> None:
    # Six of them, of which the server invites five: it would invite the two that work with it.
    more = tuple(
        replace(ROSTER.entries[0], name=f"more-{n}", signing_key=f"{n}a" * 32, sealing=None, roles=("tenant",))
        for n in range(3)
    )
    entries = (*ROSTER.entries, *more)
    with pytest.raises(PolicyViolation, match="colluding is 1, this client's policy allows 2 or more"):
        check(PAIRWISE, pairwise(), replace(ROSTER, entries=entries))


def test_a_client_holds_a_round_against_the_stricter_of_policy_and_plan() -> None:
    minima = make_policy(min_tenants=3, min_users=500, pairwise_corrupt=0.0).pairwise_minima(pairwise())
    assert (minima.min_active, minima.min_users, minima.colluding(5)) == (4, 500, 1)
    minima = make_policy(min_tenants=5, min_users=1, pairwise_corrupt=0.5).pairwise_minima(pairwise())
    assert (minima.min_active, minima.min_users, minima.colluding(5)) == (5, 200, 3)


def test_every_field_of_a_plan_that_decides_protection_is_compared() -> None:
    known = {field for field, _, _ in REFUSED}
    # mu is held to by the derived epsilon; the others move neither guarantee nor cost: names, split,
    # learning, and what the server makes of sums that are released already.
    free = {"job_id", "mu", "popularity_share", "trim", "max_spread"}
    assert {entry.name for entry in fields(TrainingPlan)} <= known | free
    free_recipe = {"gamma", "ridge", "negative_weight", "learning_rate", "momentum", "init_seed", "init_std"}
    for kind in (CooccurrencePlan, ReconPlan):
        assert {entry.name for entry in fields(kind)} <= known | free_recipe


def test_a_catalogue_of_another_digest_is_refused() -> None:
    with pytest.raises(PolicyViolation, match="catalogue_digest"):
        check_plan(make_policy(), cooccurrence(), ROSTER, make_catalogue(version=2))


def test_a_helper_whose_listed_signing_key_is_not_the_pinned_one_is_refused() -> None:
    pins = {**PINS, "south": PinnedHelper(signing="9" * 64)}
    with pytest.raises(PolicyViolation, match="south with the pinned key"):
        check(make_policy(helpers=pins), cooccurrence())


def test_a_pinned_helper_that_the_roster_does_not_list_as_one_is_refused() -> None:
    north, south = (ROSTER.entries[0], ROSTER.entries[1])
    tenants = replace(ROSTER, entries=(north, replace(south, roles=("tenant",))))
    with pytest.raises(PolicyViolation, match="role helper"):
        check(make_policy(), cooccurrence(), tenants)
    with pytest.raises(PolicyViolation, match="role helper"):
        check(make_policy(), cooccurrence(), replace(ROSTER, entries=(north,)))


def test_one_key_under_two_names_cannot_be_pinned() -> None:
    with pytest.raises(BadSetting, match="one key twice"):
        make_policy(helpers={"north": PINS["north"], "again": PINS["north"]})


def test_a_plan_without_noise_passes_only_where_the_policy_gave_the_budget_up() -> None:
    policy = make_policy(epsilon=float("inf"), allowed_noise=("none",))
    check(policy, cooccurrence(noise="none"))
    with pytest.raises(BadSetting, match="epsilon"):
        make_policy(allowed_noise=("none",))


def test_a_plan_may_name_any_of_the_pinned_helpers_unless_min_helpers_asks_for_all() -> None:
    pairs = [("north", "south"), ("east", "north"), ("east", "south")]
    for pair in pairs:
        check_plan(make_policy(), cooccurrence(helpers=pair), ROSTER, CATALOGUE)
        with pytest.raises(PolicyViolation, match="helpers is 2, this client's policy allows 3 or more"):
            check_plan(make_policy(min_helpers=3), cooccurrence(helpers=pair), ROSTER, CATALOGUE)
    check_plan(make_policy(min_helpers=3), cooccurrence(helpers=THREE), ROSTER, CATALOGUE)


def test_the_owner_is_told_of_helpers_to_spare_only_where_helpers_count() -> None:
    assert "min_helpers" in make_policy().helpers_to_spare
    assert make_policy(min_helpers=3).helpers_to_spare == ""
    assert make_policy(allowed_topologies=("pairwise",)).helpers_to_spare == ""
