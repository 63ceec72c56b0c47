"""Drives one job: does what `server.rounds.action` says and tells `server.rounds.advance` what came of it.

After a crash the same job is simply started again: closed steps come from the checkpoint, attempt numbers go on from
the ledger of releases, and clients, who charged what they answered, are asked for nothing released already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server import learning, pairwise
from server.checkpoint import load_checkpoint, save_checkpoint
from server.exchange import Silence
from server.job import Job, group_of, most_bytes, read_reply, turn_context
from server.job_events import (
    AskHelpers,
    AskPeers,
    AskSignatures,
    AttemptStarted,
    Collect,
    CollectionClosed,
    ContributionArrived,
    GiveUp,
    HelperAccused,
    HelperAnswered,
    HelperFailed,
    JudgeCohorts,
    OpenSum,
    PartyLeft,
    Publish,
    StartAttempt,
    StepStored,
    StoreStep,
)
from server.job_state import JobState, Offer, Rules, Turn
from server.learning import Learned, Released
from server.opened import Opened, cohorts_told, judged, open_cohort, tell_cohorts, total_of
from server.pairwise import Conversation
from server.rounds import action, advance, begin
from shared import accounting, mechanism
from shared.errors import DeploymentError, MalformedMessage, ProtocolError, ZhiyinError
from shared.mechanism import Mechanism
from shared.plan import TrainingPlan, plan_to_json, steps
from shared.secagg.cohorts import Cohorts, divide
from shared.secagg.complaint import Complaint, verify_complaint
from shared.secagg.topology_h import (
    Contribution,
    ContributionHeader,
    HelperAnswer,
    cohort_digest,
    verify_answer,
    verify_contribution,
)
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Refusal,
    SealComplaint,
    UnmaskReply,
    UnmaskRequest,
    encode,
    inputs_digest,
)

State = JobState[Any, Any]
"""Of contributions and helpers' answers, or of first messages and unmaskings where there are no helpers."""
# The protocol itself sums no fewer contributions than this.
_LEAST_TENANTS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Turn:
    """What is fixed for one turn: digest of the step's inputs, cohorts, and the node of each party that spoke."""

    turn: Turn
    digest: bytes
    cohorts: Cohorts
    nodes: Mapping[str, tuple[int, ...]]


def train(job: Job) -> Learned:
    """Run the job to its last step and return all of its releases.

    Raises DeploymentError when a step's attempts are used up, TooFewClients when too few nodes are connected, and what
    `load_checkpoint` raises.
    """
    plan = job.plan
    learned = load_checkpoint(job.settings.state, plan.digest)
    first = len(learned.releases)
    state: State = begin(_rules(job), step=first, attempt=job.ledger.next_attempt(plan.digest, first))
    job.progress("job_started", job=plan.job_id, recipe=plan.recipe_name, steps=len(steps(plan)), resumed_at=first)
    this: _Turn | None = None
    talk: Conversation | None = None
    sums: tuple[Opened, ...] = ()
    while True:
        match action(state):
            case Publish():
                return learned
            case GiveUp(reason=reason):
                job.progress("job_failed", step=state.turn.step, reason=reason)
                raise DeploymentError(f"job {plan.job_id} step {state.turn.step} was given up: {reason}")
            case Collect() if plan.topology == "pairwise":
                state, talk = pairwise.collect(job, learned, state, talk)
            case AskSignatures() as ask if talk is not None:
                state, talk = pairwise.ask_signatures(job, talk, state, ask)
            case AskPeers() as ask if talk is not None:
                state = pairwise.ask_peers(job, talk, state, ask)
            case OpenSum() as opening if talk is not None:
                state, sums = pairwise.open_sum(job, talk, state, opening)
            case Collect():
                state, this = _collect(job, learned, state, this)
                sums = ()
            case AskHelpers() as ask if this is not None:
                state = _ask_helpers(job, this, state, ask)
            case OpenSum() as opening if this is not None:
                state, fresh = open_cohort(job, this.cohorts.contexts[state.at], state, opening)
                sums = (*sums, *fresh)
            case JudgeCohorts():
                state = judged(job, state, sums)
            case StoreStep() as store if sums:
                learned = _store(job, learned, state, store, sums)
                following = job.ledger.next_attempt(plan.digest, store.turn.step + 1)
                state = advance(state, StepStored(turn=store.turn, next_attempt=following))
            case StartAttempt():
                _note_abandoned(job, state)
                job.exchange.pause(job.settings.retry_seconds)
                state = advance(state, AttemptStarted(turn=state.turn))
            case other:
                raise DeploymentError(f"the round's state lost what {type(other).__name__} works on")


