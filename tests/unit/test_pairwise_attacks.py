"""What a server that lies, or a tenant on its side, may try without helpers, and the named error that refuses it."""

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared.errors import (
    BadSeal,
    BadSetting,
    BadSignature,
    CapacityExceeded,
    ExpiredKey,
    IllegalTransition,
    MalformedMessage,
    PolicyViolation,
    TooFewClients,
    UnknownKey,
    WrongContext,
    WrongShare,
)
from shared.secagg.context import pairwise_context
from shared.secagg.graph import choose_degree
from shared.secagg.pairwise_keys import self_commitment, share_digest
from shared.secagg.pairwise_messages import ActiveSignature, Bundle, Dealing, active_digest
from shared.secagg.pairwise_opening import check_dealing, check_vector, deliveries_to
from shared.secagg.pairwise_state import Committed, check_forward
from tests.pairwise_cast import MINIMA, NOW, Course, Round, random_bytes, resigned, roster

ROUND = Round()
ME, PEER, OTHER = ROUND.names[0], ROUND.names[1], ROUND.names[2]
HONEST = ROUND.run()


def other_key(what: str) -> bytes:
    return X25519PrivateKey.from_private_bytes(random_bytes(what)(32)).public_key().public_bytes_raw()


def replaced(messages: Sequence[Any], name: str, **changes: Any) -> list[Any]:
    return [replace(each, **changes) if each.client == name else each for each in messages]


def deal(bundles: Sequence[Bundle], the_round: Round = ROUND, **changes: Any) -> Any:
    return the_round.deal(HONEST.advertised[ME][0], bundles, **changes)


def test_the_honest_round_that_all_attacks_start_from_opens_to_the_sum() -> None:
    opened = HONEST.open()
    assert np.array_equal(opened.total, sum(ROUND.values().values()))
    assert opened.active == ROUND.names
    assert opened.liars == ()


# --- R0 and R1: keys, lists, numbers ---


@pytest.mark.parametrize("key", ["mask_key", "seal_key", "commitment"])
def test_a_key_swapped_on_the_way_is_refused(key: str) -> None:
    with pytest.raises(BadSignature, match=PEER):
        deal(replaced(HONEST.bundles, PEER, **{key: other_key("mallory")}))


def test_the_own_keys_must_come_back_as_they_were_sent() -> None:
    # Signed by this party, in this context, with its own name: made before a restart, or by a copy of it.
    again = ROUND.advertise(ME, random_bytes=random_bytes("again"))[1]
    for bundles in ([again, *HONEST.bundles[1:]], HONEST.bundles[1:]):
        with pytest.raises(WrongContext, match=ME):
            deal(bundles)


@pytest.mark.parametrize(
    "change", [{"step": 1}, {"bits": 64}, {"num_coordinates": 8}, {"threshold": 6}, {"min_active": 6}]
)
def test_keys_replayed_from_another_round_or_other_numbers_are_refused(change: dict[str, int]) -> None:
    # A threshold for one client alone is other numbers, and so another context.
    stale = Round(**change).advertise(PEER)[1]
    with pytest.raises(WrongContext, match=PEER):
        deal([HONEST.bundles[0], stale, *HONEST.bundles[2:]])
    with pytest.raises(BadSignature, match=PEER):
        deal([HONEST.bundles[0], replace(stale, ctx=ROUND.ctx), *HONEST.bundles[2:]])


@pytest.mark.parametrize(
    ("change", "what"),
    [({"threshold": 4}, "threshold"), ({"degree": 6}, "degree"), ({"min_active": 4}, "min_active")],
)
def test_a_client_says_nothing_under_numbers_below_its_own_minima(change: dict[str, int], what: str) -> None:
    with pytest.raises(PolicyViolation, match=what):
        Round(**change).advertise(ME)


