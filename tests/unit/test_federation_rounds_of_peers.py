"""Rounds without helpers as data: who may leave when, and how many of the peers have to stay."""

from dataclasses import replace

import pytest
from flwr.supercore.inflatable.inflatable_utils import pull_objects

from server.job_events import (
    AskPeers,
    AskSignatures,
    AttemptStarted,
    Collect,
    CollectionClosed,
    ContributionArrived,
    DealerExposed,
    HelperAnswered,
    OpenSum,
    PartyLeft,
    PeerAnswered,
    PeerFailed,
    PeerSigned,
    SumOpened,
)
from server.job_state import JobState, Needed, Offer, Rules, Turn
from server.pace import bound_object_waits
from server.rounds import action, advance, begin
from shared.errors import IllegalTransition
from shared.secagg.mask_sharing import MaskSharing

TURN = Turn(step=0, attempt=0)
NAMES = ("anna", "bert", "carl", "dora", "emil")
NEEDED = Needed(signers=4, answers=4)
State = JobState[str, str]
RULES = Rules(num_steps=1, min_tenants=4, min_users=40, max_users=1_000, sharing=None, max_attempts=3)


def collected() -> State:
    state: State = begin(RULES)
    for name in NAMES:
        offer = Offer(client=name, declared_users=10, contribution=name)
        state = advance(state, ContributionArrived(turn=TURN, offer=offer))
    return state


def signing() -> State:
    return advance(collected(), CollectionClosed(turn=TURN, needed=NEEDED))


def asking(*lost: str) -> State:
    state = signing()
    for name in NAMES:
        gone = PeerFailed(turn=TURN, peer=name, reason="no answer")
        state = advance(state, gone if name in lost else PeerSigned(turn=TURN, peer=name))
    return state


def test_everybody_signs_then_everybody_who_signed_is_asked_and_then_the_sum_opens() -> None:
    assert action(collected()) == Collect(turn=TURN)
    assert action(signing()) == AskSignatures(turn=TURN, cohort=NAMES)
    state = asking()
    assert action(state) == AskPeers(turn=TURN, cohort=NAMES, signers=NAMES)
    for name in NAMES:
        state = advance(state, PeerAnswered(turn=TURN, peer=name, answer=name.upper()))
    opening = action(state)
    assert isinstance(opening, OpenSum)
    assert [each.answer for each in opening.answers] == [name.upper() for name in NAMES]
    assert advance(state, SumOpened(turn=TURN)).phase == "closed"


def test_a_party_that_gave_its_keys_can_leave_until_its_vector_is_in() -> None:
    state = advance(collected(), PartyLeft(turn=TURN, party="carl", reason="no answer"))
    assert state.cohort == ("anna", "bert", "dora", "emil")
    assert state.num_users == 40
    assert advance(state, CollectionClosed(turn=TURN, needed=NEEDED)).phase == "signing"
    fewer = advance(state, PartyLeft(turn=TURN, party="dora", reason="no answer"))
    assert advance(fewer, CollectionClosed(turn=TURN, needed=NEEDED)).phase == "abandoned"


def test_with_helpers_a_contribution_stands() -> None:
    with_helpers = replace(collected(), rules=replace(RULES, sharing=MaskSharing(helpers=("x", "y"))))
    with pytest.raises(IllegalTransition, match="its contribution stands"):
        advance(with_helpers, PartyLeft(turn=TURN, party="carl", reason="no answer"))


def test_one_may_be_silent_when_signing_and_is_not_asked_again() -> None:
    assert action(asking("carl")) == AskPeers(turn=TURN, cohort=NAMES, signers=("anna", "bert", "dora", "emil"))


def test_the_attempt_ends_as_soon_as_too_few_are_left() -> None:
    state = signing()
    state = advance(state, PeerFailed(turn=TURN, peer="anna", reason="no answer"))
    assert state.phase == "signing"
    state = advance(state, PeerFailed(turn=TURN, peer="bert", reason="no answer"))
    assert state.phase == "abandoned"
    assert "at most 3 parties signed the set of active parties, 4 are needed" in state.reason
    state = advance(asking("carl"), PeerFailed(turn=TURN, peer="anna", reason="no answer"))
    assert state.phase == "abandoned"
    assert "at most 3 parties gave their shares, 4 are needed" in state.reason


