"""Helpers that answer, die or accuse in any order: the sum opens whenever it can, and nobody is asked twice."""

from collections import Counter
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from server.job_events import (
    AskHelpers,
    CollectionClosed,
    ContributionArrived,
    GiveUp,
    HelperAccused,
    HelperAnswered,
    HelperFailed,
    OpenSum,
    StartAttempt,
)
from server.job_state import JobState, Offer, Rules, Turn
from server.rounds import action, advance, begin
from shared.secagg.mask_sharing import MaskSharing

TURN = Turn(step=0, attempt=0)
CLIENTS = ("amber", "birch", "cedar", "dover")
SHARINGS = [
    MaskSharing(helpers=tuple("abcdef"[:number]), spare=spare) for number, spare in ((2, 0), (3, 1), (4, 1), (4, 2))
]


def asking(sharing: MaskSharing, absent: tuple[str, ...] = ()) -> JobState[bytes, bytes]:
    rules = Rules(num_steps=1, min_tenants=2, min_users=2, max_users=100, sharing=sharing, max_attempts=2)
    state: JobState[bytes, bytes] = begin(rules)
    for client in CLIENTS:
        offer = Offer(client=client, declared_users=1, contribution=b"")
        state = advance(state, ContributionArrived(turn=TURN, offer=offer))
    return advance(state, CollectionClosed(turn=TURN, absent=absent))


def play(data: Any, sharing: MaskSharing, fates: dict[str, Any]) -> tuple[JobState[bytes, bytes], Counter[Any]]:
    """To the end of the attempt; fates: how often a helper answers before it fails, "absent", or whom it accuses."""
    state = asking(sharing, tuple(name for name, fate in fates.items() if fate == "absent"))
    asked: Counter[Any] = Counter()
    answers: Counter[str] = Counter()
    before: set[Any] = set()
    while isinstance(todo := action(state), AskHelpers):
        waiting = {(helper, slot) for helper, slots in todo.asked for slot in slots}
        asked.update(waiting - before)
        assert sum(asked.values()) <= len(sharing.places)
        helper = data.draw(st.sampled_from(sorted(helper for helper, _ in todo.asked)))
        # What it is asked for after it has spoken is a new request.
        before = {pair for pair in waiting if pair[0] != helper}
        fate = fates[helper]
        if isinstance(fate, str):
            state = advance(state, HelperAccused(turn=TURN, helper=helper, client=fate))
        elif answers[helper] < fate:
            answers[helper] += 1
            state = advance(state, HelperAnswered(turn=TURN, helper=helper, answer=b""))
        else:
            state = advance(state, HelperFailed(turn=TURN, helper=helper, reason="gone"))
    return state, asked


ALWAYS = 99
# Whoever fails, fails when it is first asked, or was never there.
steady = st.sampled_from([*[ALWAYS] * 12, 0, 0, "absent", "absent", *CLIENTS])
# It may also fall over between two answers.
fickle = st.one_of(steady, st.integers(1, 3))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_sum_opens_if_and_only_if_every_slot_has_a_live_holder(data: Any) -> None:
    sharing = data.draw(st.sampled_from(SHARINGS))
    fates = {helper: data.draw(steady) for helper in sharing.helpers}
    alive = {helper for helper, fate in fates.items() if fate == ALWAYS}
    state, _ = play(data, sharing, fates)
    possible = all(alive & set(sharing.holders(slot)) for slot in sharing.slots)
    event(f"{len(sharing.helpers)} helpers, {sharing.spare} spare, opens: {possible}")
    assert isinstance(action(state), OpenSum) == possible
    # As many failures as the plan allows are always survived; the others are a start over, never a stand-still.
    assert possible or isinstance(action(state), StartAttempt | GiveUp)
    assert possible or len(sharing.helpers) - len(alive) > sharing.spare


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_helper_is_asked_for_a_slot_twice_or_after_it_failed_and_the_attempt_ends(data: Any) -> None:
    sharing = data.draw(st.sampled_from(SHARINGS))
    fates = {helper: data.draw(fickle) for helper in sharing.helpers}
    state, asked = play(data, sharing, fates)
    assert set(asked.values()) <= {1}
    assert not {helper for helper, _ in asked} & {helper for helper, fate in fates.items() if fate == "absent"}
    todo = action(state)
    if isinstance(todo, OpenSum):
        # Every mask is in one answer, of one of its holders: this is what makes them cancel.
        assert sorted(slot for each in todo.answers for slot in each.slots) == list(sharing.slots)
        for each in todo.answers:
            assert set(each.slots) <= set(sharing.held_by(each.helper))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_accusation_shuts_out_one_client_where_the_attempt_is_lost_and_nobody_where_it_is_not(data: Any) -> None:
    sharing = data.draw(st.sampled_from(SHARINGS))
    fates = {helper: data.draw(st.one_of(st.sampled_from(CLIENTS[:2]), fickle)) for helper in sharing.helpers}
    state, _ = play(data, sharing, fates)
    named = Counter(each.client for each in state.accusations)
    if isinstance(action(state), OpenSum) or not named:
        assert state.excluded == ()
        return
    (exclusion,) = state.excluded
    assert named[exclusion.client] == max(named.values())
    assert exclusion in state.accusations


def test_one_helper_that_lies_cannot_shut_anybody_out_while_the_others_are_there() -> None:
    sharing = SHARINGS[1]
    state = asking(sharing)
    state = advance(state, HelperAccused(turn=TURN, helper="a", client="amber"))
    state = advance(state, HelperAnswered(turn=TURN, helper="b", answer=b""))
    assert action(state) == AskHelpers(turn=TURN, offers=state.offers, asked=(("b", ("a+b",)), ("c", ("a+c",))))
    for helper in ("b", "c"):
        state = advance(state, HelperAnswered(turn=TURN, helper=helper, answer=b""))
    assert isinstance(action(state), OpenSum)
    assert state.excluded == ()
    assert [(each.helper, each.slots) for each in state.answers] == [
        ("b", ("b+c",)), ("b", ("a+b",)), ("c", ("a+c",)),
    ]  # fmt: skip


def test_an_attempt_is_given_up_as_soon_as_a_slot_has_nobody_left() -> None:
    state = asking(SHARINGS[1], absent=("c",))
    assert action(state) == AskHelpers(turn=TURN, offers=state.offers, asked=(("a", ("a+b", "a+c")), ("b", ("b+c",))))
    state = advance(state, HelperFailed(turn=TURN, helper="b", reason="gone"))
    assert state.phase == "abandoned"
    assert state.reason == "helper c: it did not speak in this attempt; helper b: gone"
    assert asking(SHARINGS[1], absent=("a", "c")).phase == "abandoned"
