"""A training job as frozen data and one pure function: no socket, no clock, no cryptography.

One attempt at one step runs through these phases; every other event raises IllegalTransition::

    collecting ──CollectionClosed──▶ asking ──HelperAnswered (last slot)──▶ opening ──SumOpened──▶ closed
        │  └── of peers ──▶ signing ──PeerSigned (last)──▶ asking ──PeerAnswered (last)──▶ opening   │
        └── cohort too small ──────────┴── a slot has nobody left ────────────┴── OpeningFailed      │ StepStored
                      │                                                                              ▼
                      ▼                                                     next step's collecting, or finished
        abandoned ──AttemptStarted──▶ collecting, attempt + 1
        failed, when no attempt is left, or without the accused client no cohort

With several cohorts, those that are large enough are asked about and opened one after the other, and then judged::

    asking ─▶ opening ──SumOpened──▶ asking, the next cohort … ──SumOpened (last)──▶ judging ──CohortsJudged──▶ closed
                                                     fewer cohorts stand than the plan needs ──┴──▶ abandoned

A turn (step, attempt) names one context of the aggregation protocol. Its cohort is frozen by CollectionClosed, so the
helpers of a turn are only ever asked about one set of contributions; an attempt given up is never taken up again.

Every mask slot is to be in one answer. A helper that fails (HelperFailed, HelperAccused) is asked for nothing more in
the attempt, and its slots go to others that hold them, once those that were asked with it have spoken; so no helper is
asked for one slot twice. The attempt is given up at once where a slot has no holder left.

Without helpers the parties are asked themselves ("peers"): all of the cohort to sign that it is the cohort, then those
that signed to give their shares. Who falls silent then is missed only where too few are left. Before, while the masks
are laid, a party that spoke can still leave (PartyLeft), and takes its offer with it.

Without helpers a tenant that deals shares which do not open is shown to have done so (DealerExposed), by a proof that
was verified or by the shares themselves. It stays out for the rest of this run; this attempt goes on if it can.

A client whose seal a helper cannot open would spoil every attempt, and only the helper can see it. So where an attempt
is given up, a helper that accused is believed, within bounds, for it may lie: one client an attempt, the one most often
named; the client stays out for the rest of this run; and the job ends, naming both, where the others would be too few.
"""

from collections import Counter
from dataclasses import replace
from typing import assert_never

from server.job_events import (
    Action,
    AskHelpers,
    AskPeers,
    AskSignatures,
    AttemptStarted,
    CohortsJudged,
    Collect,
    CollectionClosed,
    ContributionArrived,
    DealerExposed,
    Event,
    GiveUp,
    HelperAccused,
    HelperAnswered,
    HelperFailed,
    JudgeCohorts,
    OpeningFailed,
    OpenSum,
    PartyLeft,
    PeerAnswered,
    PeerFailed,
    PeerSigned,
    Publish,
    StartAttempt,
    StepStored,
    StoreStep,
    SumOpened,
)
from server.job_state import (
    A,
    Answered,
    Asked,
    C,
    CohortDropped,
    Departure,
    Exclusion,
    JobState,
    Needed,
    Offer,
    Phase,
    Rules,
    Turn,
)
from shared.errors import BadSetting, CapacityExceeded, IllegalTransition

_LEGAL: dict[Phase, tuple[type, ...]] = {
    "collecting": (ContributionArrived, PartyLeft, DealerExposed, CollectionClosed),
    "signing": (PeerSigned, PeerFailed),
    "asking": (HelperAnswered, HelperFailed, HelperAccused, PeerAnswered, PeerFailed),
    "opening": (DealerExposed, SumOpened, OpeningFailed),
    "judging": (CohortsJudged,),
    "closed": (StepStored,),
    "abandoned": (AttemptStarted,),
    "finished": (),
    "failed": (),
}


def begin(rules: Rules, *, step: int = 0, attempt: int = 0) -> JobState[C, A]:
    """The job before its first event, or at the first step that no checkpoint holds.

    attempt: one more than any that was ever started at this step. With every step already stored the job is finished.
    """
    if not 0 <= step <= rules.num_steps or attempt < 0:
        raise BadSetting(f"a job of {rules.num_steps} steps cannot begin at step {step}, attempt {attempt}")
    phase: Phase = "finished" if step == rules.num_steps else "collecting"
    turn = Turn(step=step, attempt=attempt)
    return JobState(rules=rules, turn=turn, last_attempt=attempt + rules.max_attempts - 1, phase=phase)


