"""Preview tells all that would leave, in true sizes, and changes nothing."""

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.answer import answer
from client.durable_files import write_file
from client.home import POLICY_FILE, ClientHome
from client.policy import PinnedHelper
from client.policy_file import render_policy
from client.presenting import print_preview
from client.preview import default_plan, preview, to_json
from client.rejects import Rejects
from client.store import Event, Store
from shared import accounting
from shared.mechanism import Gaussian
from shared.plan import TrainingPlan, mechanisms, plan_to_json, steps
from shared.roster import Member, Roster, sign_roster
from shared.secagg.topology_h import Contribution, HelperAnswer
from shared.wire import ContributionReply, ContributionRequest, Refusal, UnmaskReply, decode, encode
from tests.unit.client_homes import certified, cooccurrence, make_home, make_policy, recon


def test_each_step_of_the_plan_is_one_message_and_a_helper_answers_too(tmp_path: Path) -> None:
    seen = preview(make_home(tmp_path, name="west"), recon())
    assert [(message.type, message.kind) for message in seen.messages] == [
        ("contribution", "popularity"), ("contribution", "gradient"), ("contribution", "gradient"),
    ]  # fmt: skip
    (tmp_path / "helper").mkdir()
    seen = preview(make_home(tmp_path / "helper", name="north"), cooccurrence())
    assert [message.type for message in seen.messages] == ["contribution", "helper answer"] * 2


@pytest.mark.parametrize("recipe", [cooccurrence, recon])
def test_one_wasted_attempt_counts_to_its_job_and_a_job_of_exactly_the_limit_passes(
    tmp_path: Path, recipe: Callable[..., TrainingPlan]
) -> None:
    home, plan = make_home(tmp_path, max_epsilon_per_job=1.0, delta=1e-6), recipe(epsilon=1.0)
    assert preview(home, plan).accepted
    policy = home.policy
    for step in steps(plan):
        home.ledger.charge(
            job_id=plan.job_id, step=step.index, attempt=0, context=step.index.to_bytes(32), mechanism=step.mechanism,
            budget=policy.budget, job_budget=policy.job_budget,
        )  # fmt: skip
    assert home.ledger.spent_epsilon(1e-6) == pytest.approx(1.0, rel=1e-3)
    assert "one job may cost 1, wasted attempts included" in preview(home, plan).refusal
    assert preview(home, recipe(epsilon=1.0, job_id="another")).accepted


def test_a_server_that_asks_again_and_again_is_refused_once_the_job_costs_its_most(tmp_path: Path) -> None:
    home, roster = seated_home(tmp_path)
    plan = cooccurrence()
    answers: list[object] = []
    for attempt in range(60):
        request = ContributionRequest(plan_json=plan_to_json(plan), step=0, attempt=attempt, roster=roster, inputs={})
        answers.append(decode(answer(home, encode(request), now=1_000, random_bytes=os.urandom)))
    assert isinstance(answers[0], ContributionReply)
    assert isinstance(answers[-1], Refusal)
    assert answers[-1].error == "BudgetExhausted"
    assert "job job-1" in answers[-1].message
    assert home.ledger.spent_epsilon(home.policy.delta) <= home.policy.max_epsilon_per_job == 2.0


def test_every_field_of_the_messages_on_the_wire_is_told(tmp_path: Path) -> None:
    assert [entry.name for entry in fields(ContributionReply)] == ["contribution"]
    assert [entry.name for entry in fields(UnmaskReply)] == ["answer"]
    seen = preview(make_home(tmp_path), cooccurrence())
    for message, body in zip(seen.messages, [Contribution, HelperAnswer] * 2, strict=True):
        assert [sent.name for sent in message.fields] == [entry.name for entry in fields(body)]
        assert all(len(sent.meaning) > 10 for sent in message.fields)


def test_sizes_are_those_of_what_the_client_then_really_sends(tmp_path: Path) -> None:
    home, roster = seated_home(tmp_path)
    seen = preview(home, cooccurrence()).messages[0]
    request = ContributionRequest(
        plan_json=plan_to_json(cooccurrence()), step=0, attempt=0, roster=roster, inputs={}
    )  # fmt: skip
    sent = answer(home, encode(request), now=1_000, random_bytes=os.urandom)
    reply = decode(sent)
    assert isinstance(reply, ContributionReply)
    assert seen.size_bytes == len(sent)
    for told in seen.fields:
        value = getattr(reply.contribution, told.name)
        if isinstance(value, bytes):
            assert told.size_bytes == len(value)


def seated_home(folder: Path) -> tuple[ClientHome, bytes]:
    """A home whose policy and roster know its own keys, and the signed roster."""
    issuer, south, south_seal = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    home = make_home(folder, declared_users=200)
    pins = {
        "north": PinnedHelper(signing=home.vault.signing_public),
        "south": PinnedHelper(signing=south.public_key().public_bytes_raw().hex()),
    }
    sealing = {
        "north": home.vault.certify("north", not_before=0, not_after=2_000),
        "south": certified("south", south_seal.public_key().public_bytes_raw().hex(), south),
    }
    policy = make_policy(
        helpers=pins, declared_users=200, issuer_public_key=issuer.public_key().public_bytes_raw().hex()
    )  # fmt: skip
    write_file(home.folder / POLICY_FILE, render_policy(policy).encode())
    members = tuple(
        Member(
            name=name, signing_key=pin.signing, sealing=sealing[name], roles=("tenant", "helper"),
            not_before=0, not_after=2_000,
        )
        for name, pin in pins.items()
    )  # fmt: skip
    roster = Roster(entries=members, epoch=1, issued_at=0, expires_at=2_000)
    return ClientHome.open(home.folder), sign_roster(roster, issuer)


