"""The heart of the client: one frame of the server in, one frame out, whatever the frame says. No transport.

Before anything else the clock: set back, it would make valid again what had expired. Contributing, in this order: the
roster under the pinned issuer key and not older than any before, whether this home serves as what it is asked for, the
plan under the local policy, the helpers' sealing keys under their pins, the inputs, the context recomputed from what
was checked, the charge to the ledger, durable, and only then the sum of the local users, rounded with draws for this
release alone, this party's own noise if the plan leaves it to tenants, and the masked and signed contribution. As a
helper: everything checked again, and each mask slot of a context answered once in a lifetime. In a round without
helpers the same checks stand before the steps of `client.pairwise`.

A refusal is a message too, without noise: it must not tell anything about a history. So it repeats only the words of
errors that arise from the server's request, the policy and the ledger; the rest is told to the local log alone.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from client import pairwise
from client.contribution import check_inputs, require_in_range
from client.device import device_values
from client.home import ClientHome
from client.policy import check_plan
from client.rosters import accept_roster, erase_replaced_keys
from client.tenant import tenant_values
from shared.errors import (
    AlreadyAnswered,
    BadSeal,
    BadSetting,
    CapacityExceeded,
    MalformedMessage,
    NoInteractions,
    PolicyViolation,
    PrivacyRefusal,
    ProtocolError,
    TooFewClients,
    UnknownKey,
    WrongContext,
    ZhiyinError,
)
from shared.interactions import Interactions
from shared.plan import MAX_TENANTS, Step, TrainingPlan, plan_from_json, steps
from shared.roster import Role, Roster, open_roster
from shared.secagg import discrete_gaussian, skellam
from shared.secagg.cohorts import Cohorts, divide
from shared.secagg.complaint import complain
from shared.secagg.context import context, join_fields
from shared.secagg.topology_h import ContributionHeader, check_cohort, contribute, helper_answer, slot_contexts
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Refusal,
    SealComplaint,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    inputs_digest,
)
from shared.wire_pairwise import KeysRequest

LOG = logging.getLogger("zhiyin.client")
RandomBytes = Callable[[int], bytes]
# Errors whose words come from the request, the policy or the ledger, never from a history.
_SPOKEN = (PrivacyRefusal, ProtocolError)
_NEUTRAL = "the client could not answer; its own log says why"
_ROUNDING = b"zhiyin/rounding/1"


class _LocalFailure(Exception):
    """Something went wrong over the histories; never spoken of, whatever its cause is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Checked:
    """A request that passed every check that needs no history. sealing: X25519 keys of the plan's helpers.

    ctx: of the attempt, whatever its cohorts: what a contribution is charged under, so that there is one an attempt.
    """

    plan: TrainingPlan
    step: Step
    roster: Roster
    sealing: Mapping[str, bytes]
    ctx: bytes

    @property
    def cohorts(self) -> Cohorts:
        return divide(self.ctx, self.roster, self.plan.cohorts)


def answer(
    home: ClientHome,
    frame: bytes,
    *,
    now: int,
    random_bytes: RandomBytes,
    before_histories: Callable[[], None] = lambda: None,
) -> bytes:
    """The reply to `frame`: a contribution, a helper's answer, or a refusal. Never raises.

    now: Unix seconds. random_bytes: the operating system's randomness. before_histories: called once a request passed
    every check, before it is charged and a history is looked at; what it raises is the refusal.
    """
    try:
        request, home = decode(frame), home.at(now)
        if isinstance(request, ContributionRequest):
            return encode(_contribute(home, request, before_histories, now=now, random_bytes=random_bytes))
        if isinstance(request, UnmaskRequest):
            return encode(_help(home, request, now=now, random_bytes=random_bytes))
        if isinstance(request, pairwise.REQUESTS):
            gate = _gate(home, before_histories, now=now, random_bytes=random_bytes)
            return encode(pairwise.respond(home, request, gate, now=now, random_bytes=random_bytes))
        raise MalformedMessage(f"a client is not asked with a {type(request).__name__}")
    except Exception as error:
        return refusal(home.name, error)


def refusal(party: str, error: Exception) -> bytes:
    """A frame that says no, and why as far as that can be told; the rest goes to the local log."""
    _log(error)
    if isinstance(error, _SPOKEN):
        return encode(Refusal.of(party, error))
    return encode(Refusal(party=party, error="ZhiyinError", message=_NEUTRAL))


def local_refusal(party: str, error: Exception) -> bytes:
    """A frame that says no and not why: for what is wrong on this machine, whatever class of error tells it."""
    _log(error)
    return encode(Refusal(party=party, error="ZhiyinError", message=_NEUTRAL))


