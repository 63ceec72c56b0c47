"""What an active adversary may try against one round, and the named error that refuses it."""

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import (
    BadSeal,
    BadSetting,
    BadSignature,
    CapacityExceeded,
    ExpiredKey,
    IllegalTransition,
    MalformedMessage,
    PolicyViolation,
    ProtocolError,
    TooFewClients,
    UnknownKey,
    WrongContext,
)
from shared.roster import Roster
from shared.secagg.complaint import complain, verify_complaint
from shared.secagg.context import context
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import MaskSeed
from shared.secagg.sealing import open_seal, seal
from shared.secagg.topology_h import Contribution, HelperAnswer, verify_contribution
from tests.secagg_cast import HELPERS, NOW, ROSTER, TENANTS, Round, member, random_bytes, sealing_key, signing_key

ROUND = Round()


def headers(contributions: list[Contribution]) -> list[Any]:
    return [contribution.header() for contribution in contributions]


def verify(contribution: Contribution, the_round: Round = ROUND, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "ctx": the_round.ctx,
        "sharing": the_round.sharing,
        "roster": the_round.roster,
        "now": NOW,
        "bits": the_round.bits,
        "num_coordinates": the_round.num_coordinates,
    }
    verify_contribution(contribution, **{**fields, **changes})


def test_the_honest_round_that_all_attacks_start_from_opens_to_the_sum() -> None:
    contributions = [
        ROUND.contribution(name, [index, -1, 0, 2**30, -(2**20), 7, 8]) for index, name in enumerate(TENANTS)
    ]
    assert ROUND.open(contributions, ROUND.answers(contributions)).tolist() == [
        3, -3, 0, 3 * 2**30 - 2**32, -3 * 2**20, 21, 24,
    ]  # fmt: skip


# --- against the client: the server chooses helpers or parameters ---


def test_a_helper_key_swapped_on_the_way_opens_for_nobody() -> None:
    pins = {**ROUND.pins, "south": sealing_key("mallory").public_key().public_bytes_raw()}
    contributions = [ROUND.contribution(name, [1] * 7, helper_keys=pins) for name in TENANTS]
    with pytest.raises(BadSeal, match="south"):
        ROUND.answer("south", headers(contributions))


def test_one_key_under_two_helper_names_is_refused_by_the_client() -> None:
    key = ROUND.pins["north"]
    with pytest.raises(PolicyViolation):
        ROUND.contribution("amber", [1] * 7, helper_keys={"north": key, "south": key})


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_keys_than_helpers_are_refused_by_the_client(count: int) -> None:
    with pytest.raises(PolicyViolation):
        ROUND.contribution("amber", [1] * 7, helper_keys=dict(list(ROUND.pins.items())[:count]))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), (1).to_bytes(32, "little"), bytes(33)])
def test_a_key_that_is_no_usable_point_is_refused_by_the_client(key: bytes) -> None:
    with pytest.raises(UnknownKey):
        ROUND.contribution("amber", [1] * 7, helper_keys={**ROUND.pins, "south": key})


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_values_that_leave_the_ring_are_refused_before_they_are_masked(bits: int) -> None:
    small, half = Round(bits=bits), 2 ** (bits - 1)
    small.contribution("amber", [half - 1, -half] + [0] * 5)
    for value in (half, -half - 1, 2 * half, 2**62):
        with pytest.raises(CapacityExceeded):
            small.contribution("amber", [value] + [0] * 6)


def test_a_width_that_is_no_ring_is_refused() -> None:
    with pytest.raises(BadSetting):
        ROUND.contribution("amber", [1] * 7, bits=20)


@pytest.mark.parametrize("users", [0, -1])
def test_a_client_cannot_declare_fewer_than_one_user(users: int) -> None:
    with pytest.raises(BadSetting):
        ROUND.contribution("amber", [1] * 7, declared_users=users)


# --- against the helper: the server chooses what is summed ---


