"""Topology P, the server's side: hand shares on, and open the sum of the active parties, exactly (pure functions)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import MalformedMessage, TooFewClients, WrongContext, WrongShare
from shared.roster import Roster
from shared.secagg import ring
from shared.secagg.pairwise_keys import pair_key, private_key, public_key, self_commitment, share_digest
from shared.secagg.pairwise_messages import (
    DIGEST_BYTES,
    SEALED_BYTES,
    Agreement,
    Dealing,
    Delivery,
    MaskedVector,
    SealedShares,
    Unmasking,
    active_digest,
    verify,
)
from shared.secagg.prg import MaskSeed, sum_packed
from shared.secagg.secret import Secret
from shared.secagg.shamir import Interpolation


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedSum:
    """total: int64 (num_coordinates,). active: whose vectors are in it.

    liars: parties that handed in other shares than had been dealt to them; the total does not depend on those.
    """

    total: NDArray[np.int64]
    active: tuple[str, ...]
    liars: tuple[str, ...]


def check_dealing(dealing: Dealing, *, agreement: Agreement, roster: Roster, now: int) -> None:
    """Raise MalformedMessage unless it deals to exactly the neighbours; WrongContext, UnknownKey, BadSignature, ..."""
    verify(dealing, agreement=agreement, roster=roster, now=now)
    if tuple(each.receiver for each in dealing.shares) != agreement.graph.neighbours(dealing.client):
        raise MalformedMessage(f"{dealing.client} deals to others than its neighbours")
    sizes = {(len(each.sealed), len(each.self_digest), len(each.key_digest)) for each in dealing.shares}
    if sizes != {(SEALED_BYTES, DIGEST_BYTES, DIGEST_BYTES)}:
        raise MalformedMessage(f"{dealing.client} deals shares of another size")


def deliveries_to(receiver: str, dealings: Sequence[Dealing]) -> tuple[Delivery, ...]:
    """What the dealt shares come to for one party, sorted by sender. dealings: those of all that dealt, checked."""
    found = (
        Delivery(sender=dealing.client, shares=each)
        for dealing in dealings
        for each in dealing.shares
        if each.receiver == receiver
    )
    return tuple(sorted(found, key=lambda delivery: delivery.sender))


def check_vector(
    vector: MaskedVector, *, agreement: Agreement, roster: Roster, now: int, bits: int, num_coordinates: int
) -> None:
    """Raise MalformedMessage for another length; WrongContext, UnknownKey, ExpiredKey, BadSignature."""
    size = ring.size_bytes(bits, num_coordinates)
    if len(vector.masked) != size:
        raise MalformedMessage(f"{vector.client} sent a vector of {len(vector.masked)} bytes, the round's have {size}")
    verify(vector, agreement=agreement, roster=roster, now=now)


def open_pairwise_sum(
    *,
    agreement: Agreement,
    dealings: Sequence[Dealing],
    vectors: Sequence[MaskedVector],
    unmaskings: Sequence[Unmasking],
    roster: Roster,
    now: int,
    bits: int,
    num_coordinates: int,
) -> OpenedSum:
    """The sum of the vectors in [-2^(b-1), 2^(b-1)), as the ring has it.

    dealings: of everyone whose shares were handed on. unmaskings: of as many active parties as answered.
    Every message is verified again. A share that its holder changed is left out and the holder named in `liars`.
    Raises WrongShare naming an owner whose dealt shares do not give what it committed to, TooFewClients if a secret has
    fewer good shares than the threshold, MalformedMessage, WrongContext, UnknownKey, ExpiredKey, BadSignature.
    """
    active = _names("vector", [vector.client for vector in vectors])
    dealt = _names("dealing", [dealing.client for dealing in dealings])
    _names("unmasking", [each.client for each in unmaskings])
    if len(active) < agreement.terms.min_active or not set(active) <= set(dealt):
        raise TooFewClients(f"{len(active)} active parties, all of which must have dealt; the minimum is "
                            f"{agreement.terms.min_active}")  # fmt: skip
    for dealing in dealings:
        check_dealing(dealing, agreement=agreement, roster=roster, now=now)
    for vector in vectors:
        check_vector(vector, agreement=agreement, roster=roster, now=now, bits=bits, num_coordinates=num_coordinates)
    for unmasking in unmaskings:
        _check_unmasking(unmasking, active, dealt, agreement=agreement, roster=roster, now=now)
    shares = _Shares(agreement, dealings, unmaskings)
    added, subtracted = _masks_left(set(active), set(dealt), agreement, shares)
    masked = [vector.masked for vector in vectors]
    total = sum_packed(masked, bits, num_coordinates, added=subtracted, subtracted=added)
    return OpenedSum(total=total, active=active, liars=tuple(sorted(shares.liars)))


def _masks_left(
    active: set[str], dealt: set[str], agreement: Agreement, shares: "_Shares"
) -> tuple[list[bytes], list[bytes]]:
    """Keys of the streams that the vectors' sum holds: those that were added, those that were subtracted."""
    ctx = agreement.ctx
    added = [MaskSeed(shares.self_seed(owner)).key(ctx) for owner in sorted(active)]
    subtracted: list[bytes] = []
    for owner in sorted(dealt - active):
        left = active.intersection(agreement.graph.neighbours(owner))
        if not left:
            continue
        private = private_key(Secret(shares.mask_secret(owner)))
        for peer in sorted(left):
            key = pair_key(private, agreement.bundles[peer].mask_key, ctx=ctx, own=owner, peer=peer)
            # The peer added the mask if the dropped party comes before it.
            (added if owner < peer else subtracted).append(key)
    return added, subtracted


