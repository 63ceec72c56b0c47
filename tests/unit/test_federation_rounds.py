from dataclasses import replace

import pytest

from server.job_events import (
    AskHelpers,
    AttemptStarted,
    CohortsJudged,
    Collect,
    CollectionClosed,
    ContributionArrived,
    GiveUp,
    HelperAccused,
    HelperAnswered,
    HelperFailed,
    JudgeCohorts,
    PartyLeft,
    Publish,
    StartAttempt,
    StepStored,
    StoreStep,
    SumOpened,
)
from server.job_state import CohortDropped, JobState, Offer, Rules, Turn
from server.rounds import action, advance, begin
from shared.errors import BadSetting, CapacityExceeded, IllegalTransition
from shared.secagg.mask_sharing import MaskSharing

HELPERS = ("anna", "bert")
RULES = Rules(
    num_steps=2, min_tenants=2, min_users=50, max_users=100, sharing=MaskSharing(helpers=HELPERS), max_attempts=2
)
FIRST = Turn(step=0, attempt=0)
EACH_ITS_OWN = (("anna", ("anna",)), ("bert", ("bert",)))


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
    assert action(state) == AskHelpers(turn=FIRST, offers=(offer("anna"), offer("bert")), asked=EACH_ITS_OWN)


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
    for helper in HELPERS:
        state = advance(state, HelperAnswered(turn=turn, helper=helper, answer=b""))
    state = advance(advance(state, SumOpened(turn=turn)), StepStored(turn=turn))
    assert action(state) == Publish()
    assert action(begin(RULES, step=2)) == Publish()


@pytest.mark.parametrize(("step", "attempt"), [(3, 0), (-1, 0), (0, -1)])
def test_a_job_cannot_begin_outside_its_steps(step, attempt):
    with pytest.raises(BadSetting):
        begin(RULES, step=step, attempt=attempt)


# --- a client whose seal a helper cannot open ---

ALL = [offer("anna"), offer("bert"), offer("carl")]
ACCUSED = "helper bert says that the seal of carl does not open"


def accused(client: str = "carl", helper: str = "bert") -> JobState[bytes, bytes]:
    return advance(collected(*ALL), HelperAccused(turn=FIRST, helper=helper, client=client))


def test_an_accused_client_is_left_out_of_the_next_attempt_and_of_the_next_step():
    state = accused()
    assert action(state) == StartAttempt(turn=Turn(step=0, attempt=1))
    assert state.reason == ACCUSED
    state = advance(state, AttemptStarted(turn=FIRST))
    for _ in range(2):
        with pytest.raises(IllegalTransition, match=f"left out of this job: {ACCUSED}"):
            advance(state, ContributionArrived(turn=state.turn, offer=offer("carl")))
        state = collected(*ALL[:2], state=state)
        assert state.cohort == ("anna", "bert")
        for helper in HELPERS:
            state = advance(state, HelperAnswered(turn=state.turn, helper=helper, answer=b""))
        state = advance(state, SumOpened(turn=state.turn))
        state = advance(state, StepStored(turn=state.turn))
    assert action(state) == Publish()


def test_a_second_accusation_in_one_attempt_is_not_believed_whoever_makes_it():
    for helper in HELPERS:
        with pytest.raises(IllegalTransition, match="cannot happen while the round is abandoned"):
            advance(accused(), HelperAccused(turn=FIRST, helper=helper, client="anna"))


@pytest.mark.parametrize(("helper", "client"), [("carl", "anna"), ("bert", "dora"), ("dora", "carl")])
def test_only_a_helper_is_believed_and_only_about_the_cohort(helper, client):
    with pytest.raises(IllegalTransition):
        accused(client=client, helper=helper)


def test_a_helper_that_has_answered_is_not_believed_any_more():
    state = advance(collected(*ALL), HelperAnswered(turn=FIRST, helper="bert", answer=b""))
    with pytest.raises(IllegalTransition, match="no answer of bert is awaited"):
        advance(state, HelperAccused(turn=FIRST, helper="bert", client="carl"))


def test_an_accusation_that_leaves_too_few_ends_the_job_at_once_and_says_who_accused_whom():
    state = advance(collected(*ALL[1:]), HelperAccused(turn=FIRST, helper="bert", client="carl"))
    assert action(state) == GiveUp(reason=f"{ACCUSED}; without carl 1 tenants contributed, at least 2 are needed")


def test_a_cohort_that_shrank_by_itself_after_an_accusation_says_who_was_left_out():
    state = advance(accused(), AttemptStarted(turn=FIRST))
    state = collected(offer("anna"), state=state)
    assert action(state) == GiveUp(reason=f"1 tenants contributed, at least 2 are needed; left out: {ACCUSED}")


# --- limits on what one tenant may declare ---


def test_a_tenant_above_its_limit_is_not_counted_and_takes_nobodys_place():
    rules = replace(RULES, max_declared_users={"carl": 40, "*": 50})
    state = advance(begin(rules), ContributionArrived(turn=FIRST, offer=offer("carl", users=40)))
    for client, most in (("anna", 50), ("bert", 50)):
        with pytest.raises(CapacityExceeded, match=f"{client} declares {most + 1} users, this server allows it {most}"):
            advance(state, ContributionArrived(turn=FIRST, offer=offer(client, users=most + 1)))
    with pytest.raises(CapacityExceeded, match="carl declares 41 users, this server allows it 40"):
        advance(begin(rules), ContributionArrived(turn=FIRST, offer=offer("carl", users=41)))
    assert advance(state, ContributionArrived(turn=FIRST, offer=offer("anna", users=50))).num_users == 90