def advance(state: JobState[C, A], event: Event[C, A]) -> JobState[C, A]:
    """The state after `event`.

    Raises IllegalTransition for an event that this phase or turn does not allow, a second contribution by one client or
    one by a client left out, a helper whose word is not awaited, or an accused that is not in the cohort;
    CapacityExceeded for more users than the client may declare or than the sum can hold. `state` stays valid.
    """
    if not isinstance(event, _LEGAL[state.phase]):
        raise IllegalTransition(f"{type(event).__name__} cannot happen while the round is {state.phase}")
    if event.turn != state.turn:
        raise IllegalTransition(
            f"{type(event).__name__} is about {_text(event.turn)}, the job is at {_text(state.turn)}"
        )
    match event:
        case ContributionArrived(offer=offer):
            return _accept(state, offer)
        case PartyLeft(party=party, reason=reason):
            return _leave(state, party, reason)
        case CollectionClosed(absent=absent, needed=needed):
            return _close_collection(state, absent, needed)
        case HelperAnswered(helper=helper, answer=answer):
            return _answer(state, helper, answer)
        case HelperFailed(helper=helper, reason=reason):
            _require_asked(state, helper)
            return _lose(state, helper, f"helper {helper}: {reason}")
        case HelperAccused(helper=helper, client=client):
            return _accuse(state, Exclusion(client=client, helper=helper))
        case PeerSigned(peer=peer):
            _require_asked(state, peer)
            return _hear_peers(replace(_heard(state, peer), signers=(*state.signers, peer)))
        case PeerAnswered(peer=peer, answer=answer):
            answered = Answered(helper=peer, slots=_require_asked(state, peer), answer=answer)
            return _hear_peers(replace(_heard(state, peer), answers=(*state.answers, answered)))
        case PeerFailed(peer=peer, reason=reason):
            _require_asked(state, peer)
            departure = Departure(party=peer, reason=f"{peer}: {reason}")
            return _hear_peers(replace(_heard(state, peer), lost=(*state.lost, departure)))
        case DealerExposed(dealer=dealer, holder=holder):
            return _expose(state, Exclusion(client=dealer, helper=holder, proven=True))
        case SumOpened():
            return _next_cohort(replace(state, opened=(*state.opened, state.at)))
        case CohortsJudged(dropped=dropped):
            return _drop(state, dropped)
        case OpeningFailed(reason=reason):
            return _abandon(state, reason)
        case StepStored(next_attempt=attempt):
            following: JobState[C, A] = begin(state.rules, step=state.turn.step + 1, attempt=attempt)
            return replace(following, excluded=state.excluded)
        case AttemptStarted():
            turn = Turn(step=state.turn.step, attempt=state.turn.attempt + 1)
            return JobState(rules=state.rules, turn=turn, last_attempt=state.last_attempt, excluded=state.excluded)
        case _:
            assert_never(event)


def action(state: JobState[C, A]) -> Action[C, A]:
    """What to do now; a function of the state alone, so doing it again after a crash asks for nothing else."""
    match state.phase:
        case "collecting":
            return Collect(turn=state.turn)
        case "signing":
            return AskSignatures(turn=state.turn, cohort=state.cohort)
        case "asking" if state.rules.sharing is None:
            return AskPeers(turn=state.turn, cohort=state.cohort, signers=state.signers)
        case "asking":
            return AskHelpers(turn=state.turn, offers=state.asked_about, asked=state.waiting)
        case "opening":
            return OpenSum(turn=state.turn, offers=state.asked_about, answers=state.answers)
        case "judging":
            return JudgeCohorts(turn=state.turn, cohorts=state.opened)
        case "closed":
            standing = tuple(offer for offer in state.offers if offer.cohort in state.opened)
            return StoreStep(turn=state.turn, offers=standing, cohorts=state.opened)
        case "abandoned":
            return StartAttempt(turn=Turn(step=state.turn.step, attempt=state.turn.attempt + 1))
        case "finished":
            return Publish()
        case "failed":
            return GiveUp(reason=state.reason)
        case _:
            assert_never(state.phase)


def _accept(state: JobState[C, A], offer: Offer[C]) -> JobState[C, A]:
    if offer.client in state.cohort:
        raise IllegalTransition(
            f"{offer.client} contributed to {_text(state.turn)} already; its first contribution stands"
        )
    if offer.declared_users < 1:
        raise IllegalTransition(f"{offer.client} declares {offer.declared_users} users")
    if not 0 <= offer.cohort < state.rules.cohorts:
        raise IllegalTransition(f"{offer.client} is in cohort {offer.cohort}, there are {state.rules.cohorts}")
    for exclusion in state.excluded:
        if exclusion.client == offer.client:
            raise IllegalTransition(f"it is left out of this job: {_text_of(exclusion)}")
    most = state.rules.most_users(offer.client)
    if offer.declared_users > most:
        raise CapacityExceeded(f"{offer.client} declares {offer.declared_users} users, this server allows it {most}")
    if state.num_users + offer.declared_users > state.rules.max_users:
        raise CapacityExceeded(
            f"{offer.client}'s {offer.declared_users} users would make {state.num_users + offer.declared_users}, "
            f"the sum holds {state.rules.max_users}"
        )
    return replace(state, offers=(*state.offers, offer))