def test_it_charges_nothing_and_never_opens_the_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path)
    before = (home.ledger.path.read_bytes(), home.ledger.marks.read_bytes())

    def fail(*_: object) -> None:
        raise AssertionError("the histories were opened")

    for name in ("interactions", "history", "about", "counts"):
        monkeypatch.setattr(Store, name, fail)
    preview(home, cooccurrence())
    assert (home.ledger.path.read_bytes(), home.ledger.marks.read_bytes()) == before


def test_it_says_the_same_whatever_the_histories_are(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    empty = to_json(preview(home, cooccurrence()))
    event = Event(row=2, user="ann", item="course-1", position=1.0, weight=1.0)
    home.store.add([event], catalogue=home.catalogue, order="timestamp", rejects=Rejects("f", "line", 1))
    assert to_json(preview(home, cooccurrence())) == empty


def test_its_cost_is_that_of_the_ledger_and_the_plan_together(tmp_path: Path) -> None:
    home, plan = make_home(tmp_path), cooccurrence()
    old = Gaussian(noise_std=10.0, sensitivity=1.0)
    home.ledger.charge(
        job_id="old", step=0, attempt=0, context=bytes(32), mechanism=old, budget=home.policy.budget,
        job_budget=home.policy.job_budget,
    )  # fmt: skip
    seen = preview(home, plan)
    assert seen.accepted
    assert seen.epsilon_before == pytest.approx(accounting.epsilon([old], 1e-5))
    assert seen.epsilon_after == pytest.approx(accounting.epsilon([old, *mechanisms(plan)], 1e-5))


def test_a_plan_that_would_be_refused_says_why(tmp_path: Path) -> None:
    home = make_home(tmp_path, min_users=1_000)
    seen = preview(home, cooccurrence())
    assert not seen.accepted
    assert [check.field for check in seen.checks if not check.holds] == ["min_users"]
    (tmp_path / "poor").mkdir()
    poor = preview(make_home(tmp_path / "poor", epsilon=0.3, max_epsilon_per_job=5.0), cooccurrence())
    assert "budget is 0.3" in poor.refusal


def test_a_plan_without_noise_shows_no_finite_epsilon(tmp_path: Path) -> None:
    home = make_home(tmp_path, epsilon=float("inf"), allowed_noise=("none",))
    seen = preview(home, cooccurrence(noise="none"))
    assert seen.accepted
    assert seen.epsilon_after is None
    assert all(message.noise_std is None for message in seen.messages)
    json.dumps(to_json(seen), allow_nan=False)


def test_the_default_plan_is_one_that_the_policy_accepts(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    plan = default_plan(home)
    assert preview(home, plan).accepted
    assert plan.epsilon == home.policy.max_epsilon_per_job
    (tmp_path / "careful").mkdir()
    careful = make_home(tmp_path / "careful", min_cohorts=3)
    assert preview(careful, default_plan(careful)).accepted
    assert default_plan(careful).cohorts == 3


def test_what_cohorts_cost_in_noise_is_said_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path, name="north")
    seen = preview(home, cooccurrence(cohorts=5, trim=1, max_users=2_000))
    assert to_json(seen)["cohorts"] == {"number": 5, "trim": 1, "noise_cost": pytest.approx(2.384, rel=1e-3)}
    # A helper is asked about every cohort, and a client about one.
    assert [message.at_most for message in seen.messages[:2]] == [1, 5]
    print_preview(seen, ())
    out = capsys.readouterr().out
    assert "summed in 5 cohorts, the 1 lowest and highest cut off, of at least" in out
    assert "noise of the total 2.38 times that of one sum" in out
    assert preview(home, cooccurrence()).noise_cost == 1.0
    print_preview(preview(home, cooccurrence()), ())
    assert "cohorts" not in capsys.readouterr().out


def test_a_helper_is_told_its_slots_and_how_often_it_may_be_asked_and_a_client_its_seals(tmp_path: Path) -> None:
    plan = cooccurrence(helpers=("east", "north", "south"), spare_helpers=1)
    contribution, answers = preview(make_home(tmp_path, name="north"), plan).messages[:2]
    assert (contribution.at_most, answers.at_most) == (1, 2)
    told = {sent.name: sent for message in (contribution, answers) for sent in message.fields}
    assert "6 seals for 3 slots" in told["seals"].meaning
    assert told["seals"].size_bytes > 6 * 80
    assert "all of them at most: east+north, north+south" in told["slots"].meaning
    assert told["slots"].size_bytes == len("east+northnorth+south")
    (tmp_path / "two").mkdir()
    alone = preview(make_home(tmp_path / "two", name="north"), cooccurrence()).messages[1]
    assert (alone.type, alone.at_most) == ("helper answer", 1)