def test_when_few_came_the_threshold_must_still_protect_against_as_many() -> None:
    # Forty of the 200 on the roster may collude. Among 140 that came they are denser than among 200.
    minima = replace(MINIMA, corrupt=0.2, dropped=0.05, min_active=120)
    degree, threshold = choose_degree(200, corrupt=0.2, dropped=0.05, privacy_bits=40, recovery_bits=20)
    large = Round(num_parties=200, degree=degree, threshold=threshold, min_active=120, minima=minima)
    state, own = large.advertise(large.names[0])
    bundles = [own, *(large.advertise(name)[1] for name in large.names[1:])]
    large.deal(state, bundles)
    with pytest.raises(PolicyViolation, match="threshold"):
        large.deal(state, bundles[:140])


def test_a_list_that_is_unsorted_or_counts_a_party_or_a_key_twice_is_refused() -> None:
    for bundles in (HONEST.bundles[::-1], [HONEST.bundles[0], *HONEST.bundles]):
        with pytest.raises(MalformedMessage, match="sorted"):
            deal(bundles)
    copied = resigned(HONEST.bundles[1], mask_key=HONEST.bundles[2].mask_key)
    with pytest.raises(MalformedMessage, match="one key"):
        deal([HONEST.bundles[0], copied, *HONEST.bundles[2:]])


def test_more_parties_than_were_invited_are_refused() -> None:
    large = roster(8, ("uninvited",))
    stranger = replace(HONEST.bundles[1], client="uninvited")
    with pytest.raises(MalformedMessage, match="invited"):
        deal([*HONEST.bundles, stranger], roster=large)


def test_parties_from_outside_the_roster_cannot_fill_the_list() -> None:
    bundles = [*HONEST.bundles[:7], resigned(HONEST.bundles[7], client="zz-outsider")]
    with pytest.raises(UnknownKey, match="zz-outsider"):
        deal(bundles)


def test_keys_outside_their_validity_are_refused() -> None:
    with pytest.raises(ExpiredKey):
        deal(HONEST.bundles, now=2 * NOW + 1)


@pytest.mark.parametrize("low_order", [bytes(32), (1).to_bytes(32, "little"), b"\xec" + b"\xff" * 30 + b"\x7f"])
@pytest.mark.parametrize("key", ["mask_key", "seal_key"])
def test_a_key_that_makes_every_secret_zero_is_refused_by_name(key: str, low_order: bytes) -> None:
    bundles = [HONEST.bundles[0], resigned(HONEST.bundles[1], **{key: low_order}), *HONEST.bundles[2:]]
    with pytest.raises(UnknownKey, match=PEER):
        deal(bundles)


def test_users_cannot_be_inflated_and_none_cannot_be_declared() -> None:
    with pytest.raises(BadSignature):
        deal(replaced(HONEST.bundles, PEER, declared_users=10_000))
    with pytest.raises(MalformedMessage):
        deal([HONEST.bundles[0], resigned(HONEST.bundles[1], declared_users=0), *HONEST.bundles[2:]])
    with pytest.raises(BadSetting):
        ROUND.advertise(ME, declared_users=0)


def test_a_list_below_the_minimum_is_refused() -> None:
    with pytest.raises(TooFewClients):
        deal(HONEST.bundles[:5])


def test_parties_that_were_shown_different_lists_share_no_round() -> None:
    # The server shows one party seven names and the others eight: other roots, other graphs.
    shorter = deal(HONEST.bundles[:7])
    state, dealing = shorter
    with pytest.raises(BadSeal):
        ROUND.mask(state, deliveries_to(ME, [each for each in HONEST.dealings if each.client in ROUND.names[1:7]]),
                   np.zeros(7, dtype=np.int64))  # fmt: skip
    with pytest.raises(WrongContext, match=ME):
        check_dealing(dealing, agreement=HONEST.agreement, roster=ROUND.roster, now=NOW)


# --- R2: shares ---


def masked(deliveries: Sequence[Any], values: int = 0) -> Any:
    return ROUND.mask(HONEST.dealt[ME][0], deliveries, np.full(7, values, dtype=np.int64))


DELIVERIES = deliveries_to(ME, HONEST.dealings)


