"""What pairs of parties derive from their keys, and the commitments that keep each to what it dealt (topology P)."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import BadSeal, UnknownKey
from shared.secagg.context import digest_fields, join_fields
from shared.secagg.secret import Secret

_PAIR = b"zhiyin/pairwise-mask/1"
_SEAL = b"zhiyin/pairwise-seal/1"
_DEAL = b"zhiyin/pairwise-deal/1"
_SELF = b"zhiyin/pairwise-self/1"
_SHARE = b"zhiyin/pairwise-share/1"
_KEY_BYTES = 32
# The key of a seal is one direction of one pair in one round under one list of parties: it encrypts once.
_NONCE = bytes(12)
FIELD_PRIME = 2**255 - 19
# The u-coordinates of every point whose order divides 8, on Curve25519 and on its twist: 0 of order 1 and 2, 1 and -1
# of order 4, the others of order 8, roots of (u^2 - 1)^2 = 4 u (u^2 + 486662 u + 1), where doubling gives 1.
_LOW_ORDER = frozenset(
    {
        0,
        1,
        FIELD_PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


def public_key(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def private_key(secret: Secret) -> X25519PrivateKey:
    """The secret ready for exchanges: made once for all of a party's neighbours, for it costs as much as an exchange.

    Raises ValueError unless it has 32 bytes.
    """
    return X25519PrivateKey.from_private_bytes(secret.reveal())


def check_point(public: bytes, owner: str) -> None:
    """Raise UnknownKey unless an exchange with this X25519 key gives a secret (RFC 7748, section 6.1).

    X25519 ignores the highest bit, and takes u-coordinates that are not reduced.
    """
    u = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if len(public) != _KEY_BYTES or u % FIELD_PRIME in _LOW_ORDER:
        raise UnknownKey(f"a key of {owner} is not a usable X25519 public key")


def pair_key(private: X25519PrivateKey, public: bytes, *, ctx: bytes, own: str, peer: str) -> bytes:
    """The AES key of the mask that two parties share; the same for both. Raises UnknownKey for a key that is none."""
    low, high = sorted((own, peer))
    return _derive(exchange(private, public, peer), ctx, join_fields(_PAIR, low.encode(), high.encode()))


def dealing_key(seed: Secret, *, ctx: bytes, root: bytes, kind: str) -> bytes:
    """The key that a party's polynomial is drawn with.

    Fixed by the seed and the list of parties, so dealing again after a restart gives the same bytes and never a second
    text under one key.
    """
    return _derive(seed.reveal(), ctx, join_fields(_DEAL, root, kind.encode()))


def seal_shares(
    plain: bytes, private: X25519PrivateKey, public: bytes, *, ctx: bytes, root: bytes, sender: str, receiver: str
) -> bytes:
    """`plain` for the receiver alone, who then knows that this sender sealed it, here and to nobody else."""
    cipher, associated = _channel(exchange(private, public, receiver), ctx, root, sender, receiver)
    return cipher.encrypt(_NONCE, plain, associated)


def exchange(private: X25519PrivateKey, public: bytes, owner: str) -> bytes:
    """X25519 with the key of `owner`, 32 bytes. Raises UnknownKey for a key that is none."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise UnknownKey(f"a key of {owner} is not a usable X25519 public key") from error


def open_exchanged(sealed: bytes, exchanged: bytes, *, ctx: bytes, root: bytes, sender: str, receiver: str) -> bytes:
    """Inverse of `seal_shares`, from the exchange of the two keys. Raises BadSeal naming the sender."""
    cipher, associated = _channel(exchanged, ctx, root, sender, receiver)
    try:
        return cipher.decrypt(_NONCE, sealed, associated)
    except InvalidTag as error:
        message = f"the shares that {sender} sealed to {receiver} do not open in this round"
        raise BadSeal(message, client=sender) from error


def self_commitment(seed: bytes, *, ctx: bytes, client: str) -> bytes:
    """Commits a party to the seed of its own mask, 32 random bytes: hiding and binding as SHA-256 is."""
    return digest_fields(_SELF, ctx, client.encode(), seed)


def share_digest(share: bytes, *, kind: str, ctx: bytes, root: bytes, owner: str, holder: str) -> bytes:
    """Commits an owner to the share it dealt to a holder: 33 bytes that are uniform to who lacks `threshold` shares."""
    return digest_fields(_SHARE, kind.encode(), ctx, root, owner.encode(), holder.encode(), share)


def _channel(exchanged: bytes, ctx: bytes, root: bytes, sender: str, receiver: str) -> tuple[ChaCha20Poly1305, bytes]:
    direction = join_fields(_SEAL, ctx, root, sender.encode(), receiver.encode())
    return ChaCha20Poly1305(_derive(exchanged, ctx, direction)), direction


def _derive(secret: bytes, ctx: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=ctx, info=info).derive(secret)