def _leave(state: JobState[C, A], party: str, reason: str) -> JobState[C, A]:
    if party in state.cohort and state.rules.sharing is None:
        offers = tuple(offer for offer in state.offers if offer.client != party)
        state = replace(state, offers=offers)
    elif party in state.cohort:
        # A client speaks once and is then no longer needed: nothing that happens to it later can withdraw its part.
        raise IllegalTransition(f"{party} contributed to {_text(state.turn)} already; its contribution stands")
    return replace(state, departures=(*state.departures, Departure(party=party, reason=reason)))


def _close_collection(state: JobState[C, A], absent: tuple[str, ...], needed: Needed | None) -> JobState[C, A]:
    small = _too_small(state.rules, state.offers)
    shortfall = _too_few(state.rules, small)
    if shortfall:
        return _abandon(state, "; ".join([shortfall, *(f"left out: {_text_of(each)}" for each in state.excluded)]))
    if state.rules.sharing is None:
        if needed is None:
            raise IllegalTransition("a sum of peers cannot be closed without saying how many of them it needs")
        return _hear_peers(replace(state, phase="signing", needed=needed, waiting=_peers(state.cohort)))
    lost = tuple(
        Departure(party=helper, reason=f"helper {helper}: it did not speak in this attempt")
        for helper in state.rules.sharing.helpers
        if helper in absent
    )
    return _next_cohort(replace(state, lost=lost, dropped=small))


def _next_cohort(state: JobState[C, A]) -> JobState[C, A]:
    """On to the first cohort that was neither opened nor dropped; helpers that were lost stay lost."""
    over = {*state.opened, *(each.cohort for each in state.dropped)}
    left = [cohort for cohort in range(state.rules.cohorts) if cohort not in over]
    if not left:
        return replace(state, phase="closed" if state.rules.cohorts == 1 else "judging")
    return _ask_on(replace(state, phase="asking", at=left[0], waiting=(), answers=()))


def _drop(state: JobState[C, A], dropped: tuple[CohortDropped, ...]) -> JobState[C, A]:
    poisoned = {each.cohort for each in dropped}
    if not poisoned <= set(state.opened):
        raise IllegalTransition(f"cohorts {sorted(poisoned)} are judged, {list(state.opened)} are open")
    opened = tuple(cohort for cohort in state.opened if cohort not in poisoned)
    state = replace(state, phase="closed", opened=opened, dropped=(*state.dropped, *dropped))
    shortfall = _too_few(state.rules, state.dropped)
    return _abandon(state, shortfall) if shortfall else state


def _peers(names: tuple[str, ...]) -> Asked:
    return tuple((name, ()) for name in sorted(names))


def _hear_peers(state: JobState[C, A]) -> JobState[C, A]:
    """What follows from which peers have spoken and which are still to speak."""
    if state.needed is None:
        raise IllegalTransition("no peers are asked in a round with helpers")
    heard, least = (
        (len(state.signers), state.needed.signers)
        if state.phase == "signing"
        else (len(state.answers), state.needed.answers)
    )
    if heard + len(state.waiting) < least:
        what = "signed the set of active parties" if state.phase == "signing" else "gave their shares"
        lost = "; ".join(each.reason for each in state.lost)
        return _abandon(state, f"at most {heard + len(state.waiting)} parties {what}, {least} are needed: {lost}")
    if state.waiting:
        return state
    if state.phase == "signing":
        return replace(state, phase="asking", waiting=_peers(state.signers))
    return replace(state, phase="opening")


def _shortfall(rules: Rules, offers: tuple[Offer[C], ...]) -> str:
    num_users = sum(offer.declared_users for offer in offers)
    if len(offers) < rules.min_tenants:
        return f"{len(offers)} tenants contributed, at least {rules.min_tenants} are needed"
    if num_users < rules.min_users:
        return f"the cohort declares {num_users} users, at least {rules.min_users} are needed"
    return ""


def _too_small(rules: Rules, offers: tuple[Offer[C], ...]) -> tuple[CohortDropped, ...]:
    found = ((cohort, tuple(offer for offer in offers if offer.cohort == cohort)) for cohort in range(rules.cohorts))
    short = ((cohort, _shortfall(rules, members)) for cohort, members in found)
    return tuple(CohortDropped(cohort=cohort, reason=reason) for cohort, reason in short if reason)


