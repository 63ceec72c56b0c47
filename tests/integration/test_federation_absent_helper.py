"""Three tenants, all of them helpers, of which one may be absent: whole jobs in this process."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.answer import answer
from server import learning
from server.checkpoint import load_checkpoint
from server.releases import ReleaseLedger
from shared.errors import DeploymentError, PrivacyRefusal
from shared.plan import plan_from_json, steps
from shared.recipes.cooccurrence import popularity_vectors
from shared.wire import ContributionRequest, UnmaskReply, UnmaskRequest, decode, encode
from tests.federation_cast import NAMES, NODES, Cast, make_cast
from tests.integration.test_federation_in_process import (
    POOLED,
    Meddler,
    charges,
    contributing,
    dies,
    frame_of,
    helping,
    is_silent,
    released,
    reply_with,
    says,
    with_broken_seal,
)

NOW = 1_800_000_000


def three(folder: Path, **changes: Any) -> Cast:
    return make_cast(folder, helpers=NAMES, spare_helpers=1, **changes)


def asked(cast: Cast) -> list[dict[str, list[str]]]:
    return [event["helpers"] for event in cast.events() if event["event"] == "helpers_asked"]


def answered_slots(cast: Cast, name: str) -> int:
    return sum(entry.kind == "answer" for entry in cast.home(name).ledger.entries())


def exact_totals(cast: Cast) -> list[bytes]:
    return [release.total.tobytes() for release in load_checkpoint(cast.state, cast.plan.digest).releases]


def is_late(node: int, message: Any, handler: Any) -> None:
    """It answers, and notes that it did, after the server has stopped waiting."""
    handler(message)


def answers_for_another_slot(node: int, message: Any, handler: Any) -> Any:
    request = decode(frame_of(message))
    fewer = UnmaskRequest(**{**vars(request), "slots": another_slot(request, node)})
    message.content = reply_with(message, encode(fewer)).content
    return handler(message)


def another_slot(request: UnmaskRequest, node: int) -> tuple[str, ...]:
    """One of the helper's own slots, and not what it was asked for."""
    name = next(name for name, number in NODES.items() if number == node)
    own = plan_from_json(request.plan_json).sharing.held_by(name)
    return next((slot,) for slot in own if (slot,) != request.slots)


FAULTS = [dies, says(b"nonsense"), says(b""), is_late, answers_for_another_slot]
FAULT_NAMES = ["dies after contributing", "garbage", "empty", "late", "other slots"]


def test_with_everybody_there_two_helpers_are_asked_and_each_mask_once(tmp_path: Path) -> None:
    cast = three(tmp_path)
    cast.run()
    assert asked(cast) == [{"anna": ["anna+bert", "anna+carl"], "bert": ["bert+carl"]}] * 2
    np.testing.assert_allclose(
        learning.real_sum(cast.plan, load_checkpoint(cast.state, cast.plan.digest), 0),
        popularity_vectors(POOLED).total(),
        atol=1e-6,
    )
    assert cast.published().plan_digest == cast.plan.digest


@pytest.mark.parametrize("helper", NAMES)
@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_NAMES)
def test_a_job_with_one_dead_helper_ends_in_the_same_attempt_without_a_new_charge(
    tmp_path: Path, helper: str, fault: Any
) -> None:
    cast = three(tmp_path, collect_seconds=0.2 if fault is is_late else 20.0)
    cast.run(meddle=Meddler(helping(helper), fault, times=99))
    # The sums are exact: all three contributed, whoever answered for the masks.
    assert released(cast) == [(0, 0, list(NAMES)), (1, 0, list(NAMES))]
    assert [charges(cast, name) for name in NAMES] == [[(0, 0), (1, 0)]] * 3
    learned = load_checkpoint(cast.state, cast.plan.digest)
    popularity = popularity_vectors(POOLED).total()
    np.testing.assert_allclose(learning.real_sum(cast.plan, learned, 0), popularity, atol=1e-6)
    assert not [event for event in cast.events() if event["event"] == "attempt_abandoned"]
    # Nobody was asked for a mask twice, and the dead one only until it failed.
    for step in range(2):
        pairs = [
            (name, slot)
            for event in cast.events()
            if event["event"] == "helpers_asked" and event["step"] == step
            for name, slots in event["helpers"].items()
            for slot in slots
        ]
        assert len(set(pairs)) == len(pairs)


def test_a_released_sum_is_the_same_to_the_last_bit_whoever_was_absent(tmp_path: Path) -> None:
    for number, meddle in enumerate([None, *(Meddler(helping(name), dies, times=99) for name in NAMES)]):
        cast = three(tmp_path / str(number))
        cast.run(**({} if meddle is None else {"meddle": meddle}))
        # The rounding differs with each cast's keys, so each is held to what its own clients send.
        assert exact_totals(cast) == plain_sums(cast)


