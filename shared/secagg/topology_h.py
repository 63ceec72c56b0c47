"""One-shot secure aggregation with helpers, as pure functions of values (topology H; the shape of Prio and DAP).

    client   y = q - sum_s PRG(seed_s);  sends y, each slot's seed sealed to its holders, and a signature over all of it
    helper   m_h = sum_i sum_s PRG(seed_is) + z_h  over a cohort of at least the minimum and the slots it is asked for,
             z_h discrete Gaussian noise
    server   sum y + sum_h m_h = sum q + sum_h z_h, everything modulo 2^b, when every slot is in one answer

Without spare helpers there is one slot for each helper (`mask_sharing`). A client speaks once. What the server learns
is the noisy sum, as long as some slot's holders are all honest; if the server and one holder of every slot collude,
every contribution opens. That a helper answers a slot of one context once is durable state and therefore its caller's
duty; `slot_contexts` are the keys to keep.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from shared.errors import (
    BadSeal,
    BadSetting,
    IllegalTransition,
    MalformedMessage,
    PolicyViolation,
    TooFewClients,
    WrongContext,
)
from shared.roster import Roster
from shared.secagg import discrete_gaussian, ring
from shared.secagg.context import CONTEXT_BYTES, VectorHasher, digest_fields, join_fields, vector_digest
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import MaskSeed, keystream_sum, mask_packed, sum_packed
from shared.secagg.sealing import open_seal, seal

RandomBytes = Callable[[int], bytes]
SIGNATURE_BYTES = 64
DIGEST_BYTES = 32
_CONTRIBUTION = b"zhiyin/contribution/3"
_ANSWER = b"zhiyin/answer/3"
_COHORT = b"zhiyin/cohort/2"
_SEAL = b"zhiyin/seal-to/2"
_SLOT = b"zhiyin/slot/1"


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The seed of `slot`, readable by `helper` alone: 80 bytes."""

    slot: str
    helper: str
    sealed: bytes