def test_shares_redirected_to_another_neighbour_do_not_open() -> None:
    for_another = deliveries_to(OTHER, HONEST.dealings)[1]
    assert for_another.sender == PEER
    with pytest.raises(WrongContext, match=PEER):
        masked([for_another, *DELIVERIES[1:]])
    relabelled = replace(for_another, shares=replace(for_another.shares, receiver=ME))
    with pytest.raises(BadSeal, match=PEER):
        masked([relabelled, *DELIVERIES[1:]])


def test_shares_of_one_neighbour_passed_off_as_anothers_do_not_open() -> None:
    with pytest.raises(BadSeal, match=PEER):
        masked([replace(DELIVERIES[1], sender=PEER), *DELIVERIES[1:]])


def test_shares_sent_back_to_their_own_sender_do_not_open() -> None:
    # Both directions of a pair come from one exchange; their keys differ.
    back = replace(DELIVERIES[0], shares=replace(HONEST.dealings[0].shares[0], receiver=ME))
    with pytest.raises(BadSeal, match=PEER):
        masked([back, *DELIVERIES[1:]])


def test_shares_from_another_round_do_not_open() -> None:
    stale = deliveries_to(ME, Round(step=1).run().dealings)
    with pytest.raises(BadSeal, match=PEER):
        masked([stale[0], *DELIVERIES[1:]])


def test_a_dealer_whose_share_is_not_the_one_it_committed_to_is_named() -> None:
    for digest in ("self_digest", "key_digest"):
        shares = replace(DELIVERIES[0].shares, **{digest: bytes(32)})
        with pytest.raises(WrongShare, match=PEER):
            masked([replace(DELIVERIES[0], shares=shares), *DELIVERIES[1:]])


def test_too_few_unsorted_or_repeated_deliveries_are_refused() -> None:
    with pytest.raises(TooFewClients):
        masked(DELIVERIES[:4])
    for deliveries in (DELIVERIES[::-1], (DELIVERIES[0], *DELIVERIES)):
        with pytest.raises(MalformedMessage):
            masked(deliveries)
    with pytest.raises(WrongContext, match="not a neighbour"):
        masked([*DELIVERIES, replace(DELIVERIES[0], sender="zz")])


def test_no_byte_of_sealed_shares_can_be_flipped() -> None:
    shares = DELIVERIES[0].shares
    for position in range(len(shares.sealed)):
        broken = replace(shares, sealed=flipped(shares.sealed, position))
        with pytest.raises(BadSeal):
            masked([replace(DELIVERIES[0], shares=broken), *DELIVERIES[1:]])


def test_a_value_outside_the_ring_is_refused_before_it_is_masked() -> None:
    with pytest.raises(CapacityExceeded):
        masked(DELIVERIES, values=2**31)


# --- R3: the active set ---


def sign(active: Sequence[str], course: Course = HONEST) -> Any:
    return course.round.sign(course.masked[ME][0], active)


def test_a_party_told_that_it_dropped_out_signs_nothing() -> None:
    with pytest.raises(IllegalTransition, match="without itself"):
        sign(ROUND.names[1:])


def test_a_second_active_set_is_refused() -> None:
    state, _ = sign(ROUND.names)
    for active in (ROUND.names, ROUND.names[:6]):
        with pytest.raises(IllegalTransition):
            ROUND.sign(state, active)


def test_a_set_below_the_minimum_of_parties_users_or_neighbours_is_refused() -> None:
    with pytest.raises(TooFewClients, match="active parties"):
        sign(ROUND.names[:4])
    demanding = Round(minima=replace(MINIMA, min_users=80)).run()
    with pytest.raises(TooFewClients, match="users"):
        sign(ROUND.names[:7], demanding)
    with pytest.raises(TooFewClients, match="neighbours"):
        sign(ROUND.names[:5])


def test_a_set_of_too_few_is_refused_though_their_users_and_neighbours_suffice() -> None:
    demanding = Round(min_active=7).run()
    with pytest.raises(TooFewClients, match="6 active parties"):
        sign(ROUND.names[:6], demanding)
    sign(ROUND.names[:7], demanding)