def plain_sums(cast: Cast) -> list[bytes]:
    """What the clients' own code sends at each step, added up without any mask."""
    from client.answer import _history, _rounding_seed
    from client.tenant import tenant_values

    learned = load_checkpoint(cast.state, cast.plan.digest)
    found = []
    for step in steps(cast.plan):
        so_far = type(learned)(releases=learned.releases[: step.index])
        inputs = dict(learning.inputs(cast.plan, so_far))
        total = np.zeros(step.num_coordinates, dtype=np.int64)
        for name in NAMES:
            home = cast.home(name)
            seed = _rounding_seed(home, cast.plan, step, os.urandom)
            total += tenant_values(cast.plan, step, inputs, _history(home), secret_seed=seed)
        found.append(total.tobytes())
    return found


def test_a_helper_that_is_never_there_is_not_waited_for_or_asked(tmp_path: Path) -> None:
    cast = three(tmp_path)
    cast.run(names=("anna", "bert"))
    assert released(cast) == [(0, 0, ["anna", "bert"]), (1, 0, ["anna", "bert"])]
    assert asked(cast) == [{"anna": ["anna+bert", "anna+carl"], "bert": ["bert+carl"]}] * 2
    absent = [event["party"] for event in cast.events() if event["event"] == "helper_absent"]
    assert absent == ["carl", "carl"]


def test_the_first_helper_never_there_leaves_its_masks_to_the_two_others(tmp_path: Path) -> None:
    cast = three(tmp_path)
    cast.run(meddle=Meddler(contributing("anna"), dies, times=99))
    assert asked(cast) == [{"bert": ["anna+bert", "bert+carl"], "carl": ["anna+carl"]}] * 2
    assert released(cast) == [(0, 0, ["bert", "carl"]), (1, 0, ["bert", "carl"])]


def test_with_two_dead_helpers_the_attempt_is_abandoned_with_the_budget_charged(tmp_path: Path) -> None:
    cast = three(tmp_path, max_attempts=2)
    dead = Meddler(lambda node, request: isinstance(request, UnmaskRequest) and node != NODES["carl"], dies, times=99)
    with pytest.raises(DeploymentError, match=r"helper anna: ProtocolError.*; helper bert: ProtocolError"):
        cast.run(meddle=dead)
    assert [charges(cast, name) for name in NAMES] == [[(0, 0), (0, 1)]] * 3
    assert released(cast) == []
    assert answered_slots(cast, "carl") == 0


def test_a_second_helper_that_dies_later_in_the_attempt_abandons_it_and_the_next_succeeds(tmp_path: Path) -> None:
    cast, fallen = three(tmp_path), []

    def fall_one_after_the_other(node: int, message: Any, handler: Any) -> Any:
        request = decode(frame_of(message))
        if isinstance(request, UnmaskRequest) and request.attempt == 0 and request.step == 0:
            fallen.append(node)
            return dies(node, message, handler) if len(fallen) != 2 else handler(message)
        return handler(message)

    cast.run(meddle=fall_one_after_the_other)
    # anna died, bert answered for its own mask and then died when it was asked for anna's: nobody has anna+bert.
    assert fallen == [NODES["anna"], NODES["bert"], NODES["bert"], NODES["carl"]]
    assert [record[:2] for record in released(cast)] == [(0, 1), (1, 0)]
    assert charges(cast, "carl") == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("dead", [None, "anna", "carl"])
def test_the_noise_in_the_sum_is_that_of_the_answers_and_is_known(tmp_path: Path, dead: str | None) -> None:
    cast = three(tmp_path, noise="helpers")
    cast.run(**({} if dead is None else {"meddle": Meddler(helping(dead), dies, times=99)}))
    learned = load_checkpoint(cast.state, cast.plan.digest)
    # anna's death shows after bert has answered for its own mask, so bert answers twice.
    answers = 3 if dead == "anna" else 2
    assert [release.num_noises for release in learned.releases] == [answers] * 2
    step = steps(cast.plan)[0]
    assert step.mechanism is not None
    std = learning.noise_std(cast.plan, learned, 0)
    assert std == pytest.approx(np.sqrt(answers) * step.mechanism.noise_std / step.scale)
    deviations = (learning.real_sum(cast.plan, learned, 0) - popularity_vectors(POOLED).total()) / std
    # 14 coordinates: the mean square of as many standard normals lies in here but for once in 10^6 times.
    assert 0.1 < np.mean(deviations**2) < 4.2
    statement = cast.published().privacy
    assert statement.epsilon <= cast.plan.epsilon
    assert "while two of the helpers are honest" in statement.against
    records = ReleaseLedger.open(cast.state).records("release", cast.plan.digest)
    assert sorted(slot for each in records[0]["answers"] for slot in each["slots"]) == list(cast.plan.sharing.slots)


# --- a seal that only its helper can see is bad ---