@pytest.mark.parametrize(("cohort", "minimum"), [((), 2), (("amber",), 1), (("amber",), 2), (TENANTS[:2], 3)])
def test_a_batch_below_the_minimum_is_refused_and_one_is_always_below(cohort: tuple[str, ...], minimum: int) -> None:
    contributions = ROUND.contributions(cohort)
    with pytest.raises(TooFewClients):
        ROUND.answer("north", headers(contributions), min_contributions=minimum)


def test_a_client_counted_twice_is_refused() -> None:
    amber = ROUND.contributions(["amber"])[0]
    again = ROUND.contribution("amber", [5] * 7, random_bytes=random_bytes(99))
    for pair in ([amber, amber], [amber, again]):
        with pytest.raises(MalformedMessage, match="twice"):
            ROUND.answer("north", headers(pair))
        with pytest.raises(MalformedMessage, match="twice"):
            ROUND.open(pair, [])


def test_an_upload_replayed_under_another_client_is_refused() -> None:
    amber, birch = ROUND.contributions(["amber", "birch"])
    stolen = replace(amber, client="cedar")
    with pytest.raises(BadSignature):
        ROUND.answer("north", headers([birch, stolen]))
    with pytest.raises(BadSignature):
        verify(stolen)


def test_a_seal_moved_into_an_upload_that_its_thief_signs_does_not_open() -> None:
    # The signature is the thief's own and verifies; the seal's associated data still names its owner.
    amber, birch = ROUND.contributions(["amber", "birch"])

    def resigned(client: str) -> Contribution:
        class Replay:
            def sign(self, message: bytes) -> bytes:
                own = b"".join(each.sealed for each in honest.seals)
                stolen = b"".join(each.sealed for each in amber.seals)
                for start in range(0, len(own), 80):
                    message = message.replace(own[start : start + 80], stolen[start : start + 80])
                return signing_key(client).sign(message)

        honest = ROUND.contribution(client, [1] * 7)
        forged = ROUND.contribution(client, [1] * 7, signing_key=Replay())
        return replace(forged, seals=amber.seals)

    cedar = resigned("cedar")
    verify(cedar)
    with pytest.raises(BadSeal, match="cedar") as refused:
        ROUND.answer("north", headers([birch, cedar]))
    assert refused.value.client == "cedar"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({}, None),
        ({"client": "birch"}, BadSignature),
        ({"helper": "south"}, BadSignature),
        ({"helper": "amber"}, UnknownKey),
        ({"helper": "nobody"}, UnknownKey),
        ({"ctx": bytes(32)}, WrongContext),
        ({"signature": bytes(64)}, BadSignature),
    ],
)
def test_a_complaint_holds_for_its_helper_its_client_and_its_context_alone(
    change: dict[str, Any], error: type[Exception] | None
) -> None:
    made = complain(ctx=ROUND.ctx, helper="north", client="cedar", signing_key=signing_key("north"))
    with nullcontext() if error is None else pytest.raises(error):
        verify_complaint(replace(made, **change), ctx=ROUND.ctx, roster=ROSTER, now=NOW)
    if not change:
        with pytest.raises(ExpiredKey):
            verify_complaint(made, ctx=ROUND.ctx, roster=ROSTER, now=3 * NOW)
        with pytest.raises(WrongContext):
            complain(ctx=b"short", helper="north", client="cedar", signing_key=signing_key("north"))


OTHER_ROUNDS: list[Callable[[], Round]] = [
    lambda: Round(step=1),
    lambda: Round(bits=64),
    lambda: Round(num_coordinates=8),
    lambda: Round(roster=replace(ROSTER, issued_at=1)),
]


@pytest.mark.parametrize("other", OTHER_ROUNDS)
def test_an_upload_replayed_in_another_context_is_refused_by_server_and_helper(other: Callable[[], Round]) -> None:
    old, new = ROUND.contributions(), other()
    with pytest.raises(WrongContext):
        verify(old[0], new)
    relabelled = [replace(contribution, ctx=new.ctx) for contribution in old]
    with pytest.raises((BadSignature, MalformedMessage)):
        verify(relabelled[0], new)
    with pytest.raises(BadSignature):
        new.answer("north", headers(relabelled))