def charged(plan: TrainingPlan, attempted_steps: tuple[int, ...]) -> tuple[Mechanism, ...]:
    """What a client that answered every attempt was charged: abandoned ones too, though nothing was opened in them."""
    found = [steps(plan)[step].mechanism for step in attempted_steps]
    return tuple(each for each in found if each is not None)


def _rules(job: Job) -> Rules:
    plan = job.plan
    return Rules(
        num_steps=len(steps(plan)),
        min_tenants=max(plan.min_tenants, _LEAST_TENANTS if plan.topology == "helpers" else plan.threshold + 1),
        min_users=plan.min_users,
        max_users=plan.max_users,
        sharing=plan.sharing if plan.topology == "helpers" else None,
        max_attempts=job.settings.max_attempts,
        max_declared_users=job.settings.max_declared_users,
        cohorts=plan.cohorts,
        least_cohorts=plan.least_cohorts,
    )


def _collect(job: Job, learned: Learned, state: State, previous: _Turn | None) -> tuple[State, _Turn]:
    plan, turn = job.plan, state.turn
    inputs = learning.inputs(plan, learned)
    digest = inputs_digest(inputs)
    cohorts = divide(turn_context(job, turn, digest), job.roster, plan.cohorts)
    request = ContributionRequest(
        plan_json=plan_to_json(plan), step=turn.step, attempt=turn.attempt, roster=job.roster_bytes, inputs=inputs
    )
    frame = encode(request)
    # Everybody is waited for once: a party that never came must not slow every later step.
    least = state.rules.min_tenants * plan.least_cohorts
    # A helper that is no tenant is reached where its refusal comes from, so it is waited for as well.
    parties = sum("tenant" in each.roles or each.name in plan.helpers for each in job.roster.entries)
    wanted = parties if previous is None else least
    nodes = job.exchange.nodes(wanted=wanted, least=least, timeout_seconds=job.settings.nodes_seconds)
    # On disk before anybody is asked, so that no attempt number is used twice; not before there is somebody to ask.
    job.ledger.append(
        "attempt", job_id=plan.job_id, plan_digest=plan.digest, time=job.now, step=turn.step, attempt=turn.attempt
    )
    kind = steps(plan)[turn.step].kind
    found = _nodes_left_out(state, previous)
    asked = [node for node in nodes if (node,) not in found.values()]
    job.progress("step_asked", step=turn.step, attempt=turn.attempt, kind=kind, nodes=len(asked))
    replies = job.exchange.ask(
        dict.fromkeys(asked, frame),
        group=group_of(turn),
        timeout_seconds=job.settings.collect_seconds,
        most_bytes=most_bytes(job, vector_of=turn),
    )
    for node, reply in replies.items():
        state = _take_contribution(job, state, cohorts, node, reply, found)
    absent = tuple(helper for helper in plan.sharing.helpers if helper not in found)
    for helper in absent:
        job.progress("helper_absent", step=turn.step, attempt=turn.attempt, party=helper)
    state = advance(state, CollectionClosed(turn=turn, absent=absent))
    tell_cohorts(job, state, state.dropped)
    return state, _Turn(turn=turn, digest=digest, cohorts=cohorts, nodes=found)


def _nodes_left_out(state: State, previous: _Turn | None) -> dict[str, tuple[int, ...]]:
    # Asking a client whose contribution will not be taken would charge it for nothing. As a helper it is reached where
    # it was before, or, if it came back as another node, where its new reply comes from.
    known = {} if previous is None else previous.nodes
    return {each.client: known[each.client] for each in state.excluded if each.client in known}


