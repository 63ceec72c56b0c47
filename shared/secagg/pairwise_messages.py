"""What the parties of topology P say, what each signature covers, and the agreement that the first messages form.

Every signature is Ed25519 with the roster's key over: a label of its own, the context, and then, from the second
message on, the root. The root is the digest of all first messages, signatures included: parties that were shown
different lists have different roots, and then nothing of the one opens or verifies at the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import MalformedMessage, TooFewClients, WrongContext
from shared.roster import Roster
from shared.secagg.context import digest_fields, join_fields, vector_digest
from shared.secagg.graph import Graph, build_graph
from shared.secagg.pairwise_keys import check_point
from shared.secagg.pairwise_terms import PairwiseTerms
from shared.secagg.seal_key import POSSESSION_BYTES, require_possession
from shared.secagg.shamir import SHARE_BYTES

KEY_BYTES = 32
DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
SEALED_BYTES = 2 * SHARE_BYTES + 16
_BUNDLE = b"zhiyin/pairwise-bundle/2"
_ROOT = b"zhiyin/pairwise-root/1"
_DEALING = b"zhiyin/pairwise-dealing/1"
_VECTOR = b"zhiyin/pairwise-vector/2"
_ACTIVE = b"zhiyin/pairwise-active/1"
_SET = b"zhiyin/pairwise-set/1"
_UNMASKING = b"zhiyin/pairwise-unmasking/1"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """First message: a party's keys for this round alone.

    mask_key, seal_key: X25519, 32 bytes each. possession: shows that the party holds the secret of its seal key, 64
    bytes (`shared.secagg.seal_key`). commitment: to the seed of its own mask.
    declared_users: how many users it states in public; signed, so that a server cannot inflate a cohort.
    """

    client: str
    ctx: bytes
    declared_users: int
    mask_key: bytes
    seal_key: bytes
    possession: bytes
    commitment: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class SealedShares:
    """One neighbour's shares of both secrets. sealed: readable by that neighbour alone.

    self_digest, key_digest: commitments to either share, which show at once whose fault a wrong share is.
    """

    receiver: str
    sealed: bytes
    self_digest: bytes
    key_digest: bytes


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """Second message: shares of both secrets for every neighbour, sorted by receiver."""

    client: str
    ctx: bytes
    root: bytes
    shares: tuple[SealedShares, ...]
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What the server hands on: the shares that `sender` sealed to the reader."""

    sender: str
    shares: SealedShares


@dataclass(frozen=True, kw_only=True)
class MaskedVector:
    """Third message. masked: packed ring vector."""

    client: str
    ctx: bytes
    root: bytes
    masked: bytes = field(repr=False)
    signature: bytes

    @cached_property
    def masked_digest(self) -> bytes:
        """`vector_digest` of the vector: the dear part of checking it, done once however often it is checked."""
        return vector_digest(self.masked)


@dataclass(frozen=True, kw_only=True)
class ActiveSignature:
    """Fourth message: the one set of parties that this party will unmask. active: digest of the set."""

    client: str
    ctx: bytes
    root: bytes
    active: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Unmasking:
    """Fifth message: of each neighbour one share, of its own mask's seed if active, of its mask key if dropped."""

    client: str
    ctx: bytes
    root: bytes
    active: bytes
    self_shares: tuple[tuple[str, bytes], ...] = field(repr=False)
    key_shares: tuple[tuple[str, bytes], ...] = field(repr=False)
    signature: bytes


Signed = Dealing | MaskedVector | ActiveSignature | Unmasking
_S = TypeVar("_S", Bundle, Dealing, MaskedVector, ActiveSignature, Unmasking)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """All first messages, verified: who takes part with which keys, and the graph that follows from them."""

    ctx: bytes
    terms: PairwiseTerms
    bundles: Mapping[str, Bundle]
    root: bytes

    @cached_property
    def graph(self) -> Graph:
        return build_graph(self.root, tuple(self.bundles), self.terms.degree)

    def users(self, clients: Iterable[str]) -> int:
        """Users that these parties declare together."""
        return sum(self.bundles[client].declared_users for client in clients)


def agree(bundles: Sequence[Bundle], *, ctx: bytes, terms: PairwiseTerms, roster: Roster, now: int) -> Agreement:
    """Verify the whole list of first messages. Client and server do the same.

    Raises MalformedMessage (unsorted, a party or a key twice, too many), TooFewClients, WrongContext, UnknownKey,
    ExpiredKey, BadSignature.
    """
    names = [bundle.client for bundle in bundles]
    if names != sorted(set(names)):
        raise MalformedMessage("the parties of a round must be sorted by name and listed once")
    if len(names) > terms.num_parties:
        raise MalformedMessage(f"{len(names)} parties, {terms.num_parties} were invited")
    needed = max(terms.min_active, terms.threshold + 1)
    if len(names) < needed:
        raise TooFewClients(f"{len(names)} parties came, the sum needs {needed}")
    messages = [bundle_message(bundle) for bundle in bundles]
    for bundle, message in zip(bundles, messages, strict=True):
        _verify_bundle(bundle, message, ctx=ctx, roster=roster, now=now)
    keys = [key for bundle in bundles for key in (bundle.mask_key, bundle.seal_key, bundle.commitment)]
    if len(set(keys)) != len(keys):
        raise MalformedMessage("two parties show one key, or one party shows it for two purposes")
    root = digest_fields(
        _ROOT, *(part for each, message in zip(bundles, messages, strict=True) for part in (message, each.signature))
    )
    return Agreement(ctx=ctx, terms=terms, bundles={bundle.client: bundle for bundle in bundles}, root=root)


