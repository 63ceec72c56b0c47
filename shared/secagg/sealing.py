"""A secret of 32 bytes sealed to a public key: X25519, HKDF-SHA256, ChaCha20-Poly1305 (RFC 7748, 5869, 8439).

Seal = ephemeral public key 32 | ciphertext 32 | tag 16. The key of a seal comes from both public keys and is used once,
so the nonce is zero. Anonymous: who sealed is shown by the signature over the contribution that carries the seal.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import BadSeal, UnknownKey

SECRET_BYTES = 32
SEAL_BYTES = 80
_LABEL = b"zhiyin/seal/1"
_NONCE = bytes(12)


def seal(public_key: bytes, secret: bytes, *, associated: bytes, random_bytes: Callable[[int], bytes]) -> bytes:
    """`secret` (32 bytes), readable by the holder of `public_key` alone and only with the same `associated` bytes.

    Raises UnknownKey for a public key that is not a usable X25519 point.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a sealed secret has {SECRET_BYTES} bytes, got {len(secret)}")
    ephemeral = X25519PrivateKey.from_private_bytes(random_bytes(32))
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    try:
        shared_secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise UnknownKey("a sealing key is not a usable X25519 public key") from error
    cipher = _cipher(shared_secret, ephemeral_public, public_key)
    return ephemeral_public + cipher.encrypt(_NONCE, secret, associated)


def open_seal(private_key: X25519PrivateKey, sealed: bytes, *, associated: bytes) -> bytes:
    """The 32 secret bytes. Raises BadSeal if anything is not as it was sealed: key, bytes or associated data."""
    if len(sealed) != SEAL_BYTES:
        raise BadSeal(f"a seal has {SEAL_BYTES} bytes, got {len(sealed)}")
    ephemeral_public, ciphertext = sealed[:32], sealed[32:]
    try:
        shared_secret = private_key.exchange(X25519PublicKey.from_public_bytes(ephemeral_public))
        cipher = _cipher(shared_secret, ephemeral_public, private_key.public_key().public_bytes_raw())
        return cipher.decrypt(_NONCE, ciphertext, associated)
    except (InvalidTag, ValueError) as error:
        raise BadSeal("a seal does not open with this key in this context") from error


def _cipher(shared_secret: bytes, ephemeral_public: bytes, public_key: bytes) -> ChaCha20Poly1305:
    info = _LABEL + ephemeral_public + public_key
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared_secret))