def _take_contribution(
    job: Job, state: State, cohorts: Cohorts, node: int, reply: bytes | Silence, found: dict[str, tuple[int, ...]]
) -> State:
    # Whatever a node sends, it can only take itself out of the round.
    party = f"node {node}"
    try:
        message = read_reply(reply)
        if isinstance(message, Refusal):
            party = message.party
            # Not signed: it may be where a helper is to be reached, so every node that says so is asked, unless a
            # contribution, which is signed, has said it better.
            if party not in state.cohort:
                found[party] = (*found.get(party, ()), node)
            raise ProtocolError(f"refused: {message.error}: {message.message}")
        if not isinstance(message, ContributionReply):
            raise MalformedMessage(f"a {type(message).__name__} is no contribution")
        contribution = message.contribution
        size = steps(job.plan)[state.turn.step].num_coordinates
        # Seals to others than the plan's helpers, found out now, cost one party; when the sum opens, everybody.
        verify_contribution(
            contribution,
            ctx=cohorts.context_of(contribution.client),
            sharing=job.plan.sharing,
            roster=job.roster,
            now=job.now,
            bits=job.plan.bits,
            num_coordinates=size,
        )
        party = contribution.client
        # The first node that has a party's signature; where a helper is to be reached does not depend on its users.
        if party not in state.cohort:
            found[party] = (node,)
        offer = Offer(
            client=party,
            declared_users=contribution.declared_users,
            contribution=contribution,
            cohort=cohorts.of(party),
        )
        state = advance(state, ContributionArrived(turn=state.turn, offer=offer))
    except ZhiyinError as error:
        reason = f"{type(error).__name__}: {error}"
        job.progress("party_left", step=state.turn.step, attempt=state.turn.attempt, party=party, reason=reason)
        if party in state.cohort:
            return state
        return advance(state, PartyLeft(turn=state.turn, party=party, reason=reason))
    job.progress(
        "contribution",
        step=state.turn.step,
        attempt=state.turn.attempt,
        party=party,
        users=contribution.declared_users,
        size_bytes=len(contribution.masked),
    )
    return state


def _ask_helpers(job: Job, this: _Turn, state: State, ask: AskHelpers[Contribution]) -> State:
    plan, headers = job.plan, tuple(offer.contribution.header() for offer in ask.offers)
    ctx = this.cohorts.contexts[state.at]
    requests: dict[int, bytes] = {}
    for helper, slots in ask.asked:
        request = UnmaskRequest(
            plan_json=plan_to_json(plan),
            step=ask.turn.step,
            attempt=ask.turn.attempt,
            roster=job.roster_bytes,
            inputs_digest=this.digest,
            slots=slots,
            headers=headers,
        )
        requests.update(dict.fromkeys(this.nodes[helper], encode(request)))
    asked = {helper: list(slots) for helper, slots in ask.asked}
    job.progress("helpers_asked", step=ask.turn.step, attempt=ask.turn.attempt, helpers=asked)
    replies = job.exchange.ask(
        requests,
        group=group_of(ask.turn),
        timeout_seconds=job.settings.helpers_seconds,
        most_bytes=most_bytes(job, vector_of=ask.turn),
    )
    for helper, slots in ask.asked:
        spoken = [replies[node] for node in this.nodes[helper]]
        state = _take_answer(job, this, ctx, state, helper, slots, spoken, headers)
        if state.phase not in ("asking", "opening"):
            break
    return state


