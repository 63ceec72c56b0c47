"""Whatever happens in whatever order, the round keeps its promises."""

from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from server.job_events import (
    AskHelpers,
    AttemptStarted,
    Collect,
    CollectionClosed,
    ContributionArrived,
    GiveUp,
    HelperAccused,
    HelperAnswered,
    HelperFailed,
    OpeningFailed,
    OpenSum,
    PartyLeft,
    Publish,
    StepStored,
    StoreStep,
    SumOpened,
)
from server.job_state import JobState, Offer, Rules, Turn
from server.rounds import action, advance, begin
from shared.errors import CapacityExceeded, IllegalTransition
from shared.secagg.mask_sharing import MaskSharing

HELPERS = ("anna", "bert")
LIMITS = {"anna": 35, "*": 50}
RULES = Rules(
    num_steps=3,
    min_tenants=2,
    min_users=30,
    max_users=100,
    sharing=MaskSharing(helpers=HELPERS),
    max_attempts=2,
    max_declared_users=LIMITS,
)
PARTIES = ("anna", "bert", "carl", "dora")


def about(kind, **fields):
    """Events as functions of the turn at hand: mostly about it, now and then about another one."""
    shift = st.sampled_from([(0, 0)] * 9 + [(0, 1), (1, 0), (0, -1)])
    return st.builds(
        lambda offset, **drawn: (
            lambda turn: kind(turn=Turn(step=turn.step + offset[0], attempt=turn.attempt + offset[1]), **drawn)
        ),
        shift,
        **fields,
    )


parties = st.sampled_from(PARTIES)
offers = st.builds(Offer, client=parties, declared_users=st.integers(-1, 60), contribution=st.binary(max_size=1))
arrivals = about(ContributionArrived, offer=offers)
answers = about(HelperAnswered, helper=st.sampled_from(("anna", "bert", "carl")), answer=st.binary(max_size=1))
happenings = st.one_of(
    arrivals,
    arrivals,
    arrivals,
    answers,
    answers,
    about(PartyLeft, party=parties, reason=st.just("gone")),
    about(CollectionClosed),
    about(HelperFailed, helper=parties, reason=st.just("gone")),
    about(HelperAccused, helper=parties, client=parties),
    about(SumOpened),
    about(OpeningFailed, reason=st.just("does not verify")),
    about(StepStored),
    about(AttemptStarted),
)


def now(kind, **fields):
    return lambda turn: kind(turn=turn, **fields)


def arriving(parties: int, users: int):
    """Contributions of the first `parties`, and the end of the collection."""
    offered = [Offer(client=client, declared_users=users, contribution=b"") for client in PARTIES[:parties]]
    return [*(now(ContributionArrived, offer=offer) for offer in offered), now(CollectionClosed)]


# Passages of an honest round, so that random events strike at every stage of it and not only at its start.
collection = st.tuples(st.integers(1, 4), st.sampled_from([10, 33, 33, 40])).map(lambda drawn: arriving(*drawn))
answering = [now(HelperAnswered, helper=helper, answer=b"") for helper in HELPERS]
ending = [now(SumOpened), now(StepStored), now(AttemptStarted)]
rounds = st.tuples(collection, st.integers(1, 12)).map(lambda drawn: [*drawn[0], *answering, *ending][: drawn[1]])
# Three of 33 users or four of 20: without one of them, the others are still enough.
crowd = st.sampled_from([(3, 33), (4, 20)]).map(lambda drawn: arriving(*drawn))
accusations = st.tuples(
    st.one_of(crowd, collection), st.sampled_from(HELPERS), parties, crowd, st.sampled_from([0, 4, 12, 12])
).map(
    lambda drawn: [
        *drawn[0],
        now(HelperAccused, helper=drawn[1], client=drawn[2]),
        now(AttemptStarted),
        *[*drawn[3], *answering, *ending][: drawn[4]],
    ]
)
# Both helpers' turn to speak against somebody, one attempt after the other.
lies = st.tuples(crowd, parties, crowd, parties).map(
    lambda drawn: [
        *drawn[0],
        now(HelperAccused, helper="anna", client=drawn[1]),
        now(AttemptStarted),
        *drawn[2],
        now(HelperAccused, helper="bert", client=drawn[3]),
    ]
)
passages = st.one_of(rounds, rounds, accusations, lies, st.just(ending), happenings.map(lambda happening: [happening]))
sequences = st.lists(passages, min_size=1, max_size=12).map(lambda parts: [each for part in parts for each in part])


def states_of(sequence) -> list[JobState]:
    """The states that the legal events among `sequence` lead through; the illegal ones must raise."""
    states = [begin(RULES)]
    for happening in sequence:
        with suppress(IllegalTransition, CapacityExceeded):
            states.append(advance(states[-1], happening(states[-1].turn)))
    return states


@settings(max_examples=80, deadline=None)
@given(sequences)
def test_no_helper_is_asked_about_a_cohort_below_the_minimum(sequence):
    for state in states_of(sequence):
        todo = action(state)
        if isinstance(todo, AskHelpers | OpenSum | StoreStep):
            assert len(todo.offers) >= RULES.min_tenants
            assert RULES.min_users <= sum(offer.declared_users for offer in todo.offers) <= RULES.max_users
            assert len({offer.client for offer in todo.offers}) == len(todo.offers)


