"""What would leave this home for a plan, message by message and field by field. Sends nothing, charges nothing.

Sizes are those of real frames: each message is built as for the wire, from zeros and throw-away keys.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import sqrt
from os import urandom
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.home import ClientHome
from client.policy import Demand, LocalPolicy, demands
from shared import accounting
from shared.errors import BadSetting, BudgetExhausted
from shared.plan import NOISES_OF, CooccurrencePlan, Step, Topology, TrainingPlan, make_plan, mechanisms, steps
from shared.robust_sum import noise_cost
from shared.secagg import ring
from shared.secagg.graph import choose_degree, share_of
from shared.secagg.pairwise_messages import (
    SEALED_BYTES,
    ActiveSignature,
    Bundle,
    Dealing,
    MaskedVector,
    SealedShares,
    Unmasking,
)
from shared.secagg.shamir import SHARE_BYTES
from shared.secagg.topology_h import Contribution, HelperAnswer, Seal, contribute
from shared.wire import ContributionReply, Message, UnmaskReply, encode
from shared.wire_pairwise import DealReply, KeysReply, MaskReply, OpenReply, SignReply

MAX_TYPICAL_PARTIES = 100
PairwiseBody = Bundle | Dealing | MaskedVector | ActiveSignature | Unmasking

NEVER_LEAVES = (
    "user ids, and how many users there really are: the policy's declared_users is stated instead",
    "any history: who used which item, when, how often or with which weight",
    "user factors, scores and recommendations: they are computed where the history is",
    "sums over this party's users that are not masked",
    "the private keys, the ledger and the local policy",
)
ALSO_VISIBLE = (
    "in place of any message, a refusal: this party's name, the kind of refusal and a sentence made from the request, "
    "the policy and the ledger's totals, never from a history",
    "in place of a helper's answer, a signed complaint: this party's name and that of the one client whose seal does "
    "not open with this helper's key",
    "in a round without helpers, in place of a masked vector: whose shares do not open here and, if that neighbour's "
    "signature is on them, a proof of it, which opens what these two sealed to each other in this round",
    "what a connection shows: that this node is online, its node key, its network address, times and sizes",
)
_ON_TIME = (
    "when an answer that needed the histories leaves: {seconds:g} seconds after its question, or at the next multiple "
    "of that if it took longer"
)
_AT_ONCE = (
    "when an answer leaves, which tells about how many interactions this home holds: answer_seconds in policy.toml is 0"
)
_MEANING: Mapping[str, str] = {
    "client": "this party's name on the roster",
    "helper": "this party's name on the roster",
    "ctx": "digest of the plan, step and parties, the same for all parties",
    "declared_users": "the round number from the policy, not a count",
    "root": "digest of all parties' keys of the round, the same for all parties",
    "mask_key": "a public key for this round alone: each pair of parties makes a mask of theirs",
    "seal_key": "a public key for this round alone: the others seal shares to it",
    "possession": "signature made with the secret of the seal key, which shows that it is this party's",
    "commitment": "digest of the seed of this party's own mask, which stays here",
    "shares": "of the own mask's seed and of the mask key, sealed to each neighbour, with digests: {neighbours}",
    "active": "digest of the one set of parties that this party is willing to be summed with",
    "self_shares": "of each neighbour in that set, one share of the seed of its own mask: {neighbours} at most",
    "key_shares": "of each neighbour not in that set, one share of its mask key, never both: see self_shares",
    "masked": "the clipped, rounded sum over this party's users, with its noise if it adds any, under masks: uniformly "
    "random by itself",
    "seals": "the seed of every mask slot, sealed to the key that each helper who holds the slot certified: {places}",
    "slots": "which of this helper's slots the masks are of, all of them at most: {held}",
    "cohort": "digest of the contributions summed",
    "mask_sum": "sum of the masks, with this helper's noise inside: uniformly random by itself",
    "signature": "Ed25519 over all of it",
}


@dataclass(frozen=True, kw_only=True)
class SentField:
    name: str
    meaning: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    """A kind of message to the server. size_bytes: of the whole frame; clip and noise_std: of the vector inside.

    at_most: how many of them one attempt at the step can take from this home, each as large as this at most.
    """

    type: str
    step: int
    kind: str
    num_coordinates: int
    clip: float
    noise_std: float | None
    fields: tuple[SentField, ...]
    size_bytes: int
    at_most: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """checks: the plan against the policy. also_visible: what the server sees beside the messages. epsilon_before,
    epsilon_after: of the ledger at the policy's delta; None is infinite or switched off. refusal: why the ledger
    would refuse the job now, empty if it would not. local_refusal: why this home could not answer any job; words for
    its owner, never sent.
    """

    plan: TrainingPlan
    checks: tuple[Demand, ...]
    messages: tuple[SentMessage, ...]
    also_visible: tuple[str, ...]
    epsilon_before: float | None
    epsilon_after: float | None
    refusal: str
    local_refusal: str = ""

    @property
    def noise_cost(self) -> float:
        """Of the plan's cohorts, to the noise of one sum."""
        return noise_cost(self.plan)

    @property
    def accepted(self) -> bool:
        return not self.refusal and not self.local_refusal and all(check.holds for check in self.checks)


