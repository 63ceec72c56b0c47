"""A neighbour's proof that the shares which a party dealt it do not open, which anybody can check (topology P).

The dealer signed its dealing, and the shares for this neighbour are sealed under a key that follows from the X25519
exchange of the two round keys. The complaint tells that exchange and proves that it is one
(`shared.secagg.exchange_proof`). With it everybody opens the same bytes and finds what the neighbour found.

**What is told endangers nobody.** The exchange opens the seals between these two parties, both ways, and nothing else:
the round keys serve this round alone. It is told only about a dealing that carries the dealer's signature and does not
open here, so never about an honest dealer, whatever the server delivered; and only of a dealer that showed that it
holds the secret of its key (`shared.secagg.seal_key`), so that it could have computed the exchange itself, and its
accomplices have what it opens already. An honest party that was dealt good shares cannot be made to speak.
"""

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import BadSeal, MalformedMessage, WrongContext, WrongShare
from shared.roster import Roster
from shared.secagg.context import digest_fields, join_fields
from shared.secagg.exchange_proof import prove_exchange, verify_exchange
from shared.secagg.pairwise_keys import open_exchanged, share_digest
from shared.secagg.pairwise_messages import Agreement, Dealing, SealedShares, signed_bytes, verify_possession
from shared.secagg.pairwise_opening import check_dealing
from shared.secagg.secret import Secret
from shared.secagg.shamir import SHARE_BYTES

_LABEL = b"zhiyin/share-complaint/1"
_STATEMENT = b"zhiyin/share-complaint-statement/1"


@dataclass(frozen=True, kw_only=True)
class ShareComplaint:
    """What a party says of one dealer. dealt: digest of the signed dealing that it is about.

    exchange: the exchange of the seal keys of the two, as a point. proof: that it is. signature: over all of it.
    """

    client: str
    ctx: bytes
    root: bytes
    dealer: str
    dealt: bytes
    exchange: bytes
    proof: bytes
    signature: bytes


def open_dealt(shares: SealedShares, exchanged: bytes, *, dealer: str, agreement: Agreement) -> bytes:
    """Both shares that `dealer` sealed to the receiver, checked against what it committed to; one after the other.

    exchanged: the X25519 exchange of the two seal keys. Raises BadSeal or WrongShare, naming the dealer.
    """
    place = {"ctx": agreement.ctx, "root": agreement.root}
    both = open_exchanged(shares.sealed, exchanged, sender=dealer, receiver=shares.receiver, **place)
    given = (("self", both[:SHARE_BYTES], shares.self_digest), ("key", both[SHARE_BYTES:], shares.key_digest))
    for kind, share, digest in given:
        if share_digest(share, kind=kind, owner=dealer, holder=shares.receiver, **place) != digest:
            raise WrongShare(f"{dealer} dealt {shares.receiver} another share than it committed to", owner=dealer)
    return both


def complain_of_shares(
    dealing: Dealing,
    *,
    client: str,
    seal_secret: Secret,
    agreement: Agreement,
    roster: Roster,
    now: int,
    signing_key: Ed25519PrivateKey,
) -> ShareComplaint:
    """The proof of `client` that its shares in this dealing do not open.

    dealing: whole and with the dealer's signature, which is verified. Raises WrongContext if the shares do open, or are
    not for this client, BadSignature if the dealer never showed that it holds the secret of its key, and what
    `check_dealing` raises.
    """
    check_dealing(dealing, agreement=agreement, roster=roster, now=now)
    # A key that was made out of an honest party's would turn what is told into the exchange of two honest parties.
    verify_possession(agreement.bundles[dealing.client])
    own, peer = agreement.bundles[client].seal_key, agreement.bundles[dealing.client].seal_key
    dealt = _digest(dealing)
    statement = _statement(agreement, client, dealing.client, dealt)
    point, proof = prove_exchange(seal_secret.reveal(), own, peer, statement)
    # With the exchange as everybody will have it, so that nothing is said that would not convince them.
    _require_unopened(dealing, client, verify_exchange(point, proof, own, peer, statement), agreement)
    unsigned = ShareComplaint(
        client=client,
        ctx=agreement.ctx,
        root=agreement.root,
        dealer=dealing.client,
        dealt=dealt,
        exchange=point,
        proof=proof,
        signature=b"",
    )
    return replace(unsigned, signature=signing_key.sign(_message(unsigned)))


def verify_share_complaint(
    complaint: ShareComplaint, dealing: Dealing, *, agreement: Agreement, roster: Roster, now: int
) -> None:
    """Return only if the dealer signed shares for this party that do not open.

    Raises WrongContext for a complaint about another round or dealing, or one that is not true; UnknownKey, ExpiredKey,
    BadSignature (of the complaint, the proof or the dealing), MalformedMessage.
    """
    if complaint.client not in agreement.bundles or complaint.dealer != dealing.client:
        raise WrongContext(f"a complaint of {complaint.client} is about parties that are not in this round")
    if (complaint.ctx, complaint.root) != (agreement.ctx, agreement.root) or complaint.dealt != _digest(dealing):
        raise WrongContext(f"a complaint of {complaint.client} is about another round or another dealing")
    check_dealing(dealing, agreement=agreement, roster=roster, now=now)
    roster.member_as(complaint.client, "tenant", now).verify(complaint.signature, _message(complaint))
    own, peer = (agreement.bundles[name].seal_key for name in (complaint.client, complaint.dealer))
    statement = _statement(agreement, complaint.client, complaint.dealer, complaint.dealt)
    exchanged = verify_exchange(complaint.exchange, complaint.proof, own, peer, statement)
    _require_unopened(dealing, complaint.client, exchanged, agreement)


def _require_unopened(dealing: Dealing, client: str, exchanged: bytes, agreement: Agreement) -> None:
    dealt = [each for each in dealing.shares if each.receiver == client]
    if not dealt:
        raise MalformedMessage(f"{dealing.client} deals {client} no shares, for they are no neighbours")
    try:
        open_dealt(dealt[0], exchanged, dealer=dealing.client, agreement=agreement)
    except (BadSeal, WrongShare):
        return
    raise WrongContext(f"the shares that {dealing.client} dealt {client} do open")


def _digest(dealing: Dealing) -> bytes:
    return digest_fields(_LABEL, signed_bytes(dealing), dealing.signature)


def _statement(agreement: Agreement, client: str, dealer: str, dealt: bytes) -> bytes:
    return join_fields(_STATEMENT, agreement.ctx, agreement.root, client.encode(), dealer.encode(), dealt)


def _message(complaint: ShareComplaint) -> bytes:
    parties = (complaint.client.encode(), complaint.dealer.encode())
    told = (complaint.dealt, complaint.exchange, complaint.proof)
    return join_fields(_LABEL, complaint.ctx, complaint.root, *parties, *told)