def test_a_set_with_a_stranger_or_out_of_order_is_refused() -> None:
    with pytest.raises(WrongContext, match="zz"):
        sign([*ROUND.names, "zz"])
    for active in (ROUND.names[::-1], (ME, *ROUND.names)):
        with pytest.raises(MalformedMessage):
            sign(active)


def test_the_server_cannot_cut_edges_by_holding_shares_back() -> None:
    # Without this peer's shares there is no mask with it: in one set with it, the sum could come apart.
    state, _ = masked(DELIVERIES[1:])
    with pytest.raises(IllegalTransition, match=PEER):
        ROUND.sign(state, ROUND.names)
    ROUND.sign(state, (ME, *ROUND.names[2:]))


# --- R4: the quorum ---


def unmask(signatures: Sequence[ActiveSignature], course: Course = HONEST) -> Any:
    return course.round.unmask(course.committed[ME][0], signatures)


def test_a_quorum_one_too_small_is_refused() -> None:
    unmask(HONEST.signatures[1:6])
    with pytest.raises(TooFewClients, match="neighbours"):
        unmask(HONEST.signatures[1:5])


# A sparse graph, which minima that trust everybody allow among so few.
TRUSTING = replace(MINIMA, corrupt=0.0, dropped=0.0, privacy_bits=0, recovery_bits=0)
SPARSE = Round(num_parties=104, degree=50, threshold=40, min_active=100, minima=TRUSTING)


@cache
def a_sparse_graph() -> tuple[Committed, tuple[ActiveSignature, ...], tuple[ActiveSignature, ...]]:
    """A party that signed the set of all; what its neighbours and what the others signed."""
    agreement = SPARSE.agree([SPARSE.advertise(name)[1] for name in SPARSE.names])
    me, near = SPARSE.names[0], agreement.graph.neighbours(SPARSE.names[0])
    place = {"ctx": SPARSE.ctx, "root": agreement.root, "active": active_digest(SPARSE.names)}
    said = {name: resigned(ActiveSignature(client=name, signature=b"", **place)) for name in SPARSE.names}
    bound = {"client": me, "minima": TRUSTING, "num_tenants": 104, "agreement": agreement}
    state = Committed(held=(), active=SPARSE.names, **bound)  # type: ignore[arg-type]
    far = tuple(each for name, each in said.items() if name not in (me, *near))
    return state, tuple(said[name] for name in near), far


def test_signatures_of_a_neighbourhood_are_no_quorum_of_all() -> None:
    state, near, far = a_sparse_graph()
    with pytest.raises(TooFewClients, match="parties that signed"):
        SPARSE.unmask(state, near)
    # A quorum of strangers, who hold no shares of its neighbours, is none either.
    with pytest.raises(TooFewClients, match="neighbours that signed"):
        SPARSE.unmask(state, far)
    SPARSE.unmask(state, [*near, *far])


def test_a_foreign_quorum_is_refused() -> None:
    dropped = ROUND.run(r2=[OTHER])
    stray = resigned(replace(dropped.signatures[1], client=OTHER))
    with pytest.raises(WrongContext, match=OTHER):
        unmask([*dropped.signatures[1:5], stray], dropped)
    outsiders = [
        resigned(replace(each, client=f"zz-{index}")) for index, each in enumerate(HONEST.signatures[1:])
    ]  # fmt: skip
    with pytest.raises(WrongContext, match="zz-0"):
        unmask(outsiders)


def test_signatures_of_another_set_round_or_list_are_refused() -> None:
    smaller = ROUND.run(r2=[ROUND.names[-1]])
    with pytest.raises(WrongContext):
        unmask(smaller.signatures[1:])
    for other in (Round(step=1).run(), Round(seed=2).run()):
        assert other.signatures[0].active == HONEST.signatures[0].active
        with pytest.raises(WrongContext):
            unmask(other.signatures[1:])


def test_one_signature_counts_once() -> None:
    with pytest.raises(MalformedMessage, match="twice"):
        unmask([HONEST.signatures[1]] * 6)


def test_a_forged_signature_is_refused() -> None:
    with pytest.raises(BadSignature, match=PEER):
        unmask([replace(HONEST.signatures[1], signature=HONEST.signatures[2].signature), *HONEST.signatures[2:]])