def preview(home: ClientHome, plan: TrainingPlan) -> Preview:
    """Look ahead at `plan`. Reads policy, catalogue and ledger; never opens the histories."""
    spent, costs = home.ledger.spent(), mechanisms(plan)
    noisy = plan.noise != "none" and not home.ledger.unprotected_releases()
    return Preview(
        plan=plan,
        checks=tuple(demands(home.policy, plan, None, home.catalogue)),
        messages=tuple(_messages(home, plan)),
        also_visible=(*ALSO_VISIBLE, *_time_of_answers(home.policy)),
        epsilon_before=accounting.epsilon(spent, home.policy.delta) if noisy else None,
        epsilon_after=accounting.epsilon([*spent, *costs], home.policy.delta) if noisy else None,
        refusal=_refusal(home, plan),
    )


def default_plan(home: ClientHome) -> TrainingPlan:
    """A typical job at the policy's own limits: cooccurrence, all that one job may cost; with helpers if they may."""
    policy, num_items = home.policy, home.catalogue.num_items
    head = max(2, min(300, num_items, policy.max_head_items))
    terms = _typical_helpers(policy) if "helpers" in policy.allowed_topologies else _typical_parties(policy)
    topology: Topology = terms.get("topology", "helpers")
    return make_plan(
        epsilon=min(policy.max_epsilon_per_job, policy.epsilon, 10.0),
        delta=policy.delta,
        noise=next((noise for noise in NOISES_OF[topology] if noise in policy.allowed_noise), NOISES_OF[topology][0]),
        job_id="preview",
        recipe=CooccurrencePlan(
            num_head_items=head, gamma=0.5, max_head_items_per_user=min(100, policy.max_items_per_user)
        ),
        catalogue_digest=home.catalogue.digest,
        num_items=num_items,
        popularity_share=0.1,
        min_users=policy.min_users,
        max_users=max(policy.min_users, policy.declared_users * max(policy.min_tenants, terms["min_tenants"])),
        bits=max(32, policy.min_bits),
        **terms,
    )


def _typical_helpers(policy: LocalPolicy) -> dict[str, Any]:
    helpers = tuple(policy.helpers)[: max(2, policy.min_helpers)]
    chosen = helpers if len(helpers) >= 2 else ("helper-1", "helper-2")
    return {"helpers": chosen, "min_tenants": policy.min_tenants, "cohorts": policy.min_cohorts}


def _typical_parties(policy: LocalPolicy) -> dict[str, Any]:
    """The fewest parties that bear the policy's shares; as many may be missing as it says."""
    for num_parties in range(max(3, policy.min_tenants), MAX_TYPICAL_PARTIES + 1):
        try:
            degree, threshold = choose_degree(
                num_parties,
                corrupt=policy.pairwise_corrupt,
                dropped=policy.pairwise_dropped,
                privacy_bits=policy.pairwise_privacy_bits,
                recovery_bits=policy.pairwise_recovery_bits,
            )
        except BadSetting:
            continue
        colluding = share_of(policy.pairwise_corrupt, num_parties)
        least = max(
            policy.min_tenants,
            colluding + 2,
            threshold + 1,
            num_parties - share_of(policy.pairwise_dropped, num_parties),
        )
        return {
            "topology": "pairwise", "helpers": (), "num_parties": num_parties, "degree": degree,
            "threshold": threshold, "colluding": colluding, "min_tenants": least,
        }  # fmt: skip
    raise BadSetting("no federation of up to 100 parties bears pairwise_corrupt and pairwise_dropped together")


def to_json(seen: Preview) -> dict[str, Any]:
    """A JSON object with everything that the preview says."""
    return {
        "job_id": seen.plan.job_id,
        "accepted": seen.accepted,
        "checks": [vars(check) for check in seen.checks],
        "cohorts": {"number": seen.plan.cohorts, "trim": seen.plan.trim, "noise_cost": seen.noise_cost},
        "messages": [{**vars(message), "fields": [vars(sent) for sent in message.fields]} for message in seen.messages],
        "epsilon_before": seen.epsilon_before,
        "epsilon_after": seen.epsilon_after,
        "refusal": seen.refusal,
        "local_refusal": seen.local_refusal,
        "also_visible": list(seen.also_visible),
        "never_leaves": list(NEVER_LEAVES),
    }


def _time_of_answers(policy: LocalPolicy) -> tuple[str, ...]:
    if not policy.serves_tenant:
        return ()
    return (_ON_TIME.format(seconds=policy.answer_seconds) if policy.answer_seconds else _AT_ONCE,)


def _refusal(home: ClientHome, plan: TrainingPlan) -> str:
    asked = [step.mechanism for step in steps(plan)]
    try:
        home.ledger.require_room(home.policy.budget, asked, job_id=plan.job_id, job_budget=home.policy.job_budget)
    except BudgetExhausted as error:
        return str(error)
    return ""


