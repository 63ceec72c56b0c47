"""The server's side of topology P: five questions to the tenants of one attempt, over the pure functions of the core.

    keys, dealing, vector     while the round is collecting; a party that fails here leaves, and the others go on
    proof                     from a party that could not open a neighbour's shares, in place of its vector
    signature                 from all whose vector arrived, on exactly that set
    shares                    from all who signed; up to the threshold may be missing

The parties believe nothing of this: they verify every list themselves and hold it against their own policies. What is
checked here only finds out early whose fault it is, so that one party that fails costs one party.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from server import learning
from server.exchange import Silence
from server.job import Job, group_of, most_bytes, read_reply, turn_context
from server.job_events import (
    AskPeers,
    AskSignatures,
    CollectionClosed,
    ContributionArrived,
    DealerExposed,
    OpeningFailed,
    OpenSum,
    PartyLeft,
    PeerAnswered,
    PeerFailed,
    PeerSigned,
)
from server.job_state import JobState, Needed, Offer, Turn
from server.learning import Learned
from server.opened import Opened, accepted, opened
from server.rounds import advance
from shared.errors import MalformedMessage, ProtocolError, WrongContext, WrongShare, ZhiyinError
from shared.plan import plan_to_json, steps
from shared.secagg.graph import quorum
from shared.secagg.pairwise_messages import (
    ActiveSignature,
    Agreement,
    Bundle,
    Dealing,
    MaskedVector,
    Unmasking,
    active_digest,
    agree,
    verify,
    verify_bundle,
    verify_possession,
)
from shared.secagg.pairwise_opening import check_dealing, check_vector, deliveries_to, open_pairwise_sum
from shared.secagg.share_complaint import ShareComplaint, verify_share_complaint
from shared.wire import Refusal, encode, inputs_digest
from shared.wire_pairwise import (
    DealReply,
    DealRequest,
    KeysReply,
    KeysRequest,
    MaskReply,
    MaskRequest,
    OpenReply,
    OpenRequest,
    ProofReply,
    ProofRequest,
    SharesUnopened,
    SignReply,
    SignRequest,
)

State = JobState[Any, Any]
_R = TypeVar("_R", KeysReply, DealReply, MaskReply, SignReply, OpenReply, ProofReply)


class _Disputed(ProtocolError):
    """A party says that the shares of `dealer` do not open, in place of its vector."""

    def __init__(self, dealer: str) -> None:
        super().__init__(f"it says that the shares of {dealer} do not open")
        self.dealer = dealer


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
    """What was said in one attempt. nodes: where each party is reached. All of it was verified."""

    turn: Turn
    ctx: bytes
    nodes: Mapping[str, int]
    agreement: Agreement | None = None
    dealings: tuple[Dealing, ...] = ()
    vectors: tuple[MaskedVector, ...] = ()
    signatures: tuple[ActiveSignature, ...] = ()

    @property
    def agreed(self) -> Agreement:
        if self.agreement is None:
            raise WrongContext("the parties of this attempt have not agreed on who takes part")
        return self.agreement


def collect(job: Job, learned: Learned, state: State, previous: Conversation | None) -> tuple[State, Conversation]:
    """Keys, dealings and masked vectors of one attempt, which is on record before anybody is asked."""
    inputs = learning.inputs(job.plan, learned)
    digest = inputs_digest(inputs)
    ctx = job.plan.terms.context(turn_context(job, state.turn, digest))
    state, talk = _collect_keys(job, state, ctx, digest, previous)
    if _enough(state):
        state, talk = _collect_dealings(job, state, talk)
    if _enough(state):
        state, talk, disputes = _collect_vectors(job, state, talk, inputs)
        state = _settle_disputes(job, state, talk, disputes)
    threshold = job.plan.threshold
    signers = 0 if talk.agreement is None else quorum(len(talk.agreement.bundles), job.plan.colluding)
    # Nobody holds a share of its own secret, so a party that answers needs as many others as the threshold says.
    needed = Needed(signers=max(signers, threshold + 1), answers=threshold + 1)
    return advance(state, CollectionClosed(turn=state.turn, needed=needed)), talk


def ask_signatures(job: Job, talk: Conversation, state: State, ask: AskSignatures) -> tuple[State, Conversation]:
    """Signatures on the set of parties whose vectors arrived."""
    active = tuple(sorted(ask.cohort))
    digest = active_digest(active)
    job.progress("peers_asked", step=talk.turn.step, attempt=talk.turn.attempt, peers=list(active))
    frame = encode(SignRequest(ctx=talk.ctx, active=active))
    replies = _ask(job, talk, dict.fromkeys(active, frame), job.settings.helpers_seconds, most=most_bytes(job))
    signatures = []
    for peer, reply in replies.items():
        try:
            found = _own(_reply(reply, SignReply).signature, peer)
            verify(found, agreement=talk.agreed, roster=job.roster, now=job.now)
            if found.active != digest:
                raise WrongContext("it signed another set of active parties")
        except ZhiyinError as error:
            state = _peer_failed(job, state, peer, error)
        else:
            signatures.append(found)
            state = advance(state, PeerSigned(turn=talk.turn, peer=peer))
        if state.phase not in ("signing", "asking"):
            break
    return state, replace(talk, signatures=tuple(signatures))


def ask_peers(job: Job, talk: Conversation, state: State, ask: AskPeers) -> State:
    """Shares from everybody who signed, against the signatures of the others."""
    requests = {
        peer: encode(
            OpenRequest(ctx=talk.ctx, signatures=tuple(each for each in talk.signatures if each.client != peer))
        )
        for peer in ask.signers
    }
    active = active_digest(sorted(ask.cohort))
    most = most_bytes(job, shares=len(talk.agreed.bundles))
    for peer, reply in _ask(job, talk, requests, job.settings.helpers_seconds, most=most).items():
        try:
            found = _own(_reply(reply, OpenReply).unmasking, peer)
            verify(found, agreement=talk.agreed, roster=job.roster, now=job.now)
            if found.active != active:
                raise WrongContext("it gives shares for another set of active parties")
        except ZhiyinError as error:
            state = _peer_failed(job, state, peer, error)
        else:
            state = advance(state, PeerAnswered(turn=talk.turn, peer=peer, answer=found))
        if state.phase != "asking":
            break
    return state


def open_sum(
    job: Job, talk: Conversation, state: State, opening: OpenSum[Bundle, Unmasking]
) -> tuple[State, tuple[Opened, ...]]:
    """The sum of the active parties, none where it does not open; who handed in false shares is named in the events."""
    cohort = {offer.client for offer in opening.offers}
    try:
        found = open_pairwise_sum(
            agreement=talk.agreed,
            dealings=talk.dealings,
            vectors=[vector for vector in talk.vectors if vector.client in cohort],
            unmaskings=[each.answer for each in opening.answers],
            roster=job.roster,
            now=job.now,
            bits=job.plan.bits,
            num_coordinates=steps(job.plan)[talk.turn.step].num_coordinates,
        )
    except ZhiyinError as error:
        if isinstance(error, WrongShare) and error.owner:
            # Its holders returned what it dealt, bound by its own signature: nobody's word is needed.
            state = _note_exposed(job, state, error.owner, "")
        return advance(state, OpeningFailed(turn=talk.turn, reason=f"{type(error).__name__}: {error}")), ()
    for liar in found.liars:
        job.progress("false_shares", step=talk.turn.step, attempt=talk.turn.attempt, party=liar)
    return accepted(job, state, opened(job.plan, 0, found.total, opening.offers, opening.answers))


def _enough(state: State) -> bool:
    return len(state.cohort) >= state.rules.min_tenants and state.num_users >= state.rules.min_users


def _collect_keys(
    job: Job, state: State, ctx: bytes, digest: bytes, previous: Conversation | None
) -> tuple[State, Conversation]:
    plan, turn = job.plan, state.turn
    # Everybody is waited for once: a party that never came must not slow every later step.
    least = state.rules.min_tenants
    tenants = sum("tenant" in member.roles for member in job.roster.entries)
    wanted = min(tenants, plan.num_parties) if previous is None else least
    known = {} if previous is None else previous.nodes
    # Whoever speaks as one of them from another node is refused by its name.
    left_out = {known[each.client] for each in state.excluded if each.client in known}
    nodes = job.exchange.nodes(wanted=wanted, least=least, timeout_seconds=job.settings.nodes_seconds)
    # On disk before anybody is asked, so that no attempt number is used twice; not before there is somebody to ask.
    job.ledger.append(
        "attempt", job_id=plan.job_id, plan_digest=plan.digest, time=job.now, step=turn.step, attempt=turn.attempt
    )
    kind = steps(plan)[turn.step].kind
    nodes = tuple(node for node in nodes if node not in left_out)
    job.progress("step_asked", step=turn.step, attempt=turn.attempt, kind=kind, nodes=len(nodes))
    request = KeysRequest(
        plan_json=plan_to_json(plan),
        step=turn.step,
        attempt=turn.attempt,
        roster=job.roster_bytes,
        inputs_digest=digest,
        terms=plan.terms,
    )
    replies = job.exchange.ask(
        dict.fromkeys(nodes, encode(request)),
        group=group_of(turn),
        timeout_seconds=job.settings.helpers_seconds,
        most_bytes=most_bytes(job),
    )
    found: dict[str, int] = {}
    for node, reply in replies.items():
        state = _take_keys(job, state, ctx, node, reply, found)
    return state, Conversation(turn=turn, ctx=ctx, nodes=found)


def _take_keys(job: Job, state: State, ctx: bytes, node: int, reply: bytes | Silence, found: dict[str, int]) -> State:
    # Whatever a node sends, it can only take itself out of the round.
    party = f"node {node}"
    try:
        message = read_reply(reply)
        if isinstance(message, Refusal):
            party = message.party
        bundle = _reply(reply, KeysReply).bundle
        verify_bundle(bundle, ctx=ctx, roster=job.roster, now=job.now)
        party = bundle.client
        verify_possession(bundle)
        taken = {key for offer in state.offers for key in _keys(offer.contribution)}
        if len(state.offers) >= job.plan.num_parties:
            raise ProtocolError(f"it is one more than the {job.plan.num_parties} parties that the plan invites")
        if party not in state.cohort and (taken & set(_keys(bundle)) or len(set(_keys(bundle))) < 3):
            raise MalformedMessage("it shows a key of another party, or one key for two purposes")
        offer = Offer(client=party, declared_users=bundle.declared_users, contribution=bundle)
        state = advance(state, ContributionArrived(turn=state.turn, offer=offer))
    except ZhiyinError as error:
        # A second node that speaks as a party, or only claims to, does not take the first one's place away.
        return _note_left(job, state, party, error, stays=party in state.cohort)
    found[party] = node
    return state


def _keys(bundle: Bundle) -> tuple[bytes, bytes, bytes]:
    return bundle.mask_key, bundle.seal_key, bundle.commitment


def _collect_dealings(job: Job, state: State, talk: Conversation) -> tuple[State, Conversation]:
    bundles = sorted((offer.contribution for offer in state.offers), key=lambda bundle: str(bundle.client))
    agreement = agree(bundles, ctx=talk.ctx, terms=job.plan.terms, roster=job.roster, now=job.now)
    frame = encode(DealRequest(ctx=talk.ctx, bundles=tuple(bundles)))
    requests = {bundle.client: frame for bundle in bundles}

    def take(party: str, reply: DealReply) -> Dealing:
        check_dealing(_own(reply.dealing, party), agreement=agreement, roster=job.roster, now=job.now)
        return reply.dealing

    waited, most = job.settings.helpers_seconds, most_bytes(job, shares=len(bundles))
    state, dealings = _collect_replies(job, state, talk, requests, DealReply, take, waited, most)
    return state, replace(talk, agreement=agreement, dealings=tuple(dealings))


def _collect_vectors(
    job: Job, state: State, talk: Conversation, inputs: learning.Inputs
) -> tuple[State, Conversation, dict[str, str]]:
    """Also who says that whose shares do not open."""
    size = steps(job.plan)[talk.turn.step].num_coordinates
    requests = {
        party: encode(MaskRequest(ctx=talk.ctx, deliveries=deliveries_to(party, talk.dealings), inputs=inputs))
        for party in state.cohort
    }

    def take(party: str, reply: MaskReply) -> MaskedVector:
        found = _own(reply.vector, party)
        check_vector(
            found,
            agreement=talk.agreed,
            roster=job.roster,
            now=job.now,
            bits=job.plan.bits,
            num_coordinates=size,
        )
        job.progress(
            "contribution",
            step=talk.turn.step,
            attempt=talk.turn.attempt,
            party=party,
            users=talk.agreed.bundles[party].declared_users,
            size_bytes=len(found.masked),
        )
        return found

    disputes: dict[str, str] = {}
    waited, most = job.settings.collect_seconds, most_bytes(job, vector_of=talk.turn)
    state, vectors = _collect_replies(job, state, talk, requests, MaskReply, take, waited, most, disputes)
    return state, replace(talk, vectors=tuple(vectors)), disputes


def _settle_disputes(job: Job, state: State, talk: Conversation, disputes: Mapping[str, str]) -> State:
    """Ask who could not open shares for the proof. Without one it is its own fault, and it has left already."""
    dealings = {dealing.client: dealing for dealing in talk.dealings}
    accused = {holder: dealings[dealer] for holder, dealer in disputes.items() if dealer in dealings}
    requests = {holder: encode(ProofRequest(dealing=dealing)) for holder, dealing in accused.items()}
    replies = _ask(job, talk, requests, job.settings.helpers_seconds, most=most_bytes(job))
    for holder, reply in replies.items():
        dealing = accused[holder]
        try:
            complaint = _own(_reply(reply, ProofReply).complaint, holder)
            verify_share_complaint(complaint, dealing, agreement=talk.agreed, roster=job.roster, now=job.now)
        except ZhiyinError as error:
            turn, reason = state.turn, f"{type(error).__name__}: {error}"
            job.progress(
                "dispute_unproven", step=turn.step, attempt=turn.attempt, party=holder, about=dealing.client,
                reason=reason,
            )  # fmt: skip
        else:
            state = _note_exposed(job, state, dealing.client, holder)
    return state


_T = TypeVar("_T")


def _collect_replies(
    job: Job,
    state: State,
    talk: Conversation,
    requests: Mapping[str, bytes],
    kind: type[_R],
    take: Callable[[str, _R], _T],
    seconds: float,
    most: int,
    disputes: dict[str, str] | None = None,
) -> tuple[State, list[_T]]:
    """Ask, and let everybody leave whose reply `take` raises for. disputes: is told who could not open whose shares."""
    found = []
    for party, reply in _ask(job, talk, requests, seconds, most=most).items():
        try:
            found.append(take(party, _reply(reply, kind)))
        except ZhiyinError as error:
            if disputes is not None and isinstance(error, _Disputed):
                disputes[party] = error.dealer
            state = _note_left(job, state, party, error)
    return state, found


def _ask(
    job: Job, talk: Conversation, requests: Mapping[str, bytes], seconds: float, *, most: int
) -> dict[str, bytes | Silence]:
    frames = {talk.nodes[party]: frame for party, frame in requests.items()}
    replies = job.exchange.ask(frames, group=group_of(talk.turn), timeout_seconds=seconds, most_bytes=most)
    return {party: replies[talk.nodes[party]] for party in requests}


def _reply(reply: bytes | Silence, kind: type[_R]) -> _R:
    message = read_reply(reply)
    if isinstance(message, Refusal):
        raise ProtocolError(f"refused: {message.error}: {message.message}")
    if isinstance(message, SharesUnopened):
        raise _Disputed(message.dealer)
    if not isinstance(message, kind):
        raise MalformedMessage(f"a {type(message).__name__} is no {kind.__name__}")
    return message


_M = TypeVar("_M", Dealing, MaskedVector, ActiveSignature, Unmasking, ShareComplaint)


def _own(message: _M, party: str) -> _M:
    if message.client != party:
        raise MalformedMessage("it did not send its own message")
    return message


def _note_left(job: Job, state: State, party: str, error: ZhiyinError, *, stays: bool = False) -> State:
    reason = f"{type(error).__name__}: {error}"
    job.progress("party_left", step=state.turn.step, attempt=state.turn.attempt, party=party, reason=reason)
    return state if stays else advance(state, PartyLeft(turn=state.turn, party=party, reason=reason))


def _note_exposed(job: Job, state: State, dealer: str, holder: str) -> State:
    turn = state.turn
    job.progress("bad_shares", step=turn.step, attempt=turn.attempt, party=dealer, shown_by=holder)
    return advance(state, DealerExposed(turn=turn, dealer=dealer, holder=holder))


def _peer_failed(job: Job, state: State, peer: str, error: ZhiyinError) -> State:
    reason = f"{type(error).__name__}: {error}"
    job.progress("peer_failed", step=state.turn.step, attempt=state.turn.attempt, party=peer, reason=reason)
    return advance(state, PeerFailed(turn=state.turn, peer=peer, reason=reason))