class _Shares:
    """Good shares by owner and point; who sent a bad one is noted."""

    def __init__(self, agreement: Agreement, dealings: Sequence[Dealing], unmaskings: Sequence[Unmasking]) -> None:
        self._agreement = agreement
        self._dealt = {(dealing.client, each.receiver): each for dealing in dealings for each in dealing.shares}
        self._interpolations: dict[tuple[int, ...], Interpolation] = {}
        self.liars: set[str] = set()
        self._good: dict[tuple[str, str], dict[int, bytes]] = {}
        for unmasking in unmaskings:
            for kind, given in (("self", unmasking.self_shares), ("key", unmasking.key_shares)):
                for owner, share in given:
                    self._take(kind, owner, unmasking.client, share)

    def self_seed(self, owner: str) -> bytes:
        bundle = self._agreement.bundles[owner]
        return self._secret(
            "self",
            owner,
            lambda seed: self_commitment(seed, ctx=self._agreement.ctx, client=owner) == bundle.commitment,
        )

    def mask_secret(self, owner: str) -> bytes:
        bundle = self._agreement.bundles[owner]
        return self._secret("key", owner, lambda secret: public_key(secret) == bundle.mask_key)

    def _take(self, kind: str, owner: str, holder: str, share: bytes) -> None:
        dealt: SealedShares = self._dealt[owner, holder]
        digest = share_digest(
            share, kind=kind, ctx=self._agreement.ctx, root=self._agreement.root, owner=owner, holder=holder
        )
        if digest != (dealt.self_digest if kind == "self" else dealt.key_digest):
            self.liars.add(holder)
            return
        self._good.setdefault((kind, owner), {})[self._agreement.graph.points[holder]] = share

    def _secret(self, kind: str, owner: str, is_committed: Callable[[bytes], bool]) -> bytes:
        good: Mapping[int, bytes] = self._good.get((kind, owner), {})
        threshold = self._agreement.terms.threshold
        if len(good) < threshold:
            blame = f"; bad shares came from {', '.join(sorted(self.liars))}" if self.liars else ""
            raise TooFewClients(f"{len(good)} good shares of a secret of {owner}, it opens from {threshold} on{blame}")
        points = tuple(sorted(good)[:threshold])
        if points not in self._interpolations:
            self._interpolations[points] = Interpolation.through(points, threshold=threshold)
        try:
            secret = self._interpolations[points].secret({point: good[point] for point in points})
        except WrongShare:
            secret = b""
        # Its holders returned what it dealt, so the fault is its own.
        if not secret or not is_committed(secret):
            raise WrongShare(f"the shares that {owner} dealt do not give the secret that it committed to", owner=owner)
        return secret


def _check_unmasking(
    unmasking: Unmasking,
    active: tuple[str, ...],
    dealt: tuple[str, ...],
    *,
    agreement: Agreement,
    roster: Roster,
    now: int,
) -> None:
    verify(unmasking, agreement=agreement, roster=roster, now=now)
    if unmasking.active != active_digest(active) or unmasking.client not in active:
        raise WrongContext(f"{unmasking.client} unmasks another set of active parties, or is not in it")
    neighbours = set(agreement.graph.neighbours(unmasking.client)).intersection(dealt)
    for shares, is_active in ((unmasking.self_shares, True), (unmasking.key_shares, False)):
        owners = [owner for owner, _ in shares]
        if owners != sorted(set(owners)) or not set(owners) <= neighbours:
            raise MalformedMessage(f"{unmasking.client} sends shares of others than dealt to it, or one twice")
        if any((owner in active) is not is_active for owner in owners):
            raise MalformedMessage(f"{unmasking.client} sends the wrong kind of share")


def _names(what: str, names: list[str]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise MalformedMessage(f"one party's {what} is there twice")
    return tuple(sorted(names))
