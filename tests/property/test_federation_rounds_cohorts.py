"""Whatever happens in whatever order, no cohort of a step is opened below the minimum or stored once it was dropped."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from server.job_events import (
    AskHelpers,
    AttemptStarted,
    CohortsJudged,
    CollectionClosed,
    ContributionArrived,
    HelperAnswered,
    HelperFailed,
    JudgeCohorts,
    OpenSum,
    StepStored,
    StoreStep,
    SumOpened,
)
from server.job_state import CohortDropped, Offer, Rules
from server.rounds import action, advance, begin
from shared.errors import CapacityExceeded, IllegalTransition
from shared.secagg.mask_sharing import MaskSharing

HELPERS = ("east", "north", "south")
RULES = Rules(
    num_steps=2, min_tenants=2, min_users=30, max_users=400, max_attempts=3, cohorts=3, least_cohorts=2,
    sharing=MaskSharing(helpers=HELPERS, spare=1),
)  # fmt: skip
PARTIES = tuple(f"tenant-{n}" for n in range(9))


@st.composite
def happenings(draw):
    """One event, of any kind, as a function of the turn; arrivals, answers and openings more often than the rest."""
    kind = draw(st.sampled_from("aaaaaaaaaacchhhhhhhhssssjjtffr"))
    client, helper = draw(st.sampled_from(PARTIES)), draw(st.sampled_from(HELPERS))
    cohort, users = PARTIES.index(client) % 3, draw(st.sampled_from([10, 20, 40]))
    bad = draw(st.sets(st.integers(0, 2), max_size=2))
    dropped = tuple(CohortDropped(cohort=number, reason="poisoned") for number in sorted(bad))
    return {
        "a": lambda turn: ContributionArrived(
            turn=turn, offer=Offer(client=client, declared_users=users, contribution=b"", cohort=cohort)
        ),
        "c": lambda turn: CollectionClosed(turn=turn),
        "h": lambda turn: HelperAnswered(turn=turn, helper=helper, answer=b""),
        "s": lambda turn: SumOpened(turn=turn),
        "j": lambda turn: CohortsJudged(turn=turn, dropped=dropped),
        "t": lambda turn: StepStored(turn=turn),
        "f": lambda turn: HelperFailed(turn=turn, helper=helper, reason="gone"),
        "r": lambda turn: AttemptStarted(turn=turn),
    }[kind]


@st.composite
def stories(draw):
    """Arrivals and a closing first, so that most stories get somewhere."""
    crowd = draw(st.permutations(PARTIES))[: draw(st.integers(4, 9))]
    arriving = [
        (
            lambda turn, name=name: ContributionArrived(
                turn=turn,
                offer=Offer(client=name, declared_users=20, contribution=b"", cohort=PARTIES.index(name) % 3),
            )
        )
        for name in crowd
    ]
    # A cohort's whole passage, by whoever of the helpers is asked; or one event of any kind.
    answers = [(lambda turn, helper=helper: HelperAnswered(turn=turn, helper=helper, answer=b"")) for helper in HELPERS]
    passage = st.just([*answers, lambda turn: SumOpened(turn=turn)])
    passages = draw(st.lists(st.one_of(passage, passage, happenings().map(lambda each: [each])), max_size=12))
    return [*arriving, lambda turn: CollectionClosed(turn=turn), *(each for part in passages for each in part)]


def states_of(story):
    states = [begin(RULES)]
    for happening in story:
        with suppress(IllegalTransition, CapacityExceeded):
            states.append(advance(states[-1], happening(states[-1].turn)))
    return states


def check(states) -> set[str]:
    asked, reached = {}, set()
    for state in states:
        todo = action(state)
        reached.add(state.phase)
        if isinstance(todo, AskHelpers | OpenSum):
            (cohort,) = {offer.cohort for offer in todo.offers}
            assert len(todo.offers) >= RULES.min_tenants
            assert sum(offer.declared_users for offer in todo.offers) >= RULES.min_users
            # A cohort of an attempt is one set, and no helper is asked for a mask of it twice.
            assert asked.setdefault((todo.turn, cohort), todo.offers) == todo.offers
        if isinstance(todo, JudgeCohorts | StoreStep):
            assert not set(todo.cohorts) & {each.cohort for each in state.dropped}
        if isinstance(todo, StoreStep):
            assert len(todo.cohorts) >= RULES.least_cohorts
            assert {offer.cohort for offer in todo.offers} == set(todo.cohorts)
        if state.phase == "opening":
            assert sorted(slot for each in state.answers for slot in each.slots) == sorted(RULES.sharing.slots)
    return reached


@settings(max_examples=120, deadline=None)
@given(stories())
def test_cohorts_are_asked_about_whole_and_large_enough_and_dropped_ones_are_never_stored(story):
    check(states_of(story))


def test_random_stories_reach_every_phase_of_a_step_in_cohorts():
    reached = set()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(stories())
    def walk(story):
        reached.update(check(states_of(story)))

    walk()
    assert reached >= {"collecting", "asking", "opening", "judging", "closed", "abandoned"}