def test_a_cohort_inflated_by_changing_what_a_client_declared_is_refused() -> None:
    contributions = ROUND.contributions()
    inflated = [replace(contribution, declared_users=10_000) for contribution in contributions]
    with pytest.raises(BadSignature):
        ROUND.answer("north", headers(inflated))


@pytest.mark.parametrize("users", [0, -5, 2**70])
def test_a_declared_number_of_users_that_is_none_is_refused(users: int) -> None:
    contributions = ROUND.contributions()
    with pytest.raises(MalformedMessage):
        ROUND.answer("north", headers([replace(contributions[0], declared_users=users), *contributions[1:]]))


def test_a_client_that_is_not_on_the_roster_is_refused() -> None:
    smaller = Round(roster=Roster(entries=ROSTER.entries[1:], epoch=1, issued_at=0, expires_at=2 * NOW))
    contributions = smaller.contributions()
    with pytest.raises(UnknownKey, match="amber"):
        smaller.answer("north", headers(contributions))
    with pytest.raises(UnknownKey, match="amber"):
        smaller.open(contributions, [])


def test_a_helper_cannot_pose_as_a_tenant_nor_a_tenant_as_a_helper() -> None:
    contributions = [*ROUND.contributions(), ROUND.contribution("north", [0] * 7)]
    with pytest.raises(UnknownKey, match="not as a tenant"):
        ROUND.answer("north", headers(contributions))
    posing = Round(sharing=MaskSharing(helpers=("amber", "north")))
    sealed = posing.contributions()
    with pytest.raises(UnknownKey, match="not as a helper"):
        posing.open(sealed, posing.answers(sealed))


@pytest.mark.parametrize("validity", [(0, NOW - 1), (NOW + 1, 2 * NOW)])
def test_a_client_or_helper_outside_its_validity_is_refused(validity: tuple[int, int]) -> None:
    def with_expired(name: str) -> Round:
        dates = {"not_before": validity[0], "not_after": validity[1]}
        entries = tuple(member(each, **(dates if each == name else {})) for each in TENANTS + HELPERS)
        return Round(roster=Roster(entries=entries, epoch=1, issued_at=0, expires_at=2 * NOW))

    tenant_gone, helper_gone = with_expired("birch"), with_expired("south")
    with pytest.raises(ExpiredKey, match="birch"):
        tenant_gone.answer("north", headers(tenant_gone.contributions()))
    contributions = helper_gone.contributions()
    with pytest.raises(ExpiredKey, match="south"):
        helper_gone.open(contributions, helper_gone.answers(contributions))


def test_a_helper_answers_nothing_when_a_single_seal_is_missing_or_clients_chose_other_helpers() -> None:
    contributions = ROUND.contributions(TENANTS[:2])
    stranger = Round(sharing=MaskSharing(helpers=("north", "west"))).contribution("cedar", [0] * 7)
    unsealed = replace(contributions[1], seals=contributions[1].seals[:1])
    for cohort in ([*contributions, stranger], [contributions[0], unsealed]):
        with pytest.raises(MalformedMessage, match=f"{cohort[-1].client} did not seal"):
            ROUND.answer("north", headers(cohort))
        with pytest.raises(MalformedMessage, match=f"{cohort[-1].client} did not seal"):
            ROUND.open(cohort, [])


def test_seals_that_are_repeated_unsorted_or_too_few_are_refused() -> None:
    contribution = ROUND.contributions(["amber"])[0]
    first, second = contribution.seals
    for seals in ((), (first,), (second, first), (first, first), (first, second, second)):
        with pytest.raises(MalformedMessage):
            verify(replace(contribution, seals=seals))


# --- against the server: helpers and the network ---


def test_helpers_that_summed_different_sets_are_found_out() -> None:
    contributions = ROUND.contributions()
    mixed = [
        ROUND.answer("north", headers(contributions)),
        ROUND.answer("south", headers(contributions[:2])),
    ]
    with pytest.raises(WrongContext, match="south is for another set"):
        ROUND.open(contributions, mixed)