def test_as_many_signatures_are_verified_as_the_threshold_takes() -> None:
    """Of 8 parties none of which is thought corrupt: 5 neighbours, where the quorum asks for 4 beside the party."""
    state = replace(HONEST.committed[ME][0], minima=TRUSTING)
    for place, each in enumerate(HONEST.signatures[1:]):
        forged = replace(each, signature=bytes(64))
        given = [forged if one is each else one for one in HONEST.signatures[1:]]
        if place < 5:
            with pytest.raises(BadSignature, match=each.client):
                ROUND.unmask(state, given)
        else:
            assert ROUND.unmask(state, given)[1] == HONEST.unmaskings[0]


def test_in_a_sparse_graph_neighbours_signatures_are_verified_and_then_the_quorum_s() -> None:
    """Of 104 parties: 50 neighbours, of whom the threshold is 40, and a quorum of 53 with the party itself."""
    state, near, far = a_sparse_graph()
    for forged, given in ((near[-1], [*far, *near]), (far[1], [*near, *far])):
        with pytest.raises(BadSignature, match=forged.client):
            SPARSE.unmask(state, [replace(each, signature=bytes(64)) if each is forged else each for each in given])
    strangers = [replace(each, signature=bytes(64)) for each in far[2:]]
    SPARSE.unmask(state, [*far[:2], *strangers, *near])
    with pytest.raises(BadSignature, match=far[2].client):
        SPARSE.unmask(state, [*strangers, *far[:2], *near])


def test_a_signature_of_another_kind_of_message_is_none() -> None:
    # Every signature begins with a label of its own: what a party signed as a vector is no set.
    with pytest.raises(BadSignature):
        unmask([replace(HONEST.signatures[1], signature=HONEST.vectors[1].signature), *HONEST.signatures[2:]])


def test_of_no_party_both_shares_are_given() -> None:
    course = ROUND.run(r2=[OTHER])
    for unmasking in course.unmaskings:
        own, keys = ({owner for owner, _ in shares} for shares in (unmasking.self_shares, unmasking.key_shares))
        assert own == set(course.active) - {unmasking.client}
        assert keys == {OTHER}


# --- the order of steps ---

STEPS: dict[str, Callable[[Any], Any]] = {
    "deal": lambda state: ROUND.deal(state, HONEST.bundles),
    "mask": lambda state: ROUND.mask(state, DELIVERIES, np.zeros(7, dtype=np.int64)),
    "sign": lambda state: ROUND.sign(state, ROUND.names),
    "unmask": lambda state: ROUND.unmask(state, HONEST.signatures),
}
STATES = {
    name: getattr(HONEST, name)[ME][0] for name in ("advertised", "dealt", "masked", "committed", "finished")
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("phase", STATES)
def test_a_step_is_taken_in_its_place_and_once(step: str, phase: str) -> None:
    # Unmasking before signing and a second unmasking are two of these.
    if list(STEPS).index(step) == list(STATES).index(phase):
        STEPS[step](STATES[phase])
        return
    with pytest.raises(IllegalTransition, match=phase):
        STEPS[step](STATES[phase])


def test_a_vault_takes_a_state_one_step_on_and_no_other() -> None:
    states = list(STATES.values())
    for index, before in enumerate(states):
        for other, after in enumerate(states):
            if other == index + 1:
                check_forward(before, after)
            else:
                with pytest.raises(IllegalTransition):
                    check_forward(before, after)
    for stranger in (Round(step=1).run().dealt[ME][0], HONEST.dealt[PEER][0]):
        with pytest.raises(IllegalTransition):
            check_forward(states[0], stranger)


def test_a_step_repeated_after_a_restart_says_the_same_bytes() -> None:
    assert ROUND.deal(STATES["advertised"], HONEST.bundles)[1] == HONEST.dealings[0]
    assert ROUND.mask(STATES["dealt"], DELIVERIES, ROUND.values()[ME])[1] == HONEST.vectors[0]
    assert ROUND.unmask(STATES["committed"], HONEST.signatures)[1] == HONEST.unmaskings[0]


# --- against the server: shares that are wrong, messages that were changed ---


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]