def test_without_a_limit_only_the_capacity_bounds_a_tenant():
    assert advance(begin(RULES), ContributionArrived(turn=FIRST, offer=offer("anna", users=100))).num_users == 100
    with pytest.raises(BadSetting, match="max_declared_users of carl"):
        replace(RULES, max_declared_users={"carl": 0})


# --- several cohorts ---

IN_COHORTS = replace(RULES, min_users=30, max_users=1_000, cohorts=3, least_cohorts=2)


def placed(client: str, cohort: int) -> Offer[bytes]:
    return replace(offer(client), cohort=cohort)


PLACED = [placed(f"{letter}{cohort}", cohort) for cohort in range(3) for letter in "ab"]


def opened_all(*offers: Offer[bytes], rules: Rules = IN_COHORTS) -> tuple[JobState, list[AskHelpers]]:
    """The job with every large enough cohort open, and what the helpers were asked."""
    state, asked = collected(*offers, state=begin(rules)), []
    while state.phase in ("asking", "opening"):
        todo = action(state)
        if isinstance(todo, AskHelpers):
            asked.append(todo)
            for helper in HELPERS:
                state = advance(state, HelperAnswered(turn=FIRST, helper=helper, answer=b""))
        else:
            state = advance(state, SumOpened(turn=FIRST))
    return state, asked


def test_helpers_are_asked_about_one_cohort_after_the_other_and_then_the_sums_are_judged():
    state, asked = opened_all(*PLACED)
    assert [[one.client for one in todo.offers] for todo in asked] == [["a0", "b0"], ["a1", "b1"], ["a2", "b2"]]
    assert action(state) == JudgeCohorts(turn=FIRST, cohorts=(0, 1, 2))
    with pytest.raises(IllegalTransition):
        advance(state, StepStored(turn=FIRST))
    state = advance(state, CohortsJudged(turn=FIRST))
    assert action(state) == StoreStep(turn=FIRST, offers=tuple(PLACED), cohorts=(0, 1, 2))


def test_a_dropped_cohort_is_not_in_what_is_stored():
    state, _ = opened_all(*PLACED)
    state = advance(state, CohortsJudged(turn=FIRST, dropped=(CohortDropped(cohort=1, reason="too long"),)))
    stored = action(state)
    assert (stored.cohorts, [one.client for one in stored.offers]) == ((0, 2), ["a0", "b0", "a2", "b2"])


def test_fewer_cohorts_than_needed_end_the_attempt_naming_each():
    state, _ = opened_all(*PLACED)
    dropped = tuple(CohortDropped(cohort=cohort, reason="too long") for cohort in (0, 2))
    state = advance(state, CohortsJudged(turn=FIRST, dropped=dropped))
    assert action(state) == StartAttempt(turn=Turn(step=0, attempt=1))
    assert state.reason == ("1 of 3 cohorts stand, at least 2 are needed: cohort 0: too long; cohort 2: too long")


def test_a_small_cohort_is_never_asked_about_and_two_small_ones_are_too_many():
    state, asked = opened_all(*PLACED[:5])
    assert [todo.offers[0].cohort for todo in asked] == [0, 1]
    assert state.dropped == (CohortDropped(cohort=2, reason="1 tenants contributed, at least 2 are needed"),)
    assert collected(*PLACED[:3], state=begin(IN_COHORTS)).phase == "abandoned"


@pytest.mark.parametrize("cohort", [-1, 3])
def test_a_contribution_to_a_cohort_that_is_not_there_is_refused(cohort):
    with pytest.raises(IllegalTransition, match="there are 3"):
        advance(begin(IN_COHORTS), ContributionArrived(turn=FIRST, offer=placed("a", cohort)))


def test_only_open_cohorts_are_judged():
    state, _ = opened_all(*PLACED[:5])
    with pytest.raises(IllegalTransition, match=r"cohorts \[2\] are judged, \[0, 1\] are open"):
        advance(state, CohortsJudged(turn=FIRST, dropped=(CohortDropped(cohort=2, reason="-"),)))


def test_a_helper_that_fails_in_the_second_cohort_ends_the_attempt_and_is_not_asked_on():
    state = collected(*PLACED, state=begin(IN_COHORTS))
    for helper in HELPERS:
        state = advance(state, HelperAnswered(turn=FIRST, helper=helper, answer=b""))
    state = advance(state, SumOpened(turn=FIRST))
    state = advance(state, HelperFailed(turn=FIRST, helper="bert", reason="gone"))
    assert (state.phase, state.reason) == ("abandoned", "helper bert: gone")


def test_a_helper_is_believed_about_members_of_the_cohort_at_hand_only():
    state = collected(*PLACED, state=begin(IN_COHORTS))
    with pytest.raises(IllegalTransition, match="accuses a1"):
        advance(state, HelperAccused(turn=FIRST, helper="bert", client="a1"))
    state = advance(state, HelperAccused(turn=FIRST, helper="bert", client="a0"))
    assert [each.client for each in state.excluded] == ["a0"]
    assert action(state) == StartAttempt(turn=Turn(step=0, attempt=1))


def test_peers_are_summed_in_one_cohort():
    with pytest.raises(BadSetting, match="peers are summed in one cohort"):
        replace(IN_COHORTS, sharing=None)
