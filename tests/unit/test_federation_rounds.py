import pytest

from server.rounds import (
    AskHelpers,
    AttemptStarted,
    Collect,
    CollectionClosed,
    ContributionArrived,
    GiveUp,
    HelperAnswered,
    HelperFailed,
    JobState,
    Offer,
    PartyLeft,
    Publish,
    Rules,
    StartAttempt,
    StepStored,
    SumOpened,
    Turn,
    action,
    advance,
    begin,
)
from shared.errors import BadSetting, CapacityExceeded, IllegalTransition

RULES = Rules(num_steps=2, min_tenants=2, min_users=50, max_users=100, helpers=("anna", "bert"), max_attempts=2)
FIRST = Turn(step=0, attempt=0)


def offer(client: str, users: int = 30) -> Offer[bytes]:
    return Offer(client=client, declared_users=users, contribution=client.encode())


def collected(*offers: Offer[bytes], state: JobState | None = None) -> JobState:
    state = state or begin(RULES)
    for one in offers:
        state = advance(state, ContributionArrived(turn=state.turn, offer=one))
    return advance(state, CollectionClosed(turn=state.turn))


def test_survivors_go_on_when_a_party_leaves():
    state = advance(begin(RULES), PartyLeft(turn=FIRST, party="carl", reason="timed out"))
    state = collected(offer("anna"), offer("bert"), state=state)
    assert state.departures[0].party == "carl"
    assert action(state) == AskHelpers(turn=FIRST, offers=(offer("anna"), offer("bert")), helpers=("anna", "bert"))


def test_a_second_contribution_by_one_client_is_refused():
    state = advance(begin(RULES), ContributionArrived(turn=FIRST, offer=offer("anna")))
    with pytest.raises(IllegalTransition, match="first contribution stands"):
        advance(state, ContributionArrived(turn=FIRST, offer=offer("anna", users=5)))


def test_a_contribution_that_the_sum_cannot_hold_is_refused():
    state = advance(begin(RULES), ContributionArrived(turn=FIRST, offer=offer("anna", users=60)))
    with pytest.raises(CapacityExceeded, match="101, the sum holds 100"):
        advance(state, ContributionArrived(turn=FIRST, offer=offer("bert", users=41)))


@pytest.mark.parametrize("users", [0, -5])
def test_a_client_that_declares_no_users_is_refused(users):
    with pytest.raises(IllegalTransition, match="declares"):
        advance(begin(RULES), ContributionArrived(turn=FIRST, offer=offer("anna", users=users)))


def test_too_few_tenants_are_abandoned():
    assert collected(offer("anna", users=90)).reason == "1 tenants contributed, at least 2 are needed"


def test_too_few_users_are_abandoned():
    assert (
        collected(offer("anna", 20), offer("bert", 29)).reason == "the cohort declares 49 users, at least 50 are needed"
    )


def test_the_smallest_allowed_cohort_is_not_abandoned():
    assert collected(offer("anna", 20), offer("bert", 30)).phase == "asking"


def test_a_retry_starts_empty_under_the_next_attempt_number():
    state = advance(collected(offer("anna"), offer("bert")), HelperFailed(turn=FIRST, helper="bert", reason="gone"))
    assert action(state) == StartAttempt(turn=Turn(step=0, attempt=1))
    state = advance(state, AttemptStarted(turn=FIRST))
    assert action(state) == Collect(turn=Turn(step=0, attempt=1))
    assert state.offers == ()
    assert state.answers == ()


def test_the_last_attempt_gives_up_with_the_reason():
    state = advance(collected(offer("anna", 90)), AttemptStarted(turn=FIRST))
    state = collected(offer("bert", 90), state=state)
    assert action(state) == GiveUp(reason="1 tenants contributed, at least 2 are needed")


def test_events_of_an_earlier_attempt_are_refused():
    state = advance(collected(offer("anna", 90)), AttemptStarted(turn=FIRST))
    with pytest.raises(IllegalTransition, match="step 0, attempt 0, the job is at step 0, attempt 1"):
        advance(state, ContributionArrived(turn=FIRST, offer=offer("bert")))


def test_a_contribution_after_the_collection_closed_is_refused():
    with pytest.raises(IllegalTransition, match="cannot happen while the round is asking"):
        advance(collected(offer("anna"), offer("bert")), ContributionArrived(turn=FIRST, offer=offer("carl")))


def test_a_helper_answers_once_and_only_a_helper():
    state = advance(collected(offer("anna"), offer("bert")), HelperAnswered(turn=FIRST, helper="anna", answer=b"1"))
    for helper in ("anna", "carl"):
        with pytest.raises(IllegalTransition, match=f"no answer of {helper} is awaited"):
            advance(state, HelperAnswered(turn=FIRST, helper=helper, answer=b"2"))


def test_nothing_can_be_stored_before_the_sum_is_open():
    with pytest.raises(IllegalTransition):
        advance(collected(offer("anna"), offer("bert")), StepStored(turn=FIRST))


def test_a_job_with_every_step_stored_is_published():
    state = begin(RULES, step=1, attempt=4)
    turn = Turn(step=1, attempt=4)
    state = collected(offer("anna"), offer("bert"), state=state)
    for helper in RULES.helpers:
        state = advance(state, HelperAnswered(turn=turn, helper=helper, answer=b""))
    state = advance(advance(state, SumOpened(turn=turn)), StepStored(turn=turn))
    assert action(state) == Publish()
    assert action(begin(RULES, step=2)) == Publish()


@pytest.mark.parametrize(("step", "attempt"), [(3, 0), (-1, 0), (0, -1)])
def test_a_job_cannot_begin_outside_its_steps(step, attempt):
    with pytest.raises(BadSetting):
        begin(RULES, step=step, attempt=attempt)