def lying(course: Course, liars: Sequence[str], field: str = "self_shares") -> list[Any]:
    """The unmaskings, those of the liars with every share of one kind changed and signed again."""
    return [
        resigned(each, **{field: tuple((owner, flipped(share, 20)) for owner, share in getattr(each, field))})
        if each.client in liars
        else each
        for each in course.unmaskings
    ]


@pytest.mark.parametrize(("silent", "field"), [([], "self_shares"), ([OTHER], "key_shares")])
def test_wrong_shares_are_left_out_and_whoever_sent_them_is_named(silent: list[str], field: str) -> None:
    course = ROUND.run(r2=silent)
    opened = course.open(unmaskings=lying(course, [PEER], field))
    assert opened.liars == (PEER,)
    assert np.array_equal(opened.total, sum(course.round.values()[name] for name in course.active))


def test_with_fewer_good_shares_than_the_threshold_nothing_opens_and_the_liars_are_named() -> None:
    liars = ROUND.names[1:4]
    with pytest.raises(TooFewClients, match=", ".join(liars)):
        HONEST.open(unmaskings=lying(HONEST, liars))


def bad_dealer(kind: str) -> Course:
    """A round in which PEER deals to all, consistently and under its signature, shares of another secret."""
    course = ROUND.run()
    secret = "self_seed" if kind == "self" else "mask_secret"
    state = copy.copy(course.advertised[PEER][0])
    object.__setattr__(state, secret, type(getattr(state, secret))(b"\x05" * 32))
    course.dealt[PEER] = ROUND.deal(state, course.bundles)
    changed = course.dealt[PEER][1]
    object.__setattr__(course, "dealings", [changed if each.client == PEER else each for each in course.dealings])
    silent = {PEER} if kind == "key" else set()
    values = ROUND.values()
    live = [name for name in ROUND.names if name not in silent]
    states = {
        name: ROUND.mask(
            HONEST.dealt[name][0], deliveries_to(name, course.dealings), values[name]
        )
        for name in live
    }  # fmt: skip
    course.vectors = [vector for _, vector in states.values()]
    signed = {name: ROUND.sign(state, live) for name, (state, _) in states.items()}
    course.signatures = [signature for _, signature in signed.values()]
    course.unmaskings = [ROUND.unmask(state, course.signatures)[1] for state, _ in signed.values()]
    return course


@pytest.mark.parametrize("kind", ["self", "key"])
def test_a_dealer_whose_shares_do_not_give_its_secret_is_named(kind: str) -> None:
    with pytest.raises(WrongShare, match=f"that {PEER} dealt"):
        bad_dealer(kind).open()


@pytest.mark.parametrize("messages", ["dealings", "vectors", "unmaskings"])
def test_a_message_counted_twice_is_refused(messages: str) -> None:
    twice = [*getattr(HONEST, messages), getattr(HONEST, messages)[0]]
    with pytest.raises(MalformedMessage, match="twice"):
        HONEST.open(**{messages: twice})


def test_vectors_too_few_or_of_parties_that_never_dealt_are_refused() -> None:
    with pytest.raises(TooFewClients):
        HONEST.open(vectors=HONEST.vectors[:4])
    with pytest.raises(TooFewClients, match="must have dealt"):
        HONEST.open(dealings=HONEST.dealings[1:])


def test_a_vector_of_another_length_is_refused() -> None:
    for size in (0, 27, 29):
        vector = resigned(HONEST.vectors[1], masked=bytes(size))
        with pytest.raises(MalformedMessage, match=PEER):
            check_vector(vector, agreement=HONEST.agreement, roster=ROUND.roster, now=NOW, bits=32, num_coordinates=7)