@pytest.mark.parametrize("event", [PeerSigned(turn=TURN, peer="x"), PeerFailed(turn=TURN, peer="x", reason="")])
def test_nobody_else_is_heard(event: PeerSigned | PeerFailed) -> None:
    with pytest.raises(IllegalTransition, match="no answer of x is awaited"):
        advance(signing(), event)


def test_nobody_is_heard_twice_or_out_of_turn() -> None:
    signed = advance(signing(), PeerSigned(turn=TURN, peer="anna"))
    with pytest.raises(IllegalTransition, match="no answer of anna"):
        advance(signed, PeerSigned(turn=TURN, peer="anna"))
    with pytest.raises(IllegalTransition, match="cannot happen while the round is signing"):
        advance(signed, PeerAnswered(turn=TURN, peer="bert", answer="B"))
    with pytest.raises(IllegalTransition, match="no answer of carl"):
        advance(asking("carl"), PeerAnswered(turn=TURN, peer="carl", answer="C"))
    with pytest.raises(IllegalTransition, match="no helpers"):
        advance(asking(), HelperAnswered(turn=TURN, helper="anna", answer="A"))


def test_a_sum_of_peers_is_not_closed_without_the_numbers_that_it_needs() -> None:
    with pytest.raises(IllegalTransition, match="how many"):
        advance(collected(), CollectionClosed(turn=TURN))


def test_an_announced_reply_whose_parts_never_come_is_given_up_in_time() -> None:
    before = dict(pull_objects.__kwdefaults__)
    try:
        assert bound_object_waits(20.0)
        assert pull_objects.__kwdefaults__["max_time"] == 20.0
        assert pull_objects.__kwdefaults__["max_tries_per_object"] is None
    finally:
        pull_objects.__kwdefaults__.update(before)


def test_an_exposed_dealer_stays_out_of_every_later_attempt_and_step() -> None:
    state = advance(collected(), DealerExposed(turn=TURN, dealer="carl", holder="anna"))
    # The attempt goes on as it is: who dealt is in everybody's masks already.
    assert state.cohort == NAMES
    state = advance(state, DealerExposed(turn=TURN, dealer="carl", holder="dora"))
    assert [(each.client, each.helper, each.proven) for each in state.excluded] == [("carl", "anna", True)]
    for name in NAMES[:2]:
        state = advance(state, PartyLeft(turn=TURN, party=name, reason="shares do not open"))
    state = advance(state, CollectionClosed(turn=TURN, needed=NEEDED))
    assert (state.phase, "carl dealt anna shares" in state.reason) == ("abandoned", True)
    state = advance(state, AttemptStarted(turn=TURN))
    again = Offer(client="carl", declared_users=10, contribution="carl")
    with pytest.raises(IllegalTransition, match="left out of this job: it is proven that carl dealt anna shares"):
        advance(state, ContributionArrived(turn=state.turn, offer=again))
    honest = Offer(client="anna", declared_users=10, contribution="anna")
    assert advance(state, ContributionArrived(turn=state.turn, offer=honest)).cohort == ("anna",)


def test_a_dealer_can_be_exposed_when_the_sum_opens_and_never_in_a_round_with_helpers() -> None:
    state = asking()
    for name in NAMES:
        state = advance(state, PeerAnswered(turn=TURN, peer=name, answer=name))
    state = advance(state, DealerExposed(turn=TURN, dealer="carl"))
    assert [each.client for each in state.excluded] == ["carl"]
    for phase in (signing(), asking()):
        with pytest.raises(IllegalTransition, match="cannot happen"):
            advance(phase, DealerExposed(turn=TURN, dealer="carl"))
    helped: State = begin(replace(RULES, sharing=MaskSharing(helpers=("x", "y"), spare=0)))
    with pytest.raises(IllegalTransition, match="nobody deals"):
        advance(helped, DealerExposed(turn=TURN, dealer="carl"))
