"""A party's sealing key of one round, with a signature that only the holder of its secret can make (topology P).

A neighbour that complains of a dealer tells everybody the X25519 exchange of their two keys. A dealer who had made its
key out of another party's, k times that party's point, would so be told k times the exchange of two others, and could
open what they sealed to each other. Whoever signs with the secret of its key could have computed the exchange itself:
what a complaint tells it is nothing new (the knowledge-of-key assumption of Ristenpart and Yilek 2007, "The Power of
Proofs-of-Possession", EUROCRYPT, made good by a proof).

The key is made as an Ed25519 key is (RFC 8032, section 5.1.5), from a seed of 32 random bytes. Its secret scalar is
used for X25519, and the signature is plain Ed25519 under the same key: Curve25519 and edwards25519 are birationally
equivalent (RFC 7748, section 4.1). Thormarker 2021 ("On using the same key pair for Ed25519 and an X25519 based KEM")
proves that one key can serve both, where what is exchanged passes through a key derivation, as it does here. A proof of
an exchange (`shared.secagg.exchange_proof`) is a third use, which that paper does not treat: it draws its nonces apart
from the signature's and hashes under labels of its own. An X25519 key leaves the sign of its point open; it stands in
the last bit of the signature, which is zero in every valid one.
"""

from hashlib import sha512

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import BadSignature
from shared.secagg.context import join_fields
from shared.secagg.pairwise_keys import FIELD_PRIME, public_key

POSSESSION_BYTES = 64
_LABEL = b"zhiyin/seal-key-possession/1"
_SIGN_BIT = 0x80


def make_seal_key(seed: bytes, *, ctx: bytes, client: str) -> tuple[bytes, bytes, bytes]:
    """(secret, key, possession) of 32, 32 and 64 bytes from 32 random ones, which are not needed again.

    secret, key: X25519. possession: what `require_possession` asks for, good in this context and for this party alone.
    """
    signing = Ed25519PrivateKey.from_private_bytes(seed)
    secret = sha512(seed).digest()[:32]
    key = public_key(secret)
    signature = signing.sign(_statement(key, ctx, client))
    sign = signing.public_key().public_bytes_raw()[-1] & _SIGN_BIT
    return secret, key, signature[:-1] + bytes([signature[-1] | sign])


def require_possession(key: bytes, possession: bytes, *, ctx: bytes, client: str) -> None:
    """Raise BadSignature unless `client` showed in this context that it holds the secret of `key`, 32 bytes, X25519."""
    u = (int.from_bytes(key, "little") & ((1 << 255) - 1)) % FIELD_PRIME
    if len(possession) == POSSESSION_BYTES and len(key) == 32 and u != FIELD_PRIME - 1:
        y = (u - 1) * pow(u + 1, -1, FIELD_PRIME) % FIELD_PRIME
        sign = possession[-1] & _SIGN_BIT
        point = y.to_bytes(32, "little")
        signature = possession[:-1] + bytes([possession[-1] ^ sign])
        try:
            public = Ed25519PublicKey.from_public_bytes(point[:-1] + bytes([point[-1] | sign]))
            public.verify(signature, _statement(key, ctx, client))
            return
        except (InvalidSignature, ValueError):
            pass
    raise BadSignature(f"{client} did not show that it holds the secret of its sealing key")


def _statement(key: bytes, ctx: bytes, client: str) -> bytes:
    return join_fields(_LABEL, ctx, client.encode(), key)