def _take_answer(
    job: Job,
    this: _Turn,
    ctx: bytes,
    state: State,
    helper: str,
    slots: tuple[str, ...],
    replies: Sequence[bytes | Silence],
    headers: tuple[ContributionHeader, ...],
) -> State:
    # The first word that the helper's own key signed; nodes that only claim to be the helper cannot give one.
    reason = "it did not answer"
    for reply in replies:
        try:
            found = _verified_answer(job, this, ctx, helper, slots, reply, headers)
        except ZhiyinError as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        if isinstance(found, Complaint):
            job.progress(
                "seal_complaint", step=this.turn.step, attempt=this.turn.attempt, party=helper, about=found.client
            )
            return advance(state, HelperAccused(turn=this.turn, helper=helper, client=found.client))
        job.progress("helper_answered", step=this.turn.step, attempt=this.turn.attempt, party=helper, slots=list(slots))
        return advance(state, HelperAnswered(turn=this.turn, helper=helper, answer=found))
    job.progress("helper_failed", step=this.turn.step, attempt=this.turn.attempt, party=helper, reason=reason)
    return advance(state, HelperFailed(turn=this.turn, helper=helper, reason=reason))


def _verified_answer(
    job: Job,
    this: _Turn,
    ctx: bytes,
    helper: str,
    slots: tuple[str, ...],
    reply: bytes | Silence,
    headers: tuple[ContributionHeader, ...],
) -> HelperAnswer | Complaint:
    message = read_reply(reply)
    if isinstance(message, Refusal):
        raise ProtocolError(f"refused: {message.error}: {message.message}")
    if isinstance(message, SealComplaint) and message.complaint.helper == helper:
        verify_complaint(message.complaint, ctx=ctx, roster=job.roster, now=job.now)
        if message.complaint.client not in {header.client for header in headers}:
            raise MalformedMessage(f"it complains of {message.complaint.client}, which is not in the cohort")
        return message.complaint
    if not isinstance(message, UnmaskReply) or message.answer.helper != helper:
        raise MalformedMessage("it did not send its own answer")
    found = message.answer
    size = steps(job.plan)[this.turn.step].num_coordinates
    cohort = cohort_digest(headers)
    verify_answer(
        found,
        ctx=ctx,
        slots=slots,
        cohort=cohort,
        roster=job.roster,
        now=job.now,
        bits=job.plan.bits,
        num_coordinates=size,
    )
    return found


def _store(job: Job, learned: Learned, state: State, store: StoreStep[Contribution], sums: Sequence[Opened]) -> Learned:
    plan, step = job.plan, steps(job.plan)[store.turn.step]
    so_far = _epsilon_so_far(job)
    cohorts: dict[str, Any] = {} if plan.cohorts == 1 else {"cohorts": cohorts_told(state, sums)}
    job.ledger.append(
        "release",
        job_id=plan.job_id,
        plan_digest=plan.digest,
        time=job.now,
        step=step.index,
        attempt=store.turn.attempt,
        cohort={offer.client: offer.declared_users for offer in store.offers},
        mechanism=None if step.mechanism is None else mechanism.to_json(step.mechanism),
        noise=plan.noise,
        answers=[told for each in sums if each.sum.cohort in store.cohorts for told in each.answers],
        epsilon_so_far=so_far,
        delta=plan.delta,
        **cohorts,
    )
    release = Released.of(total_of(plan, sums, store.cohorts))
    learned = learning.extend(plan, learned, release)
    save_checkpoint(job.settings.state, plan.digest, learned)
    cost = {} if plan.cohorts == 1 else {"noise_cost": round(learning.noise_cost(plan, learned, step.index), 3)}
    job.progress(
        "step_released",
        step=step.index,
        attempt=store.turn.attempt,
        kind=step.kind,
        tenants=release.num_tenants,
        users=release.num_users,
        epsilon_so_far=so_far,
        steps=len(steps(plan)),
        **cost,
    )
    return learned


def _note_abandoned(job: Job, state: State) -> None:
    job.ledger.append(
        "abandoned",
        job_id=job.plan.job_id,
        plan_digest=job.plan.digest,
        time=job.now,
        step=state.turn.step,
        attempt=state.turn.attempt,
        reason=state.reason,
    )
    job.progress("attempt_abandoned", step=state.turn.step, attempt=state.turn.attempt, reason=state.reason)


def _epsilon_so_far(job: Job) -> float | None:
    if job.plan.noise == "none":
        return None
    return accounting.epsilon(charged(job.plan, job.ledger.attempts(job.plan.digest)), job.plan.delta)