def test_dealing_to_others_than_the_neighbours_is_refused() -> None:
    shares = HONEST.dealings[1].shares
    for changed in (shares[1:], (*shares, shares[0]), (replace(shares[0], receiver="zz"), *shares[1:])):
        with pytest.raises(MalformedMessage, match="neighbours"):
            HONEST.open(
                dealings=[HONEST.dealings[0], resigned(HONEST.dealings[1], shares=changed), *HONEST.dealings[2:]]
            )
    short = (replace(shares[0], sealed=b""), *shares[1:])
    with pytest.raises(MalformedMessage, match="size"):
        HONEST.open(dealings=[HONEST.dealings[0], resigned(HONEST.dealings[1], shares=short), *HONEST.dealings[2:]])


def test_an_unmasking_of_another_set_or_with_shares_out_of_place_is_refused() -> None:
    course = ROUND.run(r2=[OTHER])
    mine = course.unmaskings[0]
    first, second = mine.self_shares[:2]

    def opened(**changes: Any) -> None:
        course.open(unmaskings=[resigned(mine, **changes), *course.unmaskings[1:]])

    with pytest.raises(WrongContext):
        opened(active=active_digest(ROUND.names))
    stray = (("zz", first[1]),)
    for shares in ((second, first), (first, first), stray):
        with pytest.raises(MalformedMessage):
            opened(self_shares=shares)
    with pytest.raises(MalformedMessage, match="wrong kind"):
        opened(self_shares=(), key_shares=(first,))
    with pytest.raises(WrongContext):
        course.open(unmaskings=[*course.unmaskings, resigned(mine, client=OTHER)])


def test_shares_of_a_party_that_dealt_none_are_refused() -> None:
    course = ROUND.run(r1=[OTHER])
    mine = course.unmaskings[0]
    with pytest.raises(MalformedMessage, match="dealt"):
        course.open(unmaskings=[resigned(mine, key_shares=((OTHER, bytes(33)),)), *course.unmaskings[1:]])


@pytest.mark.parametrize("field", ["ctx", "root", "signature"])
@pytest.mark.parametrize("messages", ["dealings", "vectors", "unmaskings"])
def test_no_byte_of_a_servers_input_can_be_flipped(messages: str, field: str) -> None:
    first, *rest = getattr(HONEST, messages)
    for position in range(len(getattr(first, field))):
        broken = replace(first, **{field: flipped(getattr(first, field), position)})
        with pytest.raises((BadSignature, WrongContext)):
            HONEST.open(**{messages: [broken, *rest]})


def test_no_byte_of_what_they_carry_can_be_flipped() -> None:
    vector, unmasking, dealing = HONEST.vectors[0], HONEST.unmaskings[0], HONEST.dealings[0]
    for position in range(len(vector.masked)):
        broken = replace(vector, masked=flipped(vector.masked, position))
        with pytest.raises(BadSignature):
            HONEST.open(vectors=[broken, *HONEST.vectors[1:]])
    (owner, share), *others = unmasking.self_shares
    for position in range(len(share)):
        shares = ((owner, flipped(share, position)), *others)
        with pytest.raises(BadSignature):
            HONEST.open(unmaskings=[replace(unmasking, self_shares=shares), *HONEST.unmaskings[1:]])
    for field in ("sealed", "self_digest", "key_digest"):
        for position in range(len(getattr(dealing.shares[0], field))):
            changed = replace(dealing.shares[0], **{field: flipped(getattr(dealing.shares[0], field), position)})
            with pytest.raises(BadSignature):
                check(replace(dealing, shares=(changed, *dealing.shares[1:])))


def check(dealing: Dealing) -> None:
    check_dealing(dealing, agreement=HONEST.agreement, roster=ROUND.roster, now=NOW)


def test_no_byte_of_a_bundle_or_of_a_signature_on_a_set_can_be_flipped() -> None:
    bundle, signature = HONEST.bundles[1], HONEST.signatures[1]
    for field in ("ctx", "mask_key", "seal_key", "commitment", "signature"):
        for position in range(len(getattr(bundle, field))):
            broken = replace(bundle, **{field: flipped(getattr(bundle, field), position)})
            with pytest.raises((BadSignature, WrongContext)):
                ROUND.agree([HONEST.bundles[0], broken, *HONEST.bundles[2:]])
    for field in ("ctx", "root", "active", "signature"):
        for position in range(len(getattr(signature, field))):
            forged = replace(signature, **{field: flipped(getattr(signature, field), position)})
            with pytest.raises((BadSignature, WrongContext)):
                unmask([forged, *HONEST.signatures[2:]])