def _messages(home: ClientHome, plan: TrainingPlan) -> Iterator[SentMessage]:
    for step in steps(plan):
        if plan.topology == "pairwise":
            for name, body, reply in _blank_round(home, plan, step):
                yield _message(name, plan, step, body, size_bytes=len(encode(reply)))
            continue
        if home.policy.serves_tenant:
            contribution = _blank_contribution(home, plan, step)
            reply = ContributionReply(contribution=contribution)
            yield _message("contribution", plan, step, contribution, size_bytes=len(encode(reply)))
        if home.name in plan.helpers and "helper" in home.policy.serve_as:
            vector = bytes(ring.size_bytes(plan.bits, step.num_coordinates))
            # A slot is answered for once in an attempt and cohort, all of them together or each of them alone.
            slots = plan.sharing.held_by(home.name)
            answer = HelperAnswer(
                helper=home.name, ctx=bytes(32), slots=slots, cohort=bytes(32), mask_sum=vector, signature=bytes(64)
            )
            frame = encode(UnmaskReply(answer=answer))
            most = plan.cohorts * len(slots)
            yield _message("helper answer", plan, step, answer, size_bytes=len(frame), at_most=most)


def _blank_round(home: ClientHome, plan: TrainingPlan, step: Step) -> Iterator[tuple[str, PairwiseBody, Message]]:
    """The five messages of a round, as large as they are with every invited party there."""
    degree = min(plan.degree, plan.num_parties - 1)
    # Names of other parties are in these messages; a name has 63 characters at most and 12 as a rule.
    others = tuple(f"party-{number:06d}" for number in range(degree))
    start: dict[str, Any] = {"client": home.name, "ctx": bytes(32), "root": bytes(32), "signature": bytes(64)}
    bundle = Bundle(
        client=home.name,
        ctx=bytes(32),
        declared_users=home.policy.declared_users,
        mask_key=bytes(32),
        seal_key=bytes(32),
        possession=bytes(64),
        commitment=bytes(32),
        signature=bytes(64),
    )
    shares = tuple(
        SealedShares(receiver=name, sealed=bytes(SEALED_BYTES), self_digest=bytes(32), key_digest=bytes(32))
        for name in others
    )
    given = tuple((name, bytes(SHARE_BYTES)) for name in others)
    dealing = Dealing(**start, shares=shares)
    vector = MaskedVector(**start, masked=bytes(ring.size_bytes(plan.bits, step.num_coordinates)))
    signature = ActiveSignature(**start, active=bytes(32))
    unmasking = Unmasking(**start, active=bytes(32), self_shares=given, key_shares=())
    yield "keys", bundle, KeysReply(bundle=bundle)
    yield "dealt shares", dealing, DealReply(dealing=dealing)
    yield "masked vector", vector, MaskReply(vector=vector)
    yield "signature", signature, SignReply(signature=signature)
    yield "shares of others", unmasking, OpenReply(unmasking=unmasking)


def _message(
    name: str,
    plan: TrainingPlan,
    step: Step,
    body: Contribution | HelperAnswer | PairwiseBody,
    *,
    size_bytes: int,
    at_most: int = 1,
) -> SentMessage:
    words = {"neighbours": f"{min(plan.degree, plan.num_parties - 1)} neighbours"}
    if plan.topology == "helpers":
        held = body.slots if isinstance(body, HelperAnswer) else ()
        words = {"places": f"{len(plan.sharing.places)} seals for {len(plan.sharing.slots)} slots"}
        words["held"] = ", ".join(held)
    return SentMessage(
        type=name,
        step=step.index,
        kind=step.kind,
        num_coordinates=step.num_coordinates,
        clip=step.clip,
        noise_std=None if step.mechanism is None else sqrt(step.noise_variance) / step.scale,
        fields=tuple(
            SentField(
                name=entry.name,
                meaning=_MEANING[entry.name].format(**words),
                size_bytes=_size(getattr(body, entry.name)),
            )
            for entry in fields(body)
        ),
        size_bytes=size_bytes,
        at_most=at_most,
    )


def _blank_contribution(home: ClientHome, plan: TrainingPlan, step: Step) -> Contribution:
    blank = {name: X25519PrivateKey.generate().public_key().public_bytes_raw() for name in plan.helpers}
    return contribute(
        ctx=bytes(32),
        client=home.name,
        declared_users=home.policy.declared_users,
        values=np.zeros(step.num_coordinates, dtype=np.int64),
        bits=plan.bits,
        sharing=plan.sharing,
        helper_keys=blank,
        signing_key=Ed25519PrivateKey.generate(),
        random_bytes=urandom,
    )


def _size(value: Any) -> int:
    match value:
        case int():
            return 8
        case str() | bytes():
            return len(value)
        case Seal() | SealedShares():
            return sum(map(_size, vars(value).values()))
        case _:
            return sum(map(_size, value))