@settings(max_examples=80, deadline=None)
@given(sequences)
def test_the_helpers_of_one_context_are_asked_about_one_cohort_only(sequence):
    asked: dict[Turn, tuple] = {}
    for state in states_of(sequence):
        todo = action(state)
        if isinstance(todo, AskHelpers):
            assert asked.setdefault(todo.turn, todo.offers) == todo.offers
            assert not {each.helper for each in state.answers} & {helper for helper, _ in todo.asked}


@settings(max_examples=80, deadline=None)
@given(sequences)
def test_turns_only_move_forward_and_an_abandoned_one_is_never_taken_up_again(sequence):
    states = states_of(sequence)
    for earlier, later in pairwise(states):
        assert (later.turn == earlier.turn) or (later.turn > earlier.turn)
    given_up = [state.turn for state in states if state.phase in ("abandoned", "failed")]
    assert not {state.turn for state in states if state.phase in ("closed", "finished")} & set(given_up)


@settings(max_examples=80, deadline=None)
@given(sequences)
def test_a_sum_is_opened_only_with_the_answer_of_every_helper(sequence):
    for state in states_of(sequence):
        todo = action(state)
        if isinstance(todo, OpenSum | StoreStep):
            assert tuple(sorted(each.helper for each in state.answers)) == HELPERS


@settings(max_examples=80, deadline=None)
@given(sequences)
def test_nobody_is_counted_above_the_limit_that_this_server_sets_it(sequence):
    for state in states_of(sequence):
        for offer in state.offers:
            assert offer.declared_users <= LIMITS.get(offer.client, LIMITS["*"])


@settings(max_examples=120, deadline=None)
@given(sequences)
def test_a_client_left_out_is_in_no_later_cohort_and_one_an_attempt_is_the_most(sequence):
    for earlier, later in pairwise(states_of(sequence)):
        fresh = later.excluded[len(earlier.excluded) :]
        assert later.excluded[: len(earlier.excluded)] == earlier.excluded
        assert not {each.client for each in earlier.excluded} & set(later.cohort)
        assert len(fresh) <= 1
        for exclusion in fresh:
            assert exclusion.helper in HELPERS
            assert exclusion.client in earlier.cohort
            # Whatever else this attempt's helpers say comes too late: the attempt is over.
            assert later.turn == earlier.turn
            assert later.phase in ("abandoned", "failed")


@settings(max_examples=120, deadline=None)
@given(sequences)
def test_an_accusation_that_leaves_too_few_ends_the_job_and_names_both(sequence):
    for earlier, later in pairwise(states_of(sequence)):
        for exclusion in later.excluded[len(earlier.excluded) :]:
            rest = [offer for offer in earlier.offers if offer.client != exclusion.client]
            enough = len(rest) >= RULES.min_tenants and sum(offer.declared_users for offer in rest) >= RULES.min_users
            assert enough or isinstance(action(later), GiveUp)
            assert f"helper {exclusion.helper} says that the seal of {exclusion.client} does not" in later.reason


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ok", "small", "helper", "opening", "seal"]), max_size=30))
def test_every_job_ends_published_or_given_up_within_its_attempts(fates):
    state, fates = begin(RULES), [*fates, *["ok"] * 10]
    attempts: dict[int, int] = {}
    while not isinstance(action(state), Publish | GiveUp):
        todo = action(state)
        assert isinstance(todo, Collect)
        attempts[todo.turn.step] = attempts.get(todo.turn.step, 0) + 1
        state = one_attempt(state, fates.pop(0))
    assert max(attempts.values()) <= RULES.max_attempts
    assert state.phase == ("finished" if len(attempts) == 3 and state.turn.step == 3 else "failed")


def one_attempt(state: JobState, fate: str) -> JobState:
    turn = state.turn
    out = {each.client for each in state.excluded}
    for client in [client for client in PARTIES if client not in out][: 1 if fate == "small" else 3]:
        offer = Offer(client=client, declared_users=20, contribution=b"")
        state = advance(state, ContributionArrived(turn=turn, offer=offer))
    state = advance(state, CollectionClosed(turn=turn))
    if fate == "seal" and state.phase == "asking":
        state = advance(state, HelperAccused(turn=turn, helper="anna", client=state.cohort[-1]))
    elif fate != "small" and state.phase == "asking":
        state = advance(state, HelperAnswered(turn=turn, helper="anna", answer=b""))
        if fate == "helper":
            state = advance(state, HelperFailed(turn=turn, helper="bert", reason="gone"))
        else:
            state = advance(state, HelperAnswered(turn=turn, helper="bert", answer=b""))
            state = advance(
                state, (OpeningFailed(turn=turn, reason="-") if fate == "opening" else SumOpened(turn=turn))
            )
    if state.phase == "closed":
        return advance(state, StepStored(turn=turn))
    return advance(state, AttemptStarted(turn=turn)) if state.phase == "abandoned" else state


def test_random_sequences_reach_every_phase():
    """Without this, a generator that never gets past collecting would make the promises above empty."""
    reached, left_out = set(), set()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(sequences)
    def walk(sequence):
        states = states_of(sequence)
        reached.update(state.phase for state in states)
        left_out.update((len(state.excluded), state.phase, state.turn.step) for state in states)

    walk()
    assert reached >= {"collecting", "asking", "opening", "closed", "abandoned", "failed"}
    assert {(1, "abandoned", 0), (1, "failed", 0), (1, "asking", 0), (1, "collecting", 1), (2, "failed", 0)} <= left_out