def test_a_message_under_another_name_is_refused() -> None:
    with pytest.raises(BadSignature):
        HONEST.open(vectors=[replace(HONEST.vectors[0], client=PEER), *HONEST.vectors[2:]])
    with pytest.raises(WrongContext, match="zz"):
        HONEST.open(vectors=[replace(HONEST.vectors[0], client="zz"), *HONEST.vectors[1:]],
                    dealings=[*HONEST.dealings, replace(HONEST.dealings[0], client="zz")])  # fmt: skip


# --- contexts and secrets ---

NUMBERS = {"num_parties": 8, "degree": 7, "threshold": 5, "min_active": 5}


@pytest.mark.parametrize("field", NUMBERS)
def test_every_number_enters_the_context(field: str) -> None:
    base = ROUND.base
    assert pairwise_context(base, **NUMBERS) == ROUND.ctx
    assert pairwise_context(base, **{**NUMBERS, field: NUMBERS[field] + 1}) != ROUND.ctx
    assert pairwise_context(base[::-1], **NUMBERS) != ROUND.ctx != base


@pytest.mark.parametrize("base", [b"", bytes(31)])
def test_a_context_of_impossible_fields_is_refused(base: bytes) -> None:
    with pytest.raises(WrongContext):
        pairwise_context(base, **NUMBERS)
    with pytest.raises(WrongContext):
        pairwise_context(ROUND.base, **{**NUMBERS, "degree": -1})


def secrets_of(course: Course, name: str) -> list[bytes]:
    state = course.advertised[name][0]
    own = [each.reveal() for each in (state.mask_secret, state.seal_secret, state.self_seed, state.dealing_seed)]
    return own + [secret.reveal() for _, secret in course.masked[name][0].held]


@pytest.mark.parametrize("phase", STATES)
def test_a_state_shows_no_secret_and_is_not_pickled_or_copied(phase: str) -> None:
    state = STATES[phase]
    for text in (repr(state), str(state), f"{state}", repr([state])):
        for secret in secrets_of(HONEST, ME):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    if phase != "finished":
        for leak in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="pickled"):
                leak(state)


def test_each_state_has_dropped_what_later_steps_do_not_need() -> None:
    held = {phase: {name for name in vars(state) if name.endswith(("secret", "seed")) or name == "held"}
            for phase, state in STATES.items()}  # fmt: skip
    assert held["advertised"] == {"mask_secret", "seal_secret", "self_seed", "dealing_seed"}
    assert held["dealt"] == {"mask_secret", "seal_secret", "self_seed"}
    assert held["masked"] == held["committed"] == {"held"}
    assert held["finished"] == set()


def test_no_message_holds_a_secret_in_the_clear() -> None:
    sent = [HONEST.bundles[0], HONEST.dealings[0], HONEST.vectors[0], HONEST.signatures[0]]
    shown = "".join(repr(vars(each)) for each in sent)
    for secret in secrets_of(HONEST, ME):
        for part in (secret, secret[:33], secret[33:]):
            assert not part or repr(part)[2:-1] not in shown


def test_commitments_are_bound_to_their_place() -> None:
    share = {"kind": "self", "ctx": ROUND.ctx, "root": bytes(32), "owner": ME, "holder": PEER}
    digests = {share_digest(bytes(33), **share)}
    changes = ({"kind": "key"}, {"ctx": bytes(32)}, {"root": ROUND.ctx}, {"owner": PEER, "holder": ME})
    digests |= {share_digest(bytes(33), **{**share, **change}) for change in changes}
    assert len(digests) == 5
    assert self_commitment(bytes(32), ctx=ROUND.ctx, client=ME) != self_commitment(
        bytes(32), ctx=ROUND.ctx, client=PEER
    )
