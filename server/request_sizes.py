"""Whether what a job asks when everybody takes part fits a message: told before anybody is asked, and so charged."""

from shared.errors import BadSetting, MalformedMessage
from shared.plan import TrainingPlan, plan_to_json
from shared.roster import Roster
from shared.secagg.pairwise_messages import DIGEST_BYTES, KEY_BYTES, SIGNATURE_BYTES, Bundle
from shared.secagg.seal_key import POSSESSION_BYTES
from shared.secagg.sealing import SEAL_BYTES
from shared.secagg.topology_h import ContributionHeader, Seal
from shared.wire import UnmaskRequest, encode
from shared.wire_pairwise import DealRequest

_LARGEST_INTEGER = 2**53 - 1


def require_requests_fit(plan: TrainingPlan, roster: Roster, roster_bytes: bytes) -> None:
    """Raise BadSetting if the longest list that a party can be sent in this job is too long for a message.

    A helper is sent every contribution of a sum, a tenant of a pairwise round everybody's keys: both are built here as
    long as they can be, of all tenants on the roster.
    """
    names = sorted((each.name for each in roster.entries if "tenant" in each.roles), key=len, reverse=True)
    if plan.topology == "pairwise":
        names = names[: plan.num_parties]
        request: DealRequest | UnmaskRequest = _keys_of(names)
        mend = "invite fewer parties (num_parties)"
    else:
        # Cohorts differ by one tenant at most.
        names = names[: -(-len(names) // plan.cohorts)]
        request = _contributions_of(names, plan, roster_bytes)
        mend = "plan fewer helpers, fewer spare_helpers or more cohorts"
    try:
        encode(request)
    except MalformedMessage as error:
        message = f"plan {plan.job_id}: a list of {len(names)} tenants does not fit a message ({error}); {mend}"
        raise BadSetting(message) from error


def _contributions_of(names: list[str], plan: TrainingPlan, roster_bytes: bytes) -> UnmaskRequest:
    seals = tuple(Seal(slot=slot, helper=helper, sealed=bytes(SEAL_BYTES)) for slot, helper in plan.sharing.places)
    headers = (
        ContributionHeader(
            client=name,
            declared_users=_LARGEST_INTEGER,
            seals=seals,
            masked_digest=bytes(DIGEST_BYTES),
            signature=bytes(SIGNATURE_BYTES),
        )
        for name in names
    )
    return UnmaskRequest(
        plan_json=plan_to_json(plan),
        step=_LARGEST_INTEGER,
        attempt=_LARGEST_INTEGER,
        roster=roster_bytes,
        inputs_digest=bytes(DIGEST_BYTES),
        slots=plan.sharing.slots,
        headers=tuple(headers),
    )


def _keys_of(names: list[str]) -> DealRequest:
    bundles = (
        Bundle(
            client=name,
            ctx=bytes(DIGEST_BYTES),
            declared_users=_LARGEST_INTEGER,
            mask_key=bytes(KEY_BYTES),
            seal_key=bytes(KEY_BYTES),
            possession=bytes(POSSESSION_BYTES),
            commitment=bytes(DIGEST_BYTES),
            signature=bytes(SIGNATURE_BYTES),
        )
        for name in names
    )
    return DealRequest(ctx=bytes(DIGEST_BYTES), bundles=tuple(bundles))