@dataclass(frozen=True, kw_only=True)
class ContributionHeader:
    """A contribution without its vector: all that a helper is shown.

    declared_users: how many users the client states in public; signed, so that a server cannot inflate a cohort.
    seals: sorted by slot and helper. masked_digest: `vector_digest` of the vector. signature: Ed25519 over it all.
    """

    client: str
    declared_users: int
    seals: tuple[Seal, ...]
    masked_digest: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What a client sends. masked: packed ring vector, uniform to whoever lacks one of the sealed seeds."""

    client: str
    ctx: bytes
    declared_users: int
    masked: bytes = field(repr=False)
    seals: tuple[Seal, ...]
    signature: bytes

    def header(self) -> ContributionHeader:
        return ContributionHeader(
            client=self.client,
            declared_users=self.declared_users,
            seals=self.seals,
            masked_digest=self._masked_digest,
            signature=self.signature,
        )

    @cached_property
    def _masked_digest(self) -> bytes:
        # The dear part of checking a contribution: hashed once, however often its header is asked for.
        return vector_digest(self.masked)


@dataclass(frozen=True, kw_only=True)
class HelperAnswer:
    """What a helper sends. slots: whose masks are in it, sorted. cohort: digest of the headers it summed.

    mask_sum: packed, the helper's noise inside.
    """

    helper: str
    ctx: bytes
    slots: tuple[str, ...]
    cohort: bytes
    mask_sum: bytes = field(repr=False)
    signature: bytes


def contribute(
    *,
    ctx: bytes,
    client: str,
    declared_users: int,
    values: NDArray[np.int64],
    bits: int,
    sharing: MaskSharing,
    helper_keys: Mapping[str, bytes],
    signing_key: Ed25519PrivateKey,
    random_bytes: RandomBytes,
) -> Contribution:
    """Mask `values` (num_coordinates,) under a fresh seed for each slot.

    helper_keys: name -> X25519 public key, 32 bytes, from the client's own pins and never from the server.
    random_bytes: the operating system's, e.g. os.urandom.
    Raises PolicyViolation unless each helper has a key of its own, UnknownKey for a key that is none,
    CapacityExceeded for a value outside the ring's signed range.
    """
    _check_context(ctx)
    if set(helper_keys) != set(sharing.helpers) or len(set(helper_keys.values())) != len(helper_keys):
        raise PolicyViolation(f"each of the helpers {', '.join(sharing.helpers)} must have one key of its own")
    if declared_users < 1:
        raise BadSetting(f"declared_users must be at least 1, got {declared_users}")
    seeds = {slot: MaskSeed(random_bytes(32)) for slot in sharing.slots}
    seals = []
    for slot, helper in sharing.places:
        bound = _seal_data(ctx, client, slot, helper)
        sealed = seal(helper_keys[helper], seeds[slot].reveal(), associated=bound, random_bytes=random_bytes)
        seals.append(Seal(slot=slot, helper=helper, sealed=sealed))
    hasher = VectorHasher()
    keys = [seed.key(ctx) for seed in seeds.values()]
    masked = mask_packed(values, bits, subtracted=keys, watch=hasher.update)
    message = _contribution_message(ctx, client, declared_users, tuple(seals), hasher.digest())
    signature = signing_key.sign(message)
    return Contribution(
        client=client, ctx=ctx, declared_users=declared_users, masked=masked, seals=tuple(seals), signature=signature
    )


def verify_contribution(
    contribution: Contribution,
    *,
    ctx: bytes,
    sharing: MaskSharing,
    roster: Roster,
    now: int,
    bits: int,
    num_coordinates: int,
) -> None:
    """Raise WrongContext, UnknownKey, ExpiredKey, MalformedMessage or BadSignature unless it can be accepted."""
    size = ring.size_bytes(bits, num_coordinates)
    _verify(contribution, contribution.header(), ctx=ctx, sharing=sharing, roster=roster, now=now, size=size)


def verify_header(header: ContributionHeader, *, ctx: bytes, sharing: MaskSharing, roster: Roster, now: int) -> None:
    """Raise UnknownKey, ExpiredKey, MalformedMessage or BadSignature unless a tenant on the roster signed it so."""
    member = roster.member_as(header.client, "tenant", now)
    if not 1 <= header.declared_users < 2**53:
        raise MalformedMessage(f"{header.client} declares {header.declared_users} users")
    if tuple((each.slot, each.helper) for each in header.seals) != sharing.places:
        raise MalformedMessage(f"{header.client} did not seal each mask to exactly the plan's helpers, in order")
    message = _contribution_message(ctx, header.client, header.declared_users, header.seals, header.masked_digest)
    member.verify(header.signature, message)


def verify_answer(
    answer: HelperAnswer,
    *,
    ctx: bytes,
    slots: tuple[str, ...],
    cohort: bytes,
    roster: Roster,
    now: int,
    bits: int,
    num_coordinates: int,
) -> None:
    """Raise WrongContext, UnknownKey, ExpiredKey, MalformedMessage or BadSignature unless it can be accepted.

    slots: those that the helper was asked for. cohort: `cohort_digest` of the contributions that it was to sum.
    """
    member = roster.member_as(answer.helper, "helper", now)
    if answer.ctx != ctx:
        raise WrongContext(f"the answer of {answer.helper} is for another round or other parameters")
    if answer.slots != slots:
        raise WrongContext(f"the answer of {answer.helper} is for other masks than it was asked for")
    if answer.cohort != cohort:
        raise WrongContext(f"the answer of {answer.helper} is for another set of contributions")
    _check_size(answer.mask_sum, answer.helper, ring.size_bytes(bits, num_coordinates))
    digest = vector_digest(answer.mask_sum)
    member.verify(answer.signature, _answer_message(ctx, answer.helper, answer.slots, answer.cohort, digest))


def slot_contexts(ctx: bytes, slots: Iterable[str]) -> tuple[bytes, ...]:
    """32 bytes for each slot of a context: what a helper notes before its answer leaves, and answers once."""
    return tuple(digest_fields(_SLOT, ctx, slot.encode()) for slot in slots)


def cohort_digest(headers: Iterable[ContributionHeader]) -> bytes:
    """Names a set of contributions whatever their order: over each client, its vector's digest and its signature."""
    ordered = sorted(headers, key=lambda header: header.client)
    parts = (part for header in ordered for part in (header.client.encode(), header.masked_digest, header.signature))
    return digest_fields(_COHORT, *parts)


def helper_answer(
    *,
    ctx: bytes,
    helper: str,
    slots: tuple[str, ...],
    sharing: MaskSharing,
    contributions: Sequence[ContributionHeader],
    roster: Roster,
    now: int,
    bits: int,
    num_coordinates: int,
    min_contributions: int,
    noise_std: int | None,
    seal_key: X25519PrivateKey,
    signing_key: Ed25519PrivateKey,
    random_bytes: RandomBytes,
) -> HelperAnswer:
    """The sum of this helper's masks in `slots` over the cohort, with its noise, signed.

    slots: some of those it holds, sorted, at least one. min_contributions: the helper's own minimum.
    noise_std: in steps, None only if the plan asks for no noise here.
    Nothing is answered unless every contribution verifies. Raises TooFewClients, MalformedMessage (a client twice, a
    seal missing), WrongContext (slots that are not its own), UnknownKey, ExpiredKey, BadSignature, BadSeal (naming the
    first client whose seal does not open).
    """
    _check_context(ctx)
    check_cohort(contributions, min_contributions=min_contributions)
    if not slots or list(slots) != sorted(set(slots)) or not set(slots) <= set(sharing.held_by(helper)):
        raise WrongContext(f"{helper} is asked for masks {list(slots)}, it holds {list(sharing.held_by(helper))}")
    for header in contributions:
        verify_header(header, ctx=ctx, sharing=sharing, roster=roster, now=now)
    keys = [
        _open(header, ctx=ctx, slot=slot, helper=helper, seal_key=seal_key).key(ctx)
        for header in contributions
        for slot in slots
    ]
    noise = None if noise_std is None else discrete_gaussian.sample(noise_std, num_coordinates, random_bytes)
    hasher, cohort = VectorHasher(), cohort_digest(contributions)
    mask_sum = keystream_sum(num_coordinates, bits, keys, noise=noise, watch=hasher.update)
    signature = signing_key.sign(_answer_message(ctx, helper, slots, cohort, hasher.digest()))
    return HelperAnswer(helper=helper, ctx=ctx, slots=slots, cohort=cohort, mask_sum=mask_sum, signature=signature)


