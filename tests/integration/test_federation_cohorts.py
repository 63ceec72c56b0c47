"""Whole jobs in several cohorts: nine tenants, two of them helpers, some of them up to no good."""

import os
from collections import Counter
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

import client.answer
from client.answer import answer
from server import learning
from server.checkpoint import load_checkpoint
from server.releases import ReleaseLedger
from shared.errors import DeploymentError, TooFewClients
from shared.interactions import concatenate
from shared.plan import plan_to_json, steps
from shared.recipes.cooccurrence import popularity_vectors
from shared.roster import open_roster
from shared.secagg.cohorts import divide
from shared.secagg.context import context
from shared.secagg.topology_h import contribute
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Refusal,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    inputs_digest,
)
from tests.federation_cast import CATALOGUE, NUM_ITEMS, RECON, Cast, history_of, make_cast

NAMES = ("anna", "bert", "carl", "dora", "emil", "fred", "gina", "hans", "ines")
NOW = 1_800_000_000


def cast_of(folder, *, cohorts=3, trim=0, max_spread=2.0, **changes) -> Cast:
    of_cohorts = {"cohorts": cohorts, "trim": trim, "max_spread": max_spread}
    return make_cast(folder, plan_changes=of_cohorts if cohorts > 1 else {}, **{"names": NAMES, **changes})


def release_records(cast: Cast):
    return ReleaseLedger.open(cast.state).records("release", cast.plan.digest)


def popularity_of(names):
    return popularity_vectors(concatenate([history_of(name) for name in names])).total()


def poison(monkeypatch, by_name, *, only_step=None):
    """Let tenants send what `by_name[name](values)` gives in place of their honest integers."""
    honest = client.answer._values

    def values(home, plan, step, inputs, secret_seed):
        found = honest(home, plan, step, inputs, secret_seed)
        if home.name in by_name and only_step in (None, step.index):
            return by_name[home.name](found, step)
        return found

    monkeypatch.setattr("client.answer._values", values)


def far_too_much(values, step):
    return values + 500 * step.scale


def charged_steps(cast, name):
    return [(entry.step, entry.attempt) for entry in cast.home(name).ledger.entries() if entry.kind == "release"]


# --- nobody does wrong ---


def test_cohorts_that_all_stand_give_the_model_of_one_sum_exactly(tmp_path):
    whole, split = cast_of(tmp_path / "whole", cohorts=1), cast_of(tmp_path / "split", cohorts=3)
    whole.run()
    split.run()
    one, three = (load_checkpoint(cast.state, cast.plan.digest).releases for cast in (whole, split))
    for plain, combined, step in zip(one, three, steps(split.plan), strict=True):
        # Rounding draws on each home's own key, which the two casts do not share: a step for each user at most.
        assert np.abs(plain.total - combined.total).max() <= 9 * 20
        assert combined.total.shape == (step.num_coordinates,)
        assert (combined.num_users, combined.num_tenants, combined.num_cohorts) == (180, 9, 3)
    for name, tensor in whole.published().tensors.items():
        np.testing.assert_allclose(split.published().tensors[name], tensor, atol=1e-5)
    first, second = release_records(split)
    assert Counter(name for cohort in first["cohorts"] for name in cohort["tenants"]) == Counter(NAMES)
    # Another step deals anew.
    assert [cohort["tenants"] for cohort in first["cohorts"]] != [cohort["tenants"] for cohort in second["cohorts"]]


def test_recon_runs_in_trimmed_cohorts_to_a_model(tmp_path):
    cast = cast_of(tmp_path, recipe=replace(RECON, num_rounds=1), trim=1, names=NAMES[:6])
    cast.run()
    releases = load_checkpoint(cast.state, cast.plan.digest).releases
    assert [release.num_cohorts for release in releases] == [3, 3]
    assert np.all(np.isfinite(cast.published().tensors["item_factors"]))