def _too_few(rules: Rules, dropped: tuple[CohortDropped, ...]) -> str:
    """Why the cohorts that are left are not enough, empty where they are."""
    left = rules.cohorts - len(dropped)
    if left >= rules.least_cohorts:
        return ""
    if rules.cohorts == 1:
        return dropped[0].reason
    reasons = "; ".join(f"cohort {each.cohort}: {each.reason}" for each in dropped)
    return f"{left} of {rules.cohorts} cohorts stand, at least {rules.least_cohorts} are needed: {reasons}"


def _answer(state: JobState[C, A], helper: str, answer: A) -> JobState[C, A]:
    slots = _require_asked(state, helper)
    answered = Answered(helper=helper, slots=slots, answer=answer)
    return _ask_on(replace(_heard(state, helper), answers=(*state.answers, answered)))


def _accuse(state: JobState[C, A], accusation: Exclusion) -> JobState[C, A]:
    _require_asked(state, accusation.helper)
    if accusation.client not in {offer.client for offer in state.asked_about}:
        raise IllegalTransition(
            f"{accusation.helper} accuses {accusation.client}, which did not contribute to {_text(state.turn)}"
        )
    state = replace(state, accusations=(*state.accusations, accusation))
    return _lose(state, accusation.helper, _text_of(accusation))


def _lose(state: JobState[C, A], helper: str, reason: str) -> JobState[C, A]:
    departure = Departure(party=helper, reason=reason)
    return _ask_on(replace(_heard(state, helper), lost=(*state.lost, departure)))


def _expose(state: JobState[C, A], exclusion: Exclusion) -> JobState[C, A]:
    if state.rules.sharing is not None:
        raise IllegalTransition("nobody deals shares in a round with helpers")
    if exclusion.client in {each.client for each in state.excluded}:
        return state
    return replace(state, excluded=(*state.excluded, exclusion))


def _heard(state: JobState[C, A], helper: str) -> JobState[C, A]:
    return replace(state, waiting=tuple(pair for pair in state.waiting if pair[0] != helper))


def _ask_on(state: JobState[C, A]) -> JobState[C, A]:
    """What follows from who has answered, who is lost and who is still to speak."""
    sharing = state.rules.sharing
    if sharing is None:
        raise IllegalTransition("there are no helpers in this round")
    answered = {slot for each in state.answers for slot in each.slots}
    open_slots = [slot for slot in sharing.slots if slot not in answered]
    asked = sharing.assign(open_slots, {each.party for each in state.lost})
    if asked is None:
        return _give_in(state)
    if not open_slots:
        return replace(state, phase="opening")
    # Those that were asked together are all heard first: a slot has one holder asked for it at a time.
    return state if state.waiting else replace(state, waiting=tuple(sorted(asked.items())))


def _give_in(state: JobState[C, A]) -> JobState[C, A]:
    """The attempt cannot be saved; if helpers accused clients, the most accused one, the first of equals, is out."""
    reason = "; ".join(each.reason for each in state.lost)
    if not state.accusations:
        return _abandon(state, reason)
    (client, _), *_ = Counter(each.client for each in state.accusations).most_common()
    exclusion = next(each for each in state.accusations if each.client == client)
    state = replace(state, excluded=(*state.excluded, exclusion))
    rest = tuple(offer for offer in state.offers if offer.client != client)
    # Of several cohorts nothing can be told: another attempt deals the tenants anew.
    shortfall = _too_few(state.rules, _too_small(state.rules, rest)) if state.rules.cohorts == 1 else ""
    if shortfall:
        # Another attempt would be charged to the others and most likely be too small as well.
        reason = f"{'; '.join(map(_text_of, state.excluded))}; without {client} {shortfall}"
        return replace(state, phase="failed", reason=reason)
    return _abandon(state, reason)


def _require_asked(state: JobState[C, A], helper: str) -> tuple[str, ...]:
    for asked, slots in state.waiting:
        if asked == helper:
            return slots
    raise IllegalTransition(f"no answer of {helper} is awaited at {_text(state.turn)}")


def _abandon(state: JobState[C, A], reason: str) -> JobState[C, A]:
    phase: Phase = "failed" if state.turn.attempt >= state.last_attempt else "abandoned"
    return replace(state, phase=phase, reason=reason)


def _text_of(exclusion: Exclusion) -> str:
    if exclusion.proven:
        held = f" {exclusion.helper}" if exclusion.helper else ""
        return f"it is proven that {exclusion.client} dealt{held} shares that do not open"
    return f"helper {exclusion.helper} says that the seal of {exclusion.client} does not open"


def _text(turn: Turn) -> str:
    return f"step {turn.step}, attempt {turn.attempt}"
