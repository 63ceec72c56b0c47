"""Whatever happens in whatever order, the round keeps its promises."""

from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

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
    OpeningFailed,
    OpenSum,
    PartyLeft,
    Publish,
    Rules,
    StepStored,
    StoreStep,
    SumOpened,
    Turn,
    action,
    advance,
    begin,
)
from shared.errors import CapacityExceeded, IllegalTransition

RULES = Rules(num_steps=3, min_tenants=2, min_users=30, max_users=100, helpers=("anna", "bert"), max_attempts=2)
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
    about(SumOpened),
    about(OpeningFailed, reason=st.just("does not verify")),
    about(StepStored),
    about(AttemptStarted),
)


def now(kind, **fields):
    return lambda turn: kind(turn=turn, **fields)


# Passages of an honest round, so that random events strike at every stage of it and not only at its start.
collection = st.tuples(st.integers(1, 4), st.sampled_from([10, 33])).map(
    lambda drawn: [
        *(
            now(ContributionArrived, offer=Offer(client=client, declared_users=drawn[1], contribution=b""))
            for client in PARTIES[: drawn[0]]
        ),
        now(CollectionClosed),
    ]
)
answering = [now(HelperAnswered, helper=helper, answer=b"") for helper in RULES.helpers]
ending = [now(SumOpened), now(StepStored), now(AttemptStarted)]
rounds = st.tuples(collection, st.integers(1, 12)).map(lambda drawn: [*drawn[0], *answering, *ending][: drawn[1]])
passages = st.one_of(rounds, rounds, st.just(ending), happenings.map(lambda happening: [happening]))
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
            assert not {helper for helper, _ in state.answers} & set(todo.helpers)


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
            assert tuple(sorted(helper for helper, _ in state.answers)) == RULES.helpers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ok", "small", "helper", "opening"]), max_size=30))
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
    for client in PARTIES[: 1 if fate == "small" else 3]:
        offer = Offer(client=client, declared_users=20, contribution=b"")
        state = advance(state, ContributionArrived(turn=turn, offer=offer))
    state = advance(state, CollectionClosed(turn=turn))
    if fate != "small":
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
    reached = set()

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(sequences)
    def walk(sequence):
        reached.update(state.phase for state in states_of(sequence))

    walk()
    assert reached >= {"collecting", "asking", "opening", "closed", "abandoned", "failed"}