def check_cohort(headers: Sequence[ContributionHeader], *, min_contributions: int) -> None:
    """Raise TooFewClients below the minimum, which is 2 at least, MalformedMessage if a client is there twice."""
    twice = [client for client, count in Counter(header.client for header in headers).items() if count > 1]
    if twice:
        raise MalformedMessage(f"the contribution of {twice[0]} is in the cohort twice")
    # The masks of one contribution alone, noise or not, are never a sum.
    if len(headers) < max(2, min_contributions):
        raise TooFewClients(f"{len(headers)} contributions, the minimum is {max(2, min_contributions)}")


def open_sum(
    *,
    ctx: bytes,
    sharing: MaskSharing,
    contributions: Sequence[Contribution],
    answers: Sequence[HelperAnswer],
    roster: Roster,
    now: int,
    bits: int,
    num_coordinates: int,
) -> NDArray[np.int64]:
    """The cohort's noisy sum, int64 (num_coordinates,) in [-2^(b-1), 2^(b-1)).

    Every signature is verified; every slot must be in one answer, and all answers for exactly these contributions.
    Raises IllegalTransition (a slot missing or answered twice), TooFewClients, WrongContext, MalformedMessage,
    UnknownKey, ExpiredKey, BadSignature.
    """
    headers = [contribution.header() for contribution in contributions]
    check_cohort(headers, min_contributions=2)
    size = ring.size_bytes(bits, num_coordinates)
    for contribution, header in zip(contributions, headers, strict=True):
        _verify(contribution, header, ctx=ctx, sharing=sharing, roster=roster, now=now, size=size)
    answered = sorted(slot for answer in answers for slot in answer.slots)
    if answered != list(sharing.slots):
        raise IllegalTransition(
            f"the sum opens with one answer for each of {list(sharing.slots)}, there are {answered}"
        )
    cohort = cohort_digest(headers)
    for answer in answers:
        if not set(answer.slots) <= set(sharing.held_by(answer.helper)):
            raise WrongContext(f"{answer.helper} answered for masks {list(answer.slots)} that are not its own")
        verify_answer(
            answer,
            ctx=ctx,
            slots=answer.slots,
            cohort=cohort,
            roster=roster,
            now=now,
            bits=bits,
            num_coordinates=num_coordinates,
        )
    packed = (*(each.masked for each in contributions), *(each.mask_sum for each in answers))
    return sum_packed(packed, bits, num_coordinates)


def _verify(
    contribution: Contribution,
    header: ContributionHeader,
    *,
    ctx: bytes,
    sharing: MaskSharing,
    roster: Roster,
    now: int,
    size: int,
) -> None:
    # The header is given, for its digest of the vector is the dear part.
    if contribution.ctx != ctx:
        raise WrongContext(f"the contribution of {contribution.client} is for another round or other parameters")
    _check_size(contribution.masked, contribution.client, size)
    verify_header(header, ctx=ctx, sharing=sharing, roster=roster, now=now)


def _check_size(packed: bytes, sender: str, expected: int) -> None:
    if len(packed) != expected:
        raise MalformedMessage(f"{sender} sent a vector of {len(packed)} bytes, the round's have {expected}")


def _open(header: ContributionHeader, *, ctx: bytes, slot: str, helper: str, seal_key: X25519PrivateKey) -> MaskSeed:
    sealed = next(each.sealed for each in header.seals if (each.slot, each.helper) == (slot, helper))
    try:
        return MaskSeed(open_seal(seal_key, sealed, associated=_seal_data(ctx, header.client, slot, helper)))
    except BadSeal as error:
        raise BadSeal(
            f"the seal of {header.client} does not open with the key of {helper} in this context", client=header.client
        ) from error


def _seal_data(ctx: bytes, client: str, slot: str, helper: str) -> bytes:
    return join_fields(_SEAL, ctx, client.encode(), slot.encode(), helper.encode())


def _contribution_message(
    ctx: bytes, client: str, declared_users: int, seals: tuple[Seal, ...], masked_digest: bytes
) -> bytes:
    parts = (part for each in seals for part in (each.slot.encode(), each.helper.encode(), each.sealed))
    users = declared_users.to_bytes(8, "big")
    return join_fields(_CONTRIBUTION, ctx, client.encode(), users, masked_digest, *parts)


def _answer_message(ctx: bytes, helper: str, slots: tuple[str, ...], cohort: bytes, sum_digest: bytes) -> bytes:
    named = join_fields(*(slot.encode() for slot in slots))
    return join_fields(_ANSWER, ctx, helper.encode(), named, cohort, sum_digest)


def _check_context(ctx: bytes) -> None:
    if len(ctx) != CONTEXT_BYTES:
        raise WrongContext(f"a context has {CONTEXT_BYTES} bytes, got {len(ctx)}")