def _log(error: Exception) -> None:
    LOG.warning("refused: %s: %s", type(error).__name__, error, exc_info=not isinstance(error, ZhiyinError))


def _contribute(
    home: ClientHome,
    request: ContributionRequest,
    before_histories: Callable[[], None],
    *,
    now: int,
    random_bytes: RandomBytes,
) -> ContributionReply:
    inputs = dict(request.inputs)
    checked = _check(home, request, "tenant", inputs_digest(inputs), now)
    plan, step = checked.plan, checked.step
    check_inputs(plan, step, inputs)
    _require_unspent(home, checked, checked.ctx)
    before_histories()
    values = _paid_values(home, checked, checked.ctx, request.attempt, inputs, random_bytes)
    contribution = contribute(
        ctx=checked.cohorts.context_of(home.name),
        client=home.name,
        declared_users=home.policy.declared_users,
        values=values,
        bits=plan.bits,
        sharing=plan.sharing,
        helper_keys=checked.sealing,
        signing_key=home.vault.signing_key,
        random_bytes=random_bytes,
    )
    return ContributionReply(contribution=contribution)


def _gate(
    home: ClientHome, before_histories: Callable[[], None], *, now: int, random_bytes: RandomBytes
) -> pairwise.Gate:
    def paid_values(
        checked: pairwise.Checked, ctx: bytes, attempt: int, inputs: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        before_histories()
        return _paid_values(home, checked, ctx, attempt, inputs, random_bytes)

    return pairwise.Gate(
        check=lambda request: _check(home, request, "tenant", request.inputs_digest, now),
        require_unspent=lambda checked, ctx: _require_unspent(home, checked, ctx),
        paid_values=paid_values,
    )


def _paid_values(
    home: ClientHome,
    checked: pairwise.Checked,
    ctx: bytes,
    attempt: int,
    inputs: Mapping[str, NDArray[Any]],
    random_bytes: RandomBytes,
) -> NDArray[np.int64]:
    """What this party adds to the sum, before masks: paid for, durably, and with the noise that is its own to add."""
    plan, step, policy = checked.plan, checked.step, home.policy
    # Before a history is looked at: what fails over one can be seen from outside, so every such look is paid for.
    home.ledger.charge(
        job_id=plan.job_id,
        step=step.index,
        attempt=attempt,
        context=ctx,
        mechanism=step.mechanism,
        budget=policy.budget,
        job_budget=policy.job_budget,
    )
    values = _values(home, plan, step, dict(inputs), _rounding_seed(home, plan, step, random_bytes))
    if plan.noise == "tenant":
        values += discrete_gaussian.sample(isqrt(step.noise_variance), step.num_coordinates, random_bytes)
    elif plan.noise == "shared":
        values += skellam.sample(step.noise_variance, step.num_coordinates, random_bytes)
    return values


def _values(
    home: ClientHome, plan: TrainingPlan, step: Step, inputs: dict[str, NDArray[np.generic]], secret_seed: bytes
) -> NDArray[np.int64]:
    # The one place where histories are looked at: whatever goes wrong here goes no further than the local log.
    try:
        history, declared = _history(home), home.policy.declared_users
        if history.num_users > declared:
            raise BadSetting(f"the store holds {history.num_users} users, policy.toml declares {declared}")
        values_of = device_values if declared == 1 else tenant_values
        values = values_of(plan, step, inputs, history, secret_seed=secret_seed)
        require_in_range(step, values, declared)
        return values
    except Exception as error:
        raise _LocalFailure(f"{type(error).__name__}: {error}") from error


def _help(
    home: ClientHome, request: UnmaskRequest, *, now: int, random_bytes: RandomBytes
) -> UnmaskReply | SealComplaint:
    checked = _check(home, request, "helper", request.inputs_digest, now)
    # A set with members of two cohorts is none that any attempt sums, whoever signed what is in it.
    cohorts = checked.cohorts
    ctx = cohorts.contexts[cohorts.of_all(header.client for header in request.headers)]
    try:
        return _unmask(home, request, checked, ctx, now=now, random_bytes=random_bytes)
    except BadSeal as error:
        _log(error)
        made = complain(ctx=ctx, helper=home.name, client=error.client, signing_key=home.vault.signing_key)
        return SealComplaint(complaint=made)


def _unmask(
    home: ClientHome, request: UnmaskRequest, checked: _Checked, ctx: bytes, *, now: int, random_bytes: RandomBytes
) -> UnmaskReply:
    plan, step = checked.plan, checked.step
    if home.name not in plan.helpers:
        raise UnknownKey(f"{home.name} is not a helper of plan {plan.job_id}")
    _check_cohort(home, plan, request.headers)
    noise = isqrt(step.noise_variance) if plan.noise == "helpers" else None
    reply = helper_answer(
        ctx=ctx,
        helper=home.name,
        slots=request.slots,
        sharing=plan.sharing,
        contributions=request.headers,
        roster=checked.roster,
        now=now,
        bits=plan.bits,
        num_coordinates=step.num_coordinates,
        min_contributions=max(plan.min_tenants, home.policy.min_tenants),
        noise_std=noise,
        seal_key=home.vault.opening_key(checked.roster.member(home.name, now).sealing_key),
        signing_key=home.vault.signing_key,
        random_bytes=random_bytes,
    )
    home.ledger.answer_once(slot_contexts(ctx, request.slots))
    return UnmaskReply(answer=reply)


def _check(
    home: ClientHome, request: ContributionRequest | UnmaskRequest | KeysRequest, role: Role, digest: bytes, now: int
) -> _Checked:
    plan = plan_from_json(request.plan_json)
    if (plan.topology == "pairwise") is not isinstance(request, KeysRequest):
        raise WrongContext(f"plan {plan.job_id} sums by topology {plan.topology}, the request is of the other one")
    roster = open_roster(request.roster, home.policy.issuer_public_key, now)
    accept_roster(home, roster, request.roster)
    erase_replaced_keys(home, roster, now)
    if role not in home.policy.serve_as:
        raise PolicyViolation(f"{home.name} serves as {' and '.join(home.policy.serve_as)} only, not as a {role}")
    if roster.member_as(home.name, role, now).signing_key != home.vault.signing_public:
        raise UnknownKey(f"the roster lists another signing key for {home.name} than the one in its home")
    check_plan(home.policy, plan, roster, home.catalogue)
    sealing = {
        helper: roster.sealing_key(helper, pinned=home.policy.helpers[helper].signing, now=now)
        for helper in plan.helpers
    }
    if not 0 <= request.step < len(steps(plan)):
        raise WrongContext(f"plan {plan.job_id} has {len(steps(plan))} steps, there is no step {request.step}")
    step = steps(plan)[request.step]
    ctx = context(
        plan_digest=plan.digest,
        job_id=plan.job_id,
        step=step.index,
        attempt=request.attempt,
        num_coordinates=step.num_coordinates,
        bits=plan.bits,
        inputs_digest=digest,
        roster_digest=roster.digest,
    )
    return _Checked(plan=plan, step=step, roster=roster, sealing=sealing, ctx=ctx)


def _check_cohort(home: ClientHome, plan: TrainingPlan, headers: tuple[ContributionHeader, ...]) -> None:
    # Signatures, and with them the declared users, are verified by helper_answer before anything is added up.
    check_cohort(headers, min_contributions=max(plan.min_tenants, home.policy.min_tenants))
    users, least = sum(header.declared_users for header in headers), max(plan.min_users, home.policy.min_users)
    if users < least:
        raise TooFewClients(f"the cohort declares {users} users, the minimum is {least}")
    if users > plan.max_users:
        raise WrongContext(f"the cohort declares {users} users, the plan's sum holds {plan.max_users}")
    if plan.noise == "tenant" and len(headers) > MAX_TENANTS:
        raise CapacityExceeded(f"the ring holds the noise of {MAX_TENANTS} tenants, the cohort has {len(headers)}")


def _require_unspent(home: ClientHome, checked: pairwise.Checked, ctx: bytes) -> None:
    # Refuse before the work, not after it; the charge decides again, in one transaction.
    if any(entry.kind == "release" and entry.context == ctx for entry in home.ledger.entries()):
        raise AlreadyAnswered(f"job {checked.plan.job_id} step {checked.step.index}: this attempt was answered already")
    home.ledger.require_room(
        home.policy.budget,
        [checked.step.mechanism],
        job_id=checked.plan.job_id,
        job_budget=home.policy.job_budget,
    )


def _history(home: ClientHome) -> Interactions:
    try:
        return home.store.interactions(home.catalogue)[0]
    except NoInteractions:
        # Refusing would tell the difference between one user and none; a sum of nobody is a sum like any other.
        return Interactions(
            num_items=home.catalogue.num_items,
            offsets=np.zeros(1, dtype=np.int64),
            items=np.zeros(0, dtype=np.int32),
            weights=np.zeros(0, dtype=np.float32),
        )


def _rounding_seed(home: ClientHome, plan: TrainingPlan, step: Step, random_bytes: RandomBytes) -> bytes:
    if plan.noise != "none":
        return random_bytes(32)
    # Without noise nothing is protected, and a run is to be repeatable: the same integers for the same step.
    secret = home.vault.signing_key.private_bytes_raw()
    info = join_fields(_ROUNDING, plan.digest.encode(), step.index.to_bytes(8, "big"), home.name.encode())
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
