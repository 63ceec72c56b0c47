"""Replicated mask seeds: who holds what, who is asked for what, and what an adversary may try with them."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadSeal, BadSetting, BadSignature, IllegalTransition, MalformedMessage, WrongContext
from shared.secagg import topology_h
from shared.secagg.context import vector_digest
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.topology_h import Contribution, slot_contexts, verify_contribution
from tests.secagg_cast import NOW, ONE_MAY_BE_ABSENT, TENANTS, THREE_HELPERS, Round, signing_key

ROUND = Round(sharing=ONE_MAY_BE_ABSENT)
EAST_NORTH, EAST_SOUTH, NORTH_SOUTH = ROUND.sharing.slots
SHARINGS = [
    MaskSharing(helpers=tuple("abcdefgh"[:number]), spare=spare)
    for spare, most in ((0, 8), (1, 8), (2, 6))
    for number in range(2 + spare, most + 1)
]


def headers(contributions: list[Contribution]) -> list[Any]:
    return [contribution.header() for contribution in contributions]


# --- who holds what ---


def test_every_pair_of_three_helpers_holds_one_mask() -> None:
    assert ROUND.sharing.slots == ("east+north", "east+south", "north+south")
    assert ROUND.sharing.held_by("north") == ("east+north", "north+south")
    assert ROUND.sharing.holders("east+south") == ("east", "south")
    assert ROUND.sharing.places[:3] == (("east+north", "east"), ("east+north", "north"), ("east+south", "east"))
    assert MaskSharing(helpers=("south", "north")).slots == ("north", "south")


@pytest.mark.parametrize("sharing", SHARINGS)
def test_any_spare_helpers_may_be_absent_and_one_more_leaves_a_mask_to_nobody(sharing: MaskSharing) -> None:
    for absent in combinations(sharing.helpers, sharing.spare):
        asked = sharing.assign(sharing.slots, absent)
        assert asked is not None
        assert sorted(slot for slots in asked.values() for slot in slots) == list(sharing.slots)
        assert not set(asked) & set(absent)
        for helper, slots in asked.items():
            assert set(slots) <= set(sharing.held_by(helper))
            assert list(slots) == sorted(slots)
    for absent in combinations(sharing.helpers, sharing.spare + 1):
        assert sharing.assign(sharing.slots, absent) is None


@pytest.mark.parametrize("sharing", SHARINGS)
def test_one_helper_less_than_the_colluders_lacks_a_mask_and_the_colluders_lack_none(sharing: MaskSharing) -> None:
    for number, opens in ((sharing.colluders - 1, False), (sharing.colluders, True)):
        for corrupt in combinations(sharing.helpers, number):
            known = {slot for helper in corrupt for slot in sharing.held_by(helper)}
            assert (known == set(sharing.slots)) == opens
            if not opens:
                # What the accounting rests on: of a slot that is not known, the honest holders are spare + 1.
                assert {len(sharing.holders(slot)) for slot in set(sharing.slots) - known} == {sharing.spare + 1}


@given(st.data())
def test_nobody_is_asked_for_a_mask_that_is_closed_or_that_it_does_not_hold(data: Any) -> None:
    sharing = data.draw(st.sampled_from(SHARINGS))
    wanted = data.draw(st.sets(st.sampled_from(sharing.slots)))
    absent = data.draw(st.sets(st.sampled_from(sharing.helpers)))
    asked = sharing.assign(wanted, absent)
    alive = all(set(sharing.holders(slot)) - absent for slot in wanted)
    assert (asked is not None) == alive
    for helper, slots in (asked or {}).items():
        assert helper not in absent
        assert set(slots) <= wanted & set(sharing.held_by(helper))


@pytest.mark.parametrize(
    ("helpers", "spare"),
    [
        (("a", "b"), 1),
        (("a", "b", "c"), 2),
        (("a", "b", "c", "d", "e"), 3),
        (("a", "b", "c"), -1),
        (("a",), 0),
        (("a", "a", "b"), 0),
        (("a", "b+c", "d"), 1),
        (tuple("abcdefghi"), 1),
    ],
)
def test_an_impossible_sharing_is_a_bad_setting(helpers: tuple[str, ...], spare: int) -> None:
    with pytest.raises(BadSetting):
        MaskSharing(helpers=helpers, spare=spare)


def test_the_keys_of_a_helpers_memory_differ_by_context_and_slot() -> None:
    ctx, other = ROUND.ctx, Round(sharing=ONE_MAY_BE_ABSENT, step=1).ctx
    keys = {*slot_contexts(ctx, ROUND.sharing.slots), *slot_contexts(other, ROUND.sharing.slots)}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
    assert not keys & {ctx, other}


# --- against the helper: the server chooses the masks it asks for ---


@pytest.mark.parametrize(
    "slots",
    [
        (),
        (EAST_SOUTH,),  # not its own
        (EAST_NORTH, EAST_SOUTH),
        (EAST_NORTH, EAST_NORTH),  # twice
        (NORTH_SOUTH, EAST_NORTH),  # unsorted
        ("north",),  # of another sharing
        ("north+east",),  # another spelling
        ("east+north+south",),
    ],
)
def test_a_helper_answers_for_its_own_masks_each_once_in_order_and_for_nothing_else(slots: tuple[str, ...]) -> None:
    contributions = ROUND.contributions()
    with pytest.raises(WrongContext, match="north is asked for masks"):
        ROUND.answer("north", headers(contributions), slots=slots)


def test_a_helper_that_holds_no_mask_of_the_sharing_answers_for_none() -> None:
    two = Round()
    for slots in ((), ("east",), ("north",)):
        with pytest.raises(WrongContext):
            two.answer("east", headers(two.contributions()), slots=slots)


@pytest.mark.parametrize(("sealed", "asked"), [(Round(), ROUND), (ROUND, Round())])
def test_a_client_that_seals_in_another_sharing_is_refused_by_server_and_helper(sealed: Round, asked: Round) -> None:
    # The context does not tell the sharings apart here, as it does in a job through the plan's digest.
    assert sealed.ctx == asked.ctx
    contributions = [*asked.contributions(TENANTS[:2]), sealed.contribution("cedar", [0] * 7)]
    with pytest.raises(MalformedMessage, match="cedar did not seal"):
        asked.answer("north", headers(contributions))
    with pytest.raises(MalformedMessage, match="cedar did not seal"):
        asked.open(contributions, [])
    with pytest.raises(MalformedMessage, match="cedar did not seal"):
        verify(contributions[2], asked)


def test_a_plan_with_another_number_of_spare_helpers_has_another_context() -> None:
    from tests.unit.client_homes import cooccurrence

    helpers = ("east", "north", "south")
    assert cooccurrence(helpers=helpers).digest != cooccurrence(helpers=helpers, spare_helpers=1).digest


def verify(contribution: Contribution, the_round: Round = ROUND) -> None:
    verify_contribution(
        contribution,
        ctx=the_round.ctx,
        sharing=the_round.sharing,
        roster=the_round.roster,
        now=NOW,
        bits=the_round.bits,
        num_coordinates=the_round.num_coordinates,
    )


def moved(contribution: Contribution, source: tuple[str, str], place: tuple[str, str]) -> Contribution:
    """The seal at `source` put at `place` too; the signature stays."""
    sealed = {(each.slot, each.helper): each.sealed for each in contribution.seals}
    seals = tuple(
        replace(each, sealed=sealed[source]) if (each.slot, each.helper) == place else each
        for each in contribution.seals
    )
    return replace(contribution, seals=seals)


def signed(contribution: Contribution, signer: str) -> Contribution:
    message = topology_h._contribution_message(
        contribution.ctx,
        contribution.client,
        contribution.declared_users,
        contribution.seals,
        contribution.header().masked_digest,
    )
    return replace(contribution, signature=signing_key(signer).sign(message))


MOVES = [
    ((EAST_NORTH, "north"), (NORTH_SOUTH, "north")),  # same helper, another slot
    ((NORTH_SOUTH, "south"), (NORTH_SOUTH, "north")),  # same slot, another helper
]


@pytest.mark.parametrize(("source", "place"), MOVES)
def test_a_seal_moved_to_another_slot_or_holder_by_the_server_breaks_the_signature(
    source: tuple[str, str], place: tuple[str, str]
) -> None:
    contributions = ROUND.contributions()
    contributions[0] = moved(contributions[0], source, place)
    with pytest.raises(BadSignature, match="amber"):
        ROUND.answer("north", headers(contributions))


@pytest.mark.parametrize(("source", "place"), MOVES)
def test_a_seal_moved_to_another_slot_or_holder_by_its_client_does_not_open(
    source: tuple[str, str], place: tuple[str, str]
) -> None:
    contributions = ROUND.contributions()
    contributions[0] = signed(moved(contributions[0], source, place), "amber")
    verify(contributions[0])
    with pytest.raises(BadSeal, match="amber"):
        ROUND.answer("north", headers(contributions))
    # A seal that is not needed for what is asked is not opened: the slot's other holder can still answer.
    ROUND.answer("north", headers(contributions), slots=(EAST_NORTH,))


def test_the_seal_that_moved_nowhere_still_opens() -> None:
    contributions = ROUND.contributions()
    place = (EAST_NORTH, "north")
    contributions[0] = signed(moved(contributions[0], place, place), "amber")
    ROUND.answer("north", headers(contributions))


def test_slots_and_holders_exchanged_in_a_header_are_refused() -> None:
    contributions = ROUND.contributions()
    first, second, *rest = contributions[0].seals
    variants: list[tuple[Any, ...]] = [
        (second, first, *rest),
        (first, first, *rest),
        (first, *rest),
        (first, second, *rest, rest[-1]),
        (replace(first, slot=EAST_SOUTH), second, *rest),
        (replace(first, helper="south"), second, *rest),
    ]
    for seals in variants:
        with pytest.raises(MalformedMessage, match="amber did not seal"):
            ROUND.answer("north", headers([replace(contributions[0], seals=seals), *contributions[1:]]))


# --- against the server: helpers answer for something else ---


def test_a_sum_opens_with_every_slot_in_one_answer_and_not_otherwise() -> None:
    contributions = ROUND.contributions()
    asked = headers(contributions)
    east, north = (ROUND.answer(name, asked) for name in ("east", "north"))
    last = ROUND.answer("south", asked, slots=(NORTH_SOUTH,))
    expected = ROUND.open(contributions, ROUND.answers(contributions))
    assert ROUND.open(contributions, [east, last]).tolist() == expected.tolist()
    # Missing, twice in two answers, and the same answer again: each would add or leave a mask.
    for answers in ([east], [last], [east, north], [east, last, last], [east, north, last]):
        with pytest.raises(IllegalTransition, match="one answer for each"):
            ROUND.open(contributions, answers)


@pytest.mark.parametrize("helper", THREE_HELPERS)
def test_whichever_helper_is_absent_the_same_sum_opens(helper: str) -> None:
    contributions = ROUND.contributions()
    complete, without = ROUND.answers(contributions), ROUND.answers(contributions, absent=[helper])
    assert helper not in {answer.helper for answer in without}
    assert ROUND.open(contributions, without).tolist() == ROUND.open(contributions, complete).tolist()


def test_an_answer_that_claims_other_slots_than_were_signed_is_refused() -> None:
    contributions = ROUND.contributions()
    asked = headers(contributions)
    north = ROUND.answer("north", asked, slots=(EAST_NORTH,))
    south = ROUND.answer("south", asked, slots=(EAST_SOUTH, NORTH_SOUTH))
    assert ROUND.open(contributions, [north, south]) is not None
    with pytest.raises(BadSignature, match="north"):
        ROUND.open(
            contributions,
            [replace(north, slots=(EAST_NORTH, NORTH_SOUTH)), ROUND.answer("south", asked, slots=(EAST_SOUTH,))],
        )


def test_an_answer_for_slots_that_are_not_the_signers_is_refused_though_its_signature_holds() -> None:
    contributions = ROUND.contributions()
    asked = headers(contributions)
    honest = ROUND.answer("north", asked, slots=(EAST_NORTH,))
    digest = vector_digest(honest.mask_sum)
    message = topology_h._answer_message(ROUND.ctx, "north", (EAST_SOUTH,), honest.cohort, digest)
    stolen = replace(honest, slots=(EAST_SOUTH,), signature=signing_key("north").sign(message))
    rest = ROUND.answer("north", asked, slots=(EAST_NORTH, NORTH_SOUTH))
    with pytest.raises(WrongContext, match="not its own"):
        ROUND.open(contributions, [stolen, rest])


def test_the_server_takes_an_answer_for_exactly_the_slots_that_it_asked_for() -> None:
    contributions = ROUND.contributions()
    asked = headers(contributions)
    answer = ROUND.answer("north", asked, slots=(EAST_NORTH,))
    fields: dict[str, Any] = {
        "ctx": ROUND.ctx, "cohort": answer.cohort, "roster": ROUND.roster, "now": NOW, "bits": ROUND.bits,
        "num_coordinates": ROUND.num_coordinates,
    }  # fmt: skip
    topology_h.verify_answer(answer, slots=(EAST_NORTH,), **fields)
    for slots in ((NORTH_SOUTH,), (EAST_NORTH, NORTH_SOUTH), ()):
        with pytest.raises(WrongContext, match="other masks"):
            topology_h.verify_answer(answer, slots=slots, **fields)