def test_mixed_answers_without_the_check_would_open_to_noise_and_not_to_a_smaller_sum() -> None:
    # Why a server gains nothing by asking the helpers about two sets: the masks of the difference stay on.
    wide = Round(bits=64, num_coordinates=64)
    contributions = [wide.contribution(name, [1] * 64) for name in TENANTS]
    asked = (headers(contributions), headers(contributions[:2]))
    parts = [wide.answer(helper, cohort).mask_sum for helper, cohort in zip(HELPERS, asked, strict=True)]
    for kept in (contributions, contributions[:2]):
        vectors = [np.frombuffer(each, dtype="<u8") for each in (*(part.masked for part in kept), *parts)]
        total = np.sum(vectors, axis=0, dtype=np.uint64).view(np.int64)
        assert np.median(np.abs(total.astype(float))) > 2.0**60


@pytest.mark.parametrize("field", ["mask_sum", "cohort", "ctx", "signature"])
def test_a_tampered_answer_is_refused(field: str) -> None:
    contributions = ROUND.contributions()
    first, second = ROUND.answers(contributions)
    value = bytearray(getattr(second, field))
    value[3] ^= 1
    with pytest.raises((BadSignature, WrongContext)):
        ROUND.open(contributions, [first, replace(second, **{field: bytes(value)})])


def test_an_answer_under_another_helpers_name_is_refused() -> None:
    contributions = ROUND.contributions()
    first, _ = ROUND.answers(contributions)
    with pytest.raises(BadSignature):
        ROUND.open(contributions, [first, replace(first, helper="south", slots=("south",))])


def test_a_sum_opens_only_with_one_answer_of_every_helper() -> None:
    contributions = ROUND.contributions()
    first, second = ROUND.answers(contributions)
    for answers in ([], [first], [first, first], [first, second, second]):
        with pytest.raises(IllegalTransition):
            ROUND.open(contributions, answers)


def test_a_masked_vector_exchanged_under_its_signature_is_refused() -> None:
    contributions = ROUND.contributions()
    answers = ROUND.answers(contributions)
    contributions[0] = replace(contributions[0], masked=contributions[1].masked)
    with pytest.raises(BadSignature, match="amber"):
        ROUND.open(contributions, answers)


@pytest.mark.parametrize("size", [0, 27, 29, 56])
def test_a_vector_of_another_length_is_refused(size: int) -> None:
    contributions = ROUND.contributions()
    answers = ROUND.answers(contributions)
    with pytest.raises(MalformedMessage, match="amber"):
        verify(replace(contributions[0], masked=bytes(size)))
    with pytest.raises(MalformedMessage, match="north"):
        ROUND.open(contributions, [replace(answers[0], mask_sum=bytes(size)), answers[1]])


def test_parties_that_differ_in_bits_or_length_do_not_share_a_sum() -> None:
    contributions = ROUND.contributions()
    answers = ROUND.answers(contributions)
    with pytest.raises(MalformedMessage):
        ROUND.open(contributions, answers, bits=64)
    with pytest.raises(MalformedMessage):
        ROUND.open(contributions, answers, num_coordinates=6)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]


def test_no_byte_of_a_contribution_can_be_flipped() -> None:
    contributions = ROUND.contributions()
    victim = contributions[0]
    for field in ("ctx", "masked", "signature"):
        data = getattr(victim, field)
        for position in range(len(data)):
            with pytest.raises((BadSignature, WrongContext)):
                verify(replace(victim, **{field: flipped(data, position)}))
    for index, each in enumerate(victim.seals):
        for position in range(len(each.sealed)):
            seals = list(victim.seals)
            seals[index] = replace(each, sealed=flipped(each.sealed, position))
            with pytest.raises(BadSignature):
                verify(replace(victim, seals=tuple(seals)))


def test_no_byte_of_an_answer_can_be_flipped() -> None:
    contributions = ROUND.contributions()
    first, second = ROUND.answers(contributions)
    for field in ("ctx", "cohort", "mask_sum", "signature"):
        data = getattr(second, field)
        for position in range(len(data)):
            broken: HelperAnswer = replace(second, **{field: flipped(data, position)})
            with pytest.raises((BadSignature, WrongContext)):
                ROUND.open(contributions, [first, broken])


