"""Whole jobs without helpers in this process: the unmodified ServerApp and ClientApps, five tenants or three."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.answer
from client.tenant import tenant_values
from server import learning
from server.checkpoint import load_checkpoint
from server.releases import ReleaseLedger
from shared.errors import DeploymentError
from shared.mechanism import Skellam
from shared.plan import steps
from shared.recipes.cooccurrence import popularity_vectors
from shared.secagg.pairwise_messages import signed
from shared.wire import Refusal, decode, encode
from shared.wire_pairwise import MaskReply, OpenReply, SignReply
from tests.federation_cast import COOCCURRENCE, RECON, Cast, history_of, make_cast
from tests.pairwise_federation_cast import FIVE, Meddler, dies, fives, frame_of, is_silent, reply_with, says, threes


def released(cast: Cast) -> list[tuple[int, int, list[str]]]:
    records = ReleaseLedger.open(cast.state).records("release", cast.plan.digest)
    return [(record["step"], record["attempt"], sorted(record["cohort"])) for record in records]


def charges(cast: Cast, name: str) -> list[tuple[int, int]]:
    entries = cast.home(name).ledger.entries()
    return [(entry.step, entry.attempt) for entry in entries if entry.kind == "release"]


def events(cast: Cast, kind: str) -> list[dict[str, Any]]:
    return [event for event in cast.events() if event["event"] == kind]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], Any]:
    """What each tenant really computed, by number of users of its history and step."""
    noted: dict[tuple[str, int], Any] = {}
    original = tenant_values
    names = {history_of(name).items.tobytes(): name for name in FIVE}

    def noting(plan: Any, step: Any, inputs: Any, history: Any, *, secret_seed: bytes) -> Any:
        values = original(plan, step, inputs, history, secret_seed=secret_seed)
        noted[names[history.items.tobytes()], step.index] = values.copy()
        return values

    monkeypatch.setattr("client.answer.tenant_values", noting)
    return noted


# --- somebody sends what no users can give ---


@pytest.mark.parametrize("noise", ["shared", "tenant"])
def test_a_sum_that_no_declared_users_can_give_ends_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    honest = client.answer._values

    def poisoned(home: Any, plan: Any, step: Any, inputs: Any, secret_seed: bytes) -> Any:
        values = honest(home, plan, step, inputs, secret_seed)
        return values + 5_000 * step.scale if home.name == FIVE[0] else values

    monkeypatch.setattr("client.answer._values", poisoned)
    cast = fives(tmp_path, noise=noise, max_attempts=1)
    with pytest.raises(DeploymentError, match=r"the sum is poisoned: its sum has norm .*; 100 users of clip 1 and the"):
        cast.run()
    assert released(cast) == []


# --- the sums are right ---


@pytest.mark.parametrize("recipe", [COOCCURRENCE, RECON], ids=["cooccurrence", "recon"])
def test_without_noise_the_model_is_that_of_helpers_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Any
) -> None:
    def seed_of(home: Any, plan: Any, step: Any, random_bytes: Any) -> bytes:
        return home.name.encode().ljust(31) + bytes([step.index])

    monkeypatch.setattr("client.answer._rounding_seed", seed_of)
    with_helpers = make_cast(tmp_path / "helpers", recipe=recipe, min_tenants=3)
    by_pairs = threes(tmp_path / "pairs", recipe=recipe)
    tensors = []
    for cast in (with_helpers, by_pairs):
        cast.run()
        tensors.append({name: tensor.tobytes() for name, tensor in cast.published().tensors.items()})
    assert tensors[0] == tensors[1]
    assert len(tensors[0]) > 1


def test_opened_sums_equal_the_plain_fixed_point_sums_exactly(tmp_path: Path, plain: Any) -> None:
    cast = fives(tmp_path)
    cast.run()
    for step, release in enumerate(load_checkpoint(cast.state, cast.plan.digest).releases):
        np.testing.assert_array_equal(release.total, sum(plain[name, step] for name in FIVE))


@pytest.mark.parametrize("noise", ["shared", "tenant"])
def test_noise_of_the_stated_size_is_in_the_released_sum(tmp_path: Path, noise: str) -> None:
    cast = fives(tmp_path, noise=noise)
    cast.run()
    learned = load_checkpoint(cast.state, cast.plan.digest)
    popularity = sum(popularity_vectors(history_of(name)).total() for name in FIVE)
    deviations = (learning.real_sum(cast.plan, learned, 0) - popularity) / learning.noise_std(cast.plan, learned, 0)
    # 14 coordinates: the mean square of as many standard normals lies in here but for once in 10^6 times.
    assert 0.1 < np.mean(deviations**2) < 4.2
    statement = cast.published().privacy
    assert statement.epsilon <= cast.plan.epsilon
    assert len(statement.mechanisms) == 2
    if noise == "shared":
        assert statement.against.startswith("the server and up to one other tenant together")
        assert all(isinstance(each, Skellam) for each in statement.mechanisms)
        # Counted on are three honest ones; five added their part.
        ratio = learning.noise_std(cast.plan, learned, 0) ** 2 * steps(cast.plan)[0].scale ** 2
        assert ratio / statement.mechanisms[0].variance == pytest.approx(5 / 3)


# --- parties that fall silent, in every phase ---


@pytest.mark.parametrize("fault", [dies, says(b"nonsense"), is_silent], ids=["dies", "nonsense", "silent"])
@pytest.mark.parametrize("phase", ["keys", "deal", "mask"])
def test_who_falls_silent_before_its_vector_arrives_is_left_out_exactly(
    tmp_path: Path, plain: Any, phase: str, fault: Any
) -> None:
    cast = fives(tmp_path, collect_seconds=0.5 if fault is is_silent else 20.0)
    cast.run(meddle=Meddler(phase, fault, "carl"))
    others = [name for name in FIVE if name != "carl"]
    assert released(cast)[0] == (0, 0, others)
    total = load_checkpoint(cast.state, cast.plan.digest).releases[0].total
    np.testing.assert_array_equal(total, sum(plain[name, 0] for name in others))
    assert events(cast, "party_left")[0]["party"] in ("carl", "node 103")
    assert [record[:2] for record in released(cast)] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("fault", [dies, says(b"nonsense")], ids=["dies", "nonsense"])
@pytest.mark.parametrize("phase", ["sign", "open"])
def test_who_falls_silent_after_its_vector_is_in_the_sum_all_the_same(
    tmp_path: Path, plain: Any, phase: str, fault: Any
) -> None:
    cast = fives(tmp_path)
    cast.run(meddle=Meddler(phase, fault, "carl"))
    assert released(cast)[0] == (0, 0, list(FIVE))
    total = load_checkpoint(cast.state, cast.plan.digest).releases[0].total
    np.testing.assert_array_equal(total, sum(plain[name, 0] for name in FIVE))
    assert events(cast, "peer_failed")[0]["party"] == "carl"


@pytest.mark.parametrize("phase", ["keys", "deal", "mask", "sign", "open"])
def test_where_too_few_are_left_the_attempt_is_given_up_charged_and_made_again(tmp_path: Path, phase: str) -> None:
    cast = fives(tmp_path, noise="shared", epsilon=0.5)
    cast.run(meddle=Meddler(phase, dies, "carl", "dora"))
    assert released(cast) == [(0, 1, list(FIVE)), (1, 0, list(FIVE))]
    (abandoned,) = events(cast, "attempt_abandoned")
    assert "needed" in abandoned["reason"]
    # Nobody is charged before there are enough to be summed; then every attempt costs, and the statement says so.
    paid_twice = phase in ("mask", "sign", "open")
    assert charges(cast, "anna") == ([(0, 0)] if paid_twice else []) + [(0, 1), (1, 0)]
    assert len(cast.published().privacy.mechanisms) == 3


def test_a_job_without_enough_tenants_ends_with_one_message(tmp_path: Path) -> None:
    cast = threes(tmp_path)
    with pytest.raises(DeploymentError, match="step 0 was given up: 2 tenants contributed, at least 3 are needed"):
        cast.run(meddle=Meddler("mask", dies, "carl", attempts=9))
    assert len(events(cast, "job_failed")) == 1


def test_a_server_that_was_stopped_goes_on_where_it_was(tmp_path: Path, plain: Any) -> None:
    cast = fives(tmp_path)

    class Stopped(Exception):
        pass

    def stops(node: int, message: Any, handler: Any) -> Any:
        raise Stopped

    def in_step_1(node: int, message: Any, handler: Any) -> Any:
        request = decode(frame_of(message))
        if getattr(request, "active", None) is not None and len(released(cast)) == 1:
            return stops(node, message, handler)
        return handler(message)

    with pytest.raises(Stopped):
        cast.run(meddle=in_step_1)
    assert [record[:2] for record in released(cast)] == [(0, 0)]
    cast.run()
    assert [record[:2] for record in released(cast)] == [(0, 0), (1, 1)]
    for step, release in enumerate(load_checkpoint(cast.state, cast.plan.digest).releases):
        np.testing.assert_array_equal(release.total, sum(plain[name, step] for name in FIVE))


# --- parties that lie ---


def changes_reply(kind: type[Any], change: Callable[[Any], Any]) -> Any:
    def fault(node: int, message: Any, handler: Any) -> Any:
        reply = decode(frame_of(handler(message)))
        assert isinstance(reply, kind)
        return reply_with(message, encode(change(reply)))

    return fault


def test_a_tenant_that_changes_its_vector_on_the_way_leaves(tmp_path: Path) -> None:
    def spoil(reply: MaskReply) -> MaskReply:
        return MaskReply(vector=replace(reply.vector, masked=bytes(len(reply.vector.masked))))

    cast = fives(tmp_path)
    cast.run(meddle=Meddler("mask", changes_reply(MaskReply, spoil), "carl", to_the_end=False))
    assert released(cast)[0] == (0, 0, ["anna", "bert", "dora", "emil"])
    assert "BadSignature" in events(cast, "party_left")[0]["reason"]


def test_a_tenant_that_gives_false_shares_is_named_and_changes_nothing(tmp_path: Path, plain: Any) -> None:
    cast = fives(tmp_path)

    def lie(reply: OpenReply) -> OpenReply:
        false = tuple((owner, bytes(len(share))) for owner, share in reply.unmasking.self_shares)
        return OpenReply(
            unmasking=signed(replace(reply.unmasking, self_shares=false), cast.home("carl").vault.signing_key)
        )

    cast.run(meddle=Meddler("open", changes_reply(OpenReply, lie), "carl", to_the_end=False))
    assert [event["party"] for event in events(cast, "false_shares")] == ["carl"]
    total = load_checkpoint(cast.state, cast.plan.digest).releases[0].total
    np.testing.assert_array_equal(total, sum(plain[name, 0] for name in FIVE))


def test_a_signature_of_another_does_not_count(tmp_path: Path) -> None:
    cast, first = fives(tmp_path), {}

    def meddle(node: int, message: Any, handler: Any) -> Any:
        reply = handler(message)
        found = decode(frame_of(reply))
        if isinstance(found, SignReply):
            first.setdefault("frame", frame_of(reply))
            return reply_with(message, first["frame"])
        return reply

    with pytest.raises(DeploymentError, match="signed the set of active parties, 4 are needed"):
        cast.run(meddle=meddle)
    failed = [event for event in events(cast, "peer_failed") if event["attempt"] == 0]
    assert [event["party"] for event in failed] == ["bert", "carl"]
    assert all("did not send its own" in event["reason"] for event in failed)


def test_a_refusal_in_a_party_s_name_does_not_take_it_out(tmp_path: Path) -> None:
    cast = fives(tmp_path)
    frame = encode(Refusal(party="anna", error="X", message="no"))
    cast.run(meddle=Meddler("keys", says(frame), "carl"))
    assert released(cast)[0] == (0, 0, ["anna", "bert", "dora", "emil"])


def test_a_tenant_that_declares_more_than_it_may_is_left_out_before_anybody_is_charged(tmp_path: Path) -> None:
    cast = fives(tmp_path, max_declared_users='{ carl = 19, "*" = 200 }')
    cast.run()
    assert released(cast)[0] == (0, 0, ["anna", "bert", "dora", "emil"])
    assert charges(cast, "carl") == []


@pytest.mark.parametrize("phase", ["keys", "deal"])
def test_a_cohort_that_no_secret_opens_for_costs_an_attempt_and_not_the_job(tmp_path: Path, phase: str) -> None:
    # Three of five satisfy the plan's minimum here, and are fewer than the threshold of three others that each needs.
    cast = fives(tmp_path, min_tenants=3)
    cast.run(meddle=Meddler(phase, dies, "carl", "dora"))
    assert released(cast)[0] == (0, 1, list(FIVE))
    (abandoned,) = events(cast, "attempt_abandoned")
    assert "at least 4 are needed" in abandoned["reason"]