def verify_bundle(bundle: Bundle, *, ctx: bytes, roster: Roster, now: int) -> None:
    """Raise WrongContext, UnknownKey, ExpiredKey, MalformedMessage or BadSignature unless a tenant signed it.

    That it holds the secret of its seal key is another question, `verify_possession`: it costs as much again, and only
    a complaint rests on it.
    """
    _verify_bundle(bundle, bundle_message(bundle), ctx=ctx, roster=roster, now=now)


def _verify_bundle(bundle: Bundle, message: bytes, *, ctx: bytes, roster: Roster, now: int) -> None:
    member = roster.member_as(bundle.client, "tenant", now)
    if bundle.ctx != ctx:
        raise WrongContext(f"the keys of {bundle.client} are for another round or other parameters")
    sizes = len(bundle.mask_key), len(bundle.seal_key), len(bundle.commitment), len(bundle.possession)
    if sizes != (KEY_BYTES, KEY_BYTES, DIGEST_BYTES, POSSESSION_BYTES) or not 1 <= bundle.declared_users < 2**53:
        raise MalformedMessage(f"the keys of {bundle.client} have another size, or it declares no number of users")
    member.verify(bundle.signature, message)
    check_point(bundle.mask_key, bundle.client)
    check_point(bundle.seal_key, bundle.client)


def verify_possession(bundle: Bundle) -> None:
    """Raise BadSignature unless the party showed that it holds the secret of its seal key.

    For the server, which refuses the bundle, and for a party before it tells anything about this key.
    """
    require_possession(bundle.seal_key, bundle.possession, ctx=bundle.ctx, client=bundle.client)


def verify(message: Signed, *, agreement: Agreement, roster: Roster, now: int) -> None:
    """Raise UnknownKey, ExpiredKey, WrongContext or BadSignature unless a party of this agreement said it in it."""
    if message.client not in agreement.bundles:
        raise WrongContext(f"{message.client} is not among the parties of this round")
    if message.ctx != agreement.ctx or message.root != agreement.root:
        raise WrongContext(f"a message of {message.client} is for another round or another list of parties")
    roster.member_as(message.client, "tenant", now).verify(message.signature, signed_bytes(message))


def bundle_message(bundle: Bundle) -> bytes:
    """What the signature of a first message is over."""
    users = bundle.declared_users.to_bytes(8, "big")
    keys = (bundle.mask_key, bundle.seal_key, bundle.possession, bundle.commitment)
    return join_fields(_BUNDLE, bundle.ctx, bundle.client.encode(), users, *keys)


def signed_bytes(message: Signed) -> bytes:
    """What the signature of a later message is over."""
    start = (message.ctx, message.root, message.client.encode())
    match message:
        case Dealing():
            parts = (
                part
                for each in message.shares
                for part in (each.receiver.encode(), each.sealed, each.self_digest, each.key_digest)
            )
            return join_fields(_DEALING, *start, *parts)
        case MaskedVector():
            return vector_message(*start[:2], message.client, message.masked_digest)
        case ActiveSignature():
            return join_fields(_ACTIVE, *start, message.active)
        case Unmasking():
            lists = (join_fields(*(part for owner, share in shares for part in (owner.encode(), share)))
                     for shares in (message.self_shares, message.key_shares))  # fmt: skip
            return join_fields(_UNMASKING, *start, message.active, *lists)


def vector_message(ctx: bytes, root: bytes, client: str, masked_digest: bytes) -> bytes:
    """What the signature of a masked vector is over. masked_digest: `vector_digest` of it."""
    return join_fields(_VECTOR, ctx, root, client.encode(), masked_digest)


def signed(message: _S, signing_key: Ed25519PrivateKey) -> _S:
    """The message with its signature in the place of whatever was there."""
    unsigned = bundle_message(message) if isinstance(message, Bundle) else signed_bytes(message)
    return replace(message, signature=signing_key.sign(unsigned))


def active_digest(active: Sequence[str]) -> bytes:
    """Names a set of parties; raises MalformedMessage unless they are sorted and each is there once."""
    if list(active) != sorted(set(active)):
        raise MalformedMessage("the active parties must be sorted by name and listed once")
    return digest_fields(_SET, *(name.encode() for name in active))