@pytest.mark.parametrize(
    ("noise", "trim", "cost"), [("helpers", 0, 1.732), ("helpers", 1, 2.011), ("tenant", 0, 1.0), ("tenant", 1, 1.161)]
)
def test_the_noise_of_the_total_is_what_the_read_outs_are_told(tmp_path, noise, trim, cost):
    # Everybody's histories are the same, so that cohorts differ by noise alone, which the stated size is for.
    same = dict.fromkeys(NAMES, history_of("anna"))
    cast = cast_of(tmp_path, noise=noise, trim=trim, histories=same)
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    stated = learning.noise_std(cast.plan, learned, 0)
    deviations = (learning.real_sum(cast.plan, learned, 0) - 9 * popularity_of(["anna"])) / stated
    # 14 coordinates: the mean square of as many standard normals lies in here but for once in 10^6 times.
    assert 0.1 < np.mean(deviations**2) < 4.2
    assert learning.noise_cost(cast.plan, learned, 0) == pytest.approx(cost, rel=1e-3)
    (told, _) = [event["noise_cost"] for event in cast.events() if event["event"] == "step_released"]
    assert told == pytest.approx(cost, rel=1e-3)
    copies = {"helpers": 2, "tenant": 9}[noise]
    one_sum = sqrt(copies * steps(cast.plan)[0].noise_variance) / steps(cast.plan)[0].scale
    assert stated == pytest.approx(cost * one_sum, rel=1e-3)
    # A user is in one cohort: a step costs what it costs in one sum.
    assert cast.published().privacy.epsilon <= cast.plan.epsilon


# --- somebody does ---


def test_a_poisoned_cohort_is_dropped_and_the_model_is_what_the_others_give(tmp_path, monkeypatch):
    cast = cast_of(tmp_path)
    poison(monkeypatch, {"carl": far_too_much})
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    for position, record in enumerate(release_records(cast)):
        (bad,) = [cohort for cohort in record["cohorts"] if cohort["left_out"]]
        assert "carl" in bad["tenants"]
        assert bad["opened"] is True
        assert "60 users of clip 1 and the noise reach" in bad["left_out"]
        assert set(record["cohort"]) == set(NAMES) - set(bad["tenants"])
        assert learned.releases[position].num_users == 120
    kept = set(release_records(cast)[0]["cohort"])
    np.testing.assert_allclose(learning.real_sum(cast.plan, learned, 0), popularity_of(sorted(kept)), atol=1e-6)
    dropped = [event for event in cast.events() if event["event"] == "cohort_dropped"]
    assert [event["step"] for event in dropped] == [0, 1]
    assert all("carl" in event["tenants"] for event in dropped)
    # Who was summed with carl paid all the same, and so did everybody else, once a step.
    assert {tuple(charged_steps(cast, name)) for name in NAMES} == {((0, 0), (1, 0))}
    assert cast.published().version == 1


def test_in_one_cohort_the_same_poison_ends_the_attempt(tmp_path, monkeypatch):
    cast = cast_of(tmp_path, cohorts=1, max_attempts=1)
    poison(monkeypatch, {"carl": far_too_much})
    with pytest.raises(DeploymentError, match=r"the sum is poisoned: its sum has norm .*; 180 users of clip 1 and the"):
        cast.run()
    assert load_checkpoint(cast.state, cast.plan.digest).releases == ()


def test_without_the_test_of_the_sum_the_same_poison_goes_into_the_model(tmp_path, monkeypatch):
    """The control of the tests above: what drops the cohort is the test of its sum, not an accident."""
    cast = cast_of(tmp_path, cohorts=1)
    poison(monkeypatch, {"carl": far_too_much}, only_step=0)
    monkeypatch.setattr("server.opened.judge", lambda sums, **_: ())
    cast.run()
    released = learning.real_sum(cast.plan, load_checkpoint(cast.state, cast.plan.digest), 0)
    np.testing.assert_allclose(released, popularity_of(NAMES) + 500, atol=1e-6)


def test_too_few_cohorts_end_the_attempt_with_one_error_and_the_model_stays_as_it_was(tmp_path, monkeypatch):
    cast = cast_of(tmp_path, trim=1, max_attempts=2)
    poison(monkeypatch, {"carl": far_too_much}, only_step=1)
    with pytest.raises(
        DeploymentError, match=r"2 of 3 cohorts stand, at least 3 are needed: cohort \d: its sum has norm"
    ):
        cast.run()
    assert len(load_checkpoint(cast.state, cast.plan.digest).releases) == 1
    assert not (cast.registry / "courses").exists()
    assert [record["step"] for record in release_records(cast)] == [0]
    abandoned = [event for event in cast.events() if event["event"] == "attempt_abandoned"]
    assert [event["reason"].partition(":")[0] for event in abandoned] == ["2 of 3 cohorts stand, at least 3 are needed"]
    # What was opened was paid for, in both attempts.
    assert charged_steps(cast, "anna") == [(0, 0), (1, 0), (1, 1)]
    monkeypatch.undo()
    cast.run()
    assert cast.published().version == 1


