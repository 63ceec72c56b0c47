"""Keys for single purposes, derived from the one secret that an operator sets."""

from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from platform_api.settings import Settings


def derived_key(settings: Settings, purpose: str) -> bytes:
    """32 bytes for `purpose`: HKDF-SHA256 (RFC 5869) of the secret key."""
    return _derived(settings.secret_key.get_secret_value(), purpose)


@lru_cache(maxsize=32)
def _derived(secret: str, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"zhiyin platform {purpose} 1".encode()).derive(
        secret.encode()
    )