def test_a_seal_that_is_bad_for_one_helper_alone_shuts_nobody_out(tmp_path: Path) -> None:
    cast = three(tmp_path)
    cast.run(meddle=with_broken_seal(cast, "carl", "anna"))
    assert released(cast) == [(0, 0, list(NAMES)), (1, 0, list(NAMES))]
    complaints = [(event["party"], event["about"]) for event in cast.events() if event["event"] == "seal_complaint"]
    assert complaints == [("anna", "carl")] * 2


def test_bad_seals_to_two_helpers_cost_one_attempt_and_the_client_is_left_out(tmp_path: Path) -> None:
    cast = three(tmp_path)
    cast.run(meddle=with_broken_seal(cast, "carl", "anna", "bert"))
    assert released(cast) == [(0, 1, ["anna", "bert"]), (1, 0, ["anna", "bert"])]
    assert charges(cast, "carl") == [(0, 0)]


# --- a helper, asked by a server that means harm ---


def unmask(cast: Cast, slots: tuple[str, ...], headers: Any, request: ContributionRequest) -> bytes:
    from shared.wire import inputs_digest

    return encode(
        UnmaskRequest(
            plan_json=request.plan_json, step=0, attempt=0, roster=request.roster, slots=slots,
            inputs_digest=inputs_digest(request.inputs), headers=headers,
        )
    )  # fmt: skip


@pytest.fixture
def harm(tmp_path: Path) -> Any:
    from shared.plan import plan_to_json

    cast = three(tmp_path, noise="helpers")
    roster = (cast.folder / "server" / "roster.bin").read_bytes()
    request = ContributionRequest(plan_json=plan_to_json(cast.plan), step=0, attempt=0, roster=roster, inputs={})
    headers = tuple(
        decode(answer(cast.home(name), encode(request), now=NOW, random_bytes=os.urandom)).contribution.header()
        for name in NAMES
    )

    def ask(name: str, slots: tuple[str, ...], cohort: Any = headers) -> Any:
        # A new home each time: whatever it remembers, it remembers across a restart.
        frame = unmask(cast, slots, cohort, request)
        return decode(answer(cast.home(name), frame, now=NOW, random_bytes=os.urandom))

    return cast, headers, ask


def test_a_restarted_helper_does_not_answer_a_slot_again_about_any_cohort(harm: Any) -> None:
    cast, headers, ask = harm
    assert isinstance(ask("bert", ("bert+carl",)), UnmaskReply)
    for slots in (("bert+carl",), ("anna+bert", "bert+carl")):
        for cohort in (headers, headers[1:], headers[:2]):
            assert ask("bert", slots, cohort).error == "AlreadyAnswered"
    # A refused request answers none of its slots: the other one is still open, once.
    assert isinstance(ask("bert", ("anna+bert",), headers[:2]), UnmaskReply)
    assert ask("bert", ("anna+bert",)).error == "AlreadyAnswered"
    assert answered_slots(cast, "bert") == 2


def test_what_a_server_can_get_of_one_mask_is_one_answer_of_each_holder(harm: Any) -> None:
    cast, headers, ask = harm
    got = [
        (name, number)
        for number, cohort in enumerate([headers, headers[:2], headers[1:], headers])
        for name in NAMES
        if isinstance(ask(name, ("bert+carl",), cohort), UnmaskReply)
    ]
    assert got == [("bert", 0), ("carl", 0)]
    assert len(got) == cast.plan.releases_per_step


@pytest.mark.parametrize(
    "slots", [("anna+carl",), ("bert+carl", "anna+bert"), ("bert+carl", "bert+carl"), ("bert",), ("carl+bert",)]
)
def test_slots_that_are_not_its_own_repeated_unsorted_or_of_another_sharing_are_refused(
    harm: Any, slots: tuple[str, ...]
) -> None:
    cast, _, ask = harm
    assert ask("bert", slots).error == "WrongContext"
    assert answered_slots(cast, "bert") == 0


def test_a_plan_that_needs_fewer_colluders_than_the_policy_is_refused_by_client_and_helper(tmp_path: Path) -> None:
    from dataclasses import replace

    from client.policy import check_plan
    from shared.roster import open_roster

    cast = three(tmp_path)
    home = cast.home("anna")
    roster = open_roster((cast.folder / "server" / "roster.bin").read_bytes(), home.policy.issuer_public_key, NOW)
    check_plan(home.policy, cast.plan, roster, home.catalogue)
    with pytest.raises(PrivacyRefusal, match="spare_helpers is 1"):
        check_plan(replace(home.policy, min_helpers=3), cast.plan, roster, home.catalogue)


def test_silence_is_a_failure_like_any_other(tmp_path: Path) -> None:
    cast = three(tmp_path, collect_seconds=0.2)
    cast.run(meddle=Meddler(helping("anna"), is_silent, times=1))
    assert released(cast) == [(0, 0, list(NAMES)), (1, 0, list(NAMES))]