def test_what_keeps_within_the_range_of_a_cohort_is_trimmed_away(tmp_path, monkeypatch):
    """carl votes for one item with all the users that its cohort declares: no test of a sum can tell."""
    item = NUM_ITEMS - 1

    def push(values, step):
        pushed = np.zeros_like(values)
        pushed[item] = 40 * step.scale
        return pushed

    poison(monkeypatch, {"carl": push}, only_step=0)
    shares = {}
    for trim in (0, 1):
        cast = cast_of(tmp_path / str(trim), trim=trim)
        cast.run()
        learned = load_checkpoint(cast.state, cast.plan.digest)
        assert not [event for event in cast.events() if event["event"] == "cohort_dropped"]
        shares[trim] = learning.real_sum(cast.plan, learned, 0)[item] / learned.releases[0].num_users
    honest = max(popularity_of([name])[item] / 20 for name in NAMES)
    assert shares[0] > 40 / 180
    assert shares[1] <= honest < 40 / 180


def test_a_cohort_that_votes_otherwise_than_the_others_is_dropped_by_the_stated_spread(tmp_path, monkeypatch):
    def against(values, step):
        return values[::-1].copy() + values[::-1]

    poison(monkeypatch, {"carl": against}, only_step=0)
    same = dict.fromkeys(NAMES, history_of("anna"))
    cast = cast_of(tmp_path, max_spread=0.05, histories=same)
    cast.run()
    dropped = [event for event in cast.events() if event["event"] == "cohort_dropped"]
    assert len(dropped) == 1
    assert "carl" in dropped[0]["tenants"]
    assert "clips away from those of 2 of the 2 others" in dropped[0]["reason"]


# --- cohorts that are too small ---


def test_a_cohort_below_the_minimum_is_not_opened_and_the_others_go_on(tmp_path):
    cast = cast_of(tmp_path, min_tenants=3)
    cast.run(NAMES[:-1])
    for record in release_records(cast):
        (small,) = [cohort for cohort in record["cohorts"] if cohort["left_out"]]
        assert small["left_out"] == "2 tenants contributed, at least 3 are needed"
        assert (len(small["tenants"]), small["opened"]) == (2, False)
        assert len(record["cohort"]) == 6
    asked = [event for event in cast.events() if event["event"] == "helpers_asked"]
    assert len(asked) == 4


def test_too_few_large_cohorts_ask_no_helper(tmp_path):
    cast = cast_of(tmp_path, min_tenants=3, trim=1, max_attempts=1)
    with pytest.raises(TooFewClients, match="8 nodes are connected after 0 s, at least 9 are needed"):
        cast.run(NAMES[:-1])
    assert charged_steps(cast, "anna") == []


# --- what client and helper hold on to ---


def attempt_context(cast, roster):
    return context(
        plan_digest=cast.plan.digest, job_id="job-1", step=0, attempt=0, num_coordinates=NUM_ITEMS, bits=64,
        inputs_digest=inputs_digest({}), roster_digest=roster.digest,
    )  # fmt: skip


def ask(cast, name, message):
    return decode(answer(cast.home(name), encode(message), now=NOW, random_bytes=os.urandom))


def requests_of(cast):
    signed = (cast.folder / "server" / "roster.bin").read_bytes()
    fields = {"plan_json": plan_to_json(cast.plan), "step": 0, "attempt": 0, "roster": signed}

    def unmask(headers):
        return UnmaskRequest(**fields, inputs_digest=inputs_digest({}), slots=("bert",), headers=tuple(headers))

    return ContributionRequest(**fields, inputs={}), unmask


