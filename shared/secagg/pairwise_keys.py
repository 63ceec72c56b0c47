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


def public_key(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def check_point(public: bytes, owner: str) -> None:
    """Raise UnknownKey unless an exchange with this X25519 key gives a secret (RFC 7748, section 6.1)."""
    # Every scalar is a multiple of the cofactor, so one is as good as another to find points of low order.
    _exchange(_ANY_SCALAR, public, owner)


def pair_key(secret: Secret, public: bytes, *, ctx: bytes, own: str, peer: str) -> bytes:
    """The AES key of the mask that two parties share; the same for both. Raises UnknownKey for a key that is none."""
    low, high = sorted((own, peer))
    shared_secret = _exchange(X25519PrivateKey.from_private_bytes(secret.reveal()), public, peer)
    return _derive(shared_secret, ctx, join_fields(_PAIR, low.encode(), high.encode()))


def dealing_key(seed: Secret, *, ctx: bytes, root: bytes, kind: str) -> bytes:
    """The key that a party's polynomial is drawn with.

    Fixed by the seed and the list of parties, so dealing again after a restart gives the same bytes and never a second
    text under one key.
    """
    return _derive(seed.reveal(), ctx, join_fields(_DEAL, root, kind.encode()))


def seal_shares(
    plain: bytes, secret: Secret, public: bytes, *, ctx: bytes, root: bytes, sender: str, receiver: str
) -> bytes:
    """`plain` for the receiver alone, who then knows that this sender sealed it, here and to nobody else."""
    cipher, associated = _channel(exchange(secret, public, receiver), ctx, root, sender, receiver)
    return cipher.encrypt(_NONCE, plain, associated)


def exchange(secret: Secret, public: bytes, owner: str) -> bytes:
    """X25519 of a secret with the key of `owner`, 32 bytes. Raises UnknownKey for a key that is none."""
    return _exchange(X25519PrivateKey.from_private_bytes(secret.reveal()), public, owner)


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


def _exchange(private: X25519PrivateKey, public: bytes, owner: str) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise UnknownKey(f"a key of {owner} is not a usable X25519 public key") from error


def _derive(secret: bytes, ctx: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=ctx, info=info).derive(secret)


_ANY_SCALAR = X25519PrivateKey.from_private_bytes(bytes(31) + b"\x40")
