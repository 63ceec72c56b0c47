"""Topology P on the client's side: five requests, each answered at most once in a round, across restarts; one more to
prove that a neighbour dealt shares that do not open.

The order of the checks is that of `client.answer`: the roster, the plan under the local policy, the terms, the inputs,
the context, the charge to the ledger, durable, and only then the histories. Requests after the first name their round
by its context alone; what the first one said is kept and checked again each time, so that a policy made stricter, a
roster that expired or a budget spent elsewhere ends a round in its middle.

What can happen once only, and where that is written down before the message leaves:

    keys for a context            the vault of open rounds
    dealt shares                  the ledger, as an answer; then the vault
    the masked vector             the ledger, by its charge; then the vault
    a signed set of active ones   the ledger, as an answer; then the vault
    the shares of neighbours      the vault

A process killed in between goes on from the last state or refuses; it never says something else in its place. The vault
may be lost at any time: then the rounds in it are given up, and the ledger still keeps their contexts from being used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from client.contribution import check_inputs
from client.home import ClientHome
from client.pairwise_vault import PairwiseVault
from shared.errors import BadSeal, MalformedMessage, PolicyViolation, TooFewClients, WrongContext, WrongShare
from shared.plan import Step, TrainingPlan
from shared.roster import Roster
from shared.secagg.context import digest_fields
from shared.secagg.pairwise_messages import Agreement
from shared.secagg.pairwise_state import ClientState
from shared.secagg.topology_p import (
    advertise,
    check_deliveries,
    deal,
    mask_vector,
    prove_bad_shares,
    sign_active,
    unmask,
)
from shared.wire import decode, encode, inputs_digest
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

RandomBytes = Callable[[int], bytes]
PairwiseRequest = KeysRequest | DealRequest | MaskRequest | SignRequest | OpenRequest | ProofRequest
PairwiseReply = KeysReply | DealReply | MaskReply | SharesUnopened | SignReply | OpenReply | ProofReply
REQUESTS = (KeysRequest, DealRequest, MaskRequest, SignRequest, OpenRequest, ProofRequest)
_DEALT_ONCE = b"zhiyin/pairwise-dealt-once/1"
_SIGNED_ONCE = b"zhiyin/pairwise-signed-once/1"


class Checked(Protocol):
    """A request that passed every check that needs no history; ctx: what is summed, without the pairwise terms."""

    @property
    def plan(self) -> TrainingPlan: ...

    @property
    def step(self) -> Step: ...

    @property
    def roster(self) -> Roster: ...

    @property
    def ctx(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is the same in every topology, from `client.answer`, bound to one home and one moment.

    check: roster, plan under the policy, step and context of a request. require_unspent: raises unless the context
    was never charged and the budget has room. paid_values: charges the context, and only then looks at the histories:
    the integers of the step, noise inside.
    """

    check: Callable[[KeysRequest], Checked]
    require_unspent: Callable[[Checked, bytes], None]
    paid_values: Callable[[Checked, bytes, int, Mapping[str, NDArray[Any]]], NDArray[np.int64]]


def respond(
    home: ClientHome, request: PairwiseRequest, gate: Gate, *, now: int, random_bytes: RandomBytes
) -> PairwiseReply:
    """The reply to one request; every error of `shared.errors` instead. now: Unix seconds."""
    party = _Party(
        home=home,
        gate=gate,
        vault=PairwiseVault.open(home.folder, home.vault.signing_key),
        now=now,
        random_bytes=random_bytes,
    )
    match request:
        case KeysRequest():
            return _keys(party, request)
        case DealRequest():
            return _deal(party, request)
        case MaskRequest():
            return _mask(party, request)
        case SignRequest():
            return _sign(party, request)
        case OpenRequest():
            return _open(party, request)
        case ProofRequest():
            return _prove(party, request)


@dataclass(frozen=True, kw_only=True)
class _Party:
    home: ClientHome
    gate: Gate
    vault: PairwiseVault
    now: int
    random_bytes: RandomBytes

    def resume(self, ctx: bytes) -> tuple[ClientState, KeysRequest, Checked]:
        """Where a round stands, with its first request checked anew. The state's secrets stay with the caller."""
        state, frame = self.vault.load(ctx, now=self.now)
        asked = decode(frame)
        if not isinstance(asked, KeysRequest):
            raise MalformedMessage("the kept round was not begun by a request for keys")
        checked = self.gate.check(asked)
        if checked.plan.terms.context(checked.ctx) != ctx:
            raise WrongContext(f"round {ctx.hex()[:12]}… was begun under another context")
        return state, asked, checked

    def keep(self, after: ClientState) -> None:
        self.vault.advance(after, now=self.now, random_bytes=self.random_bytes)