@pytest.fixture
def scene(tmp_path):
    cast = cast_of(tmp_path, noise="helpers")
    contribution, unmask = requests_of(cast)
    roster = open_roster(contribution.roster, cast.home("anna").policy.issuer_public_key, NOW)
    cohorts = divide(attempt_context(cast, roster), roster, 3)
    sent = {name: ask(cast, name, contribution).contribution.header() for name in NAMES}
    return cast, contribution, unmask, cohorts, sent


def test_a_client_answers_one_cohort_of_an_attempt_which_it_works_out_itself(scene):
    cast, contribution, _, cohorts, _ = scene
    again = ask(cast, "carl", contribution)
    assert again.error == "AlreadyAnswered"
    (entry,) = cast.home("carl").ledger.entries()
    # Charged under the attempt, not the cohort: had it been in another one, it would be refused just so.
    assert entry.context not in cohorts.contexts


def test_a_helper_answers_each_cohort_once_and_none_that_mixes_two(scene):
    cast, _, unmask, cohorts, sent = scene
    members = [[name for name in NAMES if cohorts.of(name) == cohort] for cohort in range(3)]
    for names in members:
        assert isinstance(ask(cast, "bert", unmask(sent[name] for name in names)), UnmaskReply)
        assert ask(cast, "bert", unmask(sent[name] for name in names[:2])).error == "AlreadyAnswered"
    mixed = ask(cast, "bert", unmask(sent[name] for name in (*members[0][:2], members[1][0])))
    assert isinstance(mixed, Refusal)
    assert (mixed.error, "are not summed together" in mixed.message) == ("WrongContext", True)


def test_a_helper_does_not_sum_a_client_that_signed_for_two_cohorts_in_the_second_one(scene):
    """Honest clients sign once; the names in the headers are held against the places that all can work out."""
    cast, _, unmask, cohorts, sent = scene
    double = next(name for name in NAMES if cohorts.of(name) == 0)
    others = [name for name in NAMES if cohorts.of(name) == 1]
    second = contribute(
        ctx=cohorts.contexts[1], client=double, declared_users=20, values=np.zeros(NUM_ITEMS, dtype=np.int64), bits=64,
        sharing=cast.plan.sharing, signing_key=cast.home(double).vault.signing_key, random_bytes=os.urandom,
        helper_keys={each: bytes.fromhex(cast.home(each).vault.sealing_public) for each in cast.plan.helpers},
    ).header()  # fmt: skip
    refused = ask(cast, "bert", unmask([*(sent[name] for name in others), second]))
    assert isinstance(refused, Refusal)
    assert (refused.error, f"{double} in cohort 0" in refused.message) == ("WrongContext", True)
    assert not any(entry.kind == "answer" for entry in cast.home("bert").ledger.entries())
    assert isinstance(ask(cast, "bert", unmask(sent[name] for name in others)), UnmaskReply)


def test_the_local_minimum_holds_for_a_cohort(scene):
    cast, _, unmask, cohorts, sent = scene
    names = [name for name in NAMES if cohorts.of(name) == 2]
    assert ask(cast, "bert", unmask([sent[names[0]]])).error == "TooFewClients"


def test_a_contribution_that_its_client_made_for_another_cohort_is_left_out(tmp_path, monkeypatch):
    cast = cast_of(tmp_path)
    moves = client.answer.contribute

    def elsewhere(*, ctx, client, **fields):
        return moves(ctx=bytes(32) if client == "carl" else ctx, client=client, **fields)

    monkeypatch.setattr("client.answer.contribute", elsewhere)
    cast.run()
    left = {
        (event["party"], event["reason"].partition(":")[0]) for event in cast.events() if event["event"] == "party_left"
    }
    assert len(left) == 1
    assert {reason for _, reason in left} == {"WrongContext"}
    assert all("carl" not in record["cohort"] for record in release_records(cast))
    assert CATALOGUE.digest == cast.plan.catalogue_digest


def test_replies_are_as_many_and_as_large_as_in_one_sum(scene):
    cast, contribution, _, _, _ = scene
    plain = cast_of(cast.folder / "plain", cohorts=1, noise="helpers")
    ours, theirs = (
        ask(each, "dora", ContributionRequest(**{**vars(request), "attempt": 1}))
        for each, request in ((cast, contribution), (plain, requests_of(plain)[0]))
    )
    assert isinstance(ours, ContributionReply)
    assert len(encode(ours)) == len(encode(theirs))
