"""Secure aggregation without helpers, the client's side as pure steps (topology P; signed pairwise masks).

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS, section 6 for the
active server) on the graph of Bell et al. 2020; see `shared.secagg.graph` for what the numbers must satisfy.

    R0  advertise     keys for this round, a commitment to the own mask's seed b_i, signed
    R1  deal          verify everybody's R0; shares of b_i and of the mask key, sealed to each neighbour, signed
    R2  mask_vector   y_i = q_i + PRG(b_i) + sum_{j<i} PRG(s_ij) - sum_{j>i} PRG(s_ij), over neighbours j that dealt
    R3  sign_active   one set A that this party is in, signed
    R4  unmask        a quorum signed the same A: b-shares of active neighbours, key-shares of dropped ones, never both

Against a server that lies, with up to c tenants on its side: all that opens is one sum, over all honest parties of one
set A of at least min_active parties. Without the quorum it would be one sum for each set that some neighbourhood agrees
on. The server can always prevent the round; a tenant's own vector is hidden, hence unchecked.

In place of R2 a party whose neighbour dealt it shares that do not open can prove that (`prove_bad_shares`), to anybody.

**Secrets between steps.** A client that stops between messages keeps its state with `shared.secagg.pairwise_state`:
durably, encrypted, and *before* the message of the step leaves, or a restart could sign a second set. Steps after the
first draw no randomness, so a step repeated from the same state and input says the same bytes. Each new state drops
what later steps do not need; Python cannot promise that memory is overwritten.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from shared.errors import BadSetting, IllegalTransition, MalformedMessage, TooFewClients, WrongContext
from shared.roster import Roster
from shared.secagg.context import VectorHasher
from shared.secagg.graph import quorum
from shared.secagg.pairwise_keys import (
    dealing_key,
    exchange,
    pair_key,
    private_key,
    public_key,
    seal_shares,
    self_commitment,
    share_digest,
)
from shared.secagg.pairwise_messages import (
    ActiveSignature,
    Agreement,
    Bundle,
    Dealing,
    Delivery,
    MaskedVector,
    SealedShares,
    Unmasking,
    active_digest,
    agree,
    signed,
    vector_message,
    verify,
)
from shared.secagg.pairwise_state import Advertised, ClientState, Committed, Dealt, Finished, Masked
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from shared.secagg.prg import Keystream, MaskSeed, mask_packed
from shared.secagg.seal_key import make_seal_key
from shared.secagg.secret import Secret
from shared.secagg.shamir import SHARE_BYTES, split
from shared.secagg.share_complaint import ShareComplaint, complain_of_shares, open_dealt

RandomBytes = Callable[[int], bytes]


_State = TypeVar("_State")


def advertise(
    *,
    base: bytes,
    client: str,
    declared_users: int,
    terms: PairwiseTerms,
    minima: PairwiseMinima,
    roster: Roster,
    signing_key: Ed25519PrivateKey,
    random_bytes: RandomBytes,
) -> tuple[Advertised, Bundle]:
    """R0. base: the context of what is summed, from `context`; terms: what the server asks, held against `minima`.

    random_bytes: the operating system's, e.g. os.urandom; asked for 4 x 32 bytes, the only randomness of the round.
    Raises PolicyViolation or BadSetting for terms below the minima, WrongContext.
    """
    if not 1 <= declared_users < 2**53:
        raise BadSetting(f"declared_users must be at least 1, got {declared_users}")
    num_tenants = sum("tenant" in member.roles for member in roster.entries)
    minima.check(terms, num_tenants=num_tenants)
    ctx = terms.context(base)
    mask_secret, seal_seed, self_seed, dealing_seed = (random_bytes(32) for _ in range(4))
    seal_secret, seal_key, possession = make_seal_key(seal_seed, ctx=ctx, client=client)
    unsigned = Bundle(
        client=client,
        ctx=ctx,
        declared_users=declared_users,
        mask_key=public_key(mask_secret),
        seal_key=seal_key,
        possession=possession,
        commitment=self_commitment(self_seed, ctx=ctx, client=client),
        signature=b"",
    )
    bundle = signed(unsigned, signing_key)
    state = Advertised(
        ctx=ctx,
        client=client,
        terms=terms,
        minima=minima,
        num_tenants=num_tenants,
        bundle=bundle,
        mask_secret=Secret(mask_secret),
        seal_secret=Secret(seal_secret),
        self_seed=Secret(self_seed),
        dealing_seed=Secret(dealing_seed),
    )
    return state, bundle


def deal(
    state: ClientState, bundles: Sequence[Bundle], *, roster: Roster, now: int, signing_key: Ed25519PrivateKey
) -> tuple[Dealt, Dealing]:
    """R1. bundles: everybody's first message, the own one among them, sorted by name.

    Raises IllegalTransition out of order; PolicyViolation if so few came that the threshold no longer protects;
    TooFewClients, MalformedMessage, WrongContext, UnknownKey, ExpiredKey, BadSignature.
    """
    before = _in_phase(state, Advertised)
    agreement = agree(bundles, ctx=before.ctx, terms=before.terms, roster=roster, now=now)
    if agreement.bundles.get(before.client) != before.bundle:
        raise WrongContext(f"the list of parties does not hold the keys that {before.client} sent")
    before.minima.check_threshold(before.terms, num_parties=len(bundles), num_tenants=before.num_tenants)
    shares = _deal_to_neighbours(before, agreement)
    unsigned = Dealing(client=before.client, ctx=before.ctx, root=agreement.root, shares=shares, signature=b"")
    after = Dealt(
        client=before.client,
        minima=before.minima,
        num_tenants=before.num_tenants,
        agreement=agreement,
        mask_secret=before.mask_secret,
        seal_secret=before.seal_secret,
        self_seed=before.self_seed,
    )
    return after, signed(unsigned, signing_key)


def check_deliveries(state: ClientState, deliveries: Sequence[Delivery]) -> None:
    """Raise what `mask_vector` raises for these deliveries: for asking before the vector is computed and paid for."""
    _open_deliveries(_in_phase(state, Dealt), deliveries)


def prove_bad_shares(
    state: ClientState, dealing: Dealing, *, roster: Roster, now: int, signing_key: Ed25519PrivateKey
) -> ShareComplaint:
    """In place of R2: the proof that this party's shares in a signed dealing do not open. Changes no state.

    Raises IllegalTransition, WrongContext (they do open, or are another party's), MalformedMessage, UnknownKey,
    ExpiredKey, BadSignature.
    """
    before = _in_phase(state, Dealt)
    return complain_of_shares(
        dealing,
        client=before.client,
        seal_secret=before.seal_secret,
        agreement=before.agreement,
        roster=roster,
        now=now,
        signing_key=signing_key,
    )


def mask_vector(
    state: ClientState,
    deliveries: Sequence[Delivery],
    values: NDArray[np.int64],
    *,
    bits: int,
    signing_key: Ed25519PrivateKey,
) -> tuple[Masked, MaskedVector]:
    """R2. deliveries: what neighbours sealed to this party, sorted by sender. values: (num_coordinates,), noise inside.

    Raises IllegalTransition, TooFewClients (fewer neighbours dealt than open a secret), MalformedMessage, UnknownKey,
    BadSeal, WrongShare (a neighbour dealt other shares than it committed to), CapacityExceeded.
    """
    before = _in_phase(state, Dealt)
    held = _open_deliveries(before, deliveries)
    private, bundles = private_key(before.mask_secret), before.agreement.bundles
    keys = {
        peer: pair_key(private, bundles[peer].mask_key, ctx=before.ctx, own=before.client, peer=peer)
        for peer, _ in held
    }
    own = MaskSeed(before.self_seed.reveal()).key(before.ctx)
    hasher = VectorHasher()
    masked = mask_packed(
        values,
        bits,
        added=[own, *(key for peer, key in keys.items() if peer < before.client)],
        subtracted=[key for peer, key in keys.items() if peer > before.client],
        watch=hasher.update,
    )
    root = before.agreement.root
    signature = signing_key.sign(vector_message(before.ctx, root, before.client, hasher.digest()))
    vector = MaskedVector(client=before.client, ctx=before.ctx, root=root, masked=masked, signature=signature)
    after = Masked(
        client=before.client,
        minima=before.minima,
        num_tenants=before.num_tenants,
        agreement=before.agreement,
        held=held,
    )
    return after, vector


def sign_active(
    state: ClientState, active: Sequence[str], *, signing_key: Ed25519PrivateKey
) -> tuple[Committed, ActiveSignature]:
    """R3. active: whose vectors arrived, sorted by name.

    Raises IllegalTransition (out of order, a second set, a set without this party, a neighbour in it whose shares never
    came), TooFewClients (parties, users, or neighbours), MalformedMessage, WrongContext.
    """
    before = _in_phase(state, Masked)
    agreement, digest = before.agreement, active_digest(active)
    strangers = set(active) - set(agreement.bundles)
    if strangers:
        raise WrongContext(f"{min(strangers)} is not among the parties of this round")
    if before.client not in active:
        raise IllegalTransition(f"{before.client} sent its vector and signs no set of active parties without itself")
    _check_enough("active parties", len(active), agreement.terms.min_active)
    _check_enough("users of the active parties", agreement.users(active), before.minima.min_users)
    neighbours = set(agreement.graph.neighbours(before.client)) & set(active)
    # Its masks with these are missing from its vector: signing would let the server cut the graph edge by edge.
    unmasked = neighbours - {peer for peer, _ in before.held}
    if unmasked:
        raise IllegalTransition(f"{min(unmasked)} is said to be active, but its shares never reached {before.client}")
    _check_enough("active neighbours", len(neighbours), agreement.terms.threshold)
    unsigned = ActiveSignature(client=before.client, ctx=before.ctx, root=agreement.root, active=digest, signature=b"")
    after = Committed(
        client=before.client,
        minima=before.minima,
        num_tenants=before.num_tenants,
        agreement=agreement,
        held=before.held,
        active=tuple(active),
    )
    return after, signed(unsigned, signing_key)


def unmask(
    state: ClientState,
    signatures: Sequence[ActiveSignature],
    *,
    roster: Roster,
    now: int,
    signing_key: Ed25519PrivateKey,
) -> tuple[Finished, Unmasking]:
    """R4. signatures: other parties', on the set that this party signed; neighbours above the threshold among them.

    As many are verified as it takes, neighbours' first.

    Raises IllegalTransition, TooFewClients below the threshold of neighbours or the quorum of all, MalformedMessage (a
    signer twice), WrongContext (another set, list or round; a signer outside the set), UnknownKey, ExpiredKey,
    BadSignature.
    """
    before = _in_phase(state, Committed)
    agreement, digest = before.agreement, active_digest(before.active)
    signers = {before.client}
    for each in signatures:
        if each.active != digest or each.client not in before.active:
            raise WrongContext(f"{each.client} signed another set of active parties, or is not in it")
        if each.client in signers:
            raise MalformedMessage(f"the signature of {each.client} is counted twice")
        signers.add(each.client)
    neighbours = signers & set(agreement.graph.neighbours(before.client))
    threshold = agreement.terms.threshold
    _check_enough("neighbours that signed the active set", len(neighbours), threshold)
    needed = quorum(len(agreement.bundles), before.minima.colluding(before.num_tenants))
    _check_enough("parties that signed the active set", len(signers), needed)
    # Neighbours first, then as many as the quorum asks for, itself among them: no more could change what is done.
    ordered = sorted(signatures, key=lambda each: each.client not in neighbours)
    for each in ordered[: max(threshold, needed - 1)]:
        verify(each, agreement=agreement, roster=roster, now=now)
    active = set(before.active)
    shares = [(owner, secret.reveal()) for owner, secret in before.held]
    unsigned = Unmasking(
        client=before.client,
        ctx=before.ctx,
        root=agreement.root,
        active=digest,
        self_shares=tuple((owner, both[:SHARE_BYTES]) for owner, both in shares if owner in active),
        key_shares=tuple((owner, both[SHARE_BYTES:]) for owner, both in shares if owner not in active),
        signature=b"",
    )
    return Finished(client=before.client, ctx=before.ctx), signed(unsigned, signing_key)


def _in_phase(state: ClientState, wanted: type[_State]) -> _State:
    if type(state) is not wanted:
        raise IllegalTransition(
            f"{state.client} is {type(state).__name__.lower()} in this round, not {wanted.__name__.lower()}"
        )
    return state


def _deal_to_neighbours(state: Advertised, agreement: Agreement) -> tuple[SealedShares, ...]:
    graph = agreement.graph
    neighbours = graph.neighbours(state.client)
    points = [graph.points[name] for name in neighbours]

    def deal_out(kind: str, secret: Secret) -> tuple[bytes, ...]:
        key = dealing_key(state.dealing_seed, ctx=state.ctx, root=agreement.root, kind=kind)
        return split(secret.reveal(), threshold=state.terms.threshold, points=points, random_bytes=Keystream(key).read)

    dealt = zip(neighbours, deal_out("self", state.self_seed), deal_out("key", state.mask_secret), strict=True)
    private = private_key(state.seal_secret)
    return tuple(_seal_to(state, agreement, private, *each) for each in dealt)


def _seal_to(
    state: Advertised,
    agreement: Agreement,
    private: X25519PrivateKey,
    receiver: str,
    self_share: bytes,
    key_share: bytes,
) -> SealedShares:
    place = {"ctx": state.ctx, "root": agreement.root}
    public = agreement.bundles[receiver].seal_key
    return SealedShares(
        receiver=receiver,
        sealed=seal_shares(self_share + key_share, private, public, sender=state.client, receiver=receiver, **place),
        self_digest=share_digest(self_share, kind="self", owner=state.client, holder=receiver, **place),
        key_digest=share_digest(key_share, kind="key", owner=state.client, holder=receiver, **place),
    )


def _open_deliveries(state: Dealt, deliveries: Sequence[Delivery]) -> tuple[tuple[str, Secret], ...]:
    senders = [delivery.sender for delivery in deliveries]
    if senders != sorted(set(senders)):
        raise MalformedMessage("deliveries must be sorted by sender, one each")
    strangers = set(senders) - set(state.agreement.graph.neighbours(state.client))
    if strangers:
        raise WrongContext(f"{min(strangers)} is not a neighbour of {state.client} and deals it no shares")
    _check_enough("neighbours that dealt shares", len(senders), state.agreement.terms.threshold)
    private = private_key(state.seal_secret)
    return tuple((each.sender, _open_delivery(state, private, each)) for each in deliveries)


def _open_delivery(state: Dealt, private: X25519PrivateKey, delivery: Delivery) -> Secret:
    sender, shares = delivery.sender, delivery.shares
    if shares.receiver != state.client:
        raise WrongContext(f"shares of {sender} for {shares.receiver} were delivered to {state.client}")
    exchanged = exchange(private, state.agreement.bundles[sender].seal_key, sender)
    return Secret(open_dealt(shares, exchanged, dealer=sender, agreement=state.agreement))


def _check_enough(what: str, count: int, least: int) -> None:
    if count < least:
        raise TooFewClients(f"{count} {what}, the minimum is {least}")