def _keys(party: _Party, request: KeysRequest) -> KeysReply:
    home, checked = party.home, party.gate.check(request)
    plan = checked.plan
    if request.terms != plan.terms:
        raise PolicyViolation(f"plan {plan.job_id}: the round's terms are {request.terms}, the plan's {plan.terms}")
    party.gate.require_unspent(checked, plan.terms.context(checked.ctx))
    state, bundle = advertise(
        base=checked.ctx,
        client=home.name,
        declared_users=home.policy.declared_users,
        terms=plan.terms,
        minima=home.policy.pairwise_minima(plan),
        roster=checked.roster,
        signing_key=home.vault.signing_key,
        random_bytes=party.random_bytes,
    )
    party.vault.begin(state, encode(request), now=party.now, random_bytes=party.random_bytes)
    return KeysReply(bundle=bundle)


def _deal(party: _Party, request: DealRequest) -> DealReply:
    state, _, checked = party.resume(request.ctx)
    after, dealing = deal(
        state, request.bundles, roster=checked.roster, now=party.now, signing_key=party.home.vault.signing_key
    )
    _check_users(party.home, checked.plan, after.agreement)
    # Beside the vault, so that one put back to an older state deals under no second list: called dropped in the one
    # and active in the other, a party would have both of its secrets opened.
    party.home.ledger.answer_once([digest_fields(_DEALT_ONCE, request.ctx)])
    party.keep(after)
    return DealReply(dealing=dealing)


def _mask(party: _Party, request: MaskRequest) -> MaskReply | SharesUnopened:
    state, asked, checked = party.resume(request.ctx)
    inputs = dict(request.inputs)
    if inputs_digest(inputs) != asked.inputs_digest:
        raise WrongContext("the step's inputs are not those that the round was begun with")
    check_inputs(checked.plan, checked.step, inputs)
    party.gate.require_unspent(checked, request.ctx)
    # Shares that do not open cost nothing: they are found out before anything is paid.
    try:
        check_deliveries(state, request.deliveries)
    except (BadSeal, WrongShare) as error:
        dealer = error.client if isinstance(error, BadSeal) else error.owner
        return SharesUnopened(client=party.home.name, ctx=request.ctx, dealer=dealer)
    values = party.gate.paid_values(checked, request.ctx, asked.attempt, inputs)
    after, vector = mask_vector(
        state, request.deliveries, values, bits=checked.plan.bits, signing_key=party.home.vault.signing_key
    )
    party.keep(after)
    return MaskReply(vector=vector)


def _sign(party: _Party, request: SignRequest) -> SignReply:
    state, _, _ = party.resume(request.ctx)
    after, signature = sign_active(state, request.active, signing_key=party.home.vault.signing_key)
    # Beside the vault, so that a vault put back to an older state signs no second set.
    party.home.ledger.answer_once([digest_fields(_SIGNED_ONCE, request.ctx)])
    party.keep(after)
    return SignReply(signature=signature)


def _open(party: _Party, request: OpenRequest) -> OpenReply:
    state, _, checked = party.resume(request.ctx)
    after, unmasking = unmask(
        state, request.signatures, roster=checked.roster, now=party.now, signing_key=party.home.vault.signing_key
    )
    party.keep(after)
    return OpenReply(unmasking=unmasking)


def _prove(party: _Party, request: ProofRequest) -> ProofReply:
    # Says nothing unless the dealer's own signature is on shares that do not open: see `shared.secagg.share_complaint`.
    state, _, checked = party.resume(request.ctx)
    # Nor once a vector has left, which a vault that was put back to an older state does not know.
    party.gate.require_unspent(checked, request.ctx)
    complaint = prove_bad_shares(
        state, request.dealing, roster=checked.roster, now=party.now, signing_key=party.home.vault.signing_key
    )
    # One exchange is told in a round, and nothing else said in it after that.
    party.vault.give_up(request.ctx, now=party.now)
    return ProofReply(complaint=complaint)


def _check_users(home: ClientHome, plan: TrainingPlan, agreement: Agreement) -> None:
    users, least = agreement.users(agreement.bundles), max(plan.min_users, home.policy.min_users)
    if users < least:
        raise TooFewClients(f"the parties declare {users} users, the minimum is {least}")
    if users > plan.max_users:
        raise WrongContext(f"the parties declare {users} users, the plan's sum holds {plan.max_users}")