def test_no_byte_of_a_seal_its_key_or_its_associated_data_can_differ() -> None:
    key, secret = sealing_key("north"), bytes(range(32))
    sealed = seal(ROUND.pins["north"], secret, associated=b"round 1", random_bytes=random_bytes(5))
    assert open_seal(key, sealed, associated=b"round 1") == secret
    for position in range(len(sealed)):
        with pytest.raises(BadSeal):
            open_seal(key, flipped(sealed, position), associated=b"round 1")
    for wrong_key, associated, data in (
        (sealing_key("south"), b"round 1", sealed),
        (key, b"round 2", sealed),
        (key, b"round 1", sealed[:-1]),
        (key, b"round 1", sealed + b"\0"),
        (key, b"round 1", bytes(32) + sealed[32:]),
    ):
        with pytest.raises(BadSeal):
            open_seal(wrong_key, data, associated=associated)


# --- contexts ---

FIELDS: dict[str, Any] = {
    "plan_digest": "0a" * 32,
    "job_id": "job-1",
    "step": 1,
    "attempt": 2,
    "num_coordinates": 3,
    "bits": 32,
    "inputs_digest": bytes(range(32)),
    "roster_digest": "0b" * 32,
}


@pytest.mark.parametrize(
    "change",
    [
        {"plan_digest": "0c" * 32},
        {"job_id": "job-2"},
        {"step": 2},
        {"attempt": 3},
        {"step": 2, "attempt": 1},
        {"num_coordinates": 4},
        {"bits": 64},
        {"inputs_digest": bytes(32)},
        {"roster_digest": "0a" * 32, "plan_digest": "0b" * 32},
    ],
)
def test_every_field_of_a_context_counts(change: dict[str, Any]) -> None:
    assert context(**FIELDS) != context(**{**FIELDS, **change})


@pytest.mark.parametrize(
    "change",
    [{"plan_digest": "zz"}, {"plan_digest": "ab"}, {"inputs_digest": b""}, {"step": -1}, {"attempt": 2**64}],
)
def test_a_context_of_impossible_fields_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WrongContext):
        context(**{**FIELDS, **change})


@pytest.mark.parametrize("ctx", [b"", bytes(31), bytes(33)])
def test_nobody_speaks_under_something_that_is_no_context(ctx: bytes) -> None:
    with pytest.raises(WrongContext):
        ROUND.contribution("amber", [0] * 7, ctx=ctx)
    with pytest.raises(WrongContext):
        ROUND.answer("north", headers(ROUND.contributions()), ctx=ctx)


# --- secrets ---


def test_a_mask_seed_shows_itself_to_no_repr_format_pickle_or_copy() -> None:
    secret = bytes(range(32))
    seed = MaskSeed(secret)
    for text in (repr(seed), str(seed), f"{seed}", repr([seed]), repr({"seed": seed})):
        assert secret.hex() not in text
        assert repr(secret) not in text
        assert "hidden" in text
    assert not hasattr(seed, "__dict__")
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            leak(seed)


def test_no_message_holds_a_seed_or_a_value_in_the_clear() -> None:
    drawn: list[bytes] = []
    source = random_bytes(3)

    def recording(size: int) -> bytes:
        drawn.append(source(size))
        return drawn[-1]

    value = 0x1234567890ABCDEF
    wide = Round(bits=64)
    contribution = wide.contribution("amber", [value] * 7, random_bytes=recording)
    shown = repr(contribution).encode() + contribution.masked + b"".join(each.sealed for each in contribution.seals)
    assert len(drawn) == 4  # a seed and an ephemeral key for each helper
    for secret in (*drawn, value.to_bytes(8, "little")):
        assert secret not in shown
        assert secret.hex().encode() not in shown


def test_errors_name_parties_and_never_the_values() -> None:
    contributions = ROUND.contributions()
    with pytest.raises(ProtocolError) as raised:
        ROUND.open([replace(contributions[0], signature=bytes(64)), *contributions[1:]], [])
    assert "amber" in str(raised.value)
    assert contributions[0].masked.hex() not in str(raised.value)
